"""What an expression of PromQL reads, as a metric of kedge's with a window and a bound. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kedge.alerting.quantity import COUNT, MS, RATIO
from kedge.analysis.catalogue import METRICS
from kedge.errors import BadInput
from kedge.moving.fields import MODEL, Options, is_dimension
from kedge.moving.promql import COMPARES, Aggregate, Binary, Call, Node, Number, Selector, parse, selectors
from kedge.moving.report import Fields, NotPossible, Translated
from kedge.windows import DAY, HOUR, MINUTE, SECOND, WEEK, Millis, format_duration

INSTANT: Millis = 5 * MINUTE
"""The window of an expression without a range: as far back as Prometheus looks for a sample."""
LATENCY = "latency"
_QUANTILES = {0.5: "latency.p50", 0.95: "latency.p95", 0.99: "latency.p99"}
_FLIPPED = {">": "<", "<": ">", ">=": "<=", "<=": ">=", "==": "==", "!=": "!="}
_TARGETS = {
    *("job", "instance", "namespace", "cluster", "env", "environment"),
    *("pod", "container", "region_cluster"),
}
"""Labels that say where a sample was scraped."""
_LABELS = {"instance": "host", "host": "host", "service": "service", "job": "service", "version": "version"}
_LABELS |= {"model_version": "version", "model": MODEL, "model_name": MODEL}
_SUFFIXES = ("", "_bucket", "_sum", "_count", "_total")
ANEW = "write it anew on one of the metrics in docs/reference/metrics.md"


@dataclass(frozen=True)
class Condition:
    """One condition, as fields of a rule."""

    fields: Fields
    by: tuple[str, ...] = ()
    model: str = ""
    """Empty: that of the import; `*` where it splits by model."""
    version: str = ""


@dataclass(frozen=True)
class _Reading:
    """What one side of a comparison reads."""

    metric: str
    window: Millis = 0
    """0: it has no range."""
    factor: float = 1.0
    """A bound is to be multiplied by this to be one of the metric, in the metric's unit."""
    offset: Millis = 0
    by: tuple[str, ...] = ()
    model: str = ""
    version: str = ""
    labels: Fields = field(default_factory=dict)
    """`class` and `feature`."""
    aggregated: bool = False
    part: bool = False
    """Of a quotient that is a metric only as a whole."""

    @property
    def same(self) -> tuple[Any, ...]:
        """What two sides must have in common to be compared in time."""
        return self.metric, self.window, self.by, self.model, self.version, tuple(self.labels.items())


def condition_of(node: Node, out: Translated, options: Options) -> Condition:
    """A comparison with a number, or with itself some time ago; raises NotPossible."""
    if not (isinstance(node, Binary) and node.op in COMPARES):
        raise NotPossible(
            "it is no comparison: it would fire for every value there is", "compare it with a bound"
        )
    reader = _Reader(out, options)
    op, left, right = node.op, node.left, node.right
    if isinstance(left, Number):
        op, left, right = _FLIPPED[op], right, left
    if isinstance(right, Number):
        if isinstance(left, Binary) and left.op == "/" and _moved(left):
            now, before = reader.read(left.left), reader.read(left.right)
            return reader.compared(op, now, before, right.value)
        return reader.bounded(op, reader.read(left), right.value)
    times = 1.0
    if isinstance(right, Binary) and right.op == "*":
        if isinstance(right.left, Number):
            times, right = right.left.value, right.right
        elif isinstance(right.right, Number):
            times, right = right.right.value, right.left
    now, before = reader.read(left), reader.read(right)
    return reader.compared(op, now, before, times)


def gone_of(node: Node, out: Translated, options: Options) -> Condition | None:
    """`absent(…)`, `absent_over_time(…[10m])`, as kind absence; None for anything else."""
    if isinstance(node, Binary) and node.op == "==" and node.right == Number(1):
        node = node.left
    if not (isinstance(node, Call) and node.name in ("absent", "absent_over_time") and len(node.args) == 1):
        return None
    reader = _Reader(out, options)
    (read,) = selectors(node.args[0]) or [Selector("")]
    name = next((name for name in _names(read) if name in options.names.given), read.name)
    if options.names.given.get(name) != "volume.count":
        raise NotPossible(
            f"that no {name or 'such'} sample was scraped says nothing of the rows that were logged",
            f"`kind: absence` watches the rows; `--map {name}=volume.count` where that is what it counts",
        )
    model, version, _ = reader.matchers(read, "volume.count")
    out.same.append("nothing there: kind absence")
    return Condition(
        {"kind": "absence", "window": format_duration(read.range or INSTANT)}, (), model, version
    )


def trend_of(node: Node, out: Translated, options: Options) -> Condition | None:
    """`predict_linear(m[1d], 4 * 3600) > 5`, as kind trend; None for anything else."""
    if not (isinstance(node, Binary) and node.op in COMPARES and isinstance(node.right, Number)):
        return None
    inner = node.left
    if not (isinstance(inner, Call) and inner.name == "predict_linear" and len(inner.args) == 2):
        return None
    reader = _Reader(out, options)
    reading, seconds = reader.read(inner.args[0]), _constant(inner.args[1])
    if seconds is None or seconds <= 0:
        raise NotPossible("predict_linear without a time that is a number", "`kind: trend` with `within`")
    over = max(reading.window, DAY)
    if over != reading.window:
        out.differs.append(
            f"the line is drawn through {format_duration(over)}: a trend needs ten windows of an hour"
        )
    out.differs.append("kind trend fires only where the slope is no chance, in the direction that is bad")
    fields: Fields = {
        "kind": "trend",
        "metric": reading.metric,
        **reading.labels,
        "over": format_duration(over),
        "reaches": _written(reading.metric, node.right.value * reading.factor),
        "within": format_duration(max(int(seconds) * SECOND, HOUR)),
    }
    return Condition(fields, reading.by, reading.model, reading.version)


class _Reader:
    """Reads one expression, and tells what it made of it."""

    def __init__(self, out: Translated, options: Options) -> None:
        self.out, self.options = out, options
        self.given = options.names.given
        self.matched = {theirs: read for theirs in self.given if (read := _selector(theirs)) is not None}

    # --- bounds ---------------------------------------------------------------------------------------------

    def bounded(self, op: str, read: _Reading, value: float) -> Condition:
        if read.part:
            raise self._only_part(read)
        value *= read.factor
        info = METRICS[read.metric]
        if info.unit == RATIO and not -1 <= value <= 1:
            raise NotPossible(
                f"{read.metric} is a share, and {value:g} is beyond 1", "divide by what it is a share of"
            )
        exact = info.unit == COUNT
        match op:
            case ">":
                side, bound = "above", value
            case "<":
                side, bound = "below", value
            case ">=" if exact:
                side, bound = "above", float(-(-value // 1) - 1)
            case "<=" if exact:
                side, bound = "below", float(value // 1 + 1)
            case "==" if exact and value == 0:
                side, bound = "below", 1.0
            case ">=" | "<=":
                side, bound = ("above", value) if op == ">=" else ("below", value)
                self._once(f"at exactly {_written(read.metric, value)} it does not fire: bounds are strict")
            case _:
                raise NotPossible(
                    f"`{op} {value:g}` asks for one value", "`above` and `below`, a rule for each"
                )
        self.out.same.append(f"{read.metric} {side} {_written(read.metric, bound)}")
        return self._condition(read, {side: _written(read.metric, bound)})

    def compared(self, op: str, now: _Reading, before: _Reading, times: float) -> Condition:
        if before.part or now.part:
            raise self._only_part(now)
        if now.offset or not before.offset or now.same != before.same:
            raise NotPossible(
                "it compares two expressions that are not the same at two times",
                "`compare: {to: history}`, or a ratio of two metrics in kedge.yml",
            )
        window = now.window or INSTANT
        if before.offset == WEEK:
            compare: Fields = {"to": "same_time"}
            self._once(
                "of a week ago: the median of the last four weeks at that time, of which two must be there"
            )
        elif before.offset == window:
            compare = {"to": "previous"}
        else:
            length = format_duration(before.offset)
            compare = {"to": "history", "window": length}
            self._once(f"of {length} ago: all of the {length} before the window")
        if op in (">", ">=") and times > 1:
            side, ratio = "rise", times
        elif op in ("<", "<=") and 0 < times < 1:
            side, ratio = "fall", 1 / times
        else:
            raise NotPossible(f"`{op}` {times:g} times what it was: it would mostly fire", "`rise` or `fall`")
        if op in (">=", "<="):
            self._once(f"at exactly {ratio:g} times it does not fire: bounds are strict")
        self.out.same.append(f"{side} of more than {ratio:.6g} times")
        return self._condition(now, {"compare": compare, side: f"{ratio:.6g}x"})

    def _condition(self, read: _Reading, bound: Fields) -> Condition:
        info = METRICS[read.metric]
        if not read.window:
            self._once(f"without a range: the window is {format_duration(INSTANT)}")
        if not read.aggregated:
            self._once("one alert a series there; here one, or one a value of `by`, of all rows together")
        fields: Fields = {
            "metric": read.metric,
            **read.labels,
            "window": format_duration(read.window or INSTANT),
        }
        if fields["window"] != format_duration(max(read.window or INSTANT, MINUTE)):
            fields["window"] = "1m"
            self._once("a window is a minute at least")
        fields |= bound
        if info.evidence != "exact":
            fields |= {"evidence": "point", "no_data": "ok"}
            self.out.same.append(
                "the bare value decides (`evidence: point`), and a series that is gone is no breach"
            )
        return Condition(fields, read.by, read.model, read.version)

    def _only_part(self, read: _Reading) -> NotPossible:
        return NotPossible(
            f"it counts what {read.metric} is the share of",
            "divide by all rows, or count it in kedge.yml (`metrics`)",
        )

    def _once(self, text: str) -> None:
        if text not in self.out.differs:
            self.out.differs.append(text)

    # --- what is read ---------------------------------------------------------------------------------------

    def read(self, node: Node) -> _Reading:
        match node:
            case Selector():
                return self._instant(node)
            case Call(name="histogram_quantile", args=(Number(value=q), inner)):
                return self._quantile(q, inner)
            case Call(name="rate" | "irate" | "increase", args=(Selector() as counter,)):
                return self._counted(node.name, counter)
            case Call(name="avg_over_time", args=(Selector() as inner,)):
                return replace(self._instant(inner), window=inner.range)
            case Call(name="min_over_time" | "max_over_time"):
                word = "for" if node.name.startswith("min") else "keep_firing"
                raise NotPossible(f"{node.name} asks for a single sample", f"`{word}` with that length")
            case Call():
                raise NotPossible(f"the function {node.name} has no counterpart", ANEW)
            case Aggregate():
                return self._aggregate(node)
            case Binary(op="/"):
                return self._quotient(node)
            case Binary(op="*", left=Number(value=factor), right=inner):
                return self._scaled(inner, factor)
            case Binary(op="*", left=inner, right=Number(value=factor)):
                return self._scaled(inner, factor)
            case Binary():
                raise NotPossible(f"`{node.op}` inside the expression has no counterpart", ANEW)
            case _:
                raise NotPossible("it compares numbers", ANEW)

    def _scaled(self, inner: Node, factor: float) -> _Reading:
        if factor <= 0:
            raise NotPossible(f"it multiplies by {factor:g}", ANEW)
        read = self.read(inner)
        return replace(read, factor=read.factor / factor)

    def _instant(self, selector: Selector) -> _Reading:
        metric, rest = self._metric(selector)
        if metric == LATENCY:
            quantile = next((v for label, _, v in selector.matchers if label == "quantile"), "")
            found = _QUANTILES.get(float(quantile) if quantile.replace(".", "", 1).isdigit() else 0.0)
            metric = found or "latency.mean"
        unit = 1000.0 if METRICS[metric].unit == MS and self._seconds(selector.name) else 1.0
        read = self._read(metric, rest)
        return replace(read, factor=unit, window=selector.range)

    def _counted(self, how: str, selector: Selector) -> _Reading:
        metric, rest = self._metric(selector)
        if metric == LATENCY:
            metric = "latency.mean"
        if how == "irate":
            self._once("irate is of the last two samples, here of the whole window")
        seconds = selector.range / SECOND
        count = METRICS[metric].unit == COUNT
        read = self._read(metric, rest)
        factor = seconds if count and how != "increase" else 1.0
        if factor != 1.0:
            self.out.same.append(
                f"a rate a second is {factor:g} times that in {format_duration(selector.range)}"
            )
        return replace(read, window=selector.range, factor=factor, part=not count)

    def _quantile(self, q: float, inner: Node) -> _Reading:
        by: tuple[str, ...] = ()
        aggregated = isinstance(inner, Aggregate)
        if isinstance(inner, Aggregate):
            by, inner = self._by(inner), inner.args[-1]
        if not (isinstance(inner, Call) and inner.name in ("rate", "irate", "increase")):
            raise NotPossible("a quantile of something else than a rate of buckets", ANEW)
        (selector,) = selectors(inner) or [Selector("")]
        metric, rest = self._metric(selector)
        if q not in _QUANTILES or metric not in (LATENCY, *_QUANTILES.values()):
            raise NotPossible(
                f"the quantile {q:g} of {selector.name} is none of kedge's",
                "latency.p50, latency.p95 and latency.p99",
            )
        read = self._read(_QUANTILES[q], rest)
        unit = 1000.0 if self._seconds(selector.name) else 1.0
        self.out.same.append(f"{_QUANTILES[q]}, within 2.5 % whatever the buckets were")
        read = replace(read, window=selector.range, factor=unit, aggregated=aggregated)
        return self._split(read, by)

    def _aggregate(self, node: Aggregate) -> _Reading:
        if node.name not in ("sum", "avg", "min", "max"):
            raise NotPossible(f"{node.name} over series has no counterpart", "`by`: one alert a value")
        by = self._by(node)
        read = self.read(node.args[-1])
        if node.name in ("min", "max") or (node.name == "avg" and read.factor != 1.0):
            self._once(f"{node.name} over series: here of all their rows together")
        return self._split(replace(read, aggregated=True), by)

    def _by(self, node: Aggregate) -> tuple[str, ...]:
        if node.without:
            self._once(f"without ({', '.join(node.by)}): say the dimensions to split by in `by`")
            return ()
        found = []
        for label in node.by:
            if label == "le":
                continue
            name = self.given.get(label) or _LABELS.get(label) or f"segment.{label}"
            if not is_dimension(name):
                raise NotPossible(
                    f"{label} is mapped to {name}, which splits nothing", "map it to segment.NAME"
                )
            found.append(name)
            self.out.same.append(
                f"by ({label}) is `by: [{name}]`" if name != MODEL else "by (model): each model apart"
            )
        return tuple(found)

    def _split(self, read: _Reading, by: Sequence[str]) -> _Reading:
        model = "*" if MODEL in by and not read.model else read.model
        return replace(read, by=tuple(name for name in by if name != MODEL), model=model)

    def _quotient(self, node: Binary) -> _Reading:
        if isinstance(node.right, Number):
            if node.right.value <= 0:
                raise NotPossible(f"it divides by {node.right.value:g}", ANEW)
            return self._scaled(node.left, 1 / node.right.value)
        if node.matching:
            self._once(
                "on, ignoring, group_left and group_right are left out: groups meet on their dimensions"
            )
        above, below = selectors(node.left), selectors(node.right)
        if len(above) != 1 or len(below) != 1:
            raise NotPossible("a quotient of more than two metrics", "a ratio of two metrics in kedge.yml")
        top, bottom = above[0].name, below[0].name
        if top.endswith("_sum") and bottom == f"{top.removesuffix('_sum')}_count":
            metric, _ = self._metric(above[0])
            read = replace(self.read(node.left), part=False)
            if metric == LATENCY and self._seconds(top):
                read = replace(read, factor=1000.0 * read.factor)
            return read
        read, all_rows = self.read(node.left), self.read(node.right)
        if all_rows.metric != "volume.count" or METRICS[read.metric].unit != RATIO:
            raise NotPossible(
                f"{top} / {bottom} is none of kedge's shares",
                f"`--map '{above[0]}'=errors.rate --map {bottom}=volume.count`, or a ratio in kedge.yml",
            )
        if (read.window, read.by, read.model) != (all_rows.window, all_rows.by, all_rows.model):
            raise NotPossible(
                f"{top} and {bottom} are not of the same rows: their windows, groups or models differ",
                "the same of both, for a share; else a ratio of two metrics in kedge.yml",
            )
        self.out.same.append(f"{top} / {bottom} is {read.metric}, as a share of all rows")
        return replace(read, part=False)

    # --- names and labels -----------------------------------------------------------------------------------

    def _metric(self, selector: Selector) -> tuple[str, Selector]:
        """What it is here, and the selector without the matchers that this was said of."""
        for theirs, matched in self.matched.items():
            asked = set(matched.matchers)
            if matched.name == selector.name and asked and asked <= set(selector.matchers):
                rest = tuple(one for one in selector.matchers if one not in asked)
                return self._is_metric(self.given[theirs], theirs), replace(selector, matchers=rest)
        for name in _names(selector):
            if name in self.given:
                return self._is_metric(self.given[name], name), selector
        name = selector.name or "this"
        raise NotPossible(
            f"which metric of kedge's {name} is, is not said",
            f"`--map {name}=errors.rate` (volume.count, latency, …: docs/reference/metrics.md)",
        )

    def _is_metric(self, name: str, theirs: str) -> str:
        if name != LATENCY and name not in METRICS:
            raise NotPossible(f"{theirs} is mapped to {name}, which is no metric", ANEW)
        return name

    def _read(self, metric: str, selector: Selector) -> _Reading:
        model, version, labels = self.matchers(selector, metric)
        return _Reading(metric, offset=selector.offset, model=model, version=version, labels=labels)

    def matchers(self, selector: Selector, metric: str) -> tuple[str, str, Fields]:
        """The model and the version that are asked for, and the metric's own labels."""
        model, version, labels = "", "", Fields()
        for label, op, value in selector.matchers:
            ours = self.given.get(label) or _LABELS.get(label, label)
            if (op, value) in (("!=", ""), ("=~", ".+"), ("=~", ".*")) or label in ("le", "quantile"):
                continue
            if op == "=" and ours == MODEL:
                model = value
            elif op == "=" and ours == "version":
                version = value
            elif op == "=" and label == METRICS[metric].takes:
                labels[label] = value
            elif label in _TARGETS and label not in self.given:
                self._once(f'{label}{op}"{value}" is left out: a rule reads all rows of its model')
            else:
                raise NotPossible(
                    f'{label}{op}"{value}" asks for a part of the rows',
                    f"`by: [segment.{label}]` judges each; or a metric with `where` in kedge.yml, and "
                    f"`--map '{selector}'=METRIC`",
                )
        return model, version, labels

    def _seconds(self, name: str) -> bool:
        base = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        if base.endswith(("_ms", "_milliseconds", "_millis")):
            return False
        if not base.endswith("_seconds"):
            self._once(f"{name} is taken to count seconds")
        return True


def _names(selector: Selector) -> list[str]:
    """What a metric may have been called in a mapping: with its suffix, or without."""
    return [selector.name.removesuffix(suffix) for suffix in _SUFFIXES if selector.name.endswith(suffix)]


def _selector(text: str) -> Selector | None:
    """A mapped name with matchers: `requests_total{code=~"5.."}`."""
    if "{" not in text:
        return None
    try:
        found = parse(text)
    except BadInput:
        return None
    return found if isinstance(found, Selector) else None


def _moved(node: Binary) -> bool:
    """Whether the two sides are of different times."""
    return {s.offset for s in selectors(node.left)} != {s.offset for s in selectors(node.right)}


def _constant(node: Node) -> float | None:
    match node:
        case Number(value=value):
            return value
        case Binary(op="*", left=left, right=right):
            a, b = _constant(left), _constant(right)
            return None if a is None or b is None else a * b
        case _:
            return None


def _written(metric: str, value: float) -> Any:
    """A bound as people write it."""
    match METRICS[metric].unit:
        case "ratio":
            return f"{value * 100:.10g}%"
        case "ms":
            return f"{value:.10g}ms"
        case _:
            return int(value) if float(value).is_integer() else float(f"{value:.10g}")
