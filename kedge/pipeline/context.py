"""What the use-cases work with: the ports, the settings, and what is known of each model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kedge.alerting.loading import RuleBook
from kedge.analysis.catalogue import declare
from kedge.clock import Clock, system_clock
from kedge.config import ModelSettings, Settings
from kedge.notify.receivers import Receivers
from kedge.pipeline.dirty import Feed
from kedge.pipeline.memory import FeedMemory, MetricMemory
from kedge.pipeline.novelty import ValueMemory
from kedge.pipeline.reader import Ask, SummaryReader
from kedge.pipeline.receiver_file import ReceiverSource
from kedge.pipeline.recount import recount
from kedge.pipeline.tiers import tier_floors
from kedge.store.base import DocumentStore, Grouping, Json, PartRow, Store, Stored


@dataclass
class Pipeline:
    """One worker's view of the system. It holds no state that another worker, or a restart, would miss."""

    store: Store
    settings: Settings
    rules: Callable[[], RuleBook]
    """The rules in force; read once a tick."""
    receivers: Receivers
    """Who is told, as read last: ask `current_receivers`."""
    holder: str
    """Names this worker in leases."""
    sole_writer: bool = False
    """No other process has the store open (the embedded mode): summaries that were read before need not be
    read again, and a lease of another holder is a dead one's.
    """
    wall: Clock = system_clock
    """The machine's clock, in a rehearsal too: leases and back-off of deliveries are about real requests."""
    receiver_source: ReceiverSource | None = None
    """Where receivers are read from; None: they stay as they are."""
    reader: SummaryReader = field(init=False)
    metrics: MetricMemory = field(default_factory=MetricMemory)
    feeds: FeedMemory = field(default_factory=FeedMemory)
    values: ValueMemory = field(default_factory=ValueMemory)
    broken_files: Mapping[str, frozenset[str]] | None = None
    """By rule of broken.py, the files that are known to have their alert; None: nothing is known yet."""
    ticked: Json | None = None
    """What the last tick of this process left to be told of (ticked.py)."""

    def __post_init__(self) -> None:
        declare(one.info for one in self.settings.own_metrics().metrics.values())
        self.reader = SummaryReader(self.store, self._count, keep=self.sole_writer)

    def current_receivers(self) -> Receivers:
        """Those in force now; a notify.yml that was saved since is read."""
        if self.receiver_source is not None:
            self.receivers = self.receiver_source()
        return self.receivers

    def _count(self, asks: Sequence[Ask]) -> list[list[PartRow]]:
        return recount(self.store, self.settings, asks)

    def reading(self, feed: Feed) -> SummaryReader:
        """For the questions of one tick or one person, as of `feed`: what ticks keep where nobody else can
        have changed it."""
        reader = self.reader if self.sole_writer else SummaryReader(self.store, self._count)
        reader.begin(feed, tier_floors(self.settings, feed.read_at))
        return reader


def settings_of(pipe: Pipeline, model: str) -> ModelSettings:
    """A model's settings: `kedge.yml`, else what was declared at import (`--positive`), else the defaults."""
    return settings_with(pipe.settings, model, pipe.store.state.get(f"model:{model}"))


def settings_with(settings: Settings, model: str, stored: Stored | None) -> ModelSettings:
    """The same with the model's document at hand."""
    own = settings.of_model(model)
    if own.positive_class is None and stored is not None:
        own = own.model_copy(update={"positive_class": stored.value.get("positive_class")})
    return own


def declare_positive(state: DocumentStore, model: str, positive_class: str) -> None:
    """Record a model's positive class where `kedge.yml` does not declare one."""
    while True:
        stored = state.get(f"model:{model}")
        value = dict(stored.value) if stored else {}
        if value.get("positive_class") == positive_class:
            return
        value["positive_class"] = positive_class
        if state.swap(f"model:{model}", value, stored.token if stored else None):
            return


def groupings_of(pipe: Pipeline, book: RuleBook, model: str) -> tuple[Grouping, ...]:
    """The total, the groupings that the model lists, and those that its rules need."""
    return groupings_with(settings_of(pipe, model), book, model)


def groupings_with(settings: ModelSettings, book: RuleBook, model: str) -> tuple[Grouping, ...]:
    """The same with the model's settings at hand."""
    wanted: set[Grouping] = {()}
    wanted |= set(settings.groups)
    wanted |= {rule.grouping for rule in book.of_model(model)}
    return tuple(sorted(wanted))
