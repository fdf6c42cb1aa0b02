"""Expiring leases by compare-and-set: they save doubled work, and nothing is wrong without them."""

from kedge.store.base import DocumentStore
from kedge.windows import Millis


def acquire(state: DocumentStore, name: str, holder: str, now: Millis, length: Millis) -> bool:
    """Take or renew the lease `name` until now + length; False while somebody else holds it.

    One from further ahead than twice its length was taken by a clock that has been set back since.
    """
    stored = state.get(f"lease:{name}")
    if stored and stored.value["holder"] != holder and now < stored.value["until"] <= now + 2 * length:
        return False
    value = {"holder": holder, "until": now + length}
    return state.swap(f"lease:{name}", value, stored.token if stored else None)


def release(state: DocumentStore, name: str, holder: str) -> None:
    """Give it up early, if it is still ours."""
    stored = state.get(f"lease:{name}")
    if stored and stored.value["holder"] == holder:
        state.swap(f"lease:{name}", {"holder": holder, "until": 0}, stored.token)
