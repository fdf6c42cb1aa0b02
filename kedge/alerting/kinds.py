"""The kinds of rule: this tuple makes the parser, the JSON Schema, the reference and the error texts."""

from kedge.alerting.absence import AbsenceRule
from kedge.alerting.anomaly import AnomalyRule
from kedge.alerting.composite import CompositeRule
from kedge.alerting.drift import DriftRule
from kedge.alerting.new_value import NewValueRule
from kedge.alerting.rule import Rule
from kedge.alerting.threshold import ThresholdRule
from kedge.alerting.trend import TrendRule
from kedge.alerting.versions import VersionsRule

KINDS: tuple[type[Rule], ...] = (
    *(ThresholdRule, DriftRule, AnomalyRule, TrendRule),
    *(VersionsRule, NewValueRule, AbsenceRule, CompositeRule),
)
DEFAULT_KIND = ThresholdRule.KIND
