"""What rules may say, and rarely mean: seen from the rules alone. Pure."""

from collections.abc import Iterator, Sequence

from kedge.alerting.condition import Scale, Side
from kedge.alerting.quantity import COUNT, MS, RATIO, format_value
from kedge.alerting.rule import Rule
from kedge.alerting.threshold import ThresholdRule
from kedge.alerting.today import text_of
from kedge.windows import MINUTE, format_duration

_UNBOUNDED = ("performance.r2", "performance.bias")
"""Ratios that may be negative, and what has no bounds at all."""


def advice(rules: Sequence[Rule]) -> Iterator[tuple[Rule, str]]:
    """Each thing that is allowed and rarely meant, with the rule that it is about."""
    same: dict[str, Rule] = {}
    for rule in rules:
        yield from ((rule, text) for text in rule.warnings)
        if isinstance(rule, ThresholdRule):
            yield from ((rule, text) for text in _never(rule))
        step = rule.step(MINUTE) if rule.window >= MINUTE else 0
        if 0 < rule.for_ < step:
            waits, every, window = format_duration(rule.for_), format_duration(step), text_of(rule.window)
            yield (
                rule,
                f"`for: {waits}`: over {window} it is judged every {every}, and waits so long",
            )
        first = same.setdefault(rule.signature, rule)
        if first is not rule:
            yield rule, f'asks the same as rule "{first.name}" at {first.place}: both will fire'


def _never(rule: ThresholdRule) -> Iterator[str]:
    """Bounds that no value can be beyond."""
    condition, unit = rule.condition, rule.info.unit
    low = 0.0 if unit in (RATIO, MS, COUNT) and rule.metric not in _UNBOUNDED else None
    high = 1.0 if unit == RATIO and rule.metric != "performance.bias" else None
    for severity, limit in condition.rungs:
        never = f"can never fire {severity.word}: {rule.metric}"
        match condition.side:
            case Side.ABOVE if high is not None and limit >= high:
                yield f"{never} is never above {format_value(high, unit)}"
            case Side.BELOW if low is not None and -limit <= low:
                yield f"{never} is never below {format_value(low, unit)}"
            case Side.FALL if low is not None and condition.scale is Scale.RELATIVE and limit >= 1:
                yield f"{never} cannot fall by more than 100 %"
            case Side.RISE | Side.FALL | Side.CHANGE if (
                high is not None and low is not None and condition.scale is Scale.DIFFERENCE and limit >= 1
            ):
                yield f"{never} cannot move by more than 100 points"
