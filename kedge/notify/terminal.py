"""The default receiver: a headline and a few indented lines on a stream, in colour where it is a terminal."""

import re
import threading
from typing import TextIO

from rich.console import Console
from rich.text import Text

from kedge.alerting.finding import Status
from kedge.notify.base import Message, NotifyError, Receipt

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters (escape is one) and overrides of writing direction: data must not steer a terminal."""


class Terminal:
    """Writes each message at once. A stream that is closed or broken fails permanently: there is no other."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(
            file=stream, highlight=False, soft_wrap=True, emoji=False, markup=False, legacy_windows=False
        )
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "Terminal()"

    def send(self, message: Message, *, thread: dict[str, str] | None = None, again: bool = False) -> Receipt:
        """Print the message. After an attempt of unknown fate it is printed once more: nobody can look."""
        text = Text()
        text.append(
            self._plain(f"{message.emoji} {message.headline}".strip()), f"bold {message.colour}".strip()
        )
        for line in message.lines:
            text.append(f"\n   {self._plain(line)}")
        facts = [f"{name} {value}" for name, value in message.fields]
        if message.footer and message.status is not Status.RESOLVED:
            facts.append(message.footer)
        if facts:
            text.append(f"\n   {self._plain(' · '.join(facts))}", "dim")
        with self._lock:
            try:
                self._console.print(text)
                self._console.file.flush()
            except (OSError, ValueError) as error:
                raise NotifyError(f"the terminal cannot be written to: {error}", permanent=True) from None
        return Receipt("terminal")

    def _plain(self, text: str) -> str:
        """Without control characters, and with ? for what the stream's encoding lacks."""
        encoding = self._console.encoding
        return _CONTROL.sub("", text).encode(encoding, "replace").decode(encoding)
