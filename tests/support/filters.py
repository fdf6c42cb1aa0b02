"""Filters made at random, each with the same said in plain Python."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from kedge.records import Prediction

Wanted = Callable[[Prediction], bool]


class Filter(NamedTuple):
    text: str
    wants: Wanted

    def __repr__(self) -> str:
        return self.text


TEXTS: dict[str, Callable[[Prediction], str | None]] = {
    "model.version": lambda row: row.version or None,
    "prediction.class": lambda row: row.cls,
    "event.outcome": lambda row: "failure" if row.failed else "success",
    "error.type": lambda row: row.error_type,
    "service.name": lambda row: row.service,
    "host.name": lambda row: row.host,
    "segment.region": lambda row: row.segment.get("region"),
    "segment.plan.tier": lambda row: row.segment.get("plan.tier"),
    "segment.never": lambda row: None,
    "features.cat.merchant_type": lambda row: row.cat.get("merchant_type"),
    "features.cat.země": lambda row: row.cat.get("země"),
    "features.cat.a.b": lambda row: row.cat.get("a.b"),
}
NUMBERS: dict[str, Callable[[Prediction], float | None]] = {
    "latency_ms": lambda row: row.latency_ms,
    "prediction.probability": lambda row: row.probability,
    "prediction.entropy": lambda row: row.entropy,
    "features.num.age": lambda row: row.num.get("age"),
    "features.num.amount": lambda row: row.num.get("amount"),
    "features.num.größe.über.null": lambda row: row.num.get("größe.über.null"),
    "features.num.zero": lambda row: row.num.get("zero"),
    "features.num.never": lambda row: None,
    "resource.gpu.share": lambda row: row.resource.get("gpu.share"),
    "business.cost": lambda row: row.business.get("cost"),
}
_VALUES = (
    *("v1", "v2", "no", "yes", "peut-être", "failure", "success", "Timeout", "api", "a", "b", "eu", "us"),
    *("Ωκεανία", "free", "shop", "Shop", "česko", "日本", "", "x.y", " ", "0", "x", 'say "x"', "back\\slash"),
)
_STEMS = ("v", "p", "f", "Time", "e", "s", "S", "Ω", "日", "x", "x.")
_BOUNDS = (-1.0, 0.0, 0.1, 0.25, 0.28, 0.5, 0.58, 1.0, 2.5, 18.0, 60.0, 100.1, 1e7, 1e-45)


def float32(value: float | None) -> float | None:
    """As every store keeps it."""
    if value is None:
        return None
    with np.errstate(over="ignore"):
        rounded = float(np.float32(value))
    return rounded if math.isfinite(rounded) else None


def _text_leaf(field: str) -> st.SearchStrategy[Filter]:
    of = TEXTS[field]

    def exact(value: str) -> Filter:
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        return Filter(f'{field}:"{quoted}"', lambda row: of(row) == value)

    def begins(stem: str) -> Filter:
        return Filter(f"{field}:{stem}*", lambda row: (of(row) or "").startswith(stem))

    def either(values: list[str]) -> Filter:
        said = " OR ".join(f'"{v}"' for v in values)
        return Filter(f"{field}:({said})", lambda row: of(row) in values)

    plain = st.sampled_from([v for v in _VALUES if v.isalnum()])
    return st.one_of(
        st.sampled_from(_VALUES).map(exact),
        st.sampled_from(_STEMS).map(begins),
        st.lists(plain, min_size=2, max_size=3, unique=True).map(either),
        st.just(Filter(f"{field}:*", lambda row: of(row) is not None)),
    )


def _number_leaf(field: str) -> st.SearchStrategy[Filter]:
    def value(row: Prediction) -> float | None:
        return float32(NUMBERS[field](row))

    def holds(test: Callable[[float], bool]) -> Wanted:
        return lambda row: (found := value(row)) is not None and test(found)

    def one_sided(sign: str, bound: float) -> Filter:
        b = np.float32(bound)
        tests: dict[str, Callable[[float], bool]] = {
            ">": lambda v: bool(v > b),
            ">=": lambda v: bool(v >= b),
            "<": lambda v: bool(v < b),
            "<=": lambda v: bool(v <= b),
            "": lambda v: bool(v == b),
        }
        said = f'"{bound!r}"' if bound < 0 else repr(bound)
        return Filter(f"{field}:{sign}{said}", holds(tests[sign]))

    def ranged(low: float, high: float, opens: str, closes: str) -> Filter:
        a, b = np.float32(low), np.float32(high)

        def inside(v: float) -> bool:
            return bool((v >= a if opens == "[" else v > a) and (v <= b if closes == "]" else v < b))

        return Filter(f"{field}:{opens}{low!r} TO {high!r}{closes}", holds(inside))

    bounds = st.sampled_from(_BOUNDS)
    return st.one_of(
        st.builds(one_sided, st.sampled_from(["<", "<=", ">", ">=", ""]), bounds),
        st.builds(ranged, bounds, bounds, st.sampled_from("[{"), st.sampled_from("]}")),
        st.just(Filter(f"{field}:*", holds(lambda v: True))),
    )


def _joined(word: str, combine: Callable[[Any], bool]) -> Callable[[list[Filter]], Filter]:
    def join(of: Sequence[Filter]) -> Filter:
        text = f" {word} ".join(f"({one.text})" for one in of)
        return Filter(text, lambda row: combine(one.wants(row) for one in of))

    return join


def _negated(one: Filter) -> Filter:
    return Filter(f"NOT ({one.text})", lambda row: not one.wants(row))


_LEAVES = st.one_of(
    st.sampled_from(sorted(TEXTS)).flatmap(_text_leaf), st.sampled_from(sorted(NUMBERS)).flatmap(_number_leaf)
)


def filters() -> st.SearchStrategy[Filter]:
    """Up to a handful of conditions on fields of `random_rows`."""

    def extended(inner: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
        several = st.lists(inner, min_size=2, max_size=3)
        return st.one_of(
            several.map(_joined("AND", all)), several.map(_joined("OR", any)), inner.map(_negated)
        )

    return st.recursive(_LEAVES, extended, max_leaves=6)
