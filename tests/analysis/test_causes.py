"""Why a value moved: contributions that add up, and noise that does not rank."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.analysis import build
from kedge.analysis.causes import (
    NO_VALUE,
    Decomposition,
    Part,
    changed_causes,
    decompose,
    feature_causes,
    group_causes,
    is_normal,
    part_of,
    quality_causes,
    ranked,
    with_rest,
)
from kedge.analysis.drift import DriftSettings, shift_of_counts
from kedge.analysis.evidence import Chances
from kedge.analysis.metric import Metric
from kedge.sketch import Moments


def rate(successes: int, trials: int) -> Part:
    part = part_of(build.rate("errors.rate", successes, trials, ""))
    assert part is not None
    return part


def decomposed(
    reference: dict[str, tuple[int, int]],
    window: dict[str, tuple[int, int]],
    by: str = "segment.region",
) -> Decomposition:
    sides = ({((by, name),): rate(*counts) for name, counts in side.items()} for side in (reference, window))
    found = decompose((by,), *sides)
    assert found is not None
    return found


counts = st.integers(1, 5_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
sides = st.dictionaries(st.sampled_from("abcdefg"), counts, min_size=1)


@given(sides, sides)
def test_mix_and_rates_add_up_to_the_change_and_the_groups_to_the_mix(
    reference: dict[str, tuple[int, int]], window: dict[str, tuple[int, int]]
) -> None:
    found = decomposed(reference, window)
    before, after = (
        sum(k for k, _ in s.values()) / sum(n for _, n in s.values()) for s in (reference, window)
    )
    assert found.change == pytest.approx(after - before, abs=1e-12)
    assert found.mix + found.rate == pytest.approx(found.change, abs=1e-12)
    assert math.fsum(c.mix for c in found.contributions) == pytest.approx(found.mix, abs=1e-12)
    assert all(0 <= c.rate_low <= abs(c.rate) for c in found.contributions)


@given(sides, counts)
def test_rows_without_a_value_are_a_group_of_their_own(
    groups: dict[str, tuple[int, int]], other: tuple[int, int]
) -> None:
    total = rate(sum(k for k, _ in groups.values()) + other[0], sum(n for _, n in groups.values()) + other[1])
    parts = with_rest({(("plan", name),): rate(*c) for name, c in groups.items()}, total)
    assert parts[NO_VALUE].n == pytest.approx(other[1])
    assert parts[NO_VALUE].value == pytest.approx(other[0] / other[1], abs=1e-9)
    assert math.fsum(p.value * p.n for p in parts.values()) / total.n == pytest.approx(total.value)


def test_one_group_that_goes_bad_is_named_with_its_share_of_the_change() -> None:
    found = decomposed(
        {"eu": (60, 6_000), "us": (40, 4_000), "apac": (20, 2_000)},
        {"eu": (60, 6_000), "us": (440, 4_000), "apac": (20, 2_000)},
    )
    (cause,) = group_causes([found], "ratio")
    assert (cause.kind, cause.what, cause.share) == ("rate", "region=us", pytest.approx(1.0))
    assert cause.text == "1 % → 11 % (100 % of the change)"
    assert cause.to_json()["name"] == "region=us"


def test_where_all_rates_rise_and_the_total_falls_the_mix_is_the_cause() -> None:
    """Simpson's paradox: every group got better, the worse group grew."""
    found = decomposed(
        {"easy": (900, 1_000), "hard": (300, 1_000)}, {"easy": (190, 200), "hard": (630, 1_800)}
    )
    assert all(c.rate > 0 for c in found.contributions)
    assert found.change < 0
    assert found.mix < found.change
    (cause,) = group_causes([found], "ratio")
    assert (cause.kind, cause.what) == ("mix", "the mix of region")
    assert cause.share is not None
    assert cause.share > 1
    assert "50 % → " in cause.text
    assert "of the rows" in cause.text


def test_the_noise_of_a_tiny_group_does_not_rank_before_a_sure_change() -> None:
    found = decomposed(
        {"big": (500, 50_000), "also": (500, 50_000), "tiny": (0, 6)},
        {"big": (900, 50_000), "also": (500, 50_000), "tiny": (6, 6)},
    )
    causes = group_causes([found], "ratio")
    assert causes[0].what == "region=big"
    noisy = decomposed({"big": (500, 50_000), "tiny": (0, 6)}, {"big": (500, 50_000), "tiny": (2, 6)})
    assert group_causes([noisy], "ratio") == []


def test_chance_alone_names_a_group_seldom() -> None:
    rng = np.random.default_rng(3)
    sizes = rng.integers(5, 2_000, 40)
    named = 0
    for _ in range(100):
        reference, window = (
            {
                str(i): (int(k), int(n))
                for i, (k, n) in enumerate(zip(rng.binomial(sizes, 0.02), sizes, strict=True))
            }
            for _ in range(2)
        )
        named += bool(group_causes([decomposed(reference, window)], "ratio"))
    assert named <= 10


def test_no_group_is_the_cause_where_all_moved_alike() -> None:
    found = decomposed({"eu": (90, 9_000), "us": (10, 1_000)}, {"eu": (450, 9_000), "us": (50, 1_000)})
    assert found.rate == pytest.approx(0.04)
    assert group_causes([found], "ratio") == []


def test_means_decompose_too_and_several_groupings_are_ranked_together() -> None:
    def slow(mean: float, n: int) -> Part:
        part = part_of(build.mean("latency.mean", Moments.of([mean + i % 11 - 5 for i in range(n)]), ""))
        assert part is not None
        return part

    free, paid, eu = (("segment.plan", "free"),), (("segment.plan", "paid"),), (("segment.region", "eu"),)
    plans = decompose(
        ("segment.plan",),
        {free: slow(100, 500), paid: slow(100, 500)},
        {free: slow(104, 500), paid: slow(146, 500)},
    )
    regions = decompose(("segment.region",), {eu: slow(100, 1_000)}, {eu: slow(125, 1_000)})
    assert plans is not None
    assert regions is not None
    assert [c.what for c in group_causes([regions, plans], "ms")] == ["plan=paid"]
    assert group_causes([plans], "ms")[0].text == "100 ms → 146 ms (92 % of the change)"


@pytest.mark.parametrize(("bad", "named"), [((200, 0), "plan=free, region=eu"), ((200, 190), "region=eu")])
def test_of_a_group_and_a_finer_one_the_sharper_is_told(bad: tuple[int, int], named: str) -> None:
    """All of the errors in half of a region are that half's; in both halves, the region's."""
    places = [
        (("segment.plan", plan), ("segment.region", region))
        for region in ("eu", "us")
        for plan in ("free", "paid")
    ]
    fine = (
        dict.fromkeys(places, (10, 1_000)),
        dict(zip(places, [(n + 10, 1_000) for n in (*bad, 0, 0)], strict=True)),
    )
    by_plan_and_region = decompose(
        ("segment.plan", "segment.region"), *({g: rate(*c) for g, c in side.items()} for side in fine)
    )
    by_region = decomposed(
        {"eu": (20, 2_000), "us": (20, 2_000)}, {"eu": (sum(bad) + 20, 2_000), "us": (20, 2_000)}
    )
    assert by_plan_and_region is not None
    assert [c.what for c in group_causes([by_region, by_plan_and_region], "ratio")] == [named]


def test_a_group_that_is_new_is_mix_and_never_a_changed_rate() -> None:
    found = decomposed({"v6": (100, 10_000)}, {"v6": (50, 5_000), "v7": (500, 5_000)}, "version")
    (cause,) = group_causes([found], "ratio")
    assert (cause.kind, cause.text.startswith("(v7 0 % → 50 % of the rows")) == ("mix", True)
    assert decompose(("version",), {}, {(("version", "v7"),): rate(1, 2)}) is None


def quality(name: str, feature: str, bad: int, of: int) -> Metric:
    return build.rate(f"quality.{name}", bad, of, "", labels={"feature": feature})


def test_bad_data_are_told_once_and_before_moved_inputs() -> None:
    pairs = [
        (quality("unseen", "merchant", 0, 9_000), quality("unseen", "merchant", 90, 1_000)),
        (quality("missing", "age", 90, 9_000), quality("missing", "age", 12, 1_000)),
    ]
    bad = quality_causes(pairs)
    assert [(c.what, c.text) for c in bad] == [("merchant", "9 % never seen (usual 0 %)")]
    drifts = [
        shift_of_counts(name, {"a": 900, "b": 100}, {"a": 100, "b": 900}, DriftSettings())
        for name in ("merchant", "hour")
    ]
    assert [c.what for c in ranked([], bad, feature_causes(drifts))] == ["merchant", "hour"]
    assert feature_causes(drifts)[0].to_json()["effect"] == drifts[0].effect


def test_values_of_the_wrong_type_are_told_in_words() -> None:
    pair = (quality("invalid", "age", 0, 9_000), quality("invalid", "age", 40, 1_000))
    assert [c.text for c in quality_causes([pair])] == ["4 % of the wrong type (usual 0 %)"]


def test_a_feature_that_froze_or_is_new_is_told_with_what_it_is() -> None:
    labels = {"feature": "age"}
    frozen = build.present(
        "quality.constant", 1.0, 50, Chances(1.0, (1e-9,)), labels=labels, detail={"told": "every value is 7"}
    )
    varied = build.present("quality.constant", 0.0, 50, Chances(0.0), labels={"feature": "shop"})
    new = build.present("quality.appeared", 1, 3, Chances(1.0, (1e-9,)), detail={"features": ["height"]})
    assert [(c.what, c.text) for c in changed_causes([frozen, varied, new])] == [
        ("age", "every value is 7 (n=50)"),
        ("height", "new: the reference has no such feature"),
    ]


def test_normal_is_what_shows_no_credible_change_on_enough_rows() -> None:
    def errors(k: int, n: int) -> Metric:
        return build.rate("errors.rate", k, n, "")

    assert is_normal(errors(100, 10_000), errors(12, 1_000))
    assert is_normal(errors(50_000, 100_000), errors(52_000, 100_000))  # credible, and small
    assert not is_normal(errors(100, 10_000), errors(60, 1_000))
    assert not is_normal(errors(100, 10_000), errors(0, 5))
