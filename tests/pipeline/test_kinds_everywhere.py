"""Absence, new values and composites on every store, in one life of one model."""

import msgspec
import pytest

from kedge.alerting.finding import Status
from kedge.alerting.loading import parse_rules
from kedge.windows import MINUTE, SECOND
from tests.pipeline.world import T0, World, prediction, settings, world_on

RULES = """
version: 1
defaults: {model: fraud, window: 10m}
rules:
  - {name: silent, kind: absence, by: [segment.region]}
  - {name: new, kind: new_value, field: features.cat.country, by: [segment.region]}
  - {name: both, kind: composite, all: [silent, {any: [new]}]}
  - {name: either, kind: composite, any: [silent, new], mute_parts: true}
"""


def send(one: World, start: int, end: int, *, region: str, country: str) -> None:
    rows = [prediction(m * 2 + (region == "eu"), T0 + m * MINUTE + SECOND) for m in range(start, end)]
    given = {"segment": {"region": region}, "cat": {"country": country}}
    one.send([msgspec.structs.replace(row, **given) for row in rows])


def firing(one: World) -> set[tuple[str, str]]:
    live = (a for a in one.alerts().values() if a.status is Status.FIRING)
    return {(a.rule, a.group["segment.region"]) for a in live}


@pytest.mark.parametrize("where", ["duckdb", "elasticsearch", "opensearch"])
def test_silence_and_news_are_told_of_the_same_groups(request: pytest.FixtureRequest, where: str) -> None:
    given = {"book": parse_rules(RULES), "settings": settings(fraud={"bucket": "1m", "baseline": "off"})}
    with world_on(request, where, **given) as one:
        send(one, 0, 30, region="eu", country="de")
        send(one, 0, 20, region="us", country="us")
        one.tick(T0 + 22 * MINUTE)
        assert firing(one) == set()
        one.tick(T0 + 32 * MINUTE)
        assert firing(one) == {("silent", "us"), ("either", "us")}
        send(one, 30, 34, region="eu", country="pt")
        one.tick(T0 + 36 * MINUTE)
        news = {("new", "eu"), ("either", "eu")}
        assert firing(one) == {("silent", "us"), ("either", "us")} | news
        (new,) = [a for a in one.alerts().values() if a.rule == "new" and a.status is Status.FIRING]
        assert new.finding is not None
        assert '"pt" (' in new.finding.reason
        assert f"row-{33 * 2 + 1:05d}" in new.finding.reason
        send(one, 34, 36, region="us", country="us")
        one.tick(T0 + 38 * MINUTE)
        assert firing(one) == news
        told = [(m.headline.split(" · ")[-1], m.status) for m in one.notebook.messages]
        assert told == [("either", Status.FIRING), ("either", Status.FIRING), ("either", Status.RESOLVED)]
        muted = {(e["rule"], e["after"]) for e in one.events() if e.get("muted_by") == "either"}
        assert muted == {("silent", "firing"), ("silent", "resolved"), ("new", "firing")}
