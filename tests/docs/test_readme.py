"""What the README tells a newcomer to type is typed here, in order, in a fresh folder."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from docs.generate import walk
from kedge.cli import cli
from tests.docs.blocks import Block, blocks_of, matches
from tests.services.base import end_group
from tests.services.host import free_port

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
BLOCKS = blocks_of(README)
COMMANDS = {" ".join(path): command for path, command in walk(cli)}


class Shell:
    """A newcomer's shell: their folder, kedge on the PATH, and the server that they left running."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("KEDGE_", "SLACK_"))}
        venv = Path(sys.executable).parent
        # The README's port may be taken here, by kedge itself.
        self.env = clean | {"PATH": f"{venv}:{clean['PATH']}", "KEDGE_PORT": str(self.port), "NO_COLOR": "1"}
        self.servers: list[subprocess.Popen[bytes]] = []

    def run(self, code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", code.replace("8321", str(self.port))],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )

    def serve(self, code: str) -> None:
        """Start what stays, and return when it answers."""
        log = self.folder / "serve.log"
        with log.open("wb") as out:
            command = ["bash", "-c", f"exec {code.strip()}"]
            server = subprocess.Popen(
                command, cwd=self.folder, env=self.env, stdout=out, stderr=out, start_new_session=True
            )
        self.servers.append(server)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and server.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=2):
                    return
            except OSError:
                time.sleep(0.2)
        pytest.fail(f"{code.strip()} does not answer:\n{log.read_text()[-2000:]}")

    def stop(self) -> None:
        for server in self.servers:
            end_group(server.pid, server)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("newcomer"))
    yield shell
    shell.stop()


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.place)
def test_what_the_readme_says_to_type_works(block: Block, shell: Shell) -> None:
    """Blocks build on one another, as they do for the reader: one that fails may take others with it."""
    if block.said.startswith("not run"):
        for command in _commands(block.code):
            _check(command)
        return
    if block.said == "serves":
        for command in _commands(block.code):
            _check(command)
        shell.serve(block.code)
        return
    done = shell.run(block.code)
    assert done.returncode == block.code_wanted, done.stdout
    if block.output is not None:
        shown = block.output.replace("8321", str(shell.port))
        assert matches(shown, done.stdout), f"the page shows\n{shown}\nand it printed\n{done.stdout}"


def _commands(code: str) -> Iterator[list[str]]:
    """The simple commands of a block, without the variables set before them."""
    for line in re.split(r"\n|&&", code.replace("\\\n", " ")):
        words = shlex.split(line, comments=True)
        while words and re.match(r"\w+=", words[0]):
            words.pop(0)
        if words:
            yield words


def _check(words: list[str]) -> None:
    """A command that cannot run here exists at least, with the options that are used."""
    match words[0]:
        case "kedge":
            _check_kedge(words)
        case "make":
            done = subprocess.run(
                ["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        case "docker":
            assert words[1:] == ["compose", "up"], f"{words}: say here how it is checked"
            if compose := shutil.which("docker-compose"):
                subprocess.run([compose, "config", "--quiet"], cwd=ROOT, check=True)
        case "export" | "cd" | "mkdir":
            pass
        case other:
            pytest.fail(f"{other}: say here how it is checked")


def _check_kedge(words: list[str]) -> None:
    name = words[0]
    for word in words[1:]:
        if f"{name} {word}" not in COMMANDS:
            break
        name += f" {word}"
    assert name != "kedge", f"there is no {shlex.join(words)}"
    options = [p for p in COMMANDS[name].params if isinstance(p, click.Option)]
    known = {"--help"} | {o for option in options for o in option.opts}
    used = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert used <= known, f"{name} has no {', '.join(sorted(used - known))}"


def test_commands_in_the_text_exist_too() -> None:
    """`kedge rules check` in running text, and in the other pages."""
    for page in [README, *ROOT.glob("docs/**/*.md")]:
        written_by_hand = re.sub(
            r"<!-- generated.*?<!-- end -->", "", page.read_text("utf-8"), flags=re.DOTALL
        )
        for quoted in re.findall(r"`((?:\w+=\S+ )*kedge [^`]*)`", written_by_hand):
            for words in _commands(quoted):
                _check_kedge(words)


def test_links_lead_somewhere() -> None:
    for page in [README, ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")]:
        text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            if re.match(r"\w+:", target):
                continue
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), f"{page.relative_to(ROOT)}: {target} leads nowhere"
            if anchor:
                assert anchor in _anchors(file), f"{page.relative_to(ROOT)}: {target} has no such heading"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_output_is_compared_as_it_is_shown() -> None:
    assert matches("a  b\n…\nz", "a b\nc d\nz\n")
    assert matches("…\nz\n", "z\n")
    assert not matches("a\nb", "a\nc")
    assert not matches("a\n…", "b\na")
