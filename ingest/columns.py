"""Which column of a file is which field: by the flags of `kedge import`, then by kedge's own names.

The rest are features.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property

from ingest.wire import Place, label_place_of, place_of
from kedge.errors import BadInput

_PANDAS_INDEX = re.compile(r"(Unnamed: \d+|__index_level_\d+__)?")
"""What pandas writes for a nameless index. It numbers rows; as a feature it would drift for ever."""


@dataclass(frozen=True)
class ColumnMap:
    """The flags of `kedge import`, `kedge labels` and `kedge compare`; each names columns of the file."""

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
    label_may_lack: bool = False
    """A file without the column of `label` has no labels, and is not refused."""

    @cached_property
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

    @cached_property
    def _flagged(self) -> frozenset[Place]:
        return frozenset(place for _, place in self.flags.values())

    def place(self, name: str) -> Place | None:
        """Where a column of predictions goes; None: nowhere.

        A flag wins over a name of kedge's own, whose column is then a feature like others.
        """
        if name in self.flags:
            return self.flags[name][1]
        own = place_of(name)
        if own is not None and own not in self._flagged:
            restricted = own.field == "features" and own.key and self.features is not None
            return None if restricted else own
        if self.features is not None or _PANDAS_INDEX.fullmatch(name):
            return None
        return Place("features", name)

    def label_place(self, name: str) -> Place | None:
        """Where a column of labels goes; None: nowhere, as most columns of a whole prediction."""
        if name in self.flags:
            return self.flags[name][1]
        own = label_place_of(name)
        return own if own not in self._flagged else None

    def check(self, names: Collection[str], place: str) -> None:
        """Raise BadInput for a flag that names a column that the file at `place` has not."""
        for column, (flag, _) in self.flags.items():
            if column not in names and not (flag == "--label" and self.label_may_lack):
                near = get_close_matches(column, names, 1)
                hint = f' (did you mean "{near[0]}"?)' if near else f"; its columns are {_some(list(names))}"
                raise BadInput(f'no column "{column}", which {flag} names{hint}', place)

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


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
