"""What rules may say, and rarely mean: seen from the rules alone. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kedge.alerting.condition import Scale, Side
from kedge.alerting.finding import Severity
from kedge.alerting.quantity import COUNT, MS, RATIO, format_value
from kedge.alerting.rule import Rule
from kedge.alerting.threshold import ThresholdRule
from kedge.alerting.today import text_of
from kedge.windows import DAY, MINUTE, format_duration

MONTH = 30 * DAY
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


class Expected(NamedTuple):
    """What a receiver may expect of its rules when nothing is wrong."""

    receiver: str
    """Empty: the default one."""
    rules: int
    alerts: float
    """False alerts in 30 days, at most."""


def expected(rules: Sequence[Rule]) -> list[Expected]:
    """By receiver: the budgets of its rules together. Those that reach `info` alone tell nobody."""
    by_receiver: dict[str, list[Rule]] = defaultdict(list)
    for rule in rules:
        if _most(rule) > Severity.INFO:
            by_receiver[rule.notify].append(rule)
    return [
        Expected(name, len(held), sum(rule.budget.alerts * MONTH / rule.budget.per for rule in held))
        for name, held in sorted(by_receiver.items())
    ]


def _most(rule: Rule) -> Severity:
    """The highest severity that it can reach."""
    if isinstance(rule, ThresholdRule):
        return rule.condition.rungs[-1][0]
    rungs: Sequence[tuple[Severity, float]] = getattr(rule, "rungs", ())
    return rungs[-1][0] if rungs else rule.lowest
