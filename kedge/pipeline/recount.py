"""Parts that are not stored, counted in the logs when somebody asks: labels by the minute, and buckets that
are older than what their tier keeps."""

from kedge.config import Settings
from kedge.pipeline.baselines import baseline_in_use
from kedge.pipeline.groups import document_name, summarise_capped, values_in
from kedge.pipeline.schema import features_of
from kedge.sketch import PartName
from kedge.store.base import Grouping, PartRow, Store, SummaryRequest
from kedge.windows import Millis, Window


def recount(
    store: Store,
    settings: Settings,
    model: str,
    tier: Millis,
    window: Window,
    part: PartName,
    edges: str,
    grouping: Grouping,
) -> list[PartRow]:
    """One part of the buckets of a window; nothing where cells are asked for on edges that are not in use."""
    baseline = baseline_in_use(store.state, model) if part is PartName.CELLS else None
    if part is PartName.CELLS and (baseline is None or baseline.edges.hash != edges):
        return []
    features = features_of(store.state, model)
    request = SummaryRequest(
        model=model,
        window=window,
        bucket=tier,
        parts=frozenset({part}),
        groupings=(grouping,),
        edges=baseline.edges if baseline else None,
        numeric=features.numeric,
        categorical=features.categorical,
        invalid=features.invalid,
    )
    caps = {model: settings.of_model(model).max_groups}
    known = {model: values_in(store.state.get(document_name(model)))} if grouping else {}
    (rows,) = summarise_capped(store, store.state, [request], caps, known)
    return rows
