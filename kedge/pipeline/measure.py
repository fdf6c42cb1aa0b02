"""From summaries to numbers for people: the metrics of tumbling windows, and how far labels have matured."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from kedge.analysis.catalogue import lookup
from kedge.analysis.drift import DriftSettings
from kedge.analysis.measure import Context, measure
from kedge.analysis.metric import Metric
from kedge.analysis.reading import counts_negatives
from kedge.config import ModelSettings
from kedge.pipeline import negatives
from kedge.pipeline.baselines import Baseline
from kedge.pipeline.dirty import ModelFeed, label_tier
from kedge.pipeline.memory import MetricMemory
from kedge.pipeline.reader import Ask, SummaryReader
from kedge.pipeline.summaries import bucket_summary
from kedge.sketch import PartName
from kedge.store.base import EPOCH_SHIFT, Group, Json, MetricDoc, PartRow, sum_versions
from kedge.windows import DAY, HOUR, Millis, Span, Window, floor, format_duration, tile

MATURITY_SPAN = 60 * DAY
"""How far back labels are looked for: cohorts older than this count as mature."""


def context_for(settings: ModelSettings, baseline: Baseline | None, group: Group, length: Millis) -> Context:
    """What the metrics of one group over windows of a length are read against: its own reference, where the
    baseline has one."""
    return Context(
        own=settings.own,
        positive_class=settings.positive_class,
        reference=baseline.summaries.get(group) if baseline else None,
        edges=baseline.edges if baseline else None,
        value_errors=baseline.value_errors if baseline else None,
        drift=baseline.at_length(length, group).settings() if baseline else DriftSettings(),
    )


_LATER = (PartName.LABELS, PartName.CUSTOM)
FEATURE_ROWS = 200
"""Rows that a bucket needs for its features to be shown one by one: of fewer, 20 cells tell nothing but noise
(without drift a PSI of 200 rows is about 0.1, of 40 rows 0.5).
"""


def docs_of(
    memory: MetricMemory,
    model: str,
    tier: Millis,
    rows: Iterable[PartRow],
    baseline: Baseline | None,
    settings: ModelSettings,
    base: Millis,
    *,
    labels_alone: bool = False,
) -> list[MetricDoc]:
    """The metric documents of every group and bucket of a tier, from all their parts; with `labels_alone`
    only what reads labels has changed, and the rows of features stay as they are.

    Features have rows of their own from the hour on, where a bucket has enough rows to say something of them,
    and only there is drift of any kind computed; metrics that read labels begin at the tier that labels are
    summarised at.

    A document's version is the sum of the fingerprints that it was computed from, within the baseline's
    generation, so that a stale worker's metrics are refused as its summaries are. A feature's row is not
    computed from labels.
    """
    edges = baseline.edges.hash if baseline else ""
    parts: dict[tuple[Millis, Group], dict[PartName, PartRow]] = defaultdict(dict)
    for row in rows:
        parts[row.key.bucket, row.key.group][row.key.part] = row
    wanted = frozenset(PartName) - (frozenset() if baseline else {PartName.CELLS})
    generation = baseline.generation if baseline else 0
    docs: list[MetricDoc] = []
    for (bucket, group), held in sorted(parts.items()):
        if PartName.CORE not in held:
            continue
        summary = bucket_summary({name: row.part for name, row in held.items()}, wanted)
        context = context_for(settings, baseline, group, tier)
        features = tier >= HOUR and summary.rows >= FEATURE_ROWS
        unlabelled = {name: row.version for name, row in held.items() if name not in _LATER}
        made_of_own = (settings.own.key, tuple(settings.own.metrics)) if PartName.CUSTOM in held else ()
        compute = partial(measure, summary, context, reads_labels=False, features=features)
        metrics: Sequence[Metric]
        if tier < label_tier(base):
            metrics = compute()
        else:
            key, made_of = (model, tier, bucket, group), (unlabelled, generation, edges, made_of_own)
            if labels_alone:
                metrics = memory.get(key, made_of, compute)
            else:
                metrics = compute()
                memory.keep(key, made_of, metrics)
            of_labels = measure(summary, context, reads_labels=True, features=features)
            metrics = [*metrics, *_as_stored(of_labels, settings)]
        # Without custom, whose fingerprint is that of core: else a metric that is no longer wanted would
        # leave versions behind that no later count reaches.
        counted = [row.version for name, row in held.items() if name is not PartName.CUSTOM]
        version = (generation << EPOCH_SHIFT) + sum_versions(counted)
        of_rows = (generation << EPOCH_SHIFT) + sum_versions(unlabelled.values())
        docs += [
            replace(doc, version=of_rows) if doc.feature else doc
            for doc in metric_docs(model, group, Window(bucket, bucket + tier), version, metrics)
        ]
    return docs


def _as_stored(metrics: list[Metric], settings: ModelSettings) -> list[Metric]:
    """What is stored does not change while nothing happens, so it cannot know when rows without a label begin
    to count as negative: it says so. Where only some rows ever get a label, it says which share."""
    if part := settings.labels.speaks_of:
        return [
            replace(m, reason=part)
            if m.value is not None and m.reason is None and lookup(m.name).label_based
            else m
            for m in metrics
        ]
    age = settings.labels.negative_after
    if age is None:
        return metrics
    reason = f"of labelled rows; those without a label count as negative from {format_duration(age)} on"
    return [
        replace(m, reason=reason) if m.value is not None and counts_negatives(lookup(m.name)) else m
        for m in metrics
    ]


def metric_docs(
    model: str, group: Group, window: Window, version: int, metrics: Sequence[Metric]
) -> list[MetricDoc]:
    """One scalar document, and one row a feature."""
    scalars: dict[str, Json] = {}
    by_feature: dict[str, dict[str, Json]] = defaultdict(dict)
    for m in metrics:
        feature = m.labels.get("feature")
        if feature is None:
            scalars[m.key] = metric_json(m)
        else:
            rest = Metric(m.name, None, 0, {k: v for k, v in m.labels.items() if k != "feature"})
            by_feature[feature][rest.key] = metric_json(m)
    docs = [MetricDoc(model, group, window, version, scalars)]
    docs += [
        MetricDoc(model, group, window, version, values, feature) for feature, values in by_feature.items()
    ]
    return docs


def metric_json(metric: Metric) -> Json:
    return {
        "value": metric.value,
        "n": metric.n,
        "stderr": metric.stderr,
        "verdict": metric.verdict.value if metric.verdict else None,
        "reason": metric.told,
    }


def label_horizon(
    reader: SummaryReader,
    settings: ModelSettings,
    model: str,
    known: ModelFeed,
    now: Millis,
) -> Millis:
    """Up to when the model's labels are mature: rules and cohorts on labels end here (STATISTICS "Labels
    late").

    Days up to two days ago, then hours; base buckets of the last two hours are looked at only where all of
    those are mature: their labels are counted in the logs.
    """
    horizon = coarse_horizon(reader, settings, model, known, now)
    if horizon < now:
        return horizon
    reader.load(list(horizon_asks(reader, model, known, now, fine=True)))
    return _horizon(reader, settings, model, known, now, fine=True)


def coarse_horizon(
    reader: SummaryReader, settings: ModelSettings, model: str, known: ModelFeed, now: Millis
) -> Millis:
    """The same as far as days and hours tell; `now` where they are all mature."""
    return _horizon(reader, settings, model, known, now, fine=False)


def _horizon(
    reader: SummaryReader,
    settings: ModelSettings,
    model: str,
    known: ModelFeed,
    now: Millis,
    *,
    fine: bool,
) -> Millis:
    spans = _horizon_spans(known, now, fine=fine)
    buckets = [cohort for span in spans for cohort in reader.cohorts(model, span)]
    horizon = negatives.mature_through(settings.labels, buckets, now)
    # After the newest rows there is nothing whose labels could be missing.
    horizon = now if horizon >= max((b.end for b in buckets), default=0) else horizon
    age = settings.labels.negative_after
    if age is not None and age > MATURITY_SPAN - DAY and known.last + known.base > now - age:
        return min(horizon, floor(now - age, label_tier(known.base)))  # older cohorts were not looked at
    return horizon


def horizon_asks(
    reader: SummaryReader, model: str, known: ModelFeed, now: Millis, *, fine: bool = False
) -> Iterator[Ask]:
    """What `label_horizon` reads first; with `fine`, what it may read then. What was read before is not."""
    for span in _horizon_spans(known, now, fine=fine):
        for window in reader.unread_cohorts(model, span):
            for part in (PartName.CORE, PartName.LABELS):
                yield Ask(model, span.tier, window, part, "", ())


def _horizon_spans(known: ModelFeed, now: Millis, *, fine: bool) -> Iterator[Span]:
    base = known.base
    start = max(floor(known.first, base), floor(now - MATURITY_SPAN, DAY))
    day_end = max(floor(now - 2 * DAY, DAY), floor(start, DAY))
    hour_end = max(floor(now - 2 * HOUR, HOUR), day_end)
    lacking = [known.missing(PartName.CORE), known.missing(PartName.LABELS)]

    def unmade(tier: Millis, bucket: Millis) -> bool:
        return any(lacks(tier, bucket) for lacks in lacking)

    spans = [(DAY, floor(start, DAY), day_end), (HOUR, day_end, hour_end)]
    if fine:
        spans.append((base, hour_end, floor(now, base)))
    for coarsest, begin, end in spans:
        if begin < end:
            yield from tile(Window(floor(begin, base), floor(end, base)), base, unmade, coarsest)
