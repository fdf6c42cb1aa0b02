"""What rules would have done: alerts, how long they lasted, who was told; and what an edit changes.

Made of a replay (`kedge.rehearsal.replay`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kedge.alerting.budgets import MONTH, budget_of
from kedge.alerting.finding import Severity, Status, Transition
from kedge.alerting.lifecycle import ACTIVE
from kedge.alerting.loading import RuleBook
from kedge.alerting.rule import Rule
from kedge.pipeline.context import Pipeline
from kedge.rehearsal.replay import Replay, Replayed, check_window
from kedge.store.base import Json
from kedge.windows import Millis, Window, iso

WIDTH = 60
"""Characters of a timeline."""
_MARKS = {
    Severity.INFO: "░",
    Severity.LOW: "▒",
    Severity.MEDIUM: "▓",
    Severity.HIGH: "█",
    Severity.CRITICAL: "█",
}


@dataclass(frozen=True)
class Episode:
    """One time that an alert fired."""

    rule: str
    model: str
    version: str
    group: Mapping[str, str]
    start: Millis
    """The step at which it fired."""
    end: Millis | None
    """The step at which it was over; None: it fires still."""
    severity: Severity
    """The highest that it reached."""
    reason: str
    """What was seen when it fired."""

    def lasted(self, until: Millis) -> Millis:
        return (until if self.end is None else self.end) - self.start

    def same(self, other: "Episode") -> bool:
        """One alert fired in both, at some time that they share."""
        mine, theirs = (self.model, self.version, self.group), (other.model, other.version, other.group)
        ends = [e.end if e.end is not None else 1 << 62 for e in (self, other)]
        return mine == theirs and self.start <= ends[1] and other.start <= ends[0]

    def to_json(self, until: Millis) -> Json:
        return {
            "model": self.model,
            "version": self.version,
            "group": dict(self.group),
            "from": iso(self.start),
            "to": None if self.end is None else iso(self.end),
            "lasted_s": self.lasted(until) // 1000,
            "severity": self.severity.word,
            "reason": self.reason,
        }


@dataclass
class RuleReport:
    """What one rule would have done."""

    rule: Rule
    judged: Millis = 0
    """How much time it was judged over, of all its models the longest."""
    episodes: list[Episode] = field(default_factory=list)
    messages: Counter[str] = field(default_factory=Counter)
    """By receiver."""
    no_data: int = 0
    """Notices that there was no data."""

    @property
    def per_month(self) -> float | None:
        """Alerts in 30 days: what it would cost in false alarms, were nothing ever wrong."""
        return len(self.episodes) * MONTH / self.judged if self.judged else None

    def firing(self, until: Millis) -> Millis:
        """How long at least one of its alerts fired."""
        spans = sorted((e.start, e.start + e.lasted(until)) for e in self.episodes)
        total, reached = 0, -1
        for start, end in spans:
            total += max(0, end - max(start, reached))
            reached = max(reached, end)
        return total

    def timeline(self, window: Window, width: int = WIDTH) -> str:
        """A character for each part of the time, by the highest severity that fired in it."""
        marks = ["·"] * width
        rank = [0] * width
        scale = max(window.length, 1)
        for episode in self.episodes:
            end = window.end if episode.end is None else episode.end
            first = (episode.start - window.start) * width // scale
            last = max(first, -(-(end - window.start) * width // scale) - 1)
            for i in range(max(first, 0), min(last, width - 1) + 1):
                if episode.severity > rank[i]:
                    rank[i], marks[i] = episode.severity, _MARKS[episode.severity]
        return "".join(marks)

    def to_json(self, window: Window) -> Json:
        return {
            "rule": self.rule.name,
            "place": self.rule.place,
            "from": iso(window.start),
            "to": iso(window.end),
            "judged_s": self.judged // 1000,
            "alerts": len(self.episodes),
            "firing_s": self.firing(window.end) // 1000,
            "alerts_per_30d": None if self.per_month is None else round(self.per_month, 3),
            "budget": budget_of(self.rule),
            "messages": dict(sorted(self.messages.items())),
            "no_data": self.no_data,
            "timeline": self.timeline(window),
            "episodes": [episode.to_json(window.end) for episode in self.episodes],
        }


def reports_of(book: RuleBook, replayed: Replayed) -> dict[str, RuleReport]:
    """By rule, in the order of the files."""
    found = {rule.name: RuleReport(rule) for rule in book.rules}
    for (name, _), judged in replayed.judged.items():
        found[name].judged = max(found[name].judged, judged.length)
    for episode in episodes_of(replayed.transitions):
        found[episode.rule].episodes.append(episode)
    for transition in replayed.transitions:
        if transition.after is Status.NO_DATA:
            found[transition.rule].no_data += 1
    for sent in replayed.messages:
        for name in sent.rules & found.keys():
            found[name].messages[sent.to] += 1
    return found


def episodes_of(transitions: Iterable[Transition]) -> list[Episode]:
    """Each time that an alert fired, in order of their start; `transitions` in order of the steps."""
    by_alert: dict[str, list[Transition]] = defaultdict(list)
    for transition in transitions:
        by_alert[transition.alert].append(transition)
    found: list[Episode] = []
    for held in by_alert.values():
        begun: Transition | None = None
        worst = Severity.INFO
        for transition in held:
            fires = transition.after in ACTIVE
            if fires and begun is None:
                begun, worst = transition, transition.severity
            elif fires:
                worst = max(worst, transition.severity)
            elif begun is not None and transition.after is not Status.NO_DATA:
                found.append(_episode(begun, worst, transition.step))
                begun = None
        if begun is not None:
            found.append(_episode(begun, worst, None))
    return sorted(found, key=lambda e: (e.start, e.rule, e.model, e.version, sorted(e.group.items())))


def _episode(begun: Transition, worst: Severity, end: Millis | None) -> Episode:
    return Episode(
        begun.rule,
        begun.model,
        begun.version,
        begun.group,
        begun.step,
        end,
        worst,
        begun.finding.reason or begun.reason,
    )


@dataclass(frozen=True)
class Difference:
    """What an edit of one rule changes."""

    name: str
    new: RuleReport | None
    """None: the rule is gone."""
    old: RuleReport | None
    """None: the rule is new."""
    added: tuple[Episode, ...]
    """Alerts that there would have been more."""
    removed: tuple[Episode, ...]
    """Alerts that there would no longer have been."""

    @property
    def is_none(self) -> bool:
        return not (self.added or self.removed) and self.messages == 0 and None not in (self.new, self.old)

    @property
    def messages(self) -> int:
        """More, or fewer."""
        ours, theirs = (sum(r.messages.values()) if r else 0 for r in (self.new, self.old))
        return ours - theirs

    def to_json(self, until: Millis) -> Json:
        return {
            "rule": self.name,
            "is": "new" if self.old is None else "gone" if self.new is None else "kept",
            "added": [episode.to_json(until) for episode in self.added],
            "removed": [episode.to_json(until) for episode in self.removed],
            "messages": self.messages,
        }


def differences(new: Mapping[str, RuleReport], old: Mapping[str, RuleReport]) -> list[Difference]:
    """Of every rule that either side has. An alert that fires earlier, or for longer, is the same one."""
    found = []
    for name in dict.fromkeys([*new, *old]):
        ours, theirs = new.get(name), old.get(name)
        mine: Sequence[Episode] = ours.episodes if ours else ()
        before: Sequence[Episode] = theirs.episodes if theirs else ()
        found.append(
            Difference(
                name,
                ours,
                theirs,
                tuple(e for e in mine if not any(e.same(other) for other in before)),
                tuple(e for e in before if not any(e.same(other) for other in mine)),
            )
        )
    return found


@dataclass(frozen=True)
class Asked:
    """What a backtest is of."""

    book: RuleBook
    window: Window
    against: RuleBook | None = None
    """The rules as they were before an edit."""


def backtest(pipe: Pipeline, asked: Asked) -> Iterator[Json]:
    """`{"done": share}` again and again, and at the end `{"result": …}`. Nothing is stored.

    Raises BadInput for a time that is none, or in which nothing was logged.
    """
    check_window(pipe, asked.window)
    books = [asked.book] if asked.against is None else [asked.book, asked.against]
    found: list[Replayed] = []
    for i, book in enumerate(books):
        replay = Replay(pipe, book, asked.window)
        for share in replay.run():
            yield {"done": round((i + share) / len(books), 4)}
        found.append(replay.found())
    reports = [reports_of(book, one) for book, one in zip(books, found, strict=True)]
    changed = differences(*reports) if len(reports) > 1 else None
    yield {"result": result_json(asked.window, found[0], reports[0], changed)}


def result_json(
    window: Window,
    replayed: Replayed,
    reports: Mapping[str, RuleReport],
    changed: Sequence[Difference] | None,
) -> dict[str, Any]:
    """Everything, as the API answers it."""
    return {
        "from": iso(window.start),
        "to": iso(window.end),
        "steps": replayed.steps,
        "notes": list(replayed.notes),
        "rules": [report.to_json(window) for report in reports.values()],
        "changes": None if changed is None else [d.to_json(window.end) for d in changed if not d.is_none],
    }
