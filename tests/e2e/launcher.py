"""Runs `kedge` commands, each in a process of its own, without paying for the imports each time.

A process that has imported what the commands use, and opened nothing, forks for every command. The child is a
real process: it can be killed with SIGKILL, holds its own files, and nothing of it outlives it.

    python -m tests.e2e.launcher      reads one JSON object a line: {"args", "env", "cwd", "out", "err"}
                                      answers with one: {"code"}; negative is the signal that ended it
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Done:
    """How a command ended. A negative code is the signal that killed it."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What `--json` printed."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def row(self) -> dict[str, Any]:
        (only,) = self.rows
        return only


class Launcher:
    """`with Launcher() as kedge: kedge(["tick"], folder, env)`."""

    def __enter__(self) -> "Launcher":
        self._files = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.launcher"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
        self._files.cleanup()

    def __call__(self, args: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> Done:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        out, err = (Path(self._files.name) / name for name in ("out", "err"))
        job = {"args": list(args), "env": dict(env or {}), "cwd": str(cwd), "out": str(out), "err": str(err)}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Done(answer["code"], out.read_text(), err.read_text())


def _serve() -> None:
    # What most commands import, some of it late; none of it opens a file or reads the environment. DuckDB's
    # client imports pandas by itself, which takes longer than the rest of a command.
    for name in (
        *("load", "operate", "baseline", "read", "reference", "rules", "start", "serve"),
        *("app", "client", "columns", "output"),
    ):
        importlib.import_module(f"kedge.cli.{name}")
    for name in (
        *("ingest.files", "kedge.pipeline.compose", "kedge.store.duckdb", "kedge.store.elastic"),
        *("anyio._backends._asyncio", "pandas", "pyarrow.parquet", "ruamel.yaml", "slack_sdk", "scipy.stats"),
    ):
        importlib.import_module(name)

    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(job)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


def _run(job: dict[str, Any]) -> None:
    """Be the command; never returns."""
    from kedge.cli import main

    os.chdir(job["cwd"])
    for name in [n for n in os.environ if n.startswith(("KEDGE_", "SLACK_"))]:
        del os.environ[name]
    os.environ.update(job["env"])
    sys.argv = ["kedge", *job["args"]]
    code = 70
    try:
        for stream, path in ((sys.stdout, job["out"]), (sys.stderr, job["err"])):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, stream.fileno())
            os.close(file)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
