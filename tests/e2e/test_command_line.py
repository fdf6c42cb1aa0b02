"""The command line as DESIGN §15 describes it, used as a person would: files in, numbers and alerts out."""

import csv
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kedge.store.base import Json
from kedge.windows import DAY, HOUR, MINUTE, iso, parse_time
from tests.e2e.harness import stack
from tests.e2e.launcher import Done, Launcher

T0 = parse_time("2024-03-01T00:00:00Z")
RULES = """
version: 1
defaults: {model: fraud}
rules:
  - {name: accuracy-fell, metric: performance.accuracy, window: 1d, compare: {to: baseline}, fall: 5%}
  - {name: inputs-drifted, kind: drift, window: 1d, share: {high: 30%}}
  - name: errors
    metric: errors.rate
    window: 1h
    above: 50%
"""

Kedge = Callable[..., Done]


def rows_of(days: range, *, broken: bool = False) -> list[Json]:
    """40 rows an hour of a fraud model; a broken one is wrong half of the time, on inputs that moved."""
    dice = random.Random(days.start)
    rows = []
    for hour in range(days.start * 24, days.stop * 24):
        for i in range(40):
            p = dice.random()
            fraud = p > 0.5
            right = dice.random() < (0.5 if broken else 0.9)
            rows.append(
                {
                    "id": f"{hour}-{i}",
                    "timestamp": iso(T0 + hour * HOUR + i * MINUTE),
                    "class": "fraud" if fraud else "ok",
                    "probability": max(p, 1 - p),
                    "amount": round(dice.gauss(100 if broken else 50, 10), 3),
                    "age": round(dice.gauss(70 if broken else 40, 5), 1),
                    "country": dice.choice(("de", "fr")),
                    "segment.region": "eu" if i % 2 else "us",
                    "truth": "fraud" if fraud == right else "ok",
                }
            )
    return rows


@pytest.fixture
def kedge_in(kedge: Launcher, tmp_path: Path) -> Kedge:
    """`kedge` in a folder of its own, with a store and rules there."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "rules.yml").write_text(RULES)

    def run(*args: str, code: int | None = 0, **env: str) -> Done:
        done = kedge(args, tmp_path, {"KEDGE_STORE": "duckdb:kedge.duckdb", **env})
        assert code is None or done.code == code, done
        assert "Traceback" not in done.err, done.err
        return done

    return run


def as_csv(path: Path, rows: list[Json]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def as_jsonl(path: Path, rows: list[Json]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_parquet(path: Path, rows: list[Json]) -> None:
    pd.DataFrame(rows).to_parquet(path)


def values(done: Done, **labels: str) -> dict[str, Any]:
    """By start of the window: the rows with exactly these labels."""
    return {row["window_start"]: row for row in done.rows if row["labels"] == labels}


def test_from_files_to_alerts(kedge_in: Kedge, tmp_path: Path) -> None:
    good, bad = rows_of(range(4)), rows_of(range(4, 6), broken=True)
    as_csv(tmp_path / "march.csv", good)
    as_jsonl(tmp_path / "april.jsonl", [{k: v for k, v in row.items() if k != "truth"} for row in bad])
    known = [{"order": r["id"], "is": r["truth"], "at": iso(parse_time(r["timestamp"]) + HOUR)} for r in bad]
    as_csv(tmp_path / "truth.csv", known)

    load = ("import", "march.csv", "--model", "fraud", "--label", "truth", "--positive", "fraud", "--json")
    assert kedge_in(*load).row == {"file": "march.csv", "accepted": len(good), "duplicate": 0}
    assert kedge_in(*load).row == {"file": "march.csv", "accepted": 0, "duplicate": len(good)}

    kedge_in("tick", "--drain", "--now", iso(T0 + 3 * DAY + 2 * MINUTE))
    again = kedge_in("metrics", "fraud", "--metric", "quality.duplicates", "--window", "1d", "--json")
    assert sum(row["value"] * row["n"] for row in again.rows) == pytest.approx(3 * 24 * 40)
    made = kedge_in("baseline", "create", "fraud", "--from", iso(T0), "--to", iso(T0 + 3 * DAY), "--json").row
    assert (made["rows"], made["features"], made["in_use"]) == (3 * 24 * 40, 3, True)
    assert [row["id"] for row in kedge_in("baseline", "list", "fraud", "--json").rows] == [made["id"]]
    assert kedge_in("baseline", "accept", "fraud", "--json").row == {"model": "fraud", "id": made["id"]}
    shown = kedge_in("baseline", "show", "fraud", made["id"][:6], "--json").row
    assert (shown["provisional"], shown["phi"], shown["restless"]) == (False, ["1h"], {"1h": []})
    kedge_in("tick", "--drain", "--now", iso(T0 + 4 * DAY + 2 * MINUTE))
    assert [row for row in kedge_in("alerts", "--json").rows if row["state"] == "firing"] == []

    def told() -> list[str]:
        """All but how often rows were sent again, which is what changes."""
        lines = kedge_in("metrics", "fraud", "--json").out.splitlines()
        return [line for line in lines if "quality.duplicates" not in line]

    before = told()
    kedge_in(*load)
    ticked = kedge_in("tick", "--drain", "--now", iso(T0 + 4 * DAY + 3 * MINUTE), "--json").row
    assert (ticked["buckets"], ticked["written"]) == (0, 0)
    assert told() == before

    assert kedge_in("import", "april.jsonl", "--model", "fraud", "--json").row["accepted"] == len(bad)
    joined = kedge_in(
        "labels", "truth.csv", "--id", "order", "--label", "is", "--timestamp", "at", "--json"
    ).row
    assert joined["accepted"] == len(bad)
    kedge_in("tick", "--drain", "--now", iso(T0 + 6 * DAY + 2 * MINUTE))

    accuracy = values(kedge_in("metrics", "fraud", "--metric", "performance.accuracy", "--json"))
    assert len(accuracy) == 6
    for day in range(6):
        rows = [r for r in good + bad if r["timestamp"].startswith(iso(T0 + day * DAY)[:10])]
        hits = sum(r["class"] == r["truth"] for r in rows)
        found = accuracy[iso(T0 + day * DAY)]
        assert found["value"] == pytest.approx(hits / len(rows), rel=1e-9)
        assert (found["n"], found["reason"]) == (len(rows), None)
        assert found["window_end"] == iso(T0 + (day + 1) * DAY)
        assert set(found) == {
            *("window_start", "window_end", "metric", "labels", "value", "n", "stderr", "verdict", "reason")
        }
    by_region = kedge_in(
        *(
            "metrics",
            "fraud",
            "--metric",
            "volume.count",
            "--by",
            "segment.region",
            "--window",
            "1h",
            "--json",
        )
    )
    assert {row["value"] for row in by_region.rows} == {20}
    assert (
        values(by_region, **{"segment.region": "eu"}).keys()
        == values(by_region, **{"segment.region": "us"}).keys()
    )

    firing = {row["rule"]: row for row in kedge_in("alerts", "--json").rows if row["state"] == "firing"}
    assert firing.keys() == {"accuracy-fell", "inputs-drifted"}
    alert = firing["accuracy-fell"]
    assert list(alert) == [
        *("rule", "model", "version", "group", "state", "severity", "since", "value", "bound", "n", "reason")
    ]
    assert (alert["model"], alert["group"], alert["n"]) == ("fraud", {}, 960)
    assert alert["value"] == pytest.approx(0.5, abs=0.06)
    # `high` by the rule; three days of reference do not tell how days vary.
    assert firing["inputs-drifted"]["severity"] == "medium"
    assert "medium at most" in firing["inputs-drifted"]["reason"]

    listed = kedge_in("alerts").out
    assert "accuracy-fell" in listed


@pytest.mark.parametrize(
    ("name", "write"), [("a.csv", as_csv), ("a.jsonl", as_jsonl), ("a.parquet", as_parquet)]
)
def test_every_format_says_the_same(
    kedge_in: Kedge, tmp_path: Path, name: str, write: Callable[[Path, list[Json]], None]
) -> None:
    rows = rows_of(range(1))[:200]
    write(tmp_path / name, rows)
    kedge_in("import", name, "--model", "fraud", "--label", "truth", "--features", "amount,country")
    kedge_in("tick", "--drain", "--now", iso(T0 + 2 * DAY))
    found = {
        row["metric"]: row["value"]
        for row in kedge_in("metrics", "fraud", "--json").rows
        if not row["labels"]
    }
    assert found["volume.count"] == 200
    right = sum(row["class"] == row["truth"] for row in rows) / 200
    assert found["performance.accuracy"] == pytest.approx(right, rel=1e-9)
    assert found["confidence.mean"] == pytest.approx(sum(row["probability"] for row in rows) / 200, rel=1e-6)


def test_a_baseline_from_a_file_and_a_comparison_of_files(kedge_in: Kedge, tmp_path: Path) -> None:
    as_parquet(tmp_path / "train.parquet", rows_of(range(3)))
    as_csv(tmp_path / "same.csv", rows_of(range(3, 5)))
    as_jsonl(tmp_path / "moved.jsonl", rows_of(range(5, 7), broken=True))
    made = kedge_in(
        "baseline", "create", "fraud", "--file", "train.parquet", "--label", "truth", "--json"
    ).row
    assert (made["rows"], made["in_use"]) == (3 * 24 * 40, True)

    flags = ("--label", "truth", "--positive", "fraud", "--json")
    same = kedge_in("compare", "train.parquet", "same.csv", *flags).rows
    moved = kedge_in("compare", "train.parquet", "moved.jsonl", *flags, code=1).rows
    for rows, drifted in ((same, set()), (moved, {"amount", "age"})):
        psi = {row["labels"]["feature"]: row for row in rows if row["metric"] == "drift.psi"}
        assert psi.keys() == {"amount", "age", "country"}
        assert {name for name, row in psi.items() if row["verdict"] == "drifted"} == drifted
        assert "window_start" not in rows[0]
    table = kedge_in("compare", "train.parquet", "moved.jsonl", "--label", "truth", code=1).out
    assert "amount" in table
    curves = table.split("Calibration")[1].splitlines()[2:]
    n = [int(cell.replace(",", "")) for cell in (line.split()[4] for line in curves if line.strip())]
    assert sum(n) == 3 * 24 * 40  # every row of the reference has a label and a probability


def test_a_comparison_says_what_the_files_do_not_have_in_common(kedge_in: Kedge, tmp_path: Path) -> None:
    rows = rows_of(range(2))
    as_parquet(tmp_path / "train.parquet", rows)
    as_csv(tmp_path / "unlabelled.csv", [{k: v for k, v in row.items() if k != "truth"} for row in rows])
    as_csv(tmp_path / "other.csv", [{"a": 1, "b": 2}])
    as_csv(tmp_path / "more.csv", [{**row, "extra": 1} for row in rows])
    flags = ("--label", "truth", "--json")
    found = {
        row["metric"]: row for row in kedge_in("compare", "train.parquet", "unlabelled.csv", *flags).rows
    }
    assert found["performance.accuracy"]["value"] is None
    assert found["estimated.accuracy"]["value"] is not None
    assert "has no feature of train.parquet" in kedge_in("compare", "train.parquet", "other.csv", code=2).err
    assert (
        "only in more.csv, not in train.parquet: extra"
        in kedge_in("compare", "train.parquet", "more.csv").err
    )
    unknown = kedge_in("compare", "unlabelled.csv", "train.parquet", *flags, code=2).err
    assert 'no column "truth"' in unknown


def test_a_relation_that_changed_is_found_when_it_is_asked_for(kedge_in: Kedge, tmp_path: Path) -> None:
    grid = [i * 0.618 % 1 for i in range(600)]
    as_csv(tmp_path / "before.csv", [{"x": x, "y": grid[(7 * i) % 600]} for i, x in enumerate(grid)])
    as_csv(tmp_path / "after.csv", [{"x": x, "y": x} for x in grid])
    plain = kedge_in("compare", "before.csv", "after.csv").out
    assert "All features together" not in plain
    asked = kedge_in("compare", "before.csv", "after.csv", "--multivariate", "--html", "p.html", code=1)
    assert "a classifier tells the rows apart" in asked.out
    assert "600 of 600 and 600 of 600 rows" in asked.err
    assert "a classifier tells the rows apart" in (tmp_path / "p.html").read_text()
    rows = kedge_in("compare", "before.csv", "after.csv", "--multivariate", "--json", code=1).rows
    assert {row["metric"] for row in rows if row["verdict"] == "drifted"} == {"drift.multivariate"}
    assert rows[-1]["value"] > 0.8
    same = kedge_in("compare", "before.csv", "before.csv", "--multivariate").out
    assert "cannot tell the rows apart" in same


def test_probabilities_that_are_no_numbers_are_missing_and_0_and_1_are_scores(
    kedge_in: Kedge, tmp_path: Path
) -> None:
    rows = ["fraud,NaN,fraud", "ok,,ok", "ok,0.905,ok", "fraud,1.0,fraud", "fraud,0.0,ok", "ok,inf,ok"]
    head = "id,timestamp,class,probability,label"
    lines = [f"{i},2025-11-03T00:00:0{i}Z,{row}" for i, row in enumerate(rows)]
    (tmp_path / "odd.csv").write_text("\n".join([head, *lines]) + "\n")
    found = {
        row["metric"]: row
        for row in kedge_in(
            "compare", "odd.csv", "odd.csv", "--label", "label", "--positive", "fraud", "--json"
        ).rows
        if not row["labels"]
    }
    assert found["performance.accuracy"]["n"] >= 5
    assert (found["performance.auc"]["value"], found["performance.auc"]["n"]) == (1.0, 1)
    assert found["performance.ece"]["n"] == 3
    assert found["performance.ece"]["value"] == pytest.approx((0.095 + 0.005 + 0.005) / 3, abs=1e-6)


def test_a_model_of_three_classes_is_compared_by_the_area_of_each(kedge_in: Kedge, tmp_path: Path) -> None:
    dice = random.Random(7)

    def made(apart: float) -> list[Json]:
        rows = []
        for i in range(900):
            truth = dice.choice("abc")
            odds = {name: dice.random() + apart * (name == truth) for name in "abc"}
            shares = {f"p_{name}": value / sum(odds.values()) for name, value in odds.items()}
            rows.append({"id": str(i), "timestamp": iso(T0 + i * MINUTE), **shares, "truth": truth})
        return rows

    as_csv(tmp_path / "before.csv", made(1.0))
    as_parquet(tmp_path / "after.parquet", made(0.2))
    flags = ["--label", "truth", "--json"]
    for name in "abc":
        flags += ["--probabilities", f"p_{name}:{name}"]
    found = {
        row["labels"].get("class"): row["value"]
        for row in kedge_in("compare", "before.csv", "after.parquet", *flags, code=1).rows
        if row["metric"] == "performance.auc"
    }
    assert found.keys() == {None, "a", "b", "c"}
    assert found[None] == pytest.approx(sum(found[name] for name in "abc") / 3)
    assert 0.5 < found[None] < 0.75


def test_what_is_not_mature_is_provisional(kedge_in: Kedge, tmp_path: Path) -> None:
    """Labels that take two days: of the last days, most are missing."""
    rows = rows_of(range(6))
    as_jsonl(tmp_path / "log.jsonl", [{k: v for k, v in row.items() if k != "truth"} for row in rows])
    late = [
        {"id": r["id"], "label": r["truth"], "timestamp": iso(parse_time(r["timestamp"]) + 2 * DAY)}
        for r in rows
        if parse_time(r["timestamp"]) < T0 + 4 * DAY
    ]
    late += [{"id": r["id"], "label": r["truth"], "timestamp": r["timestamp"]} for r in rows[4 * 960 :: 20]]
    as_csv(tmp_path / "late.csv", late)
    start = f"{T0 + 6 * DAY + 5 * MINUTE}:0"  # a clock that stands still
    kedge_in("import", "log.jsonl", "--model", "fraud", KEDGE_CLOCK=start)
    kedge_in("labels", "late.csv", KEDGE_CLOCK=start)
    kedge_in("tick", "--drain", KEDGE_CLOCK=start)
    found = kedge_in("metrics", "fraud", "--metric", "performance.accuracy", "--json", KEDGE_CLOCK=start)
    reasons = [row["reason"] for row in found.rows]
    assert reasons == [None] * 4 + ["provisional"] * 2
    assert all(row["value"] is not None for row in found.rows)


def test_a_grouping_that_nobody_configured_is_counted_from_the_logs(kedge_in: Kedge, tmp_path: Path) -> None:
    rows = rows_of(range(1))
    as_jsonl(tmp_path / "log.jsonl", rows)
    kedge_in("import", "log.jsonl", "--model", "fraud", "--version", "v7")
    kedge_in("tick", "--drain", "--now", iso(T0 + 2 * DAY))
    by = kedge_in(
        "metrics", "fraud", "--metric", "volume.count", "--by", "version", "--by", "segment.region", "--json"
    )
    assert {tuple(sorted(row["labels"].items())): row["value"] for row in by.rows} == {
        (("segment.region", region), ("version", "v7")): 480 for region in ("eu", "us")
    }


def test_a_version_is_compared_with_the_others(kedge_in: Kedge, tmp_path: Path) -> None:
    as_jsonl(tmp_path / "log.jsonl", rows_of(range(1)))
    kedge_in("import", "log.jsonl", "--model", "fraud", "--version", "v7")
    kedge_in("tick", "--drain", "--now", iso(T0 + 2 * DAY))
    asked = (
        "metrics",
        "fraud",
        "--metric",
        "errors.rate",
        "--compare-versions",
        "v7",
        "others",
        "--margin",
        "1pp",
    )
    found = kedge_in(*asked, "--json").row
    assert (found["decision"], found["candidate"]["n"], found["since"]) == ("wait", 960, iso(T0))
    assert "keep waiting: errors.rate of all others: no rows" in kedge_in(*asked).out


# --- wrong use ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["metrcs", "fraud"], 'did you mean "metrics"?'),
        (["metrics", "nobody"], 'no model "nobody"'),
        (["metrics"], "MODEL"),
        (["import", "none.csv", "--model", "m"], "none.csv"),
        (["import", "rules/rules.yml", "--model", "m"], "rules.yml"),
        (["tick", "--now", "tomorrow"], '"tomorrow" is not a time'),
        (["baseline", "create", "m"], "--file"),
        (["baseline", "create", "m", "--from", "2024-01-01", "--to", "2024-01-02"], 'no model "m"'),
        (["alerts", "show", "beef"], "no alerts begin with"),
        (["compare", "a.csv", "b.csv"], "a.csv"),
        (["worker"], "DuckDB"),
        (["serve", "--gateway", "--web"], "exclude each other"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_wrong_use_ends_with_two_and_a_sentence(kedge_in: Kedge, args: list[str], says: str) -> None:
    done = kedge_in(*args, code=2)
    assert says in done.err
    assert done.out == ""


def test_rules_check_names_every_problem_by_its_place(kedge_in: Kedge, tmp_path: Path) -> None:
    assert "3 rules in 1 file, 0 problems" in kedge_in("rules", "check").out
    (tmp_path / "rules" / "broken.yml").write_text(
        "version: 1\nrules:\n"
        "  - {name: slow, model: m, metric: latency.p95, window: 10m, abve: 100ms}\n"
        "  - name: twice\n    model: m\n    metric: no.such\n    window: 10m\n    above: 1\n"
    )
    done = kedge_in("rules", "check", code=2)
    assert "rules/broken.yml:3:" in done.err
    assert 'did you mean "above"?' in done.err
    assert "rules/broken.yml:6:" in done.err
    rows = kedge_in("rules", "check", "--json", code=2).rows
    assert {row["file"] for row in rows} == {"rules/broken.yml"}
    assert {row["line"] for row in rows} >= {3, 6}


def test_rules_check_warns_of_what_is_rarely_meant_and_does_not_fail(kedge_in: Kedge, tmp_path: Path) -> None:
    (tmp_path / "rules" / "heals.yml").write_text(
        "version: 1\nrules:\n"
        "  - {name: heals, model: m, metric: errors.rate, window: 1h, compare: {to: previous}, rise: 2x}\n"
    )
    done = kedge_in("rules", "check")
    assert done.out.splitlines() == [
        (
            "the default receiver: 4 rules, 1 false alert in 30 d at most "
            "(4 share its budget of 1 per 30d, 1 per 120d each)"
        ),
        "4 rules in 2 files, 0 problems, 1 warning",
    ]
    assert done.err.startswith(
        'rules/heals.yml:3:5: warning: rule "heals": compares with the window just before'
    )
    assert [row.get("line") for row in kedge_in("rules", "check", "--json").rows] == [3, None, None]


def test_bad_rows_are_told_and_the_good_ones_loaded(kedge_in: Kedge, tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in rows_of(range(1))[:3]]
    lines.insert(1, '{"id": "x", "class": "ok", "probability": 7}')
    lines.insert(2, '{"id": "y", "class": ')
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    done = kedge_in("import", "log.jsonl", "--model", "fraud", "--json", code=1)
    assert (done.row["accepted"], done.row["rejected"]) == (3, 2)
    assert "row 2" in done.err
    assert "row 3" in done.err


def test_labels_whose_prediction_never_comes_are_told_of(kedge_in: Kedge, tmp_path: Path) -> None:
    as_jsonl(tmp_path / "log.jsonl", rows_of(range(1))[:40])
    kedge_in("import", "log.jsonl", "--model", "fraud")
    as_jsonl(tmp_path / "labels.jsonl", [{"id": f"nobody {i}", "label": "ok"} for i in range(3)])
    assert kedge_in("labels", "labels.jsonl", "--json").row["waiting"] == 3

    def doctor() -> Json:
        return next(row for row in kedge_in("doctor", "--json", code=None).rows if row["name"] == "labels")

    assert doctor()["detail"] == "none was given up"
    assert "3 labels wait for their prediction" in kedge_in("tick").out
    later = "2190-01-01T00:00:00Z"
    assert "3 labels were given up" in kedge_in("tick", "--now", later).out
    assert kedge_in("tick", "--now", later, "--json").row["labels_expired"] == 0
    told = doctor()
    assert not told["ok"]
    assert told["detail"].startswith("3 were given up")
    assert "(3 of no model named), the last at 2190-01-01" in told["detail"]


# --- beside a running server --------------------------------------------------------------------------------


def test_beside_a_running_server_the_command_line_talks_to_it(kedge: Launcher, tmp_path: Path) -> None:
    """A second process cannot open a DuckDB file; the command line finds the server that holds it."""
    as_jsonl(tmp_path / "log.jsonl", rows_of(range(1)))
    with stack(tmp_path, "duckdb:kedge.duckdb", every="1h", clock=f"{T0 + 2 * DAY}:0") as one:
        one.write(RULES)
        server = one.serve()

        def run(*args: str) -> Done:
            done = kedge(args, tmp_path, one.own_env)
            assert done.code == 0, done
            return done

        assert (
            run("import", "log.jsonl", "--model", "fraud", "--label", "truth", "--json").row["accepted"]
            == 960
        )
        assert run("tick", "--drain", "--json").row["buckets"] > 0
        rows = run("metrics", "fraud", "--metric", "volume.count", "--json").rows
        assert [row["value"] for row in rows] == [960]
        assert "answers on" in run("doctor").out
        server.end()
        assert server.code == 0  # SIGTERM lets the running tick end and the file be closed
        assert not (tmp_path / "kedge.duckdb.server").exists()
        # Without it, the same question is answered in process, from the file that it left.
        assert run("metrics", "fraud", "--metric", "volume.count", "--json").rows == rows


def test_the_installed_command_is_the_same() -> None:
    """Once as a person starts it: the other tests go around the imports, not around the code."""
    script = Path(sys.executable).with_name("kedge")
    done = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=60, check=True)
    for command in (
        "demo",
        "serve",
        "worker",
        "beat",
        "import",
        "labels",
        "tick",
        "metrics",
        "alerts",
        "rules",
    ):
        assert f"\n  {command} " in done.stdout
    wrong = subprocess.run([script, "metrcs"], capture_output=True, text=True, timeout=60, check=False)
    assert wrong.returncode == 2
    assert 'did you mean "metrics"?' in wrong.stderr


def test_the_past_gets_what_was_configured_later(kedge_in: Kedge, tmp_path: Path) -> None:
    rows = rows_of(range(3))
    as_parquet(tmp_path / "log.parquet", rows)
    kedge_in("import", "log.parquet", "--model", "fraud", "--label", "truth")
    kedge_in("tick", "--drain")
    before = kedge_in("metrics", "fraud", "--json").out

    (tmp_path / "kedge.yml").write_text("models:\n  fraud:\n    groups: [segment.region]\n")
    first = kedge_in("summarise", "fraud", "--from", iso(T0), "--json").row
    assert first["due"] == 3 * 24
    assert first["left"] == 0
    assert first["written"] > 0
    by_region = kedge_in(
        "metrics", "fraud", "--metric", "volume.count", "--by", "segment.region", "--json"
    ).rows
    counted = {(row["window_start"], row["labels"]["segment.region"]): row["value"] for row in by_region}
    assert counted == {(iso(T0 + day * DAY), region): 480.0 for day in range(3) for region in ("eu", "us")}
    assert kedge_in("metrics", "fraud", "--json").out == before

    again = kedge_in("summarise", "fraud", "--from", iso(T0 + DAY), "--to", iso(T0 + 2 * DAY))
    assert again.out.startswith("24 buckets looked at, 0 parts written"), again.out
    none = kedge_in("summarise", "strange", "--from", iso(T0), code=2)
    assert "strange" in none.err


def test_a_provisional_baseline_is_shown_and_accepted(kedge_in: Kedge, tmp_path: Path) -> None:
    as_csv(tmp_path / "march.csv", rows_of(range(14)))
    kedge_in("import", "march.csv", "--model", "fraud", "--label", "truth")
    kedge_in("baseline", "accept", "fraud", code=2)
    ticked = kedge_in("tick", "--drain", "--now", iso(T0 + 14 * DAY + 2 * MINUTE), "--json").row
    assert ticked["baselines"] == ["fraud"]
    (row,) = kedge_in("baseline", "list", "fraud", "--json").rows
    assert (row["provisional"], row["in_use"]) == (True, True)
    assert row["rows"] == 11 * 24 * 40
    listed = kedge_in("baseline", "list", "fraud").out
    assert "provisional" in listed
    assert "kedge baseline accept fraud" in listed
    assert "fraud now compares to baseline" in kedge_in("baseline", "accept", "fraud").out
    assert not kedge_in("baseline", "list", "fraud", "--json").row["provisional"]
