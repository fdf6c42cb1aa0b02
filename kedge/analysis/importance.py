"""Which features matter most to a model: as its owner states, or as its explanations say.

There is no third way: what stands out in the data says nothing of what the model leans on.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kedge.sketch import Moments

LEAST_ROWS = 30
"""Rows with an attribution of a feature, below which its mean says little of where its place is."""


@dataclass(frozen=True)
class Importance:
    """The features of one model by importance, the greatest first."""

    features: tuple[str, ...] = ()
    known_by: str = ""
    """For people: `by mean |attribution| in baseline 3f2a1c (…)`."""
    lacking: str = ""
    """Why it is not known, where it is not."""


UNKNOWN = Importance(lacking="nothing tells")


def by_attribution(attributions: Mapping[str, Moments]) -> tuple[str, ...]:
    """The features by the mean of the absolute values of their attributions, the greatest first; ties by
    name. What has under `LEAST_ROWS` rows, or contributed nothing, has no place.
    """
    placed = [(-held.mean, name) for name, held in attributions.items() if held.n >= LEAST_ROWS]
    return tuple(name for mean, name in sorted(placed) if mean < 0)
