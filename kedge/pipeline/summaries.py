"""From parts to summaries, and from the parts of one tier to those of a coarser one. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from kedge.sketch import AnyPart, Cells, Core, Custom, EdgeSet, Labels, PartName, Summary
from kedge.store.base import Group, PartRow, sum_versions
from kedge.windows import Millis

_NAMES = (PartName.CORE, PartName.CELLS, PartName.LABELS, PartName.CUSTOM)
WHOLE = frozenset({PartName.CELLS, PartName.CUSTOM})
"""Parts that every bucket with rows has, or else they are not computed there yet."""


def bucket_summary(parts: Mapping[PartName, AnyPart], wanted: frozenset[PartName]) -> Summary:
    """One bucket's parts as a Summary of the wanted ones.

    Rows without a labels part have no labels; without cells or custom, none of these *yet*.
    """
    core, cells, labels, custom = (parts.get(name) for name in _NAMES)
    return Summary(
        core if isinstance(core, Core) else None,
        cells if isinstance(cells, Cells) and PartName.CELLS in wanted else None,
        (labels if isinstance(labels, Labels) else Labels()) if PartName.LABELS in wanted else None,
        custom if isinstance(custom, Custom) and PartName.CUSTOM in wanted else None,
    )


def empty(wanted: frozenset[PartName], edges: EdgeSet | None) -> Summary:
    """Of no rows: every wanted part is computed, and zero."""
    return Summary(
        Core(),
        Cells.zero(edges) if edges is not None and PartName.CELLS in wanted else None,
        Labels() if PartName.LABELS in wanted else None,
        Custom() if PartName.CUSTOM in wanted else None,
    )


def roll_up(children: Sequence[PartRow], tier: Millis) -> list[PartRow]:
    """Sum the parts of one tier into buckets of a coarser one.

    A sum's version is the sum of its children's fingerprints within their newest epoch. Cells and custom are
    summed only where every child with rows has them: a part that is missing in one child is not computed in
    the sum.
    """
    sums: dict[tuple[Millis, Group, PartName, str], list[PartRow]] = defaultdict(list)
    for row in children:
        bucket = row.key.bucket - row.key.bucket % tier
        sums[bucket, row.key.group, row.key.part, row.key.edges].append(row)
    rolled = []
    for (bucket, group, part, _), rows in sums.items():
        if part in WHOLE and len(rows) < len(sums.get((bucket, group, PartName.CORE, ""), ())):
            continue
        total: AnyPart = rows[0].part
        for row in rows[1:]:
            total = total + row.part  # type: ignore[operator]
        key = rows[0].key._replace(tier=tier, bucket=bucket)
        rolled.append(PartRow(key, sum_versions(r.version for r in rows), total))
    return rolled
