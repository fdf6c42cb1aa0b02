"""The tree of notify.yml: what it means, and everything that is wrong with it at once."""

from pathlib import Path

import pytest

from kedge.alerting.mutes import Interval
from kedge.alerting.routing import ALL, Escalation
from kedge.errors import KedgeError
from kedge.notify.receivers import load_receivers
from kedge.windows import HOUR, MINUTE, SECOND

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "tests" / "notify" / "examples"
EXAMPLE = ROOT / "docs" / "examples" / "notify.yml"
ENV = {
    "SLACK_BOT_TOKEN": "xoxb-test-only",
    "SLACK_WEBHOOK_URL": "http://127.0.0.1:1/x",
    "LEAD_WEBHOOK_URL": "http://127.0.0.1:1/y",
}
RECEIVERS = "receivers:\n  team: {terminal: {}}\n  pager: {terminal: {}}\n  lead: {terminal: {}}\n"


def load(tmp_path, text):
    path = tmp_path / "notify.yml"
    path.write_text(RECEIVERS + text)
    return load_receivers(path, ENV)


def told(routing, **labels):
    return [taken.route.receiver for taken in routing.routes_of(labels)]


def test_the_example_routes_as_its_comments_say():
    routing = load_receivers(EXAMPLE, ENV).routing
    assert told(routing, model="churn", severity="medium") == ["team"]
    assert told(routing, model="churn", severity="critical") == ["pager", "team"]
    assert told(routing, team="fraud", severity="critical") == ["pager", "fraud"]
    (quiet,) = routing.routes_of({"team": "fraud", "severity": "low"})
    assert (quiet.route.receiver, quiet.route.mute_times) == ("fraud", ("nights", "weekends"))
    assert quiet.reason == f"{EXAMPLE}:27: severity <= medium"
    (pager,) = [taken.route for taken in routing.routes_of({"severity": "critical"})][:1]
    assert pager.group_by == (ALL,)
    assert pager.escalate == (Escalation(30 * MINUTE, "lead"),)
    assert (pager.group_wait, pager.group_interval, pager.repeat_interval) == (0, 5 * MINUTE, HOUR)
    (office,) = [t.route for t in routing.routes_of({"model": "test-1", "rule": "slow"})]
    assert office.active_times == ("office",)
    assert len(routing.intervals["office"]) == 2
    assert routing.inhibitions[0].equal == ("model",)


def test_without_a_route_nothing_is_routed(tmp_path):
    receivers = load(tmp_path, "default: team\n")
    assert (receivers.routing, receivers.default) == (None, "team")


def test_what_a_route_does_not_say_it_has_from_its_parent_but_for_its_times(tmp_path):
    routing = load(
        tmp_path,
        """\
route:
  receiver: team
  group_by: model
  group_wait: 10s
  escalate: {after: 1h, to: lead}
  routes:
    - match: {a: 1}
      receiver: pager
      mute_times: n
      continue: true
      routes:
        - match: {b: 1}
          group_by: []
          escalate: []
    - {match: {c: 1}, receiver: lead}
time_intervals: {n: {years: 2026}}
""",
    ).routing
    (inner,) = [t.route for t in routing.routes_of({"a": "1", "b": "1"})]
    assert (inner.receiver, inner.group_by, inner.group_wait) == ("pager", (), 10 * SECOND)
    assert (inner.mute_times, inner.goes_on, inner.escalate) == ((), False, ())
    (outer,) = [t.route for t in routing.routes_of({"a": "1"})]
    assert (outer.mute_times, outer.escalate) == (("n",), (Escalation(HOUR, "lead"),))
    # It does not escalate to whom it tells anyway.
    assert [t.route.escalate for t in routing.routes_of({"c": "1"})] == [()]


def test_the_default_is_the_roots_receiver_where_it_names_none(tmp_path):
    receivers = load(tmp_path, "default: pager\nroute: {routes: [{match: {a: b}, receiver: team}]}\n")
    assert told(receivers.routing) == ["pager"]
    assert load(tmp_path, "route: {receiver: lead}\n").default == "lead"


@pytest.mark.parametrize(
    ("written", "interval"),
    [
        ("{times: 08:00-18:00}", Interval(times=((480, 1080),))),
        ('{times: ["22:00-24:00", "0:00 - 6:30"]}', Interval(times=((1320, 1440), (0, 390)))),
        ("{weekdays: mon-fri}", Interval(weekdays=((0, 4),))),
        ("{weekdays: [Saturday, sun]}", Interval(weekdays=((5, 5), (6, 6)))),
        ('{weekdays: "monday:wednesday"}', Interval(weekdays=((0, 2),))),
        ("{days_of_month: 1}", Interval(days_of_month=((1, 1),))),
        (
            '{days_of_month: [1-5, -1, "-3:-1", "10:-5"]}',
            Interval(days_of_month=((1, 5), (-1, -1), (-3, -1), (10, -5))),
        ),
        ("{months: jan-mar}", Interval(months=((1, 3),))),
        ('{months: [12, "4:6"]}', Interval(months=((12, 12), (4, 6)))),
        ("{years: 2026-2027}", Interval(years=((2026, 2027),))),
        ("{timezone: Europe/Berlin, years: 2026}", Interval(years=((2026, 2026),), timezone="Europe/Berlin")),
    ],
)
def test_spans_of_time_are_written_like_this(tmp_path, written, interval):
    routing = load(tmp_path, f"route: {{receiver: team}}\ntime_intervals: {{n: {written}}}\n").routing
    assert routing.intervals == {"n": (interval,)}


@pytest.mark.parametrize(
    ("written", "error"),
    [
        ("{times: 22:00-06:00}", "a span over midnight is two"),
        ("{times: 8-18}", 'write "08:00-18:00"'),
        ("{times: 08:00-24:30}", "00:00 to 24:00"),
        ("{times: 08:70-09:00}", "00:00 to 24:00"),
        ("{weekdays: mon-fry}", 'no weekday (did you mean "friday"?)'),
        ("{weekdays: fri-mon}", "ends before it begins: write it as two"),
        ("{weekdays: 1}", "no weekday"),
        ("{days_of_month: 32}", "days are 1 to 31"),
        ("{days_of_month: 0}", "days are 1 to 31"),
        ("{days_of_month: '5-1'}", "ends before it begins"),
        ("{days_of_month: '-1:5'}", "ends before it begins"),
        ("{days_of_month: first}", "no day of a month"),
        ("{months: 13}", "no month"),
        ("{months: ja}", "no month"),
        ("{years: 26}", "no year"),
        ("{timezone: Berlin}", 'did you mean "Europe/Berlin"?'),
        ("{location: Europe/Berlin}", 'here it is called "timezone"'),
        ("{hours: 1}", "unknown field"),
    ],
)
def test_what_is_no_span_of_time_is_named(tmp_path, written, error):
    with pytest.raises(KedgeError) as caught:
        load(tmp_path, f"route: {{receiver: team}}\ntime_intervals:\n  n: {written}\n")
    assert error in str(caught.value)
    assert "notify.yml:7:" in str(caught.value)


def test_every_error_is_told_at_once_with_its_place_and_the_way_out(monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    with pytest.raises(KedgeError) as caught:
        load_receivers(Path("notify.bad.yml"), ENV)
    assert str(caught.value).splitlines() == Path("notify.bad.txt").read_text().splitlines()


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        (
            """\
route: {receiver: team, match: {a: b}, continue: true, mute_times: n, active_times: n}
time_intervals: {n: {years: 2026}}
""",
            [
                ":5:25: route.match: the root takes every alert, always: it has no `match`",
                ":5:40: route.continue: the root takes every alert, always: it has no `continue`",
                ":5:56: route.mute_times: the root takes every alert, always: it has no `mute_times`",
                ":5:71: route.active_times: the root takes every alert, always: it has no `active_times`",
            ],
        ),
        (
            "route:\n  receiver: team\n  routes:\n    - receiver: pager\n    - {match: {a: b}}\n",
            [":9:7: route.routes.1: no alert comes here: the route before it takes every one"],
        ),
        ("route: {group_wait: 1s}\n", [":1:1: default: name the receiver of rules that name none"]),
        ("default: team\ninhibit: [{source: {a: b}, target: {c: d}}]\n", ["inhibit: is for routes"]),
        ("default: team\nroute: [a]\n", [":6:1: route: must be a map of fields"]),
    ],
)
def test_a_tree_that_cannot_work_is_refused(tmp_path, text, errors):
    with pytest.raises(KedgeError) as caught:
        load(tmp_path, text)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(errors)
    for line, error in zip(lines, errors, strict=True):
        assert error in line
