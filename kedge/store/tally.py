"""Counting alerts by what is told of them, for stores that hold their documents in memory."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from kedge.alerting.finding import Severity


class Standing(msgspec.Struct):
    """What of an alert is counted; the rest of its document is passed over."""

    status: str | None = None
    severity: int | None = None


def tally(alerts: Iterable[Standing]) -> dict[tuple[str, str], int]:
    """By `status` and the word of their `severity`, each empty where an alert has none."""
    counts = Counter((alert.status or "", alert.severity) for alert in alerts)
    return {
        (status, Severity(severity).word if severity else ""): count
        for (status, severity), count in counts.items()
    }
