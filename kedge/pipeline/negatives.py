"""Absence as negative (`labels: {negative_after: 45d}`), where the age of rows is known: rules and series.

Summaries in the store hold labels that came, whatever the time is. Whoever reads a window adds the rows that
are old enough by then: the analysis has no clock.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from kedge.analysis import maturity
from kedge.analysis.absence import with_absent
from kedge.analysis.maturity import COVERAGE, BucketLabels
from kedge.analysis.measure import Context
from kedge.config import LabelSettings, ModelSettings
from kedge.pipeline.baselines import Baseline
from kedge.pipeline.dirty import label_tier
from kedge.sketch import Core, Labels, PartName, Summary
from kedge.store.base import Group
from kedge.windows import Millis, Window, floor

PARTS = frozenset({PartName.CORE, PartName.LABELS})
"""What must be read of the old part of a window."""


@dataclass(frozen=True)
class Negatives:
    """Of one model, as of some time."""

    after: Millis
    before: Millis
    """Rows predicted before this are old enough: a bound of the tier that labels are summarised at."""
    positive: str | None

    @classmethod
    def of(cls, settings: ModelSettings, base: Millis, now: Millis) -> "Negatives | None":
        """None where absence means nothing."""
        after = settings.labels.negative_after
        if after is None:
            return None
        return cls(after, floor(now - after, label_tier(base)), settings.positive_class)

    def counted(
        self,
        window: Window,
        groups: Mapping[Group, Summary],
        reference: Callable[[Group], Summary | None],
        read: Callable[[Window], Mapping[Group, Summary]],
    ) -> dict[Group, Summary]:
        """The groups of a window with the rows that count as negative by now; `read` gives a part of the
        window, and is asked only where the age is reached in the midst of it."""
        end = min(window.end, self.before)
        if end <= window.start:
            return dict(groups)
        old = groups if end == window.end else read(Window(window.start, end))
        return {
            group: with_absent(summary, old[group], self.positive, reference(group))
            if group in old
            else summary
            for group, summary in groups.items()
        }

    def context(self, context: Context, baseline: Baseline | None) -> Context:
        """The same context for summaries that are `counted`."""
        reference = self.reference(baseline, context.reference)
        return replace(context, reference=reference, negative_after=self.after)

    def reference(self, baseline: Baseline | None, summary: Summary | None) -> Summary | None:
        """A group's summary of a baseline, with its negatives where all its rows were old enough when it was
        made. Else its labels are not computed, unless nearly all rows have one: positives alone are no
        reference."""
        if baseline is None or summary is None or summary.core is None or summary.labels is None:
            return summary
        if baseline.created - baseline.window.end >= self.after:
            return with_absent(summary, summary, self.positive, None)
        if _labelled(summary.core, summary.labels):
            return summary
        return Summary(summary.core, summary.cells, None)


def _labelled(core: Core, labels: Labels) -> bool:
    return sum(labels.confusion.values()) >= COVERAGE * sum(core.classes.values())


def mature_through(settings: LabelSettings, buckets: Sequence[BucketLabels], now: Millis) -> Millis:
    """`maturity.mature_through` as a model's settings have it.

    Where absence counts as negative, a cohort is mature at that age, or once nearly all its rows have a
    label. That all labels have come which ever will says nothing: until the age is reached, the others count
    for nothing, and what is left are the positives.
    """
    if settings.negative_after is not None:
        return maturity.mature_through(buckets, now, after=settings.negative_after, by_delay=False)
    return maturity.mature_through(buckets, now, expected=settings.expected, after=settings.mature_after)
