"""What `measure` and `metric` give: every metric of the catalogue, right on the rows, or a reason."""

import math
import warnings

import numpy as np
import pytest

from kedge.analysis import measure as measuring
from kedge.analysis.catalogue import METRICS, lookup, of_family
from kedge.analysis.intervals import interval_at
from kedge.analysis.measure import Context, measure, metric
from kedge.errors import BadInput
from kedge.records import Label, Prediction
from kedge.sketch import Cells, Core, EdgeSet, Labels, NumericEdges, Summary
from tests.analysis.rows import classified, edges_of, featured, summarised

NONE = Context()


def row(**fields) -> Prediction:
    return Prediction(**({"id": "1", "timestamp": 0, "ingested": 0, "model": "m"} | fields))


def value(name, rows, context=NONE, **labels):
    return metric(name, summarised(rows, context.edges), context, **labels).value


# --- the catalogue --------------------------------------------------------------------------------------


def test_every_metric_of_the_catalogue_can_be_read_and_no_other():
    assert set(measuring._READERS) == set(METRICS)


@pytest.mark.parametrize("info", METRICS.values(), ids=list(METRICS))
def test_every_metric_tells_what_a_rule_and_a_reader_need(info):
    assert info.parts
    assert info.description.endswith(".")
    assert info.counts
    assert info.unit in {"ratio", "ms", "count", "nats", "label", ""}
    assert info.must <= (info.takes is not None)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("performance.recal", "performance.recall"),
        ("recall", "performance.recall"),
        ("latency.p59", "latency.p95"),
        ("Latency.P99", "latency.p99"),
        ("psi", "drift.psi"),
        ("error.rate", "errors.rate"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(wrong, right):
    with pytest.raises(BadInput, match=rf'unknown metric "{wrong}" \(did you mean .*{right}'):
        lookup(wrong)


def test_a_name_like_none_is_answered_with_all():
    with pytest.raises(BadInput, match=r"known: volume.count, errors.rate"):
        metric("zzzzqqqq", Summary.zero(), NONE)


def test_families_keep_their_order():
    assert [m.name for m in of_family("latency")] == [
        "latency.mean",
        "latency.p50",
        "latency.p95",
        "latency.p99",
    ]


def test_only_performance_and_calibration_rest_on_labels_that_must_mature():
    families = {m.name.partition(".")[0] for m in METRICS.values() if m.label_based}
    assert families == {"performance", "calibration"}


@pytest.mark.parametrize(
    ("name", "labels", "text"),
    [
        ("class.share", {}, "class.share is of one class"),
        ("drift.psi", {}, "drift.psi is of one feature"),
        ("latency.p99", {"cls": "a"}, "latency.p99 takes no class"),
        ("performance.recall", {"feature": "age"}, "performance.recall takes no feature"),
    ],
)
def test_a_label_that_is_missing_or_does_not_fit_is_refused(name, labels, text):
    with pytest.raises(BadInput, match=text):
        metric(name, Summary.zero(), NONE, **labels)


# --- rows, errors, latency ------------------------------------------------------------------------------


def test_counts_errors_and_latency():
    generator = np.random.default_rng(1)
    latencies = generator.lognormal(4, 1, 2_000).astype(np.float32).tolist()
    rows = [
        row(latency_ms=ms, error_type="Timeout" if i % 50 == 0 else None) for i, ms in enumerate(latencies)
    ]
    rows += [row() for _ in range(10)]
    summary = summarised(rows)
    found = {m.name: m for m in measure(summary, NONE)}
    assert found["volume.count"].value == 2_010
    assert found["errors.rate"].value == pytest.approx(40 / 2_010)
    assert found["errors.rate"].n == 2_010
    assert found["latency.mean"].value == pytest.approx(np.mean(latencies), rel=1e-6)
    assert found["latency.mean"].n == 2_000
    assert found["latency.mean"].stderr == pytest.approx(np.std(latencies, ddof=1) / math.sqrt(2_000))
    for name, q in (("latency.p50", 0.5), ("latency.p95", 0.95), ("latency.p99", 0.99)):
        true = np.quantile(latencies, q)
        assert found[name].value == pytest.approx(true, rel=0.025)
        assert found[name].n == 2_000
        assert found[name].interval[0] <= true <= found[name].interval[1]


def test_a_quantile_is_never_outside_what_was_seen():
    assert value("latency.p99", [row(latency_ms=3.0)]) == 3.0
    assert value("latency.p50", [row(latency_ms=0.0)]) == 0.0
    assert value("latency.p50", [row(latency_ms=5e6)] * 3) == 5e6


def test_label_coverage_and_delay():
    minute = 60_000
    rows = [
        row(label=Label(id="1", timestamp=minute * i, ingested=0, cls="a") if i % 4 else None)
        for i in range(1, 101)
    ]
    summary = summarised(rows)
    coverage, delay = (metric(name, summary, NONE) for name in ("label.coverage", "label.delay_seen_p50"))
    assert (coverage.value, coverage.n) == (0.75, 100)
    assert delay.value == pytest.approx(np.median([minute * i for i in range(1, 101) if i % 4]), rel=0.1)
    assert metric("label.delay_seen_p50", summarised([row()]), NONE).reason == "no labels yet"


# --- confidence and classes -----------------------------------------------------------------------------


def test_confidence_and_entropy():
    scores = np.random.default_rng(2).beta(5, 2, 3_000).astype(np.float32).astype(float)
    rows = [row(cls="a", probability=p, entropy=1 - p) for p in scores]
    summary = summarised(rows)
    found = {m.name: m for m in measure(summary, NONE)}
    assert found["confidence.mean"].value == pytest.approx(scores.mean(), rel=1e-9)
    assert found["confidence.std"].value == pytest.approx(scores.std(ddof=1), rel=1e-9)
    assert found["confidence.p10"].value == pytest.approx(np.quantile(scores, 0.1), abs=0.01)
    assert found["entropy.mean"].value == pytest.approx((1 - scores).mean(), rel=1e-6)
    resampled = [np.random.default_rng(i).choice(scores, 3_000).std() for i in range(300)]
    assert found["confidence.std"].stderr == pytest.approx(np.std(resampled), rel=0.15)


def test_class_shares_are_of_the_rows_with_a_class_and_a_class_gone_has_share_zero():
    rows = classified(["a"] * 6 + ["b"] * 2 + [None] * 2, [None] * 10)
    reference = summarised(classified(["a", "c"], [None, None]))
    found = {m.key: m.value for m in measure(summarised(rows), Context(reference=reference))}
    assert found["class.share{class=a}"] == 0.75
    assert found["class.share{class=b}"] == 0.25
    assert found["class.share{class=c}"] == 0.0
    assert value("class.share", rows, cls="never") == 0.0


def test_class_drift_has_a_verdict():
    before = summarised(classified(["a"] * 900 + ["b"] * 100, [None] * 1_000))
    after = summarised(classified(["a"] * 400 + ["b"] * 100, [None] * 500))
    found = metric("class.drift", after, Context(reference=before))
    p, q = np.array([0.9, 0.1]), np.array([0.8, 0.2])
    assert found.value == pytest.approx(2 * np.sum((p - q) ** 2 / (p + q)))
    assert found.n == 500
    assert found.verdict is not None
    assert found.interval[0] < found.value < found.interval[1]


# --- quality --------------------------------------------------------------------------------------------


def test_quality_counts_each_row_of_a_feature_once():
    reference = featured({"age": [20.0, 30.0, 40.0] * 10}, {"shop": ["a", "b", "a"] * 10})
    context = Context(edges=edges_of(reference))
    rows = [
        *featured({"age": [10.0, 25.0, 99.0, None]}, {"shop": ["a", "x", None, "b"]}),
        row(invalid=("age",), cat={"shop": "a"}),
        row(cat={"age": "forty"}, num={"shop": 3.0}),
    ]
    edges = context.edges
    core = summarised(rows, edges)
    found = {(m.name, m.labels["feature"]): m.value for m in measure(core, context) if "feature" in m.labels}
    assert found["quality.missing", "age"] == pytest.approx(1 / 6)
    assert found["quality.invalid", "age"] == pytest.approx(2 / 6)
    assert found["quality.out_of_range", "age"] == pytest.approx(2 / 6)
    assert found["quality.missing", "shop"] == pytest.approx(1 / 6)
    assert found["quality.invalid", "shop"] == pytest.approx(1 / 6)
    assert found["quality.unseen", "shop"] == pytest.approx(1 / 6)
    assert ("quality.unseen", "age") not in found
    assert ("quality.out_of_range", "shop") not in found


def test_without_edges_a_features_kind_is_the_declared_one_else_that_of_most_values():
    rows = [row(num={"f": 1.0}), row(num={"f": 2.0}), row(cat={"f": "x"})]
    assert value("quality.invalid", rows, feature="f") == pytest.approx(1 / 3)
    declared = Context(features={"f": "categorical"})
    assert value("quality.invalid", rows, declared, feature="f") == pytest.approx(2 / 3)


def test_a_feature_that_no_row_has_is_missing_everywhere():
    context = Context(edges=EdgeSet({"gone": NumericEdges((0.0, 1.0))}))
    assert value("quality.missing", [row(), row()], context, feature="gone") == 1.0


# --- what cannot be told --------------------------------------------------------------------------------


def test_a_part_that_is_not_computed_is_never_read_as_zero():
    edges = EdgeSet({"age": NumericEdges((0.0, 1.0))})
    bare = Summary(Core(rows=5))
    context = Context(reference=Summary(Core(rows=9)), edges=edges)
    assert metric("performance.accuracy", bare, context).reason == "the labels part is not computed"
    outside = metric("quality.out_of_range", bare, context, feature="age")
    assert outside.reason == "the cells part is not computed"
    with_cells = Summary(Core(rows=5), Cells.zero(edges))
    assert metric("drift.psi", with_cells, context, feature="age").reason == (
        "the cells part of the reference is not computed"
    )
    assert metric("drift.psi", with_cells, Context(edges=edges), feature="age").reason == "no reference"
    assert not any(m.name.startswith(("performance", "drift")) for m in measure(bare, context))


def test_a_feature_that_the_reference_has_not_says_so():
    edges = EdgeSet({"age": NumericEdges((0.0, 1.0))})
    summary = Summary.zero(edges)
    context = Context(reference=summary, edges=edges)
    assert metric("drift.psi", summary, context, feature="new").reason == "the reference has no such feature"
    assert metric("quality.unseen", summary, context, feature="age").reason == "not for a numeric feature"
    assert metric("drift.share", summary, context).value is None


def test_a_model_without_labels_yet_has_performance_with_a_reason_and_one_without_latency_has_none():
    names = {m.name: m for m in measure(summarised(classified(["a", "b"], [None, None])), NONE)}
    assert names["performance.accuracy"].reason == "no labels yet"
    assert not {name for name in names if name.startswith("latency")}
    assert "performance.mae" not in names


DEGENERATE = {
    "no rows": [],
    "one bare row": [row()],
    "one full row": [
        row(
            cls="a",
            probability=1.0,
            probabilities={"a": 1.0, "b": 0.0},
            entropy=0.0,
            value=1.0,
            num={"x": 1.0},
            cat={"c": "v"},
            latency_ms=0.0,
            label=Label(id="1", timestamp=0, ingested=0, cls="a", value=1.0),
        )
    ],
    "one class": classified(["a"] * 9, ["a"] * 9, [1.0] * 9),
    "always wrong": classified(["a"] * 9, ["b"] * 9, [0.0] * 9),
    "all missing": [row() for _ in range(9)],
    "constant": featured({"x": [3.0] * 9}, {"c": ["v"] * 9}),
    "extremes": featured({"x": [3.4e38, -3.4e38, 0.0, 1e-45] * 3}, {"c": ["", "\x00", "日本", "v"] * 3}),
    "all errors": [row(error_type="Timeout") for _ in range(9)],
}


@pytest.mark.parametrize("reference", DEGENERATE)
@pytest.mark.parametrize("window", DEGENERATE)
def test_degenerate_rows_give_a_number_or_a_reason_and_never_a_warning(window, reference):
    everything = [r for held in DEGENERATE.values() for r in held]
    edges = edges_of(everything)
    context = Context(positive_class="a", reference=summarised(DEGENERATE[reference], edges), edges=edges)
    summary = summarised(DEGENERATE[window], edges)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measure(summary, context)
        for info in METRICS.values():
            for feature in ("x", "c") if info.takes == "feature" else (None,):
                cls = "a" if info.takes == "class" else None
                found.append(metric(info.name, summary, context, cls=cls, feature=feature))
        for m in found:
            assert (m.value is None) == (m.reason is not None), m
            if m.value is None:
                assert interval_at(m, 0.001) is None
                continue
            assert math.isfinite(m.value)
            for ends in (m.interval, interval_at(m, 1e-6)):
                assert ends is None or (
                    math.isfinite(ends[0]) and math.isfinite(ends[1]) and ends[0] <= ends[1]
                ), m


def test_one_metric_is_the_same_alone_as_among_all():
    generator = np.random.default_rng(3)
    normal = generator.normal
    before = featured({"x": normal(size=500), "y": normal(size=500)}, {"c": ["a", "b"] * 250})
    edges = edges_of(before)
    after = featured({"x": normal(1, 1, 300), "y": normal(size=300)}, {"c": ["a", "z", "b"] * 100})
    after += classified(["a", "b", "a"] * 20, ["a", "a", "b"] * 20, [0.9, 0.6, 0.7] * 20, latency_ms=5.0)
    summary, context = summarised(after, edges), Context(reference=summarised(before, edges), edges=edges)
    for m in measure(summary, context):
        alone = metric(m.name, summary, context, cls=m.labels.get("class"), feature=m.labels.get("feature"))
        assert (alone.key, alone.n, alone.verdict, alone.reason) == (m.key, m.n, m.verdict, m.reason)
        assert alone.value == pytest.approx(m.value), m.key


def test_keys_are_unique():
    keys = [m.key for m in measure(summarised(classified(["a", "b"], ["a", "a"], [0.5, 0.7])), NONE)]
    assert len(set(keys)) == len(keys)


def test_an_empty_labels_part_is_zero_labels():
    found = metric("label.coverage", Summary(Core(rows=4), None, Labels()), NONE)
    assert (found.value, found.n) == (0.0, 4)
