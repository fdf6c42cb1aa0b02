"""What gateways still hold in their spools, told by themselves in `kedge-state`.

A gateway tells every quarter of a minute, and at once when its spool begins to hold rows or is empty again.
Before it writes the first row of a spool it has told of it, so a window that those rows belong to is known
to be incomplete before some of them are counted.
"""

from collections.abc import Iterable
from typing import NamedTuple

from kedge.store.base import DocumentStore, Json
from kedge.windows import MINUTE, Millis

PREFIX = "gateway:"
SILENT = 15 * MINUTE
"""A gateway that has said nothing for so long is not waited for."""


class Gateway(NamedTuple):
    """What a gateway said last."""

    name: str
    oldest: Millis | None
    """The earliest event time of the predictions that it holds. Labels are not counted: they may come late
    in any case."""
    rows: int
    bytes: int
    at: Millis
    """When, by its own clock: real time, also in a rehearsal."""

    def silent(self, now: Millis) -> bool:
        return self.at < now - SILENT


def tell(state: DocumentStore, gateway: Gateway) -> None:
    """Put what a gateway says in place of what it said. Raises what the store raises."""
    name = PREFIX + gateway.name
    said = gateway._asdict()
    del said["name"]
    while True:
        stored = state.get(name)
        if state.swap(name, said, stored.token if stored else None):
            return


def forget(state: DocumentStore, name: str) -> None:
    """A gateway ends, and holds nothing."""
    if stored := state.get(PREFIX + name):
        state.delete(PREFIX + name, stored.token)


def gateways(state: DocumentStore) -> list[Gateway]:
    """All that have said something, the silent ones too."""
    return [_gateway(name, stored.value) for name, stored in state.find(PREFIX).items()]


def _gateway(name: str, said: Json) -> Gateway:
    return Gateway(name.removeprefix(PREFIX), said["oldest"], said["rows"], said["bytes"], said["at"])


def spooled_since(state: DocumentStore, now: Millis) -> Millis | None:
    """The earliest event time of which a gateway still holds rows; None where none does.

    A window that ends after it is incomplete. `now` is real time; gateways silent for SILENT are ignored
    (`silent_holders` names them).
    """
    held = (g.oldest for g in gateways(state) if g.oldest is not None and not g.silent(now))
    return min(held, default=None)


def silent_holders(said: Iterable[Gateway], now: Millis) -> list[Gateway]:
    """Gateways that held rows when they were last heard, too long ago to be waited for."""
    return [gateway for gateway in said if gateway.rows and gateway.silent(now)]


def silent_others(said: Iterable[Gateway], now: Millis) -> list[Gateway]:
    """Gateways that held nothing when last heard, long ago, and said no farewell: killed, or cut off.

    One that is cut off from the store spools, and no window knows of its rows until it is back.
    """
    return [gateway for gateway in said if not gateway.rows and gateway.silent(now)]
