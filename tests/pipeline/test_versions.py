"""A canary in the pipeline: counts begin with its first row, and the verdict reaches people."""

from collections.abc import Iterator

import msgspec
import pytest

from kedge.alerting.finding import State, Status
from kedge.alerting.loading import parse_rules
from kedge.errors import BadInput
from kedge.pipeline.version_query import version_row
from kedge.records import Prediction
from kedge.windows import DAY, HOUR, MINUTE, SECOND, Window, iso
from tests.pipeline.world import MODEL, T0, World, prediction, world

CANARY = """
version: 1
rules:
  - {name: canary, model: fraud, kind: versions, metric: errors.rate, candidate: v7, reference: v6,
     margin: 5pp, window: 6h}
"""


@pytest.fixture
def one() -> Iterator[World]:
    with world(book=parse_rules(CANARY)) as made:
        yield made


def rows(minute: int, version: str, n: int, *, failed: int) -> list[Prediction]:
    """n rows of a minute, of which so many failed."""
    at = T0 + minute * MINUTE
    made = [prediction(minute * 1_000 + (500 if version == "v7" else 0) + i, at + i * 100) for i in range(n)]
    return [
        msgspec.structs.replace(row, version=version, error_type="Timeout" if i < failed else None)
        for i, row in enumerate(made)
    ]


def quarter(one: World, number: int, *, canary: int, failed: int) -> None:
    """A quarter of an hour of traffic: v6 at 2 % errors, and so many rows of v7 a minute; then a tick."""
    for m in range(number * 15, number * 15 + 15):
        one.send(rows(m, "v6", 50, failed=1))
        if canary:
            one.send(rows(m, "v7", canary, failed=failed))
    one.tick(T0 + (number * 15 + 17) * MINUTE)


def test_a_bad_canary_fires_its_version_and_clears_once_it_is_gone(one: World) -> None:
    for number in range(4):
        quarter(one, number, canary=0, failed=0)
    assert one.alert("canary").finding.state is State.NO_DATA  # type: ignore[union-attr]
    for number in range(4, 8):
        quarter(one, number, canary=20, failed=4)
    alert = one.alert("canary")
    assert alert.status is Status.FIRING
    assert alert.version == "v7"
    assert alert.finding is not None
    assert alert.finding.window[0] == T0 + HOUR  # its first row, not six hours back
    assert alert.finding.n == alert.finding.reference_n * 20 // 50  # type: ignore[operator]
    (message,) = one.notebook.messages
    assert "fraud v7" in message.headline
    assert "canary" in message.headline
    assert any("limit +5 points" in line for line in message.lines)
    for number in range(8, 12):
        quarter(one, number, canary=0, failed=0)
    resolved = one.alert("canary")
    assert resolved.status is Status.RESOLVED
    assert resolved.finding is not None
    assert resolved.finding.reason.startswith("v7 gets no traffic any more")


def test_a_good_canary_is_promoted_and_pages_no_one(one: World) -> None:
    for number in range(4):
        quarter(one, number, canary=50, failed=1)
    alert = one.alert("canary")
    assert alert.finding is not None
    assert alert.finding.reason.startswith("promote v7")
    assert alert.status is Status.INACTIVE
    assert one.notebook.messages == []


def test_counts_end_with_the_comparison_and_an_older_one_asks_for_since(one: World) -> None:
    """Six hours from the first row on; after twelve its start is out of sight."""
    for hour in range(15):
        one.send(rows(hour * 60, "v6", 50, failed=1))
        one.send(rows(hour * 60 + 1, "v7", 50, failed=1))
        one.drain(T0 + hour * HOUR + 17 * MINUTE)
        finding = one.alert("canary").finding
        assert finding is not None
        if hour in (3, 8):
            assert Window(*finding.window) == Window(T0, min(finding.step, T0 + 6 * HOUR))
            assert finding.n == 50 * min(hour + 1, 6)
    assert finding.state is State.INSUFFICIENT
    assert "`since`" in finding.reason
    text = CANARY.replace("window: 6h", f'window: 6h, since: "{iso(T0 + 10 * HOUR + 30 * SECOND)}"')
    one.book = parse_rules(text)
    one.send(rows(15 * 60, "v7", 50, failed=1))
    one.drain(T0 + 15 * HOUR + 17 * MINUTE + SECOND)
    finding = one.alert("canary").finding
    assert finding is not None
    assert finding.window == (T0 + 10 * HOUR, finding.step)
    assert finding.n == 50 * 6


def test_the_first_row_is_found_to_the_hour_in_a_long_window() -> None:
    long = CANARY.replace("6h", "7d")
    with world(book=parse_rules(long)) as one:
        for hour in range(0, 72, 3):
            one.send(rows(hour * 60, "v6", 40, failed=1))
        one.send(rows(40 * 60 + 10, "v7", 30, failed=1))
        one.send(rows(70 * 60, "v7", 30, failed=1))
        one.drain(T0 + 3 * DAY)
        one.send(rows(72 * 60, "v7", 30, failed=1))
        one.drain(T0 + 3 * DAY + 2 * HOUR)
        finding = one.alert("canary").finding
        assert finding is not None
        assert finding.window[0] == T0 + 40 * HOUR
        assert finding.n == 90
        assert finding.reference_n == 40 * len(range(42, 72, 3))


def test_two_versions_are_compared_when_somebody_asks(one: World) -> None:
    """From the candidate's first hour on, or a time that is given; counted in the logs where need be."""
    for hour in range(6):
        one.send(rows(hour * 60, "v6", 100, failed=2))
        if hour > 1:
            one.send(rows(hour * 60 + 1, "v7", 100, failed=20))
    one.drain(T0 + 7 * HOUR)

    def asked(**more: str | int) -> dict[str, object]:
        return version_row(one.pipe, MODEL, "errors.rate", "v7", "v6", now=one.now, **more)  # type: ignore[arg-type]

    found = asked(margin="5pp")
    assert found["since"] == iso(T0 + 2 * HOUR)
    assert found["decision"] == "roll_back"
    assert found["candidate"] == {"version": "v7", "value": 0.2, "n": 400}
    assert found["reference"] == {"version": "v6", "value": 0.02, "n": 400}
    assert asked(start=T0)["reference"]["n"] == 600  # type: ignore[index]
    one.book = parse_rules("version: 1\nrules: []\n")
    with world(book=one.book) as unsummarised:
        unsummarised.send(list(one.rows.values()))
        unsummarised.drain(T0 + 7 * HOUR)
        assert (
            version_row(
                unsummarised.pipe, MODEL, "errors.rate", "v7", "v6", margin="5pp", now=unsummarised.now
            )
            == found
        )
    with pytest.raises(BadInput, match="no share or mean"):
        version_row(one.pipe, MODEL, "latency.p95", "v7", now=one.now)
