"""What people know of Prometheus' alerting rules, as tables: where an alert stands after each evaluation.
Where kedge does something else, and on purpose, a test says so.

A column of a sequence is one evaluation: `m` the expression holds, `.` it does not, `?` there is no series.
"""

import msgspec
import pytest

from kedge.alerting.finding import AlertState, Status
from kedge.alerting.lifecycle import Identity, NoData, Timing, alert_id, end, fold, new_state
from kedge.windows import MINUTE
from tests.alerting.steps import IDENTITY, finding, minutes, run, stands

ABSENT_IS_OK = NoData.OK
"""What a series that is not there means in Prometheus: the expression does not hold for it."""


@pytest.mark.parametrize(
    ("holds", "expected", "wait"),
    [
        # Without `for` it fires with the first evaluation that holds, and ends with the first that does not.
        ("m", "M", 0),
        (".m.m", "-MRM", 0),
        # With it, it is pending from then on, and fires with the first evaluation at least that long after.
        ("mmmmm", "pppMM", 3),
        ("mmm", "ppp", 3),
        ("mmmm", "pppM", 2.5),
        ("mm", "pM", 0.25),
        # One evaluation that does not hold begins the wait anew; nobody heard of the one before.
        ("mm.mmmm", "pp-pppM", 3),
        ("m.m.m.m", "p-p-p-p", 1),
        # Once it fired, the same holds for the next time.
        ("mmm.mmm", "ppMRppM", 2),
    ],
)
def test_pending_to_firing(holds: str, expected: str, wait: float) -> None:
    assert stands(run(holds, minutes(wait))) == expected


@pytest.mark.parametrize(
    ("holds", "expected", "wait", "keep"),
    [
        # It goes on firing until the expression has not held for that long, and not a moment less.
        ("m....", "MMMMR", 0, 3),
        ("m...", "MMMM", 0, 3),
        ("m..", "MMR", 0, 1),
        ("m...", "MMMR", 0, 1.5),
        # Each evaluation that holds in between begins that anew, without waiting for `for` again.
        ("m..m..m...", "MMMMMMMMMR", 0, 2),
        ("mmm.m..", "ppMMMMR", 2, 1),
        # A pending alert is not kept: it is over at once.
        ("m.", "p-", 2, 5),
        ("mm.mmm", "pp-ppM", 2, 5),
        # What was kept and ended has to wait like any other.
        ("mmm...mmm", "ppMMMRppM", 2, 2),
    ],
)
def test_keep_firing_for(holds: str, expected: str, wait: float, keep: float) -> None:
    assert stands(run(holds, minutes(wait, keep))) == expected


def after_an_outage(before: str, outage: str, then: str, timing: Timing) -> str:
    """Where it stands after each evaluation once a new process has read the stored state: first those that
    fell into the outage, then those after it."""
    state = run(before, timing)[-1]
    read = msgspec.json.decode(msgspec.json.encode(state), type=AlertState)
    return stands(run(outage + then, timing, read))


@pytest.mark.parametrize(
    ("before", "outage", "then", "expected", "because"),
    [
        ("mm", "", "mm", "pM", "the wait goes on where it was"),
        ("mmmm", "", "m", "M", "what fired fires, and is not told again"),
        ("mm", "mmm", "m", "pMMM", "it fires at the step at which it should have"),
        ("mm", "..m", "mmm", "--pppM", "what was not the case meanwhile is known: it waits anew"),
        ("mmmm", "..", "mm", "RRpp", "and ends what fired"),
        ("mmmm", "..m", "mmm", "RRpppM", "even if the expression holds again by now"),
        ("mm", "???", "m", "pppM", "rows that never came tell nothing: the start is kept"),
        ("mmmm", "???", "m", "MMMM", "and what fires goes on"),
    ],
)
def test_restored_after_an_outage(before: str, outage: str, then: str, expected: str, because: str) -> None:
    """Prometheus cannot know what happened meanwhile: it goes on as if nothing had, after a period of grace.
    kedge judges the steps of the outage, for their logs are there; where they are not, it does the same."""
    assert after_an_outage(before, outage, then, minutes(3)) == expected, because


def test_an_outage_during_keep_firing_counts_in_it() -> None:
    assert after_an_outage("m.", "..", ".", minutes(0, keep=3)) == "MMR"
    assert after_an_outage("m.", "..", ".", minutes(0, keep=4)) == "MMM"


# --- labels -------------------------------------------------------------------------------------------------


def of_instances(samples: dict[str, str], timing: Timing) -> dict[str, str]:
    """Where the alert of each instance stands after each evaluation."""
    found = {}
    for instance, holds in samples.items():
        state, states = new_state("down", "api", "", {"host": instance}), []
        for i, character in enumerate(holds, 1):
            state = fold(state, finding(character, i * MINUTE), timing, IDENTITY, 0)
            states.append(state)
        found[instance] = stands(states)
    return found


@pytest.mark.parametrize(
    ("samples", "no_data", "expected"),
    [
        # Each set of labels is an alert, with a wait of its own.
        ({"a": "mmmm", "b": ".mmm"}, ABSENT_IS_OK, {"a": "ppMM", "b": "-ppM"}),
        # One whose labels change is another alert: the old one is over, the new one waits.
        ({"a": "mmm???", "b": "???mmm"}, ABSENT_IS_OK, {"a": "ppMRRR", "b": "---ppM"}),
        # It had only waited: nobody hears of it.
        ({"a": "mm???", "b": "??mmm"}, ABSENT_IS_OK, {"a": "pp---", "b": "--ppM"}),
        # kedge's own way, unless a rule says otherwise: missing data is no recovery.
        ({"a": "mmm???", "b": "???mmm"}, NoData.KEEP, {"a": "ppMMMM", "b": "---ppM"}),
        # Or it is told.
        ({"a": "mmm???"}, NoData.ALERT, {"a": "ppMMMn"}),
    ],
)
def test_labels_that_change(samples: dict[str, str], no_data: NoData, expected: dict[str, str]) -> None:
    assert of_instances(samples, minutes(2, no_data=no_data)) == expected


def test_an_alert_is_the_same_in_whatever_order_its_labels_come() -> None:
    assert alert_id("down", "api", "", {"host": "a", "zone": "1"}) == alert_id(
        "down", "api", "", {"zone": "1", "host": "a"}
    )


# --- edits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "edited", "then", "expected", "because"),
    [
        ("mmm", minutes(5), "mmm", "ppM", "a raised `for` sends it back to pending, from the same start"),
        ("mmm", minutes(9), "m.", "p-", "where it ends without firing again"),
        ("mm", minutes(1), "m", "M", "a lowered one fires with the next evaluation"),
        ("mmm", minutes(2, keep=2), "...", "MMR", "keep_firing holds from the edit on"),
        ("mmm.", minutes(2, keep=0), ".", "R", "and lets go where it was taken away"),
    ],
)
def test_timing_that_is_edited(before: str, edited: Timing, then: str, expected: str, because: str) -> None:
    state = run(before, minutes(2, keep=2 if before.endswith(".") else 0))[-1]
    assert stands(run(then, edited, state)) == expected, because


def test_an_expression_that_is_edited_judges_on_what_fires_and_begins_a_wait_anew() -> None:
    """Prometheus takes it for another rule and forgets; kedge has told people of it, so it goes on."""
    edited = Identity(signature="two")
    assert stands(run("mmm", minutes(2), run("mmm", minutes(2))[-1], edited)) == "MMM"
    assert stands(run("mmm", minutes(2), run("mm", minutes(2))[-1], edited)) == "ppM"


def test_a_rule_that_is_deleted_ends_its_alerts() -> None:
    """Prometheus lets them expire without a word; kedge says that nobody looks any more, once."""
    firing, pending = run("mmm", minutes(2))[-1], run("m", minutes(2))[-1]
    ended = end(firing, "the rule is gone", IDENTITY, 9)
    assert (ended.status, ended.outgoing[-1].reason) == (Status.RESOLVED, "the rule is gone")
    assert end(ended, "the rule is gone", IDENTITY, 10) is ended
    assert end(pending, "the rule is gone", IDENTITY, 9).status is Status.INACTIVE
