"""A row that is not taken, and why."""

import msgspec

from ingest.wire import LABEL, PREDICTION
from kedge.errors import BadInput

REASONS = {
    **{
        name: f"the field `{name}` is not valid"
        for name in sorted({*PREDICTION.type.__struct_encode_fields__, *LABEL.type.__struct_encode_fields__})
    },
    "row": "the row as a whole cannot be read",
    "retention": "it is older than what is kept",
    "store": "the store refused it",
}
"""What may be wrong with a row, in words that no client chooses: for counting."""


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

    @property
    def kind(self) -> str:
        """The one of REASONS that it is, of a row that is not valid."""
        name = self.field.partition(".")[0]
        return name if name in REASONS else "row"
