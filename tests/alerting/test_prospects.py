"""What rules may expect of what is stored, told from facts alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.alerting.facts import Ended, Facts, KnownModel, Look, Past, Tried
from kedge.alerting.finding import Finding, State
from kedge.alerting.places import Places
from kedge.alerting.prospects import prospects
from kedge.windows import DAY, HOUR, Window
from tests.alerting.make import NOW, rules

FIRST = NOW - 30 * DAY
FRAUD = KnownModel(
    "fraud",
    first=FIRST,
    last=NOW,
    features=frozenset({"amount", "country"}),
    dimensions={"segment.region": frozenset({"eu", "us"}), "version": frozenset({"v1", "v2"})},
    baseline="baseline b1",
    referred=frozenset({(), ("segment.region",)}),
)
RATE = "metric: errors.rate, above: 5%"


def look(state: State, n: int = 0, *, busiest: bool = False, whole: bool = False, reason: str = "") -> Look:
    found = Finding(step=NOW, state=state, n=n, value=0.1, reason=reason)
    return Look(Window(NOW - HOUR, NOW), (found,), 7 * DAY if busiest else 0, whole)


def told(
    line: str, *looks: Look, past: Past | None = None, model: KnownModel = FRAUD
) -> list[tuple[str, str]]:
    """The fields and texts of what is told of one rule on one model."""
    tried = Tried("it", model.name, past or Past(NOW - HOUR), looks)
    book = rules(f"{{name: it, {line}}}")
    assert not book.problems, book.problems
    facts = Facts({model.name: model}, frozenset({model.name}), tried=(tried,))
    return [(one.field, one.text) for one in prospects(book.rules, facts)]


@pytest.mark.parametrize("state", [State.OK, State.HOLD, State.BREACH])
def test_a_rule_that_is_judged_somewhere_is_well(state: State) -> None:
    assert told(RATE, look(State.NO_DATA, reason="no rows"), look(state, 5, busiest=True)) == []


def test_one_that_could_not_be_tried_is_not_spoken_of() -> None:
    assert told(RATE) == []


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        ((look(State.NO_DATA, reason="r: none"),), "as in the last 1h (to 2174-03-15T08:00:00Z): r: none"),
        (
            (
                look(State.NO_DATA, reason="r: none"),
                look(State.INSUFFICIENT, 3, busiest=True, reason="r: few"),
            ),
            "as in the busiest 1h of the last 7d (to 2174-03-15T08:00:00Z): r: few",
        ),
        (
            (
                look(State.INSUFFICIENT, 3, reason="now"),
                look(State.INSUFFICIENT, 9, busiest=True, reason="then"),
            ),
            "as in the last 1h (to 2174-03-15T08:00:00Z): now",
        ),
    ],
)
def test_why_it_cannot_be_judged_is_what_it_found_itself(looks: tuple[Look, ...], said: str) -> None:
    ((field, text),) = told(RATE, *looks)
    assert field == "metric"
    assert text == f"cannot be judged so far, {said}"


def test_rows_that_fall_short_of_min_count_are_counted_where_there_were_most() -> None:
    few = look(State.INSUFFICIENT, 90), look(State.INSUFFICIENT, 190, busiest=True)
    ((field, text),) = told(f"{RATE}, min_count: 200", *few)
    assert field == "min_count"
    assert "the busiest 1h of the last 7d (to 2174-03-15T08:00:00Z) held n=190 (rows): a longer" in text
    ((_, text),) = told(f"{RATE}, min_count: 200, by: segment.region", *few)
    assert "held n=190 (rows), of the group with the most: " in text


def test_the_day_so_far_is_told_of_as_a_day() -> None:
    few = look(State.INSUFFICIENT, 90), look(State.INSUFFICIENT, 190, busiest=True)
    ((_, text),) = told(f"{RATE}, min_count: 200, window: today", *few)
    assert "the busiest day of the last 7d (to " in text


def test_a_model_that_is_younger_than_the_window_may_yet_have_enough() -> None:
    few = look(State.INSUFFICIENT, 90)
    assert told(f"{RATE}, min_count: 200, window: 40d", few) == []
    assert len(told(f"{RATE}, min_count: 200, window: 20d", few)) == 1


def test_all_rows_together_bound_the_groups_that_are_not_summarised() -> None:
    past = Past(NOW - HOUR, ("groups by segment.region",))
    line = f"{RATE}, by: segment.region, min_count: 200"
    ((_, text),) = told(line, look(State.INSUFFICIENT, 190, whole=True), past=past)
    assert "held n=190 (rows), of all groups together" in text
    assert told(line, look(State.OK, 300, whole=True), past=past) == []


def test_a_sum_of_what_no_row_has_is_told_though_it_is_judged() -> None:
    model = KnownModel("fraud", FIRST, NOW, measured=frozenset({"business.cost"}))
    line = "metric: business.cost.sum, above: 5"
    ((field, text),) = told(line, look(State.OK, 0), model=model)
    assert (field, text[:41]) == ("metric", "business.cost.sum (Sum of business.cost o")
    assert told(line, look(State.OK, 4), model=model) == []


PAST = Past(NOW - 20 * DAY, ("groups by segment.region",))
HISTORY = "metric: errors.rate, compare: {to: history}, rise: 2x, by: segment.region"


@pytest.mark.parametrize(
    ("line", "past", "said"),
    [
        (HISTORY, PAST, ["groups by segment.region are not summarised yet", "kedge summarise fraud --from"]),
        (HISTORY, PAST._replace(gone=NOW - 9 * DAY), ["which are dropped, they cannot be any more"]),
        (HISTORY, PAST._replace(gone=NOW - 29 * DAY), ["the ticks do it after what is live"]),
        (HISTORY, Past(NOW - 20 * DAY, (), 1), ["of which 1 bucket are not"]),
        (HISTORY, Past(NOW - 20 * DAY), []),
        (f"{RATE}, by: segment.region", PAST._replace(since=NOW - HOUR), []),
        (f"{RATE}, by: segment.region, window: 7d", PAST, ["are not summarised yet"]),
        (
            f"{RATE}, by: segment.region",
            Past(NOW - HOUR, (), 3),
            ["of which 3 buckets are not summarised yet"],
        ),
    ],
)
def test_a_past_that_is_not_summarised_is_told_to_rules_that_read_it(
    line: str, past: Past, said: list[str]
) -> None:
    found = told(line, past=past)
    assert len(found) == bool(said)
    for text in said:
        assert text in found[0][1]


def test_a_rule_against_a_baseline_needs_one_that_knows_its_groups() -> None:
    line = "metric: errors.rate, compare: {to: baseline}, rise: 2x"
    none = KnownModel("fraud", FIRST, NOW, dimensions={"segment.plan": frozenset({"free"})}, auto=True)
    ((field, text),) = told(line, model=none)
    assert field == "compare"
    assert text.endswith(
        "kedge baseline create fraud --from TIME --to TIME; a provisional one is made of its first good week"
    )
    assert told(f"{line}, by: segment.region") == told(f"{line}, version: serving") == []
    ((field, text),) = told(f"{line}, by: segment.plan")
    assert field == "by"
    assert "baseline b1 was made without groups by segment.plan" in text
    ((field, _),) = told("kind: drift, share: 30%", model=none)
    assert field == "kind"
    assert told("kind: new_value, field: features.cat.country", model=FRAUD) == []


def test_names_come_before_what_follows_from_them() -> None:
    nothing = look(State.NO_DATA, reason="no rows")
    ((field, _),) = told(f"{RATE}, by: segment.region, version: v7", nothing)
    assert field == "version"


def test_what_is_so_on_one_of_several_models_alone_is_not_told_of_a_rule_on_all() -> None:
    other = KnownModel("other", FIRST, NOW, features=frozenset({"age"}))
    book = rules("{name: it, metric: quality.missing, feature: age, above: 5%, model: '*'}")
    both = Facts({"fraud": FRAUD, "other": other}, frozenset({"fraud", "other"}))
    assert prospects(book.rules, both) == []
    (found,) = prospects(book.rules, Facts({"fraud": FRAUD}, frozenset({"fraud"})))
    assert (found.field, found.text[:26]) == ("feature", "no row of fraud has featur")


def test_the_same_name_is_asked_of_a_model_that_never_logged_once_a_rule() -> None:
    book = rules("{name: a, " + RATE + ", model: fruad}\n{name: b, " + RATE + ", model: churn}")
    facts = Facts(logged=frozenset({"fraud"}), waiting=frozenset({"churn"}))
    assert [(p.rule, p.text) for p in prospects(book.rules, facts)] == [
        ("a", 'model fruad has never logged (did you mean "fraud"?)'),
        ("b", "model churn has logged, and nothing of it is summarised yet (kedge tick)"),
    ]


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (Ended("a", "fraud", "r.yml:3", "gone", 1), "its 1 firing alert on fraud will be resolved once"),
        (Ended("a", "fraud", "r.yml:3", "gone", 2), "its 2 firing alerts on fraud will be resolved once"),
        (Ended("a", "fraud", "r.yml:3", "gone", 2, 1), "its 2 firing and 1 without data alerts on fraud"),
        (Ended("a", "fraud", "r.yml:3", "gone", 0, 1, "b"), 'was "a", its 1 without data alert on fraud'),
    ],
)
def test_alerts_that_will_end_are_counted(ended: Ended, said: str) -> None:
    (found,) = prospects((), Facts(ended=(ended,)))
    assert found.text.startswith(said)
    assert (found.rule, found.file) == (("b", "") if ended.successor else ("a", "r.yml:3"))


LINES = (
    RATE,
    f"{RATE}, min_count: 50, by: segment.region",
    HISTORY,
    "kind: drift, share: 30%",
    "kind: absence, by: segment.region",
    "metric: quality.missing, by: feature, above: 5%",
    "kind: versions, metric: errors.rate, candidate: v2, margin: 1pp",
)


@given(
    line=st.sampled_from(LINES),
    states=st.lists(st.tuples(st.sampled_from(State), st.integers(0, 100)), max_size=4),
    more=st.integers(1, 100),
)
def test_more_that_is_judged_never_adds_a_warning(
    line: str, states: list[tuple[State, int]], more: int
) -> None:
    looks = [look(state, n, reason="why") for state, n in states]
    before, after = told(line, *looks), told(line, *looks, look(State.OK, more))
    assert set(after) <= set(before)
    assert after == []


def test_a_field_is_found_where_it_is_written() -> None:
    text = (
        "version: 1\ndefaults:\n  model: fraud\n  min_count: 5\nrules:\n"
        "- name: a\n  metric: errors.rate\n  above: 5%\n- {name: b, metric: x, min_count: 7}\n"
    )
    places = Places({"r.yml": text})
    assert places.of("a", "metric") == ("r.yml", 7, 3)
    assert places.of("a", "min_count") == ("r.yml", 4, 3)
    assert places.of("b", "min_count") == ("r.yml", 9, 24)
    assert places.of("a") == places.of("a", "kind") == ("r.yml", 6, 3)
    assert places.of("c") is None
