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
        text = Text(end="")
        text.append(f"{message.emoji} " if message.emoji else "")
        text.append(_plain(message.headline), style=f"bold {message.colour}".strip())
        for line in message.lines:
            text.append(f"\n   {_plain(line)}")
        if message.fields:
            facts = " · ".join(f"{name} {value}" for name, value in message.fields)
            text.append(f"\n   {_plain(facts)}", style="dim")
        if message.footer and message.status is not Status.RESOLVED:
            text.append(
                f" · {_plain(message.footer)}" if message.fields else f"\n   {_plain(message.footer)}",
                style="dim",
            )
        with self._lock:
            try:
                self._console.print(text)
                self._console.file.flush()
            except (OSError, ValueError) as error:
                raise NotifyError(f"the terminal cannot be written to: {error}", permanent=True) from None
        return Receipt("terminal")


def _plain(text: str) -> str:
    return _CONTROL.sub("", text)
