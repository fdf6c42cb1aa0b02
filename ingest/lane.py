"""The quick way to read predictions: a decoder made for one model, once its features are known.

The plain way reads the features of a row into a map of any values and looks at each of them. A lane reads
them into a struct with a typed field a feature, so that types and limits are checked where the bytes are
read. A row that does not fit (another model, a new name, a value of another kind, one too large or too long)
is read the plain way instead: what a row becomes never depends on lanes, only how fast.
"""

import re
import threading
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from ingest.values import MAX_TEXT
from ingest.wire import WirePrediction
from kedge.records import FLOAT32_MAX, Prediction

MAX_LANES = 1_000
"""Models with a lane at a time; when there are more, all begin anew."""
MAX_NAMES = 1_000
"""Features of a lane. Each costs every row of the model a little, so rows of a very wide model go without."""

_Number = Annotated[float, Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)] | None
_Text = Annotated[str, Meta(max_length=MAX_TEXT)] | bool | None
_MODEL = re.compile(rb'"model" *: *"([^"\\]+)"')

Raw = bytes | msgspec.Raw


class KnownFeatures(msgspec.Struct, gc=False):
    """The features of a row, in fields f0, f1, …: first the numeric ones, then the categorical ones."""

    numeric: ClassVar[tuple[str, ...]] = ()
    categorical: ClassVar[tuple[str, ...]] = ()

    def split(self) -> tuple[dict[str, float], dict[str, str]]:
        """Numeric and categorical values by name; what is null or not given is left out."""
        values: tuple[Any, ...] = msgspec.structs.astuple(self)
        texts = values[len(self.numeric) :]
        num = dict(zip(self.numeric, values, strict=False))
        cat = dict(zip(self.categorical, texts, strict=True))
        try:
            sum(values[: len(self.numeric)])
            "".join(texts)
        except TypeError:  # a None or a boolean among them; to look for each takes several times as long
            num = {name: value for name, value in num.items() if value is not None}
            cat = {name: _boolean.get(value, value) for name, value in cat.items() if value is not None}
        return num, cat


_boolean: Mapping[Any, str] = {True: "true", False: "false"}


class KnownRow(WirePrediction, gc=False):
    """A row that was read by a lane."""

    known: ClassVar[type[KnownFeatures]] = KnownFeatures
    """What its features are."""


class Lane:
    """The decoders of one model's rows."""

    def __init__(self, model: str, kinds: Mapping[str, bool]) -> None:
        """`kinds`: whether each feature is numeric."""
        self.model = model
        self.kinds = kinds
        numeric = [name for name, number in kinds.items() if number]
        categorical = [name for name, number in kinds.items() if not number]
        names = {f"f{i}": name for i, name in enumerate([*numeric, *categorical])}
        fields = [(field, _Number if i < len(numeric) else _Text, None) for i, field in enumerate(names)]
        features = msgspec.defstruct(
            "Features",
            fields,
            bases=(KnownFeatures,),
            namespace={"numeric": tuple(numeric), "categorical": tuple(categorical)},
            rename=names,
            forbid_unknown_fields=True,
            gc=False,
        )
        row = msgspec.defstruct(
            "Row",
            [("model", Literal[model]), ("features", features | None, None)],
            bases=(KnownRow,),
            namespace={"known": features},
            kw_only=True,
            gc=False,
        )
        self.decode = msgspec.json.Decoder(row).decode
        """One row."""
        self.decode_list = msgspec.json.Decoder(list[row]).decode  # type: ignore[valid-type]
        """A list of rows: half as dear as each by itself."""


class Lanes:
    """The lanes of all models, made as rows teach them. Safe for threads."""

    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}
        self._lock = threading.Lock()

    def of(self, row: Raw) -> Lane | None:
        """The lane that a row may fit: its model is only guessed from the text, the lane's decoder checks."""
        found = _MODEL.search(row)
        return self._lanes.get(found[1].decode("utf-8", "replace")) if found else None

    def learn(self, rows: Iterable[Prediction], fitting: Mapping[str, int] = MappingProxyType({})) -> None:
        """Make room for the features of rows that were read the plain way.

        A feature is of the kind that it came with first, until most rows of a call have it as the other;
        `fitting`: how many rows of a model came beside these, all of which fit.
        """
        by_model: dict[str, list[Prediction]] = {}
        for row in rows:
            by_model.setdefault(row.model, []).append(row)
        with self._lock:
            for model, own in by_model.items():
                lane = self._lanes.get(model)
                before = lane.kinds if lane else {}
                after = _kinds(before, own, fitting.get(model, 0))
                if len(after) <= MAX_NAMES and (lane is None or after != before):
                    if len(self._lanes) >= MAX_LANES:
                        self._lanes.clear()
                    self._lanes[model] = Lane(model, after)


def _kinds(known: Mapping[str, bool], rows: list[Prediction], fitting: int) -> Mapping[str, bool]:
    kinds = dict(known)
    against: dict[str, int] = {}
    for row in rows:
        for number, values in ((True, row.num), (False, row.cat)):
            for name in values:
                if (
                    '"' in name or "\\" in name
                ):  # a struct cannot have such a field: its rows go the plain way
                    continue
                if kinds.setdefault(name, number) is not number:
                    against[name] = against.get(name, 0) + 1
    return kinds | {
        name: not kinds[name] for name, count in against.items() if 2 * count > len(rows) + fitting
    }
