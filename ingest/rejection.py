"""A row that is not taken, and why."""

import msgspec

from kedge.errors import BadInput


class Rejection(msgspec.Struct, frozen=True):
    """One row that was not taken. Its neighbours were."""

    index: int
    """Of the row in its request or file, from 0."""
    field: str
    """As the client wrote it, dotted: `features.age`; empty where it is the whole row."""
    reason: str

    @classmethod
    def of(cls, index: int, error: BadInput) -> "Rejection":
        return cls(index, error.place, error.reason)
