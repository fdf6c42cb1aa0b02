"""What delivery keeps in the store: rows of the outbox, leases of receivers, threads of incidents.

Each is a small document under compare-and-set, so that a worker that was overtaken finds its writes refused.
"""

import logging
import secrets
from collections.abc import Callable, Iterator

import msgspec

from kedge.alerting.finding import Status, Transition
from kedge.alerting.grouping import Notification, only
from kedge.notify.base import Message, NotifyError, Receipt
from kedge.store.base import DocumentStore, Json, Stored
from kedge.windows import DAY, HOUR, MINUTE, SECOND, Millis

PENDING, ATTEMPTING, SENT, FAILED = "pending", "attempting", "sent", "failed"

FIRST_BACKOFF: Millis = 5 * SECOND
LONGEST_BACKOFF: Millis = 30 * MINUTE
LONGEST_RETRY_AFTER: Millis = HOUR
GIVE_UP_AFTER: Millis = DAY
"""Since a message's first attempt."""
MOST_ATTEMPTS = 100
"""Ends a message that kills its worker at each attempt; with back-off a day has about 55."""

MOST_PARTS = 10
"""Alerts of a group that have messages of their own in its thread, at each look."""

_log = logging.getLogger(__name__)


def row_name(receiver: str, transition: Transition) -> str:
    """Sorts by receiver, step, decision: `find(receiver + "/")` is the queue in order.

    One step may decide two transitions of one alert: it ends a notice of missing data before it fires.
    """
    later = transition.after is not Status.RESOLVED
    return f"{receiver}/{transition.step:015d}/{transition.decided:015d}{later:d}/{transition.id}"


def new_row(receiver: str, transition: Json, now: Millis) -> Json:
    return {
        "receiver": receiver,
        "status": PENDING,
        "created": now,
        "attempts": 0,
        "next_attempt": now,
        "transition": transition,
    }


def group_rows(told: Notification, now: Millis) -> Iterator[tuple[str, Json]]:
    """The rows of a notification by name: its message, then one for each alert that it has news of, where
    those are several. They follow one another in the queue, and share the incident's thread.

    Names sort by the time of the decision, among those of transitions.
    """
    shown = (*told.firing, *told.resolved)
    parts = [t.alert for t in shown if t.alert in told.changed] if len(shown) + told.unshown > 1 else []
    for i, alert in enumerate(("", *parts[:MOST_PARTS])):
        held = told if not alert else only(told, alert)
        lead = next(iter((*held.firing, *held.resolved)))
        name = f"{told.receiver}/{told.at:015d}/{i:015d}1/{told.id}{'/' if alert else ''}{alert}"
        row = new_row(told.receiver, msgspec.to_builtins(lead), now)
        yield name, row | {"notification": msgspec.to_builtins(held), "part": alert, "over": not told.firing}


def handed_on(value: Json, to: str, now: Millis) -> Json:
    """A row that is to be told to another receiver, as its own is no more."""
    told = {key: value[key] for key in ("notification", "part", "over") if key in value}
    return new_row(to, value["transition"], now) | told | {"instead_of": value["receiver"]}


def is_unsettled(value: Json) -> bool:
    return value["status"] in (PENDING, ATTEMPTING)


class Row:
    """An outbox row in the hands of one worker. Every change returns whether it was this worker's to make."""

    def __init__(self, outbox: DocumentStore, name: str, stored: Stored) -> None:
        self._outbox = outbox
        self._name = name
        self._token = stored.token
        self.value = stored.value

    def attempting(self, now: Millis) -> bool:
        """Say that the message may be on its way from here on. False: another worker was first."""
        value = {
            **self.value,
            "status": ATTEMPTING,
            "again": self.again,
            "attempts": self.value["attempts"] + 1,
            "first_attempt": self.value.get("first_attempt", now),
            "last_attempt": now,
            # Tells this write from one of another worker when the row is read back for its new token.
            "attempt": secrets.token_hex(8),
        }
        if not self._swap(value):
            return False
        stored = self._outbox.get(self._name)
        if stored is None or stored.value.get("attempt") != value["attempt"]:
            return False
        self._token, self.value = stored.token, value
        return True

    @property
    def again(self) -> bool:
        """An earlier attempt may have arrived: its answer was lost, or its worker died before it was kept."""
        return bool(self.value.get("again")) or self.value["status"] == ATTEMPTING

    def due(self, now: Millis) -> bool:
        return bool(self.value["status"] == ATTEMPTING or self.value["next_attempt"] <= now)

    @property
    def is_poison(self) -> bool:
        """It was tried more often than back-off allows for: it must be what ends the workers that try it."""
        return bool(self.value["attempts"] >= MOST_ATTEMPTS)

    def is_stale(self, now: Millis) -> bool:
        """It has been failing for so long that nobody waits for it any more."""
        return bool(now - self.value.get("first_attempt", now) >= GIVE_UP_AFTER)

    def untried(self) -> bool:
        """Nothing was sent after all: the lease was lost first."""
        return self._swap({**self.value, "status": PENDING, "attempts": self.value["attempts"] - 1})

    def sent(self, receipt: Receipt, message: Message, now: Millis) -> bool:
        """Settled. The transition itself is in the events: what stays is small, and keeps the name taken, so
        that a late `project` cannot bring the message back."""
        return self._swap(
            {
                "receiver": self.value["receiver"],
                "status": SENT,
                "created": self.value["created"],
                "attempts": self.value["attempts"],
                "sent": now,
                "receipt": receipt.detail,
                "transition_id": message.transition,
                "incident": message.incident,
                # A group's thread goes on while any of its alerts fires.
                "after": self._ends(message.status).value,
            }
        )

    def _ends(self, status: Status) -> Status:
        if "over" not in self.value:
            return status
        return Status.RESOLVED if self.value["over"] else Status.FIRING

    def failed(self, reason: str, now: Millis) -> bool:
        """Settled, with the reason: shown on the dashboard and logged as an error."""
        _log.error("%s was not delivered: %s", self._name, reason)
        return self._swap({**self.value, "status": FAILED, "failed": now, "error": reason})

    def postponed(self, error: NotifyError, now: Millis) -> bool:
        """To be tried again after what the receiver asked for, else after a doubling pause."""
        wait = min(FIRST_BACKOFF * 2 ** min(self.value["attempts"] - 1, 20), LONGEST_BACKOFF)
        if error.retry_after is not None:
            wait = min(max(error.retry_after, SECOND), LONGEST_RETRY_AFTER)
        again = self.value["again"] or error.unknown
        changes = {"status": PENDING, "again": again, "next_attempt": now + wait, "error": str(error)}
        return self._swap({**self.value, **changes})

    def _swap(self, value: Json) -> bool:
        return self._outbox.swap(self._name, value, self._token)


class Lease:
    """One worker's turn at a receiver. It saves others the effort, and keeps messages in order."""

    def __init__(self, state: DocumentStore, name: str, value: Json, clock: Callable[[], Millis]) -> None:
        self._state = state
        self._name = name
        self._value = value
        self._clock = clock

    @classmethod
    def take(
        cls,
        state: DocumentStore,
        receiver: str,
        holder: str,
        clock: Callable[[], Millis],
        length: Millis,
        *,
        alone: bool = False,
    ) -> "Lease | None":
        """None while another holds it, be it another thread of the same worker.

        `alone`: no other process can have the store open, so that another holder is a dead one.
        """
        name = f"lease:receiver:{receiver}"
        stored, now = state.get(name), clock()
        if stored is not None and (not alone or stored.value["holder"] == holder):
            # One from further ahead than its own length was taken by a clock that has been set back since.
            held = now < stored.value["until"] <= now + 2 * stored.value["length"]
            if held:
                return None
        value: Json = {
            "holder": holder,
            "turn": secrets.token_hex(8),
            "length": length,
            "until": now + length,
        }
        taken = state.swap(name, value, stored.token if stored is not None else None)
        return cls(state, name, value, clock) if taken else None

    def still(self) -> bool:
        """Whether it is held at this moment; renewed once half of it is over."""
        stored = self._mine()
        if stored is None:
            return False
        now = self._clock()
        if stored.value["until"] - now > self._value["length"] / 2:
            return True
        self._value = {**self._value, "until": now + self._value["length"]}
        return self._state.swap(self._name, self._value, stored.token)

    def release(self) -> None:
        stored = self._mine()
        if stored is not None:
            self._state.swap(self._name, {**self._value, "until": 0}, stored.token)

    def _mine(self) -> Stored | None:
        stored = self._state.get(self._name)
        if stored is None or stored.value.get("turn") != self._value["turn"]:
            return None
        return stored if stored.value["until"] > self._clock() else None


def thread_of(state: DocumentStore, receiver: str, incident: str) -> dict[str, str] | None:
    """The reference under which a receiver keeps the incident's messages together."""
    stored = state.get(_thread_name(receiver, incident))
    return dict(stored.value["reference"]) if stored is not None else None


def keep_thread(state: DocumentStore, receiver: str, incident: str, reference: dict[str, str]) -> None:
    """Remember it; a new one replaces one that the receiver has lost."""
    name = _thread_name(receiver, incident)
    stored = state.get(name)
    if reference and (stored is None or stored.value["reference"] != reference):
        state.swap(name, {"reference": reference}, stored.token if stored is not None else None)


def forget_thread(state: DocumentStore, receiver: str, incident: str) -> None:
    name = _thread_name(receiver, incident)
    stored = state.get(name)
    if stored is not None:
        state.delete(name, stored.token)


def _thread_name(receiver: str, incident: str) -> str:
    return f"thread:{receiver}:{incident}"
