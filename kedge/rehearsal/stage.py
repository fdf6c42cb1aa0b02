"""A store to rehearse on: what is written stays in memory, what is read may be another store's."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from kedge.errors import KedgeError
from kedge.sketch import PartName
from kedge.store.base import (
    DocumentStore,
    Json,
    LogStore,
    PartRow,
    Stored,
    SummaryQuery,
    SummaryRequest,
    SummaryStore,
)
from kedge.store.tally import Standing, tally
from kedge.windows import Millis

KNOWN_OF_MODELS = ("model:", "schema:", "groups:", "baseline:", "baseline-use:", "retention")
"""What of `kedge-state` a rehearsal goes by: what models are, and no run of theirs."""


_LIVE = ("firing", "acknowledged", "no_data")


class Documents:
    """A DocumentStore, and an AlertStore, in memory; over another one, which is only read, where that is
    given: of that, documents whose names begin with one of `seen`."""

    def __init__(self, beneath: DocumentStore | None = None, seen: tuple[str, ...] = ()) -> None:
        self._beneath, self._seen = beneath, seen
        self._own: dict[str, Stored | None] = {}
        """None: deleted here, whatever lies beneath."""
        self._token = 0

    def get(self, name: str) -> Stored | None:
        if name in self._own:
            return self._own[name]
        return self._beneath.get(name) if self._beneath is not None and name.startswith(self._seen) else None

    def get_many(self, names: Collection[str]) -> dict[str, Stored]:
        found = {name: stored for name in names if (stored := self._own.get(name)) is not None}
        if self._beneath is not None:
            unknown = [name for name in names if name not in self._own and name.startswith(self._seen)]
            found |= self._beneath.get_many(unknown)
        return found

    def find(self, prefix: str = "") -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        if self._beneath is not None and prefix.startswith(self._seen):
            found = dict(self._beneath.find(prefix))
        for name, stored in self._own.items():
            if name.startswith(prefix):
                found.pop(name, None)
                if stored is not None:
                    found[name] = stored
        return dict(sorted(found.items()))

    def swap(self, name: str, value: Json, token: Any | None) -> bool:
        known = self.get(name)
        if (known.token if known else None) != token:
            return False
        self._token += 1
        self._own[name] = Stored(value, ("rehearsal", self._token))
        return True

    def swap_many(self, changes: Sequence[tuple[str, Json, Any | None]]) -> list[bool]:
        return [self.swap(*change) for change in changes]

    def delete(self, name: str, token: Any) -> bool:
        known = self.get(name)
        if known is None or known.token != token:
            return False
        self._own[name] = None
        return True

    def of_rules(self, rules: Collection[str]) -> dict[str, Stored]:
        return {name: stored for name, stored in self.find().items() if stored.value["rule"] in rules}

    def live(self) -> dict[str, Stored]:
        """Those that people were told of."""
        return {name: stored for name, stored in self.find().items() if stored.value["status"] in _LIVE}

    def outgoing(self) -> dict[str, Stored]:
        return {name: stored for name, stored in self.find().items() if stored.value.get("outgoing")}

    def tally(self) -> dict[tuple[str, str], int]:
        return tally(msgspec.convert(stored.value, Standing) for stored in self.find().values())


class MadeSummaries:
    """A SummaryStore of parts that were made up, by tier and bucket."""

    def __init__(self, rows: Iterable[PartRow] = ()) -> None:
        self._held: dict[tuple[str, Millis, PartName, str], dict[Millis, list[PartRow]]] = {}
        for row in rows:
            key = row.key
            of_part = self._held.setdefault((key.model, key.tier, key.part, key.edges), {})
            of_part.setdefault(key.bucket, []).append(row)

    def read_many(self, queries: Sequence[SummaryQuery]) -> list[list[PartRow]]:
        return [list(self._read(query)) for query in queries]

    def _read(self, query: SummaryQuery) -> Iterator[PartRow]:
        for part in query.parts:
            edges = query.edges if part is PartName.CELLS else ""
            held = self._held.get((query.model, query.tier, part, edges), {})
            for bucket in range(query.window.start, query.window.end, query.tier):
                for row in held.get(bucket, ()):
                    if query.grouping in (None, row.key.grouping):
                        yield row


class Stage:
    """What a pipeline asks of a store while it judges: summaries that are read, documents in memory.

    It is no whole Store: rows cannot be written, and what asks for that is a fault that shows as one.
    """

    def __init__(
        self,
        summaries: "SummaryStore | MadeSummaries",
        logs: LogStore | None = None,
        state: DocumentStore | None = None,
    ) -> None:
        self._summaries, self._logs = summaries, logs
        self.state = Documents(state, KNOWN_OF_MODELS)
        self.alerts = Documents()
        self.events = Documents()
        self.outbox = Documents()

    def read_many(self, queries: Sequence[SummaryQuery]) -> list[list[PartRow]]:
        return self._summaries.read_many(queries)

    def summarise(self, request: SummaryRequest) -> list[PartRow]:
        return self.summarise_many([request])[0]

    def summarise_many(self, requests: Sequence[SummaryRequest]) -> list[list[PartRow]]:
        if self._logs is None:
            raise KedgeError("a rehearsal on made series has no logs to count in")
        return self._logs.summarise_many(requests)

    def examples(self, *_: Any, **__: Any) -> list[Mapping[str, Any]]:
        return []
