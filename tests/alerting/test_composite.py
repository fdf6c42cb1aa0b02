"""Composites: which alerts of other rules fire together, for what labels, and what is not told meanwhile."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.alerting.composite import CompositeRule
from kedge.alerting.finding import AlertState, Finding, Severity, State, Status
from kedge.alerting.inputs import Inputs, Standing
from kedge.alerting.lifecycle import Identity, Timing, acknowledge, fold, new_state, resolve
from kedge.alerting.loading import parse_rules
from kedge.alerting.muting import Muter, firing_at, muted
from kedge.windows import MINUTE, Window
from tests.alerting.make import NOW, rules

MANY = "\n".join(f"{{name: {name}, metric: errors.rate, above: 5%}}" for name in "abcd")


def composite(text: str) -> CompositeRule:
    book = rules(f"{MANY}\n{{name: it, kind: composite, {text}}}")
    assert not book.problems, book.problems
    found = book.by_name["it"]
    assert isinstance(found, CompositeRule)
    return found


def firing(*alerts: str) -> dict[str, tuple[Standing, ...]]:
    """`a`, `b region=eu`: firing alerts by rule; `!` after a rule's name is high."""
    found: dict[str, tuple[Standing, ...]] = {}
    for alert in alerts:
        name, *labels = alert.split()
        severity = Severity.HIGH if name.endswith("!") else Severity.LOW
        one = Standing(name[0], dict(label.split("=") for label in labels), severity, "it is so")
        found[name[0]] = (*found.get(name[0], ()), one)
    return found


def made(text: str, *alerts: str, own: Sequence[dict[str, str]] = ()) -> list[tuple[dict[str, str], Finding]]:
    inputs = Inputs(Window(NOW - MINUTE, NOW), None, own=tuple(own), standing=firing(*alerts))
    return composite(text).judge_all(inputs, NOW)


@pytest.mark.parametrize(
    ("text", "alerts", "expected"),
    [
        ("all: [a, b]", ["a"], []),
        ("all: [a, b]", ["a", "b"], [{}]),
        ("any: [a, b]", ["b"], [{}]),
        ("any: a", ["b"], []),
        ("all: [a, {any: [b, c]}]", ["a", "c"], [{}]),
        ("all: [a, {any: [b, c]}]", ["b", "c"], []),
        ("all: [a], any: [b, c]", ["a"], []),
        ("all: [a], any: [b, c]", ["a", "b"], [{}]),
        ("all: [a], none: [d]", ["a"], [{}]),
        ("all: [a], none: [d]", ["a", "d"], []),
        ("all: [a, {none: [b, c]}]", ["a", "c"], []),
        ("any: [a, {all: [b, {none: [c]}]}]", ["b"], [{}]),
        ("any: [a, {all: [b, {none: [c]}]}]", ["b", "c"], []),
        # Labels: alerts meet on those that they share.
        ("all: [a, b]", ["a region=eu", "b region=us"], []),
        ("all: [a, b]", ["a region=eu", "a region=us", "b region=us"], [{"region": "us"}]),
        ("all: [a, b]", ["a region=eu", "a region=us", "b"], [{"region": "eu"}, {"region": "us"}]),
        ("all: [a, b]", ["a region=eu", "b plan=free"], [{"plan": "free", "region": "eu"}]),
        ("all: [a, b]", ["a version=v1", "b version=v2"], []),
        ("any: [a, b]", ["a region=eu", "b region=eu"], [{"region": "eu"}]),
        ("any: [a, b]", ["a region=eu", "b"], [{}, {"region": "eu"}]),
        ("all: [a], none: [d]", ["a region=eu", "a region=us", "d region=us"], [{"region": "eu"}]),
        ("all: [a], none: [d]", ["a region=eu", "d"], []),
    ],
)
def test_alerts_fire_together_where_their_labels_meet(
    text: str, alerts: list[str], expected: list[dict[str, str]]
) -> None:
    found = made(text, *alerts)
    assert [labels for labels, _ in found] == expected
    assert all(finding.state is State.BREACH for _, finding in found)


def test_it_is_as_severe_as_the_worst_of_its_alerts_unless_it_says_otherwise() -> None:
    ((_, finding),) = made("all: [a, b]", "a", "b!")
    assert finding.severity is Severity.HIGH
    ((_, finding),) = made("all: [a, b], severity: critical", "a", "b!")
    assert finding.severity is Severity.CRITICAL


def test_it_says_which_alerts_made_it_and_what_they_say() -> None:
    ((_, finding),) = made("all: [a, {any: [b, c]}], none: [d]", "a", "c!")
    assert finding.reason == "a and c fire together, and not d"
    assert [cause["rule"] for cause in finding.causes] == ["a", "c"]
    assert finding.causes[1]["text"] == "(high): it is so"


def test_an_alert_of_its_own_is_ok_once_its_parts_no_longer_fire_together() -> None:
    ((labels, finding),) = made("all: [a, b]", "a region=eu", own=[{"region": "eu"}])
    assert (labels, finding.state) == ({"region": "eu"}, State.OK)
    assert finding.reason == "a alone fires: not what it asks for"
    ((_, finding),) = made("all: [a, b]", own=[{}])
    assert finding.reason == "none of its parts fires"


def test_parts_that_multiply_are_bounded() -> None:
    alerts = [f"a x={i}" for i in range(60)] + [f"b y={i}" for i in range(60)]
    assert len(made("all: [a, b]", *alerts)) == 1_000


def test_names_that_are_wrong_are_told_where_they_stand() -> None:
    book = rules(
        "{name: a, metric: errors.rate, above: 5%}\n"
        "{name: elsewhere, metric: errors.rate, above: 5%, model: churn}\n"
        "{name: c, kind: composite, all: [a, {any: [aa, elsewhere]}]}\n"
        "{name: d, kind: composite, any: [a, e]}\n"
        "{name: e, kind: composite, any: [d]}\n"
        "{name: f, kind: composite, any: [f]}\n"
        "{name: g, kind: composite, any: [nothing-like-it]}"
    )
    never_meet = 'rule "c": all: "elsewhere" is of model churn, and this rule of fraud: they never meet'
    assert [str(p) for p in book.problems] == [
        'rules/a.yml:6:46: rule "c": all: there is no rule "aa" (did you mean "a"?)',
        f"rules/a.yml:6:50: {never_meet}",
        'rules/a.yml:7:39: rule "d": any: needs itself: d → e → d',
        'rules/a.yml:8:36: rule "e": any: needs itself: e → d → e',
        'rules/a.yml:9:36: rule "f": any: needs itself: f → f',
        'rules/a.yml:10:36: rule "g": any: there is no rule "nothing-like-it"',
    ]
    assert [r.name for r in book.rules] == ["a", "elsewhere"]


def test_a_part_with_an_error_of_its_own_is_no_error_of_the_composite() -> None:
    book = rules("{name: a, metric: errors.rate, abve: 5%}\n{name: c, kind: composite, any: [a]}")
    assert [p.line for p in book.problems] == [4]
    assert book.by_name["c"].bound is None  # type: ignore[attr-defined]


def test_a_composite_is_bound_to_the_rules_of_the_book_that_is_in_force() -> None:
    good = rules(f"{MANY}\n{{name: it, kind: composite, any: [a]}}")
    worse = parse_rules("version: 1\nrules: [{name: a, model: fraud}]", "rules/a.yml")
    kept = worse.keeping(good)
    assert kept.by_name["it"].bound == (kept.by_name["a"],)  # type: ignore[attr-defined]


def test_it_is_judged_as_often_as_its_most_frequent_part() -> None:
    book = rules(
        "{name: a, metric: errors.rate, above: 5%, window: 7d}\n"
        "{name: b, metric: errors.rate, above: 5%, window: 10m}\n"
        "{name: c, kind: composite, all: [a, b]}"
    )
    assert book.by_name["c"].step(MINUTE) == book.by_name["b"].step(MINUTE)


# --- what is not told ---------------------------------------------------------------------------------------

PART = Identity("sig", notify="team")


class Story:
    """A part and its composite, minute by minute: F fires, . does not."""

    def __init__(self, *, label: str = "") -> None:
        group = {"region": label} if label else {}
        self.part = new_state("a", "fraud", "", group)
        self.whole = new_state("it", "fraud", "", {})
        self.told: list[tuple[int, str]] = []

    def minute(self, m: int, *, part: str, whole: str, late: bool = False) -> None:
        before = self.part
        after = self._after(before, m, part)
        self.whole = self._after(self.whole, m, whole)
        self.part = muted(before, after, [Muter("it", (self.whole,))], PART, m, late=late)
        new = self.part.outgoing[len(before.outgoing) :]
        self.told += [(m, t.after.value) for t in new if not t.muted_by]

    @staticmethod
    def _after(state: AlertState, m: int, mark: str) -> AlertState:
        breach: dict[str, Any] = {"state": State.BREACH, "severity": Severity.LOW}
        marks = {"F": breach, "H": {**breach, "severity": Severity.HIGH}, ".": {"state": State.OK}}
        return fold(state, Finding(step=m * MINUTE, **marks[mark]), Timing(), PART, m)

    def run(self, part: str, whole: str) -> list[tuple[int, str]]:
        for m, (p, w) in enumerate(zip(part, whole, strict=True), 1):
            self.minute(m, part=p, whole=w)
        return self.told


@pytest.mark.parametrize(
    ("part", "whole", "told"),
    [
        (".FF.", "....", [(2, "firing"), (4, "resolved")]),
        (".FF.", ".FF.", []),  # its whole life within the composite's
        (".FFFF.", ".FF...", [(4, "firing"), (6, "resolved")]),  # told once the composite is over
        ("FFF..", ".FFF.", [(1, "firing"), (4, "resolved")]),  # told before it: its end is told
        (".F.FF.", ".FFFFF", []),  # twice, both within
        (".F..F.", ".FF...", [(5, "firing"), (6, "resolved")]),
        (".FHH.", ".FFF.", []),  # worse within
        (".FHH.", ".F...", [(3, "firing"), (5, "resolved")]),  # worse just when the composite is over: once
        ("FFHH.", ".FFF.", [(1, "firing"), (5, "resolved")]),
    ],
)
def test_a_muted_part_is_heard_of_whole_or_not_at_all(
    part: str, whole: str, told: list[tuple[int, str]]
) -> None:
    assert Story().run(part, whole) == told


@given(st.lists(st.sampled_from(["..", "F.", ".F", "FF", "H.", "HF"]), max_size=12))
def test_no_firing_part_is_lost_and_none_is_heard_of_by_halves(minutes: list[str]) -> None:
    """Whatever both do: an end is told where a beginning was, and what fires alone has been told."""
    story = Story()
    heard = False
    for m, (part, whole) in enumerate(minutes, 1):
        known = len(story.told)
        story.minute(m, part=part, whole=whole)
        for _, after in story.told[known:]:
            assert after == "firing" or heard, "the end of what nobody heard of"
            heard = after == "firing"
        fires = story.part.status is Status.FIRING
        assert heard or not fires or whole == "F", "it fires alone, and nobody was told"
        assert fires or not heard, "it is over, and nobody was told"


def test_a_part_goes_on_though_nobody_is_told() -> None:
    story = Story()
    story.run(".FF", ".FF")
    assert story.part.status is Status.FIRING
    assert [t.muted_by for t in story.part.outgoing] == ["it"]


def test_what_people_do_to_a_muted_alert_is_told_to_nobody_either() -> None:
    story = Story()
    story.run(".F", ".F")
    seen = acknowledge(story.part, "ann", PART, decided=9)
    ended = resolve(seen, "ann", PART, decided=9)
    assert [(t.after.value, t.muted_by) for t in ended.outgoing] == [
        ("firing", "it"),
        ("acknowledged", "it"),
        ("resolved", "it"),
    ]
    assert ended.muted_by == ""


def test_what_is_told_late_says_why() -> None:
    story = Story()
    story.run(".FF", ".F.")
    last = story.part.outgoing[-1]
    assert last.reason == "it, in which it was told, is over; it still fires"
    assert (last.before, last.after, last.notify) == (Status.FIRING, Status.FIRING, "team")
    assert len({t.id for t in story.part.outgoing}) == len(story.part.outgoing)


def test_a_composite_of_other_labels_mutes_nothing() -> None:
    story = Story(label="us")
    story.whole = new_state("it", "fraud", "", {"region": "eu"})
    assert story.run(".F.", ".F.") == [(2, "firing"), (3, "resolved")]


def test_an_alert_stood_at_a_step_as_its_transitions_say_and_without_them_as_it_fired() -> None:
    story = Story()
    story.run(".FHF.", ".....")
    at = [firing_at(story.part, m * MINUTE) for m in range(1, 6)]
    assert at == [None, Severity.LOW, Severity.HIGH, Severity.LOW, None]
    again = story._after(story.part, 8, "F")
    told = msgspec.structs.replace(again, outgoing=())
    assert [firing_at(told, m * MINUTE) for m in (7, 8)] == [None, Severity.LOW]
    assert firing_at(told) is Severity.LOW


def test_a_part_that_judges_the_past_is_muted_by_what_fires_now() -> None:
    story = Story()
    story.whole = story._after(story.whole, 90, "F")
    before = story.part
    after = story._after(before, 5, "F")
    (told,) = muted(before, after, [Muter("it", (story.whole,))], PART, 0, late=True).outgoing
    assert told.muted_by == "it"
    (told,) = muted(before, after, [Muter("it", (story.whole,))], PART, 0, late=False).outgoing
    assert told.muted_by == "", "the composite began long after it"
