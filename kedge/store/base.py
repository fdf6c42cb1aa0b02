"""What the pipeline asks of a store: narrow Protocols with domain verbs, met by `elastic` and `duckdb`.

Times are `Millis`. Every method may raise StoreUnavailable (try again later) and never returns a partial
answer. Correctness never depends on a lock: writes are idempotent (fixed ids), versioned (a stale one is
refused) or compare-and-set (`swap`). A read that must see its own write goes by id, or refreshes first.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

from kedge.errors import StoreUnavailable
from kedge.record_table import PredictionTable
from kedge.records import Label, OpenField, Prediction
from kedge.sketch import AnyPart, Counted, EdgeSet, Moments, NumericEdges, PartName, check_format, unpack
from kedge.store.flaws import Flaw
from kedge.store.retention import Floors, Swept
from kedge.store.values import ValueCount, ValueQuery
from kedge.windows import Millis, Window

Grouping = tuple[str, ...]
"""Names of dimensions, sorted; () is the total."""
Group = tuple[tuple[str, str], ...]
"""(dimension, value) pairs sorted by dimension; () is the total. A row without one of the dimensions is in no
group."""
OTHER = "(other)"
"""The value of a dimension that stands for all those beyond its cap."""
MOST_GROUPS = 1_000
"""Values of one dimension that are listed in one bucket of time."""
Json = dict[str, Any]

EPOCH_SHIFT = 56
"""A version is epoch * 2^56 + fingerprint; a reindexed index begins a new epoch."""


def sum_versions(versions: Iterable[int]) -> int:
    """The version of a sum of versioned things: the fingerprints of their newest epoch, added up.

    Those of older epochs do not count: they were taken from other sequence numbers, and may be larger than
    what will replace them, which would then be refused.
    """
    held = list(versions)
    epoch = max(version >> EPOCH_SHIFT for version in held)
    mask = (1 << EPOCH_SHIFT) - 1
    return (epoch << EPOCH_SHIFT) + sum(v & mask for v in held if v >> EPOCH_SHIFT == epoch)


def group_key(group: Group) -> str:
    """A group as text: `{"segment.region":"eu"}`; the total is `{}`."""
    return json.dumps(dict(group), separators=(",", ":"), ensure_ascii=False)


def parse_group(key: str) -> Group:
    return tuple(sorted(json.loads(key).items()))


def schema_document(model: str) -> str:
    """The state document with the names of a model's features: {"numeric": […], "categorical": […],
    "invalid": […], "attributions": […], "probabilities": [classes that rows have one of]}."""
    return f"schema:{model}"


def digest(*parts: object) -> str:
    """A short, stable, deterministic document id."""
    return hashlib.sha256("\x1f".join(str(p) for p in parts).encode()).hexdigest()[:32]


# --- logs ---------------------------------------------------------------------------------------------------


class Written(StrEnum):
    CREATED = "created"
    DUPLICATE = "duplicate"
    """A row with that id is stored already; nothing was changed."""
    REJECTED = "rejected"


class AppendResult(NamedTuple):
    written: Written
    reason: str = ""


class PartlyAppended(StoreUnavailable):
    """The store failed in the middle of an `append`. All of it may be sent again: what is written is not
    written twice."""

    def __init__(self, text: str, results: list[AppendResult | None], status: int = 0) -> None:
        super().__init__(text, status)
        self.results = results
        """One each, in order; None: not written."""


class Joined(StrEnum):
    JOINED = "joined"
    SUPERSEDED = "superseded"
    """The prediction has a label that ranks at least as high (Label.rank): a repeat, or an older one."""
    WAITING = "waiting"
    """No such prediction is visible yet: kept in the pending labels and retried."""


REJECTED_BYTES = 32_000
"""Of a rejected row's text that are kept."""


class RejectedRow(NamedTuple):
    """A row that was not stored as a log, for people to look up."""

    at: Millis
    """When it arrived."""
    reason: str
    row: str
    """JSON text: as the client sent it, or as it was to be stored."""
    model: str = ""
    event: str = ""
    """The id that it came with."""

    @property
    def id(self) -> str:
        """Of its content: the same row refused again on the same day is kept once."""
        return digest(self.model, self.event, self.reason, self.row)

    @classmethod
    def of(cls, at: Millis, reason: str, row: bytes, model: str = "", event: str = "") -> "RejectedRow":
        """Cut to what can be kept; bytes that are no text are replaced."""
        texts = (reason.encode("utf-8", "replace")[:1_000], row[:REJECTED_BYTES])
        names = (name.encode("utf-8", "replace")[:512] for name in (model, event))
        said, content, *others = (text.decode("utf-8", "ignore") for text in (*texts, *names))
        return cls(at, said, content, *others)


class PendingCounts(NamedTuple):
    joined: int
    superseded: int
    waiting: int
    expired: int
    """Given up and counted by this call; since the beginning: `kedge.store.expiry.expired_labels`."""
    left: int = 0
    """Of the waiting, those that are due still: this call had its `limit`."""


PENDING_A_CALL = 50_000
"""Pending labels that one call tries: some seconds of work."""


class Changes(NamedTuple):
    """What arrived or changed since a watermark."""

    watermark: Json
    """Opaque; give it back to the next `changed`."""
    dirty: dict[str, set[Millis]]
    """By model: the starts of the minutes of event time in which rows arrived."""
    replaced: bool = False
    """An index was rebuilt since: its sequence numbers began anew, so a new epoch must begin."""
    labelled: Mapping[str, set[Millis]] = MappingProxyType({})
    """By model: the minutes in which labels came or changed. Of a row that came with its label both are
    told; a label that comes later touches only these."""


@dataclass(frozen=True)
class SummaryRequest:
    """Ask for the parts of every non-empty bucket of one model in [window.start, window.end)."""

    model: str
    window: Window
    """Aligned to `bucket`."""
    bucket: Millis
    parts: frozenset[PartName]
    groupings: tuple[Grouping, ...] = ((),)
    edges: EdgeSet | None = None
    """Needed for the cells part; without them it is not computed."""
    numeric: tuple[str, ...] = ()
    """Numeric features whose moments `core` carries."""
    categorical: tuple[str, ...] = ()
    """Categorical features whose presence `core` counts."""
    invalid: tuple[str, ...] = ()
    """Features that ever had a value of neither kind; counted in `core`."""
    attributions: tuple[str, ...] = ()
    """Features of whose attributions `core` carries the moments, of their absolute values."""
    measured: tuple[str, ...] = ()
    """Measurements of rows (`business.cost`) of which `core` carries the moments."""
    probabilities: tuple[str, ...] = ()
    """Classes by whose probability `labels` ranks the rows (`sketch.ranked`)."""
    custom: tuple[Counted, ...] = ()
    """Needed for the custom part; without any it is not computed."""
    epoch: int = 1
    known: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By dimension whose list of values is full: its values. Rows with any other value are in the group
    OTHER of that dimension, so that its groups add up to all rows that have the dimension."""


class SummaryKey(NamedTuple):
    """The identity of one stored part."""

    model: str
    group: Group
    tier: Millis
    bucket: Millis
    part: PartName
    edges: str = ""
    """EdgeSet.hash for the cells part, `definitions_key` for the custom part, empty for the others."""

    @property
    def id(self) -> str:
        return digest(self.model, group_key(self.group), self.tier, self.bucket, self.part.value, self.edges)

    @property
    def grouping(self) -> Grouping:
        return tuple(name for name, _ in self.group)


class PartRow:
    """One part as computed or as stored.

    What is read from a store comes packed, and is unpacked when its part is first looked at: of the groups
    that a bucket has, many are in no window that a rule looks at.
    """

    __slots__ = ("_held", "key", "version")

    def __init__(self, key: SummaryKey, version: int, held: AnyPart | bytes) -> None:
        """`held`: the part, or as `pack` wrote it; raises KedgeError for bytes of a later kedge."""
        if isinstance(held, bytes):
            check_format(held)
        self.key = key
        self.version = version
        """epoch * 2^56 + fingerprint. The fingerprint is the row count for core, cells and custom, the sum of
        the change feed's numbers (`_seq_no`, `revision`) over the labelled rows for labels: it grows with
        every change."""
        self._held = held

    @property
    def part(self) -> AnyPart:
        if isinstance(self._held, bytes):
            self._held = unpack(self.key.part, self._held)
        return self._held

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PartRow):
            return NotImplemented
        return (self.key, self.version) == (other.key, other.version) and self.part == other.part

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"PartRow({self.key!r}, {self.version!r}, {self.part!r})"

    def __reduce__(self) -> tuple[type["PartRow"], tuple[SummaryKey, int, AnyPart | bytes]]:
        """As it is held: packed, it is handed to another process in a hundredth of the time."""
        return PartRow, (self.key, self.version, self._held)


class SummaryQuery(NamedTuple):
    """What `SummaryStore.read_many` is asked for: parts with bucket in [window.start, window.end)."""

    model: str
    tier: Millis
    window: Window
    parts: frozenset[PartName]
    grouping: Grouping | None = None
    """None: of all."""
    edges: str = ""
    """Of the cells part, which has others for other edges."""
    custom: str = ""
    """Of the custom part: which definitions (`definitions_key`)."""


@runtime_checkable
class LogStore(Protocol):
    """Predictions and their labels."""

    def reserve(self, fields: Mapping[str, Collection[OpenField]]) -> None:
        """Make room for the fields of models, all that each has, before rows with new ones are written.

        A store without a limit of fields does nothing. Safe to repeat, and to leave out: rows are then
        stored as long as there is room.
        """
        ...

    def append(self, rows: Sequence[Prediction]) -> list[AppendResult]:
        """Write rows; a result each, in order. A label that came with a row is stored with its outcome at
        once.

        A row whose id its model has stored already that day is a duplicate, also within one call; two models
        may have rows of one id. One bad row costs no other.
        Raises PartlyAppended, a StoreUnavailable, where some rows were written and others may be tried
        again.
        """
        ...

    def append_table(self, table: PredictionTable) -> list[AppendResult]:
        """The same for columns of one model: what is stored, and what is answered, is that of
        `append(table.rows())`."""
        ...

    def label(self, labels: Sequence[Label]) -> list[Joined]:
        """Join labels in place: the row gains `label.*` and `outcome.*` (records.outcome_of). A result each.

        The label with the highest rank wins whatever the order of arrival or of concurrent writers; a label
        whose prediction is not visible is kept as pending.
        """
        ...

    def join_pending(self, now: Millis, expiry: Millis, limit: int = PENDING_A_CALL) -> PendingCounts:
        """Try the pending labels that are due again (backoff), at most `limit` of them, the longest due
        first; give up those ingested before now - expiry.

        Each that is given up is counted once in the state, whoever is killed on the way, and kept as a
        rejected row.
        """
        ...

    def changed(self, since: Json) -> Changes:
        """Every minute touched by a write or update after the watermark `since` ({} from the beginning).

        Exact by the store's own sequence numbers: no row is missed; one may be reported twice.
        """
        ...

    def summarise(self, request: SummaryRequest) -> list[PartRow]:
        """The parts of every bucket and group that has rows, computed inside the store; cells and counts
        exact.

        For labels: of every bucket and group that has labelled rows. Raises TooManyBuckets where the range
        must be cut, and TooManyGroups where a bucket has more values of a dimension than can be listed and
        the request has no `known` list of it.
        """
        ...

    def summarise_many(self, requests: Sequence[SummaryRequest]) -> list[list[PartRow]]:
        """`summarise` of each, in order, in as few round trips as the store's limits allow."""
        ...

    def edges(
        self,
        model: str,
        window: Window,
        numeric: Sequence[str],
        categorical: Sequence[str],
        version: str | None = None,
    ) -> EdgeSet:
        """Edges from the rows in a window (with `version`, of those alone), and of the values predicted
        there; features without values are left out.
        """
        ...

    def errors_by_value(
        self, model: str, window: Window, edges: NumericEdges, version: str | None = None
    ) -> list[Moments]:
        """The absolute errors of a window's labelled rows, by the cell of `edges` that the predicted value
        is in: as many as `edges.size`, those of rows without a value (none) last. Rows whose source has no
        errors stored are not counted.
        """
        ...

    def examples(self, model: str, window: Window, limit: int = 20, flaw: Flaw | None = None) -> list[Json]:
        """The newest rows of a window as stored documents (nested maps, DESIGN §4 names); only those with a
        flaw, where one is named."""
        ...

    def values(self, query: ValueQuery) -> list[ValueCount]:
        """The values of a field in a window with their rows, commonest first, at most MOST_VALUES. All counts
        are exact where there are no more than that; of a field with more, those that are listed may be low.
        """
        ...

    def reject(self, rows: Sequence[RejectedRow]) -> None:
        """Keep rows that are not stored as logs, with their reasons, by the day they arrived."""
        ...

    def rejected(self, limit: int = 100) -> list[RejectedRow]:
        """The newest of them, newest first; sees every earlier `reject`."""
        ...


@runtime_checkable
class SummaryStore(Protocol):
    """Packed parts of Summaries."""

    def write(self, rows: Sequence[PartRow]) -> list[bool]:
        """Write each where its version is at least the stored one; False: refused, a newer one stands.
        Visible to `read_many` when this returns."""
        ...

    def read_many(self, queries: Sequence[SummaryQuery]) -> list[list[PartRow]]:
        """The parts that each asks for, in order, in as few round trips as the store allows."""
        ...

    def versions_many(self, models: Collection[str], tier: Millis, window: Window) -> dict[SummaryKey, int]:
        """Versions of what is stored of these models there, without the content."""
        ...


# --- numbers for people -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MetricDoc:
    """The metrics of one model, group and tumbling window: a scalar document, or one feature's row."""

    model: str
    group: Group
    window: Window
    version: int
    """Grows with what it was computed from: a stale write is refused."""
    values: Mapping[str, Json]
    """By metric name (with `{class=…}` or `{age=…}` where it has labels): {"value", "n", "stderr", "verdict",
    "reason"}."""
    feature: str = ""

    @property
    def id(self) -> str:
        return digest(self.model, group_key(self.group), self.window.start, self.window.end, self.feature)


@runtime_checkable
class MetricStore(Protocol):
    def write_metrics(self, docs: Sequence[MetricDoc]) -> None:
        """Write each where its version is at least the stored one."""
        ...

    def read_metrics(self, model: str, width: Millis, window: Window) -> list[MetricDoc]:
        """Documents of tumbling windows of `width` that start in `window`, by start, group, feature."""
        ...


# --- small documents with compare-and-set -------------------------------------------------------------------


class Stored(NamedTuple):
    """A document and the token that a later swap must give back."""

    value: Json
    token: Any


@runtime_checkable
class DocumentStore(Protocol):
    """JSON documents by name, each changed only by compare-and-set. `get` and `swap` see every earlier
    swap."""

    def get(self, name: str) -> Stored | None: ...

    def swap(self, name: str, value: Json, token: Any | None) -> bool:
        """Write if the document is still the one `token` stands for (None: if there is none). False: it
        changed."""
        ...

    def find(self, prefix: str = "") -> dict[str, Stored]:
        """All documents whose name starts with `prefix`, by name; sees every earlier swap."""
        ...

    def delete(self, name: str, token: Any) -> bool: ...

    def get_many(self, names: Collection[str]) -> dict[str, Stored]:
        """Those that exist, by name, in few round trips; sees every earlier swap."""
        ...

    def swap_many(self, changes: Sequence[tuple[str, Json, Any | None]]) -> list[bool]:
        """`swap` of each (name, value, token), in few round trips; they succeed or fail one by one."""
        ...


LIVE_ALERTS = frozenset({"firing", "acknowledged", "no_data"})
"""The `status` of alerts that people were told of."""


@runtime_checkable
class AlertStore(DocumentStore, Protocol):
    """Alerts, found by what the pipeline asks for: an installation may have tens of thousands."""

    def of_rules(self, rules: Collection[str]) -> dict[str, Stored]:
        """Those whose `rule` is one of these, by name; sees every earlier swap."""
        ...

    def live(self) -> dict[str, Stored]:
        """Those that are firing, acknowledged or without data, by name; sees every earlier swap."""
        ...

    def outgoing(self) -> dict[str, Stored]:
        """Those with something `outgoing` (transitions not projected yet), by name; sees every earlier
        swap."""
        ...

    def tally(self) -> dict[tuple[str, str], int]:
        """How many there are by `status` and the word of their `severity`, each empty where one has none.
        Counted by the store, in a number of requests that is the same for any number of alerts; sees every
        earlier swap."""
        ...


@dataclass(frozen=True)
class Check:
    """One line of `kedge setup` or `kedge doctor`."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    changed: bool = False
    why: str = ""
    """The reason of a choice."""
    differences: tuple[str, ...] = ()
    """What of an installed object is (or would be) another: `template.settings.index.codec: "a" -> "b"`."""


@runtime_checkable
class Store(LogStore, SummaryStore, MetricStore, Protocol):
    """One database with all of kedge's collections."""

    @property
    def state(self) -> DocumentStore:
        """`kedge-state`: feed watermark and dirty set, baselines, schemas, leases, silences."""
        ...

    @property
    def alerts(self) -> AlertStore:
        """`kedge-alerts`: an alert's state with the transitions not yet projected. Name: alert id."""
        ...

    @property
    def events(self) -> DocumentStore:
        """`kedge-alert-events-*`: one per transition, created once. Name: transition id."""
        ...

    @property
    def outbox(self) -> DocumentStore:
        """`kedge-outbox`: one per transition and receiver; `find(receiver + "/")` is its queue."""
        ...

    def retire(self, floors: Floors) -> Swept:
        """Drop every index or day that lies wholly before the floor of its stream; rows from before it are
        refused from then on. Safe to repeat, and to be killed in the middle."""
        ...

    def setup(self, *, dry_run: bool = False) -> list[Check]:
        """Probe the server, create what is missing; a second run changes nothing and says so."""
        ...

    def sources(self) -> list[Check]:
        """One line for each configured source: what can be read of it."""
        ...

    def ping(self) -> Check: ...

    def close(self) -> None: ...


@dataclass
class Counters:
    """What a store did since it was opened, for tests and metrics."""

    requests: int = 0
    by_verb: dict[str, int] = field(default_factory=dict)
