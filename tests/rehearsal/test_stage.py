"""What a rehearsal writes is kept in memory, and answers as a store would."""

from kedge.rehearsal.stage import Documents


def test_alerts_of_a_rehearsal_are_counted_as_those_of_a_store() -> None:
    alerts = Documents()
    for name, value in {
        "a": {"rule": "r", "status": "firing", "severity": 4},
        "b": {"rule": "r", "status": "firing", "severity": 4},
        "c": {"rule": "r"},
    }.items():
        assert alerts.swap(name, value, None)
    assert alerts.tally() == {("firing", "high"): 2, ("", ""): 1}
