"""The reliability curve of a model over a span of time, for pages: what stands behind `performance.ece`."""

from collections.abc import Sequence

from kedge.analysis.calibration import Bin
from kedge.analysis.reading import Context, Reading
from kedge.pipeline.baselines import baseline_in_use
from kedge.pipeline.context import Pipeline, settings_of
from kedge.pipeline.feed import load_feed
from kedge.pipeline.measure import context_for, label_horizon
from kedge.pipeline.negatives import Negatives
from kedge.pipeline.query import model_feed, summed
from kedge.sketch import Summary
from kedge.store.base import Group, Grouping, Json
from kedge.windows import Millis, Window, ceil, floor, iso


def reliability_rows(
    pipe: Pipeline,
    model: str,
    *,
    start: Millis | None = None,
    end: Millis | None = None,
    by: Sequence[str] = (),
    bins: int,
    now: Millis,
) -> list[Json]:
    """One curve a group, over buckets from `start` to `end` (by default all), beside that of the baseline.

    `reason` is `provisional` where labels are still to come, or says why there is no curve.
    """
    model_feed(pipe, model)
    feed = load_feed(pipe.store.state)
    known = feed.models[model]
    first = known.first if start is None else start
    last = known.last + known.base if end is None else end
    window = Window(floor(first, known.base), max(ceil(last, known.base), ceil(first, known.base)))
    grouping: Grouping = tuple(sorted(set(by)))
    settings, baseline = settings_of(pipe, model), baseline_in_use(pipe.store.state, model)
    reader = pipe.reading(feed)
    provisional = window.end > label_horizon(reader, settings, model, known, now)
    negatives = Negatives.of(settings, known.base, now)

    def against(group: Group) -> Context:
        plain = context_for(settings, baseline, group, window.length)
        return negatives.context(plain, baseline) if negatives else plain

    def read(part: Window) -> dict[Group, Summary]:
        return summed(pipe, reader, model, known, part, grouping)

    groups = read(window)
    contexts = {group: against(group) for group in groups}
    if negatives is not None:
        groups = negatives.counted(window, groups, lambda group: contexts[group].reference, read)
    rows = []
    for group, summary in sorted(groups.items()):
        context = contexts[group]
        found = Reading(summary, context).reliability(bins)
        before = Reading(context.reference, context).reliability(bins) if context.reference else None
        reason = found if isinstance(found, str) else "provisional" if provisional else None
        rows.append(
            {
                "window_start": iso(window.start),
                "window_end": iso(window.end),
                "labels": dict(group),
                "of": settings.positive_class or "predicted class",
                "bins": [] if isinstance(found, str) else [_bin_json(b) for b in found],
                "baseline": None
                if before is None or isinstance(before, str)
                else [_bin_json(b) for b in before],
                "reason": reason,
            }
        )
    return rows


def _bin_json(held: Bin) -> Json:
    return {
        "low": held.low,
        "high": held.high,
        "n": held.n,
        "score": held.score,
        "rate": held.rate,
        "interval": list(held.interval),
    }
