"""Two versions of a model compared when somebody asks: `kedge metrics M --compare-versions v7 v6`."""

from collections.abc import Sequence
from functools import reduce
from operator import add

from kedge.alerting.quantity import parse_quantity
from kedge.alerting.versions import MOST_ALPHA, OTHERS, check_comparable, margin_of
from kedge.analysis.measure import Context, metric
from kedge.analysis.versions import compare_versions
from kedge.errors import BadInput
from kedge.pipeline.baselines import baseline_in_use
from kedge.pipeline.context import Pipeline, settings_of
from kedge.pipeline.feed import load_feed
from kedge.pipeline.measure import label_horizon
from kedge.pipeline.query import model_feed, tumbling
from kedge.sketch import Summary
from kedge.store.base import Json
from kedge.windows import DAY, HOUR, Millis, Window, ceil, floor, iso

_LONG = 31 * DAY
"""Spans longer than this are read by the day."""


def version_row(
    pipe: Pipeline,
    model: str,
    name: str,
    candidate: str,
    reference: str = OTHERS,
    *,
    margin: str = "0%",
    cls: str | None = None,
    feature: str | None = None,
    start: Millis | None = None,
    end: Millis | None = None,
    now: Millis,
) -> Json:
    """The comparison of a metric from `start` (else the candidate's first row) on, at 99 % over all looks
    from that start; JSON-able. Raises BadInput.
    """
    info = check_comparable(name)
    allowed = margin_of(parse_quantity(margin), info)
    if candidate == reference:
        raise BadInput(f'"{candidate}" is compared with itself: name two versions')
    known = model_feed(pipe, model)
    settings, baseline = settings_of(pipe, model), baseline_in_use(pipe.store.state, model)
    feed = load_feed(pipe.store.state)
    reader = pipe.reading(feed)
    last = ceil(known.last + known.base if end is None else end, known.base)
    if info.label_based:
        last = min(last, label_horizon(reader, settings, model, known, now))
    first = known.first if start is None else start
    width = max(HOUR if last - first <= _LONG else DAY, known.base)
    span = Window(floor(first, width), max(ceil(last, width), floor(first, width)))
    ours: list[Summary] = []
    theirs: list[Summary] = []
    begun = None
    for window, groups in tumbling(pipe, reader, model, known, span, width, ("version",)):
        by_version = {dict(group)["version"]: summary for group, summary in groups.items()}
        if candidate in by_version:
            begun = window.start if begun is None else begun
            ours.append(by_version[candidate])
        if begun is not None or start is not None:
            others = (s for v, s in by_version.items() if v != candidate)
            theirs += others if reference == OTHERS else [s for v, s in by_version.items() if v == reference]
    if start is not None:
        begun = span.start
    context = Context(settings.positive_class, None, baseline.edges if baseline else None)
    found = compare_versions(
        info,
        metric(name, _sum(ours), context, cls=cls, feature=feature),
        metric(name, _sum(theirs), context, cls=cls, feature=feature),
        allowed,
        MOST_ALPHA,
        names=(candidate, "all others" if reference == OTHERS else reference),
    )
    return {"metric": name, "since": None if begun is None else iso(begun)} | found.detail


def _sum(held: Sequence[Summary]) -> Summary:
    return reduce(add, held) if held else Summary.zero()
