"""A rule of ElastAlert2 while it is read: what rules of all types have. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kedge.moving.fields import MODEL, Options
from kedge.moving.filters import Filter, read_filter
from kedge.moving.report import Fields, Names, NotPossible, Translated
from kedge.windows import HOUR, MINUTE, Millis, format_duration

BUFFER: Millis = 15 * MINUTE
"""The window of rules on aggregations, where neither the rule nor the configuration says it."""
_PLUMBING = re.compile(
    r"(es_|use_|verify_|ssl_|aws_|kibana_|generate_|shorten_|statsd_|doc_type$|index$|name$|type$|alert$|description$|"
    r"is_enabled$|filter$|timestamp_|terms_size$|max_query_size$|run_every$|query_delay$|buffer_time$|owner$|category$|"
    r"http_post_|max_scrolling|scroll_|include$|import$|profile$|ca_certs$|client_|timeframe$|raw_count_keys$|"
    r"top_count_|attach_related$|_source_enabled$|include_fields$|bucket_interval|sync_bucket|bucket_offset|slack_|"
    r"email|smtp_|from_addr$|pagerduty_|opsgenie_|ms_teams_|ms_power|jira_|telegram_|discord_|command$|sns_|victorops_|"
    r"mattermost_|realert$|aggregation$|query_key$)"
)
_TEXTS = re.compile(
    r"(alert_text|alert_subject|alert_missing_value|summary_|custom_pretty|jinja_|timestamp_format$)"
)
_OUTLETS = {"slack", "debug", "stdout"}


class TheirRule:
    """One rule of theirs, while it is read."""

    def __init__(
        self,
        types: Mapping[str, Callable[["TheirRule"], None]],
        data: Mapping[str, Any],
        shared: Mapping[str, Any],
        options: Options,
        taken: Names,
    ) -> None:
        self.types, self.data, self.shared, self.options, self.taken = types, data, shared, options, taken
        self.names = options.names
        self.used: set[str] = set()
        self.filter = Filter()
        self.by: list[str] = []
        self.base: Fields = {}
        self.out = Translated("", "")

    def fill(self, out: Translated) -> None:
        kind = str(self.data["type"])
        translate = self.types.get(kind)
        if translate is None:
            raise NotPossible(
                f"type {kind} is code of your own" if "." in kind else f"there is nothing like type {kind}",
                "kedge has kinds for drift, anomaly and trend: docs/reference/rules.md",
            )
        if self.data.get("is_enabled") in (False, "false"):
            raise NotPossible("it is switched off (is_enabled: false)", "switch it on, and import it again")
        self.out, self.kind = out, kind
        self.filter = read_filter(self.data.get("filter") or [], self.names)
        self.by = [] if kind in ("change", "new_term") else self._dimensions("query_key")
        self.base = self._base()
        translate(self)
        self._rest()

    # --- parts that types share -----------------------------------------------------------------------------

    def get(self, key: str, default: Any = None) -> Any:
        self.used.add(key)
        return self.data.get(key, default)

    def need(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise NotPossible(
                f"type {self.kind} needs `{key}`, which is not there", "say it, and import it again"
            )
        return value

    def number(self, key: str, default: float | None = None) -> float | None:
        value = self.get(key, default)
        try:
            return None if value is None else float(value)
        except (TypeError, ValueError):
            raise NotPossible(f"`{key}: {value}` is not a number", "write a number") from None

    def _dimensions(self, key: str) -> list[str]:
        return [self.names.dimension(str(name)) for name in listed(self.get(key))]

    def _base(self) -> Fields:
        """Fields that every rule has after its name."""
        model = self.filter.model or self.options.model
        by = [name for name in self.by if name != MODEL]
        if len(by) < len(self.by):
            if model != "*":
                self.out.same.append(f"query_key on the model: there is one, {model}")
            model = "*" if not self.filter.model else model
        elif model == "*":
            self.out.differs.append(
                "each model is judged by itself, all of its rows: `--model NAME` names the one"
            )
        base: Fields = {"model": model} if model != self.options.model else {}
        if self.filter.version:
            base["version"] = self.filter.version
        if by:
            base["by"] = by
            self.out.same.append(f"query_key is `by: [{', '.join(by)}]`: one alert a value")
        self.by = by
        return base

    def window(self, default: Millis | None = None, key: str = "timeframe") -> str:
        raw = self.get(key, self.shared.get(key))
        length = default if raw is None and default is not None else length_of(raw, key)
        if length < MINUTE:
            self.out.differs.append(f"{key} of {format_duration(length)}: a window is a minute at least")
            length = MINUTE
        return format_duration(length)

    def metric(self, part: str, definition: Fields) -> str:
        """A metric of its own, over the rows that the filter finds."""
        name = self.taken.metric(f"{self.out.source}_{part}")
        self.out.metrics[name] = definition
        return name

    def where(self, *more: str) -> Fields:
        where = " AND ".join((*self.filter.terms, *more))
        return {"where": where} if where else {}

    def rows(self, *more: str) -> str:
        """The metric that counts the rows which are meant."""
        if not self.filter.terms and not more:
            return "volume.count"
        return self.metric("rows", {**self.where(*more), "stat": "count"})

    def add(self, suffix: str = "", **fields: Any) -> str:
        """One rule more; gives its name."""
        name = self.taken.rule(f"{self.out.source}{suffix}")
        self.out.rules.append({"name": name} | fields | self.base | self._life())
        return name

    def _life(self) -> Fields:
        """Whom it tells, and what it says."""
        life: Fields = {}
        if receiver := self._receiver():
            life["notify"] = receiver
        if self.data.get("description"):
            life["description"] = str(self.data["description"])
        return life

    @property
    def _outlets(self) -> set[str]:
        """What `alert` names; an outlet with options of its own is a map."""
        named = listed(self.data.get("alert"))
        return {str(name) for one in named for name in (one if isinstance(one, Mapping) else [one])}

    def _receiver(self) -> str:
        if "slack" not in self._outlets:
            return ""
        channels = listed(self.data.get("slack_channel_override"))
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", str(channels[0])).strip("-") if channels else ""
        self.out.receivers |= {name} if name else set()
        return name

    def _rest(self) -> None:
        """What else the rule says."""
        out = self.out
        if others := sorted(self._outlets - _OUTLETS):
            out.lost.append(f"alert: {', '.join(others)}: kedge tells Slack or the terminal (notify.yml)")
        if len(listed(self.data.get("slack_channel_override"))) > 1:
            out.lost.append(
                "several slack channels: `continue: true` on a route of notify.yml tells more than one"
            )
        if self.data.get("realert") is not None:
            again = format_duration(length_of(self.data["realert"], "realert"))
            out.differs.append(f"realert {again}: `repeat_interval: {again}` on its route in notify.yml")
        if self.data.get("aggregation") is not None:
            out.differs.append("aggregation: `group_by`, `group_wait` and `group_interval` in notify.yml")
        if texts := sorted(key for key in self.data if _TEXTS.match(str(key))):
            out.differs.append(
                f"{', '.join(texts)}: messages are kedge's own, with the value, its n and its bound"
            )
        known = self.used | set(texts)
        rest = sorted(str(key) for key in self.data if key not in known and not _PLUMBING.match(str(key)))
        if rest:
            out.lost.append(f"{', '.join(rest)}: no counterpart")

    def point(self, metric: str) -> Fields:
        """ElastAlert2 takes the bare value, however few rows it is of."""
        self.out.same.append(
            "the bare value decides (`evidence: point`); without that line chance alone does not fire it"
        )
        return {"metric": metric, "evidence": "point"}


def length_of(raw: Any, key: str) -> Millis:
    """`{minutes: 10}`, as a length."""
    units = {
        "weeks": 7 * 24 * HOUR,
        "days": 24 * HOUR,
        "hours": HOUR,
        "minutes": MINUTE,
        "seconds": 1_000,
        "milliseconds": 1,
    }
    if not isinstance(raw, Mapping) or not raw or not set(raw) <= set(units):
        raise NotPossible(f"`{key}: {raw}` is no length of time", f"write `{key}: {{minutes: 10}}`")
    try:
        return int(sum(float(value) * units[unit] for unit, value in raw.items()))
    except (TypeError, ValueError):
        raise NotPossible(f"`{key}: {raw}` is no length of time", f"write `{key}: {{minutes: 10}}`") from None


def whole(value: float) -> float:
    return int(value) if float(value).is_integer() else value


def listed(raw: Any) -> Sequence[Any]:
    return [] if raw is None else list(raw) if isinstance(raw, list | tuple) else [raw]
