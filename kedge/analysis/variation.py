"""What a baseline keeps of how its own windows vary: phi of each feature, and how far it normally moves, by
length of the windows. The verdicts on later windows of a length are taken with those (`at`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kedge.analysis.dispersion import LEAST_WINDOWS, Dispersion, dispersion, for_length
from kedge.analysis.drift import ALPHA, TOLERANCE, DriftSettings
from kedge.analysis.restless import left_out_effects, normal_effect
from kedge.sketch import EdgeSet, Summary
from kedge.windows import DAY, HOUR, WEEK, Millis

LENGTHS: tuple[Millis, ...] = (HOUR, 6 * HOUR, DAY, WEEK)
"""Of the windows that a reference is cut into."""
PREDICTED = "\x00prediction.class"
"""Under this name goes what is known of the predicted classes. No feature has it: names with control
characters are refused."""
_MOST_LOOKED_AT = 200
"""Windows whose own effect is worked out at most, spread evenly: a quantile needs no more."""
_FEATURES_AT_ONCE = 16
"""So that a reference of thousands of hours and hundreds of features needs little memory."""
_DIGITS = 6
"""Significant ones that are kept: the last bits of an eigenvalue are the machine's."""

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Varied:
    """How much the reference's windows of one length vary."""

    windows: int
    """Windows with rows, at least 20."""
    phi: Mapping[str, float]
    """By feature, and of the predicted classes (`PREDICTED`): see `dispersion`."""
    normal: Mapping[str, float]
    """By feature: the tolerance that one window in four credibly exceeds, held against all others. A feature
    is restless at any tolerance below it (see `restless`)."""


@dataclass(frozen=True)
class AtLength:
    """What judging windows of one length goes by."""

    phi: Mapping[str, float] = field(default_factory=dict)
    borrowed: frozenset[str] = frozenset()
    """Features whose phi is of another length, of other rows, or 1 for want of any."""
    normal: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def restlessness_apart(self) -> "AtLength":
        """The same without restless features: what one is against its own history tells something."""
        return replace(self, normal={})

    def settings(self, tolerance: float = TOLERANCE, alpha: float = ALPHA) -> DriftSettings:
        """For the tolerance test."""
        return DriftSettings(tolerance, alpha, self.phi, self.borrowed, self.restless(tolerance))

    @cached_property
    def usual(self) -> DriftSettings:
        """For the tolerance test, as it is unless a rule says otherwise: each step of each rule asks."""
        return self.settings()

    def restless(self, tolerance: float) -> frozenset[str]:
        """The features that normally exceed a tolerance."""
        return frozenset(name for name, effect in self.normal.items() if effect > tolerance)


@dataclass(frozen=True)
class Variation:
    """How a reference's own windows vary, by their length; without lengths, nothing is known of it."""

    lengths: Mapping[Millis, Varied] = field(default_factory=dict)
    _known: dict[Any, AtLength] = field(default_factory=dict, repr=False, compare=False)

    def at(self, length: Millis, names: Sequence[str], *, own: bool = True) -> AtLength:
        """For windows of `length`: of the length itself, else of the longest that is known (`for_length`).

        `names` are the features, and PREDICTED. Not `own`: the windows are of a part of the rows, while the
        reference's were of all.
        """
        key = (length, tuple(names), own)
        if key not in self._known:
            self._known[key] = _at(self, *key)
        return self._known[key]

    def to_json(self) -> dict[str, Any]:
        """By length in milliseconds, as text."""
        return {
            str(length): {"windows": one.windows, "phi": dict(one.phi), "normal": dict(one.normal)}
            for length, one in sorted(self.lengths.items())
        }

    def joined(self, other: "Variation") -> "Variation":
        """With what is known of other features of the same windows."""
        lengths = dict(self.lengths)
        for length, one in other.lengths.items():
            held = lengths.get(length, Varied(one.windows, {}, {}))
            phi, normal = {**held.phi, **one.phi}, {**held.normal, **one.normal}
            lengths[length] = Varied(one.windows, phi, normal)
        return Variation(lengths)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Variation":
        return cls(
            {
                int(length): Varied(
                    int(one["windows"]),
                    {name: float(phi) for name, phi in one["phi"].items()},
                    {name: float(effect) for name, effect in one["normal"].items()},
                )
                for length, one in content.items()
            }
        )


def _at(variation: Variation, length: Millis, names: tuple[str, ...], own: bool) -> AtLength:
    if not variation.lengths:
        return AtLength(borrowed=frozenset(names))
    known = {
        each: Dispersion(
            phi=np.array([one.phi.get(name, 1.0) for name in names]),
            mean=np.ones(len(names)),
            windows=np.array([one.windows if name in one.phi else 0 for name in names], np.int64),
        )
        for each, one in variation.lengths.items()
    }
    chosen = for_length(length, known)
    nearest = length if length in variation.lengths else max(variation.lengths)
    return AtLength(
        phi=dict(zip(names, chosen.phi.tolist(), strict=True)),
        borrowed=frozenset(
            name for name, other in zip(names, chosen.borrowed.tolist(), strict=True) if other or not own
        ),
        normal=variation.lengths[nearest].normal,
    )


def variation_of(buckets: Mapping[Millis, Summary], width: Millis, edges: EdgeSet) -> Variation:
    """From the summaries of a reference's buckets of `width`, by their start; those without rows may lack.

    Windows follow each other from the first bucket on, and only whole ones count. Lengths with fewer than 20
    windows that hold rows are left out, and so are lengths that are no multiple of the bucket.
    """
    held = {start: s for start, s in buckets.items() if s.rows and s.cells is not None}
    if not held:
        return Variation()
    first, last = min(held), max(held) + width
    found = {}
    for length in LENGTHS:
        if length % width:
            continue
        number = (last - first) // length
        place = {s: (s - first) // length for s in held if (s - first) // length < number}
        used = sorted(set(place.values()))
        if len(used) < LEAST_WINDOWS:
            continue
        index = {window: i for i, window in enumerate(used)}
        at = {start: index[window] for start, window in place.items()}
        found[length] = _varied(held, at, len(used), edges)
    return Variation(found)


def _varied(held: Mapping[Millis, Summary], at: Mapping[Millis, int], windows: int, edges: EdgeSet) -> Varied:
    """`at`: by bucket, the window that it is in."""
    looked_at = np.linspace(0, windows - 1, min(windows, _MOST_LOOKED_AT)).round().astype(int)
    phi: dict[str, float] = {}
    normal: dict[str, float] = {}
    for names, counts in _matrices(held, at, windows, edges):
        for name, value in zip(names, dispersion(counts).phi.tolist(), strict=True):
            phi[name] = _rounded(value)
        if names == [PREDICTED]:
            continue
        effects = left_out_effects(counts, looked_at)
        for name, value in zip(names, normal_effect(effects).tolist(), strict=True):
            normal[name] = _rounded(value)
    return Varied(windows, phi, normal)


def _matrices(
    held: Mapping[Millis, Summary], at: Mapping[Millis, int], windows: int, edges: EdgeSet
) -> Iterator[tuple[list[str], Counts]]:
    """Some features at a time, and last the predicted classes: features x windows x cells."""
    features = list(edges.features)
    for start in range(0, len(features), _FEATURES_AT_ONCE):
        names = features[start : start + _FEATURES_AT_ONCE]
        counts = np.zeros((len(names), windows, max(edges.features[n].size for n in names)), np.int64)
        for bucket, window in at.items():
            cells = held[bucket].cells
            for i, name in enumerate(names):
                if cells is not None and name in cells.features:
                    found = cells.features[name][1]
                    counts[i, window, : found.size] += found
        yield names, counts
    classes = sorted({c for bucket in at if (core := held[bucket].core) for c in core.classes})
    if classes:
        counts = np.zeros((1, windows, len(classes)), np.int64)
        for bucket, window in at.items():
            core = held[bucket].core
            for cls, rows in (core.classes if core else {}).items():
                counts[0, window, classes.index(cls)] += rows
        yield [PREDICTED], counts


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
