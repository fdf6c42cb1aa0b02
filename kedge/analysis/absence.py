"""Absence as negative: where only positives are ever reported (chargebacks, complaints, failures), a row that
has no label after a while is a negative.

Which class that is follows from the declared positive one. Their number needs no row: what was predicted,
less what was labelled, by predicted class and score cell.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from kedge.analysis.scores import known_classes
from kedge.sketch import Core, Labels, Summary

SUMS_ONLY = (
    "log loss and Brier are summed over labelled rows, and rows without a label count as negative here"
)


def unknown_negative(positive: str | None, classes: Iterable[str]) -> str | None:
    """The reason why rows without a label cannot be counted as negative; None where they can."""
    others = sorted(set(classes) - {positive})
    if positive is None:
        return "rows without a label count as negative (negative_after), but no positive_class is declared"
    if not others:
        return f'no class besides "{positive}" is known that rows without a label could be of'
    if len(others) > 1:
        shown = ", ".join(others[:4]) + (", …" if len(others) > 4 else "")
        return f'rows without a label could be of any class besides "{positive}" ({shown})'
    return None


def with_absent(summary: Summary, old: Summary, positive: str | None, reference: Summary | None) -> Summary:
    """`summary` with those rows of `old`, a part of it, that have no label as negatives among the scores.

    Whatever else the labels tell (their number, delays, losses) stays that of the labelled rows. The summary
    as it is where it cannot be told which class they are of (`unknown_negative`), or where parts are not
    computed.
    """
    classes = known_classes((summary, reference or Summary()))
    if summary.labels is None or old.core is None or old.labels is None:
        return summary
    if positive is None or unknown_negative(positive, classes) is not None:
        return summary
    (negative,) = set(classes) - {positive}
    return Summary(summary.core, summary.cells, _added(summary.labels, old.core, old.labels, negative))


def _added(labels: Labels, core: Core, labelled: Labels, negative: str) -> Labels:
    scores = dict(labels.scores)
    for predicted, cells in core.scores.items():
        known = sum(held for (cls, _), held in labelled.scores.items() if cls == predicted)
        # A core that was counted before a late row came can have fewer rows in a cell than the labels.
        unlabelled = np.maximum(cells - known, 0)
        if unlabelled.any():
            pair = (predicted, negative)
            scores[pair] = scores[pair] + unlabelled if pair in scores else unlabelled
    return replace(labels, scores=scores)
