"""Absence as negative: rows without a label, counted as the negative class once they are old enough."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from kedge.analysis.absence import SUMS_ONLY, with_absent
from kedge.analysis.measure import Context, measure, metric
from kedge.sketch import Core, Labels, Summary
from kedge.windows import DAY
from tests.analysis.rows import classified, regressed, summarised
from tests.analysis.test_ranking import middles

COUNTED = Context(positive_class="fraud", negative_after=45 * DAY)
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["fraud", "ok"]), st.sampled_from(["fraud", "ok", None]), st.floats(0, 1, width=32)
    ),
    max_size=40,
)


def counted(rows, reference=None):
    summary = summarised(rows)
    return with_absent(summary, summary, "fraud", reference)


def filled(rows):
    """The same rows with every label that is absent written in as `ok`."""
    return [(p, actual or "ok", s) for p, actual, s in rows]


def found(rows, name, context=COUNTED, **labels):
    return metric(f"performance.{name}", counted(rows), context, **labels)


def reports(n=400, seed=0):
    """A model whose frauds alone are ever labelled."""
    generator = np.random.default_rng(seed)
    score = generator.random(n)
    fraud = generator.random(n) < score**2
    return [
        ("fraud" if s > 0.5 else "ok", "fraud" if f else None, float(max(s, 1 - s)))
        for s, f in zip(score, fraud, strict=True)
    ]


@given(ROWS, st.integers(0, 40))
def test_scores_are_those_of_rows_whose_absent_labels_were_written_in(rows, cut):
    """All at once, or of the old part alone; where both classes are known."""
    known = summarised(classified(["fraud", "ok"], [None, None]))
    held, old = (
        summarised(classified(*zip(*part, strict=True)) if part else []) for part in (rows, rows[:cut])
    )
    expected = filled(rows[:cut]) + rows[cut:]
    full = summarised(classified(*zip(*expected, strict=True)) if expected else [])
    merged = with_absent(held, old, "fraud", known).labels
    assert merged.scores.keys() == full.labels.scores.keys()
    assert all((merged.scores[pair] == cells).all() for pair, cells in full.labels.scores.items())
    assert merged.rows == held.labels.rows
    assert merged.delay is held.labels.delay


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_positives_alone_flatter_and_counted_rows_do_not(name):
    rows = reports()
    held = classified(*zip(*rows, strict=True))
    actual, predicted = ([r[i] or "ok" for r in rows] for i in (1, 0))
    expected = getattr(sk, f"{name}_score")(actual, predicted, pos_label="fraud")
    assert found(held, name).value == pytest.approx(expected)
    assert metric("performance.precision", summarised(held), Context("fraud")).value == 1.0


def test_auc_and_calibration_take_them_in():
    rows = reports()
    held = classified(*zip(*rows, strict=True))
    fraud = [actual == "fraud" for _, actual, _ in rows]
    assert found(held, "auc").value == pytest.approx(sk.roc_auc_score(fraud, middles(held)), abs=1e-12)
    assert found(held, "auc").n == sum(fraud)
    assert found(held, "ece").n == len(rows)
    assert metric("performance.auc", summarised(held), Context("fraud")).value is None


def test_coverage_and_log_loss_stay_with_the_labels_that_came():
    rows = classified(["fraud", "ok", "ok"], ["fraud", None, None], [0.9, 0.8, 0.7])
    assert metric("label.coverage", counted(rows), COUNTED).value == pytest.approx(1 / 3)
    for name in ("log_loss", "brier"):
        assert (found(rows, name).value, found(rows, name).reason) == (None, SUMS_ONLY)
    whole = classified(["fraud", "ok"], ["fraud", "ok"], [0.9, 0.8])
    assert found(whole, "log_loss").reason == "no labelled row has probabilities"


def test_a_class_that_only_the_reference_knows_is_the_negative_one():
    rows = classified(["fraud", "fraud"], ["fraud", None], [0.9, 0.8])
    reference = summarised(classified(["ok"], [None]))
    summary = counted(rows, reference)
    context = Context("fraud", reference, negative_after=DAY)
    assert metric("performance.precision", summary, context).value == 0.5
    assert metric("performance.precision", counted(rows), COUNTED).reason == (
        'no class besides "fraud" is known that rows without a label could be of'
    )


@pytest.mark.parametrize("name", ["accuracy", "recall", "f1_weighted", "auc", "ece", "log_loss"])
def test_where_the_negative_class_is_not_known_there_is_a_reason_and_no_flattering_value(name):
    three = classified(["fraud", "ok", "odd"], ["fraud", None, None], [0.9, 0.8, 0.7])
    assert found(three, name).value is None
    assert found(three, name).reason == 'rows without a label could be of any class besides "fraud" (odd, ok)'
    undeclared = Context(negative_after=DAY)
    two = summarised(classified(["fraud", "ok"], ["fraud", None], [0.9, 0.8]))
    assert metric(f"performance.{name}", two, undeclared).reason.endswith("no positive_class is declared")


def test_the_list_of_all_metrics_has_the_reasons_too():
    rows = classified(["fraud", "ok", "odd"], ["fraud", None, None], [0.9, 0.8, 0.7])
    listed = {m.name: m for m in measure(counted(rows), COUNTED) if m.name.startswith("performance.")}
    assert "performance.recall" in listed
    assert all(m.value is None and m.reason for m in listed.values())


def test_a_regression_is_not_touched():
    rows = regressed([1.0, 2.0], [1.5, 2.0])
    assert found(rows, "mae") == metric("performance.mae", summarised(rows), Context())


def test_a_core_counted_before_a_late_row_came_takes_no_row_away():
    late = summarised(classified(["ok", "ok"], ["fraud", "fraud"], [0.9, 0.9]))
    stale = summarised(classified(["ok"], [None], [0.9]))
    held = Summary(stale.core, None, late.labels)
    assert with_absent(held, held, "fraud", None).labels.confusion == {("ok", "fraud"): 2}


def test_parts_that_are_not_computed_stay_so():
    bare = Summary(Core(rows=5), None, None)
    assert with_absent(bare, bare, "fraud", None) is bare
    labels = Summary(Core(), None, Labels())
    assert with_absent(labels, Summary(), "fraud", None) is labels
