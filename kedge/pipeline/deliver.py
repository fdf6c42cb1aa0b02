"""From decided transitions to delivered messages: `project` fills the outbox, `deliver` empties it.

Both may be killed anywhere and run again, by any number of workers at once. Every write is create-only or
compare-and-set under a deterministic name, and each step is recorded before the next begins:

    alert.outgoing ──project──▶ event + outbox row: pending ──deliver──▶ attempting ──▶ sent | failed
                                                       ▲                      │
                                                       └── next_attempt ◀─────┘ transient error

A row found *attempting* is one whose worker died: its message may have arrived, so the next attempt looks for
it first. Only a receiver that cannot be asked (a webhook) may then get it twice.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import msgspec

from kedge.alerting.finding import Status, Transition
from kedge.alerting.grouping import Notification
from kedge.notify.base import Message, Notifier, NotifyError, Receipt
from kedge.notify.group_message import compose_group
from kedge.notify.message import compose
from kedge.notify.receivers import Receivers
from kedge.pipeline.faults import reach
from kedge.pipeline.outbox import (
    FAILED,
    SENT,
    Lease,
    Row,
    forget_thread,
    handed_on,
    is_unsettled,
    keep_thread,
    new_row,
    row_name,
    thread_of,
)
from kedge.pipeline.route import Router
from kedge.store.base import DocumentStore, Json, Store, Stored
from kedge.windows import DAY, MINUTE, SECOND, Millis

LEASE: Millis = 60 * SECOND
"""Longer than the longest `send`: a look-up, a post, one more outside a lost thread, each with a time-out."""
GONE_AFTER: Millis = 5 * MINUTE
"""Of a message to a receiver that this worker does not know: until then another one may."""
KEEP_SENT: Millis = 7 * DAY
KEEP_FAILED: Millis = 30 * DAY

_log = logging.getLogger(__name__)


class DeliveryCounts(NamedTuple):
    """What one `deliver` did, in messages; `leased_elsewhere` in receivers."""

    sent: int = 0
    postponed: int = 0
    """Tried, failed for now, to be tried again."""
    failed: int = 0
    """Given up, with the reason on their rows."""
    waiting: int = 0
    """Left in a queue: behind a postponed one, with another worker, for a receiver not configured here."""
    leased_elsewhere: int = 0
    pruned: int = 0

    def plus(self, **more: int) -> "DeliveryCounts":
        return self._replace(**{name: getattr(self, name) + n for name, n in more.items()})

    def joined(self, other: "DeliveryCounts") -> "DeliveryCounts":
        return self.plus(**other._asdict())


# --- project ------------------------------------------------------------------------------------------------


def project(
    store: Store,
    receivers: Receivers,
    now: Millis,
    alerts: Iterable[str] | None = None,
    *,
    router: Router | None = None,
) -> int:
    """Give every outgoing transition its event and what tells of it, then take it out of its alert; count
    them.

    What tells of it is a row of the outbox; where there are routes, or a silence, its groups
    (kedge/pipeline/route.py). `alerts`: names of the alerts to look at, where the caller knows which were
    judged; by default all that have any, which also finds what a killed worker left behind. `router`: as
    this tick has read it.
    """
    reach("deliver:projecting")
    if alerts is None:
        found = store.alerts.outgoing()
    else:
        found = {name: stored for name in alerts if (stored := store.alerts.get(name)) is not None}
    found = {name: stored for name, stored in found.items() if stored.value.get("outgoing")}
    if found and router is None:
        router = Router.read(store, receivers, now)
    count = 0
    grouped: list[Transition] = []
    waiting: dict[str, set[str]] = {}
    for name in sorted(found):
        done: set[str] = set()
        for raw in found[name].value["outgoing"]:
            try:
                transition = msgspec.convert(raw, Transition)
            except msgspec.ValidationError as error:
                # Left where it is, for a version of kedge that can read it; the others go out.
                _log.error("alert %s: a transition cannot be read: %s", name, error)
                continue
            done.add(transition.id)
            # Create-only: what an earlier, killed run has written stays as it is, sent rows above all.
            store.events.swap(transition.id, raw, None)
            reach("deliver:projected-event")
            if router is not None and router.takes(transition, grouped):
                grouped.append(transition)
                waiting[name] = done
                continue
            for receiver in receivers.route(transition):
                store.outbox.swap(row_name(receiver, transition), new_row(receiver, raw, now), None)
                reach("deliver:projected-outbox")
        count += len(done)
        if name not in waiting:
            _take_out(store.alerts, name, found[name], done)
            reach("deliver:projected")
    if router is not None and grouped:
        router.assign(grouped)
    for name, done in waiting.items():
        _take_out(store.alerts, name, found[name], done)
        reach("deliver:projected")
    return count


def _take_out(alerts: DocumentStore, name: str, stored: Stored | None, done: set[str]) -> None:
    """Remove only what was projected: the fold may have added transitions since they were read."""
    while stored is not None:
        outgoing = stored.value.get("outgoing") or []
        left = [raw for raw in outgoing if raw.get("id") not in done]
        if len(left) == len(outgoing):
            return
        if alerts.swap(name, {**stored.value, "outgoing": left}, stored.token):
            return
        stored = alerts.get(name)


# --- deliver ------------------------------------------------------------------------------------------------


def deliver(
    store: Store,
    receivers: Receivers,
    now: Millis,
    holder: str,
    *,
    lease: Millis = LEASE,
    alone: bool = False,
    monotonic: Callable[[], float] = time.monotonic,
) -> DeliveryCounts:
    """Send what is due, per receiver in order; a receiver that fails holds up nobody but itself.

    `now` should be the machine's clock, in a rehearsal too: leases and back-off are about real requests.
    `holder` names the worker in the lease; `alone`: no other process has the store open. What goes wrong with
    a receiver is written on its row; raises StoreUnavailable alone.
    """
    started = monotonic()

    def clock() -> Millis:
        return now + round((monotonic() - started) * SECOND)

    queues: dict[str, dict[str, Stored]] = {}
    for name, stored in store.outbox.find().items():
        queues.setdefault(name.partition("/")[0], {})[name] = stored
    counts = DeliveryCounts()
    for receiver, rows in sorted(queues.items()):
        counts = counts.plus(pruned=_prune(store, receiver, rows, now))
        unsettled = {name: stored for name, stored in rows.items() if is_unsettled(stored.value)}
        if not unsettled:
            continue
        if receiver not in receivers.known:
            counts = counts.joined(_orphaned(store.outbox, receivers, receiver, unsettled, now))
            continue
        if not any(Row(store.outbox, name, stored).due(now) for name, stored in unsettled.items()):
            counts = counts.plus(waiting=len(unsettled))
            continue
        held = Lease.take(store.state, receiver, holder, clock, lease, alone=alone)
        if held is None:
            counts = counts.plus(waiting=len(unsettled), leased_elsewhere=1)
            continue
        reach("deliver:leased")
        counts = counts.joined(_drain(store, receivers, receiver, held, clock))
        # On purpose not in a `finally`: after an error the lease runs out by itself, as after a kill.
        held.release()
    return counts


def _drain(
    store: Store, receivers: Receivers, receiver: str, held: Lease, clock: Callable[[], Millis]
) -> DeliveryCounts:
    """The receiver's queue from the front, until it is empty or a message has to wait: none overtakes."""
    counts = DeliveryCounts()
    # Read under the lease: what another worker has settled since is not touched again.
    queue = store.outbox.find(f"{receiver}/")
    names = sorted(name for name, stored in queue.items() if is_unsettled(stored.value))
    for position, name in enumerate(names):
        left = len(names) - position
        row = Row(store.outbox, name, queue[name])
        if not row.due(clock()):
            return counts.plus(waiting=left)
        if row.is_poison:
            counts = counts.plus(failed=row.failed("given up: too many attempts", clock()))
            continue
        try:
            message = _message(row.value, receivers, receiver)
        except (msgspec.ValidationError, ValueError, OverflowError) as error:
            counts = counts.plus(failed=row.failed(f"the message cannot be made: {error}", clock()))
            continue
        again = row.again
        if not row.attempting(clock()):
            return counts.plus(waiting=left)
        reach("deliver:attempting")
        if not held.still():
            row.untried()
            return counts.plus(waiting=left)
        thread = thread_of(store.state, receiver, message.incident)
        outcome = _send(receivers.notifier(receiver), receiver, message, thread, again)
        reach("deliver:sent")
        if isinstance(outcome, Receipt):
            keep_thread(store.state, receiver, message.incident, outcome.reference)
            reach("deliver:threaded")
            counts = counts.plus(sent=row.sent(outcome, message, clock()))
        elif outcome.permanent or row.is_stale(clock()):
            counts = counts.plus(failed=row.failed(str(outcome), clock()))
        else:
            counts = counts.plus(postponed=row.postponed(outcome, clock()), waiting=left - 1)
            reach("deliver:recorded")
            return counts
        reach("deliver:recorded")
    return counts


def _message(row: Json, receivers: Receivers, receiver: str) -> Message:
    if "notification" in row:
        told = msgspec.convert(row["notification"], Notification)
        message = compose_group(told, links=receivers.links, part=bool(row["part"]))
        # Routes decide here; only of a receiver that does not exist people must hear.
        unknown = {t.notify for t in (*told.firing, *told.resolved)} - receivers.known - {""}
        notify = min(unknown, default="")
    else:
        transition = msgspec.convert(row["transition"], Transition)
        message = compose(transition, links=receivers.links)
        notify = transition.notify
    notify = row.get("instead_of", notify)
    if notify in ("", receiver):
        return message
    notice = f'sent to "{receiver}": there is no receiver "{notify}"'
    return replace(message, footer=" · ".join(part for part in (message.footer, notice) if part))


def _send(
    notifier: Notifier, receiver: str, message: Message, thread: dict[str, str] | None, again: bool
) -> Receipt | NotifyError:
    try:
        return notifier.send(message, thread=thread, again=again)
    except NotifyError as error:
        return error
    except Exception as error:  # noqa: BLE001 — a fault in one notifier must not hold up the other receivers
        # Its text may hold a token or a webhook's URL: type and place are enough to find the fault.
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace is not None else "?"
        text = f"internal error: {type(error).__name__} in {where}"
        _log.error("receiver %s: %s", receiver, text)
        return NotifyError(text, permanent=False, unknown=True)


# --- housekeeping -------------------------------------------------------------------------------------------


def _orphaned(
    outbox: DocumentStore, receivers: Receivers, receiver: str, rows: Mapping[str, Stored], now: Millis
) -> DeliveryCounts:
    """Rows of a receiver unknown to this worker: it was removed, or another worker has read a newer file.

    Where there are routes, what fires still was told anew by those of now. Without them nobody else hears of
    it: the default does, as of a rule that names a receiver which does not exist.
    """
    counts = DeliveryCounts()
    for name, stored in sorted(rows.items()):
        if now - stored.value["created"] < GONE_AFTER:
            counts = counts.plus(waiting=1)
            continue
        reason = f'there is no receiver "{receiver}" any more'
        if receivers.routing is None:
            instead = f"{receivers.default}/{name.partition('/')[2]}"
            # Before its own row is settled: a worker that dies in between does it again, to no effect.
            outbox.swap(instead, handed_on(stored.value, receivers.default, now), None)
            reason += f': "{receivers.default}" is told instead'
        counts = counts.plus(failed=Row(outbox, name, stored).failed(reason, now))
    return counts


def _prune(store: Store, receiver: str, rows: Mapping[str, Stored], now: Millis) -> int:
    """Drop settled rows whose time has come, and the threads of incidents that ended with them."""
    count = 0
    for name, stored in rows.items():
        value = stored.value
        sent_long_ago = value["status"] == SENT and now - value["sent"] > KEEP_SENT
        failed_long_ago = value["status"] == FAILED and now - value["failed"] > KEEP_FAILED
        if not (sent_long_ago or failed_long_ago):
            continue
        if sent_long_ago and value["after"] in (Status.RESOLVED, Status.INACTIVE):
            forget_thread(store.state, receiver, value["incident"])
        count += store.outbox.delete(name, stored.token)
    return count
