"""The kinds of rule: this tuple makes the parser, the JSON Schema, the reference and the error texts."""

from kedge.alerting.drift import DriftRule
from kedge.alerting.rule import Rule
from kedge.alerting.threshold import ThresholdRule

KINDS: tuple[type[Rule], ...] = (ThresholdRule, DriftRule)
DEFAULT_KIND = ThresholdRule.KIND
