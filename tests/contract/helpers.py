"""What the tests of this package do again and again."""

from collections.abc import Iterable, Sequence

from kedge.records import Prediction
from kedge.sketch import PartName
from kedge.store.base import AppendResult, Grouping, PartRow, Store, SummaryKey, SummaryRequest, Written
from kedge.windows import HOUR, Millis, Window
from tests.support.oracle import answer_to, differences
from tests.support.rows import CATEGORICAL, EDGES, INVALID, NUMERIC, SPAN

ALL_PARTS = frozenset(PartName)


def settle(store: Store) -> None:
    """Make every write so far visible to reads, as the change feed does at the start of a tick."""
    store.changed({})


def append(store: Store, rows: Sequence[Prediction]) -> list[AppendResult]:
    """Append rows that must all be created, and make them visible."""
    results = store.append(rows)
    assert [r for r in results if r.written is not Written.CREATED] == []
    settle(store)
    return results


def asking(
    model: str,
    *,
    window: Window = SPAN,
    bucket: Millis = HOUR,
    parts: frozenset[PartName] = ALL_PARTS,
    groupings: tuple[Grouping, ...] = ((),),
    probabilities: tuple[str, ...] = (),
) -> SummaryRequest:
    return SummaryRequest(
        model=model,
        window=window,
        bucket=bucket,
        parts=parts,
        groupings=groupings,
        edges=EDGES if PartName.CELLS in parts else None,
        numeric=NUMERIC,
        categorical=CATEGORICAL,
        invalid=INVALID,
        attributions=NUMERIC,
        probabilities=probabilities,
    )


def by_key(rows: Iterable[PartRow]) -> dict[SummaryKey, PartRow]:
    """Parts by their keys, of which none may come twice."""
    rows = list(rows)
    keyed = {row.key: row for row in rows}
    assert len(keyed) == len(rows)
    return keyed


def assert_summarises(
    store: Store, request: SummaryRequest, rows: Iterable[Prediction]
) -> dict[SummaryKey, PartRow]:
    """The store's answer is the oracle's, to the last count."""
    expected = answer_to(request, rows)
    found = by_key(store.summarise(request))
    assert found.keys() == expected.keys()
    wrong = {key: lines for key, part in expected.items() if (lines := differences(part, found[key].part))}
    assert wrong == {}
    return found
