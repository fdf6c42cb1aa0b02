"""Transitions to tell people of."""

from typing import Any

import msgspec

from kedge.alerting.finding import Finding, Severity, State, Status, Transition
from kedge.windows import DAY, HOUR, parse_time

STEP = parse_time("2026-11-09T13:05:00Z")
DECIDED = STEP + 61_000


def finding(**changes: Any) -> Finding:
    """Recall fell from 0.84 to 0.71."""
    values: dict[str, Any] = {
        "step": STEP,
        "state": State.BREACH,
        "severity": Severity.HIGH,
        "value": 0.71,
        "bound": 0.756,
        "reference": 0.84,
        "reference_n": 910,
        "n": 200,
        "interval": (0.64, 0.77),
        "window": (parse_time("2026-11-02"), parse_time("2026-11-09")),
        "unit": "ratio",
        "change": "−15 % (limit −10 %)",
        "clears": "fall under 3 %",
        "causes": ({"feature": "merchant_type", "text": "9 % never seen (usual 0 %)"},),
    }
    return Finding(**(values | changes))


def transition(id: str = "t1", **changes: Any) -> Transition:
    """It fires, at high."""
    values: dict[str, Any] = {
        "id": id,
        "alert": "alert1",
        "rule": "recall-fell",
        "model": "fraud",
        "version": "7",
        "group": {"segment.country": "DE"},
        "before": Status.PENDING,
        "after": Status.FIRING,
        "step": STEP,
        "decided": DECIDED,
        "severity": Severity.HIGH,
        "finding": finding(),
        "reason": "breaching for 3d",
        "started": STEP - 3 * DAY,
        "place": "rules/fraud.yml:12",
        "runbook": "https://wiki.example/recall",
    }
    return Transition(**(values | changes))


def episode() -> list[Transition]:
    """One incident: fires at medium, worsens, eases, loses its data, gets it back, resolves."""
    changes: list[dict[str, Any]] = [
        {"before": Status.PENDING, "after": Status.FIRING, "severity": Severity.MEDIUM},
        {"severity": Severity.HIGH, "severity_before": Severity.MEDIUM},
        {"severity": Severity.MEDIUM, "severity_before": Severity.HIGH},
        {"after": Status.NO_DATA, "severity": Severity.MEDIUM, "severity_before": Severity.MEDIUM},
        {"before": Status.NO_DATA, "severity": Severity.MEDIUM, "severity_before": Severity.MEDIUM},
        {"after": Status.RESOLVED, "severity": Severity.MEDIUM, "severity_before": Severity.MEDIUM},
    ]
    return [
        transition(
            f"t{i}", **({"before": Status.FIRING, "after": Status.FIRING} | change), step=STEP + i * HOUR
        )
        for i, change in enumerate(changes)
    ]


def as_json(value: Transition) -> dict[str, Any]:
    """As a store gives it back."""
    return msgspec.json.decode(msgspec.json.encode(value))  # type: ignore[no-any-return]
