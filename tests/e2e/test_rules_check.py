"""`kedge rules check` beside a running server, which holds the store."""

from pathlib import Path

from kedge.store.base import Json
from kedge.windows import MINUTE, iso
from tests.e2e.harness import minute_of, stack, until
from tests.e2e.launcher import Launcher

RULES = """\
version: 1
defaults: {model: fraud, window: 2m}
rules:
- {name: errors, metric: errors.rate, above: 5%}
- {name: many, metric: errors.rate, above: 5%, min_count: 500}
"""


def test_the_server_that_holds_the_file_is_asked(kedge: Launcher, tmp_path: Path) -> None:
    with stack(tmp_path, "duckdb:kedge.duckdb") as one:
        one.write(RULES)
        one.serve()
        now = minute_of(one.now())
        one.post(
            "/v1/predictions",
            [
                {"id": f"r{i}", "timestamp": iso(now - (4 - i % 4) * MINUTE), "model": "fraud", "class": "ok"}
                for i in range(40)
            ],
        )

        def asked() -> list[Json]:
            done = kedge(["rules", "check", "--json"], one.folder, one.own_env)
            assert done.code == 0, done
            assert done.rows[-1]["store"] == one.address
            return [row for row in done.rows if "min_count 500 is not reached" in row.get("warning", "")]

        (row,) = until(asked, "the server knows the model", every_s=1.0)
        assert (row["file"], row["line"]) == ("rules/rules.yml", 5)
