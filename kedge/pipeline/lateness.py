"""How late the labels of the windows come, for those who ask: what `kedge.analysis.lateness` is given."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from kedge.analysis import build
from kedge.analysis.lateness import coverage_by_age, delay_p50, maturity
from kedge.analysis.maturity import BucketLabels
from kedge.analysis.metric import Metric
from kedge.pipeline.dirty import ModelFeed, label_tier
from kedge.pipeline.reader import SummaryReader
from kedge.sketch import Core, Labels, PartName, Summary
from kedge.store.base import Group, Grouping
from kedge.windows import DAY, HOUR, Millis, Window, format_duration, tile

COHORTS = 8
"""A window that is as many times its width old is one cohort: its rows are nearly of one age."""
Cohorts = dict[Group, list[BucketLabels]]


@dataclass(frozen=True)
class Lateness:
    """Of one model, as of `now`."""

    reader: SummaryReader
    model: str
    known: ModelFeed
    now: Millis
    mature: Millis
    """The end of the newest mature bucket."""
    expected: float
    names: frozenset[str]
    """The metrics asked for; empty: all."""

    def metrics(
        self, window: Window, groups: Iterable[tuple[Group, Summary]], grouping: Grouping | None
    ) -> dict[Group, list[Metric]]:
        """By group. `grouping` None: it is not summarised, so that a window is not told apart into
        buckets."""
        held = list(groups)
        cohorts: Cohorts | None = None
        found: dict[Group, list[Metric]] = {}
        for group, summary in held:
            core, labels = summary.core or Core(), summary.labels or Labels()
            metrics: list[Metric] = []
            if self._asked("label.coverage"):
                metrics += coverage_by_age(core, labels, window, self.now)
            if self._asked("label.delay_p50") or self._asked("label.maturity"):
                if cohorts is None:
                    cohorts = self._cohorts(window, grouping)
                whole = BucketLabels(window.start, window.end, core.rows, labels.rows, labels.delay)
                mine = cohorts.get(group) or [whole]
                metrics += [self._delay(mine, window), maturity(mine, self.mature)]
            found[group] = [m for m in metrics if self._asked(m.name)]
        return found

    def _delay(self, cohorts: list[BucketLabels], window: Window) -> Metric:
        """Of one cohort whose rows are of quite different ages the estimate would be wrong: then none."""
        name, labelled = "label.delay_p50", cohorts[0].labelled
        if len(cohorts) == 1 and labelled and self.now - window.end < window.length:
            return build.absent(
                name, f"told once the window is {format_duration(window.length)} old", n=labelled
            )
        return delay_p50(cohorts, self.now, self.expected)

    def _asked(self, name: str) -> bool:
        return not self.names or name in self.names

    def _cohorts(self, window: Window, grouping: Grouping | None) -> Cohorts:
        """The rows of a window bucket by bucket; nothing where one cohort says as much."""
        fine = label_tier(self.known.base)
        old = self.now - window.end >= COHORTS * window.length
        cut = window.start < self.mature < window.end
        if grouping is None or window.length <= fine or (old and not cut):
            return {}
        lacking: list[Callable[[Millis, Millis], bool]] = [
            self.known.missing(part) for part in (PartName.CORE, PartName.LABELS)
        ]

        def unmade(tier: Millis, bucket: Millis) -> bool:
            return any(lacks(tier, bucket) for lacks in lacking)

        coarsest = DAY if window.length >= COHORTS * DAY else max(fine, HOUR)
        found: Cohorts = {}
        for span in tile(window, self.known.base, unmade, coarsest):
            bounds = Window(span.start, span.end)
            for group, cohort in self._buckets(span.tier, bounds, grouping):
                found.setdefault(group, []).append(cohort)
        return found

    def _buckets(
        self, tier: Millis, bounds: Window, grouping: Grouping
    ) -> Iterator[tuple[Group, BucketLabels]]:
        cores = self.reader.parts(self.model, tier, bounds, PartName.CORE, grouping=grouping)
        labels = self.reader.parts(self.model, tier, bounds, PartName.LABELS, grouping=grouping)
        for bucket, groups in sorted(cores.items()):
            for group, core in groups.items():
                held = labels.get(bucket, {}).get(group, Labels())
                if isinstance(core, Core) and isinstance(held, Labels):
                    yield group, BucketLabels(bucket, bucket + tier, core.rows, held.rows, held.delay)
