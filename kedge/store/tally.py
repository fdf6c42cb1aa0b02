"""Counting alerts by what is told of them, for stores that hold their documents in memory."""

from collections import Counter
from collections.abc import Iterable

from kedge.alerting.finding import Severity
from kedge.store.base import Stored


def tally(alerts: Iterable[Stored]) -> dict[tuple[str, str], int]:
    """By `status` and the word of their `severity`, each empty where an alert has none."""
    return dict(Counter((_status(alert), _severity(alert)) for alert in alerts))


def _status(alert: Stored) -> str:
    return str(alert.value.get("status") or "")


def _severity(alert: Stored) -> str:
    severity = alert.value.get("severity")
    return Severity(severity).word if severity else ""
