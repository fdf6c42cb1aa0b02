"""Names in rules that no row of a model has, with the nearest that there are. Pure."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from kedge.alerting.drift import DriftRule
from kedge.alerting.facts import Facts, KnownModel, Prospect
from kedge.alerting.important import Top
from kedge.alerting.new_value import FEATURE, NewValueRule
from kedge.alerting.rule import ALL_VERSIONS, DIMENSIONS, SERVING, Rule
from kedge.alerting.series import SeriesRule
from kedge.alerting.threshold import ThresholdRule
from kedge.alerting.versions import OTHERS, VersionsRule
from kedge.analysis.catalogue import MetricInfo, is_measured, lookup, measured_of

MOST_NAMED = 6


def unlogged(rule: Rule, facts: Facts) -> Iterator[Prospect]:
    """Of a rule on a model of which nothing was read."""
    if rule.model in facts.logged:
        return
    if rule.model in facts.waiting:
        text = f"model {rule.model} has logged, and nothing of it is summarised yet (kedge tick)"
    else:
        text = f"model {rule.model} has never logged{_near(rule.model, facts.logged | facts.waiting)}"
    yield Prospect(rule.name, "model", text)


def unseen(rule: Rule, model: KnownModel) -> Iterator[tuple[str, str]]:
    """Names in a rule that none of the model's rows has: the field that says it, and what is wrong."""
    for info in infos_of(rule):
        if is_measured(info.name) and (field_name := measured_of(info.name)[0]) not in model.measured:
            yield "metric", f"no row of {model.name} has a {field_name}{_near(field_name, model.measured)}"
    yield from _unknown_features(rule, model)
    cls = getattr(rule, "cls", None)
    if cls is not None and model.classes and cls not in model.classes:
        near = _near(cls, model.classes)
        yield "class", f'class "{cls}" was neither predicted nor true of {model.name} lately{near}'
    for said, name in _dimensions(rule):
        if name in model.dimensions and not model.dimensions[name]:
            near = _near(name, {d for d, values in model.dimensions.items() if values} | model.others)
            yield said, f"no row of {model.name} has {name}{near}"
    versions = model.dimensions.get("version")
    for said, version in _versions(rule):
        if versions and version not in versions:
            yield said, f'no row of {model.name} is of version "{version}"{_near(version, versions)}'


def _unknown_features(rule: Rule, model: KnownModel) -> Iterator[tuple[str, str]]:
    named: tuple[str, ...]
    if isinstance(rule, NewValueRule):
        named, said = (() if rule.feature is None else (rule.feature,)), "field"
    elif isinstance(rule, DriftRule):
        named, said = (() if isinstance(rule.features, Top) else rule.features), "features"
    else:
        feature = getattr(rule, "feature", None)
        named, said = (() if feature is None else (feature,)), "feature"
    attributed = any(info.name.startswith("attribution.") for info in infos_of(rule))
    known = model.attributions if attributed else model.features
    what = "an attribution of feature" if attributed else "feature"
    for name in named:
        if name not in known:
            yield said, f'no row of {model.name} has {what} "{name}"{_near(name, known)}'


def infos_of(rule: Rule) -> list[MetricInfo]:
    """The metrics that it is on."""
    if isinstance(rule, SeriesRule):
        return rule.infos
    return [lookup(rule.metric)] if isinstance(rule, ThresholdRule | VersionsRule) else []


def _dimensions(rule: Rule) -> Iterator[tuple[str, str]]:
    for name in rule.grouping:
        if name != "version":
            yield "by", name
    if isinstance(rule, NewValueRule) and not rule.field.startswith(FEATURE):
        yield "field", rule.field


def _versions(rule: Rule) -> Iterator[tuple[str, str]]:
    """Versions that must have rows for the rule to judge anything; a candidate may still be to come."""
    if rule.version not in (ALL_VERSIONS, SERVING):
        yield "version", rule.version
    compare = rule.other_reference
    if compare is not None and compare.version is not None:
        yield "compare", compare.version
    if isinstance(rule, VersionsRule) and rule.reference != OTHERS:
        yield "reference", rule.reference


def asked_dimensions(rule: Rule) -> frozenset[str]:
    """The dimensions of which must be known whether rows have them, and which values."""
    found = {name for _, name in _dimensions(rule) if name in DIMENSIONS or name.startswith("segment.")}
    return frozenset(found | ({"version"} if any(True for _ in _versions(rule)) else set()))


def _near(word: str, names: Iterable[str]) -> str:
    """` (did you mean "amount"?)`, else some of what there is; empty where there is nothing."""
    known = sorted(names)
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f' (did you mean "{near[0]}"?)'
    more = f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else ""
    return f" (there are: {', '.join(known[:MOST_NAMED])}{more})" if known else ""
