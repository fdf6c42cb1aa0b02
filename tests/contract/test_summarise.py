"""What a store counts is what plain Python counts, on every value, bucket and group."""

from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest

from kedge.errors import TooManyGroups
from kedge.records import Label, Prediction
from kedge.sketch import VALUE, CategoricalEdges, Cells, Core, Labels, NumericEdges, PartName
from kedge.store.base import MOST_GROUPS, OTHER, Grouping, Store, SummaryRequest
from kedge.windows import DAY, HOUR, MINUTE, Millis, Window
from tests.contract.helpers import ALL_PARTS, append, asking, assert_summarises, by_key
from tests.support.oracle import answer_to, differences, errors_by_value, same_moments
from tests.support.rows import EDGES, SPAN, START, Kind, random_rows

CASES: dict[str, tuple[Kind, int]] = {
    "two classes": ("classification", 2),
    "four classes": ("classification", 4),
    "regression": ("regression", 1),
}


@pytest.fixture(scope="module")
def stored(store: Store) -> dict[str, list[Prediction]]:
    """Rows of a model a case, and one row of another model with the same times and features."""
    rows = {
        name: random_rows(31, 400, model=name, kind=kind, classes=classes)
        for name, (kind, classes) in CASES.items()
    }
    append(store, [row for each in rows.values() for row in each])
    return rows


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("bucket", "window"),
    [
        (HOUR, SPAN),
        (DAY, Window(START // DAY * DAY, START // DAY * DAY + 2 * DAY)),
        (MINUTE, Window(START + 2 * HOUR + 30 * MINUTE, START + 3 * HOUR + 20 * MINUTE)),
        (HOUR, Window(START - 5 * HOUR, START + HOUR)),
    ],
    ids=["hours", "days", "minutes over midnight", "mostly empty"],
)
def test_all_parts_of_all_buckets(
    store: Store, stored: dict[str, list[Prediction]], case: str, bucket: Millis, window: Window
) -> None:
    request = asking(case, bucket=bucket, window=window, groupings=((), ("version",)))
    assert assert_summarises(store, request, stored[case])


@pytest.mark.parametrize(
    "groupings",
    [
        (("segment.region",),),
        ((), ("segment.plan.tier", "segment.region"), ("host",)),
        (("segment.region", "version"), ("service",)),
        (("segment.never",),),
    ],
    ids=lambda groupings: " ".join("+".join(g) or "total" for g in groupings),
)
def test_groups(store: Store, stored: dict[str, list[Prediction]], groupings: tuple[Grouping, ...]) -> None:
    assert_summarises(store, asking("four classes", groupings=groupings), stored["four classes"])


@pytest.mark.parametrize(
    "known",
    [
        {"segment.region": ["eu"]},
        {"segment.region": ["eu", "Ωκεανία", "nowhere", OTHER], "version": ["v1", "v2"]},
        {"segment.region": [], "version": [""]},
        {"version": ["v9"], "host": ["a"]},
    ],
    ids=["one dimension", "all that occur", "none", "none of them occurs"],
)
def test_values_beyond_a_full_list_share_a_group_and_no_row_is_lost(
    store: Store, stored: dict[str, list[Prediction]], known: dict[str, list[str]]
) -> None:
    groupings: tuple[Grouping, ...] = (
        (),
        ("segment.region",),
        ("segment.region", "version"),
        ("host", "segment.region", "version"),
    )
    request = replace(
        asking("two classes", groupings=groupings), known={name: frozenset(v) for name, v in known.items()}
    )
    found = assert_summarises(store, request, stored["two classes"])
    for dimension in ("segment.region", "version"):
        counted = sum(
            row.part.rows
            for row in store.summarise(replace(request, groupings=((dimension,),)))
            if isinstance(row.part, Core)
        )
        assert counted == sum(row.dimension(dimension) is not None for row in stored["two classes"])
    values = {value for key in found for name, value in key.group if name in known}
    assert values <= {OTHER}.union(*known.values())
    assert OTHER in values


def test_a_row_that_calls_itself_other_is_counted_among_the_others_once(store: Store, model: str) -> None:
    rows = [
        Prediction(id=f"{model} {i}", timestamp=START, ingested=START, model=model, segment={"g": value})
        for i, value in enumerate([OTHER, OTHER, "a", "b", "c"])
    ]
    append(store, rows)
    for known in ({"a", "b"}, {"a", "b", OTHER}, {OTHER}, set()):
        request = replace(asking(model, groupings=(("segment.g",),)), known={"segment.g": frozenset(known)})
        assert_summarises(store, request, rows)


def test_more_values_than_can_be_listed_are_told_and_counted_once_a_list_is_given(
    store: Store, model: str
) -> None:
    rows = [
        Prediction(id=f"{model} {i}", timestamp=START, ingested=START, model=model, segment={"g": f"g{i}"})
        for i in range(MOST_GROUPS + 1)
    ]
    rows += [
        Prediction(id=f"{model} again {i}", timestamp=START, ingested=START, model=model, segment={"g": g})
        for i, g in enumerate(["g1000", "g1000", "g7"])
    ]
    append(store, rows)
    groupings: tuple[Grouping, ...] = ((), ("segment.g", "version"), ("segment.g",))
    asked = asking(model, parts=frozenset({PartName.CORE}), groupings=groupings)
    with pytest.raises(TooManyGroups, match=rf"more than {MOST_GROUPS} values of segment\.g") as caught:
        store.summarise_many([asked])
    assert caught.value.dimension == "segment.g"
    assert caught.value.values[:2] == ("g1000", "g7")
    known = {"segment.g": frozenset(caught.value.values[:3])}
    found = assert_summarises(store, replace(asked, known=known), rows)
    [others] = [row.part for key, row in found.items() if key.group == (("segment.g", OTHER),)]
    assert isinstance(others, Core)
    assert others.rows == len(rows) - 3 - 2 - 1


def test_many_requests_are_answered_each_as_if_alone(
    store: Store, stored: dict[str, list[Prediction]]
) -> None:
    requests = [
        asking("two classes"),
        asking("regression", bucket=DAY, window=Window(START // DAY * DAY, START // DAY * DAY + 2 * DAY)),
        asking("no such model"),
        asking("two classes", window=Window(START, START + HOUR), bucket=MINUTE, groupings=((), ("host",))),
        asking("four classes", parts=frozenset({PartName.LABELS})),
        asking("four classes", parts=frozenset({PartName.CELLS}), groupings=(("version",),)),
        asking("two classes"),
        asking("regression", groupings=()),
    ]
    answers = store.summarise_many(requests)
    assert len(answers) == len(requests)
    for request, answer in zip(requests, answers, strict=True):
        expected = answer_to(request, stored.get(request.model, []))
        found = by_key(answer)
        assert found.keys() == expected.keys()
        assert [line for key, part in expected.items() for line in differences(part, found[key].part)] == []
    assert store.summarise_many([]) == []


@pytest.mark.parametrize("part", [part for part in PartName if part is not PartName.CUSTOM])
def test_a_part_alone_is_the_same_as_with_the_others(
    store: Store, stored: dict[str, list[Prediction]], part: PartName
) -> None:
    request = asking("two classes", parts=frozenset({part}), groupings=((), ("segment.region",)))
    found = assert_summarises(store, request, stored["two classes"])
    assert {key.part for key in found} == {part}


def test_cells_without_edges_are_not_computed(store: Store, stored: dict[str, list[Prediction]]) -> None:
    request = SummaryRequest("two classes", SPAN, HOUR, ALL_PARTS)
    found = assert_summarises(store, request, stored["two classes"])
    assert {key.part for key in found} == {PartName.CORE, PartName.LABELS}


def test_every_cell_has_its_own_rows(store: Store, stored: dict[str, list[Prediction]]) -> None:
    """The random rows must reach the cells that this suite is about; else equal zeros would prove nothing."""
    found = assert_summarises(
        store, asking("two classes", bucket=DAY, window=Window(0, 30_000 * DAY)), stored["two classes"]
    )
    total = Cells.zero(EDGES)
    for row in found.values():
        if isinstance(row.part, Cells):
            total += row.part
    empty = {
        name: [c for c, n in zip(frozen.names, total.features[name][1].tolist(), strict=True) if not n]
        for name, frozen in EDGES.features.items()
        if name not in ("never", "nowhere")
    }
    assert {name: cells for name, cells in empty.items() if cells} == {}


def test_edges_cut_a_reference_into_equal_shares(store: Store) -> None:
    name = "edges of rows"
    rows = [
        Prediction(
            id=f"edges-{i:05d}",
            timestamp=START + i * 1000,
            ingested=START,
            model=name,
            num={"spread": (i * 7919 % 2000) / 7, "constant": 4.25, "steps": float(i % 3)}
            | ({"half": float(i)} if i % 2 else {}),
            cat={"common": "abc"[i % 3] if i % 10 else "d", "big.one": str(i % 70)},
        )
        for i in range(2000)
    ]
    append(store, rows)
    window = Window(START, START + HOUR)
    edges = store.edges(
        name, window, ["spread", "constant", "steps", "half", "never"], ["common", "big.one", "nowhere"]
    )
    assert sorted(edges.features) == ["big.one", "common", "constant", "half", "spread", "steps"]

    common, big = edges.features["common"], edges.features["big.one"]
    assert common == CategoricalEdges(("a", "b", "c", "d"))
    assert isinstance(big, CategoricalEdges)
    assert (len(big.values), len(big.others)) == (50, 20)

    steps, constant = edges.features["steps"], edges.features["constant"]
    assert isinstance(steps, NumericEdges)
    assert isinstance(constant, NumericEdges)
    assert constant.edges[0] == 4.25
    assert len(constant.edges) == 2

    request = SummaryRequest(
        name, Window(START, START + HOUR), HOUR, frozenset({PartName.CELLS}), edges=edges
    )
    [found] = assert_summarises(store, request, rows).values()
    for feature, share in (("spread", 100), ("half", 50)):
        counts = found.part.features[feature][1]
        assert counts[0] == 0, "nothing lies below the minimum"
        assert counts[-2] == 0, "the maximum has a cell"
        assert all(abs(n - share) <= max(2, share * 0.05) for n in counts[1:-2].tolist())
    assert found.part.features["half"][1][-1] == 1000
    assert found.part.features["constant"][1].tolist() == [0, 2000, 0, 0]


def test_edges_of_a_regression_cut_what_it_predicts_and_are_counted_with_the_features(
    store: Store, stored: dict[str, list[Prediction]]
) -> None:
    window = Window(START // DAY * DAY, START // DAY * DAY + 2 * DAY)
    edges = store.edges("regression", window, ["age"], [])
    assert sorted(edges.features) == ["age"]
    assert edges.value is not None
    values = [row.value for row in stored["regression"] if row.value is not None]
    assert (edges.value.edges[0], edges.value.edges[-1]) == (
        min(values),
        float(np.nextafter(1e6, 2e6, dtype=np.float32)),
    )
    request = SummaryRequest("regression", window, DAY, frozenset({PartName.CELLS}), edges=edges)
    found = assert_summarises(store, request, stored["regression"])
    counts = sum(row.part.features[VALUE][1] for row in found.values())
    assert counts[-1] == len(stored["regression"]) - len(values)
    assert store.edges("two classes", window, ["age"], []).value is None


def test_edges_and_errors_of_one_version_are_those_of_its_rows_alone(store: Store) -> None:
    name = "versions apart"
    rows = [
        Prediction(
            id=f"apart-{i:04d}",
            timestamp=START + i * 1000,
            ingested=START,
            model=name,
            version="new" if i % 4 == 0 else "old",
            value=float(i % 4 * 100 + i % 7),
            num={"amount": float(1000 + i if i % 4 == 0 else i)},
            cat={"kind": "n" if i % 4 == 0 else "o"},
            label=Label(id=f"apart-{i:04d}", timestamp=START + HOUR, ingested=START, value=float(i % 4)),
        )
        for i in range(400)
    ]
    append(store, rows)
    window = Window(START, START + HOUR)
    whole = store.edges(name, window, ["amount"], ["kind"])
    new = store.edges(name, window, ["amount"], ["kind"], "new")
    assert whole.numeric["amount"].edges[0] == 1.0
    assert (new.numeric["amount"].edges[0], new.categorical["kind"].values) == (1000.0, ("n",))
    assert store.edges(name, window, ["amount"], ["kind"], "never").features == {}
    assert whole.value is not None
    for version, errors in (("new", 100), ("old", 300), ("never", 0), (None, 400)):
        assert sum(m.n for m in store.errors_by_value(name, window, whole.value, version)) == errors


def test_errors_are_told_by_the_cell_of_the_predicted_value(
    store: Store, stored: dict[str, list[Prediction]]
) -> None:
    assert EDGES.value is not None
    for case, window in (
        ("regression", SPAN),
        ("regression", Window(START, START + HOUR)),
        ("two classes", SPAN),
    ):
        rows = [row for row in stored[case] if row.timestamp in window]
        expected = errors_by_value(rows, EDGES.value)
        found = store.errors_by_value(case, window, EDGES.value)
        assert all(same_moments(a, b) for a, b in zip(expected, found, strict=True)), (case, window)
        assert (sum(m.n for m in found) > 10) is (case == "regression")
    assert not any(m.n for m in store.errors_by_value("no such model", SPAN, EDGES.value))


def test_attributions_of_any_sign_are_summed_by_their_size(store: Store, model: str) -> None:
    values = [-3.5, 3.5, 0.0, -0.0, 1e-45, -1e-45, -1e30, 2.25, None]
    rows = [
        Prediction(
            id=f"{model} {i}",
            timestamp=START + i,
            ingested=START,
            model=model,
            num={"x": 1.0},
            attributions={name: v for name, v in zip(("x", "card.age"), pair, strict=True) if v is not None},
        )
        for i, pair in enumerate(zip(values, reversed(values), strict=True))
    ]
    rows.append(Prediction(id=f"{model} last", timestamp=START, ingested=START, model=model))
    append(store, rows)
    request = replace(asking(model), attributions=("x", "card.age", "never explained"))
    (found,) = [
        row.part for row in assert_summarises(store, request, rows).values() if row.key.part == "core"
    ]
    assert isinstance(found, Core)
    assert set(found.attributions) == {"x", "card.age"}
    assert (found.attributions["x"].low, found.attributions["x"].n) == (0.0, 8)


def test_a_model_without_attributions_has_a_part_without_them(store: Store, model: str) -> None:
    rows = [Prediction(id=f"{model} 1", timestamp=START, ingested=START, model=model, num={"x": 1.0})]
    append(store, rows)
    plain = replace(asking(model), attributions=())
    found = assert_summarises(store, plain, rows)
    assert [row.part.attributions for row in found.values() if isinstance(row.part, Core)] == [{}]


@pytest.mark.parametrize("parts", [ALL_PARTS, frozenset({PartName.LABELS})], ids=["all parts", "labels"])
def test_labelled_rows_are_ranked_by_the_probability_of_every_class(
    store: Store, stored: dict[str, list[Prediction]], parts: frozenset[PartName]
) -> None:
    names = ("no", "yes", "peut-être", "是", "never")
    groupings: tuple[Grouping, ...] = ((), ("segment.region",), ("host", "version"))
    request = asking("four classes", parts=parts, groupings=groupings, probabilities=names)
    found = assert_summarises(store, request, stored["four classes"])
    ranks = {side for row in found.values() if isinstance(row.part, Labels) for side in row.part.ranks}
    assert ranks == {(name, own) for name in names[:-1] for own in (True, False)}
    plain = assert_summarises(store, asking("four classes", parts=parts), stored["four classes"])
    assert not any(row.part.ranks for row in plain.values() if isinstance(row.part, Labels))


def test_a_probability_is_in_the_cell_of_its_float32_and_a_row_without_one_in_none(
    store: Store, model: str
) -> None:
    """0.35 and its like are in one cell as doubles and in another as floats; class names may have dots."""
    names = ("a.b", "a", "c")
    rows = [
        Prediction(
            id=f"{model} {i}",
            timestamp=START + i,
            ingested=START,
            model=model,
            cls="a.b",
            probability=i / 1_000,
            probabilities={"a.b": i / 1_000, "a": 1 - i / 1_000} | ({"c": 0.0} if i % 3 else {}),
            label=Label(id=f"{model} {i}", timestamp=START, ingested=START, cls=truth, value=1.0),
        )
        for i, truth in zip(range(0, 1_001, 5), cycle((*names, "d", None)), strict=False)
    ]
    append(store, rows)
    found = assert_summarises(store, asking(model, probabilities=names), rows)
    ranks = [row.part.ranks for row in found.values() if isinstance(row.part, Labels)]
    assert ranks
    assert {side for each in ranks for side in each} >= {("a.b", True), ("a.b", False), ("c", False)}
