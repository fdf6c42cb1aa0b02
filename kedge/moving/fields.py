"""Their fields and labels by kedge's names. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kedge.analysis.catalogue import METRICS
from kedge.errors import BadInput
from kedge.moving.report import Fields, NotPossible

MODEL = "model"
"""What splits by model: every rule is judged for each of its models by itself."""
LATENCY = "latency_ms"
_ALIKE = {
    "model.version": "version",
    "model_version": "version",
    "version": "version",
    "service.name": "service",
    "service": "service",
    "host.name": "host",
    "host": "host",
    "model.name": MODEL,
    "model_name": MODEL,
    "model": MODEL,
}
_KNOWN = {
    *("model.name", "model.version", "service.name", "host.name", "error.type", "event.outcome", LATENCY),
    *("prediction.class", "prediction.probability", "prediction.value", "prediction.entropy"),
}
_OPEN = ("segment.", "features.cat.", "features.num.", "business.", "resource.")
_LATER = ("label.", "outcome.")
"""What comes after a row was counted, so that no filter can ask for it."""
_POSTFIXES = (".keyword", ".raw")


def is_dimension(name: str) -> bool:
    return name in ("version", "service", "host", MODEL) or (
        name.startswith("segment.") and len(name) > len("segment.")
    )


@dataclass(frozen=True)
class Vocabulary:
    """What `--map THEIRS=OURS` says, and what needs no saying."""

    given: Mapping[str, str] = field(default_factory=dict)

    def known(self, name: str) -> str:
        """Their name, or what it was mapped to, without the part that Elasticsearch adds for keywords."""
        for postfix in ("", *_POSTFIXES):
            if postfix and not name.endswith(postfix):
                continue
            bare = name.removesuffix(postfix)
            if bare in self.given:
                return self.given[bare]
        for postfix in _POSTFIXES:
            name = name.removesuffix(postfix)
        return name

    def dimension(self, name: str) -> str:
        """`segment.country`, `version`, or `model`; raises NotPossible for what splits nothing here."""
        found = self.known(name)
        found = _ALIKE.get(found, found)
        if not is_dimension(found):
            raise NotPossible(
                f"{name} is no dimension of kedge's: it splits by version, service, host and segment.NAME",
                f"log it as a segment, and say `--map {name}=segment.{name.rpartition('.')[2]}`",
            )
        return found

    def field(self, name: str, *, later: bool = False) -> str:
        """A field of kedge's own rows, with `later` of their labels too; raises NotPossible for one that they
        do not have."""
        found = self.known(name)
        if found in _KNOWN or found.startswith(_OPEN) or (later and found.startswith(_LATER)):
            return found
        if found.startswith(_LATER):
            raise NotPossible(
                f"{found} comes after a row was counted, so no rows are told apart by it",
                "the metrics performance.* have the labels",
            )
        raise NotPossible(
            f"rows of kedge have no field {name}",
            f"say which one it is: `--map {name}=segment.NAME` (or business.NAME, error.type, latency_ms, …)",
        )


@dataclass(frozen=True)
class Options:
    """What the person who imports says."""

    model: str = "*"
    names: Vocabulary = field(default_factory=Vocabulary)

    @property
    def defaults(self) -> Fields:
        return {"model": self.model}


def parse_vocabulary(pairs: Iterable[str]) -> Vocabulary:
    """From `theirs=ours`; raises BadInput. The last `=` divides, for selectors have some of their own."""
    given = {}
    for pair in pairs:
        theirs, found, ours = pair.rpartition("=")
        ours = ours.strip()
        known = ours in _KNOWN or ours in METRICS or ours == "latency" or is_dimension(ours)
        known = known or (ours.startswith(_OPEN) and not ours.endswith("."))
        if not (found and theirs.strip() and known):
            raise BadInput(
                f'"{pair}": write THEIRS=OURS, where OURS is a metric (latency, errors.rate), a dimension '
                "(segment.country, version, service, host) or a field (error.type, business.cost)"
            )
        given[theirs.strip()] = ours
    return Vocabulary(given)
