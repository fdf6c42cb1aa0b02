"""Composites in the pipeline: after their parts, in the same tick, on alerts as they stood at the step."""

from collections.abc import Iterator

import pytest

from kedge.alerting.finding import Status
from kedge.alerting.loading import RuleBook, parse_rules
from kedge.windows import HOUR, MINUTE, SECOND
from tests.pipeline.world import T0, Crash, World, crash_at, prediction, settings, world

BUSY = "{name: busy, metric: volume.count, window: 2m, above: 6, evidence: point}"
FAILING = (
    "{name: failing, metric: errors.rate, window: 2m, above: 30%, evidence: point, by: [segment.region]}"
)
TROUBLE = "{name: trouble, kind: composite, all: [busy, failing], mute_parts: true}"


def book(*rules: str) -> RuleBook:
    lines = "\n".join(f"- {rule}" for rule in rules)
    found = parse_rules(f"version: 1\ndefaults: {{model: fraud}}\nrules:\n{lines}\n")
    assert not found.problems, found.problems
    return found


@pytest.fixture
def one() -> Iterator[World]:
    with world(book=book(TROUBLE, BUSY, FAILING), settings=settings(fraud={"bucket": "1m"})) as made:
        yield made


def rows_of(one: World, m: int, n: int, *, failed: bool) -> None:
    one.send([prediction(m * 100 + i, T0 + m * MINUTE + i * SECOND, failed=failed) for i in range(n)])


def story(one: World, marks: str, start: int = 0, *, ticks: bool = True) -> None:
    """A minute each: `.` calm, `b` busy, `f` failing, `x` both."""
    for m, mark in enumerate(marks, start):
        rows_of(one, m, 8 if mark in "bx" else 2, failed=mark in "fx")
        if ticks:
            one.tick(T0 + (m + 2) * MINUTE)


def told(one: World) -> list[tuple[str, str]]:
    return [(m.headline.split(" · ")[-1], m.status.value) for m in one.notebook.messages]


def test_it_fires_in_the_tick_of_its_parts_and_they_are_not_told(one: World) -> None:
    story(one, "..xx")
    assert one.alert("trouble", **{"segment.region": "eu"}).status is Status.FIRING
    assert one.alert("busy").status is Status.FIRING
    assert {name for name, _ in told(one)} == {"trouble"}
    events = [e for e in one.events() if e["after"] == "firing"]
    assert {e["rule"]: e.get("muted_by", "") for e in events} == {
        "busy": "trouble", "failing": "trouble", "trouble": "",
    }  # fmt: skip
    story(one, ".....", 4)
    assert all(a.status is Status.RESOLVED for a in one.alerts().values() if a.started or a.fired_before)
    assert {name for name, _ in told(one)} == {"trouble"}


def test_a_part_that_goes_on_alone_is_told_when_the_composite_is_over(one: World) -> None:
    story(one, "..xxbbbb...")
    eu = one.alert("trouble", **{"segment.region": "eu"})
    assert eu.status is Status.RESOLVED
    assert [status for name, status in told(one) if name == "busy"] == ["firing", "resolved"]
    assert [status for name, status in told(one) if name == "failing"] == []


def test_a_part_that_fired_before_is_told_of_to_its_end(one: World) -> None:
    story(one, "..bbbxxx....")
    assert [status for name, status in told(one) if name == "busy"] == ["firing", "resolved"]
    assert [status for name, status in told(one) if name == "failing"] == []
    assert ("trouble", "firing") in told(one)


def test_parts_alone_are_told_as_ever(one: World) -> None:
    story(one, "..bb....ff....")
    assert {name for name, _ in told(one)} == {"busy", "failing"}
    assert not [a for a in one.alerts().values() if a.rule == "trouble"]


def test_a_composite_that_is_removed_while_it_mutes_leaves_its_parts_to_be_told(one: World) -> None:
    story(one, "..xx")
    one.book = book(BUSY, FAILING)
    story(one, "xx", 4)
    assert ("busy", "firing") in told(one)


def test_an_outage_caught_up_later_judges_it_at_the_steps_that_were_missed(one: World) -> None:
    story(one, "..")
    story(one, "xxx.....", 2, ticks=False)
    one.drain(T0 + 12 * MINUTE)
    eu = [e for e in one.events() if e["rule"] == "trouble" and e["group"] == {"segment.region": "eu"}]
    assert [(e["after"], e["step"]) for e in eu] == [
        ("firing", T0 + 3 * MINUTE),
        ("resolved", T0 + 7 * MINUTE),
    ]
    assert {name for name, _ in told(one)} == {"trouble"}


@pytest.mark.parametrize("after", range(6))
def test_a_worker_that_dies_loses_and_doubles_nothing(after: int) -> None:
    def run(one: World, *, dies: bool) -> list[tuple[str, str, int, str]]:
        story(one, "..")
        story(one, "xx", 2, ticks=False)
        if dies:
            with pytest.raises(Crash), crash_at(after=after + 12):
                one.tick(T0 + 5 * MINUTE)
            one.restart()
        one.tick(T0 + 5 * MINUTE)
        story(one, ".....", 4)
        return [(e["rule"], e["after"], e["step"], e.get("muted_by", "")) for e in one.events()]

    given = {"book": book(TROUBLE, BUSY, FAILING), "settings": settings(fraud={"bucket": "1m"})}
    with world(**given) as calm, world(**given) as shaken:
        assert run(shaken, dies=True) == run(calm, dies=False)
        assert sorted(told(shaken)) == sorted(told(calm))


def test_a_composite_of_composites_follows_both(one: World) -> None:
    worst = "{name: worst, kind: composite, all: [trouble], none: [calm]}"
    calm = "{name: calm, kind: composite, all: [{none: [busy]}, {none: [failing]}]}"
    one.book = book(worst, TROUBLE, calm, BUSY, FAILING)
    story(one, "...xx....")
    steps = {(e["rule"], e["after"]): e["step"] for e in one.events()}
    assert steps["worst", "firing"] == steps["trouble", "firing"] == steps["calm", "resolved"]
    assert steps["worst", "resolved"] == steps["trouble", "resolved"]


def test_a_slow_part_counts_as_it_stands_between_its_steps(one: World) -> None:
    slow = "{name: slow-part, metric: errors.rate, window: 2h, above: 30%, evidence: point}"
    one.book = book("{name: both, kind: composite, all: [busy, slow-part]}", BUSY, slow)
    story(one, "ffffffff")
    assert one.alert("slow-part").status is Status.FIRING
    through = one.alert("slow-part").evaluated_through
    story(one, "xx", 8)
    assert one.alert("both").status is Status.FIRING
    assert one.alert("both").started > through
    assert one.alert("both").started < through + HOUR


def test_hours_restrict_a_composite_as_any_rule(one: World) -> None:
    night = TROUBLE.replace("mute_parts", 'active: {hours: "08:00-18:00"}, mute_parts')
    one.book = book(night, BUSY, FAILING)
    story(one, "..xx")
    assert {name for name, _ in told(one)} == {"busy", "failing"}


def test_a_composite_whose_part_cannot_be_read_is_held_and_says_so(one: World) -> None:
    one.book = RuleBook(tuple(r for r in one.book.rules if r.name != "busy"))
    rows_of(one, 0, 2, failed=False)
    report = one.tick(T0 + 2 * MINUTE)
    assert [text.partition('rule "')[2] for text in report.alerts.held] == [
        'trouble": busy cannot be read: not judged'
    ]
