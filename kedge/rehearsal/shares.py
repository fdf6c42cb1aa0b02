"""A rehearsal's judging in several processes, each with some of the rules. What is found is the same.

The children judge in memory and only ask: this process reads the store for them, since an embedded one is
open in a single process. They are started afresh (spawn), as a fork would copy the threads of a server.
"""

import contextlib
import gc
import multiprocessing
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any

from kedge.alerting.composite import CompositeRule
from kedge.alerting.loading import RuleBook
from kedge.alerting.rule import Rule
from kedge.notify.receivers import Receivers
from kedge.pipeline.dirty import Feed
from kedge.pipeline.progress import Steps
from kedge.pipeline.reader import Ask
from kedge.rehearsal.judging import Chunk, Judging, Task
from kedge.rehearsal.stage import Stage
from kedge.sketch import PartName
from kedge.store.base import (
    PartRow,
    Store,
    Stored,
    SummaryQuery,
    SummaryRequest,
)
from kedge.windows import MINUTE, Millis, Window

WORTH = 40_000
"""Steps from which on a second process is worth its start, of about two seconds."""
_OF_GROUPS, _OF_LABELS, _OF_REFERENCE, _OF_CELLS = 2, 2, 2, 25
"""How much more a step costs that is judged for groups, on labels, against other windows, or on the cells of
all features; as it was measured, in the processor's time of a backtest of a hundred rules."""
_MANY = 4
"""Buckets of a window from which on its sum is worth sharing."""
_FAIR = 1.1
"""How much more than its part of the work a process may get, for rules that share what they read."""
_YOUNG = 50_000
"""Objects after whose making a child looks for cycles among them, in place of 700: it makes millions, hardly
any in cycles, and looking for them was an eighth of its work."""
_GONE = "a process of the rehearsal ended before its time"

Count = Callable[[Sequence[Ask]], list[list[PartRow]]]


# --- who judges what ----------------------------------------------------------------------------------------


def steps_of(task: Task) -> int:
    """How many steps there are to judge, about."""
    return sum(_steps_of(rule, task.feed, task.window) for rule in task.rules.rules)


def _steps_of(rule: Rule, feed: Feed, window: Window) -> int:
    known = [m for name, m in feed.models.items() if rule.model in ("*", name) and rule.window >= m.base]
    return sum(max(window.length, 0) // rule.step(m.base) for m in known)


def shared(task: Task, count: int) -> list[RuleBook]:
    """The rules in at most `count` books of about the same work, each in the order of the whole.

    A composite stays with the rules that it names. Rules on one window of many buckets stay together as far
    as that is fair: they share its sums, and what was measured of it.
    """
    weights = {rule.name: _weight(rule, task) for rule in task.rules.rules}
    fair = sum(weights.values()) / count
    heaps = [names for names in _families(task.rules) if len(names) > 1]
    single = {name for names in heaps for name in names}
    by_window: dict[Any, list[str]] = defaultdict(list)
    for rule in task.rules.rules:
        if rule.name not in single:
            alone = rule.name if rule.window < _MANY * _base(rule, task.feed) else ""
            by_window[rule.model, rule.window, rule.grouping, alone].append(rule.name)
    for names in by_window.values():
        whole = sum(weights[name] for name in names)
        heaps += [names] if whole <= fair * _FAIR else [[name] for name in names]
    heaps.sort(key=lambda names: -sum(weights[name] for name in names))
    shares: list[list[str]] = [[] for _ in range(count)]
    loads = [0.0] * count
    for names in heaps:
        least = loads.index(min(loads))
        shares[least] += names
        loads[least] += sum(weights[name] for name in names)
    return [
        RuleBook(tuple(rule for rule in task.rules.rules if rule.name in set(names)))
        for names in shares
        if names
    ]


def _weight(rule: Rule, task: Task) -> float:
    each = _OF_GROUPS if rule.grouping else 1
    each *= _OF_LABELS if rule.label_based else 1
    each *= _OF_REFERENCE if rule.other_reference is not None else 1
    each *= _OF_CELLS if PartName.CELLS in rule.parts else 1
    return each * (_steps_of(rule, task.feed, task.window) + 1)


def _base(rule: Rule, feed: Feed) -> Millis:
    """The finest buckets of the models that it watches."""
    return min((m.base for name, m in feed.models.items() if rule.model in ("*", name)), default=MINUTE)


def _families(book: RuleBook) -> Iterable[list[str]]:
    """The rules that must be judged together."""
    of = {rule.name: {rule.name} for rule in book.rules}
    for rule in book.rules:
        if isinstance(rule, CompositeRule):
            joined = set[str]().union(*(of[name] for name in (rule.name, *rule.named) if name in of))
            for name in joined:
                of[name] = joined
    return [sorted(names) for names in {id(names): names for names in of.values()}.values()]


# --- this process -------------------------------------------------------------------------------------------


class Shares:
    """Children that judge a task's shares, and ask this process for what they read."""

    def __init__(self, task: Task, store: Store, count: Count, processes: int) -> None:
        self._task, self._store, self._count = task, store, count
        self._books = shared(task, processes)
        self.progress: dict[str, Steps] = {}
        """How far each rule was judged, by model; known when all is done."""
        self._ended: set[Connection] = set()

    def run(self) -> Iterator[Chunk]:
        """What each of the task's chunks came to, in order."""
        context = multiprocessing.get_context("spawn")
        with contextlib.ExitStack() as stack:
            done: dict[Connection, deque[Chunk]] = {}
            for book in self._books:
                ours, theirs = context.Pipe()
                task = replace(self._task, rules=book)
                child = context.Process(target=_work, args=(theirs, task), daemon=True)
                child.start()
                stack.callback(child.join)
                stack.callback(child.terminate)
                theirs.close()
                done[ours] = deque()
            for _ in self._task.chunks:
                while not all(done.values()):
                    self._hear(done)
                yield _together([chunks.popleft() for chunks in done.values()])
            while len(self._ended) < len(done):
                self._hear(done)

    def _hear(self, done: dict[Connection, deque[Chunk]]) -> None:
        """Wait until some of the children have something to say."""
        speaking = set(wait([ours for ours in done if ours not in self._ended]))
        for ours, chunks in done.items():
            if ours in speaking and self._serve(ours, chunks):
                self._ended.add(ours)

    def _serve(self, ours: Connection, done: deque[Chunk]) -> bool:
        """Take what a child says; whether that was its last word."""
        try:
            what, *of = ours.recv()
        except EOFError:
            raise RuntimeError(_GONE) from None
        match what:
            case "chunk":
                done.append(of[0])
            case "failed":
                raise of[0]
            case "reached":
                for model, steps in of[0].items():
                    self.progress[model] = {**self.progress.get(model, {}), **steps}
                return True
            case _:
                ours.send(self._answer(what, of))
        return False

    def _answer(self, what: str, of: Sequence[Any]) -> Any:
        match what:
            case "read_many":
                return self._store.read_many(of[0])
            case "summarise_many":
                return self._store.summarise_many(of[0])
            case "count":
                return self._count(of[0])
            case "get":
                return _bare(self._store.state.get(of[0]))
            case "get_many":
                return {name: _bare(stored) for name, stored in self._store.state.get_many(of[0]).items()}
            case "find":
                return {name: _bare(stored) for name, stored in self._store.state.find(of[0]).items()}
        raise RuntimeError(f"a rehearsal asks for {what}")


def _bare(stored: Stored | None) -> Stored | None:
    """A rehearsal keeps what it writes to itself: tokens are of no use to it."""
    return None if stored is None else Stored(stored.value, None)


def _together(chunks: Sequence[Chunk]) -> Chunk:
    return Chunk(
        sum(chunk.steps for chunk in chunks),
        tuple(reason for chunk in chunks for reason in chunk.held),
        [transition for chunk in chunks for transition in chunk.transitions],
    )


# --- a child ------------------------------------------------------------------------------------------------


class _Asking:
    """What a child reads, of the process that started it."""

    def __init__(self, parent: Connection) -> None:
        self._parent = parent

    def ask(self, *question: Any) -> Any:
        self._parent.send(question)
        return self._parent.recv()

    def read_many(self, queries: Sequence[SummaryQuery]) -> list[list[PartRow]]:
        found: list[list[PartRow]] = self.ask("read_many", list(queries))
        return found

    def summarise_many(self, requests: Sequence[SummaryRequest]) -> list[list[PartRow]]:
        found: list[list[PartRow]] = self.ask("summarise_many", list(requests))
        return found

    def count(self, asks: Sequence[Ask]) -> list[list[PartRow]]:
        found: list[list[PartRow]] = self.ask("count", list(asks))
        return found

    def get(self, name: str) -> Stored | None:
        found: Stored | None = self.ask("get", name)
        return found

    def get_many(self, names: Collection[str]) -> dict[str, Stored]:
        found: dict[str, Stored] = self.ask("get_many", list(names))
        return found

    def find(self, prefix: str = "") -> dict[str, Stored]:
        found: dict[str, Stored] = self.ask("find", prefix)
        return found


def _work(parent: Connection, task: Task) -> None:
    """Judge a share, and tell of each chunk."""
    gc.set_threshold(_YOUNG)
    try:
        asking: Any = _Asking(parent)
        judging = Judging(task, Stage(asking, asking, asking), asking.count, Receivers({}, ""))
        judging.begin()
        for now in task.chunks:
            parent.send(("chunk", judging.judge(now)))
        parent.send(("reached", judging.reached()))
    except Exception as error:  # noqa: BLE001 -- whatever it is, the process that asked raises it
        parent.send(("failed", error))
