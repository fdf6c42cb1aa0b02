"""Conditions on labels: what they mean, how they are written, and what is wrong with those that mean none."""

import pytest

from kedge.alerting.finding import Severity
from kedge.alerting.matchers import describe, labels_of, matches, parse_condition, parse_match
from kedge.errors import BadInput
from tests.notify.samples import transition

LABELS = {"rule": "slow", "model": "fraud-eu", "severity": "high", "segment.country": "DE", "team": "risk"}


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({}, True),
        ({"rule": "slow"}, True),
        ({"rule": "slo"}, False),
        ({"rule": "slow", "team": "other"}, False),
        ({"rule": ["fast", "slow"]}, True),
        ({"rule": "!= slow"}, False),
        ({"rule": "!=fast"}, True),
        ({"model": "=~ fraud-.*"}, True),
        ({"model": "=~ fraud"}, False),
        ({"model": "!~ .*eu"}, False),
        ({"segment.country": ["FR", "DE"]}, True),
        ({"severity": ">= high"}, True),
        ({"severity": "> high"}, False),
        ({"severity": "<=high"}, True),
        ({"severity": "< critical"}, True),
        ({"severity": ["low", "medium"]}, False),
        ({"severity": "=~ high|critical"}, True),
        # A label that is not there is the empty text.
        ({"region": ""}, True),
        ({"region": "!= eu"}, True),
        ({"region": "=~ .*"}, True),
        ({"region": "=~ .+"}, False),
        ({"team": ""}, False),
        # An operator before the value says that the value is one, whatever it begins with.
        ({"rule": "= slow"}, True),
    ],
)
def test_conditions_mean_what_they_say(match, expected):
    assert matches(parse_match(match), LABELS) is expected


def test_an_alert_has_the_labels_of_its_rule_its_group_and_itself():
    alert = transition(labels={"team": "risk", "model": "not this"})
    assert labels_of(alert) == {
        "team": "risk",
        "segment.country": "DE",
        "rule": "recall-fell",
        "model": "fraud",
        "version": "7",
        "severity": "high",
    }
    assert "version" not in labels_of(transition(version=""))
    assert labels_of(transition(severity=Severity.LOW))["severity"] == "low"


@pytest.mark.parametrize(
    ("text", "label", "operator", "value"),
    [
        ("model=fraud", "model", "=", "fraud"),
        ("rule=~drift.*", "rule", "=~", "drift.*"),
        ('rule!~"a b"', "rule", "!~", "a b"),
        ("team!=", "team", "!=", ""),
        ("severity>=high", "severity", ">=", "high"),
        ("segment.url=a=b", "segment.url", "=", "a=b"),
    ],
)
def test_commands_take_conditions_as_one_word(text, label, operator, value):
    found = parse_condition(text)
    assert (found.label, found.operator, found.values) == (label, operator, (value,))
    assert parse_match({label: found.written}) == (found,)


@pytest.mark.parametrize("value", ["plain", "", "= x", "=x", "!=", ">= high", " padded ", "~"])
def test_every_value_can_be_written_and_read_again(value):
    found = parse_condition(f'name="{value}"')
    assert found.values == (value,)
    assert parse_match({"name": found.written}) == (found,)


@pytest.mark.parametrize(
    ("match", "error"),
    [
        ("team", "are a map"),
        ({"severity": "hihg"}, 'did you mean "high"'),
        ({"severity": ["low", "higher"]}, '"higher" is not a severity'),
        ({"severity": ">= loud"}, '"loud" is not a severity'),
        ({"team": ">= b"}, ">= is for severity alone"),
        ({"model": "=~ ("}, "no regular expression"),
        ({"model": []}, "matches nothing"),
        ({"model": ["a", "!= b"]}, "without operators"),
        ({"model": {"a": 1}}, "must be a text"),
        ({"model": None}, "must be a text"),
        ({"a b": "c"}, '"a b" is no name of a label'),
        ({"a": "x" * 501}, "at most 500 characters"),
    ],
)
def test_what_means_nothing_is_refused_with_the_way_out(match, error):
    with pytest.raises(BadInput, match=error.replace("(", r"\(")):
        parse_match(match)


@pytest.mark.parametrize("text", ["", "model", "=x", "a b=c", "model~x"])
def test_a_word_that_is_no_condition_is_refused(text):
    with pytest.raises(BadInput):
        parse_condition(text)


def test_conditions_are_told_in_words():
    assert describe(parse_match({"team": "risk", "severity": ">= high", "model": ["a", "b"]})) == (
        "team = risk, severity >= high, model is one of a, b"
    )
    assert describe(()) == "every alert"
