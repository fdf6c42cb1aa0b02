"""What is read of a store so that rules can be told what to expect of it (prospects.py). Plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kedge.alerting.finding import Finding, State
from kedge.windows import MINUTE, Millis, Window

JUDGED = frozenset({State.BREACH, State.HOLD, State.OK})


class Prospect(NamedTuple):
    """Something that a rule will do, or not, and that somebody should know before it is in force."""

    rule: str
    field: str
    """The field of the rule that it is about, as people write it."""
    text: str
    file: str = ""
    """Where the rule was written, where that is no rule of the book any more."""


@dataclass(frozen=True)
class KnownModel:
    """What is known of a model that has logged."""

    name: str
    first: Millis = 0
    """Start of the oldest base bucket with rows."""
    last: Millis = 0
    """End of the newest one."""
    base: Millis = MINUTE
    """Its width."""
    features: frozenset[str] = frozenset()
    attributions: frozenset[str] = frozenset()
    """Features that rows carry attributions of."""
    measured: frozenset[str] = frozenset()
    """`business.cost`, `resource.cpu_ms`."""
    classes: frozenset[str] = frozenset()
    """Predicted or true; empty where nobody asked, or there are none."""
    dimensions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By dimension that rules, or groups, name: the values that rows have; none where no row has it."""
    others: frozenset[str] = frozenset()
    """More dimensions that rows have, as far as is known."""
    baseline: str = ""
    """For people; empty: there is none."""
    referred: frozenset[tuple[str, ...]] = frozenset()
    """The groupings that the baseline has."""
    auto: bool = False
    """It will get a baseline by itself."""


class Past(NamedTuple):
    """What a rule reads of a model, as far back as it goes."""

    since: Millis
    """The earliest time that it reads."""
    lacks: tuple[str, ...] = ()
    """What summaries do not hold yet, in words."""
    due: int = 0
    """Base buckets of that time that are still to be summarised for the rules in force."""
    gone: Millis = 0
    """Logs before this are dropped, so that nothing is summarised of them any more; 0: none are."""


class Look(NamedTuple):
    """What a rule found of a model where it was tried."""

    window: Window
    findings: tuple[Finding, ...]
    """Of each group."""
    among: Millis = 0
    """It is the window with the most rows (of a rule on labels: labelled rows) in a time this long; 0: the
    newest."""
    whole: bool = False
    """Tried on all rows together, of which the rule's groups are parts."""


class Tried(NamedTuple):
    """A rule on a model."""

    rule: str
    model: str
    past: Past
    looks: tuple[Look, ...] = ()
    """Empty: it cannot be tried."""


class Ended(NamedTuple):
    """Alerts that the next tick will end, of one rule and model, for one reason."""

    rule: str
    model: str
    place: str
    """Where their rule was written: `rules/fraud.yml:12`."""
    reason: str
    firing: int
    silent: int = 0
    """Those without data."""
    successor: str = ""
    """The rule that judges the same from then on."""


@dataclass(frozen=True)
class Facts:
    """What was read of a store."""

    models: Mapping[str, KnownModel] = field(default_factory=dict)
    logged: frozenset[str] = frozenset()
    """All that have logged, those too that nothing was read of."""
    waiting: frozenset[str] = frozenset()
    """Models that have logged, of which nothing is summarised yet."""
    tried: tuple[Tried, ...] = ()
    ended: tuple[Ended, ...] = ()
