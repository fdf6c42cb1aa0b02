"""The law of DESIGN §6 as a state machine: whatever is sent, in whatever order, by whatever clock, and
however the workers fare, what is stored in the end is what the rows say.

Rows come out of order, twice, and hours late through another gateway whose clock is off; labels come before
their predictions, twice, and corrected; ticks are missed, doubled, run by a worker whose clock is behind, and
killed between any two steps; edges and groupings change on the way. Shrinking finds the shortest such life.
"""

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kedge.alerting.loading import parse_rules
from kedge.clock import Clock
from kedge.errors import BadInput
from kedge.pipeline.baselines import build_baseline, import_baseline
from kedge.pipeline.context import groupings_of
from kedge.pipeline.schema import features_of
from kedge.records import Prediction
from kedge.store.base import Store
from kedge.store.duckdb import open_duckdb
from kedge.store.elastic import open_elastic
from kedge.windows import DAY, HOUR, MINUTE, SECOND, Millis, Window
from tests.pipeline.world import BY_PLAN, MODEL, RULES, T0, Crash, World, crash_at, prediction, truth
from tests.pipeline.world import settings as made_settings
from tests.support.servers import remove_all

START = T0 + 22 * HOUR
"""So that hours and a day end on the way."""
SPANS = (0, 3 * SECOND, 40 * SECOND, MINUTE, 10 * MINUTE, 50 * MINUTE, 2 * HOUR, 26 * HOUR)
SKEWS = (0, 0, -90 * MINUTE, 20 * SECOND, 50 * MINUTE)
"""How far a gateway's clock is off when it stamps rows and labels."""
numbers = st.lists(st.integers(0, 99), min_size=1, max_size=12, unique=True)


class Life(RuleBasedStateMachine):
    """One model's life. `open_store` is set by whoever runs it."""

    open_store: ClassVar[Callable[[Clock], Store]] = staticmethod(
        lambda clock: open_duckdb(":memory:", clock=clock)
    )

    @initialize(hourly=st.booleans())
    def begin(self, hourly: bool) -> None:
        own = {"bucket": "1h" if hourly else "1m", "max_groups": 1}
        self.world = World(settings=made_settings(**{MODEL: own}), open_store=type(self).open_store)
        self.world.now = START
        self.sent = 0

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if self.world.rows:
                end = max(self.world.now, START + 2 * DAY) + DAY
                self.world.settle(end, end + 7 * HOUR, end + 2 * DAY)
                self.world.assert_exact()
        finally:
            self.world.close()

    @rule(which=numbers, back=st.sampled_from(SPANS), skew=st.sampled_from(SKEWS))
    def rows_arrive(self, which: list[int], back: Millis, skew: Millis) -> None:
        """The row of a number is always the same, so some of them come again."""
        held = self.world.rows
        rows = []
        for i in which:
            at = self.world.now - back - i * 7 * SECOND
            rows.append(held.get(f"row-{i:05d}") or prediction(i, at))
        self.world.send([row if row.id in held else _stamped(row, skew) for row in rows])

    @rule(which=numbers, right=st.booleans(), age=st.sampled_from(SPANS))
    def labels_arrive(self, which: list[int], right: bool, age: Millis) -> None:
        """Of rows that are stored, or come later; a second label of a row corrects it, or is an older one."""
        self.world.label([truth(f"row-{i:05d}", self.world.now - age, right=right) for i in which])

    @rule(on=st.sampled_from((0, 20 * SECOND, MINUTE, 7 * MINUTE, HOUR, 5 * HOUR, DAY)))
    def a_tick(self, on: Millis) -> None:
        self.world.tick(self.world.now + on)

    @rule(behind=st.sampled_from((SECOND, 5 * MINUTE, 3 * HOUR)))
    def a_tick_by_a_clock_that_is_behind(self, behind: Millis) -> None:
        self.world.tick(self.world.now - behind)

    @rule(after=st.integers(0, 30), on=st.sampled_from((0, MINUTE, HOUR)))
    def a_tick_that_dies(self, after: int, on: Millis) -> None:
        try:
            with crash_at(after=after):
                self.world.tick(self.world.now + on)
        except Crash:
            self.world.restart()

    @rule(
        at=st.sampled_from(("summarise:counted", "summarise:metrics-written", "detect:changes-read")),
        dies=st.booleans(),
        back=st.sampled_from((3 * MINUTE, 2 * HOUR)),
    )
    @precondition(lambda self: self.world.rows)
    def a_tick_that_another_overtakes(self, at: str, dies: bool, back: Millis) -> None:
        """In the middle of it, a second worker does a whole tick over more rows and labels, or dies as soon
        as it has found them."""
        slow, quick = self.world.worker(), self.world.worker()
        woke: list[int] = []

        def overtake(point: str) -> None:
            if woke == [1] and dies and point == "detect:stored":
                raise Crash(point)
            if point == at and not woke:
                woke.append(1)
                self.world.pipe = quick
                self.sent += 1
                row = prediction(100 + self.sent, self.world.now - back)
                self.world.send([row])
                self.world.label([truth(row.id, self.world.now - MINUTE)])
                with suppress(Crash):
                    self.world.tick(self.world.now + SECOND)
                woke.append(2)
                self.world.pipe = slow

        self.world.pipe = slow
        self.world.send([prediction(500 + self.sent, self.world.now - back)])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("kedge.pipeline.summarise.reach", overtake)
            patch.setattr("kedge.pipeline.feed.reach", overtake)
            self.world.tick()

    @rule()
    def the_rules_change(self) -> None:
        self.world.book = parse_rules(BY_PLAN if self.world.book.of_model(MODEL)[0].name == "busy" else RULES)

    @rule()
    @precondition(lambda self: self.world.rows)
    def a_baseline_is_made(self) -> None:
        one = self.world
        rows = [row.timestamp for row in one.rows.values()]
        try:
            baseline = build_baseline(
                one.store,
                MODEL,
                Window(min(rows) - min(rows) % DAY, max(rows) + 1),
                features_of(one.store.state, MODEL),
                groupings_of(one.pipe, one.book, MODEL),
                source="what there was",
                now=one.now,
            )
        except BadInput:
            return  # a server does not show the rows yet
        import_baseline(one.store.state, baseline, use=True)


def _stamped(row: Prediction, skew: Millis) -> Prediction:
    return msgspec.structs.replace(row, ingested=row.ingested + skew)


WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
HEALTH = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)


def test_any_life_ends_in_the_numbers_that_the_rows_say() -> None:
    limits = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=HEALTH)
    run_state_machine_as_test(Life, settings=limits)


@pytest.mark.parametrize("server", ["elasticsearch", "opensearch"])
def test_any_life_on_a_server_ends_in_the_numbers_that_the_rows_say(
    server: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(f"{server}_url")
    prefixes: list[str] = []

    def opened(clock: Clock) -> Store:
        prefixes.append(f"kedge-life-{secrets.token_hex(5)}")
        return open_elastic(url, prefix=prefixes[-1], clock=clock)

    class ServerLife(Life):
        open_store = staticmethod(opened)

    limits = settings(
        max_examples=3,
        stateful_step_count=10,
        deadline=None,
        suppress_health_check=HEALTH,
        phases=WITHOUT_SHRINKING,
    )
    try:
        run_state_machine_as_test(ServerLife, settings=limits)
    finally:
        for prefix in prefixes:
            remove_all(url, prefix)
