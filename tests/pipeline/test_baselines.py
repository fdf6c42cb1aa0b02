"""References: what a baseline knows of its own windows, and how metrics, rules and comparisons go by it."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ingest.files import ColumnMap
from kedge.alerting.finding import Severity, Status
from kedge.alerting.loading import parse_rules
from kedge.cli.reference import FileRows
from kedge.errors import BadInput
from kedge.pipeline.baselines import (
    Baseline,
    build_baseline,
    decode_baseline,
    encode_baseline,
    import_baseline,
)
from kedge.pipeline.groups import CappedLogs, VersionLogs
from kedge.pipeline.query import metric_series
from kedge.pipeline.schema import features_of
from kedge.records import Prediction
from kedge.store.base import PartRow, SummaryRequest
from kedge.windows import DAY, HOUR, MINUTE, WEEK, Millis, Window, iso
from tests.pipeline.world import MODEL, T0, World, settings, world

DRIFT = """
version: 1
defaults: {model: "*"}
rules:
  - {name: day, kind: drift, window: 1d, by: [feature], severity: high}
  - {name: all, kind: drift, window: 1d, share: 10%, severity: high}
"""


def rows(days: range, *, each: int = 240, moved: bool = False, seed: int = 0) -> Iterator[Prediction]:
    """Days of rows: `season` is another one every day, `steady` the same unless `moved`."""
    for day in days:
        dice = np.random.default_rng([seed, day])
        season, steady = dice.normal(day % 5, 0.5, each), dice.normal(3 if moved else 0, 1, each)
        for i in range(each):
            at = T0 + day * DAY + i * DAY // each
            num = {"season": float(season[i]), "steady": float(steady[i])}
            yield Prediction(id=f"{day}-{i}", timestamp=at, ingested=at, model=MODEL, cls="a", num=num)


@pytest.fixture
def one() -> Iterator[World]:
    with world(settings=settings(**{MODEL: {"bucket": "1h"}}), book=parse_rules(DRIFT)) as made:
        yield made


def send(one: World, sent: Iterator[Prediction]) -> None:
    held = list(sent)
    one.now = max(one.now, held[-1].timestamp)
    one.send(held)


def baseline(one: World, days: int) -> Baseline:
    window = Window(T0, T0 + days * DAY)
    features = features_of(one.store.state, MODEL)
    return build_baseline(one.store, MODEL, window, features, [()], source="window", now=one.now)


def test_a_baseline_of_stored_logs_knows_how_its_windows_vary(one: World) -> None:
    send(one, rows(range(21)))
    made = baseline(one, 21)
    listed = import_baseline(one.store.state, made, use=True)
    assert listed["phi"] == ["1h", "6h", "1d"]
    # Ten rows an hour tell nothing credible of an hour.
    assert listed["restless"] == {"1h": [], "6h": ["season"], "1d": ["season"]}
    assert {length: v.windows for length, v in made.variation.lengths.items()} == {
        HOUR: 21 * 24,
        6 * HOUR: 21 * 4,
        DAY: 21,
    }
    at = made.at_length(DAY)
    assert at.restless(0.05) == {"season"}
    assert at.phi["season"] > 20 > 5 > at.phi["steady"]
    assert at.borrowed == set()
    assert made.at_length(WEEK).borrowed == {"season", "steady", "\x00prediction.class"}
    assert made.at_length(DAY, (("version", "v1"),)).borrowed == set()
    assert made.at_length(DAY, (("segment.region", "eu"),)).borrowed == made.at_length(WEEK).borrowed


def test_it_is_kept_with_the_baseline_and_older_ones_do_without(one: World) -> None:
    send(one, rows(range(20)))
    made = baseline(one, 20)
    document = json.loads(json.dumps(encode_baseline(made)))
    assert decode_baseline(document) == made
    assert set(document["dispersion"]) == {str(HOUR), str(6 * HOUR), str(DAY)}
    del document["dispersion"]
    old = decode_baseline(document)
    assert "dispersion" not in encode_baseline(old)
    assert old.at_length(DAY).borrowed == {"season", "steady", "\x00prediction.class"}
    assert baseline(one, 20).id == made.id


def test_many_features_are_counted_some_at_a_time(one: World, monkeypatch: pytest.MonkeyPatch) -> None:
    send(one, rows(range(20)))
    whole = baseline(one, 20).variation
    monkeypatch.setattr("kedge.pipeline.reference_rows.FEATURES_AT_ONCE", 1)
    assert baseline(one, 20).variation == whole


def test_rows_of_few_features_are_counted_once(one: World, monkeypatch: pytest.MonkeyPatch) -> None:
    send(one, rows(range(20)))
    asked = []
    summarise = one.store.summarise

    def counted(request: SummaryRequest) -> list[PartRow]:
        asked.append(request)
        return summarise(request)

    monkeypatch.setattr(one.store, "summarise", counted)
    made = baseline(one, 20)
    assert [request.bucket for request in asked] == [HOUR]
    monkeypatch.setattr("kedge.pipeline.reference_rows.FEATURES_AT_ONCE", 1)
    apart = baseline(one, 20)
    assert sorted(request.bucket for request in asked[1:]) == [HOUR, HOUR, DAY]
    assert apart.rows == made.rows == 4_800
    assert apart.summaries[()].cells == made.summaries[()].cells


def test_a_baseline_of_one_version_is_of_its_rows_alone(one: World) -> None:
    def versioned(row: Prediction, i: int) -> Prediction:
        new, region = i % 3 == 0, "eu" if i % 2 else "us"
        num = {"steady": row.num["steady"] + (5 if new else 0)}
        return msgspec.structs.replace(
            row, version="v2" if new else "v1", num=num, segment={"region": region}
        )

    held = [versioned(row, i) for i, row in enumerate(rows(range(2)))]
    send(one, iter(held))
    window, grouping = Window(T0, T0 + 2 * DAY), ("segment.region",)
    made = build_baseline(
        VersionLogs(CappedLogs(one.store, 10), "v2"),
        MODEL,
        window,
        features_of(one.store.state, MODEL),
        [(), ("version",), grouping],
        source="version v2",
        now=one.now,
    )
    assert made.rows == 160
    values = [row.num["steady"] for row in held if row.version == "v2"]
    assert made.edges.numeric["steady"].edges[0] == pytest.approx(min(values), rel=1e-6)
    groups = {group: summary.rows for group, summary in made.summaries.items()}
    assert groups == {
        (): 160,
        (("version", "v2"),): 160,
        (("segment.region", "eu"),): 80,
        (("segment.region", "us"),): 80,
    }
    assert made.variation.lengths[HOUR].windows == 48
    with pytest.raises(BadInput, match="has no rows"):
        build_baseline(
            VersionLogs(CappedLogs(one.store, 10), "v3"),
            MODEL,
            window,
            features_of(one.store.state, MODEL),
            [()],
            source="version v3",
            now=one.now,
        )


def test_a_long_reference_is_cut_into_days(one: World) -> None:
    send(one, rows(range(141), each=24))
    assert set(baseline(one, 141).variation.lengths) == {DAY, WEEK}


def test_restless_features_are_shown_and_no_evidence_of_drift(one: World) -> None:
    send(one, rows(range(21)))
    import_baseline(one.store.state, baseline(one, 21), use=True)
    for day in (21, 22):
        send(one, rows(range(day, day + 1)))
        one.drain(T0 + (day + 1) * DAY + 2 * MINUTE)
    one.assert_exact()
    series = metric_series(
        one.pipe, MODEL, names=["drift.psi", "drift.share"], now=one.now, start=T0 + 22 * DAY
    )
    found = {(row["metric"], row["labels"].get("feature")): row for row in series}
    season, steady = (found["drift.psi", name] for name in ("season", "steady"))
    assert season["value"] > 1
    assert season["reason"] == "restless: normally exceeds the tolerance"
    assert (steady["verdict"] != "drifted", steady["reason"]) == (True, None)
    assert found["drift.share", None]["value"] in (0.0, None)
    assert one.alert("day", feature="season").severity in (None, Severity.INFO)
    assert one.alert("day", feature="steady").status is Status.INACTIVE
    assert one.alert("all").status is Status.INACTIVE
    assert one.notebook.messages == []


def test_what_moves_beside_a_restless_feature_is_found(one: World) -> None:
    send(one, rows(range(21)))
    import_baseline(one.store.state, baseline(one, 21), use=True)
    send(one, rows(range(21, 22)))
    one.drain(T0 + 22 * DAY + 2 * MINUTE)
    send(one, rows(range(22, 23), moved=True))
    one.drain(T0 + 23 * DAY + 2 * MINUTE)
    assert one.alert("day", feature="steady").severity is Severity.HIGH
    whole = one.alert("all")
    assert whole.finding is not None
    assert (whole.severity, whole.finding.n, whole.finding.value) == (Severity.HIGH, 1, 1.0)


@pytest.mark.parametrize(
    ("first", "last", "length"),
    [
        (0, 59 * MINUTE, HOUR),
        (59 * MINUTE, 61 * MINUTE, 6 * HOUR),
        (5 * HOUR, 7 * HOUR, DAY),
        (0, 7 * DAY - 1, WEEK),
        (0, 7 * DAY, 8 * DAY),
        (HOUR, HOUR, 0),
    ],
)
def test_a_file_is_a_window_of_the_time_that_its_rows_are_of(
    first: Millis, last: Millis, length: Millis, tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("timestamp,x\n" + "".join(f"{iso(T0 + t)},1\n" for t in (first, last)))
    rows = FileRows(file, "m", ColumnMap(), T0 + 30 * DAY)
    assert sum(piece.count for piece in rows.read()) == 2
    assert rows.length == length
