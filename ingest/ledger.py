"""Rows sent again and rows ahead of the clock, by model and minute of event time, kept in the store; and of
every few minutes some ids, so that people can look at them.

A row counts once the store answered for it. What was counted is written at most every EVERY_S, by the first
request after that and when the gateway ends. A gateway that is killed loses what it counted since it last
wrote, which is EVERY_S of requests at most while the store answers; what it wrote is neither lost nor
doubled.
"""

import secrets
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from kedge.clock import Clock
from kedge.errors import KedgeError
from kedge.pipeline.arrived import PREFIX, SPAN, document, document_name
from kedge.store.base import DocumentStore
from kedge.windows import DAY, MINUTE, Millis, floor

EVERY_S = 5.0
KEPT: Millis = 100 * DAY
"""After their last change documents are removed, by the next gateway that begins to count."""
MOST_DAYS = 1_000
"""Days of models that one run holds: beyond, it begins new documents, as a new run would."""

MOST_IDS = 2
"""Ids that one run keeps of each SPAN of event time, of rows of each kind: the last ones."""

_Ids = deque[str]


@dataclass
class _Day:
    """Of one model."""

    minutes: dict[Millis, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    examples: dict[Millis, list[_Ids]] = field(
        default_factory=lambda: defaultdict(lambda: [_Ids(maxlen=MOST_IDS), _Ids(maxlen=MOST_IDS)])
    )


class Ledger:
    """Counts of one run of a gateway. Safe for threads."""

    def __init__(self, state: DocumentStore, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._counting, self._writing = threading.Lock(), threading.Lock()
        self._writer = secrets.token_hex(8)
        self._days: dict[tuple[str, Millis], _Day] = {}
        self._unwritten: set[tuple[str, Millis]] = set()
        self._written_at = -EVERY_S
        self._tidied = False

    def count(
        self, model: str, duplicates: Iterable[tuple[Millis, str]], ahead: Iterable[tuple[Millis, str]]
    ) -> None:
        """Add rows: the event time and the id of each."""
        with self._counting:
            for column, rows in enumerate((duplicates, ahead)):
                for at, id in rows:
                    key = (model, floor(at, DAY))
                    if (day := self._days.get(key)) is None:
                        day = self._days[key] = _Day()
                    day.minutes[floor(at, MINUTE)][column] += 1
                    ids = day.examples[floor(at, SPAN)][column]
                    if id not in ids:
                        ids.append(id)
                    self._unwritten.add(key)

    def write(self, *, now: bool = False) -> None:
        """Write what is not written, if it is time to. What the store does not take stays unwritten."""
        due = self._unwritten and (now or time.monotonic() - self._written_at >= EVERY_S)
        if not due or not self._writing.acquire(blocking=now):
            return
        try:
            self._written_at = time.monotonic()
            self._write()
        except KedgeError:
            return  # rows are stored: nobody is told that they were not, for the sake of a count
        finally:
            self._writing.release()

    def _write(self) -> None:
        if not self._tidied:
            self._tidy()
        with self._counting:
            at, days = self._clock(), sorted(self._unwritten)
            made = {
                document_name(model, day, self._writer): document(model, held.minutes, held.examples, at)
                for model, day in days
                for held in [self._days[model, day]]
            }
            self._unwritten -= set(days)
        written = [False] * len(days)
        try:
            stored = self._state.get_many(list(made))
            tokens = (stored[name].token if name in stored else None for name in made)
            changes = [(n, value, token) for (n, value), token in zip(made.items(), tokens, strict=True)]
            written = self._state.swap_many(changes)
        finally:
            with self._counting:
                self._unwritten |= {day for day, done in zip(days, written, strict=True) if not done}
                if len(self._days) > MOST_DAYS and not self._unwritten:
                    self._days, self._writer = {}, secrets.token_hex(8)

    def _tidy(self) -> None:
        self._tidied = True
        for name, stored in self._state.find(PREFIX).items():
            if stored.value["at"] < self._clock() - KEPT:
                self._state.delete(name, stored.token)
