"""From summaries to numbers for people: the metrics of tumbling windows, and how far labels have matured."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from kedge.analysis.maturity import BucketLabels, mature_through
from kedge.analysis.measure import Context, measure
from kedge.analysis.metric import Metric
from kedge.config import ModelSettings
from kedge.pipeline.baselines import Baseline
from kedge.pipeline.summaries import SummaryReader, bucket_summary
from kedge.sketch import Core, Labels, PartName
from kedge.store.base import EPOCH_SHIFT, Group, Json, MetricDoc, PartRow, Store, sum_versions
from kedge.windows import DAY, HOUR, Millis, Window, floor

MATURITY_SPAN = 60 * DAY
"""How far back labels are looked for: cohorts older than this count as mature."""


def context_for(settings: ModelSettings, baseline: Baseline | None, group: Group) -> Context:
    """What the metrics of one group are read against: its own reference, where the baseline has one."""
    return Context(
        positive_class=settings.positive_class,
        reference=baseline.summaries.get(group) if baseline else None,
        edges=baseline.edges if baseline else None,
    )


Key = tuple[str, Millis, Millis, Group]
FEATURE_ROWS = 200
"""Rows that a bucket needs for its features to be shown one by one: of fewer, 20 cells tell nothing but noise
(without drift a PSI of 200 rows is about 0.1, of 40 rows 0.5).
"""
MEMORY = 20_000
"""Buckets whose metrics are remembered, of all models: about 20 kB each with 25 features."""


@dataclass
class MetricMemory:
    """The metrics that do not rest on labels, as they were computed last.

    Labels trickle in for days, and each makes its bucket's document anew; drift, most of the cost, did not
    move.
    """

    _kept: OrderedDict[Key, tuple[object, list[Metric]]] = field(default_factory=OrderedDict)

    def get(self, key: Key, made_of: object, compute: Callable[[], list[Metric]]) -> list[Metric]:
        """What was computed of exactly this, else what `compute` gives."""
        kept = self._kept.get(key)
        if kept is None or kept[0] != made_of:
            kept = self._kept[key] = (made_of, compute())
        self._kept.move_to_end(key)
        if len(self._kept) > MEMORY:
            self._kept.popitem(last=False)
        return kept[1]


def write_metrics(
    store: Store,
    memory: MetricMemory,
    model: str,
    tier: Millis,
    rows: Iterable[PartRow],
    baseline: Baseline | None,
    settings: ModelSettings,
) -> None:
    """Compute and write the metric documents of every group and bucket of a tier, from all their parts.

    Features have rows of their own from the hour on, where a bucket has enough rows to say something of them.

    A document's version is the sum of the fingerprints that it was computed from, within the baseline's
    generation, so that a stale worker's metrics are refused as its summaries are.
    """
    edges = baseline.edges.hash if baseline else ""
    parts: dict[tuple[Millis, Group], dict[PartName, PartRow]] = defaultdict(dict)
    for row in rows:
        parts[row.key.bucket, row.key.group][row.key.part] = row
    wanted = frozenset(PartName) if baseline else frozenset({PartName.CORE, PartName.LABELS})
    generation = baseline.generation if baseline else 0
    docs: list[MetricDoc] = []
    for (bucket, group), held in sorted(parts.items()):
        if PartName.CORE not in held:
            continue
        summary = bucket_summary({name: row.part for name, row in held.items()}, wanted)
        context = context_for(settings, baseline, group)
        features = tier >= HOUR and summary.rows >= FEATURE_ROWS
        unlabelled = {name: row.version for name, row in held.items() if name is not PartName.LABELS}
        metrics = memory.get(
            (model, tier, bucket, group),
            (unlabelled, generation, edges),
            partial(measure, summary, context, reads_labels=False, features=features),
        )
        metrics = metrics + measure(summary, context, reads_labels=True)
        version = (generation << EPOCH_SHIFT) + sum_versions(row.version for row in held.values())
        bounds = Window(bucket, bucket + tier)
        docs += metric_docs(model, group, bounds, version, metrics)
    if docs:
        store.write_metrics(docs)


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
        "reason": metric.reason,
    }


def label_horizon(
    reader: SummaryReader, settings: ModelSettings, model: str, base: Millis, first: Millis, now: Millis
) -> Millis:
    """Up to when the model's labels are mature: rules and cohorts on labels end here (STATISTICS "Labels
    late").

    Days up to two days ago, then hours, then base buckets for the last two hours: as fine as is worth
    knowing.
    """
    start = max(floor(first, base), floor(now - MATURITY_SPAN, DAY))
    day_end = max(floor(now - 2 * DAY, DAY), floor(start, DAY))
    hour_end = max(floor(now - 2 * HOUR, HOUR), day_end)
    spans = [
        (max(DAY, base), floor(start, DAY), day_end),
        (max(HOUR, base), day_end, hour_end),
        (base, hour_end, floor(now, base)),
    ]
    buckets: list[BucketLabels] = []
    for tier, begin, end in spans:
        if begin >= end:
            continue
        window = Window(floor(begin, tier), floor(end, tier))
        cores = reader.parts(model, tier, window, PartName.CORE)
        labels = reader.parts(model, tier, window, PartName.LABELS)
        for bucket, groups in cores.items():
            core, held = groups.get(()), labels.get(bucket, {}).get((), Labels())
            if isinstance(core, Core) and isinstance(held, Labels):
                buckets.append(BucketLabels(bucket, bucket + tier, core.rows, held.rows, held.delay))
    horizon = mature_through(
        buckets, now, expected=settings.labels.expected, after=settings.labels.mature_after
    )
    # After the newest rows there is nothing whose labels could be missing.
    return now if horizon >= max((b.end for b in buckets), default=0) else horizon
