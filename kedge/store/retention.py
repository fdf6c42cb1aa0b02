"""How long each stream is kept, and the floors: from where on each has not been dropped. Pure.

A floor lies in `kedge-state` and only ever rises. It is raised *before* anything is dropped, so whoever reads
it knows at least what may be gone: rows and buckets before it are neither taken nor made anew.
"""

from collections.abc import Mapping
from typing import NamedTuple

from kedge.windows import DAY, HOUR, MINUTE, Millis, floor, iso

DOCUMENT = "retention"
"""The name of the state document."""


class Retention(NamedTuple):
    """For how long each stream is kept; None: for ever."""

    predictions: Millis | None = None
    rejected: Millis | None = None
    minutes: Millis | None = None
    """Summaries and metrics of minutes; of hours and days alike."""
    hours: Millis | None = None
    days: Millis | None = None

    def floors(self, now: Millis) -> "Floors":
        """Where each stream begins at `now`: at the start of a day (UTC), because whole days are dropped."""
        return Floors(*(0 if kept is None else max(0, floor(now - kept, DAY)) for kept in self))

    def at_most(self, other: Mapping[str, Millis]) -> "Retention":
        """The shorter of the two, stream by stream."""
        return Retention(
            *(
                min((r for r in (kept, other.get(name)) if r is not None), default=None)
                for name, kept in zip(self._fields, self, strict=True)
            )
        )


class Floors(NamedTuple):
    """The event time from which on each stream may still be there; 0: all of it."""

    predictions: Millis = 0
    rejected: Millis = 0
    minutes: Millis = 0
    hours: Millis = 0
    days: Millis = 0

    @property
    def tiers(self) -> dict[Millis, Millis]:
        """By tier of summaries."""
        return {MINUTE: self.minutes, HOUR: self.hours, DAY: self.days}

    def raised(self, other: "Floors") -> "Floors":
        """The higher of the two, stream by stream."""
        return Floors(*map(max, self, other))

    @classmethod
    def of(cls, document: Mapping[str, Millis]) -> "Floors":
        return cls(**{name: document[name] for name in cls._fields if name in document})


class Swept(NamedTuple):
    """What `Store.retire` did."""

    dropped: tuple[str, ...] = ()
    """The indices or tables that are gone."""
    managed: Mapping[str, Millis] = {}
    """Where the server drops by itself (ILM, ISM): after how long, by stream. Nothing was dropped then."""


def stream_of(width: Millis) -> str:
    """The stream of summaries or metrics of that width."""
    return "minutes" if width < HOUR else "hours" if width < DAY else "days"


def sealed_before(floors: Floors, retention: Retention, now: Millis) -> Millis:
    """Buckets that begin before this are sealed: no longer counted in the logs, which may be gone in a day.

    One period (a day) lies between the seal and the drop, so that a worker whose clock is behind, or that
    was stalled, does not count what another one has just dropped. 0: nothing is.
    """
    floor_now = max(floors.predictions, retention.floors(now).predictions)
    return floor_now + DAY if floor_now else 0


def too_old(floor: Millis) -> str:
    """Why a row from before the floor is refused."""
    return (
        f"is older than predictions are kept: those before {iso(floor)} are dropped (retention.predictions)"
    )
