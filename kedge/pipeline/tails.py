"""The newest buckets of a window apart: for how long each feature has had one value (`quality.stuck`)."""

from kedge.analysis.stuck import Run, Runs
from kedge.pipeline.dirty import ModelFeed
from kedge.pipeline.reader import SummaryReader
from kedge.sketch import Core, EdgeSet, PartName
from kedge.store.base import Group, Grouping
from kedge.windows import HOUR, Millis, Window, floor, tile

FINE: Millis = 2 * HOUR
"""Back to here a run is known to the base bucket; beyond, to the hour, so that a day costs a few reads."""

RunsByGroup = dict[Group, dict[str, Run]]


def runs_in(
    reader: SummaryReader,
    model: str,
    known: ModelFeed,
    window: Window,
    grouping: Grouping,
    edges: EdgeSet | None,
) -> RunsByGroup:
    """The runs at the end of a window, by group and numeric feature of the edges; of a grouping that is
    summarised. What is older is read only while some run may go on."""
    if edges is None or not edges.numeric:
        return {}
    runs: dict[Group, Runs] = {}
    middle = min(max(window.start, floor(window.end - FINE, known.base)), window.end)
    missing = known.missing(PartName.CORE)
    spans = [
        *tile(Window(window.start, middle), known.base, missing, HOUR),
        *tile(Window(middle, window.end), known.base, missing, known.base),
    ]
    for span in reversed(spans):
        bounds = Window(span.start, span.end)
        held = reader.parts(model, span.tier, bounds, PartName.CORE, grouping=grouping)
        for bucket, groups in sorted(held.items(), reverse=True):
            for group, core in groups.items():
                if tuple(name for name, _ in group) == grouping and isinstance(core, Core):
                    runs.setdefault(group, Runs(edges.numeric, window.end)).before(bucket, core)
        if runs and not any(one.going for one in runs.values()):
            break
    return {group: one.found for group, one in runs.items()}
