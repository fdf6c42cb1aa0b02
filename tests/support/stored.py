"""What a store keeps of summaries, for tests that look at one model."""

from collections.abc import Iterable

from kedge.sketch import PartName
from kedge.store.base import Grouping, PartRow, SummaryQuery, SummaryStore
from kedge.windows import Millis, Window


def stored_parts(
    store: SummaryStore,
    model: str,
    tier: Millis,
    window: Window,
    parts: Iterable[PartName],
    *,
    grouping: Grouping | None = None,
    edges: str = "",
) -> list[PartRow]:
    """The parts of one model; cells on the edges, and custom ones of the definitions, with that key."""
    query = SummaryQuery(model, tier, window, frozenset(parts), grouping, edges, edges)
    return store.read_many([query])[0]
