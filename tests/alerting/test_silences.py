"""Silences: whom they cover, when, and who may not make one."""

import msgspec
import pytest

from kedge.alerting.matchers import parse_match
from kedge.alerting.silences import LONGEST, Phase, Silence, expired, new_silence, silenced_by
from kedge.errors import BadInput
from kedge.windows import HOUR

LABELS = {"rule": "slow", "model": "fraud", "severity": "high"}


def silence(id="s1", match=None, **changes):
    given = {"author": "kim", "reason": "deploy", "created": 0, "starts": HOUR, "ends": 3 * HOUR} | changes
    return new_silence(id, parse_match({"model": "fraud"} if match is None else match), **given)


@pytest.mark.parametrize(
    ("now", "phase"),
    [
        (HOUR - 1, Phase.PENDING),
        (HOUR, Phase.ACTIVE),
        (3 * HOUR - 1, Phase.ACTIVE),
        (3 * HOUR, Phase.EXPIRED),
    ],
)
def test_a_silence_covers_from_its_start_until_just_before_its_end(now, phase):
    assert silence().phase(now) is phase
    assert silence().covers(LABELS, now) is (phase is Phase.ACTIVE)


def test_all_conditions_must_hold():
    assert silence(match={"model": "fraud", "severity": ">= high"}).covers(LABELS, HOUR)
    assert not silence(match={"model": "fraud", "rule": "other"}).covers(LABELS, HOUR)


def test_of_several_the_one_that_lasts_longest_is_named():
    held = [silence("a"), silence("b", ends=4 * HOUR), silence("c", match={"model": "x"}, ends=9 * HOUR)]
    assert silenced_by(LABELS, held, HOUR).id == "b"
    assert silenced_by({"model": "z"}, held, HOUR) is None
    assert str(held[1]) == "silenced by kim until 1970-01-01T04:00:00Z: deploy"


def test_expiring_ends_it_at_once_whether_it_has_begun_or_not():
    assert expired(silence(), 2 * HOUR).phase(2 * HOUR) is Phase.EXPIRED
    never = expired(silence(), 0)
    assert [never.phase(t) for t in (0, HOUR, 2 * HOUR)] == [Phase.EXPIRED] * 3
    assert expired(silence(), 5 * HOUR) == silence()


def test_a_stored_silence_means_the_same():
    made = silence(match={"rule": ["a", "b"], "model": "=~ f.*", "team": "!= x", "odd": "= =x"})
    again = msgspec.convert(msgspec.json.decode(msgspec.json.encode(made)), Silence)
    assert again.matchers == made.matchers


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"match": {}}, "needs a condition"),
        ({"author": " "}, "an author and a reason"),
        ({"reason": ""}, "an author and a reason"),
        ({"ends": HOUR}, "must end after it begins"),
        ({"created": 4 * HOUR}, "in the future"),
        ({"ends": HOUR + LONGEST + 1}, "a year at most"),
        ({"reason": "x" * 1001}, "at most 1000 characters"),
    ],
)
def test_a_silence_that_makes_no_sense_is_refused(changes, error):
    with pytest.raises(BadInput, match=error):
        silence(**changes)
