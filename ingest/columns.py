"""Which column of a file is which field: the flags of `kedge import`, then kedge's own names, the rest are features."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from ingest.wire import LABEL_PLACES, Place, place_of
from kedge.errors import BadInput

_PANDAS_INDEX = re.compile(r"(Unnamed: \d+|__index_level_\d+__)?")
"""What pandas writes for a nameless index. It numbers rows; as a feature it would drift for ever."""


@dataclass(frozen=True)
class ColumnMap:
    """The flags of DESIGN §15's `kedge import`, `kedge labels` and `kedge compare`; each names columns of the file."""

    timestamp: str | None = None
    id: str | None = None
    cls: str | None = None
    probability: str | None = None
    """Holds the predicted class's probability."""
    probabilities: Mapping[str, str] = field(default_factory=dict)
    """By column: the class whose probability it holds."""
    value: str | None = None
    label: str | None = None
    segments: tuple[str, ...] = ()
    features: tuple[str, ...] | None = None
    """Only these are features; None: all columns that are nothing else."""
    positive: str | None = None
    """The positive class: a setting of the model, for the caller to store. No column follows from it."""

    @property
    def flags(self) -> dict[str, tuple[str, Place]]:
        """By column: the flag that named it, and where it goes."""
        plain = {
            "timestamp": self.timestamp,
            "id": self.id,
            "class": self.cls,
            "probability": self.probability,
            "value": self.value,
            "label": self.label,
        }
        named = {column: (f"--{name}", Place(name)) for name, column in plain.items() if column is not None}
        for column, cls in self.probabilities.items():
            named[column] = ("--probabilities", Place("probabilities", cls))
        for column in self.segments:
            named[column] = ("--segment", Place("segment", column.removeprefix("segment.")))
        for column in self.features or ():
            named.setdefault(column, ("--features", Place("features", column.removeprefix("features."))))
        return named

    @classmethod
    def parse_probabilities(cls, texts: Iterable[str]) -> dict[str, str]:
        """`--probabilities COLUMN:CLASS …` as {column: class}; raises BadInput."""
        columns = {}
        for text in texts:
            column, colon, name = text.rpartition(":")
            if not colon or not column or not name:
                raise BadInput(f'"{text}" is not COLUMN:CLASS', "--probabilities")
            columns[column] = name
        return columns


def assign(names: Sequence[str], columns: ColumnMap) -> dict[str, Place]:
    """Where each column of predictions goes; a column that goes nowhere is left out.

    A flag wins over a name of kedge's own, whose column is then a feature like others, if there is no `--features`.
    """
    flags = columns.flags
    flagged = {place for _, place in flags.values()}
    places: dict[str, Place] = {}
    for name in names:
        place = flags[name][1] if name in flags else place_of(name)
        if name not in flags and (place is None or place in flagged):
            if columns.features is not None or _PANDAS_INDEX.fullmatch(name):
                continue
            place = Place("features", name)
        if place is not None and place.field:
            places[name] = place
    return places


def assign_label(names: Sequence[str], columns: ColumnMap) -> dict[str, Place]:
    """Where each column of labels goes; those of a whole prediction are passed over."""
    flags = {name: place for name, (_, place) in columns.flags.items()}
    flagged = set(flags.values())
    places = {}
    for name in names:
        place = flags.get(name) or LABEL_PLACES.get(name)
        if place is not None and (name in flags or place not in flagged):
            places[name] = place
    return places


def check_flags(names: Sequence[str], columns: ColumnMap, place: str) -> None:
    """Raise BadInput for a flag that names a column that the file has not."""
    for column, (flag, _) in columns.flags.items():
        if column not in names:
            near = get_close_matches(column, names, 1)
            hint = f' (did you mean "{near[0]}"?)' if near else f"; its columns are {_some(names)}"
            raise BadInput(f'no column "{column}", which {flag} names{hint}', place)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
