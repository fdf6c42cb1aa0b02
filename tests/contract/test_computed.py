"""Summaries and metrics: written by version, read back as they were."""

import pytest

from kedge.sketch import PartName
from kedge.store.base import MetricDoc, PartRow, Store, SummaryKey, SummaryQuery, SummaryRequest
from kedge.windows import DAY, HOUR, Window
from tests.contract.helpers import ALL_PARTS, asking, by_key
from tests.support.oracle import answer_to
from tests.support.rows import EDGES, SPAN, START, random_rows
from tests.support.stored import stored_parts


def parts_of(model: str, *, version: int = 7, seed: int = 41) -> list[PartRow]:
    """All parts of some rows, by hour and by hour and region."""
    request: SummaryRequest = asking(model, groupings=((), ("segment.region", "version")))
    answer = answer_to(request, random_rows(seed, 120, model=model))
    return [PartRow(key, version, part) for key, part in answer.items()]


def test_parts_come_back_as_they_were_written(store: Store, model: str) -> None:
    rows = parts_of(model)
    assert store.write(rows) == [True] * len(rows)
    assert by_key(stored_parts(store, model, HOUR, SPAN, ALL_PARTS, edges=EDGES.hash)) == by_key(rows)
    assert store.versions_many([model], HOUR, SPAN) == {row.key: 7 for row in rows}


def test_reading_is_by_part_grouping_window_tier_and_edges(store: Store, model: str) -> None:
    rows = parts_of(model)
    store.write(rows)
    hour = Window(START + HOUR, START + 2 * HOUR)

    def found(**asked: object) -> set[SummaryKey]:
        arguments = {"tier": HOUR, "window": SPAN, "parts": ALL_PARTS, "edges": EDGES.hash} | asked
        return set(by_key(stored_parts(store, model, **arguments)))  # type: ignore[arg-type]

    keys = {row.key for row in rows}
    assert found(parts=[PartName.CORE]) == {k for k in keys if k.part is PartName.CORE}
    assert found(grouping=()) == {k for k in keys if k.group == ()}
    assert found(grouping=("segment.region", "version")) == {k for k in keys if k.group != ()}
    assert found(grouping=("version",)) == set()
    assert found(window=hour) == {k for k in keys if k.bucket == hour.start}
    assert found(tier=DAY) == set()
    assert found(edges="others") == {k for k in keys if k.part is not PartName.CELLS}
    assert stored_parts(store, "no such model", HOUR, SPAN, ALL_PARTS) == []


def test_many_reads_are_answered_each_as_if_alone(store: Store, model: str) -> None:
    other = f"{model} too"
    rows = [*parts_of(model), *parts_of(other, seed=43, version=8)]
    store.write(rows)
    hour = Window(START + HOUR, START + 2 * HOUR)
    core, cells = frozenset({PartName.CORE}), frozenset({PartName.CELLS})
    queries = [
        SummaryQuery(other, HOUR, SPAN, ALL_PARTS, edges=EDGES.hash),
        SummaryQuery(model, HOUR, SPAN, ALL_PARTS, edges=EDGES.hash),
        SummaryQuery(model, HOUR, SPAN, ALL_PARTS, edges="others"),
        SummaryQuery("no such model", HOUR, SPAN, ALL_PARTS),
        SummaryQuery(model, HOUR, hour, core, grouping=()),
        SummaryQuery(other, HOUR, hour, core, grouping=()),
        SummaryQuery(other, HOUR, SPAN, cells, ("segment.region", "version"), EDGES.hash),
        SummaryQuery(model, DAY, SPAN, core),
        SummaryQuery(model, HOUR, SPAN, frozenset()),
        SummaryQuery(model, HOUR, SPAN, ALL_PARTS, edges=EDGES.hash),
    ]
    answers = store.read_many(queries)
    for asked, answer in zip(queries, answers, strict=True):
        expected = [
            row
            for row in rows
            if row.key.model == asked.model
            and row.key.tier == asked.tier
            and row.key.bucket in asked.window
            and row.key.part in asked.parts
            and asked.grouping in (None, row.key.grouping)
            and (row.key.part is not PartName.CELLS or row.key.edges == asked.edges)
        ]
        assert by_key(answer) == by_key(expected)
        assert [row.key.bucket for row in answer] == sorted(row.key.bucket for row in answer)
    assert len(answers[0]) > len(answers[2]) > len(answers[4]) > 0
    assert store.read_many([]) == []


def test_versions_of_many_models_are_read_at_once(store: Store, model: str) -> None:
    other = f"{model} too"
    rows = [*parts_of(model), *parts_of(other, version=8)]
    store.write(rows)
    assert store.versions_many([model, other, "no such model"], HOUR, SPAN) == {
        r.key: r.version for r in rows
    }
    assert store.versions_many([other], DAY, SPAN) == {}
    assert store.versions_many([], HOUR, SPAN) == {}


def test_a_stale_version_is_refused_and_an_equal_one_is_written(store: Store, model: str) -> None:
    newer, older = parts_of(model, version=9), parts_of(model, version=8, seed=42)
    assert all(store.write(newer))
    stale = [row for row in older if row.key in by_key(newer)]
    assert stale
    assert store.write(stale) == [False] * len(stale)
    assert by_key(stored_parts(store, model, HOUR, SPAN, ALL_PARTS, edges=EDGES.hash)) == by_key(newer)

    equal = [PartRow(row.key, 9, row.part) for row in stale]
    assert store.write(equal) == [True] * len(equal)
    expected = by_key(newer) | by_key(equal)
    assert by_key(stored_parts(store, model, HOUR, SPAN, ALL_PARTS, edges=EDGES.hash)) == expected


def test_a_mixed_write_is_answered_row_by_row(store: Store, model: str) -> None:
    rows = parts_of(model)
    store.write([PartRow(rows[1].key, 8, rows[1].part)])
    assert store.write(rows[:3]) == [True, False, True]
    versions = store.versions_many([model], HOUR, SPAN)
    assert [versions[row.key] for row in rows[:3]] == [7, 8, 7]
    assert store.write([]) == []


def test_versions_as_large_as_an_epoch_survive(store: Store, model: str) -> None:
    [row, *_] = parts_of(model)
    version = (3 << 56) + (1 << 55) + 12345
    store.write([PartRow(row.key, version, row.part)])
    assert store.versions_many([model], HOUR, SPAN) == {row.key: version}
    assert store.write([PartRow(row.key, version - 1, row.part)]) == [False]


def metric(model: str, hour: int, *, version: int = 3, feature: str = "", **values: float) -> MetricDoc:
    return MetricDoc(
        model=model,
        group=(("segment.region", "Ωκεανία"),) if feature == "" and hour == 1 else (),
        window=Window(START + hour * HOUR, START + (hour + 1) * HOUR),
        version=version,
        values={name.replace("_", "."): {"value": v, "n": 10, "stderr": None} for name, v in values.items()},
        feature=feature,
    )


def test_metrics_come_back_by_start_group_and_feature(store: Store, model: str) -> None:
    docs = [
        metric(model, 0, volume_count=3.5),
        metric(model, 0, feature="a.b", drift_psi=0.25),
        metric(model, 0, feature="z", drift_psi=0.5),
        metric(model, 1, volume_count=7),
        metric(model, 2, volume_count=1),
    ]
    day = MetricDoc(model=model, group=(), window=Window(START, START + DAY), version=1, values={})
    store.write_metrics([*reversed(docs), day])
    assert store.read_metrics(model, HOUR, Window(START, START + 3 * HOUR)) == docs
    assert store.read_metrics(model, HOUR, Window(START + HOUR, START + 2 * HOUR)) == docs[3:4]
    assert store.read_metrics(model, DAY, Window(START, START + DAY)) == [day]
    assert store.read_metrics("no such model", HOUR, SPAN) == []


@pytest.mark.parametrize(("version", "kept"), [(2, 3.5), (3, 9.0), (4, 9.0)], ids=["older", "equal", "newer"])
def test_a_metric_of_an_older_version_does_not_stand(
    store: Store, model: str, version: int, kept: float
) -> None:
    store.write_metrics([metric(model, 0, version=3, volume_count=3.5)])
    store.write_metrics([metric(model, 0, version=version, volume_count=9.0)])
    [found] = store.read_metrics(model, HOUR, SPAN)
    assert found.values["volume.count"]["value"] == kept
