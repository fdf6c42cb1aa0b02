"""What `kedge rules check` finds out of a store: on every store, by the judging that rules go through."""

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from kedge.alerting.finding import Status
from kedge.alerting.loading import RuleBook, parse_rules
from kedge.pipeline.feed import mark_dirty
from kedge.pipeline.lookout import foreseen
from kedge.store.elastic import ElasticStore
from kedge.windows import DAY, HOUR, MINUTE, SECOND, Window
from tests.pipeline.world import MODEL, T0, World, prediction, settings, truth, world, world_on

STORES = ["duckdb", "elasticsearch", "opensearch"]
HOURS = 40
"""Of traffic: ten rows an hour, and a hundred in the twentieth."""
BUSY = 20


def book(*lines: str, model: str = MODEL) -> RuleBook:
    head = f"version: 1\ndefaults: {{model: '{model}', window: 1h}}\nrules:\n"
    found = parse_rules(head + "".join(f"- {{{line}}}\n" for line in lines), "rules/a.yml")
    assert not found.problems, found.problems
    return found


IN_FORCE = book(
    "name: errors, metric: errors.rate, above: 5%",
    "name: failing, metric: errors.rate, by: segment.region, above: 100%, evidence: point",
)


def hour(one: World, h: int, *, labelled: bool = True) -> None:
    n = 100 if h == BUSY else 10
    rows = [prediction(h * 200 + i, T0 + h * HOUR + i * 30 * SECOND) for i in range(n)]
    one.send(rows)
    if labelled:
        one.label([truth(row.id, row.timestamp + MINUTE) for row in rows if row.id.endswith(("1", "4"))])


def filled(one: World, *, labelled: bool = True) -> World:
    for h in range(HOURS):
        hour(one, h, labelled=labelled)
    one.drain(T0 + HOURS * HOUR + 2 * MINUTE)
    return one


@pytest.fixture(scope="module", params=STORES)
def one(request: pytest.FixtureRequest) -> Iterator[World]:
    """A model that has logged for two days, without a baseline."""
    with world_on(request, request.param, book=IN_FORCE, settings=settings()) as made:
        yield filled(made)


def said(one: World, *lines: str, **given: Any) -> list[str]:
    return [p.text for p in foreseen(one.worker(), book(*lines, **given))]


BUSIEST = "the busiest 1h of the last 40h (to 2026-09-21T21:00:00Z)"
SUMMARISE = (
    "once this is in force the ticks do it after what is live, and "
    "`kedge summarise fraud --from 2026-09-21T15:00:00Z` at once"
)
NO_BASELINE = "needs a baseline, and fraud has none: kedge baseline create fraud --from TIME --to TIME"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "metric: errors.rate, above: 5%, model: fruad",
            'model fruad has never logged (did you mean "fraud"?)',
        ),
        (
            "metric: quality.missing, feature: amuont, above: 5%",
            'no row of fraud has feature "amuont" (did you mean "amount"?)',
        ),
        (
            "metric: attribution.mean, feature: country, above: 5",
            'no row of fraud has an attribution of feature "country"',
        ),
        (
            "metric: class.share, class: frod, above: 5%",
            'class "frod" was neither predicted nor true of fraud lately (did you mean "fraud"?)',
        ),
        ("metric: business.cost.mean, above: 5", "no row of fraud has a business.cost"),
        (
            "metric: errors.rate, above: 5%, by: segment.regoin",
            'no row of fraud has segment.regoin (did you mean "segment.region"?)',
        ),
        (
            "metric: errors.rate, above: 5%, version: v9",
            'no row of fraud is of version "v9" (there are: v1, v2)',
        ),
        (
            "kind: versions, metric: errors.rate, candidate: v3, reference: v0, margin: 1pp",
            'no row of fraud is of version "v0"',
        ),
        (
            "kind: new_value, field: features.cat.contry",
            'no row of fraud has feature "contry" (did you mean "country"?)',
        ),
        ("metric: errors.rate, compare: {to: baseline}, rise: 2x", NO_BASELINE),
        ("kind: drift, share: 30%", NO_BASELINE),
        (
            "metric: errors.rate, above: 5%, window: 10m",
            "window 10m is shorter than the base bucket of fraud",
        ),
        (
            "metric: performance.mae, above: 5",
            f"cannot be judged so far, as in {BUSIEST}: performance.mae: no labelled row has a predicted",
        ),
        ("kind: anomaly, metric: errors.rate", "needs a history of 7d with 84 windows: it begins 39h ago"),
        (
            "metric: errors.rate, compare: {to: same_time}, rise: 2x",
            "2 windows are needed, and none can be used",
        ),
        (
            "metric: errors.rate, above: 5%, min_count: 101",
            f"min_count 101 is not reached: {BUSIEST} held n=100 (rows): a longer window, or",
        ),
        (
            "metric: performance.accuracy, below: 50%, min_count: 21",
            "held n=20 (labelled rows with a predicted class)",
        ),
        (
            "metric: errors.rate, above: 5%, by: segment.region, min_count: 76",
            "held n=75 (rows), of the group with the most",
        ),
        (
            "metric: errors.rate, above: 5%, by: segment.plan, min_count: 101",
            "held n=100 (rows), of all groups together",
        ),
        ("metric: errors.rate, above: 5%, model: '*', min_count: 101", "min_count 101 is not reached"),
        (
            "metric: errors.rate, by: segment.plan, compare: {to: history, window: 24h}, rise: 2x",
            f"groups by segment.plan are not summarised yet: {SUMMARISE}",
        ),
    ],
)
def test_what_a_rule_would_not_do_is_told(one: World, line: str, told: str) -> None:
    (found,) = said(one, f"name: it, {line}")
    assert told in found


@pytest.mark.parametrize(
    "line",
    [
        "metric: errors.rate, above: 5%, min_count: 100",
        "metric: errors.rate, above: 5%, by: segment.region, min_count: 75",
        "metric: errors.rate, above: 5%, by: segment.plan",
        "metric: errors.rate, above: 5%, version: v2",
        "metric: errors.rate, window: 24h, above: 5%, min_count: 330",
        "metric: errors.rate, window: 7d, above: 5%, min_count: 5000",
        "metric: performance.accuracy, below: 50%, min_count: 20",
        "metric: performance.recall, class: fraud, below: 50%",
        "metric: class.share, class: ok, above: 99%",
        "metric: quality.missing, feature: amount, above: 50%",
        "metric: quality.missing, by: feature, above: 50%",
        "metric: quality.duplicates, above: 5%",
        "metric: attribution.mean, feature: amount, above: 5",
        "metric: errors.rate, compare: {to: history, window: 24h}, rise: 2x",
        "metric: errors.rate, compare: {to: version, version: v1}, version: v2, rise: 2x",
        "metric: errors.rate, above: 5%, active: {days: tue, hours: '08:00-10:00'}",
        "kind: absence",
        "kind: new_value, field: features.cat.country",
        "kind: versions, metric: errors.rate, candidate: v3, margin: 1pp",
        "kind: trend, metric: errors.rate, over: 2d, reaches: 99%, within: 1h",
    ],
)
def test_of_what_it_would_do_nothing_is(one: World, line: str) -> None:
    assert said(one, f"name: it, {line}") == []


def test_a_composite_is_as_good_as_the_rules_that_it_names(one: World) -> None:
    lines = ("name: a, metric: errors.rate, above: 5%", "name: b, kind: composite, all: [a]")
    assert said(one, *lines) == []


def test_nothing_that_is_stored_is_changed(one: World) -> None:
    stores = (one.store.state, one.store.alerts, one.store.events, one.store.outbox)
    before = [{name: s.value for name, s in store.find().items()} for store in stores]
    said(
        one, "name: it, metric: performance.accuracy, by: segment.plan, below: 50%", "name: b, kind: absence"
    )
    assert [{name: s.value for name, s in store.find().items()} for store in stores] == before


LINES = (
    "metric: errors.rate, above: 5%",
    "metric: latency.p95, above: 1s, window: 6h",
    "metric: errors.rate, by: segment.region, above: 5%, min_count: 1000",
    "metric: errors.rate, compare: {to: history, window: 24h}, rise: 2x",
    "metric: performance.accuracy, below: 1%, min_count: 1000, window: 24h",
    "metric: quality.missing, by: feature, above: 5%",
    "metric: errors.rate, by: segment.nowhere, above: 5%",
)


def test_a_hundred_rules_ask_the_store_no_more_than_one_of_each(one: World) -> None:
    def requests(rules: int) -> int:
        lines = [f"name: r{i}, {LINES[i % len(LINES)]}" for i in range(rules)]
        pipe, before = one.worker(), counters(one)
        foreseen(pipe, book(*lines))
        return counters(one) - before

    if isinstance(one.store, ElasticStore):
        assert requests(100) == requests(len(LINES))
        assert requests(100) < 60
    else:
        began = time.perf_counter()
        foreseen(one.worker(), book(*(f"name: r{i}, {LINES[i % len(LINES)]}" for i in range(100))))
        assert time.perf_counter() - began < 5, "of which it takes half a second alone on the machine"


def counters(one: World) -> int:
    assert isinstance(one.store, ElasticStore)
    return one.store.counters.requests


# --- what changes -------------------------------------------------------------------------------------------


def made_baseline(one: World) -> None:
    one.use_baseline(Window(T0, T0 + DAY), "a day")


def test_a_baseline_that_was_made_without_a_group_is_told_and_one_whose_cells_are_not_summarised() -> None:
    with world(book=IN_FORCE, settings=settings(fraud={"bucket": "1h"})) as one:
        filled(one)
        made_baseline(one)
        plain = "metric: errors.rate, compare: {to: baseline}, rise: 2x"
        assert said(one, f"name: it, {plain}", f"name: by, {plain}, by: segment.region") == []
        (found,) = said(one, f"name: it, {plain}, by: segment.plan")
        assert "was made without groups by segment.plan, so there is nothing to compare with" in found
        drift = "name: it, kind: drift, share: 30%, window: 48h, tolerance: 0.9"
        (found,) = said(one, drift)
        assert "features on the edges of baseline" in found
        assert "are not summarised yet" in found
        one.drain(one.now + MINUTE)
        assert said(one, drift) == []
        (found,) = said(one, drift.replace("0.9", "0.05"))
        assert "the reference of 330 rows is too small for tolerance 0.05" in found


def test_buckets_of_the_past_that_wait_are_told_where_they_are_read() -> None:
    with world(book=IN_FORCE, settings=settings(fraud={"bucket": "1h"})) as one:
        filled(one)
        mark_dirty(one.store.state, MODEL, Window(T0, T0 + 20 * HOUR))
        history = "metric: errors.rate, by: segment.region, compare: {to: history, window: 24h}, rise: 2x"
        (found,) = said(one, f"name: it, {history}")
        assert "looks back to 2026-09-21T15:00:00Z, of which 5 buckets are not summarised yet" in found
        assert said(one, "name: it, metric: errors.rate, by: segment.region, above: 5%") == []


def test_a_model_of_which_nothing_is_summarised_yet_is_told_apart_from_one_that_never_logged() -> None:
    with world(book=IN_FORCE) as one:
        assert said(one, "name: it, metric: errors.rate, above: 5%") == ["model fraud has never logged"]
        hour(one, 0, labelled=False)
        (found,) = said(one, "name: it, metric: errors.rate, above: 5%")
        assert found == "model fraud has logged, and nothing of it is summarised yet (kedge tick)"


def test_of_rules_on_every_model_only_what_no_model_can_be_judged_by_is_told() -> None:
    with world(book=IN_FORCE, settings=settings(fraud={"bucket": "1h"})) as one:
        filled(one, labelled=False)
        other = [prediction(50_000 + i, T0 + i * HOUR) for i in range(HOURS)]
        one.send([msgspec.structs.replace(r, id=f"o{r.id}", model="other", latency_ms=None) for r in other])
        one.drain(one.now + MINUTE)
        slow = "metric: latency.p95, above: 5s"
        assert said(one, f"name: it, {slow}", model="*") == []
        (found,) = said(one, f"name: it, {slow}", model="other")
        assert "latency.p95: " in found
        (found,) = said(one, "name: it, metric: performance.accuracy, below: 5%", model="*")
        assert found.startswith("of 2 models, as ")
        for line in ("metric: class.share, class: frod", "metric: errors.rate, by: segment.regoin"):
            (found,) = said(one, f"name: it, {line}, above: 5%", model="*")
            assert found.startswith("of 2 models, as "), "though a share of nothing is judged on the first"


def test_windows_shorter_than_an_hour_are_tried_in_the_busiest_minutes() -> None:
    with world(book=IN_FORCE, settings=settings(fraud={"bucket": "1m"})) as one:
        for h in range(3):
            hour(one, h, labelled=False)
        burst = [prediction(90_000 + i, T0 + HOUR + 17 * MINUTE + i * SECOND) for i in range(60)]
        one.send(burst)
        one.drain(T0 + 4 * HOUR)
        line = "name: it, metric: errors.rate, above: 5%, window: 5m, min_count: {}"
        assert said(one, line.format(60)) == []
        (found,) = said(one, line.format(75))
        assert "the busiest 5m of the last " in found
        assert "held n=60 (rows)" in found


# --- what an edit ends --------------------------------------------------------------------------------------

FAILING = "name: {}, metric: errors.rate, window: 5m, above: 30%, evidence: point"


@pytest.fixture(params=STORES)
def firing(request: pytest.FixtureRequest) -> Iterator[World]:
    rules = book(FAILING.format("failing"), "name: count, metric: volume.count, below: 1")
    with world_on(request, request.param, book=rules, settings=settings(fraud={"bucket": "1m"})) as made:
        made.send([prediction(i, T0 + i * SECOND, failed=True) for i in range(8)])
        made.tick(T0 + 2 * MINUTE)
        assert made.alert("failing").status is Status.FIRING
        yield made


def test_a_renamed_rule_says_what_it_will_do_and_does_it(firing: World) -> None:
    renamed = book(FAILING.format("erring"), "name: count, metric: volume.count, below: 1")
    (found,) = foreseen(firing.worker(), renamed)
    assert (found.rule, found.field) == ("erring", "name")
    reason = 'the rule is gone from rules/a.yml: "erring" judges the same, and begins anew'
    assert found.text == (
        'was "failing", its 1 firing alert on fraud will be resolved once this is in force: '
        f"{reason}; acknowledgements and `for` are not taken over"
    )
    firing.book = renamed
    firing.tick(T0 + 3 * MINUTE)
    assert firing.alert("failing").status is Status.RESOLVED
    assert firing.alert("erring").status is Status.FIRING
    assert reason in {event["reason"] for event in firing.events()}


def test_a_rule_that_is_gone_says_what_ends_and_where_it_stood(firing: World) -> None:
    without = book("name: count, metric: volume.count, below: 1")
    (found,) = foreseen(firing.worker(), without)
    assert (found.rule, found.file) == ("failing", "rules/a.yml:4")
    assert found.text == (
        "its 1 firing alert on fraud will be resolved once this is in force: "
        "the rule is gone from rules/a.yml"
    )
    assert foreseen(firing.worker(), without, files={"rules/b.yml"}) == [], "other files may hold it"
    assert len(foreseen(firing.worker(), without, files={"rules/a.yml"})) == 1


def test_alerts_that_a_rule_will_no_longer_look_at_are_told(firing: World) -> None:
    by_region = book(FAILING.format("failing") + ", by: segment.region", "name: count, kind: absence")
    told = [p.text for p in foreseen(firing.worker(), by_region)]
    ending = "its 1 firing alert on fraud will be resolved once this is in force: "
    assert told == [f"{ending}the rule no longer looks at all rows together"]
