"""Rows that are made of metrics have these metrics: measured as all rows are."""

import pytest

from kedge.analysis.catalogue import lookup
from kedge.analysis.intervals import interval_at
from kedge.analysis.measure import Context, metric
from kedge.errors import BadInput
from kedge.rehearsal.rows import (
    MADE,
    Fact,
    Rows,
    edges_of,
    merged,
    reference_of,
    share_of,
    summary_of,
    verify,
)
from kedge.sketch import PartName

LABELS = {"class": "fraud", "feature": "age"}
VALUES = {"ms": 212.0, "count": 640.0, "label": 3.0, "nats": 0.4, "ratio": 0.2}


def rows_of(*facts: Fact) -> Rows:
    return Rows(facts, ("age",) if any(f.metric.startswith("drift.") for f in facts) else ())


@pytest.mark.parametrize("name", MADE)
def test_every_metric_that_can_be_made_comes_out_with_its_value_and_its_n(name: str) -> None:
    info = lookup(name)
    label = LABELS[info.takes] if info.takes else None
    value = VALUES.get(info.unit, 0.3)
    n = None if name == "volume.count" else 5_000
    rows = rows_of(Fact(name, value, n, label))
    verify(rows)
    context = Context("fraud", reference_of(rows.features), edges_of(rows.features))
    asked = {"cls" if info.takes == "class" else "feature": label} if info.takes else {}
    found = metric(name, summary_of(rows.parts()), context, **asked)
    assert found.value == pytest.approx(value, rel=0.03)
    assert found.n == (n or value)


def test_parts_of_an_interval_add_up_to_all_of_it() -> None:
    rows = rows_of(
        Fact("volume.count", 1_003),
        Fact("errors.rate", 7 / 1_003),
        Fact("latency.p99", 300.0),
        Fact("drift.effect", 0.2, None, "age"),
    )
    whole, apart = rows.parts(), merged(rows.parts(share_of(i, 60)) for i in range(60))
    core, summed = whole[PartName.CORE], apart[PartName.CORE]
    assert (summed.rows, summed.errors) == (core.rows, core.errors) == (1_003, 7)  # type: ignore[union-attr]
    assert apart[PartName.CELLS] == whole[PartName.CELLS]


def test_quantiles_of_the_same_rows_go_together() -> None:
    wanted = {"latency.p50": 40.0, "latency.p95": 200.0, "latency.p99": 1_500.0}
    summary = summary_of(rows_of(*(Fact(name, value, 2_000) for name, value in wanted.items())).parts())
    found = {name: metric(name, summary, Context()).value for name in wanted}
    assert found == pytest.approx(wanted, rel=0.03)


def test_precision_and_recall_go_together() -> None:
    recall = Fact("performance.recall", 0.8, 200, "fraud")
    precision = Fact("performance.precision", 0.5, 320, "fraud")
    summary = summary_of(rows_of(recall, precision).parts())
    found = [metric(f.metric, summary, Context("fraud"), cls="fraud") for f in (recall, precision)]
    assert [(m.value, m.n) for m in found] == [(0.8, 200), (0.5, 320)]


def test_a_mean_has_the_noise_that_is_said() -> None:
    rows = rows_of(Fact("latency.mean", 100.0, 400, sd=50.0))
    found = metric("latency.mean", summary_of(rows.parts()), Context())
    low, high = interval_at(found, 0.025) or (0, 0)
    assert high - low == pytest.approx(2 * 1.966 * 50 / 20, rel=0.01)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ([Fact("errors.rate", 0.005, 100)], "give more rows"),
        ([Fact("errors.rate", 6.0)], "lies between 0 and 1"),
        ([Fact("volume.count", 500), Fact("errors.rate", 0.1, 1_000)], "contradicts it"),
        ([Fact("errors.rate", 0.1), Fact("errors.rate", 0.2)], "given twice"),
        ([Fact("performance.f1", 0.5), Fact("performance.accuracy", 0.5)], "precision and recall"),
        ([Fact("class.share", 0.7, 100, "a"), Fact("class.share", 0.7, 100, "b")], "more than 100 %"),
        ([Fact("drift.effect", 3.9, 1_000, "age")], "at most"),
    ],
)
def test_what_no_rows_can_have_is_refused(facts: list[Fact], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        verify(rows_of(*facts))
