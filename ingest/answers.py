"""What became of the rows of one request, as it is answered."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ingest.body import Decoded
from ingest.rejection import Rejection
from ingest.wire import WirePrediction
from kedge.store.base import Written

MAX_LISTED = 100
"""Rejections listed in one answer; all are counted."""


class PredictionAnswer(msgspec.Struct, omit_defaults=True):
    """What became of the predictions of one request."""

    accepted: int
    duplicate: int
    """Rows whose id is stored already; nothing was changed."""
    rejected: int
    rejections: list[Rejection]
    notice: str | None = None
    spooled: int = 0
    """Rows kept by the gateway until the store takes them; whether they are duplicates is not known yet."""

    @property
    def useless(self) -> bool:
        """Every row was rejected."""
        return self.rejected > 0 and self.accepted + self.duplicate + self.spooled == 0


class LabelAnswer(msgspec.Struct, omit_defaults=True):
    """What became of the labels of one request."""

    accepted: int
    """Joined to their predictions."""
    superseded: int
    """The prediction has a label that is as new or newer."""
    waiting: int
    """Kept until their prediction arrives."""
    rejected: int
    rejections: list[Rejection]
    notice: str | None = None
    spooled: int = 0
    """Labels kept by the gateway until the store can take them."""

    @property
    def useless(self) -> bool:
        return self.rejected > 0 and self.accepted + self.superseded + self.waiting + self.spooled == 0


def answered(
    counts: Mapping[Written, int], rejected: Sequence[Rejection], spooled: int = 0
) -> PredictionAnswer:
    return PredictionAnswer(
        accepted=counts[Written.CREATED],
        duplicate=counts[Written.DUPLICATE],
        rejected=len(rejected),
        rejections=listed(rejected),
        spooled=spooled,
    )


def listed(rejections: Iterable[Rejection]) -> list[Rejection]:
    return sorted(rejections, key=lambda rejection: rejection.index)[:MAX_LISTED]


def notice(decoded: Decoded[WirePrediction]) -> str | None:
    """What the caller should know although the rows were taken."""
    sentences = []
    nameless = sum(row.id is None for _, row in decoded.rows)
    timeless = sum(row.timestamp is None and row.id is not None for _, row in decoded.rows)
    if nameless:
        sentences.append(
            f"{_rows(nameless)} had no id and got one: sent again, they would be stored again. "
            "Send id and timestamp, and a retry is harmless."
        )
    if timeless:
        sentences.append(
            f"{_rows(timeless)} had no timestamp and got the time of arrival: "
            "sent again in another period, they would be stored again."
        )
    if unknown := unknown_names(decoded.unknown):
        sentences.append(unknown)
    return " ".join(sentences) or None


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def unknown_names(names: set[str]) -> str | None:
    if not names:
        return None
    first = sorted(name[:64] for name in names)[:10]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"Unknown fields were left out: {', '.join(first)}{more}."
