"""What the pages tell their reader to type is typed here, page by page in order, each in a fresh folder."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks_of, matches
from tests.docs.test_readme import Shell

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("testing-rules.md", "moving-in.md", "tutorials/first-rule.md")
BLOCKS = [pytest.param(page, b, id=b.place) for page in PAGES for b in blocks_of(DOCS / page)]


@pytest.fixture(scope="module")
def shells(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Shell]]:
    """A newcomer's shell for each page."""
    made: dict[str, Shell] = defaultdict(lambda: Shell(tmp_path_factory.mktemp("newcomer")))
    yield made
    for shell in made.values():
        shell.stop()


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_what_the_page_says_to_type_works(page: str, block: Block, shells: Mapping[str, Shell]) -> None:
    if block.said.startswith("not run"):
        pytest.skip(block.said)
    done = shells[page].run(block.code)
    assert done.returncode == block.code_wanted, done.stdout
    if block.output is not None:
        assert matches(block.output, done.stdout), f"shown\n{block.output}\nprinted\n{done.stdout}"
