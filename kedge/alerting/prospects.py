"""What rules may expect of what is stored: names that no row has, rules that find nothing to judge, a past
that is not summarised, alerts that an edit ends. Pure: it goes by facts that were read.

That a rule can be judged at all is not worked out here: the facts hold what it found where it was tried, by
the judging that rules go through in life.
"""

from collections.abc import Iterable, Mapping, Sequence

from kedge.alerting.composite import CompositeRule
from kedge.alerting.facts import JUDGED, Ended, Facts, KnownModel, Look, Past, Prospect, Tried
from kedge.alerting.finding import Finding, State
from kedge.alerting.new_value import NewValueRule
from kedge.alerting.quantity import COUNT
from kedge.alerting.rule import Rule
from kedge.alerting.series import SeriesRule
from kedge.alerting.today import LocalDay, text_of
from kedge.alerting.unseen import infos_of, unlogged, unseen
from kedge.sketch import PartName
from kedge.windows import DAY, format_duration, iso

EVERY = "*"


def prospects(rules: Sequence[Rule], facts: Facts) -> list[Prospect]:
    """Each thing that people should know, in the order of the rules."""
    found: list[Prospect] = []
    tried: dict[str, list[Tried]] = {}
    for one in facts.tried:
        tried.setdefault(one.rule, []).append(one)
    for rule in rules:
        if isinstance(rule, CompositeRule):
            continue  # what it names is told of by itself
        if rule.model != EVERY and rule.model not in facts.models:
            found += unlogged(rule, facts)
            continue
        watched = [m for m in facts.models.values() if rule.model in (EVERY, m.name)]
        names = [list(unseen(rule, model)) for model in watched]
        if names and all(names):
            found += _told(rule, names[0], watched)
            continue
        found += _of_tried(rule, tried.get(rule.name, ()), facts.models)
    found += [_ended(one) for one in facts.ended]
    return found


def _told(rule: Rule, said: Iterable[tuple[str, str]], watched: Sequence[KnownModel]) -> list[Prospect]:
    """The same for people; of several models as on the first of them, for it is so on all."""
    on = f"of {len(watched)} models, as {watched[0].name}: " if len(watched) > 1 else ""
    return [Prospect(rule.name, field, f"{on}{text}") for field, text in said]


# --- what it finds ------------------------------------------------------------------------------------------


def _of_tried(rule: Rule, tried: Sequence[Tried], models: Mapping[str, KnownModel]) -> list[Prospect]:
    """What keeps a rule from being judged; of every model, only where that is so on all."""
    found = [(one, _one(rule, one, models[one.model])) for one in tried]
    if not found or not all(said for _, said in found):
        return []
    watched = [models[one.model] for one, _ in found]
    return _told(rule, found[0][1], watched)


def _one(rule: Rule, one: Tried, model: KnownModel) -> list[tuple[str, str]]:
    """The fields of a rule that keep it from being judged on a model, and how."""
    if rule.window < model.base:
        return [("window", _too_short(rule, model))]
    if needs_baseline(rule) and not model.baseline:
        soon = "; a provisional one is made of its first good week" if model.auto else ""
        create = f"kedge baseline create {model.name} --from TIME --to TIME"
        return [(_against(rule), f"needs a baseline, and {model.name} has none: {create}{soon}")]
    said = []
    if text := _lacks_group(rule, model):
        said.append(("by", text))
    if text := _lacks_past(rule, one.past, model):
        field = "by" if rule.by else "compare" if rule.other_reference is not None else "window"
        said.append((field, text))
    nothing = _judges_nothing(rule, one.looks, model)
    if nothing is not None and (not said or nothing[0] == "min_count"):
        said.append(nothing)
    return said


def _too_short(rule: Rule, model: KnownModel) -> str:
    window, base = text_of(rule.window), format_duration(model.base)
    return (
        f"window {window} is shorter than the base bucket of {model.name}, {base}, so it is not judged "
        f"there: a longer window, or a finer bucket in kedge.yml"
    )


def needs_baseline(rule: Rule) -> bool:
    """Whether there is nothing to judge without one."""
    if isinstance(rule, NewValueRule):  # which goes by history then
        return False
    return PartName.CELLS in rule.parts or (rule.compares and rule.other_reference is None)


def _against(rule: Rule) -> str:
    compares = getattr(rule, "compare", None) is not None
    return "compare" if compares else "metric" if infos_of(rule) else "kind"


def _lacks_group(rule: Rule, model: KnownModel) -> str:
    """Of a baseline that is older than the grouping; empty where it has what the rule needs."""
    without = tuple(name for name in rule.grouping if name != "version")
    against = rule.compares and rule.other_reference is None
    if not against or {rule.grouping, without} & model.referred:
        return ""
    return (
        f"{model.baseline} was made without groups by {_listed(without)}, so there is nothing to compare "
        f"with: kedge baseline create {model.name}, once this rule is in force"
    )


def _lacks_past(rule: Rule, past: Past, model: KnownModel) -> str:
    """What it looks back on and is not summarised; empty where all is."""
    since = max(past.since, model.first)
    back = f"looks back to {iso(since)}"
    do = f"the ticks do it after what is live, and `kedge summarise {model.name} --from {iso(since)}` at once"
    if past.lacks and _looks_back(rule):
        if past.gone > since:
            return (
                f"{back}, and {_listed(past.lacks)} are not summarised: of logs before {iso(past.gone)}, "
                f"which are dropped, they cannot be any more"
            )
        return f"{back}, and {_listed(past.lacks)} are not summarised yet: once this is in force {do}"
    if past.due:
        buckets = "bucket" if past.due == 1 else "buckets"
        return f"{back}, of which {past.due:,} {buckets} are not summarised yet: {do}"
    return ""


def _looks_back(rule: Rule) -> bool:
    """Further than what the next ticks summarise at once."""
    compare = rule.other_reference
    others = compare is not None and compare.version is None
    return others or isinstance(rule, SeriesRule) or rule.looks_back > 0 or rule.window > DAY


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)


def is_judged(look: Look) -> bool:
    """Whether something was judged there."""
    return any(found.state in JUDGED for found in look.findings)


def _judges_nothing(rule: Rule, looks: Sequence[Look], model: KnownModel) -> tuple[str, str] | None:
    findings = [(look, found) for look in looks for found in look.findings]
    if not findings:
        return None
    judged = [found for _, found in findings if found.state in JUDGED]
    if judged:
        return _sum_of_nothing(rule, judged)
    look, most = max(findings, key=lambda pair: (pair[1].n, pair[0].among))
    if 0 < most.n < rule.min_count:
        # A younger model may have enough once there was a whole window.
        young = model.last - model.first < rule.window
        return None if young else ("min_count", _too_few(rule, look, most.n))
    # Where rows are not what is lacking, what is lacking now says more than what was lacking then.
    newest = max(looks[0].findings, key=lambda found: found.n, default=most)
    if newest.state is State.INSUFFICIENT and newest.n >= max(rule.min_count, 1):
        look, most = looks[0], newest
    text = f"cannot be judged so far, as in {_where(rule, look)}: {most.reason}"
    return "metric" if infos_of(rule) else "kind", text


def _too_few(rule: Rule, look: Look, n: int) -> str:
    of = ", of all groups together" if look.whole else ", of the group with the most" if rule.by else ""
    return (
        f"min_count {rule.min_count:,} is not reached: {_where(rule, look)} held n={n:,}{_counts(rule)}{of}: "
        f"a longer window, or a lower min_count"
    )


def _sum_of_nothing(rule: Rule, judged: Sequence[Finding]) -> tuple[str, str] | None:
    """A sum of what no row has is 0, and looks as if all were well."""
    sums = [info for info in infos_of(rule) if info.grows and info.unit != COUNT]
    if not sums or any(found.n for found in judged):
        return None
    return "metric", f"{sums[0].name} ({sums[0].description}) is of no row: it is 0 whatever happens"


def _counts(rule: Rule) -> str:
    counts = {info.counts for info in infos_of(rule)}
    return f" ({counts.pop()})" if len(counts) == 1 else ""


def _where(rule: Rule, look: Look) -> str:
    length = "day" if isinstance(rule.window, LocalDay) else format_duration(rule.window)
    if not look.among:
        return f"the last {length} (to {iso(look.window.end)})"
    return f"the busiest {length} of the last {format_duration(look.among)} (to {iso(look.window.end)})"


# --- what an edit ends --------------------------------------------------------------------------------------


def _ended(one: Ended) -> Prospect:
    parts = [f"{n} {what}" for n, what in ((one.firing, "firing"), (one.silent, "without data")) if n]
    many = one.firing + one.silent > 1
    alerts = f"its {' and '.join(parts)} alert{'s' if many else ''} on {one.model}"
    text = f"{alerts} will be resolved once this is in force: {one.reason}"
    if one.successor:
        text = f'was "{one.rule}", {text}; acknowledgements and `for` are not taken over'
        return Prospect(one.successor, "name", text)
    return Prospect(one.rule, "name", text, one.place)
