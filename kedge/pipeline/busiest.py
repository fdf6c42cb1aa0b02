"""Where a model had the most rows, or labelled rows, lately: whoever asks whether rules can be judged at all
tries them there.

Days are looked at first, then the hours of the busiest day, then the minutes of its busiest hour: so what is
read is the same for one length of window as for twenty, and a few hundred buckets of a model.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

from kedge.alerting.rule import Rule
from kedge.pipeline.dirty import label_tier
from kedge.pipeline.judge import Judged
from kedge.pipeline.measure import MATURITY_SPAN
from kedge.pipeline.negatives import PARTS
from kedge.pipeline.reader import Ask, SummaryReader
from kedge.sketch import PartName, Summary
from kedge.windows import DAY, HOUR, WEEK, Millis, Window, ceil, floor, tile

LOOKED: Millis = WEEK
"""How far back rows are looked at: within what minutes are kept for."""
LABELS_LOOKED: Millis = MATURITY_SPAN
"""And labelled rows: labels may take weeks."""
_CORE = frozenset({PartName.CORE})
Weight = Callable[[Summary], int]


def _asks(
    one: Judged, window: Window, coarsest: Millis = DAY, parts: frozenset[PartName] = PARTS
) -> Iterator[Ask]:
    for part in parts:
        for span in tile(window, one.feed.base, one.feed.missing(part), coarsest):
            yield Ask(one.model, span.tier, Window(span.start, span.end), part, "", ())


@dataclass
class Busiest:
    """Of one model."""

    reader: SummaryReader
    one: Judged
    """Any rule on it."""
    end: Millis
    """Up to where its rows are complete."""
    _found: dict[tuple[Millis, bool, str], Millis | None] = field(default_factory=dict)

    @cached_property
    def days(self) -> list[tuple[Window, Summary]]:
        """Of the last two months, as far as there are rows; what is left of the newest hour is left out."""
        base = self.one.feed.base
        tier = label_tier(base)
        first = floor(self.one.feed.first, tier)
        end = max(floor(self.end, tier), min(first + tier, floor(self.end, base)))
        start = max(floor(end - LABELS_LOOKED, DAY), first)
        if start >= end:
            return []
        self.reader.load(list(_asks(self.one, Window(start, end))))
        cuts = [start, *range(ceil(start + 1, DAY), end, DAY), end]
        spans = [Window(a, b) for a, b in pairwise(cuts)]
        return [(span, self._total(span)) for span in spans]

    def step(self, rule: Rule) -> Millis | None:
        """The end of the window with the most rows, of a rule on labels of labelled ones, among those that it
        is judged on; None where there are none."""
        key = rule.window, rule.label_based, f"{rule.active} {rule.timezone}"
        if key not in self._found:
            self._found[key] = self._step(rule)
        return self._found[key]

    def _step(self, rule: Rule) -> Millis | None:
        weight = _labelled if rule.label_based else _rows
        looked = looked_of(rule)
        days = [day for day in self.days if day[0].end > self.end - looked]
        if rule.window >= DAY:
            ends = [span.end for span, _ in days]
            return self._best(
                rule,
                ends,
                lambda end: sum(weight(s) for span, s in days if end - rule.window <= span.start < end),
            )
        for span, summary in sorted(days, key=lambda day: -weight(day[1])):
            if not weight(summary):
                break
            found = self._within(rule, span, weight)
            if found is not None:
                return found
        return None

    def _within(self, rule: Rule, day: Window, weight: Weight) -> Millis | None:
        base = self.one.feed.base
        hours = max(HOUR, base)
        length = max(rule.window, hours)
        ends = list(range(ceil(day.start + 1, hours), day.end + 1, hours)) or [day.end]
        self.reader.load(list(_asks(self.one, Window(max(ends[0] - length, 0), ends[-1]), HOUR)))
        best = self._best(rule, ends, lambda end: weight(self._total(Window(max(end - length, 0), end))))
        if best is None or rule.window >= hours or rule.label_based:
            return best
        # The minutes of that hour, and no more: a window that begins before it is left out. Labels are not
        # stored by the minute.
        self.reader.load(list(_asks(self.one, Window(best - hours, best), base, _CORE)))
        ends = list(range(best - hours + max(rule.window, base), best + 1, rule.step(base)))
        fine = self._best(rule, ends, lambda end: _rows(self._total(Window(end - rule.window, end), _CORE)))
        return best if fine is None else fine

    def _best(self, rule: Rule, ends: Iterable[Millis], rows: Callable[[Millis], int]) -> Millis | None:
        counted = [(rows(end), end) for end in ends if rule.span(end) is not None]
        most, end = max(counted, default=(0, 0))
        return end if most else None

    def _total(self, window: Window, parts: frozenset[PartName] = PARTS) -> Summary:
        one = self.one
        window = Window(floor(window.start, one.feed.base), window.end)
        return self.reader.window(one.model, one.feed.base, window, parts)[()]


def looked_of(rule: Rule) -> Millis:
    """How far back a rule's busiest window is looked for."""
    return LABELS_LOOKED if rule.label_based else LOOKED


def _rows(summary: Summary) -> int:
    return summary.rows


def _labelled(summary: Summary) -> int:
    return summary.labels.rows if summary.labels else 0
