"""The query for rows in which a feature is bad: doc values answer it, so features need no index."""

from kedge.store.base import Json
from kedge.store.elastic.place import Field, Place
from kedge.store.flaws import Flaw, Problem


def flawed(place: Place, flaw: Flaw | None) -> list[Json]:
    """Clauses that all must hold; none where all rows are meant."""
    return [] if flaw is None else [*_within(place, flaw), *_faulty(place, flaw)]


def _within(place: Place, flaw: Flaw) -> list[Json]:
    """That rows are of the group."""
    fields = [(place.dimension(name), value) for name, value in flaw.group]
    return [{"term": {field.path: value}} if field else _NONE for field, value in fields]


def _faulty(place: Place, flaw: Flaw) -> list[Json]:
    number, text = place.numeric(flaw.feature), place.categorical(flaw.feature)
    invalid = place.field("features.invalid")
    faulty = [{"term": {invalid.path: flaw.feature}}] if invalid else []
    match flaw.problem:
        case Problem.MISSING:
            return [{"bool": {"must_not": [*_present(number), *_present(text), *faulty]}}]
        case Problem.INVALID:
            return [_any([*_present(text if flaw.numeric else number), *faulty])]
        case Problem.UNSEEN:
            if text is None:
                return [_NONE]
            known: list[Json] = [{"terms": {text.path: flaw.known}}]
            return [*_present(text), {"bool": {"must_not": known}}]
        case Problem.OUT_OF_RANGE:
            if number is None:
                return [_NONE]
            # Queries, unlike aggregations, order -0.0 before 0.0: an edge of 0 has to keep the two together.
            low, high = (edge or -0.0 for edge in number.edges(flaw.bounds))
            return [_any([{"range": {number.path: {"lt": low}}}, {"range": {number.path: {"gte": high}}}])]
        case Problem.PRESENT:
            return [_any(_present(number if flaw.numeric else text))]
        case Problem.CELL if flaw.numeric:
            if number is None:
                return [_NONE]
            low, high = (edge or -0.0 for edge in number.edges(flaw.bounds))
            return [{"range": {number.path: {"gte": low, "lt": high}}}]
        case Problem.CELL:
            return [{"terms": {text.path: flaw.known}} if text else _NONE]


_NONE: Json = {"match_none": {}}


def _present(field: Field | None) -> list[Json]:
    return [{"exists": {"field": field.path}}] if field else []


def _any(clauses: list[Json]) -> Json:
    return {"bool": {"should": clauses, "minimum_should_match": 1}} if clauses else _NONE
