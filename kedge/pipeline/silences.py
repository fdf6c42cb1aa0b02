"""Silences in the store: added, listed, ended by hand, and what they cover."""

import logging
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from kedge.alerting.finding import AlertState
from kedge.alerting.loading import RuleBook
from kedge.alerting.matchers import Match, state_labels
from kedge.alerting.silences import Phase, Silence, about, expired, new_silence, silenced_by
from kedge.errors import BadInput
from kedge.store.base import DocumentStore, Json, Stored
from kedge.windows import DAY, Millis, iso

SILENCE = "route:silence:"
KEEP_EXPIRED: Millis = 5 * DAY
MOST = 1_000
"""Silences that are kept at once."""

_log = logging.getLogger(__name__)


def silence_in(name: str, stored: Stored) -> Silence | None:
    """The silence of a document; None where it is none, or cannot be read."""
    if not name.startswith(SILENCE):
        return None
    try:
        silence = msgspec.convert(stored.value, Silence)
        _ = silence.matchers
    except (msgspec.ValidationError, BadInput) as error:
        _log.error("%s cannot be read: %s", name, error)
        return None
    return silence


def all_silences(state: DocumentStore) -> list[Silence]:
    """Those that are kept, the newest first."""
    found = (silence_in(name, stored) for name, stored in state.find(SILENCE).items())
    return sorted((s for s in found if s is not None), key=lambda s: (-s.created, s.id))


def add_silence(
    state: DocumentStore, match: Match, *, author: str, reason: str, now: Millis, starts: Millis, ends: Millis
) -> Silence:
    """Keep a new silence; raises BadInput where it makes no sense."""
    silence = new_silence(
        secrets.token_hex(4), match, author=author, reason=reason, created=now, starts=starts, ends=ends
    )
    if len(state.find(SILENCE)) >= MOST:
        raise BadInput(f"there are {MOST} silences already: let some expire")
    if not state.swap(SILENCE + silence.id, msgspec.to_builtins(silence), None):
        raise BadInput("there is a silence of that id: try again")
    return silence


def expire_silence(state: DocumentStore, prefix: str, now: Millis) -> Silence:
    """End a silence at once; `prefix` is the beginning of its id. Raises BadInput unless it is the only
    one."""
    while True:
        found = state.find(SILENCE + prefix)
        if len(found) != 1 or not prefix:
            raise BadInput(f'{len(found) or "no"} silences begin with "{prefix}" (see kedge silence list)')
        ((name, stored),) = found.items()
        silence = silence_in(name, stored)
        if silence is None:
            raise BadInput(f"silence {prefix} cannot be read")
        if silence.phase(now) is Phase.EXPIRED:
            return silence
        ended = expired(silence, now)
        if state.swap(name, {**stored.value, **msgspec.to_builtins(ended)}, stored.token):
            return ended


def silence_row(silence: Silence, now: Millis) -> Json:
    """As `kedge silence list --json` prints it."""
    return {
        "id": silence.id,
        "state": silence.phase(now).value,
        "match": silence.match,
        "conditions": about(silence),
        "author": silence.author,
        "reason": silence.reason,
        "starts": iso(silence.starts),
        "ends": iso(silence.ends),
    }


def covering(state: AlertState, silences: Sequence[Silence], book: RuleBook, now: Millis) -> Json | None:
    """What silences an alert as it stands, for lists; None where nothing does."""
    rule = book.by_name.get(state.rule)
    labels = state_labels(state, rule.identity.labels if rule else {})
    silence = silenced_by(labels, silences, now)
    if silence is None:
        return None
    found: dict[str, Any] = silence_row(silence, now)
    return {name: found[name] for name in ("id", "author", "reason", "ends")}
