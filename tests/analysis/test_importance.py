"""Which features matter most, by what rows say of their contributions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kedge.analysis.importance import LEAST_ROWS, by_attribution
from kedge.sketch import Moments


def held(mean: float, n: int = LEAST_ROWS) -> Moments:
    return Moments.of(np.full(n, mean))


def test_the_greatest_mean_comes_first_and_ties_go_by_name() -> None:
    assert by_attribution({"c": held(0.2), "b": held(0.2), "a": held(0.1), "d": held(3)}) == (
        "d",
        "b",
        "c",
        "a",
    )


def test_what_few_rows_explain_or_contributes_nothing_has_no_place() -> None:
    assert by_attribution({"few": held(9, LEAST_ROWS - 1), "none": held(0), "some": held(0.1)}) == ("some",)


@given(st.dictionaries(st.text(max_size=5), st.floats(0.001, 1e6), max_size=8))
def test_the_order_is_that_of_the_means_however_they_come(means: dict[str, float]) -> None:
    attributions = {name: held(mean) for name, mean in means.items()}
    found = by_attribution(attributions)
    assert sorted(found) == sorted(means)
    ordered = [attributions[name].mean for name in found]
    assert ordered == sorted(ordered, reverse=True)
    assert found == by_attribution(dict(reversed(attributions.items())))
