"""Kind `composite`: other rules' alerts together: all, any, none of them; nested, and joined on the labels
that they share.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PlainSerializer, PrivateAttr, WithJsonSchema, model_validator

from kedge.alerting.fields import Text, WindowLength, did_you_mean, reading
from kedge.alerting.finding import Finding, Severity, State
from kedge.alerting.inputs import Inputs, Standing
from kedge.alerting.rule import ALL_VERSIONS, Judgement, Rule
from kedge.errors import BadInput
from kedge.sketch import PartName, Summary
from kedge.windows import DAY, MINUTE, Millis

WORDS = ("all", "any", "none")
MOST_ALERTS = 1_000
"""Of one rule at a step: parts that share no label multiply."""
Place = tuple[str | int, ...]
"""Where in the rule a name is written: `("all", 1, "any", 0)`."""


@dataclass(frozen=True)
class Clause:
    """Holds where all of `all` hold, one of `any` does where there are any, and none of `none`."""

    all: "tuple[Part, ...]" = ()
    any: "tuple[Part, ...]" = ()
    none: "tuple[Part, ...]" = ()

    def names(self, at: Place = (), *, denied: bool = False) -> Iterator[tuple[Place, str, bool]]:
        """Every rule that is named: where, which, and whether it is one that must not fire."""
        for word in WORDS:
            for i, part in enumerate(getattr(self, word)):
                no = denied or word == "none"
                if isinstance(part, str):
                    yield (*at, word, i), part, no
                else:
                    yield from part.names((*at, word, i), denied=no)

    def to_json(self) -> dict[str, Any]:
        return {word: parts_json(getattr(self, word)) for word in WORDS if getattr(self, word)}


Part = str | Clause


def parts_json(parts: Iterable[Part]) -> list[Any]:
    return [part if isinstance(part, str) else part.to_json() for part in parts]


def parse_parts(raw: Any) -> tuple[Part, ...]:
    """`errors`, `[errors, {any: [a, b]}]`; raises BadInput."""
    items = [raw] if isinstance(raw, str | Mapping) else raw
    if not isinstance(items, list | tuple) or not items:
        raise BadInput("names no rule: write a list of names, or of {any: [name, name]}")
    return tuple(map(_part, items))


def _part(raw: Any) -> Part:
    if isinstance(raw, str | Clause):
        return raw
    if not isinstance(raw, Mapping):
        raise BadInput(f'"{raw}" is no name of a rule')
    for word in raw:
        if word not in WORDS:
            raise BadInput(f'"{word}" is none of the words{did_you_mean(str(word), WORDS)}')
    if not raw:
        raise BadInput("an empty map: write {any: [name, name]}")
    return Clause(**{word: parse_parts(parts) for word, parts in raw.items()})


def _schema(depth: int = 2) -> dict[str, Any]:
    inner: dict[str, Any] = {"type": "object"}
    if depth:
        words = dict.fromkeys(WORDS, _schema(depth - 1))
        inner = {"type": "object", "properties": words, "additionalProperties": False, "minProperties": 1}
    return {"anyOf": [{"type": "string"}, {"type": "array", "items": {"anyOf": [{"type": "string"}, inner]}}]}


Parts = Annotated[
    tuple[Part, ...],
    reading(parse_parts),
    PlainSerializer(parts_json),
    WithJsonSchema(_schema()),
]


class CompositeRule(Rule):
    """Fires where other rules' alerts fire together, at the same step: all of `all`, one of `any`, none of
    `none`; an item of a list may be such a map itself. Acknowledged and silenced alerts count as firing.

    Alerts of parts meet on the labels that they share: `region=eu` of one with `region=eu` of another, and
    both with an alert that has no region. The alert has the labels of all that made it. Rules on labels count
    as they stand, however old the predictions that they judge.
    """

    KIND: ClassVar[str] = "composite"

    kind: Literal["composite"] = Field(description="`composite`.")
    all_: Parts = Field(
        (), alias="all", description="All of these must fire: names of rules, or nested maps."
    )
    any_: Parts = Field((), alias="any", description="At least one of these must fire.")
    none_: Parts = Field((), alias="none", description="None of these may fire.")
    mute_parts: bool = Field(
        False,
        strict=True,
        description=(
            "While it fires, its parts are not told of: their alerts go on, and one that still fires when it "
            "is over is told then."
        ),
    )
    version: Text = Field(ALL_VERSIONS, description="Not used: versions are those of its parts' alerts.")
    window: WindowLength = Field(
        MINUTE,
        json_schema_extra={"default": "1m"},
        description="Not used: its parts have windows of their own. It is judged as often as the one that is "
        "judged most often.",
    )

    _bound: "tuple[Rule, ...] | None" = PrivateAttr(None)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        problems = []
        if not (self.all_ or self.any_):
            problems.append("needs `all` or `any`: names of the rules that must fire")
        if self.by:
            problems.append("its labels are those of its parts' alerts: leave out `by`")
        if self.min_count:
            problems.append("its parts have counts of their own: leave out `min_count`")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    # --- its parts ------------------------------------------------------------------------------------------

    @property
    def clause(self) -> Clause:
        return Clause(self.all_, self.any_, self.none_)

    @property
    def named(self) -> frozenset[str]:
        """The rules that it names."""
        return frozenset(name for _, name, _ in self.clause.names())

    @property
    def mutes(self) -> frozenset[str]:
        """The rules that are not told of while it fires."""
        if not self.mute_parts:
            return frozenset()
        return frozenset(name for _, name, denied in self.clause.names() if not denied)

    @property
    def bound(self) -> "tuple[Rule, ...] | None":
        """The rules that it names, as they are in force; None where one of them is not."""
        return self._bound

    def with_parts(self, parts: "tuple[Rule, ...] | None") -> "CompositeRule":
        """The same rule, with the rules that it names."""
        copy = self.model_copy()
        copy._place, copy._bound = self._place, parts
        return copy

    # --- what the pipeline asks -----------------------------------------------------------------------------

    @property
    def parts(self) -> frozenset[PartName]:
        return frozenset()

    @property
    def keeps_budget(self) -> bool:
        return False

    @property
    def compares(self) -> bool:
        return False

    @property
    def lowest(self) -> Severity:
        return self.severity

    @property
    def label_based(self) -> bool:
        """Its steps are those of its parts: far behind where all of them wait for labels."""
        return bool(self._bound) and all(part.label_based for part in self._bound or ())

    @property
    def slides(self) -> bool:
        return False

    @property
    def fans_out(self) -> bool:
        return True

    @property
    def grouping(self) -> tuple[str, ...]:
        return ()

    def step(self, base: Millis) -> Millis:
        steps = [part.step(base) for part in self._bound or () if not part.slides or part.window >= base]
        return min(steps, default=DAY)

    def judge_all(self, inputs: Inputs, step: Millis) -> list[Judgement]:
        """A finding for each alert: those of `inputs.own`, and those that `inputs.standing` makes."""
        drafted: dict[tuple[tuple[str, str], ...], Judgement] = {}
        for labels in inputs.own:
            reason = self._quiet(inputs.standing)
            finding = Finding(step=step, state=State.OK, window=inputs.window, reason=reason)
            drafted[tuple(sorted(labels.items()))] = (dict(labels), finding)
        made = sorted(_rows(self.clause, inputs.standing).items())
        for key, firing in made[:MOST_ALERTS]:
            drafted[key] = (dict(key), self._together(firing, inputs, step))
        return list(drafted.values())

    def judge_complete(self, summary: Summary, inputs: Inputs, step: Millis) -> list[Judgement]:
        return self.judge_all(inputs, step)

    def _together(self, firing: Sequence[Standing], inputs: Inputs, step: Millis) -> Finding:
        told = "severity" in self.model_fields_set
        severity = self.severity if told else max((s.severity for s in firing), default=self.severity)
        names = list(dict.fromkeys(s.rule for s in firing))
        verb = "fires" if len(names) == 1 else "fire together"
        quiet = [name for name in sorted(self.denied) if name not in names]
        without = f", and not {' or '.join(quiet)}" if quiet else ""
        return Finding(
            step=step,
            state=State.BREACH,
            severity=severity,
            window=inputs.window,
            reason=f"{' and '.join(names)} {verb}{without}" if names else f"fires{without}",
            clears="once they no longer do",
            causes=tuple({"kind": "rule", "rule": s.rule, "text": _brief(s)} for s in firing),
        )

    @property
    def denied(self) -> frozenset[str]:
        """The rules that must not fire."""
        return frozenset(name for _, name, denied in self.clause.names() if denied)

    def _quiet(self, standing: Mapping[str, Sequence[Standing]]) -> str:
        firing = sorted(name for name in self.named if standing.get(name))
        if not firing:
            return "none of its parts fires"
        return f"{' and '.join(firing)} alone {'fires' if len(firing) == 1 else 'fire'}: not what it asks for"


def _brief(standing: Standing) -> str:
    return f"({standing.severity.word}): {standing.reason}" if standing.reason else standing.severity.word


_Labels = tuple[tuple[str, str], ...]
_Rows = dict[_Labels, tuple[Standing, ...]]
"""By labels: the alerts that together have them."""


def _rows(part: Part, standing: Mapping[str, Sequence[Standing]]) -> _Rows:
    """The labels for which a part holds, each with the firing alerts that make it so."""
    if isinstance(part, str):
        return _merged((tuple(sorted(s.labels.items())), (s,)) for s in standing.get(part, ()))
    rows: _Rows = {(): ()}
    for each in part.all:
        rows = _joined(rows, _rows(each, standing))
    if part.any:
        either = _merged(row for each in part.any for row in _rows(each, standing).items())
        rows = _joined(rows, either)
    for each in part.none:
        denied = _rows(each, standing)
        rows = {labels: held for labels, held in rows.items() if not any(_meet(labels, d) for d in denied)}
    return rows


def _joined(rows: _Rows, others: _Rows) -> _Rows:
    pairs = ((a, b) for a in rows for b in others if _meet(a, b))
    return _merged((tuple(sorted({**dict(a), **dict(b)}.items())), rows[a] + others[b]) for a, b in pairs)


def _merged(rows: Iterable[tuple[_Labels, tuple[Standing, ...]]]) -> _Rows:
    found: _Rows = {}
    for labels, held in rows:
        known = found.get(labels, ())
        found[labels] = known + tuple(s for s in held if s not in known)
    return found


def _meet(a: _Labels, b: _Labels) -> bool:
    return meet(dict(a), dict(b))


def meet(a: Mapping[str, str], b: Mapping[str, str]) -> bool:
    """Whether two alerts' labels agree on every one that both have."""
    return all(b.get(name, value) == value for name, value in a.items())


# --- in a book of rules -----------------------------------------------------------------------------------


def bound_rules(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The same rules; composites with the rules that they name, where all are there and none is in a
    cycle."""
    by_name = {rule.name: rule for rule in rules}
    done: dict[str, Rule] = {}

    def bind(rule: Rule, above: frozenset[str]) -> Rule | None:
        if not isinstance(rule, CompositeRule):
            return rule
        if rule.name in done:
            return done[rule.name]
        if rule.name in above:
            return None
        found = [bind(by_name[n], above | {rule.name}) if n in by_name else None for n in sorted(rule.named)]
        whole = [part for part in found if part is not None]
        usable = len(whole) == len(found) and all(
            part.bound is not None for part in whole if isinstance(part, CompositeRule)
        )
        one = rule.with_parts(tuple(whole) if usable else None)
        if usable or not above:
            done[rule.name] = one
        return one

    return tuple(bind(rule, frozenset()) or rule for rule in rules)


def problems_of(
    rule: CompositeRule, by_name: Mapping[str, Rule], broken: Iterable[str]
) -> Iterator[tuple[Place, str]]:
    """What is wrong with the rules that it names: where, and what. `broken`: names of rules that have errors
    of their own.
    """
    for place, name, _ in rule.clause.names():
        part = by_name.get(name)
        if part is None and name not in set(broken):
            near = get_close_matches(name, [n for n in by_name if n != rule.name], n=1)
            hint = f' (did you mean "{near[0]}"?)' if near else ""
            yield place, f'there is no rule "{name}"{hint}'
        elif part is not None and rule.model != "*" and part.model not in ("*", rule.model):
            yield place, f'"{name}" is of model {part.model}, and this rule of {rule.model}: they never meet'
        elif cycle := _cycle(rule, name, by_name):
            yield place, f"needs itself: {' → '.join(cycle)}"


def _cycle(rule: CompositeRule, name: str, by_name: Mapping[str, Rule]) -> list[str]:
    """The way from a rule through a part back to itself; empty where there is none."""
    ways = [[rule.name, name]]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        if way[-1] == rule.name:
            return way
        part = by_name.get(way[-1])
        if way[-1] in seen or not isinstance(part, CompositeRule):
            continue
        seen.add(way[-1])
        ways += [[*way, n] for n in sorted(part.named)]
    return []
