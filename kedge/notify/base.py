"""What a notifier is: one method, and one error."""

from dataclasses import dataclass, field
from typing import Protocol

from kedge.alerting.finding import Severity, Status
from kedge.errors import KedgeError
from kedge.windows import Millis


@dataclass(frozen=True)
class Link:
    text: str
    url: str


@dataclass(frozen=True)
class Message:
    """What people read, before any receiver's own markup: plain text, no markup characters with a meaning."""

    transition: str
    """Id of the transition that it tells of; a receiver that can look for it posts it once."""
    incident: str
    """Messages of one episode share it: a thread in Slack. `alert:started`."""
    status: Status
    severity: Severity
    headline: str
    """`HIGH · fraud v7 · country=DE · recall fell`"""
    lines: tuple[str, ...]
    """What was seen, against what, since when, what it takes to clear."""
    fields: tuple[tuple[str, str], ...] = ()
    """Short name and value pairs beside the lines: window, since when, how long."""
    links: tuple[Link, ...] = ()
    alerts: tuple[tuple[str, tuple[Link, ...]], ...] = ()
    """Of a message of several alerts: the name of each that has a line, and where it leads, best first."""
    footer: str = ""
    """Where the rule stands: `rules/fraud.yml:12`."""
    colour: str = ""
    """`#rrggbb`, by severity and status."""
    emoji: str = ""
    broadcast: bool = True
    """People outside the incident's thread must see it: it fired, worsened, resolved or lost its data."""


@dataclass(frozen=True)
class Receipt:
    """What a receiver answered."""

    detail: str
    """For the record: `terminal`, or the channel and timestamp of a Slack post."""
    reference: dict[str, str] = field(default_factory=dict)
    """What a later message of the incident needs: Slack's channel and ts (the thread)."""


class NotifyError(KedgeError):
    """A delivery failed. `permanent`: trying again cannot help (bad channel, revoked token).

    `unknown`: the receiver may have taken the message before it failed (a timeout, a 5xx), so the next
    attempt looks for it first. `retry_after`: what the receiver asked for. The text carries no token and no
    webhook URL.
    """

    def __init__(
        self, text: str, *, permanent: bool, retry_after: Millis | None = None, unknown: bool = False
    ) -> None:
        super().__init__(text)
        self.permanent = permanent
        self.retry_after = retry_after
        self.unknown = unknown


class Notifier(Protocol):
    """A receiver. `send` blocks for one attempt at most a few seconds; it never sleeps to retry."""

    def send(self, message: Message, *, thread: dict[str, str] | None = None, again: bool = False) -> Receipt:
        """Deliver, or raise NotifyError. `thread`: the reference of the incident's first receipt.

        `again`: an earlier attempt had an unknown fate; look for the transition before posting, where that is
        possible.
        """
        ...
