"""ElastAlert2's rule types, and some rules of Prometheus: each is translated, and judged on rows in DuckDB.

A column is one minute. Of `rows` it is how many came in it; of `fires`, whether the alert fires once it is
judged (`F`). Windows are five minutes long. Where ElastAlert2 does something else, the story says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace

from kedge.alerting.finding import Status
from kedge.alerting.loading import parse_rules
from kedge.moving.elastalert import import_elastalert
from kedge.moving.fields import Options, parse_vocabulary
from kedge.moving.prometheus import import_prometheus
from kedge.moving.report import Translated, rules_text
from kedge.windows import HOUR, MINUTE, SECOND
from tests.pipeline.world import MODEL, T0, World, prediction, settings, world

FIVE = "timeframe: {minutes: 5}\n"
BUFFER = "buffer_time: {minutes: 5}\n"
Change = Callable[[int, int], dict[str, Any]]
"""What a row has, by its minute and its number in that."""


def plain(minute: int, k: int) -> dict[str, Any]:
    return {"error_type": None, "latency_ms": 20.0, "cls": "ok", "segment": {"region": "eu"}}


def failing(*shares: int) -> Change:
    """So many rows of a minute fail."""
    return lambda minute, k: plain(minute, k) | {"error_type": "Timeout" if k < shares[minute] else None}


def taking(*latencies: float) -> Change:
    return lambda minute, k: plain(minute, k) | {"latency_ms": latencies[minute]}


def fraud_in(*minutes: int) -> Change:
    return lambda minute, k: plain(minute, k) | {"cls": "fraud" if minute in minutes and k == 0 else "ok"}


def from_us(minute: int, k: int) -> dict[str, Any]:
    """Every other row is of another region."""
    return plain(minute, k) | {"segment": {"region": "us" if k % 2 else "eu"}}


def us_until(end: int) -> Change:
    """Every other row is of another region, which has none from that minute on."""
    return lambda minute, k: from_us(minute, k) if minute < end else plain(minute, k)


@dataclass(frozen=True)
class Story:
    name: str
    theirs: str
    rows: str
    fires: str
    change: Change = plain
    group: Mapping[str, str] = field(default_factory=dict)
    """Of the alert that is meant."""
    suffix: str = ""
    """Of the rule that is meant, where there are two."""


STORIES = [
    Story("any event fires, while it is in the window", "type: any\n", "0010000000", "..FFFFF..."),
    Story(
        "frequency fires at num_events, not at one less",
        f"type: frequency\nnum_events: 6\n{FIVE}",
        "1111121000",
        ".....FF...",
    ),
    Story(
        "frequency fires for a burst, wherever minutes end in it",
        f"type: frequency\nnum_events: 6\n{FIVE}",
        "1000330000",
        ".....FFFF.",
    ),
    Story(
        "frequency by query_key counts each value by itself: twelve of both are six of each",
        f"type: frequency\nnum_events: 6\n{FIVE}query_key: segment.region\n",
        "2222242000",
        ".....FF...",
        from_us,
        {"segment.region": "us"},
    ),
    Story(
        "frequency by query_key stays quiet for what all values have only together",
        f"type: frequency\nnum_events: 6\n{FIVE}query_key: segment.region\n",
        "2222222000",
        "..........",
        from_us,
        {"segment.region": "us"},
    ),
    Story(
        "flatline fires below the threshold, not at it, and in a first window, where ElastAlert2 waits",
        f"type: flatline\nthreshold: 5\n{FIVE}",
        "111111101111100",
        "FFFF...FFFFF.FF",
    ),
    Story(
        "flatline at 1 fires without events, until the first",
        f"type: flatline\nthreshold: 1\n{FIVE}",
        "11000000001",
        "......FFFF.",
    ),
    Story(
        "flatline by query_key misses the value that stops: few rows first",
        f"type: flatline\nthreshold: 3\n{FIVE}query_key: segment.region\n",
        "444444444444",
        "F.......FFFF",
        us_until(5),
        {"segment.region": "us"},
    ),
    Story(
        "flatline by query_key misses the value that stops: then none",
        f"type: flatline\nthreshold: 3\n{FIVE}query_key: segment.region\n",
        "444444444444",
        ".........FFF",
        us_until(5),
        {"segment.region": "us"},
        "-gone",
    ),
    Story(
        "spike fires above spike_height times the window before, and not at it, where ElastAlert2 does",
        f"type: spike\nspike_height: 3\nspike_type: up\n{FIVE}",
        "11111111113333311111",
        "FFFFFF..............",
    ),
    Story(
        "spike fires for one event more",
        f"type: spike\nspike_height: 3\nspike_type: up\n{FIVE}",
        "11111111113333411111",
        "FFFFFF........F.....",
    ),
    Story(
        "spike of nothing over nothing never fires, where ElastAlert2 does at every look",
        f"type: spike\nspike_height: 3\nspike_type: up\n{FIVE}",
        "100000000000000",
        "FFFFF..........",
    ),
    Story(
        "spike down fires when traffic falls away, and not once nothing follows nothing",
        f"type: spike\nspike_height: 3\nspike_type: down\n{FIVE}",
        "444444444411111111110000000000",
        "..............FF.......FFFFFF.",
    ),
    Story(
        "metric_aggregation fires above max_threshold, not at it",
        f"type: metric_aggregation\nmetric_agg_key: latency_ms\nmetric_agg_type: avg\n"
        f"max_threshold: 30\n{BUFFER}",
        "11111111111",
        ".....FFFFF.",
        taking(20, 20, 20, 20, 70, 80, 20, 20, 20, 20, 20),
    ),
    Story(
        "metric_aggregation of percentiles",
        f"type: metric_aggregation\nmetric_agg_key: event.duration\nmetric_agg_type: percentiles\n"
        f"percentile_range: 95\nmax_threshold: 100000000\n{BUFFER}",
        "5555555555",
        "...FFFFF..",
        taking(20, 20, 20, 200, 20, 20, 20, 20, 20, 20),
    ),
    Story(
        "percentage_match fires above max_percentage, not at it, and not under min_denominator",
        "type: percentage_match\nmatch_bucket_filter: [{exists: {field: error.type}}]\nmax_percentage: 20\n"
        f"min_denominator: 10\n{BUFFER}",
        "2222222222",
        ".....FFF..",
        failing(0, 0, 0, 2, 0, 1, 0, 0, 0, 0),
    ),
    Story(
        "blacklist fires for a row of the class, while it is in the window",
        "type: blacklist\ncompare_key: prediction.class\nblacklist: [fraud]\n",
        "2222222222",
        "..FFFFF...",
        fraud_in(2),
    ),
]


@contextmanager
def told(theirs: str, rows: str, change: Change = plain, restart_at: int = -1) -> Iterator[World]:
    """A rule of ElastAlert2, and its rows."""
    found = import_elastalert({"rule.yaml": f"name: moved\n{theirs}"}, Options(MODEL))
    with played(found, rows, change, restart_at) as one:
        yield one


@contextmanager
def played(
    found: list[Translated], rows: str, change: Change = plain, restart_at: int = -1
) -> Iterator[World]:
    """The rules that came of it, and rows, minute by minute; each tick judges the minute before."""
    book = parse_rules(rules_text(found, "a test", {"model": MODEL}))
    assert [rule.name for rule in book.rules] == [rule["name"] for rule in found[0].rules]
    assert book.rules
    with world(book=book, settings=settings(fraud={"bucket": "1m", "baseline": "off"})) as one:
        sent = 0
        for minute, n in enumerate(map(int, rows)):
            at = T0 + minute * MINUTE
            batch = [replace(prediction(sent + k, at + 100 * k), **change(minute, k)) for k in range(n)]
            sent += n
            if batch:
                one.send(batch)
            if minute == restart_at:
                one.restart()
            one.tick(at + 2 * MINUTE + 30 * SECOND)
        yield one


def states(one: World, minutes: int, rule: str = "moved", group: Mapping[str, str] | None = None) -> str:
    """`F` for every minute after which the alert fires."""
    changes = {
        (event["step"] - T0) // MINUTE - 1: event["after"] == "firing"
        for event in one.events()
        if event["rule"] == rule and event["group"] == dict(group or {})
    }
    marks, fires = "", False
    for minute in range(minutes):
        fires = changes.get(minute, fires)
        marks += "F" if fires else "."
    return marks


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_rule_of_elastalert_fires_where_it_did_or_differs_as_listed(story: Story) -> None:
    with told(story.theirs, story.rows, story.change) as one:
        found = states(one, len(story.rows), f"moved{story.suffix}", story.group)
    assert found == story.fires


def of_prometheus(more: str) -> str:
    return f"groups:\n- name: g\n  rules:\n  - alert: moved\n{more}"


@pytest.mark.parametrize(
    ("theirs", "rows", "fires", "change"),
    [
        pytest.param(
            "    expr: sum(rate(req_total[5m])) >= 0.02\n    for: 2m\n",
            "1111122220000",
            ".......FFFF..",
            plain,
            id="a rate a second times its range, and fires at the first step two minutes after the first",
        ),
        pytest.param(
            "    expr: sum(increase(req_total[5m])) > 5\n    keep_firing_for: 3m\n",
            "1111120000000",
            ".....FFFF....",
            plain,
            id="keep_firing_for counts from the first step that does not hold",
        ),
        pytest.param(
            "    expr: 100 * sum(rate(failed_total[5m])) / sum(rate(req_total[5m])) > 20\n",
            "2222222222",
            "...F.FFF..",
            failing(0, 0, 0, 2, 0, 1, 0, 0, 0, 0),
            id="a share in percent, above the bound and not at it",
        ),
        pytest.param(
            "    expr: absent_over_time(req_total[5m])\n",
            "11000000001",
            "......FFFF.",
            plain,
            id="absent_over_time",
        ),
    ],
)
def test_a_rule_of_prometheus_fires_where_it_did(theirs: str, rows: str, fires: str, change: Change) -> None:
    names = parse_vocabulary(["req_total=volume.count", "failed_total=errors.rate"])
    found = import_prometheus({"alerts.yml": of_prometheus(theirs)}, Options(MODEL, names))
    with played(found, rows, change) as one:
        assert states(one, len(rows)) == fires


@pytest.mark.parametrize("minute", range(10))
def test_a_restart_in_the_middle_of_a_window_loses_nothing(minute: int) -> None:
    theirs, rows = f"type: frequency\nnum_events: 6\n{FIVE}", "1000330000"
    with told(theirs, rows, restart_at=minute) as one:
        assert states(one, len(rows)) == ".....FFFF."
        assert len(one.notebook.messages) == 2


@pytest.mark.parametrize(
    ("theirs", "group"),
    [
        ("type: new_term\nfields: [segment.region]\n", {"segment.region": "us"}),
        (
            "type: change\nquery_key: service.name\ncompare_key: segment.region\nignore_null: true\n",
            {"segment.region": "us", "service": "scorer"},
        ),
    ],
)
def test_a_value_that_was_not_there_before_has_an_alert_for_an_hour(
    theirs: str, group: dict[str, str]
) -> None:
    found = import_elastalert({"rule.yaml": f"name: moved\n{theirs}"}, Options(MODEL))
    book = parse_rules(rules_text(found, "a test", {"model": MODEL}))
    assert not book.problems
    with world(book=book, settings=settings(fraud={"bucket": "1h", "baseline": "off"})) as one:
        firing = []
        for hour in range(7):
            region = "us" if hour in (3, 6) else "eu"
            rows = [prediction(hour * 10 + k, T0 + hour * HOUR + k * MINUTE) for k in range(3)]
            one.send([replace(row, segment={"region": region}, service="scorer") for row in rows])
            one.tick(T0 + (hour + 1) * HOUR + 5 * MINUTE)
            firing.append([state.group for state in one.alerts().values() if state.status is Status.FIRING])
    assert firing[1:] == [[], [], [group], [], [], []], "going back to a value that was there is no news"
