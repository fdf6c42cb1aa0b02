"""Settings: `kedge.yml`, overridden by `KEDGE_*` in the environment. Secrets come by environment only."""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from kedge.alerting.fields import did_you_mean
from kedge.analysis.catalogue import declare
from kedge.analysis.custom import OwnMetrics
from kedge.clock import Clock, rehearsal_clock
from kedge.errors import BadInput, KedgeError
from kedge.store.own_metrics import MetricSettings, OwnName, check_ratios, own_metrics
from kedge.store.retention import Retention
from kedge.store.sources import NAMES, PRESETS, TIMED, Mapped, Source, is_name, make_source
from kedge.windows import DAY, MINUTE, SECOND, TIERS, Millis, parse_duration
from kedge.yamlfile import YamlError, YamlFile, read_yaml

CONFIG_FILE = "kedge.yml"


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except BadInput as e:
            raise ValueError(str(e)) from None
    return value


def _kept(value: Any) -> Any:
    if value is False or value == "off":
        return "off"
    found = _duration(value)
    if isinstance(found, int) and found < 2 * DAY:
        raise ValueError("must be at least 2d: days are dropped whole, and sealed a day before (or off)")
    return found


def _size(value: Any) -> Any:
    if isinstance(value, str):
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?", value.strip())
        if not found:
            raise ValueError(f'"{value}" is not a size (write 500MB)')
        return int(float(found[1]) * 1000 ** " kMGT".index(found[2] or " "))
    return value


def _share(value: Any) -> Any:
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return float(value.strip()[:-1]) / 100
        except ValueError:
            raise ValueError(f'"{value}" is not a percentage (write 30%)') from None
    return value


def _grouping(value: Any) -> Any:
    """One grouping: a dimension's name, or a list of them."""
    return tuple(sorted(value)) if isinstance(value, list) else (value,) if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def _importance(value: Any) -> Any:
    """Features, the most important first: a list in that order, or a map with numbers."""
    if isinstance(value, dict):
        for name, weight in value.items():
            number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not (number and math.isfinite(weight) and weight >= 0):
                raise ValueError(f"{name}: {weight} is no importance: a number from 0 on")
        value = sorted(value, key=lambda name: -value[name])
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) and name for name in value):
        raise ValueError(
            "write features, the most important first: [amount, age], or {amount: 0.4, age: 0.1}"
        )
    twice = sorted({name for name in value if value.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} stands in it twice")
    return tuple(value)


Duration = Annotated[Millis, BeforeValidator(_duration), Field(gt=0)]
Size = Annotated[int, BeforeValidator(_size), Field(ge=0)]
"""In bytes."""
Share = Annotated[float, BeforeValidator(_share), Field(gt=0, le=1)]
Grouping = Annotated[tuple[str, ...], BeforeValidator(_grouping)]


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f'"{name}" is not the name of a time zone (write Europe/Berlin)') from None
    return name


def _off(raw: Any) -> Any:
    """Some YAML writers make `off` a no."""
    return "off" if raw is False else raw


Kept = Annotated[Annotated[Millis, Field(ge=2 * DAY)] | Literal["off"] | None, BeforeValidator(_kept)]
DEFAULT_RETENTION = Retention(rejected=30 * DAY, minutes=8 * DAY, hours=400 * DAY)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelSettings(_Strict):
    """What to expect of a model's labels."""

    expected: Share = Field(1.0, description="Share of the predictions that ever get a label.")
    mature_after: Duration | None = Field(
        None, description="Judge a cohort at this age at the latest, whatever share of its labels has come."
    )
    negative_after: Duration | None = Field(
        None,
        description="From this age on (at least 1d), a row without a label counts as negative; needs "
        "positive_class and two classes. Cohorts are mature at this age.",
    )

    @property
    def speaks_of(self) -> str:
        """What part of the rows metrics on labels are of, in words; empty where it is all of them, sooner or
        later: where absence is a label too, too."""
        if self.expected >= 1 or self.negative_after is not None:
            return ""
        return f"of the {100 * self.expected:.3g} % of predictions that ever get a label"

    expire: Duration = Field(
        90 * DAY, description="A label that waits longer than this for its prediction is counted as expired."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.negative_after is not None and self.negative_after < DAY:
            raise ValueError("negative_after must be at least 1d")
        if self.negative_after and self.mature_after and self.mature_after < self.negative_after:
            raise ValueError(
                "mature_after is shorter than negative_after: cohorts would be judged while rows that will "
                "count as negative do not yet"
            )
        return self


class ModelSettings(_Strict):
    """Settings of one model; under `'*'`, of all that are not named. A model needs none: it appears by
    logging.
    """

    bucket: Literal["1m", "1h", "1d"] | None = Field(
        None,
        description="Width of the base bucket; by default 1m, or 1h if the first logs are sparse.",
    )
    lag: Duration = Field(MINUTE, description="How long after its end a bucket waits for stragglers.")
    positive_class: str | None = Field(
        None,
        description="The class that precision, recall and F1 speak of; else they are macro averages.",
    )
    groups: tuple[Grouping, ...] = Field(
        (),
        description="Groupings besides the total: version, segment.region, [segment.a, segment.b].",
    )
    max_groups: int = Field(
        200,
        description="Values of one dimension that have groups of their own; the rest is (other).",
        ge=1,
        le=1000,
    )
    labels: LabelSettings = Field(default_factory=lambda: LabelSettings.model_validate({}))
    timezone: Annotated[str, AfterValidator(_zone)] = Field(
        "UTC", description="IANA name of the zone whose midnights part the days of an automatic baseline."
    )
    importance: Annotated[tuple[str, ...], BeforeValidator(_importance)] = Field(
        (),
        description="The features, the most important first: [amount, age], or with numbers {amount: 0.4, "
        "age: 0.1}. What `features: {top: 3}` of a rule goes by, before the attributions of the baseline.",
    )
    baseline: Annotated[Literal["auto", "off"], BeforeValidator(_off)] = Field(
        "auto",
        description="auto: a model without a baseline gets a provisional one from its first good week.",
    )

    _own: OwnMetrics = PrivateAttr(default_factory=OwnMetrics)

    @property
    def own(self) -> OwnMetrics:
        """The metrics that are defined for the model, at the top of the file."""
        return self._own

    def with_own(self, own: OwnMetrics) -> "ModelSettings":
        found = self.model_copy()
        found._own = own
        return found

    @property
    def base(self) -> Millis | None:
        return TIERS[self.bucket] if self.bucket else None


class RetentionSettings(_Strict):
    """How long each stream is kept: a length of time of at least two days, or off for ever."""

    predictions: Kept = Field(None, description="Predictions with their labels; by default for ever.")
    rejected: Kept = Field(None, description="Rows that could not be stored; by default 30d.")
    minutes: Kept = Field(None, description="Summaries and metrics of minutes; by default 8d.")
    hours: Kept = Field(None, description="Summaries and metrics of hours; by default 400d.")
    days: Kept = Field(None, description="Summaries and metrics of days; by default for ever.")


def _one_field(value: Any) -> Any:
    return {"field": value} if isinstance(value, str) else value


def _as_text(value: Any) -> Any:
    """Values of a field as text: `is: failure`, `is: [500, true]`."""
    values = value if isinstance(value, list) else [value]
    return tuple(str(v).lower() if isinstance(v, bool) else str(v) for v in values)


def _known_name(name: str) -> str:
    if not is_name(name):
        raise ValueError(f'unknown name "{name}"{did_you_mean(name, NAMES)}')
    return name


def _known_preset(name: str) -> str:
    if name not in PRESETS:
        raise ValueError(f'unknown preset "{name}"{did_you_mean(name, PRESETS)}')
    return name


class FieldSettings(_Strict):
    """One field of a source, where its name alone does not say enough."""

    field: str = Field(min_length=1, description="The name of their field.")
    unit: Literal["ns", "us", "ms", "s"] | None = Field(
        None, description="Of `latency` and `label.delay`: what the numbers count; by default ms."
    )
    equals: Annotated[tuple[str, ...], BeforeValidator(_as_text)] = Field(
        (), alias="is", description="Of `error`: the value, or list of values, that means failure."
    )
    least: float | None = Field(
        None, alias="from", description="Of `error`: numbers from here on mean failure (500)."
    )


class SourceSettings(_Strict):
    """Logs that others write, read through a mapping of their fields."""

    index: str = Field(description="An index, data stream or pattern; several by commas.", min_length=1)
    preset: Annotated[str, AfterValidator(_known_preset)] | None = Field(
        None, description="A mapping to begin with: ecs, kserve, mlserver or gen_ai."
    )
    model: str | None = Field(
        None, description="The model of all rows, where no field says it.", min_length=1
    )
    map: dict[
        Annotated[str, AfterValidator(_known_name)],
        Annotated[FieldSettings | None, BeforeValidator(_one_field)],
    ] = Field(
        default_factory=dict,
        description="Their field by kedge's name; over the preset's, of which null takes one away.",
    )
    features: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        (), description="Fields that are features: a pattern such as `ml.features.*`, or a list."
    )
    filter: str | None = Field(None, description="A Lucene query: only rows that it finds are read.")

    @field_validator("index")
    @classmethod
    def _reachable(cls, index: str) -> str:
        if ":" in index:
            raise ValueError("indices of other clusters cannot be followed: run kedge on that cluster")
        if index != index.lower() or any(c in index for c in r' "\<>|?#/') or index[0] in "-_+":
            raise ValueError(f'"{index}" cannot be the name of an index')
        return index

    @model_validator(mode="after")
    def _whole(self) -> Self:
        source = self.source
        if not source.model and "model.name" not in source.fields:
            raise ValueError("say which model the rows are of: model: NAME, or map model.name to a field")
        if "timestamp" not in source.fields:
            raise ValueError("map timestamp to the field with the time of the prediction")
        for name, given in self.map.items():
            if given and given.unit and name not in TIMED:
                raise ValueError(f"{name} has no unit; only {' and '.join(TIMED)} have")
            if given and (given.equals or given.least is not None) and name != "error":
                raise ValueError(f"is and from belong to error, not to {name}")
        return self

    @property
    def source(self) -> Source:
        mapped = {
            name: Mapped(given.field, given.unit or "ms", given.equals, given.least) if given else None
            for name, given in self.map.items()
        }
        return make_source(
            self.index,
            preset=self.preset or "",
            fields=mapped,
            model=self.model or "",
            features=self.features,
            filter=self.filter or "",
        )


class Settings(_Strict):
    """All of kedge's settings."""

    store: str = Field(
        "duckdb:kedge.duckdb",
        description="duckdb:FILE (embedded), or the URL of Elasticsearch or OpenSearch.",
    )
    prefix: str = Field(
        "kedge", description="What the names of the indices begin with.", pattern=r"^[a-z][a-z0-9_-]*$"
    )
    redis: str = Field("redis://127.0.0.1:6379/0", description="The Celery broker of the distributed mode.")
    rules: Path = Field(Path("rules"), description="The folder of alert rules.")
    notify: Path = Field(Path("notify.yml"), description="The file that names the receivers.")
    every: Duration = Field(30 * SECOND, description="How often the pipeline runs.")
    host: str = Field("127.0.0.1", description="Address that `kedge serve` listens on.")
    port: int = Field(
        8321, description="Port that `kedge serve` listens on; 0 picks a free one.", ge=0, le=65535
    )
    url: str | None = Field(
        None, description="Address of a running server, for the command line and for links."
    )
    kibana: str | None = Field(None, description="Address of Kibana, for links to the logs.")
    keys: tuple[str, ...] = Field(
        (), description="SHA-256 hashes of the API keys that may write; without any, only loopback may."
    )
    spool: Path = Field(
        Path("spool"),
        description="The folder where a gateway keeps rows while its cluster cannot take them.",
    )
    spool_limit: Size = Field(
        1_000_000_000, description="How much the spool may hold; 0: no spool, such rows are refused."
    )
    spool_sync: Literal["full", "normal", "off"] = Field(
        "full",
        description="What spooled rows outlast: a power cut (full), or only a killed process (normal, off).",
    )
    spool_after: Duration = Field(
        5 * SECOND, description="How long a gateway waits for an answer before it spools the rows."
    )
    clock: str = Field("", description="START_MS:SPEED of a rehearsal clock; empty is the machine's.")
    retention: RetentionSettings = Field(
        default_factory=lambda: RetentionSettings.model_validate({}),
        description="How long logs and what is computed from them are kept. See below.",
    )
    models: dict[str, ModelSettings] = Field(
        default_factory=dict, description="Settings by model name, or '*'."
    )
    metrics: dict[OwnName, MetricSettings] = Field(
        default_factory=dict, description="Metrics of your own, by name. See below."
    )

    _made: dict[str, OwnMetrics] = PrivateAttr(default_factory=dict)

    sources: tuple[SourceSettings, ...] = Field(
        (), description="Logs that others write into the same cluster. See below."
    )

    @model_validator(mode="after")
    def _ratios(self) -> Self:
        check_ratios(self.metrics)
        return self

    def own_metrics(self, model: str | None = None) -> OwnMetrics:
        """The metrics that are defined for a model; None: all."""
        return own_metrics(self.metrics, model)

    @property
    def embedded(self) -> bool:
        return self.store.startswith("duckdb:")

    @property
    def kept(self) -> Retention:
        """How long each stream is kept: what is set, else the defaults; embedded, for ever."""
        set_by_user = self.retention.model_dump()
        defaults = Retention() if self.embedded else DEFAULT_RETENTION
        return Retention(
            *(
                default if (kept := set_by_user[name]) is None else None if kept == "off" else kept
                for name, default in defaults._asdict().items()
            )
        )

    def of_model(self, name: str) -> ModelSettings:
        found = self.models.get(name) or self.models.get("*") or ModelSettings.model_validate({})
        return found.with_own(self._own_of(name)) if self.metrics else found

    def _own_of(self, model: str) -> OwnMetrics:
        """Made once for a model: filters are parsed for it."""
        if model not in self._made:
            self._made[model] = self.own_metrics(model)
        return self._made[model]

    def make_clock(self) -> Clock:
        return rehearsal_clock(self.clock)

    @property
    def store_name(self) -> str:
        """The store without credentials, for people."""
        scheme, _, rest = self.store.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}" if rest else self.store


ENVIRONMENT = {
    f"KEDGE_{name.upper()}": name
    for name in Settings.model_fields
    if name not in ("models", "metrics", "retention", "sources")
}
"""Every scalar setting may be given in the environment; `KEDGE_KEYS` is a comma-separated list."""
STORE_KEY = "KEDGE_STORE_API_KEY"
"""The store's own API key: environment only, never in a file."""
NEEDS_A_CLUSTER = "sources need Elasticsearch or OpenSearch: set store to its URL"
CLIENT_KEY = "KEDGE_API_KEY"
"""The key that the command line sends to a running server."""


def load_settings(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """`kedge.yml` (of `path`, `KEDGE_CONFIG`, or the current folder; it may be absent) with the environment
    over it.

    Raises KedgeError that names every wrong setting with its place.
    """
    env = os.environ if environment is None else environment
    named = path or (Path(env["KEDGE_CONFIG"]) if env.get("KEDGE_CONFIG") else None)
    file = named or Path(CONFIG_FILE)
    content: dict[str, Any] = {}
    source: YamlFile | None = None
    if file.exists():
        try:
            source = read_yaml(file)
        except YamlError as e:
            raise KedgeError(str(e)) from None
        content = dict(source.data or {})
    elif named:
        raise BadInput("there is no such file", str(named))
    over: dict[str, Any] = {}
    for variable, name in ENVIRONMENT.items():
        if env.get(variable):
            value: Any = env[variable]
            over[name] = [v.strip() for v in value.split(",") if v.strip()] if name == "keys" else value
    try:
        settings = Settings.model_validate(content | over)
    except ValidationError as e:
        lines = []
        for error in e.errors():
            loc = tuple(error["loc"])
            variable = f"KEDGE_{str(loc[0]).upper()}" if loc else ""
            if loc and loc[0] in over:
                place = variable
            else:
                place = source.place(loc) if source else str(file)
            allowed = sorted(Settings.model_fields) if len(loc) == 1 else None
            where = ".".join(str(step) for step in loc if step != "[key]")
            lines.append(f"{place}: {where}: {error['msg'].removeprefix('Value error, ')}")
            if error["type"] == "extra_forbidden" and allowed:
                lines[-1] = f'{place}: unknown setting "{loc[0]}" (allowed: {", ".join(allowed)})'
            elif error["type"] == "extra_forbidden" and loc[0] == "sources":
                of = FieldSettings if loc[2] == "map" else SourceSettings
                names = [field.alias or name for name, field in of.model_fields.items()]
                lines[-1] = f'{place}: unknown setting "{loc[-1]}"{did_you_mean(str(loc[-1]), names)}'
        raise KedgeError("\n".join(lines)) from None
    declare(one.info for one in settings.own_metrics().metrics.values())
    if settings.sources and settings.embedded:
        place = source.place(("sources",)) if source else str(file)
        raise KedgeError(f"{place}: sources: {NEEDS_A_CLUSTER}")
    return settings
