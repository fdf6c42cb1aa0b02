"""Values that are new against a baseline, or against what was before; and how often the logs are asked."""

from collections.abc import Iterator, Sequence

import msgspec
import pytest

from kedge.alerting.finding import Finding, State, Status
from kedge.alerting.loading import RuleBook, parse_rules
from kedge.pipeline.baselines import build_baseline, import_baseline
from kedge.pipeline.context import groupings_of
from kedge.pipeline.schema import features_of
from kedge.records import Prediction
from kedge.store.values import ValueCount, ValueQuery
from kedge.windows import DAY, HOUR, MINUTE, Window
from tests.pipeline.world import MODEL, T0, World, prediction, settings, world

COUNTRY = "field: features.cat.country"


def book(*rules: str) -> RuleBook:
    lines = "\n".join(f"- {{kind: new_value, window: 2h, {rule}}}" for rule in rules)
    found = parse_rules(f"version: 1\ndefaults: {{model: fraud}}\nrules:\n{lines}\n")
    assert not found.problems, found.problems
    return found


class Asked:
    """Counts what the logs are asked, by how long the window is."""

    def __init__(self, one: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.windows: list[Window] = []
        asked = one.store.values

        def values(query: ValueQuery) -> list[ValueCount]:
            self.windows.append(query.window)
            return asked(query)

        monkeypatch.setattr(one.store, "values", values)

    def take(self) -> tuple[int, int]:
        """(of a rule's window, of history) since the last time."""
        long = sum(w.length > 3 * HOUR for w in self.windows)
        found = (len(self.windows) - long, long)
        self.windows.clear()
        return found


@pytest.fixture
def one() -> Iterator[World]:
    with world(settings=settings(fraud={"bucket": "1h", "baseline": "off"})) as made:
        yield made


def hour(one: World, h: int, *new: str, n: int = 30, **changes: object) -> None:
    """n rows of hour h, the first of them from the countries `new`, and the tick that judges it."""
    rows: list[Prediction] = []
    for i in range(n):
        row = msgspec.structs.replace(prediction(h * 100 + i, T0 + h * HOUR + i * MINUTE), **changes)
        rows.append(msgspec.structs.replace(row, cat={"country": new[i]}) if i < len(new) else row)
    one.send(rows)
    one.tick(T0 + (h + 1) * HOUR + 5 * MINUTE)


def baseline(one: World, hours: int) -> None:
    made = build_baseline(
        one.store,
        MODEL,
        Window(T0, T0 + hours * HOUR),
        features_of(one.store.state, MODEL),
        groupings_of(one.pipe, one.book, MODEL),
        source="the first hours",
        now=one.now,
    )
    import_baseline(one.store.state, made, use=True)


def finding(one: World, rule: str = "new", **group: str) -> Finding:
    found = one.alert(rule, **group).finding
    assert found is not None
    return found


def test_a_value_that_the_baseline_never_saw_fires_with_its_rows_until_it_is_gone(
    one: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.book = book(f"name: new, {COUNTRY}, min_count: 2")
    for h in range(3):
        hour(one, h)
    baseline(one, 3)
    asked = Asked(one, monkeypatch)
    hour(one, 3)
    assert (finding(one).state, asked.take()) == (State.OK, (0, 0)), "summaries say that there is none"
    hour(one, 4, "pt", "pt", "xx")
    assert one.alert("new").status is Status.FIRING
    assert '"pt" (2 rows; row-00401, row-00400)' in finding(one).reason
    assert '"xx"' not in finding(one).reason
    assert asked.take() == (1, 0)
    hour(one, 5)
    assert one.alert("new").status is Status.FIRING, "the window still has them"
    hour(one, 6)
    assert one.alert("new").status is Status.RESOLVED
    assert "pt" in one.notebook.messages[0].lines[0]


def test_without_a_baseline_what_was_before_is_known_and_its_long_past_asked_for_once(
    one: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.book = book(f"name: new, {COUNTRY}")
    asked = Asked(one, monkeypatch)
    hour(one, 0)
    hour(one, 1)
    assert finding(one).state is State.INSUFFICIENT, "there is no before yet"
    for h in range(2, 5):
        hour(one, h)
    assert finding(one).state is State.OK
    asked.take()
    hour(one, 5)
    hour(one, 6)
    assert asked.take() == (2, 0), "the values of the window alone: all of them are known"
    hour(one, 7, "pt")
    assert one.alert("new").status is Status.FIRING
    assert 'a value that the 30d before did not have: "pt" (1 row; row-00700)' in finding(one).reason
    hour(one, 8, "pt")
    assert one.alert("new").status is Status.FIRING
    hour(one, 9, "pt")
    assert one.alert("new").status is Status.RESOLVED, "it is older than the window by now"


def test_a_value_is_new_again_once_it_was_gone_for_longer_than_the_history(one: World) -> None:
    one.book = book(f"name: new, {COUNTRY}, history: 1d")
    for h in (0, 1, 2):
        hour(one, h, "pt")
    for h in range(3, 30, 6):
        hour(one, h)
    hour(one, 30, "pt")
    assert one.alert("new").status is Status.INACTIVE, "history begins with a whole day"
    for h in range(33, 75, 6):
        hour(one, h)
    hour(one, 75, "pt")
    assert one.alert("new").status is Status.FIRING


def test_history_may_be_asked_for_though_there_is_a_baseline(one: World) -> None:
    one.book = book(f"name: new, {COUNTRY}, history: 7d", f"name: unseen, {COUNTRY}")
    for h in range(3):
        hour(one, h)
    baseline(one, 3)
    for h in range(3, 8):
        hour(one, h, "pt")
    assert one.alert("unseen").status is Status.FIRING
    assert one.alert("new").status is Status.RESOLVED


def test_each_value_has_its_own_alert_where_the_rule_says_so(one: World) -> None:
    one.book = book(f"name: new, {COUNTRY}, by: value")
    for h in range(4):
        hour(one, h)
    hour(one, 4, "pt")
    hour(one, 5, "es", "pt")
    assert {s.group["features.cat.country"]: s.status for s in one.alerts().values()} == {
        "pt": Status.FIRING,
        "es": Status.FIRING,
    }
    hour(one, 6)
    hour(one, 7)
    assert {s.status for s in one.alerts().values()} == {Status.RESOLVED}


def test_a_value_that_is_quiet_is_not_judged_at_every_step_for_ever(one: World) -> None:
    one.book = book(f"name: new, {COUNTRY}, by: value")
    for h in range(4):
        hour(one, h)
    hour(one, 4, "pt")
    for h in range(5, 9):
        hour(one, h)
    quiet = one.alert("new", **{"features.cat.country": "pt"})
    assert quiet.status is Status.RESOLVED
    assert quiet.evaluated_through < T0 + 8 * HOUR


def test_an_outage_caught_up_later_begins_and_ends_alerts_where_they_should_have(one: World) -> None:
    one.book = book(f"name: new, {COUNTRY}, by: value")
    for h in range(4):
        hour(one, h)
    rows = [prediction(h * 100 + i, T0 + h * HOUR + i * MINUTE) for h in range(4, 10) for i in range(30)]
    rows[0] = msgspec.structs.replace(rows[0], cat={"country": "pt"})
    one.send(rows)
    one.tick(T0 + 10 * HOUR + 5 * MINUTE)
    steps = [(e["after"], e["step"]) for e in one.events()]
    assert steps == [("firing", T0 + 5 * HOUR), ("resolved", T0 + 7 * HOUR)]


def test_new_classes_versions_and_segments_are_told_too(one: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one.book = book(
        "name: classes, field: prediction.class",
        "name: builds, field: version, by: [segment.region]",
        "name: plans, field: segment.plan",
    )
    for h in range(3):
        hour(one, h)
    baseline(one, 3)
    for h in (3, 4):
        hour(one, h)
    assert {s.status for s in one.alerts().values()} == {Status.INACTIVE}
    hour(one, 5, cls="maybe", version="v9", segment={"region": "eu", "plan": "gold"})
    firing = {(s.rule, *s.group.values()) for s in one.alerts().values() if s.status is Status.FIRING}
    assert firing == {("classes",), ("builds", "eu"), ("plans",)}
    assert '"maybe" (30 rows; row-00529, row-00528, row-00527)' in finding(one, "classes").reason
    assert '"v9"' in finding(one, "builds", **{"segment.region": "eu"}).reason


def test_versions_may_be_judged_apart_and_know_what_all_of_them_knew(one: World) -> None:
    one.book = book(f"name: new, version: serving, {COUNTRY}")
    for h in range(5):
        hour(one, h)
    hour(one, 5, version="v9")
    states = {s.version: s.status for s in one.alerts().values()}
    assert states == dict.fromkeys(("v1", "v2", "v9"), Status.INACTIVE)
    hour(one, 6, "pt", version="v9")
    states = {s.version: s.status for s in one.alerts().values()}
    assert states == {"v1": Status.INACTIVE, "v2": Status.INACTIVE, "v9": Status.FIRING}


def test_a_field_with_very_many_values_has_no_news(one: World) -> None:
    one.book = book(f"name: new, {COUNTRY}")
    users: Sequence[str] = [f"user-{i}" for i in range(1_100)]
    for h in range(4):
        rows = [
            msgspec.structs.replace(prediction(h * 2_000 + i, T0 + h * HOUR + i), cat={"country": user})
            for i, user in enumerate(users)
        ]
        one.send(rows)
        one.tick(T0 + (h + 1) * HOUR + 5 * MINUTE)
    assert finding(one).state is State.INSUFFICIENT
    assert "over 1,000 values" in finding(one).reason


def test_a_restarted_worker_asks_again_and_finds_the_same(one: World) -> None:
    one.book = book(f"name: new, {COUNTRY}")
    for h in range(5):
        hour(one, h)
    one.restart()
    hour(one, 5)
    assert finding(one).state is State.OK
    assert one.now < T0 + DAY
