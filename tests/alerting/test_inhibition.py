"""While one alert fires, others that follow from it are not told."""

import pytest

from kedge.alerting.inhibition import Inhibition, Inhibitor
from kedge.alerting.matchers import parse_match

DOWN = {"rule": "no-traffic", "model": "fraud", "severity": "critical"}
SLOW = {"rule": "slow", "model": "fraud", "severity": "medium"}


def inhibition(source, target, *equal):
    return Inhibition(parse_match(source), parse_match(target), equal)


WORSE = inhibition({"severity": "critical"}, {"severity": "<= medium"}, "model")


@pytest.mark.parametrize(
    ("rule", "source", "target", "inhibited"),
    [
        (WORSE, DOWN, SLOW, True),
        (WORSE, DOWN, SLOW | {"model": "churn"}, False),  # another model
        (WORSE, DOWN | {"severity": "high"}, SLOW, False),  # the source does not match
        (WORSE, DOWN, SLOW | {"severity": "high"}, False),  # the target does not match
        # A label that both lack is equal; one that only one lacks is not.
        (inhibition({"rule": "no-traffic"}, {"rule": "slow"}, "region"), DOWN, SLOW, True),
        (
            inhibition({"rule": "no-traffic"}, {"rule": "slow"}, "region"),
            DOWN,
            SLOW | {"region": "eu"},
            False,
        ),
        (inhibition({"rule": "no-traffic"}, {"rule": "slow"}), DOWN, SLOW, True),
        # Who matches both sides is not muted by another who does, and is muted by one who is a source alone.
        (inhibition({"model": "fraud"}, {"model": "fraud"}), DOWN, SLOW, False),
        (inhibition({"severity": ">= medium"}, {"severity": "<= medium"}), DOWN, SLOW, True),
    ],
)
def test_a_source_mutes_its_targets(rule, source, target, inhibited):
    inhibitor = Inhibitor([rule], {"source": source, "target": target})
    assert bool(inhibitor.reason("target", target)) is inhibited


def test_no_alert_mutes_itself():
    rule = inhibition({"severity": ">= medium"}, {"severity": "<= medium"})
    assert Inhibitor([rule], {"a": SLOW}).reason("a", SLOW) == ""


def test_two_alerts_cannot_mute_each_other():
    rule = inhibition({"model": "fraud"}, {"model": "fraud"})
    inhibitor = Inhibitor([rule], {"a": SLOW, "b": DOWN})
    assert (inhibitor.reason("a", SLOW), inhibitor.reason("b", DOWN)) == ("", "")


def test_the_reason_names_the_source():
    assert Inhibitor([WORSE], {"down": DOWN}).reason("slow", SLOW) == "inhibited by no-traffic on fraud"


def test_what_does_not_fire_mutes_nothing():
    assert Inhibitor([WORSE], {}).reason("slow", SLOW) == ""
