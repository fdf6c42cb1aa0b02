"""Inhibition: while one alert fires, others that follow from it are not told. Pure, and Alertmanager's
meaning.

A target is muted while a source fires that has the same values of all labels in `equal`; a label that both
lack is equal too. An alert that matches both sides is not muted by one that does as well, so that it cannot
mute itself. A source mutes even while it is itself silenced or muted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kedge.alerting.matchers import Labels, Match, matches


@dataclass(frozen=True)
class Inhibition:
    source: Match
    target: Match
    equal: tuple[str, ...] = ()


@dataclass
class Inhibitor:
    """The inhibitions over the alerts that fire at one time, ready to be asked of many alerts."""

    inhibitions: Sequence[Inhibition]
    firing: Mapping[str, Labels]
    """By alert: the labels of each that fires."""
    _sources: dict[int, dict[tuple[str, ...], list[str]]] = field(default_factory=dict, init=False)
    """By inhibition and the values of `equal`: the alerts that are sources."""

    def __post_init__(self) -> None:
        for i, one in enumerate(self.inhibitions):
            held = self._sources.setdefault(i, {})
            for alert, labels in sorted(self.firing.items()):
                if matches(one.source, labels):
                    held.setdefault(_key(one.equal, labels), []).append(alert)

    def reason(self, alert: str, labels: Labels) -> str:
        """Why an alert is inhibited; empty where it is not."""
        for i, one in enumerate(self.inhibitions):
            if not matches(one.target, labels):
                continue
            both = matches(one.source, labels)
            for source in self._sources[i].get(_key(one.equal, labels), ()):
                if source == alert or (both and matches(one.target, self.firing[source])):
                    continue
                return f"inhibited by {_name(self.firing[source])}"
        return ""


def _key(equal: Iterable[str], labels: Labels) -> tuple[str, ...]:
    return tuple(labels.get(name, "") for name in equal)


def _name(labels: Labels) -> str:
    return f"{labels.get('rule', '')} on {labels.get('model', '')}"
