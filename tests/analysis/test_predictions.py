"""How far the predictions moved: classes by confidence, and values."""

import numpy as np
import pytest

from kedge.analysis.drift import DriftSettings
from kedge.analysis.measure import Context, metric
from kedge.analysis.metric import Verdict
from kedge.analysis.predictions import NOT_COUNTED, OTHERS, bands_of, by_confidence
from kedge.analysis.variation import PREDICTED
from kedge.sketch import VALUE, Cells, Core, EdgeSet, Labels, Summary, numeric_edges
from tests.analysis.rows import GRID, classified, featured, regressed, summarised


def predicted(generator, n, share=0.3, a=6.0, missing=0):
    """Rows of two classes with beta-distributed confidence, the first so many without one."""
    classes = np.where(generator.random(n) < share, "fraud", "ok").tolist()
    confidence = np.float32(0.5 + generator.beta(a, 3, n) / 2).tolist()
    return classified(classes, [None] * n, [None if i < missing else p for i, p in enumerate(confidence)])


def effect_of(before, after):
    """D by plain Python: the bands are the fifths of each class's confidence in the reference."""
    cells: dict[tuple, list[int]] = {}
    for side, rows in enumerate((before, after)):
        for row in rows:
            known = sorted(int(r.probability * 100) for r in before if r.cls == row.cls and r.probability)
            fifths = {known[int(np.ceil(len(known) * q / 5)) - 1] for q in range(1, 5)}
            band = None if row.probability is None else sum(int(row.probability * 100) > c for c in fifths)
            cells.setdefault((row.cls, band), [0, 0])[side] += 1
    p, q = (np.array([c[i] for c in cells.values()]) / len((before, after)[i]) for i in (0, 1))
    return float(np.sum(2 * (p - q) ** 2 / (p + q)))


def test_the_effect_is_that_of_class_by_fifths_of_its_confidence():
    generator = np.random.default_rng(5)
    before, after = predicted(generator, 600, missing=20), predicted(generator, 400, 0.4, 4.0, missing=30)
    found = metric("prediction.drift", summarised(after), Context(reference=summarised(before)))
    assert found.value == pytest.approx(effect_of(before, after))
    assert found.n == 400
    assert found.interval[0] < found.value < found.interval[1]


def test_less_confidence_in_unmoved_classes_is_drift_that_the_classes_do_not_show():
    generator = np.random.default_rng(6)
    reference = summarised(predicted(generator, 8_000))
    unsure = summarised(predicted(generator, 4_000, a=3.0))
    context = Context(reference=reference)
    assert metric("class.drift", unsure, context).verdict is Verdict.OK
    found = metric("prediction.drift", unsure, context)
    assert found.verdict is Verdict.DRIFTED
    assert "at 0.50 to " in found.detail["explanation"] or "at 0.00 to " in found.detail["explanation"]


def test_where_nothing_drifts_hardly_anything_alarms():
    """200 windows of 1,000 rows at one in a hundred, against references of 10,000: at most 1 %."""
    generator = np.random.default_rng(7)
    settings = DriftSettings(alpha=0.01)
    alarms = 0
    for _ in range(20):
        reference = summarised(predicted(generator, 10_000))
        rows = predicted(generator, 10_000)
        for start in range(0, 10_000, 1_000):
            window = summarised(rows[start : start + 1_000])
            found = metric("prediction.drift", window, Context(reference=reference, drift=settings))
            alarms += found.verdict is Verdict.DRIFTED
    assert alarms <= 2


def test_a_class_of_few_rows_is_one_cell_and_those_beyond_fifty_are_one_together():
    scores = np.zeros(101, np.int64)
    scores[70:90] = 4
    assert bands_of(scores) == [0, 100]
    scores[70:90] = 5
    assert bands_of(scores) == [0, 74, 78, 82, 86, 100]
    many = Core(rows=60, scores={f"c{i:02}": np.eye(1, 101, 80, dtype=np.int64)[0] for i in range(60)})
    before, now = by_confidence(many, Core(scores={"new": scores}))
    assert len(before) == 51
    assert (before[OTHERS], now) == (10, {OTHERS: 100})


def test_a_regression_drifts_by_the_cells_of_its_values():
    generator = np.random.default_rng(8)
    before, after = generator.normal(20, 5, 4_000), generator.normal(23, 5, 3_000)
    edges = EdgeSet({}, numeric_edges(np.quantile(np.float32(before), GRID)))

    def summary(values):
        rows = regressed(values, values)
        held = np.searchsorted(np.float32(edges.value.edges), np.float32(values), side="right")
        counts = np.bincount(held, minlength=edges.value.size)
        return Summary(summarised(rows).core, Cells({VALUE: (edges.value.hash, counts)}), Labels())

    context = Context(reference=summary(before), edges=edges)
    found = metric("prediction.drift", summary(after), context)
    assert (found.verdict, found.n) == (Verdict.DRIFTED, 3_000)
    shares = [
        np.array(s.cells.features[VALUE][1]) / n for s, n in ((summary(before), 4e3), (summary(after), 3e3))
    ]
    p, q = (s[shares[0] + shares[1] > 0] for s in shares)
    assert found.value == pytest.approx(float(np.sum(2 * (p - q) ** 2 / (p + q))))
    assert metric("prediction.drift", summary(generator.normal(20, 5, 6_000)), context).verdict is Verdict.OK
    uncounted = Summary(summary(after).core, Cells({}), Labels())
    assert metric("prediction.drift", uncounted, context).reason == NOT_COUNTED


def test_rows_without_a_prediction_have_no_such_drift():
    rows = summarised(featured({"age": [1.0, 2.0]}))
    assert metric("prediction.drift", rows, Context(reference=rows)).reason == "no row has a prediction"


def test_rows_that_depend_on_each_other_count_as_fewer_as_far_as_the_classes_tell():
    """What is known of the classes stands in for their bands of confidence, and is marked as borrowed."""
    generator = np.random.default_rng(3)
    before, after = (summarised(predicted(generator, 3_000, a=a)) for a in (6.0, 4.2))
    plain = metric("prediction.drift", after, Context(None, before))
    settings = DriftSettings(phi={PREDICTED: 40.0})
    held = metric("prediction.drift", after, Context(None, before, drift=settings))
    assert held.value == plain.value
    assert plain.verdict is Verdict.DRIFTED
    assert held.verdict is Verdict.INSUFFICIENT
    assert held.detail["borrowed"]
    assert not plain.detail["borrowed"]
