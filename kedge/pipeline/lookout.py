"""What is read of a store to tell what rules may expect of it (alerting/prospects.py).

Each rule is tried on its model: at the newest step, and where nothing can be judged there, in the window
with the most rows. Trying is judging, as a tick does it, of which nothing is kept. What is asked of the store
grows with models and lengths of windows, not with rules; of a rule on every model, so many are tried as it
takes to find one that it can judge, and no more than MOST_MODELS.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from kedge.alerting.composite import CompositeRule
from kedge.alerting.facts import Facts, KnownModel, Look, Past, Prospect, Tried
from kedge.alerting.loading import RuleBook
from kedge.alerting.new_value import NewValueRule
from kedge.alerting.prospects import EVERY, is_judged, needs_baseline, prospects
from kedge.alerting.rule import ALL_VERSIONS, Rule
from kedge.alerting.unseen import asked_dimensions
from kedge.alerting.versions import VersionsRule
from kedge.analysis.scores import known_classes
from kedge.pipeline.arrived import arrivals_of
from kedge.pipeline.busiest import LOOKED, Busiest, looked_of
from kedge.pipeline.context import Pipeline
from kedge.pipeline.dirty import Feed, ModelFeed, label_tier
from kedge.pipeline.feed import load_feed
from kedge.pipeline.gone import would_end
from kedge.pipeline.judge import Judged, judge_step
from kedge.pipeline.late import only
from kedge.pipeline.models import ModelState, load_models
from kedge.pipeline.negatives import Negatives
from kedge.pipeline.reader import SummaryReader
from kedge.pipeline.recount import recount
from kedge.pipeline.retention import read_floors
from kedge.pipeline.schema import document_name as schema_of
from kedge.pipeline.summarise import computed_in
from kedge.pipeline.tiers import tier_floors
from kedge.sketch import PartName
from kedge.store.values import ValueQuery
from kedge.windows import MINUTE, Millis, Window, floor

MOST_MODELS = 20
"""Models that rules on every model are tried on at most: those that logged last."""
_SOMETIME: Millis = 15 * MINUTE
_NEWEST = 50
"""Rows that are looked at for the names of dimensions."""


def foreseen(pipe: Pipeline, book: RuleBook, files: Collection[str] | None = None) -> list[Prospect]:
    """What rules may expect before they are in force, by what is stored; `files` as in `read_facts`."""
    return prospects(book.rules, read_facts(pipe, book, files))


def read_facts(pipe: Pipeline, book: RuleBook, files: Collection[str] | None = None) -> Facts:
    """What there is to know of a store before the rules of `book` are in force on it.

    `files`: the book is of these files alone, so nothing is known of what others hold; None: it is all there
    is. Nothing is kept of what rules find.
    """
    feed = load_feed(pipe.store.state, pipe.feeds)
    named = {rule.model for rule in book.rules if rule.model != EVERY}
    every = any(rule.model == EVERY and not isinstance(rule, CompositeRule) for rule in book.rules)
    newest = sorted(feed.models, key=lambda name: (-feed.models[name].last, name))
    chosen = [name for name in newest if name in named]
    chosen += [name for name in newest if name not in named][:MOST_MODELS] if every else []
    states = load_models(pipe, chosen)
    reader = SummaryReader(pipe.store, partial(recount, pipe.store, pipe.settings))
    reader.begin(feed, tier_floors(pipe.settings, feed.read_at))
    dropped = read_floors(pipe.store.state).predictions
    done: set[str] = set()
    models: dict[str, KnownModel] = {}
    tried: list[Tried] = []
    for name in chosen:
        rules = [rule for rule in book.of_model(name) if not isinstance(rule, CompositeRule)]
        one = _OfModel(pipe, reader, feed, name, states[name], rules, dropped)
        models[name] = one.known
        for found in one.tried([rule for rule in rules if rule.name not in done]):
            tried.append(found)
            if any(map(is_judged, found.looks)):
                done.add(found.rule)
    unknown = sorted(named - feed.models.keys())
    logged = pipe.store.state.get_many([schema_of(name) for name in unknown]) if unknown else {}
    return Facts(
        models=models,
        logged=frozenset(feed.models),
        waiting=frozenset(name for name in unknown if schema_of(name) in logged),
        tried=tuple(tried),
        ended=tuple(would_end(pipe, book, feed.models.keys(), files)),
    )


@dataclass
class _OfModel:
    """One model, and the rules that watch it."""

    pipe: Pipeline
    reader: SummaryReader
    feed: Feed
    name: str
    state: ModelState
    rules: Sequence[Rule]
    dropped: Millis
    _active: dict[str, Millis | None] = field(default_factory=dict)
    """By hours and windows: the newest step that rules are judged at."""

    @property
    def model(self) -> ModelFeed:
        return self.feed.models[self.name]

    @cached_property
    def end(self) -> Millis:
        """Up to where rows are complete, and not after the newest ones."""
        base = self.model.base
        complete = floor(self.feed.read_at - self.state.settings.lag, base)
        return max(min(complete, self.model.last + base), self.model.first + base)

    @cached_property
    def busiest(self) -> Busiest:
        return Busiest(self.reader, self._judged(self.rules[0]), self.end)

    # --- what is known ------------------------------------------------------------------------------------

    @cached_property
    def known(self) -> KnownModel:
        features, baseline = self.state.features, self.state.baseline
        named = {*features.numeric, *features.categorical, *features.invalid}
        dimensions = self._dimensions()
        return KnownModel(
            name=self.name,
            first=self.model.first,
            last=self.model.last + self.model.base,
            base=self.model.base,
            features=frozenset(named | set(baseline.edges.features if baseline else ())),
            attributions=frozenset(features.attributions),
            measured=frozenset(features.measured),
            classes=self._classes(),
            dimensions=dimensions,
            others=self._others() if not all(dimensions.values()) else frozenset(),
            baseline=baseline.title if baseline else "",
            referred=frozenset(tuple(n for n, _ in g) for g in baseline.summaries)
            if baseline
            else frozenset(),
            auto=self.state.settings.baseline == "auto",
        )

    def _classes(self) -> frozenset[str]:
        if not any(getattr(rule, "cls", None) for rule in self.rules):
            return frozenset()
        held = [summary for _, summary in self.busiest.days]
        if self.state.baseline is not None:
            held.append(self.state.baseline.summaries[()])
        return frozenset(known_classes(held))

    def _dimensions(self) -> dict[str, frozenset[str]]:
        """Asked of the logs only where nothing is summarised by one: once for all rules."""
        found = {name: frozenset(values) for name, values in self.state.values.items()}
        wanted = frozenset().union(*map(asked_dimensions, self.rules)) if self.rules else frozenset()
        for name in sorted(wanted - found.keys()):
            values = self.pipe.store.values(ValueQuery(self.name, self._lately, name))
            found[name] = frozenset(value.value for value in values)
        return found

    def _others(self) -> frozenset[str]:
        """Dimensions of the newest rows."""
        rows = self.pipe.store.examples(self.name, self._lately, _NEWEST)
        return frozenset(f"segment.{name}" for row in rows for name in row.get("segment", {}))

    @property
    def _lately(self) -> Window:
        last = self.model.last + self.model.base
        return Window(max(last - LOOKED, self.model.first), last)

    # --- what rules find ----------------------------------------------------------------------------------

    def tried(self, rules: Sequence[Rule]) -> Iterator[Tried]:
        """Each of these rules; what all of them read is read at once."""
        held = [self._judged(rule) for rule in rules]
        able = [one for one in held if self._can_be_tried(one)]
        newest = [(one, step) for one in able if (step := self._newest(one)) is not None]
        looks: dict[str, list[Look]] = defaultdict(list)
        self._look(newest, looks)
        left = [one for one in able if not any(map(is_judged, looks[one.rule.name]))]
        busy = [(one, step) for one in left if (step := self.busiest.step(one.rule)) is not None]
        self._look(busy, looks, busiest=True)
        for one in held:
            yield Tried(one.rule.name, self.name, self._past(one), tuple(looks[one.rule.name]))

    def _judged(self, rule: Rule) -> Judged:
        negatives = None
        if rule.label_based:
            negatives = Negatives.of(self.state.settings, self.model.base, self.feed.read_at)
        return Judged(rule, self.name, self.model, self.state, self.end, self.end, negatives)

    def _can_be_tried(self, one: Judged) -> bool:
        """New values are asked of the logs, rule by rule, and a candidate may still be to come."""
        rule = one.rule
        if isinstance(rule, NewValueRule | VersionsRule) or rule.window < self.model.base:
            return False
        if needs_baseline(rule) and self.state.baseline is None:
            return False
        compare = rule.other_reference
        return self._summarised(one) or compare is None or compare.version is None

    def _newest(self, one: Judged) -> Millis | None:
        """The newest step at which it is judged; of a model that began lately, so far. Of a rule on labels
        one that is read without counting them in the logs."""
        rule = one.rule
        width = max(one.width, label_tier(self.model.base) if rule.label_based else 0)
        step = floor(self.end, width)
        if step <= self.model.first:
            return self.end if rule.span(self.end) is not None else None
        if rule.active is None:
            return step
        key = f"{rule.active} {rule.timezone} {rule.window} {width}"
        if key not in self._active:
            steps = range(step, max(step - LOOKED, self.model.first), -max(width, _SOMETIME))
            self._active[key] = next((at for at in steps if rule.span(at) is not None), None)
        return self._active[key]

    def _look(
        self, where: Sequence[tuple[Judged, Millis]], looks: dict[str, list[Look]], *, busiest: bool = False
    ) -> None:
        tries = [(one if self._summarised(one) else self._whole(one), step) for one, step in where]
        asks = []
        for one, step in tries:
            until, since = only(one, [step])
            asks += list(until.asks(since))
        self.reader.load(asks)
        if any(one.rule.reads_arrivals for one, _ in tries):
            arrivals = arrivals_of(self.pipe.store.state, self.name)
            tries = [(replace(one, arrivals=arrivals), step) for one, step in tries]
        for (asked, _), (one, step) in zip(where, tries, strict=True):
            window = one.window_of(step)
            findings = tuple(finding for _, _, finding in judge_step(self.reader, one, window, step, {}))
            among = min(looked_of(one.rule), self.end - self.model.first) if busiest else 0
            looks[asked.rule.name].append(Look(window, findings, among, one is not asked))

    def _summarised(self, one: Judged) -> bool:
        return one.rule.grouping in computed_in(self.model.computed).groupings

    def _whole(self, one: Judged) -> Judged:
        """The rule on all rows together: a bound of what its groups can have, before they are summarised."""
        by = tuple(name for name in one.rule.by if name == "feature")
        rule = one.rule.model_copy(update={"by": by, "version": ALL_VERSIONS})
        rule.__dict__.pop("grouping", None)
        return replace(one, rule=rule)

    # --- how far back -------------------------------------------------------------------------------------

    def _past(self, one: Judged) -> Past:
        rule = one.rule
        if rule.window < self.model.base:
            return Past(self.end)
        step = max(floor(self.end, one.width), self.model.first + self.model.base)
        windows = one.windows_of(step)
        since = min(window.start for window in windows)
        if one.past is not None:
            since = min(since, one.past.span(windows[0]).start)
        since = max(since, self.model.first)
        lacks = tuple(self._lacks(one))
        parts = rule.parts & {PartName.CELLS, PartName.CUSTOM} or rule.grouping
        due = sum(since <= bucket < step for bucket in self.model.history) if parts else 0
        return Past(since, lacks, due, self.dropped)

    def _lacks(self, one: Judged) -> Iterator[str]:
        computed, baseline = computed_in(self.model.computed), self.state.baseline
        if not self._summarised(one):
            yield f"groups by {' and '.join(one.rule.grouping)}"
        if (
            PartName.CELLS in one.rule.parts
            and baseline is not None
            and computed.edges != baseline.edges.hash
        ):
            yield f"features on the edges of {baseline.title}"
        if PartName.CUSTOM in one.rule.parts and computed.own != self.state.settings.own.key:
            yield "metrics of your own"
