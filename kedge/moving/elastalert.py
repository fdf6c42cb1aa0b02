"""Rules of ElastAlert2 as kedge's. Pure.

ElastAlert2 counts the events that a query finds; kedge counts rows once and judges the counts. Where the
query finds every row of a model, the rule reads what is counted anyway (`volume.count`, `errors.rate`,
`latency.p95`); else a metric with a `where`, which kedge.yml must define (`Translated.metrics`).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kedge.alerting.new_value import check_field
from kedge.errors import BadInput
from kedge.moving.elastalert_rule import BUFFER, TheirRule, length_of, listed, whole
from kedge.moving.fields import LATENCY, MODEL, Options
from kedge.moving.filters import exactly, one_of, read_filter
from kedge.moving.report import Fields, Names, NotPossible, Translated, translate_each
from kedge.windows import MINUTE, format_duration
from kedge.yamlfile import YamlError, parse_yaml

DIFFERENT = (
    "Windows end at whole steps, a 24th of their length apart (a minute at least); ElastAlert2's at events.",
    "An alert fires once and stays until its window is quiet; ElastAlert2 sends one a match and counts anew.",
    "Windows are of what is stored: a restart in the middle of one loses nothing, and late rows are counted.",
    "A spike of 0 over 0 never fires.",
    "`realert` and `aggregation` are of who is told: `repeat_interval` and `group_wait` in notify.yml.",
    "`index` says nothing: rules watch models. Logs that others write are read as sources (docs/sources.md).",
)
"""What is decided otherwise for all rules, on purpose; docs/moving-in.md tells why."""

_MEANS = {
    LATENCY: "latency.mean",
    "prediction.probability": "confidence.mean",
    "prediction.entropy": "entropy.mean",
    "outcome.log_loss": "performance.log_loss",
    "outcome.brier": "performance.brier",
    "outcome.abs_error": "performance.mae",
    "outcome.error": "performance.bias",
    "outcome.correct": "performance.accuracy",
}
"""Means that are counted for every model."""
_TEXT_FIELDS = ("segment.", "features.cat.", "prediction.class", "error.type", "model.", "service.", "host.")
_FAILED = ("error.type:*", "event.outcome:failure")


def import_elastalert(files: Mapping[str, str], options: Options) -> list[Translated]:
    """Rules by the name of their file. The tool's own configuration may be among them: what it sets for all
    rules is taken from it. Never raises for what a file holds."""
    read: dict[str, Mapping[str, Any]] = {}
    broken: list[Translated] = []
    for name, text in files.items():
        try:
            data = parse_yaml(text, name).data
        except YamlError as e:
            broken.append(Translated(name, name, why=str(e), instead="write it as YAML, and try again"))
            continue
        if isinstance(data, Mapping) and data:
            read[name] = data
    shared: dict[str, Any] = {}
    for data in read.values():
        if "type" not in data and ("rules_folder" in data or "run_every" in data):
            shared |= {k: data[k] for k in ("buffer_time", "realert", "aggregation") if k in data}
    taken = Names()
    rules = {name: data for name, data in read.items() if "type" in data}

    def sources() -> Iterator[tuple[Translated, Callable[[Translated], None]]]:
        for name, data in rules.items():
            one = Translated(str(data.get("name", name)), name)
            yield one, TheirRule(_KINDS, data, shared, options, taken).fill

    return broken + translate_each(sources(), options.defaults)


# --- the types ----------------------------------------------------------------------------------------------


def _any(rule: TheirRule) -> None:
    rule.out.differs.append(
        "one alert while events come, each of five minutes' rows, instead of one for every event"
    )
    rule.add(metric=rule.rows(), window=rule.window(5 * MINUTE), above=0)


def _frequency(rule: TheirRule) -> None:
    least = rule.number("num_events")
    if least is None or least < 1:
        raise NotPossible("`num_events` must be 1 or more", "say it, and import it again")
    window = rule.window()
    rule.out.same.append(f"fires with {least:g} events in {window}: `above: {_one_less(least):g}`")
    rule.add(metric=rule.rows(), window=window, above=_one_less(least))


def _flatline(rule: TheirRule) -> None:
    least = rule.number("threshold")
    if least is None or least <= 0:
        raise NotPossible("`threshold` must be more than 0", "say it, and import it again")
    window, out = rule.window(), rule.out
    plain = not rule.filter.terms
    if rule.get("forget_keys") is False or rule.data.get("forget_keys"):
        out.differs.append(
            "forget_keys: a value is missed for as long as `history` of kind absence (7d) knows it"
        )
    if plain and least <= 1:
        out.same.append(f"fires with no rows in {window}: kind absence")
        if rule.by:
            out.differs.append(
                "a value is missed where it had rows in the 7d before (`history`), not since a start"
            )
        rule.add(kind="absence", window=window)
        return
    out.same.append(f"fires with fewer than {least:g} events in {window}")
    out.differs.append("the first window of a model, or of a value, is judged too; ElastAlert2 waits for one")
    rule.add(metric=rule.rows(), window=window, below=whole(least))
    if rule.by:
        if not plain:
            out.differs.append("a value without any row in the window is not judged: kind absence misses it")
            return
        out.differs.append("a value without any rows has a rule of its own, of kind absence")
        rule.add("-gone", kind="absence", window=window)


def _spike(rule: TheirRule) -> None:
    definition = None
    if rule.kind == "spike_aggregation":
        metric, definition = _aggregated(rule, rule.need("metric_agg_key"), rule.need("metric_agg_type"))
    elif field_value := rule.get("field_value"):
        metric, definition = _aggregated(rule, field_value, "avg")
    else:
        metric = rule.rows()
    times = rule.number("spike_height")
    if times is None or times <= 1:
        raise NotPossible("`spike_height` must be more than 1: at 1 everything is a spike", "say a ratio")
    word = str(rule.need("spike_type"))
    side = {"up": "rise", "down": "fall", "both": "change"}.get(word)
    if side is None:
        raise NotPossible(f"`spike_type: {word}` is none of up, down, both", "say one of them")
    window = rule.window()
    out = rule.out
    out.same.append(f"the window before is the reference: `compare: {{to: previous}}`, `{side}: {times:g}x`")
    out.differs.append(f"at exactly {times:g} times it does not fire: bounds are strict")
    fields: Fields = {"metric": metric, "window": window, "compare": {"to": "previous"}, side: f"{times:g}x"}
    if (least := rule.number("threshold_cur")) is not None:
        fields["min_count"] = int(least)
        out.same.append(f"threshold_cur is `min_count: {int(least)}`")
    if (before := rule.number("threshold_ref")) is not None:
        out.lost.append(
            f"threshold_ref {before:g}: a reference has no least size here; "
            "`compare: {to: history, window: 24h}` is not upset by one quiet window"
        )
    if not rule.get("alert_on_new_data") and definition is None:
        out.differs.append(
            "rows after a window without any are a spike from nothing; ElastAlert2 waits for two windows"
        )
    if definition is not None:
        fields |= {"evidence": "point"}
    rule.add(**fields)


def _aggregation(rule: TheirRule) -> None:
    low, high = rule.number("min_threshold"), rule.number("max_threshold")
    if low is None and high is None:
        raise NotPossible("it has neither `max_threshold` nor `min_threshold`", "say one of them")
    metric, unit = _aggregated(rule, rule.need("metric_agg_key"), rule.need("metric_agg_type"))
    key = "bucket_interval" if "bucket_interval" in rule.data else "buffer_time"
    if key not in rule.data and key not in rule.shared:
        rule.out.differs.append(
            f"buffer_time is not in these files: {format_duration(BUFFER)} is taken as the window"
        )
    window = rule.window(BUFFER, key)
    if rule.number("min_doc_count") is not None:
        rule.out.same.append("min_doc_count is `min_count`")
        rule.base["min_count"] = int(rule.number("min_doc_count") or 0)
    _bounds(rule, rule.point(metric), window, low, high, lambda v: _in_unit(v, unit))


def _cardinality(rule: TheirRule) -> None:
    low, high = rule.number("min_cardinality"), rule.number("max_cardinality")
    if low is None and high is None:
        raise NotPossible("it has neither `max_cardinality` nor `min_cardinality`", "say one of them")
    counted = rule.names.field(str(rule.need("cardinality_field")))
    metric = rule.metric("values", {**rule.where(), "stat": "distinct", "field": counted})
    rule.out.same.append(f"counts the values of {counted} in the window, above or below the same numbers")
    _bounds(rule, {"metric": metric}, rule.window(), low, high, whole)


def _percentage(rule: TheirRule) -> None:
    low, high = rule.number("min_percentage"), rule.number("max_percentage")
    if low is None and high is None:
        raise NotPossible("it has neither `max_percentage` nor `min_percentage`", "say one of them")
    matched = read_filter(rule.need("match_bucket_filter"), rule.names)
    terms = [*matched.terms]
    if matched.version:
        terms.append(f"model.version:{matched.version}")
    fields: Fields
    if not rule.filter.terms and len(terms) == 1 and terms[0] in _FAILED:
        fields = {"metric": "errors.rate"}
    elif not rule.filter.terms and len(terms) == 1 and (cls := exactly(terms[0], "prediction.class")):
        fields = {"metric": "class.share", "class": cls}
        rule.out.same.append("the share is of rows with a predicted class")
    else:
        part = rule.metric("matched", {**rule.where(*terms), "stat": "count"})
        fields = {"metric": rule.metric("share", {"ratio": [part, rule.rows()]})}
    if (least := rule.number("min_denominator")) is not None:
        fields["min_count"] = int(least)
        rule.out.same.append(f"min_denominator is `min_count: {int(least)}`")
    fields |= rule.point(fields["metric"])
    key = "bucket_interval" if "bucket_interval" in rule.data else "buffer_time"
    if key not in rule.data and key not in rule.shared:
        rule.out.differs.append(
            f"buffer_time is not in these files: {format_duration(BUFFER)} is taken as the window"
        )
    _bounds(rule, fields, rule.window(BUFFER, key), low, high, lambda v: f"{v:g}%")


def _new_term(rule: TheirRule) -> None:
    wanted = listed(rule.get("fields") or rule.get("query_key"))
    if not wanted:
        raise NotPossible("it names no `fields`", "say them, and import it again")
    if any(not isinstance(name, str) for name in wanted):
        raise NotPossible(
            "several fields together are new as a pair",
            "log the pair as one segment, `kind: new_value` on it",
        )
    if rule.filter.terms:
        raise NotPossible(
            "new values are looked for in all rows of a model, not in those of a filter",
            "`kind: new_value` without the filter, or log the field for these rows alone",
        )
    rule.used |= {"fields", "query_key"}
    rule.base = {k: v for k, v in rule.base.items() if k != "by"}
    history = format_duration(length_of(rule.get("terms_window_size", {"days": 30}), "terms_window_size"))
    rule.used |= {"window_step_size"}
    rule.out.same.append(
        f"a value that was not there in the {history} before is new, with an alert of its own"
    )
    rule.out.differs.append("its alert stays for an hour (`window`); at a time at most 20 have one")
    if rule.get("alert_on_missing_field"):
        rule.out.lost.append("alert_on_missing_field: write `metric: quality.missing` for the feature")
    for i, name in enumerate(wanted):
        found = _value_field(rule, str(name))
        suffix = "" if len(wanted) == 1 else f"-{i + 1}"
        rule.add(suffix, kind="new_value", field=found, history=history, window="1h", by=["value"])


def _change(rule: TheirRule) -> None:
    """Of a service or a host, a change is mostly to a value that was never seen."""
    keys, compared = listed(rule.need("query_key")), listed(rule.need("compare_key"))
    instead = (
        "`kind: new_value` for values never seen, `class.share` or `kind: drift` for how often each is there"
    )
    if rule.filter.terms:
        raise NotPossible("single rows are not followed, and not those of a filter", instead)
    try:
        by = [rule.names.dimension(str(key)) for key in keys]
        fields = [_value_field(rule, str(name)) for name in compared]
    except NotPossible as e:
        raise NotPossible(
            f"rows are counted, not followed one by one: what each had before is not known ({e.why})",
            instead,
        ) from None
    rule.out.differs.append(
        "fires for a value that was not seen in 30d (`history`); going back to an older one is none"
    )
    rule.get("ignore_null")
    for i, found in enumerate(fields):
        suffix = "" if len(fields) == 1 else f"-{i + 1}"
        split = ["value", *(name for name in by if name not in (MODEL, found))]
        rule.add(suffix, kind="new_value", field=found, history="30d", window="1h", by=split)


def _listing(rule: TheirRule) -> None:
    field = rule.names.field(str(rule.need("compare_key")))
    values = [str(value) for value in listed(rule.need(rule.kind))]
    if files := [value for value in values if value.startswith("!file")]:
        raise NotPossible(
            f"{', '.join(files)}: the list is in another file", "write its entries into the rule"
        )
    black = rule.kind == "blacklist"
    if black and field == "prediction.class" and len(values) == 1 and not rule.filter.terms:
        rule.out.same.append(f"rows of class {values[0]}: a share above 0")
        fields: Fields = {"metric": "class.share", "class": values[0], "evidence": "point"}
    else:
        term = one_of(field, values)
        more = (term,) if black else (f"NOT {term}", *((f"{field}:*",) if rule.get("ignore_null") else ()))
        fields = {"metric": rule.rows(*more)}
    rule.out.differs.append(
        "one alert while such rows come, each of five minutes' rows, instead of one for every event"
    )
    rule.add(**fields, window=rule.window(5 * MINUTE), above=0)


_KINDS: Mapping[str, Callable[[TheirRule], None]] = {
    "any": _any,
    "frequency": _frequency,
    "flatline": _flatline,
    "spike": _spike,
    "spike_aggregation": _spike,
    "metric_aggregation": _aggregation,
    "cardinality": _cardinality,
    "percentage_match": _percentage,
    "new_term": _new_term,
    "change": _change,
    "blacklist": _listing,
    "whitelist": _listing,
}


# --- small things -------------------------------------------------------------------------------------------


def _aggregated(rule: TheirRule, key: object, how: object) -> tuple[str, str]:
    """The metric of an aggregation on a field, and that field's unit: `ns` or `ms` of a time, else empty."""
    theirs, how = str(key), str(how)
    mapped = rule.names.known(theirs)
    unit = "ns" if mapped == "event.duration" else ""
    found = LATENCY if mapped in ("event.duration", "latency") else rule.names.field(theirs, later=True)
    unit = unit or ("ms" if found == LATENCY else "")
    if theirs != found and found == LATENCY and unit == "ms":
        rule.out.differs.append(f"{theirs} is taken to count milliseconds: latencies do here")
    percent = rule.get("percentile_range") if how == "percentiles" else None
    if how in ("min", "max"):
        raise NotPossible(
            f"the {how} of a window is one row, and rows are counted by cells",
            "percentiles: `metric_agg_type: percentiles` with `percentile_range: 99`",
        )
    if not rule.filter.terms:
        if how == "avg" and found in _MEANS:
            if found.startswith("outcome."):
                rule.out.differs.append("windows of labels end where their labels have come in")
            return _MEANS[found], unit
        if found == LATENCY and percent in (50, 95, 99):
            rule.out.same.append(f"percentile {percent} of {theirs}, within 2.5 %")
            return f"latency.p{percent}", unit
    if found != LATENCY:
        rule.names.field(theirs)  # labels come after a row was counted: only those metrics have them
    if how in ("avg", "sum", "percentiles") and found.startswith(_TEXT_FIELDS):
        raise NotPossible(f"{found} is text", "`metric_agg_type: cardinality`, or a field with numbers")
    if how == "value_count":
        return rule.rows(f"{found}:*"), ""
    stat = {"avg": "mean", "sum": "sum", "cardinality": "distinct"}.get(how)
    if percent in (50, 95, 99):
        stat = f"p{percent}"
    if stat is None:
        raise NotPossible(
            f"no metric is the {how}{f' {percent}' if percent else ''} of a field",
            "count, sum, mean, distinct, or the percentiles 50, 95 and 99",
        )
    return rule.metric(
        stat, {**rule.where(), "stat": stat, "field": found}
    ), unit if stat != "distinct" else ""


def _bounds(
    rule: TheirRule,
    fields: Fields,
    window: str,
    low: float | None,
    high: float | None,
    write: Callable[[float], Any],
) -> None:
    """A rule for each end: one bound a rule."""
    both = low is not None and high is not None
    if both:
        rule.out.same.append("it has two bounds, and so two rules")
    if high is not None:
        rule.add("-high" if both else "", **fields, window=window, above=write(high))
    if low is not None:
        rule.add("-low" if both else "", **fields, window=window, below=write(low))


def _in_unit(value: float, unit: str) -> Any:
    match unit:
        case "ns":
            return f"{value / 1e6:g}ms"
        case "ms":
            return f"{value:g}ms"
        case _:
            return whole(value)


def _value_field(rule: TheirRule, name: str) -> str:
    known = rule.names.known(name)
    try:
        return check_field(known)
    except BadInput as e:
        raise NotPossible(e.reason, f"say which field it is: `--map {name}=segment.NAME`") from None


def _one_less(least: float) -> float:
    """At least 50 is above 49; of whole things at least 49.5 is that too."""
    return whole(-(-least // 1) - 1)
