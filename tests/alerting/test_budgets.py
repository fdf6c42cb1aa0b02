"""How the budgets of receivers are split over their rules."""

import pickle
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.alerting.budgets import budget_of, expected, said, shares, why
from kedge.alerting.composite import CompositeRule
from kedge.alerting.fields import Budget, Share, parse_budget
from kedge.alerting.inputs import Inputs
from kedge.alerting.kinds import KINDS
from kedge.alerting.loading import RuleBook, parse_files
from kedge.alerting.matchers import parse_match
from kedge.alerting.routing import Route, Routing, plain_routing
from kedge.sketch import Summary
from kedge.windows import DAY, HOUR, Window
from tests.alerting.make import NOW, rules

PLAIN = plain_routing("team", ("team", "pager"), {"pager": Budget(3)})


def route(receiver: str, match: object = None, *routes: Route, on: bool = False) -> Route:
    return Route(receiver, parse_match(match or {}), goes_on=on, routes=routes)


TREE = Routing(
    route(
        "team",
        None,
        route("pager", {"severity": ">= high"}, on=True),
        route("fraud", {"team": "fraud"}),
        route("de", {"segment.country": "DE"}),
        route("tests", {"model": "=~ test-.*"}),
    ),
    receivers=frozenset({"team", "pager", "fraud", "de", "tests", "mine"}),
    budgets={"pager": Budget(1, 60 * DAY)},
)
"""Who matters is called, whoever else is told; a country has its own."""
ERRORS = "metric: errors.rate"
MANY = "\n".join(f"{{name: r{i}, {ERRORS}, above: {i + 2}%}}" for i in range(4))


def split(text: str, routing: Routing = PLAIN) -> dict[str, tuple[str, str]]:
    """By rule: whose budget it has a share of, and what that comes to."""
    book = rules(text)
    assert not book.problems, book.problems
    return {name: (share.receiver, str(share.budget)) for name, share in shares(book.rules, routing).items()}


def test_the_rules_of_a_receiver_have_equal_shares_of_its_budget() -> None:
    assert split(MANY) == {f"r{i}": ("team", "1 per 120d") for i in range(4)}
    two = f"{{name: a, {ERRORS}, above: 5%, notify: pager}}\n{{name: b, {ERRORS}, above: 6%, notify: pager}}"
    assert split(two) == {"a": ("pager", "3 per 60d"), "b": ("pager", "3 per 60d")}
    assert split(f"{{name: a, {ERRORS}, above: 5%}}") == {"a": ("team", "1 per 30d")}


def test_a_rule_that_names_an_unknown_receiver_shares_the_budget_of_who_is_told_instead() -> None:
    text = f"{{name: a, {ERRORS}, above: 5%, notify: nobody}}\n{{name: b, {ERRORS}, above: 6%}}"
    assert split(text) == {"a": ("team", "1 per 60d"), "b": ("team", "1 per 60d")}


@pytest.mark.parametrize(
    "line",
    [
        f"{ERRORS}, above: 9%, budget: 5 per 30d",
        f"{ERRORS}, above: 9%, severity: info",
        f"{ERRORS}, above: {{info: 9%}}",
        f"{ERRORS}, above: 9%, evidence: point",
        "metric: volume.count, below: 1",
        "kind: drift, by: [feature]",
        "kind: drift, of: classes, test: psi",
        "kind: absence, window: 30m",
        "kind: new_value, field: features.cat.device",
        "kind: composite, all: [r0, r1]",
    ],
)
def test_what_has_a_budget_of_its_own_or_keeps_none_lessens_nobodys_share(line: str) -> None:
    assert split(f"{MANY}\n{{name: it, {line}}}") == split(MANY)


@pytest.mark.parametrize(
    "line",
    [
        f"{ERRORS}, above: 9%",
        "kind: drift, share: 30%",
        "kind: drift, by: [feature], tolerance: {medium: 0.05}",
        "kind: anomaly, metric: latency.p95",
        "kind: trend, metric: latency.p95, over: 7d, reaches: 1s, within: 3d",
        "kind: versions, metric: errors.rate, candidate: v7, margin: 1pp",
    ],
)
def test_what_judges_at_the_level_of_a_budget_takes_a_share(line: str) -> None:
    assert split(f"{MANY}\n{{name: it, {line}}}")["it"] == ("team", "1 per 150d")


def test_a_budget_in_the_defaults_of_a_file_is_its_rules_own() -> None:
    line = "- {name: a, model: m, metric: errors.rate, window: 1h, above: 5%}"
    book = parse_files({"a.yml": f"version: 1\ndefaults: {{budget: 2 per 30d}}\nrules:\n{line}\n"})
    assert shares(book.rules, PLAIN) == {}
    assert budget_of(book.shared(PLAIN).rules[0]) == "2 per 30d"


@pytest.mark.parametrize(
    ("line", "receiver"),
    [
        (f"{ERRORS}, above: 5%", "team"),
        (f"{ERRORS}, above: {{low: 5%, medium: 6%}}, team: fraud", "fraud"),
        # The highest rung decides, and of several receivers the smallest share.
        (f"{ERRORS}, above: {{medium: 5%, critical: 6%}}", "pager"),
        (f"{ERRORS}, above: {{medium: 5%, critical: 6%}}, team: fraud", "pager"),
        (f"{ERRORS}, above: {{medium: 5%, critical: 6%}}, notify: mine", "mine"),
        ("kind: drift, of: classes", "pager"),
        ("kind: drift, of: classes, tolerance: 0.1", "team"),
        # `pager` has half the budget of those that a rule without `team` may go to besides.
        (f"{ERRORS}, above: 5%, severity: high, by: [segment.country]", "pager"),
        (f"{ERRORS}, above: 5%, model: test-a", "tests"),
    ],
)
def test_the_highest_rung_says_whose_budget_is_shared(line: str, receiver: str) -> None:
    assert split(f"{{name: it, {line}}}", TREE)["it"][0] == receiver


def test_a_rule_whose_alerts_may_go_to_several_has_the_smallest_share_of_them() -> None:
    text = (
        f"{{name: a, {ERRORS}, above: 5%, by: [segment.country]}}\n"
        f"{{name: b, {ERRORS}, above: 6%}}\n{{name: c, {ERRORS}, above: 7%}}\n"
        f"{{name: d, {ERRORS}, above: 8%, model: '*', team: fraud}}"
    )
    assert split(text, TREE) == {
        "a": ("team", "1 per 90d"),
        "b": ("team", "1 per 90d"),
        "c": ("team", "1 per 90d"),
        "d": ("fraud", "1 per 30d"),
    }


def test_the_level_of_every_kind_follows_from_the_share() -> None:
    """The law that binds `keeps_budget` to what a kind does: alpha shrinks as the share does."""
    book = rules(f"{MANY}\n{{name: it, kind: versions, metric: errors.rate, candidate: v7, margin: 1pp}}")
    inputs = Inputs(Window(NOW - HOUR, NOW), Summary(), every=HOUR)
    for before, after in zip(book.rules, book.shared(PLAIN).rules, strict=True):
        assert after.alpha(inputs) < before.alpha(inputs)
    assert book.shared(PLAIN).rules[0].alpha(inputs) == pytest.approx(1 / (5 * 720))
    assert {kind.KIND for kind in KINDS if "keeps_budget" in vars(kind)} == {
        *("threshold", "drift", "new_value", "absence", "composite")
    }


# --- laws ---------------------------------------------------------------------------------------------------

NAMES = ("team", "pager", "fraud", "mine", "")
LINES = st.builds(
    lambda notify, team, extra: f"{ERRORS}, above: 5%, notify: '{notify}', team: '{team}'{extra}",
    st.sampled_from(NAMES),
    st.sampled_from(("", "fraud")),
    st.sampled_from(
        (
            "",
            "",
            "",
            ", severity: critical",
            ", severity: info",
            ", budget: 1 per 7d",
            ", by: [segment.country]",
        )
    ),
)
BOOKS = st.lists(LINES, min_size=1, max_size=12)


def book_of(lines: list[str]) -> RuleBook:
    return rules("\n".join(f"{{name: r{i}, {line}}}" for i, line in enumerate(lines)))


@settings(deadline=None, max_examples=60)
@given(BOOKS, st.integers(1, 5), st.integers(1, 90))
def test_the_shares_of_a_receiver_add_up_to_its_budget(lines: list[str], alerts: int, days: int) -> None:
    budgets = {name: Budget(float(alerts), days * DAY) for name in ("team", "pager")}
    for routing in (plain_routing("team", ("team", "pager"), budgets), TREE):
        found = shares(book_of(lines).rules, routing)
        for one in expected(book_of(lines).rules, routing):
            parts = [share.budget.rate for share in found.values() if share.receiver == one.receiver]
            most = routing.budget_of(one.receiver).rate
            assert sum(parts) <= most * (1 + 1e-9), "some of those that share it may have less elsewhere"
            if routing is not TREE and parts:
                assert sum(parts) == pytest.approx(most)


@settings(deadline=None, max_examples=60)
@given(BOOKS, LINES)
def test_another_rule_never_gives_any_a_larger_share(lines: list[str], more: str) -> None:
    for routing in (PLAIN, TREE):
        before = shares(book_of(lines).rules, routing)
        after = shares(book_of([*lines, more]).rules, routing)
        assert all(after[name].budget.rate <= share.budget.rate for name, share in before.items())


@settings(deadline=None, max_examples=60)
@given(BOOKS, st.randoms(use_true_random=False))
def test_in_which_order_rules_come_says_nothing(lines: list[str], random: Random) -> None:
    book = book_of(lines)
    mixed = list(book.rules)
    random.shuffle(mixed)
    for routing in (PLAIN, TREE):
        assert shares(mixed, routing) == shares(book.rules, routing)
        assert expected(mixed, routing) == expected(book.rules, routing)


@given(st.integers(1, 60), st.floats(0.1, 50), st.integers(1, 400))
def test_so_many_parts_are_the_whole(parts: int, alerts: float, days: int) -> None:
    for whole in (Budget(alerts, days * DAY), Budget(float(round(alerts) + 1), days * DAY)):
        part = whole.split(parts)
        assert part.rate * parts == pytest.approx(whole.rate)
        assert parse_budget(str(part)).rate == pytest.approx(part.rate, rel=1e-3), "as people write it"


def test_who_has_a_share_asks_the_same_as_before() -> None:
    """What fires goes on firing when another rule changes its share: its state is known by the signature."""
    (alone,) = rules(f"{{name: r0, {ERRORS}, above: 2%}}").shared(PLAIN).rules
    shared = rules(MANY).shared(PLAIN).by_name["r0"]
    assert (str(alone.allowance), str(shared.allowance)) == ("1 per 30d", "1 per 120d")
    assert alone.signature == shared.signature == rules(MANY).by_name["r0"].signature


def test_a_rule_that_is_copied_or_sent_to_another_process_keeps_its_share() -> None:
    (*_, both) = rules(f"{MANY}\n{{name: both, kind: composite, all: [r0, r1]}}").shared(PLAIN).rules
    one = both.bound[0] if isinstance(both, CompositeRule) and both.bound else both
    for copy in (one.uncorrected(), one.placed("elsewhere.yml:1"), pickle.loads(pickle.dumps(one))):
        assert copy.budget_share == Share(Budget(1, 120 * DAY), "team", 4)


def test_a_file_that_is_tried_beside_the_rules_in_force_has_the_shares_that_it_has_among_them() -> None:
    def of(file: str, *names: str) -> dict[str, str]:
        lines = "".join(f"- {{name: {name}, {ERRORS}, above: 5%}}\n" for name in names)
        return {file: f"version: 1\ndefaults: {{model: fraud, window: 1h}}\nrules:\n{lines}"}

    in_force = parse_files(of("a.yml", "a", "gone") | of("b.yml", "b", "c"))
    for tried in (of("a.yml", "a"), of("before.yml", "a", "gone")):
        book = parse_files(tried).shared(PLAIN, in_force)
        count = len({"b", "c", *book.by_name})
        assert {str(rule.allowance) for rule in book.rules} == {f"1 per {30 * count}d"}
    assert {str(rule.allowance) for rule in parse_files(of("a.yml", "a")).shared(PLAIN).rules} == {
        "1 per 30d"
    }


# --- what a receiver may expect -----------------------------------------------------------------------------

TOLD = (
    f"{{name: a, {ERRORS}, above: {{medium: 5%, high: 9%}}}}\n"
    f"{{name: b, {ERRORS}, above: 6%}}\n"
    f"{{name: c, {ERRORS}, above: 7%}}\n"
    f"{{name: d, {ERRORS}, above: 8%, budget: 2 per 30d}}\n"
    "{name: e, metric: volume.count, below: 1}\n"
    "{name: f, kind: drift, by: [feature]}"
)


def test_a_receiver_expects_the_false_alerts_of_every_rung_that_tells_it() -> None:
    pager, team = expected(rules(TOLD).rules, TREE)
    assert (pager.receiver, pager.rules, pager.sharing, pager.alerts) == ("pager", 1, 1, 0.5)
    assert (team.receiver, team.rules, team.sharing, team.own, team.elsewhere, team.free) == (
        *("team", 5),
        *(2, 1, 1, 1),
    )
    assert team.alerts == pytest.approx(0.5 + 0.5 + 0.5 + 2), "a's medium comes here, on the pager's budget"
    assert list(said(team)) == [
        "2 share its budget of 1 per 30d, 1 per 60d each",
        "1 with a budget of its own",
        "1 with its share of another receiver's",
        "1 that keeps none",
    ]


def test_an_anomaly_costs_what_its_history_can_show() -> None:
    odd = "{name: odd, kind: anomaly, metric: latency.p95}"
    (one,) = expected(rules(f"{MANY}\n{odd}").rules, PLAIN)
    assert one.costly == ("odd",)
    assert one.alerts == pytest.approx(4 / 5 + 1), "28 days show 1 per 30d, and its share is 1 per 150d"
    assert 'the history of "odd" is too short for its budget' in said(one)
    longer = odd.replace("p95", "p95, history: 148d")
    (enough,) = expected(rules(f"{MANY}\n{longer}").rules, PLAIN)
    assert (enough.costly, enough.alerts) == ((), pytest.approx(1.0))


@pytest.mark.parametrize(
    ("line", "budget", "because"),
    [
        (f"{ERRORS}, above: 9%", "1 per 150d", "its share of the budget of team, one of 5"),
        (f"{ERRORS}, above: 9%, notify: pager", "3 per 30d", "that of pager"),
        (f"{ERRORS}, above: 9%, budget: 1 per 7d", "1 per 7d", "its own"),
        (f"{ERRORS}, above: 9%, severity: info", "1 per 30d", "it tells nobody (info)"),
        ("metric: volume.count, below: 1", None, "it judges by a bare value, so it keeps no budget"),
    ],
)
def test_each_rule_says_where_its_budget_comes_from(line: str, budget: str | None, because: str) -> None:
    it = rules(f"{MANY}\n{{name: it, {line}}}").shared(PLAIN).by_name["it"]
    assert (budget_of(it), why(it)) == (budget, because)
