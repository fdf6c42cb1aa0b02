"""Who gets messages: `notify.yml`, or the environment where there is no such file.

```yaml
default: ml-oncall
receivers:
  ml-oncall: {slack: {channel: "#ml-alerts", token_env: SLACK_BOT_TOKEN}}
  hook: {slack_webhook: {url_env: SLACK_WEBHOOK_URL}}
  console: {terminal: {}}
```

The file holds names of environment variables, never a secret.
"""

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TextIO
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from kedge.alerting.finding import Severity, Status, Transition
from kedge.errors import BadInput
from kedge.notify.base import Notifier
from kedge.notify.message import Links
from kedge.notify.slack import SlackBot, SlackWebhook
from kedge.notify.terminal import Terminal
from kedge.yamlfile import YamlFile, read_yaml

BOT_TOKEN = "SLACK_BOT_TOKEN"  # noqa: S105 — the name of a variable
CHANNEL = "SLACK_CHANNEL"
WEBHOOK_URL = "SLACK_WEBHOOK_URL"
API_URL = "SLACK_API_URL"
"""Address of Slack's Web API, for gateways and stand-ins; a receiver's own `base_url` wins."""

_TOLD = frozenset({Status.FIRING, Status.RESOLVED, Status.NO_DATA, Status.ACKNOWLEDGED})
_log = logging.getLogger(__name__)

ReceiverName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _Slack(_Strict):
    channel: Annotated[str, StringConstraints(min_length=1, max_length=90, strip_whitespace=True)]
    token_env: Variable = BOT_TOKEN
    base_url: str | None = None


class _Webhook(_Strict):
    url_env: Variable = WEBHOOK_URL


class _Terminal(_Strict):
    pass


class _Receiver(_Strict):
    slack: _Slack | None = None
    slack_webhook: _Webhook | None = None
    terminal: _Terminal | None = None

    @model_validator(mode="after")
    def _one(self) -> "_Receiver":
        if len(self.model_fields_set) != 1 or all(getattr(self, n) is None for n in self.model_fields_set):
            raise ValueError(f"a receiver is exactly one of {', '.join(_Receiver.model_fields)}")
        return self


class _File(_Strict):
    receivers: dict[ReceiverName, _Receiver] = Field(min_length=1)
    default: str | None = None


@dataclass(frozen=True)
class Receivers:
    """The configured receivers by name, and who is told of what."""

    notifiers: Mapping[str, Notifier]
    default: str
    links: Links = field(default_factory=Links)
    _noticed: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def known(self) -> frozenset[str]:
        """Names that a rule's `notify` may have."""
        return frozenset(self.notifiers)

    def notifier(self, name: str) -> Notifier:
        """The receiver of that name; KeyError where there is none."""
        return self.notifiers[name]

    def route(self, transition: Transition) -> tuple[str, ...]:
        """Who is told: the rule's receiver, else the default; nobody of what is for the dashboard only.

        A rule that names an unknown receiver must not go unheard: the default is told, with a notice
        (`misrouted`). An episode that falls to info is told of once more: people hear no more of it then.
        """
        if not _is_told(transition):
            return ()
        if self.misrouted(transition) and transition.notify not in self._noticed:
            self._noticed.add(transition.notify)
            _log.warning(
                'rule "%s" notifies "%s", which notify.yml does not have: "%s" is told instead',
                transition.rule,
                transition.notify,
                self.default,
            )
        return (transition.notify if transition.notify in self.notifiers else self.default,)

    def misrouted(self, transition: Transition) -> bool:
        """The rule names a receiver that is not configured."""
        return bool(transition.notify) and transition.notify not in self.notifiers


def _is_told(transition: Transition) -> bool:
    if max(transition.severity, transition.severity_before or Severity.INFO) <= Severity.INFO:
        return False
    # Waiting to fire, and calming down before, is not told; falling back from firing to waiting is.
    return transition.after in _TOLD or transition.before in _TOLD - {Status.RESOLVED}


def load_receivers(
    path: Path | None, env: Mapping[str, str], *, links: Links | None = None, stream: TextIO | None = None
) -> Receivers:
    """The receivers of the file at `path`; without it, Slack from the environment, else the terminal.

    `stream`: where terminal receivers write, standard output by default. Raises BadInput that names every
    wrong entry with `file:line:col`, or YamlError; neither holds a secret.
    """
    links = links or Links()
    if path is None or not path.exists():
        name, notifier = _from_environment(env, stream)
        return Receivers({name: notifier}, name, links)
    source = read_yaml(path)
    try:
        parsed = _File.model_validate(source.data if source.data is not None else {})
    except ValidationError as error:
        raise BadInput(
            "\n".join(_explain(source, e["loc"], e["type"], e["msg"]) for e in error.errors())
        ) from None
    notifiers: dict[str, Notifier] = {}
    problems: list[str] = []
    for name, receiver in parsed.receivers.items():
        try:
            notifiers[name] = _build(receiver, env, stream)
        except BadInput as error:
            kind = next(iter(receiver.model_fields_set))
            problems.append(
                f'{source.place(("receivers", name, kind, error.place))}: receiver "{name}": {error.reason}'
            )
    default = parsed.default if parsed.default is not None else next(iter(parsed.receivers))
    if parsed.default is None and len(parsed.receivers) > 1:
        problems.append(f"{source.place(())}: default: name the receiver of rules that name none")
    elif default not in parsed.receivers:
        names = ", ".join(sorted(parsed.receivers))
        problems.append(
            f'{source.place(("default",))}: default: no receiver "{default}" (there are: {names})'
        )
    if problems:
        raise BadInput("\n".join(problems))
    return Receivers(notifiers, default, links)


def _build(receiver: _Receiver, env: Mapping[str, str], stream: TextIO | None) -> Notifier:
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
        return "slack", _build(_Receiver(slack=_Slack(channel=channel)), env, stream)
    if env.get(WEBHOOK_URL):
        return "slack", _build(_Receiver(slack_webhook=_Webhook()), env, stream)
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


_ALLOWED: dict[str, Sequence[str]] = {
    "slack": tuple(_Slack.model_fields),
    "slack_webhook": tuple(_Webhook.model_fields),
    "terminal": (),
}


def _explain(source: YamlFile, loc: tuple[Any, ...], kind: str, text: str) -> str:
    """One error of the file: its place and the way out. Never the value: it may be a misplaced secret."""
    loc = tuple(part for part in loc if part != "[key]")
    where = ".".join(str(part) for part in loc) or "the file"
    if kind == "extra_forbidden":
        parents = {0: tuple(_File.model_fields), 2: tuple(_Receiver.model_fields)}
        allowed = parents.get(len(loc) - 1, _ALLOWED.get(str(loc[-2]), ()) if len(loc) > 1 else ())
        text = f"unknown field (allowed: {', '.join(allowed) or 'none'})"
        if str(loc[-1]) in ("token", "url", "webhook_url"):
            text += "; secrets are not written here: name an environment variable in token_env or url_env"
    return f"{source.place(loc)}: {where}: {text.removeprefix('Value error, ')}"
