"""The fenced blocks of a Markdown page, as a reader would run them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(
    r"(?:<!-- (?P<said>[^\n]*?) -->\n)?```(?P<kind>sh|text)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass
class Block:
    """One `sh` block. A comment before it says how to take it; a `text` block right after is its output."""

    place: str
    code: str
    said: str = ""
    """`not run: WHY`, `serves` (stays, and listens) or `exits CODE`."""
    output: str | None = None

    @property
    def code_wanted(self) -> int:
        return int(self.said.removeprefix("exits ")) if self.said.startswith("exits ") else 0


def blocks_of(page: Path) -> list[Block]:
    """The `sh` blocks of a page in order. Raises ValueError for a comment that is not understood."""
    text = page.read_text("utf-8")
    blocks: list[Block] = []
    end = 0
    for found in _FENCE.finditer(text):
        between, end_before = text[end : found.start()], end
        end = found.end()
        if found["kind"] == "text":
            if end_before and not between.strip() and blocks:
                blocks[-1].output = found["code"]
            continue
        said = found["said"] or ""
        place = f"{page.name}:{text.count(chr(10), 0, found.start('code'))}"
        if said and not re.fullmatch(r"not run: .+|serves|exits \d+", said):
            raise ValueError(f"{place}: what does <!-- {said} --> mean?")
        blocks.append(Block(place, found["code"], said))
    return blocks


def matches(shown: str, printed: str) -> bool:
    """Whether what was printed is what the page shows. `…` stands for anything; runs of blanks are one."""
    pieces = (re.escape(" ".join(piece.split())) for piece in shown.split("…"))
    return re.fullmatch(r"\s?.*?\s?".join(pieces), " ".join(printed.split())) is not None
