"""The stage of one test: made rows, and a pipeline whose clock is the test's."""

import base64
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from kedge.alerting.loading import RuleBook
from kedge.config import Settings
from kedge.errors import BadInput
from kedge.notify.receivers import Receivers
from kedge.pipeline.baselines import Baseline, import_baseline
from kedge.pipeline.context import Pipeline
from kedge.pipeline.dirty import Feed, ModelFeed
from kedge.pipeline.feed import FEED
from kedge.pipeline.reader import SummaryReader
from kedge.pipeline.summaries import roll_up
from kedge.pipeline.summarise import SEPARATOR
from kedge.rehearsal.cases import Case, Given
from kedge.rehearsal.rows import (
    REFERENCE_ROWS,
    Fact,
    Rows,
    edges_of,
    merged,
    reference_of,
    share_of,
    summary_of,
    verify,
)
from kedge.rehearsal.stage import MadeSummaries, Stage
from kedge.sketch import AnyPart, PartName, Summary, pack
from kedge.store.base import Group, Grouping, PartRow, Store, SummaryKey, digest
from kedge.windows import DAY, TIERS, Millis, Window, tiers_from

_Facts = dict[str, dict[Group, dict[Millis, list[Fact]]]]
"""By model, the labels of the rows, and the start of the interval."""

LAG: Millis = 1_000
"""The shortest that a model can have; what a test calls now is that much later."""


class World:
    """One case, ready to be played: `at` says what time it is."""

    def __init__(self, case: Case, book: RuleBook, receivers: Receivers, model: str) -> None:
        """Raises BadInput where the series contradict each other."""
        self.case, self.book = case, book
        self.now = case.start
        self.base = case.base([rule.window for rule in book.rules])
        facts, self._series = self._facts(model)
        self._groupings = {
            name: tuple(sorted({(), *(rule.grouping for rule in book.of_model(name))})) for name in facts
        }
        rows: list[PartRow] = []
        self._features = {
            name: tuple(
                sorted({f.label for f in self._all(name, facts, case, model) if f.label and _drifts(f)})
            )
            for name in facts
        }
        self._spans: dict[str, Window] = {}
        for name, groups in facts.items():
            made = self._made(name, groups)
            rows += made
            starts = [row.key.bucket for row in made if row.key.tier == self.base]
            if starts:
                self._spans[name] = Window(min(starts), max(starts) + self.base)
        self.stage = Stage(MadeSummaries(rows))
        self._import_baselines(facts, model)
        positive = case.positive or next(
            (s.label for s in case.series if s.name.startswith("performance.") and s.label), None
        )
        settings = Settings.model_validate(
            {
                "store": "duckdb::memory:",
                "models": {
                    name: {
                        "lag": f"{LAG}ms",
                        "bucket": next(w for w, tier in TIERS.items() if tier == self.base),
                        "positive_class": positive or "positive",
                        "labels": {"mature_after": "1ms"},
                    }
                    for name in facts
                },
            }
        )
        # All that judging asks of a store is on the stage; what else a Store can do shows there as a fault.
        store = cast(Store, self.stage)
        self.pipe = Pipeline(
            store, settings, lambda: book, receivers, "rehearsal", sole_writer=True, wall=lambda: self.now
        )
        self.pipe.reader = SummaryReader(store, keep=True)
        self._mark = 0

    def at(self, now: Millis) -> None:
        """It is this time: every bucket that ended by then is summarised."""
        self.now = now
        models = {
            name: ModelFeed(
                self.base,
                span.start,
                min(span.end, now) - self.base,
                computed=SEPARATOR.join(["+".join(g) for g in self._groupings[name]] + [self._hash(name)]),
            )
            for name, span in self._spans.items()
            if span.start < now
        }
        self._mark += 1
        feed = Feed({}, now + LAG, 1, self._mark, models)
        stored = self.stage.state.get(FEED)
        self.stage.state.swap(FEED, feed.encode(), stored.token if stored else None)

    # --- rows -----------------------------------------------------------------------------------------------

    def _facts(self, model: str) -> tuple[_Facts, list[Given]]:
        found: _Facts = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
        case = self.case
        for series in case.series:
            of_group = found[series.model or model][series.group]
            for i, fact in enumerate(series.facts()):
                if fact is not None:
                    of_group[case.start + series.from_ + i * case.interval].append(fact)
        return found, list(case.series)

    @staticmethod
    def _all(name: str, facts: _Facts, case: Case, model: str) -> Iterable[Fact]:
        for intervals in facts[name].values():
            for held in intervals.values():
                yield from held
        for given in case.baseline:
            if (given.model or model) == name:
                yield given.reference()

    def _made(self, model: str, groups: Mapping[Group, Mapping[Millis, Sequence[Fact]]]) -> list[PartRow]:
        """The parts of every bucket and grouping, and of the coarser tiers."""
        base, parts = self.base, self.case.interval // self.base
        features, edges = self._features[model], self._hash(model)
        known: dict[tuple[tuple[Fact, ...], int], dict[PartName, AnyPart]] = {}
        buckets: dict[Millis, dict[Group, dict[PartName, AnyPart]]] = defaultdict(dict)
        for group, intervals in groups.items():
            for start, held in intervals.items():
                facts = tuple(held)
                for part in range(parts):
                    if (facts, part) not in known:
                        rows = Rows(facts, features, self.case.positive)
                        if not part:
                            verify(rows)
                        known[facts, part] = rows.parts(share_of(part, parts))
                    if known[facts, part]:
                        buckets[start + part * base][group] = known[facts, part]
        made = [
            PartRow(
                SummaryKey(model, group, base, bucket, part, edges if part is PartName.CELLS else ""), 1, held
            )
            for bucket, rows_of in sorted(buckets.items())
            for grouping in self._groupings[model]
            for group, found in _grouped(rows_of, grouping).items()
            for part, held in found.items()
        ]
        every, finer = list(made), made
        for tier in tiers_from(base)[1:]:
            finer = roll_up(finer, tier)
            every += finer
        return every

    def _hash(self, model: str) -> str:
        features = self._features[model]
        return edges_of(features).hash if features else ""

    # --- baselines ------------------------------------------------------------------------------------------

    def _import_baselines(self, facts: _Facts, model: str) -> None:
        for name in facts:
            given: dict[Group, list[Fact]] = defaultdict(list)
            for reference in self.case.baseline:
                if (reference.model or model) == name:
                    given[reference.group].append(reference.reference())
            features = self._features[name]
            if not given and not features:
                continue
            rows = {g: Rows(tuple(held), features, self.case.positive) for g, held in given.items()}
            for one in rows.values():
                verify(one)
            parts = {group: one.parts() for group, one in rows.items()}
            summaries: dict[Group, Summary] = {}
            for grouping in self._groupings[name]:
                for group, found in _grouped(parts, grouping).items():
                    summaries[group] = summary_of(found)
            if not given:
                reference_rows = reference_of(features, REFERENCE_ROWS)
                every = set(self._groups_of(facts[name], name))
                summaries = {group: reference_rows for group in every if reference_rows is not None}
            window = Window(self.case.start - 60 * DAY, self.case.start - 30 * DAY)
            edges = edges_of(features)
            packed = [
                base64.b64encode(pack(part)).decode()
                for _, summary in sorted(summaries.items())
                for part in (summary.core, summary.cells, summary.labels)
                if part is not None
            ]
            identity = digest("rehearsal", name, edges.hash, *packed, *map(str, sorted(summaries)))[:16]
            baseline = Baseline(
                identity, name, self.case.start, "the test's baseline", window, edges, summaries
            )
            import_baseline(self.stage.state, baseline, use=True)

    def _groups_of(self, groups: Iterable[Group], model: str) -> Iterable[Group]:
        parts: dict[Group, dict[PartName, AnyPart]] = {group: {} for group in groups}
        for grouping in self._groupings[model]:
            yield from _grouped(parts, grouping)
        yield ()


def _drifts(fact: Fact) -> bool:
    return fact.metric.startswith("drift.")


def _grouped(
    rows: Mapping[Group, Mapping[PartName, AnyPart]], grouping: Grouping
) -> dict[Group, dict[PartName, AnyPart]]:
    """The parts by the values of a grouping's dimensions; rows without one of them are in no group."""
    by_group: dict[Group, list[Mapping[PartName, AnyPart]]] = defaultdict(list)
    for labels, parts in rows.items():
        held = dict(labels)
        if all(name in held for name in grouping):
            by_group[tuple((name, held[name]) for name in grouping)].append(parts)
    return {group: merged(parts) for group, parts in by_group.items()}


def model_of(case: Case, book: RuleBook) -> str:
    """Whose rows a series' are that does not say: the case's model, else the one that the rules name."""
    if case.model is not None:
        return case.model
    named = sorted({rule.model for rule in book.rules if rule.model != "*"})
    if len(named) > 1:
        raise BadInput(
            f"say whose rows they are: the rules are of {' and '.join(named)} (`model: {named[0]}`)"
        )
    return named[0] if named else "model"
