"""Parts that are not stored, counted in the logs when somebody asks: labels by the minute, and buckets that
are older than what their tier keeps."""

from collections.abc import Sequence

from kedge.config import Settings
from kedge.pipeline.baselines import baselines_in_use
from kedge.pipeline.groups import document_name, summarise_capped, values_in
from kedge.pipeline.reader import Ask
from kedge.pipeline.schema import document_name as schema_of
from kedge.pipeline.schema import features_in
from kedge.sketch import PartName
from kedge.store.base import PartRow, Store, SummaryRequest


def recount(store: Store, settings: Settings, asks: Sequence[Ask]) -> list[list[PartRow]]:
    """The parts that each asks for; nothing for cells on edges, or metrics of definitions, that are not
    in use."""
    models = sorted({ask.model for ask in asks})
    baselines = (
        baselines_in_use(store.state, models) if any(ask.part is PartName.CELLS for ask in asks) else {}
    )
    found = store.state.get_many([doc for m in models for doc in (schema_of(m), document_name(m))])
    features = {model: features_in(found.get(schema_of(model))) for model in models}
    requests: dict[int, SummaryRequest] = {}
    for i, ask in enumerate(asks):
        edges = baselines[ask.model].edges if ask.edges and ask.model in baselines else None
        if ask.part is PartName.CELLS and (edges is None or edges.hash != ask.edges):
            continue
        own = settings.of_model(ask.model).own
        if ask.part is PartName.CUSTOM and own.key != ask.edges:
            continue
        requests[i] = SummaryRequest(
            model=ask.model,
            window=ask.window,
            bucket=ask.tier,
            parts=frozenset({ask.part}),
            groupings=(ask.grouping,),
            edges=edges,
            numeric=features[ask.model].numeric,
            categorical=features[ask.model].categorical,
            invalid=features[ask.model].invalid,
            attributions=features[ask.model].attributions,
            measured=features[ask.model].measured,
            probabilities=features[ask.model].ranked,
            custom=own.definitions if ask.part is PartName.CUSTOM else (),
        )
    rows = summarise_capped(
        store,
        store.state,
        list(requests.values()),
        {model: settings.of_model(model).max_groups for model in models},
        {model: values_in(found.get(document_name(model))) for model in models},
    )
    answers = dict(zip(requests, rows, strict=True))
    return [answers.get(i, []) for i in range(len(asks))]
