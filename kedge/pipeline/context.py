"""What the use-cases work with: the ports, the settings, and what is known of each model."""

from collections.abc import Callable
from dataclasses import dataclass, field

from kedge.alerting.loading import RuleBook
from kedge.clock import Clock, system_clock
from kedge.config import ModelSettings, Settings
from kedge.notify.receivers import Receivers
from kedge.pipeline.measure import MetricMemory
from kedge.pipeline.summaries import SummaryReader
from kedge.store.base import DocumentStore, Grouping, Store


@dataclass
class Pipeline:
    """One worker's view of the system. It holds no state that another worker, or a restart, would miss."""

    store: Store
    settings: Settings
    rules: Callable[[], RuleBook]
    """The rules in force; read once a tick."""
    receivers: Receivers
    holder: str
    """Names this worker in leases."""
    sole_writer: bool = False
    """No other process has the store open (the embedded mode): summaries that were read before need not be
    read again, and a lease of another holder is a dead one's.
    """
    wall: Clock = system_clock
    """The machine's clock, in a rehearsal too: leases and back-off of deliveries are about real requests."""
    reader: SummaryReader = field(init=False)
    metrics: MetricMemory = field(default_factory=MetricMemory)

    def __post_init__(self) -> None:
        self.reader = SummaryReader(self.store, keep=self.sole_writer)

    def reading(self) -> SummaryReader:
        """For one question: what ticks keep, where nobody else can have changed it, else nothing yet."""
        return self.reader if self.sole_writer else SummaryReader(self.store)


def settings_of(pipe: Pipeline, model: str) -> ModelSettings:
    """A model's settings: `kedge.yml`, else what was declared at import (`--positive`), else the defaults."""
    settings = pipe.settings.of_model(model)
    if settings.positive_class is None and (stored := pipe.store.state.get(f"model:{model}")):
        settings = settings.model_copy(update={"positive_class": stored.value.get("positive_class")})
    return settings


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
    wanted: set[Grouping] = {()}
    wanted |= set(settings_of(pipe, model).groups)
    wanted |= {rule.grouping for rule in book.of_model(model)}
    return tuple(sorted(wanted))
