"""The features of a model, as the gateway recorded them."""

from dataclasses import dataclass

from kedge.sketch import ranked
from kedge.store.base import DocumentStore, Stored, schema_document

MEASURED = ("business", "resource")
"""Kinds of measurements that come with rows."""


@dataclass(frozen=True)
class Features:
    """The feature names that a model has ever logged, by the kind of value they came with."""

    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    attributions: tuple[str, ...] = ()
    """Those that rows carry attributions of."""
    measured: tuple[str, ...] = ()
    """Measurements of rows: `business.cost`, `resource.cpu_ms`."""
    probabilities: tuple[str, ...] = ()
    """Classes that rows carry a probability of."""

    @property
    def ranked(self) -> tuple[str, ...]:
        """Those by which labelled rows are ranked."""
        return ranked(self.probabilities)


def document_name(model: str) -> str:
    """Of the state document that holds them."""
    return schema_document(model)


def features_of(state: DocumentStore, model: str) -> Features:
    """What `ingest/schema.py` recorded: written before the first row with a new name, so never behind the
    rows."""
    return features_in(state.get(document_name(model)))


def features_in(stored: Stored | None) -> Features:
    """The same of its document."""
    if stored is None:
        return Features()
    value = stored.value
    kinds = ("numeric", "categorical", "invalid", "attributions", "probabilities")
    measured = tuple(f"{family}.{name}" for family in MEASURED for name in value.get(family, ()))
    return Features(**{kind: tuple(value.get(kind, ())) for kind in kinds}, measured=measured)
