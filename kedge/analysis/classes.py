"""Which classes are predicted, and how their shares moved."""

from kedge.analysis import build
from kedge.analysis.drift import DriftSettings, FeatureDrift, shift_of_counts
from kedge.analysis.drift_metrics import judged
from kedge.analysis.metric import Metric
from kedge.analysis.variation import PREDICTED
from kedge.sketch import Core

NO_CLASSES = "no row has a predicted class"


def class_share(core: Core, cls: str) -> Metric:
    """Of the rows with a predicted class; a class that was not predicted has the share 0."""
    classes = core.classes
    return build.rate(
        "class.share", classes.get(cls, 0), sum(classes.values()), NO_CLASSES, labels={"class": cls}
    )


def class_shift(core: Core, reference: Core, settings: DriftSettings) -> FeatureDrift:
    """The classes of both sides as cells: one that a side has not seen is a cell like any other."""
    return shift_of_counts(PREDICTED, reference.classes, core.classes, settings)


def class_drift(core: Core, reference: Core, settings: DriftSettings) -> Metric:
    if not core.classes:
        return build.absent("class.drift", NO_CLASSES)
    if not reference.classes:
        return build.absent("class.drift", "no row of the reference has a predicted class")
    return judged("class.drift", class_shift(core, reference, settings), {})
