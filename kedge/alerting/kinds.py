"""The kinds of rule: this tuple makes the parser, the JSON Schema, the reference and the error texts."""

from kedge.alerting.drift import DriftRule
from kedge.alerting.rule import Rule
from kedge.alerting.threshold import ThresholdRule
from kedge.alerting.versions import VersionsRule

KINDS: tuple[type[Rule], ...] = (ThresholdRule, DriftRule, VersionsRule)
DEFAULT_KIND = ThresholdRule.KIND
