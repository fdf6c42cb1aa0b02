"""Answers for people: the series of a metric over tumbling windows, and the alerts as they stand."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec

from kedge.alerting.finding import AlertState, Status
from kedge.analysis.arrived import NAMES as ARRIVALS
from kedge.analysis.catalogue import AGED, check_name, lookup
from kedge.analysis.measure import Context, measure
from kedge.analysis.metric import Metric
from kedge.analysis.stuck import STUCK
from kedge.errors import BadInput
from kedge.pipeline.arrived import arrivals_of, arrived_in
from kedge.pipeline.baselines import baseline_in_use
from kedge.pipeline.context import Pipeline, settings_of
from kedge.pipeline.dirty import ModelFeed
from kedge.pipeline.feed import load_feed
from kedge.pipeline.lateness import Lateness
from kedge.pipeline.measure import context_for, label_horizon
from kedge.pipeline.negatives import PARTS, Negatives
from kedge.pipeline.reader import SummaryReader
from kedge.pipeline.schema import features_of
from kedge.pipeline.silences import all_silences, covering
from kedge.pipeline.spooled import spooled_since
from kedge.pipeline.summaries import bucket_summary
from kedge.pipeline.summarise import computed_in
from kedge.pipeline.tails import RunsByGroup, runs_in
from kedge.sketch import AnyPart, PartName, Summary, total
from kedge.store.base import Group, Grouping, Json, SummaryRequest
from kedge.windows import DAY, Millis, Window, ceil, floor, format_duration, iso, tiers_from

MAX_WINDOWS = 10_000


def model_feed(pipe: Pipeline, model: str) -> ModelFeed:
    """What is known of a model; raises BadInput with the known names for one that has never logged."""
    models = load_feed(pipe.store.state, pipe.feeds).models
    if model not in models:
        known = ", ".join(sorted(models)) or "none yet"
        raise BadInput(
            f'no model "{model}" has been summarised (known: {known}); has kedge tick run since its import?'
        )
    return models[model]


def metric_series(
    pipe: Pipeline,
    model: str,
    *,
    names: Sequence[str] = (),
    width: Millis = DAY,
    start: Millis | None = None,
    end: Millis | None = None,
    by: Sequence[str] = (),
    now: Millis,
) -> Iterator[Json]:
    """One row per window, group and metric, in the form of DESIGN §15; windows tumble, aligned to the epoch.

    Label metrics of a window that has not matured carry their value with the reason `provisional`, those of a
    model of which only some rows ever get a label with the share of them; a window that is not summarised to
    its end yet says `incomplete`. A grouping that is not summarised is counted from
    the logs.
    """
    known = model_feed(pipe, model)
    if width % known.base:
        raise BadInput(
            f"window {format_duration(width)} is not a multiple of {format_duration(known.base)}, "
            f"the base bucket of {model}"
        )
    for name in names:
        check_name(name)
    first = floor(known.first if start is None else start, width)
    last = ceil(known.last + known.base if end is None else end, width)
    if (last - first) // width > MAX_WINDOWS:
        raise BadInput(
            f"{(last - first) // width} windows; at most {MAX_WINDOWS} at once: ask for a shorter range"
        )
    grouping: Grouping = tuple(sorted(set(by)))
    settings, baseline = settings_of(pipe, model), baseline_in_use(pipe.store.state, model)
    feed = load_feed(pipe.store.state, pipe.feeds)
    known = feed.models[model]
    reader = pipe.reading(feed)
    mature = label_horizon(reader, settings, model, known, now)
    spooled = (feed.spooled, spooled_since(pipe.store.state, pipe.wall()))
    complete = min([feed.read_at - settings.lag, *(since for since in spooled if since is not None)])
    late = Lateness(reader, model, known, now, mature, settings.labels.expected, frozenset(names))
    stored = grouping if _summarised(known, grouping) else None
    negatives = Negatives.of(settings, known.base, now)

    tells = not grouping and (not names or not set(ARRIVALS).isdisjoint(names))
    arrivals = arrivals_of(pipe.store.state, model) if tells else None

    @cache
    def context(group: Group) -> Context:
        plain = context_for(settings, baseline, group, width)
        return negatives.context(plain, baseline) if negatives else plain

    def part(window: Window) -> dict[Group, Summary]:
        return summed(pipe, reader, model, known, window, grouping)

    def runs(window: Window) -> RunsByGroup | None:
        """Of the newest window, unless they are asked for: each takes reads of its own."""
        if stored is None or (STUCK not in names and (names or window.end < last)):
            return None
        end = max(min(window.end, floor(complete, known.base)), window.start)
        edges = baseline.edges if baseline else None
        return runs_in(reader, model, known, Window(window.start, end), grouping, edges)

    for window, groups in tumbling(pipe, reader, model, known, Window(first, last), width, grouping):
        at_end = runs(window)
        incomplete = window.end > complete or known.incomplete_in(window)
        held = [(group, groups[group]) for group in sorted(groups) if groups[group].rows]
        by_age = late.metrics(window, held, stored)
        if negatives is not None:
            held = list(negatives.counted(window, dict(held), lambda g: context(g).reference, part).items())
        for group, summary in held:
            of_group = replace(
                context(group),
                runs=None if at_end is None else at_end.get(group, {}),
                arrived=None if arrivals is None else arrived_in(arrivals, window),
            )
            for metric in (*measure(summary, of_group), *by_age[group]):
                if names and metric.name not in names:
                    continue
                row = metric_row(metric, window, group)
                late_labels = metric.name not in AGED and lookup(metric.name).label_based
                marks = [settings.labels.speaks_of] if late_labels else []
                if window.end > mature and late_labels:
                    marks.append("provisional")
                elif incomplete:
                    marks.append("incomplete")
                if metric.reason is None and any(marks):
                    row["reason"] = "; ".join(mark for mark in marks if mark)
                yield row


def metric_row(metric: Metric, window: Window | None, group: Group = ()) -> Json:
    """A metric as `--json` prints it; `compare` has no window."""
    row: Json = {}
    if window is not None:
        row = {"window_start": iso(window.start), "window_end": iso(window.end)}
    return row | {
        "metric": metric.name,
        "labels": dict(group) | metric.labels,
        "value": metric.value,
        "n": metric.n,
        "stderr": metric.stderr,
        "verdict": metric.verdict.value if metric.verdict else None,
        "reason": metric.told,
    }


def summed(
    pipe: Pipeline,
    reader: SummaryReader,
    model: str,
    known: ModelFeed,
    window: Window,
    grouping: Grouping,
) -> dict[Group, Summary]:
    """The summaries, without cells, of the groups of one window that need not be a multiple of its length."""
    if _summarised(known, grouping):
        return reader.window(model, known.base, window, PARTS, grouping)
    aligned = [tier for tier in tiers_from(known.base) if not (window.start % tier or window.end % tier)]
    found: dict[Group, list[Summary]] = {}
    for _, groups in tumbling(pipe, reader, model, known, window, max(aligned), grouping):
        for group, summary in groups.items():
            found.setdefault(group, []).append(Summary(summary.core, None, summary.labels))
    return {group: total(held) for group, held in found.items()}


def _summarised(known: ModelFeed, grouping: Grouping) -> bool:
    return tuple(grouping) in computed_in(known.computed).groupings


def tumbling(
    pipe: Pipeline,
    reader: SummaryReader,
    model: str,
    known: ModelFeed,
    span: Window,
    width: Millis,
    grouping: Grouping,
) -> Iterator[tuple[Window, dict[Group, Summary]]]:
    """The groups of each window of a width; counted in the logs where the grouping is not summarised."""
    baseline = baseline_in_use(pipe.store.state, model)
    edges = baseline.edges if baseline else None
    own = settings_of(pipe, model).own
    stored = _summarised(known, grouping)
    windows = [Window(t, t + width) for t in range(span.start, span.end, width)]
    if stored:
        # One read a tier for the whole span instead of one a window.
        for tier in tiers_from(known.base):
            if width % tier == 0:
                for part in PartName:
                    on = {PartName.CELLS: edges.hash if edges else None, PartName.CUSTOM: own.key or None}
                    if (key := on.get(part, "")) is not None:
                        reader.parts(model, tier, span, part, key)
        for window in windows:
            yield (
                window,
                reader.window(model, known.base, window, frozenset(PartName), grouping, edges, own.key),
            )
        return
    features = features_of(pipe.store.state, model)
    request = SummaryRequest(
        model=model,
        window=span,
        bucket=width,
        parts=frozenset(PartName) - (frozenset() if edges else {PartName.CELLS}),
        groupings=(grouping,),
        edges=edges,
        numeric=features.numeric,
        categorical=features.categorical,
        invalid=features.invalid,
        attributions=features.attributions,
        measured=features.measured,
        probabilities=features.ranked,
        custom=own.definitions,
    )
    found: dict[Millis, dict[Group, dict[PartName, AnyPart]]] = {}
    for row in pipe.store.summarise(request):
        found.setdefault(row.key.bucket, {}).setdefault(row.key.group, {})[row.key.part] = row.part
    for window in windows:
        yield (
            window,
            {
                group: bucket_summary(parts, request.parts)
                for group, parts in found.get(window.start, {}).items()
            },
        )


def alert_rows(pipe: Pipeline, *, every: bool = False) -> list[Json]:
    """The alerts as `kedge alerts --json` prints them, worst first; the quiet ones only with `every`.

    An alert that a silence covers says so: `silenced` has its id, author, reason and end.
    """
    states = [msgspec.convert(s.value, AlertState) for s in pipe.store.alerts.find().values()]
    shown = [s for s in states if every or s.status is not Status.INACTIVE]
    silences, book, now = all_silences(pipe.store.state), pipe.rules(), pipe.wall()
    return [
        alert_row(state) | ({"silenced": silence} if silence is not None else {})
        for state in sorted(shown, key=_urgency)
        for silence in [covering(state, silences, book, now)]
    ]


def _urgency(state: AlertState) -> tuple[Any, ...]:
    order = (
        Status.FIRING,
        Status.ACKNOWLEDGED,
        Status.PENDING,
        Status.NO_DATA,
        Status.RESOLVED,
        Status.INACTIVE,
    )
    return (
        order.index(state.status),
        -(state.severity or 0),
        state.rule,
        state.model,
        sorted(state.group.items()),
    )


def alert_row(state: AlertState) -> Json:
    finding = state.finding
    severity = state.severity or (finding.severity if finding else None)
    return {
        "id": state.alert,
        "rule": state.rule,
        "model": state.model,
        "version": state.version,
        "group": state.group,
        "state": state.status.value,
        "severity": severity.word if severity else None,
        "since": iso(state.started) if state.started else None,
        "value": finding.value if finding else None,
        "bound": finding.bound if finding else None,
        "n": finding.n if finding else 0,
        "reason": finding.reason if finding else "",
        **({"muted_by": state.muted_by} if state.muted_by else {}),
    }


def history_rows(pipe: Pipeline, alert: str = "") -> list[Json]:
    """The transitions of one alert, or of all, oldest first."""
    events: Iterable[Json] = (s.value for s in pipe.store.events.find().values())
    chosen = [e for e in events if not alert or e.get("alert") == alert]
    return sorted(chosen, key=lambda e: (e.get("step", 0), e.get("decided", 0), e.get("id", "")))
