"""Which features of a model matter most: what kedge.yml states, else what the baseline's rows explain.

Never what the rows of a window say: the features that a rule looks at stay what they are from look to look.
"""

from kedge.analysis.importance import LEAST_ROWS, Importance, by_attribution
from kedge.config import ModelSettings
from kedge.pipeline.baselines import Baseline


def importance_of(settings: ModelSettings, baseline: Baseline | None) -> Importance:
    """Of all rows of the model, whatever group is looked at."""
    if settings.importance:
        return Importance(settings.importance, "by `importance` in kedge.yml")
    if baseline is None:
        return Importance(lacking="there is no baseline whose rows could explain it")
    core = baseline.summaries[()].core
    held = core.attributions if core is not None else {}
    if not held:
        return Importance(lacking=f"no row of {baseline.title} has attributions")
    found = by_attribution(held)
    if not found:
        return Importance(
            lacking=f"in {baseline.title} no feature has attributions in {LEAST_ROWS} rows, and not all zero"
        )
    return Importance(found, f"by mean |attribution| in {baseline.title}")
