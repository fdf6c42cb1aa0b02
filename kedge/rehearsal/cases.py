"""Test files of rules, `*.test.yml`: what stands in them, and every error of it with `file:line:col`."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml.scalarint import HexInt

from kedge.alerting.fields import Length, SeverityField, Text, checked, did_you_mean, parse_text, reading
from kedge.alerting.finding import Status
from kedge.alerting.loading import TESTS, Problem, plain
from kedge.alerting.matchers import parse_match
from kedge.alerting.rule import parse_dimension
from kedge.analysis.catalogue import lookup
from kedge.errors import BadInput
from kedge.rehearsal.rows import Fact, check_made
from kedge.rehearsal.series import expand
from kedge.windows import MINUTE, TIERS, Millis, parse_duration, parse_time
from kedge.yamlfile import YamlError, YamlFile, read_yaml

MONDAY = "2026-01-05T00:00:00Z"
"""When a test begins unless it says: a Monday at midnight."""
_LABELS = ("class", "feature")


def _offset(raw: Any) -> Millis:
    """A length of time that may be negative: `-28d`."""
    if isinstance(raw, str) and raw.startswith("-"):
        return -parse_duration(raw[1:].strip())
    if isinstance(raw, str):
        return 0 if raw.strip() == "0" else parse_duration(raw.strip())
    if raw == 0 and not isinstance(raw, bool):
        return 0
    raise BadInput(f'"{raw}" is not a time of the test: write 20m, 2h or -7d')


def _label(raw: Any) -> str:
    return raw if raw in _LABELS else parse_dimension(raw)


def _moment(raw: Any) -> Millis:
    return raw if isinstance(raw, int) and not isinstance(raw, bool) else parse_time(str(raw))


def _notation(raw: Any) -> str:
    """`0x6` is seven zeros here, though YAML reads a hexadecimal number."""
    if isinstance(raw, HexInt):
        return f"0x{raw:x}"
    return parse_text(raw)


Offset = Annotated[Millis, reading(_offset)]
LabelName = Annotated[str, reading(_label)]
Notation = Annotated[str, reading(_notation)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)


class Given(_Strict):
    """One metric of some rows."""

    metric: str = Field("", description="What the values are of, by name: `errors.rate`.")
    drift: Text | None = Field(None, description="Short for the metric `drift.effect` of this feature.")
    n: Notation | None = Field(
        None,
        description="How many rows of an interval the value rests on, the metric's own n: a number, or in "
        "the notation of `values`. As other series of the same rows say, else 10000.",
    )
    sd: float = Field(
        0.0, ge=0, description="Of a mean: the standard deviation of the rows; 0 is a mean without noise."
    )
    labels: dict[LabelName, Text] = Field(
        default_factory=dict,
        description="Whose rows they are (`version`, `service`, `host`, `segment.NAME`), and the `class` or "
        "`feature` of the metric.",
    )
    model: Text | None = Field(None, description="Whose rows they are; the test's `model` unless said.")

    @model_validator(mode="after")
    def _known(self) -> Self:
        if bool(self.metric) == (self.drift is not None):
            raise ValueError("needs `metric: NAME` or `drift: FEATURE`, one of them")
        checked(lookup, self.name)
        checked(check_made, self.name)
        takes = lookup(self.name).takes
        for label in _LABELS:
            if label in self.labels and label != takes:
                raise ValueError(f"{self.name} is not of one {label}: leave the label out")
        if takes is not None and lookup(self.name).must and takes not in self._metric_labels:
            raise ValueError(f"{self.name} is of one {takes}: write `labels: {{{takes}: NAME}}`")
        return self

    @property
    def name(self) -> str:
        return "drift.effect" if self.drift is not None else self.metric

    @property
    def _metric_labels(self) -> dict[str, str]:
        held = {name: value for name, value in self.labels.items() if name in _LABELS}
        return held if self.drift is None else held | {"feature": self.drift}

    @property
    def label(self) -> str | None:
        """The class or the feature."""
        return next(iter(self._metric_labels.values()), None)

    @property
    def group(self) -> tuple[tuple[str, str], ...]:
        """Whose rows they are, sorted."""
        return tuple(sorted((name, value) for name, value in self.labels.items() if name not in _LABELS))

    def fact(self, value: float, n: int | None) -> Fact:
        return Fact(self.name, value, n, self.label, self.sd)


class Series(Given):
    """The values of a metric, one for each interval."""

    values: Notation = Field(description="In promtool's notation: `1 2 3`, `1+0.5x6`, `5%x3 _x3 stale`.")
    from_: Offset = Field(
        0, alias="from", description="When the first interval begins; `-28d` is before the test does."
    )

    @model_validator(mode="after")
    def _expands(self) -> Self:
        checked(expand, self.values)
        checked(self._sizes)
        return self

    def _sizes(self) -> list[float | None]:
        """The n of each interval; one is that of all."""
        if self.n is None:
            return [None]
        sizes = expand(self.n)
        for n in sizes:
            if n is not None and (n < 0 or n != int(n)):
                raise BadInput(f"n: {n:g} is no number of rows")
        return sizes

    def facts(self) -> list[Fact | None]:
        """One an interval; None where there are no rows."""
        values, sizes = expand(self.values), self._sizes()
        found: list[Fact | None] = []
        for i, value in enumerate(values):
            n = sizes[min(i, len(sizes) - 1)]
            missing = value is None or n == 0 or (self.n is not None and n is None)
            found.append(
                None if missing or value is None else self.fact(value, None if n is None else int(n))
            )
        return found


class Reference(Given):
    """A metric of the model's baseline."""

    value: Notation = Field("0", description="Its value there; of `drift`, which is 0 there, only n matters.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        checked(self.reference)
        return self

    def reference(self) -> Fact:
        values, sizes = expand(self.value), [None] if self.n is None else expand(self.n)
        if len(values) != 1 or values[0] is None or len(sizes) != 1:
            raise BadInput("the baseline has one value of a metric, and one n")
        return self.fact(values[0], None if sizes[0] is None else int(sizes[0]))


class ExpectedAlert(_Strict):
    """How an alert is to stand."""

    rule: Text = Field(description="The rule, by name.")
    state: Status = Field(Status.FIRING, description="How it stands.")
    severity: SeverityField | None = Field(None, description="Of what fires.")
    model: Text | None = Field(None, description="The model, where the test has several.")
    labels: dict[LabelName, Text] | None = Field(
        None, description="Its group and version, all of them; any unless said."
    )
    says: Text | None = Field(None, description="What its reason has in it.")


class ExpectedMessage(_Strict):
    """A message that is to be sent."""

    to: Text = Field(description="The receiver, by name.")
    rule: Text | None = Field(None, description="The rule that it tells of.")
    status: Status | None = Field(None, description="What it tells: `firing`, `resolved`, `no_data`.")
    severity: SeverityField | None = Field(None, description="As it tells it.")
    labels: dict[LabelName, Text] | None = Field(None, description="The alert's group and version.")
    says: Text | None = Field(None, description="What its text has in it.")


class Expectation(_Strict):
    """What is to be at a time of the test."""

    at: Offset = Field(description="When, since the test began.")
    alerts: tuple[ExpectedAlert, ...] | None = Field(
        None,
        description="The alerts that are not quiet, of the rules that are named; `[]`: none, of any rule.",
    )
    messages: tuple[ExpectedMessage, ...] | None = Field(
        None,
        description="The messages since the `at` before, of the rules that are named; `[]`: none at all.",
    )


class Silenced(_Strict):
    """Alerts that people are not told of for a while."""

    match: dict[str, Any] = Field(
        description="Which, as in a route of notify.yml: `{rule: slow}`, `{severity: <=medium}`."
    )
    from_: Offset = Field(0, alias="from", description="When it begins, since the test began.")
    to: Offset = Field(description="When it is over.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        checked(lambda: parse_match(self.match))
        if self.to <= self.from_:
            raise ValueError("to: a silence is over after it begins")
        return self


class Acknowledged(_Strict):
    """Somebody has seen what fires: until it is over it is acknowledged."""

    match: dict[str, Any] = Field(
        description="Which of the alerts that fire then, as in a silence: `{rule: slow}`."
    )
    at: Offset = Field(description="When, since the test began: after what is judged then.")
    by: Text = Field("somebody", min_length=1, description="Who, as messages say it.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        checked(lambda: parse_match(self.match))
        return self


class Case(_Strict):
    """One story: what the rows were, and what was to come of it."""

    name: Text = Field(min_length=1, description="What it shows, in a sentence.")
    interval: Length = Field(5 * MINUTE, description="How much time one value of a series is of.")
    bucket: Literal["1m", "1h", "1d"] | None = Field(
        None,
        description="The model's base bucket; unless said, the widest that the interval is made of, and no "
        "wider than a window of a rule. Write `1m` to judge as often as where buckets are of a minute.",
    )
    start: Annotated[Millis, reading(_moment)] = Field(
        default_factory=lambda: parse_time(MONDAY),
        validate_default=True,
        description=f"When it begins (RFC 3339); `{MONDAY}`, a Monday, unless said.",
    )
    model: Text | None = Field(
        None, description="Whose rows they are, where a series does not say; that of the rules unless said."
    )
    positive: Text | None = Field(None, description="The positive class of the models.")
    series: tuple[Series, ...] = Field(min_length=1, description="What the rows were.")
    baseline: tuple[Reference, ...] = Field((), description="What `compare: {to: baseline}` compares with.")
    expect: tuple[Expectation, ...] = Field(
        min_length=1, description="What was to come of it, in order of time."
    )
    silences: tuple[Silenced, ...] = Field((), description="Who is not told of what, and when.")
    acks: tuple[Acknowledged, ...] = Field((), description="Who has seen what, and when.")
    strict: bool = Field(False, description="Nothing else may fire, at any time, and nothing else be sent.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        finest = TIERS[self.bucket or "1m"]
        width = self.bucket or "1m"
        if self.interval < finest or self.interval % finest:
            raise ValueError(f"interval: a multiple of the bucket, {width}")
        if self.start % finest:
            raise ValueError(f"start: a test begins at the start of a bucket, {width}")
        if any(series.from_ % self.interval for series in self.series):
            raise ValueError("from: a multiple of the interval")
        times = [expected.at for expected in self.expect]
        acks = [ack.at for ack in self.acks]
        if any(at < 0 or at % finest for at in (*times, *acks)):
            raise ValueError(f"at: a multiple of the bucket, {width}, from 0 on")
        if acks and max(acks) > max(times):
            raise ValueError("acks: nothing is expected after the last of them: write an `expect` for it")
        if times != sorted(set(times)):
            raise ValueError("expect: in order of time, each time once")
        return self

    def base(self, windows: Iterable[Millis]) -> Millis:
        """Of the models: a tier of which the interval is made, no longer than the windows of the rules."""
        if self.bucket is not None:
            return TIERS[self.bucket]
        fits = [t for t in TIERS.values() if self.interval % t == 0 and all(t <= w for w in windows)]
        return max(fits, default=MINUTE)


class CaseFile(_Strict):
    """A file of tests."""

    version: Literal[1] = Field(1, description="1, the only one there is.")
    rules: Annotated[tuple[Text, ...], Field(min_length=1)] = Field(
        description="The rule files that are tested, from the folder of this file."
    )
    notify: Text | None = Field(
        None, description="The file of receivers; without it, every receiver that a rule names is there."
    )
    tests: tuple[Case, ...] = Field(min_length=1, description="One after another, none knows of the others.")


class Loaded:
    """A test file, where its parts stand, and what is wrong with it."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.problems: list[Problem] = []
        self.content: CaseFile | None = None
        self._file: YamlFile | None = None
        try:
            self._file = read_yaml(path, name)
            self.content = self._parsed(self._file)
        except YamlError as e:
            place, _, text = str(e).partition(": ")
            *_, line, column = f"{place}:1:1".removeprefix(name).split(":")[:3]
            known = line.isdigit() and column.isdigit()
            self.problems.append(
                Problem(name, int(line) if known else 1, int(column) if known else 1, text or place)
            )

    def place(self, *loc: str | int) -> tuple[int, int]:
        """Line and column of a part of it."""
        return self._file.position(loc) if self._file else (1, 1)

    def add(self, text: str, *loc: str | int) -> None:
        self.problems.append(Problem(self.name, *self.place(*loc), text))

    def _parsed(self, file: YamlFile) -> CaseFile | None:
        if not isinstance(file.data, Mapping):
            self.add("a test file is a map with `rules:` and `tests:`")
            return None
        try:
            return CaseFile.model_validate(plain(file.data))
        except ValidationError as e:
            errors = e.errors(include_url=False)
            places = [error["loc"] for error in errors]
            for error in errors:
                loc = error["loc"]
                # A list whose items are wrong is empty to pydantic besides: that is told of the items.
                told = any(other[: len(loc)] == loc and other != loc for other in places)
                if not (error["type"] == "too_short" and told):
                    self.add(_explained(error), *loc)
            return None


def _explained(error: Any) -> str:
    loc: Sequence[str | int] = error["loc"]
    words = [part for part in loc if isinstance(part, str) and part != "[key]"]
    name = words[-1] if words else ""
    match error["type"]:
        case "extra_forbidden":
            return f'unknown field "{name}"{did_you_mean(name, _allowed(loc))}'
        case "missing":
            return f"needs `{name}`"
        case "too_short":
            return f"{name}: one at least"
        case "value_error":
            text = str(error["msg"]).removeprefix("Value error, ")
            return f"{name}: {text}" if words and loc[-1] == name else text
        case "enum" | "literal_error":
            allowed = str(error["ctx"]["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
            return f'{name}: "{error["input"]}" is not allowed{did_you_mean(str(error["input"]), allowed)}'
        case _:
            text = str(error["msg"]).replace("Input should", "must")
            return f"{name}: {text[0].lower()}{text[1:]}"


_INSIDE: Mapping[str, type[BaseModel]] = {
    "tests": Case,
    "series": Series,
    "baseline": Reference,
    "expect": Expectation,
    "alerts": ExpectedAlert,
    "messages": ExpectedMessage,
    "silences": Silenced,
    "acks": Acknowledged,
}


MAPS: Mapping[str, type[BaseModel]] = {
    "A test file": CaseFile,
    "A test": Case,
    "A series": Series,
    "A metric of the baseline": Reference,
    "A silence": Silenced,
    "An acknowledgement": Acknowledged,
    "An expectation": Expectation,
    "An alert": ExpectedAlert,
    "A message": ExpectedMessage,
}
"""What stands in a test file, for the documentation."""


def _allowed(loc: Sequence[str | int]) -> list[str]:
    """The fields of the map that holds the last part of `loc`."""
    held = [part for part in loc[:-1] if isinstance(part, str)]
    model = _INSIDE.get(held[-1], CaseFile) if held else CaseFile
    return [field.alias or name for name, field in model.model_fields.items()]


def load_cases(path: Path, name: str) -> Loaded:
    """A test file; never raises for what it contains: see `problems`."""
    return Loaded(path, name)


def case_files(paths: Sequence[Path]) -> list[Path]:
    """The test files among `paths` and in its folders."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(f for f in path.iterdir() if f.name.endswith(TESTS) and f.name[0] != ".")
        else:
            found.append(path)
    return list(dict.fromkeys(found))
