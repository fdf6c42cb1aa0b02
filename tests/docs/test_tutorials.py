"""What the tutorials tell their reader to type is typed here, in order, in a fresh folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks_of, matches
from tests.docs.test_readme import Shell

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "first-rule.md"


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("newcomer"))
    yield shell
    shell.stop()


@pytest.mark.parametrize("block", blocks_of(PAGE), ids=lambda b: b.place)
def test_what_the_page_says_to_type_works(block: Block, shell: Shell) -> None:
    done = shell.run(block.code)
    assert done.returncode == block.code_wanted, done.stdout
    if block.output is not None:
        assert matches(block.output, done.stdout), f"shown\n{block.output}\nprinted\n{done.stdout}"
