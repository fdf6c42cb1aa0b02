"""Expiring leases by compare-and-set: they save doubled work, and nothing is wrong without them."""

from kedge.store.base import DocumentStore, Json
from kedge.windows import Millis


def acquire(state: DocumentStore, name: str, holder: str, now: Millis, length: Millis) -> bool:
    """Take or renew the lease `name` until now + length; False while somebody else holds it.

    One from further ahead than twice its length was taken by a clock that has been set back since.
    """
    stored = state.get(f"lease:{name}")
    if stored and stored.value["holder"] != holder and now < stored.value["until"] <= now + 2 * length:
        return False
    value = (stored.value if stored else {}) | {"holder": holder, "until": now + length}
    return state.swap(f"lease:{name}", value, stored.token if stored else None)


def release(state: DocumentStore, name: str, holder: str, told: Json | None = None) -> None:
    """Give it up early, if it is still ours; `told` is left for those who ask (`left`), in the same write."""
    stored = state.get(f"lease:{name}")
    if stored and stored.value["holder"] == holder:
        value = stored.value | {"until": 0} | ({"left": told} if told is not None else {})
        state.swap(f"lease:{name}", value, stored.token)


def left(state: DocumentStore, name: str) -> Json | None:
    """What its last holder left to be told."""
    stored = state.get(f"lease:{name}")
    return stored.value.get("left") if stored else None
