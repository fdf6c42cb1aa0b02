"""The query for rows in which a feature is bad: doc values answer it, so features need no index. Rows that
arrived badly are told by their ids."""

from kedge.store.base import Json
from kedge.store.elastic.place import Field, Place
from kedge.store.elastic.shared import marked_id, plain
from kedge.store.flaws import OF_ARRIVAL, Flaw, Problem


def flawed(place: Place, model: str, flaw: Flaw | None) -> list[Json]:
    """Clauses that all must hold of rows of that model; none where all rows are meant."""
    if flaw is None:
        return []
    faulty = [_named(model, flaw)] if flaw.problem in OF_ARRIVAL else _faulty(place, flaw)
    return [*_within(place, flaw), *faulty]


def _named(model: str, flaw: Flaw) -> Json:
    """That a row has one of the event ids; it is written under that, or marked."""
    plainly = (id for id in flaw.ids if plain(id))
    return {"ids": {"values": [*plainly, *(marked_id(id, model) for id in flaw.ids)]}}


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
        case Problem.DUPLICATE | Problem.AHEAD:
            raise AssertionError("not of a feature")


_NONE: Json = {"match_none": {}}


def _present(field: Field | None) -> list[Json]:
    return [{"exists": {"field": field.path}}] if field else []


def _any(clauses: list[Json]) -> Json:
    return {"bool": {"should": clauses, "minimum_should_match": 1}} if clauses else _NONE
