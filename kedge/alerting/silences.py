"""Silences: somebody asked not to be told, for a while and for a reason. Pure: time is an argument."""

from collections.abc import Iterable
from enum import StrEnum
from functools import cached_property
from typing import Any

import msgspec

from kedge.alerting.matchers import Labels, Match, describe, matches, parse_match
from kedge.errors import BadInput
from kedge.windows import DAY, Millis, iso

LONGEST: Millis = 366 * DAY
MOST_REASON = 1_000
"""Characters."""


class Phase(StrEnum):
    PENDING = "pending"
    """Not begun."""
    ACTIVE = "active"
    EXPIRED = "expired"


class Silence(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One silence as it is stored. JSON-able."""

    id: str
    match: dict[str, Any]
    """Conditions as `parse_match` reads them; all must hold."""
    author: str
    reason: str
    created: Millis
    starts: Millis
    ends: Millis
    """Excluded: at this time it is over."""

    @cached_property
    def matchers(self) -> Match:
        return parse_match(self.match)

    def phase(self, now: Millis) -> Phase:
        if now >= self.ends:
            return Phase.EXPIRED
        return Phase.PENDING if now < self.starts else Phase.ACTIVE

    def covers(self, labels: Labels, now: Millis) -> bool:
        return self.phase(now) is Phase.ACTIVE and matches(self.matchers, labels)

    def __str__(self) -> str:
        return f"silenced by {self.author} until {iso(self.ends)}: {self.reason}"


def new_silence(
    id: str, match: Match, *, author: str, reason: str, created: Millis, starts: Millis, ends: Millis
) -> Silence:
    """Raises BadInput where it would silence everything, nothing, or nobody says why."""
    if not match:
        raise BadInput("a silence needs a condition (to silence everything: rule=~.*)")
    if not author.strip() or not reason.strip():
        raise BadInput("a silence needs an author and a reason")
    if len(reason) > MOST_REASON:
        raise BadInput(f"a reason has at most {MOST_REASON} characters")
    if ends <= max(starts, created):
        raise BadInput(f"a silence must end after it begins, and in the future ({iso(ends)})")
    if ends - starts > LONGEST:
        raise BadInput("a silence lasts a year at most: change the rule, or its route, for longer")
    return Silence(
        id=id,
        match={matcher.label: matcher.written for matcher in match},
        author=author.strip(),
        reason=reason.strip(),
        created=created,
        starts=starts,
        ends=ends,
    )


def expired(silence: Silence, now: Millis) -> Silence:
    """Ended at `now`, be it before it began; one that is over stays as it is."""
    if silence.phase(now) is Phase.EXPIRED:
        return silence
    return msgspec.structs.replace(silence, starts=min(silence.starts, now), ends=now)


def silenced_by(labels: Labels, silences: Iterable[Silence], now: Millis) -> Silence | None:
    """The silence that covers an alert; of several the one that lasts longest."""
    covering = [silence for silence in silences if silence.covers(labels, now)]
    return max(covering, key=lambda silence: (silence.ends, silence.id), default=None)


def about(silence: Silence) -> str:
    """Its conditions, for people."""
    return describe(silence.matchers)
