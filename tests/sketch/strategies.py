"""Random rows, as hypothesis draws them: sparse, with odd names, missing values and ties."""

from hypothesis import strategies as st

from kedge.records import Label, Prediction
from kedge.sketch import CategoricalEdges, EdgeSet, NumericEdges

EDGES = EdgeSet(
    {
        "age": NumericEdges((0.0, 1.0, 2.5, 100.0)),
        'ünïcode.name "x"': CategoricalEdges(("a", "b"), ("rare",)),
        "": NumericEdges((-1.0, 1.0)),
    }
)

_numbers = st.one_of(
    st.floats(-1e6, 1e6, width=32), st.sampled_from([0.0, -0.0, 1.0, 2.5, 100.0, 3.4e38, -3.4e38])
)
_unit = st.floats(0, 1)
_classes = st.one_of(st.none(), st.sampled_from(["fraud", "ok", "1", "", "ein Wort"]))


@st.composite
def labels(draw: st.DrawFn, row: str, timestamp: int) -> Label:
    return Label(
        id=row,
        timestamp=timestamp + draw(st.integers(-5_000, 10_000_000)),
        ingested=0,
        cls=draw(_classes),
        value=draw(st.one_of(st.none(), _numbers)),
    )


@st.composite
def predictions(draw: st.DrawFn) -> Prediction:
    timestamp = draw(st.integers(0, 10_000_000))
    row = str(draw(st.integers(0, 10**9)))
    likely = draw(st.one_of(st.none(), _unit))
    return Prediction(
        id=row,
        timestamp=timestamp,
        ingested=timestamp,
        model="m",
        cls=draw(_classes),
        probability=likely,
        probabilities={} if likely is None else {"fraud": likely, "ok": 1 - likely},
        entropy=draw(st.one_of(st.none(), st.floats(0, 3))),
        value=draw(st.one_of(st.none(), _numbers)),
        num=draw(st.dictionaries(st.sampled_from(["age", "", "both"]), _numbers, max_size=3)),
        cat=draw(
            st.dictionaries(
                st.sampled_from(['ünïcode.name "x"', "both"]), st.sampled_from(["a", "b", "rare", "new"])
            )
        ),
        attributions=draw(st.dictionaries(st.sampled_from(["age", ""]), _numbers, max_size=2)),
        invalid=draw(st.sampled_from([(), ("age",), ("both", "age")])),
        latency_ms=draw(st.one_of(st.none(), st.floats(0, 1e6))),
        error_type=draw(st.sampled_from([None, "Timeout"])),
        label=draw(st.one_of(st.none(), labels(row, timestamp))),
    )


rows = st.lists(predictions(), max_size=5)
