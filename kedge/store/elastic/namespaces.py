"""Which indices a model's rows are in: namespaces, each a universe of field names with a limit.

An index may have 5,000 fields, and all models of a namespace share the index of a day. New models go to the
first namespace that has room for them under `ROOM`, so that those in it can grow up to `MOST`. A model that
outgrows its namespace moves to another at the start of a day to come: a row's index follows from its event
time and this dated list alone, so a row that is sent again lands where it was.

Kept in `kedge-state` by compare-and-set: `fields:<namespace>` lists the fields, `namespace:<model>` the
namespaces of a model with the time from which each holds.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from kedge.errors import StoreUnavailable
from kedge.records import OpenField
from kedge.store.base import DocumentStore, Json, Stored
from kedge.store.elastic.names import DEFAULT_NAMESPACE, escape
from kedge.windows import DAY, HOUR, MINUTE, Millis, floor

ROOM = 4_000
"""Users' fields up to which a namespace takes new models."""
MOST = 4_900
"""Users' fields up to which its models may grow: the limit of an index less kedge's own fields."""
REREAD = 5 * MINUTE
"""How long a process may be unaware of a move that another one decided."""
NOTICE = 2 * HOUR
"""A move is decided at least this long ahead: longer than REREAD and the hour by which event times may be
ahead of the clock, so that every writer knows of it before the first row that it applies to."""
_ATTEMPTS = 50
_AT_ONCE = 8


class Stay(NamedTuple):
    """A model is in `namespace` from event time `since` on."""

    since: Millis
    namespace: str


Stays = tuple[Stay, ...]
"""By time; the first holds for all times before, too."""


def namespace_at(stays: Stays, t: Millis) -> str:
    for stay in reversed(stays):
        if stay.since <= t:
            return stay.namespace
    return stays[0].namespace


def nth_namespace(n: int) -> str:
    """`default`, `default2`, `default3` …"""
    return DEFAULT_NAMESPACE if n == 0 else f"{DEFAULT_NAMESPACE}{n + 1}"


class Namespaces:
    """The namespaces of all models, cached. Safe for threads, and for any number of writers."""

    def __init__(self, state: DocumentStore, clock: Callable[[], Millis]) -> None:
        self._state = state
        self._clock = clock
        self._stays: dict[str, Stays] = {}
        self._read_at: Millis = 0
        self._lock = threading.Lock()

    def of(self, models: Collection[str]) -> Mapping[str, Stays]:
        """The stays of these models, among others. A model without one is given room in the first
        namespace that has any, its fields unknown.

        Costs no request while all are known and were read lately.
        """
        now = self._clock()
        if abs(now - self._read_at) > REREAD:
            self._stays, self._read_at = {}, now
        known = self._stays
        missing = [model for model in models if model not in known]
        if missing:
            with self._lock:
                found = self._read(missing)
                homeless = {model: () for model in missing if model not in found}
                self._keep(found)
                if homeless:
                    self._place(homeless)
            known = self._stays
        return known

    def reserve(self, fields: Mapping[str, Collection[OpenField]]) -> None:
        """Give each model room for all of its fields: in its namespace, else in one that it will move to."""
        with self._lock:
            self._place({model: map(stored_name, names) for model, names in fields.items()})

    def crowded(self, fields: Mapping[str, Collection[OpenField]]) -> None:
        """A server refused new fields of these models: they move on, whatever was counted."""
        with self._lock:
            for model, stays in self._read(fields).items():
                self._move(model, stays, frozenset(map(stored_name, fields[model])))

    def fields(self, namespace: str) -> frozenset[str]:
        """The stored names of the users' fields that are reserved there."""
        stored = self._state.get(_fields_document(namespace))
        return frozenset(stored.value["fields"]) if stored else frozenset()

    # --- documents --------------------------------------------------------------------------------

    def _read(self, models: Collection[str]) -> dict[str, Stays]:
        found = self._state.get_many([_model_document(model) for model in models])
        return {
            model: tuple(Stay(*stay) for stay in found[name].value["stays"])
            for model in models
            if (name := _model_document(model)) in found
        }

    def _keep(self, stays: Mapping[str, Stays]) -> None:
        self._stays = {**self._stays, **stays}

    def _place(self, fields: Mapping[str, Iterable[str]]) -> None:
        """Reserve the fields of models, and a namespace for those that have none."""
        wanted = {model: frozenset(names) for model, names in fields.items()}
        for _ in range(_ATTEMPTS):
            held = self._read(wanted)
            self._grow({model: (held[model], wanted[model]) for model in held})
            new = {model: names for model, names in wanted.items() if model not in held}
            if not new:
                self._keep(self._read(wanted))
                return
            # Whoever is first decides where a model is; the next round reads it, here and elsewhere.
            homes = self._admit(new)
            documents = [
                (_model_document(model), _document((Stay(0, home),)), None) for model, home in homes.items()
            ]
            if all(self._state.swap_many(documents)):
                self._keep({model: (Stay(0, home),) for model, home in homes.items()} | held)
                return
        raise StoreUnavailable("the namespaces of models are being changed by many at once")

    def _admit(self, models: Mapping[str, frozenset[str]], *, but: str = "") -> dict[str, str]:
        """A namespace for each, with its fields reserved there: the first that has room, `but` one."""
        homes: dict[str, str] = {}
        waiting = dict(models)
        n = 0
        held: dict[str, Stored] = {}
        for _ in range(_ATTEMPTS * max(1, len(models))):
            if not waiting:
                return homes
            if n % _AT_ONCE == 0:
                held = self._state.get_many([_fields_document(nth_namespace(n + i)) for i in range(_AT_ONCE)])
            name = nth_namespace(n)
            document = _fields_document(name)
            stored = held.get(document)
            taken = set(stored.value["fields"]) if stored else set()
            before = len(taken)
            here = []
            for model, names in sorted(waiting.items()):
                # A model that is larger than the room of any has a namespace of its own.
                if name != but and (len(taken | names) <= ROOM or not taken):
                    taken |= names
                    here.append(model)
            changed = here and (len(taken) > before or stored is None)
            if changed and not self._state.swap(
                document, {"fields": sorted(taken)}, stored.token if stored else None
            ):
                n -= n % _AT_ONCE  # somebody was faster: look again
                continue
            for model in here:
                homes[model] = name
                del waiting[model]
            n += 1
        raise StoreUnavailable("the fields of the namespaces are being changed by many at once")

    def _grow(self, models: Mapping[str, tuple[Stays, frozenset[str]]]) -> None:
        """Reserve more fields for models where they are (or will be); who finds no room there moves."""
        by_home: dict[str, dict[str, frozenset[str]]] = {}
        for model, (stays, names) in models.items():
            by_home.setdefault(stays[-1].namespace, {})[model] = names
        for home, members in by_home.items():
            for model in self._extend(home, members):
                stays, names = models[model]
                self._move(model, stays, names)

    def _extend(self, home: str, members: Mapping[str, frozenset[str]]) -> list[str]:
        """Add the fields of members of a namespace; returns those that there is no room for."""
        for _ in range(_ATTEMPTS):
            stored = self._state.get(_fields_document(home))
            taken = set(stored.value["fields"]) if stored else set()
            before = len(taken)
            left = []
            for model, names in sorted(members.items()):
                if len(taken | names) <= MOST:
                    taken |= names
                else:
                    left.append(model)
            value = {"fields": sorted(taken)}
            token = stored.token if stored else None
            if len(taken) == before or self._state.swap(_fields_document(home), value, token):
                return left
        raise StoreUnavailable(f"the fields of namespace {home} are being changed by many at once")

    def _move(self, model: str, stays: Stays, names: frozenset[str]) -> None:
        """Another namespace from the start of a day to come on; one move at a time."""
        now = self._clock()
        if stays[-1].since > now:
            return
        stored = self._state.get(_model_document(model))
        if stored is None or _document(stays) != stored.value:
            return  # somebody else moved it
        [home] = self._admit({model: names}, but=stays[-1].namespace).values()
        moved = (*stays, Stay(floor(now + NOTICE, DAY) + DAY, home))
        self._state.swap(_model_document(model), _document(moved), stored.token)


def stored_name(field: OpenField) -> str:
    """The full path of a field in the index: `features.num.card%2Eage`."""
    path, name = field
    return f"{path}.{escape(name)}"


def _model_document(model: str) -> str:
    return f"namespace:{model}"


def _fields_document(namespace: str) -> str:
    return f"fields:{namespace}"


def _document(stays: Stays) -> Json:
    return {"stays": [list(stay) for stay in stays]}
