"""Who gets messages: `notify.yml`, or the environment where there is no such file.

```yaml
default: ml-oncall
receivers:
  ml-oncall: {slack: {channel: "#ml-alerts", token_env: SLACK_BOT_TOKEN}, budget: 2 per 30d}
  hook: {slack_webhook: {url_env: SLACK_WEBHOOK_URL}}
  console: {terminal: {}}
```

The file holds names of environment variables, never a secret.
"""

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TextIO
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from kedge.alerting.fields import Budget, BudgetField, did_you_mean
from kedge.alerting.finding import Transition
from kedge.alerting.grouping import is_told
from kedge.alerting.loading import Problem
from kedge.alerting.routing import Routing, plain_routing
from kedge.errors import BadInput
from kedge.notify.base import Notifier
from kedge.notify.message import Links
from kedge.notify.routes import (
    EscalationModel,
    InhibitModel,
    Inhibits,
    IntervalModel,
    Intervals,
    RouteModel,
    Strict,
    made,
    misplaced,
)
from kedge.notify.slack import SlackBot, SlackWebhook
from kedge.notify.terminal import Terminal
from kedge.yamlfile import YamlFile, read_yaml

BOT_TOKEN = "SLACK_BOT_TOKEN"  # noqa: S105 — the name of a variable
CHANNEL = "SLACK_CHANNEL"
WEBHOOK_URL = "SLACK_WEBHOOK_URL"
API_URL = "SLACK_API_URL"
"""Address of Slack's Web API, for gateways and stand-ins; a receiver's own `base_url` wins."""

_log = logging.getLogger(__name__)

ReceiverName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class SlackModel(Strict):
    channel: Annotated[str, StringConstraints(min_length=1, max_length=90, strip_whitespace=True)]
    token_env: Variable = BOT_TOKEN
    base_url: str | None = None


class WebhookModel(Strict):
    url_env: Variable = WEBHOOK_URL


class TerminalModel(Strict):
    pass


class ReceiverModel(Strict):
    slack: SlackModel | None = Field(None, description='A channel, by a bot: `{channel: "#ml-alerts"}`.')
    slack_webhook: WebhookModel | None = Field(
        None, description="An incoming webhook: `{url_env: SLACK_WEBHOOK_URL}`."
    )
    terminal: TerminalModel | None = Field(None, description="Standard output: `{}`.")
    budget: BudgetField | None = Field(
        None,
        description="The false alerts that it may be told of, split over the rules that say none themselves; "
        "`1 per 30d` unless said.",
    )

    @model_validator(mode="after")
    def _one(self) -> "ReceiverModel":
        given = self.model_fields_set - {"budget"}
        if len(given) != 1 or any(getattr(self, name) is None for name in given):
            raise ValueError(f"a receiver is exactly one of {', '.join(_WAYS)}")
        return self

    @property
    def way(self) -> str:
        """How it is told: the field that says so."""
        return next(name for name in _WAYS if name in self.model_fields_set)


_WAYS = tuple(name for name in ReceiverModel.model_fields if name != "budget")

_TOP = ("default", "receivers", "route", "inhibit", "time_intervals")
_ELSEWHERE = {"inhibit_rules": "inhibit", "mute_time_intervals": "time_intervals", "routes": "route"}


class BrokenFile(BadInput):
    """A notify.yml with mistakes; `problems`: each with its place. None holds a secret."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Receivers:
    """The configured receivers by name, and who is told of what."""

    notifiers: Mapping[str, Notifier]
    default: str
    links: Links = field(default_factory=Links)
    routing: Routing | None = None
    """The tree of `route:`. None where the file has none: a rule's `notify` is told, else the default."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with notify.yml as it is now; these are of its last good version then."""
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    """The false alerts that each may be told of, where one is written."""
    _noticed: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def known(self) -> frozenset[str]:
        """Names that a rule's `notify` may have."""
        return frozenset(self.notifiers)

    @property
    def tree(self) -> Routing:
        """Who is told what: by the routes of the file, else by what rules name."""
        return self.routing or plain_routing(self.default, self.known, self.budgets)

    def notifier(self, name: str) -> Notifier:
        """The receiver of that name; KeyError where there is none."""
        return self.notifiers[name]

    def route(self, transition: Transition) -> tuple[str, ...]:
        """Who is told: the rule's receiver, else the default; nobody of what is for the dashboard only.

        A rule that names an unknown receiver must not go unheard: the default is told, with a notice
        (`misrouted`). An episode that falls to info is told of once more: people hear no more of it then.
        """
        if not is_told(transition):
            return ()
        self.notice(transition)
        return (transition.notify if transition.notify in self.notifiers else self.default,)

    def notice(self, transition: Transition) -> None:
        """Say once in the log that a rule names a receiver which does not exist."""
        if self.misrouted(transition) and transition.notify not in self._noticed:
            self._noticed.add(transition.notify)
            _log.warning(
                'rule "%s" notifies "%s", which notify.yml does not have: "%s" is told instead',
                transition.rule,
                transition.notify,
                "the tree of routes" if self.routing is not None else self.default,
            )

    def misrouted(self, transition: Transition) -> bool:
        """The rule names a receiver that is not configured."""
        return bool(transition.notify) and transition.notify not in self.notifiers


def load_receivers(
    path: Path | None, env: Mapping[str, str], *, links: Links | None = None, stream: TextIO | None = None
) -> Receivers:
    """The receivers of the file at `path`; without it, Slack from the environment, else the terminal.

    `stream`: where terminal receivers write, standard output by default. Raises BrokenFile that names every
    wrong entry with `file:line:col`, BadInput where the environment is wrong, or YamlError; none holds a
    secret.
    """
    if path is None or not path.exists():
        name, notifier = _from_environment(env, stream)
        return Receivers({name: notifier}, name, links or Links())
    return receivers_of(read_yaml(path), env, links=links, stream=stream)


def receivers_of(
    source: YamlFile, env: Mapping[str, str], *, links: Links | None = None, stream: TextIO | None = None
) -> Receivers:
    """The receivers of a file that is read; raises BrokenFile."""
    return _Reader(source, env, stream).receivers(links or Links())


def load_routing(path: Path) -> Routing:
    """Who is told what by the file at `path`, without the secrets of its receivers: for tests and checks.

    Raises BrokenFile with every wrong entry, or YamlError.
    """
    return _Reader(read_yaml(path), None, None).receivers(Links()).tree


class _Reader:
    """Reads each part of the file by itself, so that one that is wrong hides no error of another."""

    def __init__(self, source: YamlFile, env: Mapping[str, str] | None, stream: TextIO | None) -> None:
        """`env`: where secrets are; None makes no notifiers."""
        self.source, self.env, self.stream = source, env, stream
        self.problems: set[tuple[int, int, str]] = set()
        """Line, column and text."""
        self.data: Mapping[str, Any] = source.data if isinstance(source.data, Mapping) else {}
        if source.data is not None and not isinstance(source.data, Mapping):
            self._add((), "the file: is a map with `receivers:`")

    def receivers(self, links: Links) -> Receivers:
        for key in self.data:
            if key not in _TOP:
                hint = f' (here it is called "{_ELSEWHERE[key]}")' if key in _ELSEWHERE else ""
                self._add((key,), f'unknown field "{key}"{hint or did_you_mean(str(key), _TOP)}')
        notifiers, budgets = self._notifiers()
        names = self._names("receivers")
        default = self._default(names)
        routing = self._routing(default, names)
        if self.problems:
            raise BrokenFile([Problem(self.source.name, *problem) for problem in sorted(self.problems)])
        routing = replace(routing, budgets=budgets) if routing is not None else None
        return Receivers(notifiers, default, links, routing, budgets=budgets)

    def _notifiers(self) -> tuple[dict[str, Notifier], dict[str, Budget]]:
        """Whom it names, and the budgets of those that have one."""
        found: dict[str, Notifier] = {}
        parsed = self._part("receivers", dict[ReceiverName, ReceiverModel])
        if parsed is not None and not parsed:
            self._add(("receivers",), "receivers: name at least one")
        for name, receiver in (parsed or {}).items():
            if self.env is None:
                found[name] = Terminal(sys.stdout)
                continue
            try:
                found[name] = _build(receiver, self.env, self.stream)
            except BadInput as error:
                place = ("receivers", name, receiver.way, error.place)
                self._add(place, f'receiver "{name}": {error.reason}')
        return found, {name: one.budget for name, one in (parsed or {}).items() if one.budget is not None}

    def _default(self, names: frozenset[str]) -> str:
        """The receiver of what names none: of the tree's root too, where it names none."""
        default = self.data.get("default")
        if default is None:
            root = self.data.get("route")
            own = root.get("receiver") if isinstance(root, Mapping) else None
            if own is None and len(names) > 1:
                where = "the receiver of rules that name none"
                self._add((), f"default: name {where}")
            return str(own) if own is not None else next(iter(sorted(names)), "")
        if default not in names:
            self._add(
                ("default",), f'default: no receiver "{default}" (there are: {", ".join(sorted(names))})'
            )
        return str(default)

    def _routing(self, default: str, names: frozenset[str]) -> Routing | None:
        context = {"receivers": names, "intervals": self._names("time_intervals")}
        intervals = self._part("time_intervals", Intervals, {})
        inhibits = self._part("inhibit", Inhibits, ())
        root = self._part("route", RouteModel, None, context)
        if root is None:
            for name in ("inhibit", "time_intervals"):
                if self.data.get(name) and "route" not in self.data:
                    self._add((name,), f"{name}: is for routes: write a `route:` too")
            return None
        for wrong in misplaced(root):
            self._add(wrong.loc, f"{_dotted(wrong.loc)}: {wrong.text}")
        if self.problems or intervals is None or inhibits is None:
            return None
        return made(root, default, inhibits, intervals, names, self._line)

    def _part(self, name: str, kind: Any, absent: Any = None, context: Any = None) -> Any:
        """A part of the file; None where it is wrong, `absent` where the file does not have it."""
        if self.data.get(name) is None:
            if name == "receivers":
                self._add((), "receivers: name at least one")
            return absent
        try:
            return TypeAdapter(kind).validate_python(self.data[name], context=context)
        except ValidationError as error:
            for one in error.errors(include_url=False):
                self._explain((name, *one["loc"]), one["type"], one["msg"])
            return None

    def _names(self, part: str) -> frozenset[str]:
        """Names that the file defines, be they right or wrong."""
        held = self.data.get(part)
        return frozenset(str(name) for name in held) if isinstance(held, Mapping) else frozenset()

    def _line(self, loc: tuple[str | int, ...]) -> str:
        return f"{self.source.name}:{self.source.position(loc)[0]}"

    def _add(self, loc: Sequence[str | int], text: str) -> None:
        self.problems.add((*self.source.position(loc), text))

    def _explain(self, loc: tuple[str | int, ...], kind: str, text: str) -> None:
        """One error: its place and the way out. Never the value: it may be a misplaced secret."""
        loc = tuple(part for part in loc if part != "[key]")
        text = text.removeprefix("Value error, ").replace("Input should be", "must be")
        if kind in ("model_type", "dict_type"):
            text = "must be a map of fields"
        if kind == "extra_forbidden":
            self._add(loc, f"{_dotted(loc)}: {self._unknown(loc)}")
            return
        if kind == "missing":
            text = "is missing"
        # What is wrong with one condition begins with its label: point at that.
        label = text.partition(":")[0]
        at = (*loc, label) if loc[-1] in ("match", "source", "target") else loc
        self._add(at, f"{_dotted(loc)}: {text}")

    def _unknown(self, loc: tuple[str | int, ...]) -> str:
        """What to write instead of a field that nobody knows."""
        name, model = str(loc[-1]), _model_at(loc[:-1])
        fields = [field.alias or own for own, field in model.model_fields.items()] if model else []
        if model is not None and name in model.ELSEWHERE:
            return f'unknown field (here it is called "{model.ELSEWHERE[name]}")'
        text = f"unknown field{did_you_mean(name, fields)}" if fields else "unknown field (allowed: none)"
        if name in ("token", "url", "webhook_url"):
            text = f"unknown field (allowed: {', '.join(fields)})"
            text += "; secrets are not written here: name an environment variable in token_env or url_env"
        return text


def _dotted(loc: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in loc) or "the file"


def _model_at(loc: Sequence[str | int]) -> type[Strict] | None:
    """The model of the map that stands there."""
    match [part for part in loc if not isinstance(part, int)]:
        case ["receivers", _]:
            return ReceiverModel
        case ["receivers", _, kind]:
            kinds: dict[str, type[Strict]] = {
                "slack": SlackModel,
                "slack_webhook": WebhookModel,
                "terminal": TerminalModel,
            }
            return kinds.get(str(kind))
        case ["route", *rest]:
            return EscalationModel if "escalate" in rest else RouteModel
        case ["inhibit"]:
            return InhibitModel
        case ["time_intervals", _]:
            return IntervalModel
    return None


def _build(receiver: ReceiverModel, env: Mapping[str, str], stream: TextIO | None) -> Notifier:
    """The notifier; raises BadInput whose place is the key that is wrong."""
    if receiver.slack is not None:
        token = _secret(env, receiver.slack.token_env, "token_env")
        base_url = receiver.slack.base_url or env.get(API_URL) or None
        if base_url is not None and not _is_web(base_url):
            raise BadInput("base_url must be an http or https address", "base_url")
        return SlackBot(token, receiver.slack.channel, base_url=base_url)
    if receiver.slack_webhook is not None:
        variable = receiver.slack_webhook.url_env
        url = _secret(env, variable, "url_env")
        if not _is_web(url):
            raise BadInput(f"{variable} does not hold an http or https address", "url_env")
        return SlackWebhook(url)
    return Terminal(stream or sys.stdout)


def _from_environment(env: Mapping[str, str], stream: TextIO | None) -> tuple[str, Notifier]:
    if env.get(BOT_TOKEN):
        channel = env.get(CHANNEL, "").strip()
        if not channel:
            raise BadInput(
                f"{BOT_TOKEN} is set, but no channel: set {CHANNEL} too, for example to #ml-alerts", CHANNEL
            )
        return "slack", _build(ReceiverModel(slack=SlackModel(channel=channel)), env, stream)
    if env.get(WEBHOOK_URL):
        return "slack", _build(ReceiverModel(slack_webhook=WebhookModel()), env, stream)
    return "terminal", Terminal(stream or sys.stdout)


def _secret(env: Mapping[str, str], variable: str, key: str) -> str:
    value = env.get(variable, "").strip()
    if not value:
        raise BadInput(f"the environment variable {variable} is not set", key)
    if not re.fullmatch(r"[\x21-\x7e]+", value):
        raise BadInput(f"the environment variable {variable} holds spaces or characters outside ASCII", key)
    return value


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
