"""How the command line tells the history of an alert."""

import msgspec
import pytest

from kedge.alerting.corrections import correct
from kedge.alerting.finding import AlertState
from kedge.alerting.lifecycle import acknowledge, end
from kedge.cli.operate import changed
from kedge.windows import MINUTE
from tests.alerting.steps import IDENTITY, finding, minutes, run

TIMING = minutes(0, corrects=60, flaps=60)
NOT_SO = [finding(".", step * MINUTE) for step in (1, 2)]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (run("m", minutes(5))[-1], "inactive → pending"),
        (run("h", TIMING)[-1], "inactive → firing high"),
        (run("mh", TIMING)[-1], "firing medium → firing high"),
        (acknowledge(run("m", TIMING)[-1], "ada", IDENTITY, 9), "firing medium → acknowledged medium"),
        (run("m.", TIMING)[-1], "firing medium → resolved"),
        (correct(run("mm", TIMING)[-1], NOT_SO, TIMING, IDENTITY, 9), "firing medium → resolved (disproved)"),
        (end(run("m", TIMING)[-1], "its rule went", IDENTITY, 9), "firing medium → resolved (gone)"),
        (run("m.m.m.", TIMING)[-1], "firing medium → resolved (flapping)"),
        (run("m.m.m.m", TIMING)[-1], "resolved → firing medium (flapping, not told)"),
        (run("m.m.m.m" + "m" * 60, TIMING)[-1], "firing medium (steady again)"),
    ],
)
def test_a_change_is_told_in_a_line(state: AlertState, expected: str) -> None:
    assert changed(msgspec.to_builtins(state.outgoing[-1])) == expected
