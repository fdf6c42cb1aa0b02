"""Python environments of the programs that are measured beside kedge, kept in the cache."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.services.host import cache_dir

LONGEST_S = 600


def environment(name: str, packages: list[str], say: Callable[[str], None]) -> Path:
    """The interpreter of `bench-NAME` in the cache, installed once.

    Raises OSError or subprocess.CalledProcessError where that fails.
    """
    home = cache_dir().parent / f"bench-{name}"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        say(f"  installing {packages[0]} into {home}")
        uv = str(Path(sys.executable).parent / "uv")
        for command in (
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)],
            [uv, "pip", "install", "--quiet", "--python", str(python), *packages],
        ):
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=LONGEST_S)
        (home / "ready").touch()
    return python
