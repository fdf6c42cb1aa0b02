"""How false alerts are shared out: the budgets of receivers, split over their rules. Pure.

A receiver may be told of so many false alerts (`budget` in notify.yml). The rules that say no `budget`, and
whose highest severity goes there, have equal shares of it. Outside the split are

- rules with a `budget` of their own: someone has weighed it, and it neither lessens the others' shares nor
  grows with them;
- rules that keep none, for they judge by a bare value: counts, `evidence: point`, tests by name, silence, new
  values, composites;
- rules that reach `info` alone, which nobody is told of: each has the default.

Where an alert's route depends on what is known only once it fires (a segment, the model of a rule for every
model), the rule has a share at each receiver that may be told, and of these the smallest holds. So a receiver
is told of no more than its budget by those that share it, and of less where some of them share another's too.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import fsum
from typing import NamedTuple

from kedge.alerting.composite import CompositeRule
from kedge.alerting.drift import DriftRule
from kedge.alerting.fields import Budget, Share
from kedge.alerting.finding import Severity
from kedge.alerting.new_value import NewValueRule
from kedge.alerting.routing import Routing
from kedge.alerting.rule import ALL_VERSIONS, SERVING, Rule
from kedge.alerting.threshold import ThresholdRule
from kedge.windows import DAY

MONTH = 30 * DAY


def with_shares(rules: Sequence[Rule], routing: Routing, beside: Sequence[Rule] = ()) -> tuple[Rule, ...]:
    """The same rules, each with its share of its receiver's budget, or with none. `beside`: others of other
    names, that take their part of it."""
    found = shares((*rules, *beside), routing)
    return tuple(rule.with_share(found.get(rule.name)) for rule in rules)


def shares(rules: Sequence[Rule], routing: Routing) -> dict[str, Share]:
    """By rule, of those that have one. In which order the rules come says nothing."""
    of_rule = {rule.name: _shared_at(rule, routing) for rule in rules}
    among = Counter(receiver for receivers in of_rule.values() for receiver in receivers)
    parts = {name: Share(routing.budget_of(name).split(n), name, n) for name, n in among.items()}
    return {
        rule: min((parts[name] for name in receivers), key=lambda part: (part.budget.rate, part.receiver))
        for rule, receivers in of_rule.items()
        if receivers
    }


def has_budget(rule: Rule) -> bool:
    """Whether its `budget` is written: in the rule, or in the `defaults` of its file."""
    return "budget" in rule.model_fields_set


def _shared_at(rule: Rule, routing: Routing) -> frozenset[str]:
    """The receivers whose budget it shares."""
    highest = max(severities(rule))
    if has_budget(rule) or not rule.keeps_budget or highest is Severity.INFO:
        return frozenset()
    return _told(rule, highest, routing)


def _told(rule: Rule, severity: Severity, routing: Routing) -> frozenset[str]:
    """The receivers of its alerts of that severity."""
    known = dict(rule.identity.labels) | {"rule": rule.name, "severity": severity.word}
    if rule.model != "*":
        known["model"] = rule.model
    if rule.version not in (ALL_VERSIONS, SERVING):
        known["version"] = rule.version
    unknown = {name for name in _differing(rule) if name not in ("rule", "severity")}
    return routing.may_tell(known, unknown, rule.notify)


def _differing(rule: Rule) -> set[str]:
    """Labels that its alerts may differ in."""
    found = {*rule.by, *rule.grouping}
    if rule.model == "*":
        found.add("model")
    if rule.version not in (ALL_VERSIONS, SERVING):
        found.discard("version")
    if isinstance(rule, NewValueRule):
        found.add(rule.field)
    if isinstance(rule, CompositeRule):
        found = found.union(*map(_differing, rule.bound or ()), {"version"})
    return found


def severities(rule: Rule) -> tuple[Severity, ...]:
    """Those that its alerts may have by its rungs, each once."""
    if isinstance(rule, ThresholdRule):
        return tuple(severity for severity, _ in rule.condition.rungs)
    if isinstance(rule, DriftRule):
        return tuple(severity for severity, _ in rule.rungs)
    if isinstance(rule, CompositeRule) and rule.bound and "severity" not in rule.model_fields_set:
        return tuple(sorted({severity for part in rule.bound for severity in severities(part)}))
    return (rule.severity,)


def tells_nobody(rule: Rule) -> bool:
    """It reaches `info` alone, which shows on the dashboard."""
    return max(severities(rule)) is Severity.INFO


# --- what people are told of it -----------------------------------------------------------------------------


class Expected(NamedTuple):
    """What a receiver may expect of its rules while nothing is wrong."""

    receiver: str
    budget: Budget
    rules: int
    """Those of which it may be told."""
    sharing: int
    """Those of them that share its budget."""
    own: int
    """Those with a `budget` of their own."""
    free: int
    """Those that keep none."""
    costly: tuple[str, ...]
    """Names of those that cost more than they are allowed, for their history cannot show so rare a thing."""
    alerts: float
    """False alerts in 30 days at most, by all rules that keep a budget."""

    @property
    def elsewhere(self) -> int:
        """Rules with a share of another receiver's: their highest severity goes there, or it is stricter."""
        return self.rules - self.sharing - self.own - self.free

    @property
    def share(self) -> Budget | None:
        """Of each rule that shares its budget."""
        return self.budget.split(self.sharing) if self.sharing else None


def expected(rules: Sequence[Rule], routing: Routing) -> list[Expected]:
    """By receiver, in the order of their names; those that no rule tells are left out."""
    held: dict[str, list[Rule]] = {}
    for rule in with_shares(rules, routing):
        told = frozenset[str]().union(
            *(_told(rule, s, routing) for s in severities(rule) if s > Severity.INFO)
        )
        for receiver in told:
            held.setdefault(receiver, []).append(rule)
    return [_expected(name, of, routing) for name, of in sorted(held.items())]


def _expected(receiver: str, rules: Sequence[Rule], routing: Routing) -> Expected:
    keeping = [rule for rule in rules if rule.keeps_budget]
    return Expected(
        receiver,
        routing.budget_of(receiver),
        len(rules),
        sharing=sum(receiver in _shared_at(rule, routing) for rule in rules),
        own=sum(map(has_budget, keeping)),
        free=len(rules) - len(keeping),
        costly=tuple(sorted(rule.name for rule in keeping if rule.costs.rate > rule.allowance.rate)),
        alerts=fsum(rule.costs.rate * MONTH for rule in keeping),
    )


def said(one: Expected) -> Iterator[str]:
    """How its rules come to what it may expect, in parts of a sentence."""
    if one.sharing:
        each = f", {one.share} each" if one.sharing > 1 else ""
        yield f"{one.sharing} share{'' if one.sharing > 1 else 's'} its budget of {one.budget}{each}"
    if one.own:
        yield f"{one.own} with {'budgets' if one.own > 1 else 'a budget'} of {_their(one.own)} own"
    if one.elsewhere:
        yield f"{one.elsewhere} with {_their(one.elsewhere)} share of another receiver's"
    if one.free:
        yield f"{one.free} that keep{'' if one.free > 1 else 's'} none"
    for name in one.costly:
        yield f'the history of "{name}" is too short for its budget'


def _their(count: int) -> str:
    return "their" if count > 1 else "its"


def budget_of(rule: Rule) -> str | None:
    """The budget that is in force for it, as it is written; None: it keeps none, and says none."""
    return str(rule.allowance) if rule.keeps_budget or has_budget(rule) else None


def why(rule: Rule) -> str:
    """Where the budget that is in force comes from: the rest of a sentence."""
    share = rule.budget_share
    if not rule.keeps_budget:
        return "it judges by a bare value, so it keeps no budget"
    if share is not None:
        of = share.receiver or "the default receiver"
        return (
            f"its share of the budget of {of}, one of {share.among}" if share.among > 1 else f"that of {of}"
        )
    if has_budget(rule):
        return "its own"
    return "it tells nobody (info)" if tells_nobody(rule) else "the default"
