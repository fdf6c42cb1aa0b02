"""Series are written as promtool writes them."""

import pytest

from kedge.errors import BadInput
from kedge.rehearsal.series import expand


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1 2 3", [1, 2, 3]),
        ("1+0.5x3", [1, 1.5, 2, 2.5]),
        ("10-2x5", [10, 8, 6, 4, 2, 0]),
        ("1+0x6 _x3 stale", [*[1] * 7, *[None] * 4]),
        ("5x3", [5, 5, 5, 5]),
        ("5x0", [5]),
        ("_ 1 _", [None, 1, None]),
        ("-1-1x2", [-1, -2, -3]),
        ("1e2 .5", [100, 0.5]),
        ("5% 2.5%x1", [0.05, 0.025, 0.025]),
        ("200ms+100msx2 1.5s", [200, 300, 400, 1500]),
    ],
)
def test_the_notation_is_promtools(text: str, values: list[float | None]) -> None:
    assert expand(text) == pytest.approx(values)


def test_a_long_ramp_does_not_add_up_rounding() -> None:
    assert expand("0+0.1x1000")[-1] == 100.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 two", '"two" is no value of a series'),
        ("1+1", "how often? write 1+1x5"),
        ("", "a series without values"),
        ("1x999999999", "more than 100,000 values"),
        ("5pp", '"5pp" is no value'),
        ("1x-3", '"1x-3" is no value'),
    ],
)
def test_what_is_no_series_is_told_with_its_term(text: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        expand(text)
    assert said in str(caught.value)
