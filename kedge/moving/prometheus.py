"""Alerting rules of Prometheus as kedge's. Pure.

A Prometheus rule is an expression over samples of any metric; a kedge rule names one of its own metrics, a
window and a bound. What a metric of theirs is here only its owner knows: `--map THEIRS=OURS`. Conditions that
`and`, `or` and `unless` join become parts of a composite.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kedge.alerting.finding import Severity
from kedge.errors import BadInput
from kedge.moving import promql
from kedge.moving.expressions import Condition, condition_of, gone_of, trend_of
from kedge.moving.fields import Options
from kedge.moving.promql import Binary, Node
from kedge.moving.report import Fields, Names, NotPossible, Translated, translate_each
from kedge.windows import format_duration
from kedge.yamlfile import YamlError, parse_yaml

DIFFERENT = (
    "Rules read the rows that were logged, not samples: rates are exact, and a restart loses nothing.",
    "Windows end at whole steps, a 24th of their length apart, a minute at least; groups have no `interval`.",
    "Late rows and labels are counted, and may resolve an alert as disproved.",
    "An alert keeps its state in the store; `for` and `keep_firing` count the time of the data.",
    "Messages are kedge's own: templates are not filled in.",
)
"""What is decided otherwise for all rules, on purpose; docs/moving-in.md tells why."""

_SEVERITIES: Mapping[str, Severity] = {
    **{severity.word: severity for severity in Severity},
    **dict.fromkeys(("none", "notice", "debug"), Severity.INFO),
    **dict.fromkeys(("warning", "warn", "ticket", "minor"), Severity.MEDIUM),
    **dict.fromkeys(("error", "page", "major"), Severity.HIGH),
    **dict.fromkeys(("emergency", "fatal"), Severity.CRITICAL),
}
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def import_prometheus(files: Mapping[str, str], options: Options) -> list[Translated]:
    """Rules by the name of their file; manifests of the Prometheus operator too. Never raises for what a file
    holds."""
    broken: list[Translated] = []
    found: list[tuple[str, Mapping[str, Any]]] = []
    for name, text in files.items():
        try:
            file = parse_yaml(text, name)
            found += [(f"{name}:{line}", rule) for line, rule in _rules(file.data, file.position)]
        except (YamlError, BadInput) as e:
            broken.append(Translated(name, name, why=str(e), instead="correct the file, and import it again"))
    taken = Names()

    def sources() -> Iterator[tuple[Translated, Callable[[Translated], None]]]:
        for place, rule in found:
            one = Translated(str(rule.get("alert", rule.get("record", ""))), place)
            yield one, _Rule(rule, options, taken).fill

    return broken + translate_each(sources(), options.defaults)


def _rules(
    data: Any, position: Callable[[Sequence[str | int]], tuple[int, int]]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each with its line, the labels of its group among its own."""
    at: tuple[str | int, ...] = ()
    if isinstance(data, Mapping) and "spec" in data:
        data, at = data["spec"], ("spec",)
    groups = data.get("groups") if isinstance(data, Mapping) else None
    if not isinstance(groups, list):
        raise BadInput("a rule file of Prometheus has `groups:`")
    for i, group in enumerate(groups):
        rules = group.get("rules") if isinstance(group, Mapping) else None
        for j, rule in enumerate(rules if isinstance(rules, list) else []):
            if isinstance(rule, Mapping):
                labels = {**_map(group.get("labels")), **_map(rule.get("labels"))}
                line, _ = position((*at, "groups", i, "rules", j))
                yield line, {**rule, "labels": labels}


class _Rule:
    """One rule of theirs, while it is read."""

    def __init__(self, data: Mapping[str, Any], options: Options, taken: Names) -> None:
        self.data, self.options, self.taken = data, options, taken
        self.out = Translated("", "")

    def fill(self, out: Translated) -> None:
        self.out = out
        if "record" in self.data:
            raise NotPossible(
                "a recording rule: kedge stores its metrics by itself",
                f"nothing; where alerts read it, say what it is: `--map {out.source}=METRIC`",
            )
        try:
            node = promql.parse(str(self.data.get("expr", "")))
        except BadInput as e:
            raise NotPossible(e.reason, "write it anew: docs/reference/rules.md") from None
        life = self._life()
        if isinstance(node, Binary) and node.op in ("and", "or", "unless"):
            self._composite(node, life)
        else:
            self._single(node, out.source, life)

    def _single(self, node: Node, name: str, life: Fields) -> str:
        """A rule of one condition; gives its name."""
        said = (self.out, self.options)
        condition = gone_of(node, *said) or trend_of(node, *said) or condition_of(node, *said)
        name = self.taken.rule(name)
        self.out.rules.append(self._written(condition, name, life))
        return name

    def _written(self, condition: Condition, name: str, life: Fields) -> Fields:
        where: Fields = {}
        if condition.model and condition.model != self.options.model:
            where["model"] = condition.model
        elif not condition.model and self.options.model == "*":
            self._once("each model is judged by itself: `--model NAME` names the one that is meant")
        if condition.version:
            where["version"] = condition.version
        if condition.by:
            where["by"] = list(condition.by)
        return {"name": name} | condition.fields | where | life

    def _once(self, text: str) -> None:
        if text not in self.out.differs:
            self.out.differs.append(text)

    def _composite(self, node: Binary, life: Fields) -> None:
        """A rule for each condition, of severity `info`, and one that joins them and tells."""
        name = self.taken.rule(self.out.source)
        clause = self._clause(node)
        self.out.same.append(f"{node.op} joins rules of their own, of kind composite")
        self.out.differs.append("alerts of the parts meet on the dimensions that they share")
        whole: Fields = {"name": name, "kind": "composite"} | clause
        self.out.rules.append(whole | self._model_of_parts() | life)

    def _model_of_parts(self) -> Fields:
        models = {str(rule.get("model", self.options.model)) for rule in self.out.rules}
        if len(models) > 1:
            raise NotPossible(f"it joins models: {', '.join(sorted(models))}", "a rule for each model")
        (model,) = models
        return {} if model == self.options.model else {"model": model}

    def _clause(self, node: Binary) -> Fields:
        sides = [self._part(side) for side in _chain(node)]
        match node.op:
            case "and":
                return {"all": sides}
            case "or":
                return {"any": sides}
            case _:
                return {"all": sides[:1], "none": sides[1:]}

    def _part(self, node: Node) -> Any:
        if isinstance(node, Binary) and node.op in ("and", "or", "unless"):
            return self._clause(node)
        return self._single(node, f"{self.out.source}-part", {"severity": "info"})

    # --- what is around the expression ----------------------------------------------------------------------

    def _life(self) -> Fields:
        out, life = self.out, Fields()
        for theirs, ours in (("for", "for"), ("keep_firing_for", "keep_firing")):
            if self.data.get(theirs) not in (None, 0, "0", "0s"):
                length = format_duration(_length(self.data[theirs]))
                life[ours] = length
                out.same.append(f"{theirs}: {length}")
        labels = {str(k): str(v) for k, v in _map(self.data.get("labels")).items()}
        life |= self._severity(labels.pop("severity", ""))
        if team := labels.pop("team", ""):
            life["team"] = team
        templated = sorted(name for name, value in labels.items() if "{{" in value)
        kept = {k: v for k, v in labels.items() if k not in templated and _LABEL.fullmatch(k)}
        if kept:
            life["labels"] = kept
        notes = {str(k): " ".join(str(v).split()) for k, v in _map(self.data.get("annotations")).items()}
        if runbook := notes.pop("runbook_url", "") or notes.pop("runbook", ""):
            life["runbook"] = runbook
        told = [notes.pop(name) for name in ("summary", "description", "message") if name in notes]
        plain = [text for text in told if "{{" not in text]
        if plain:
            life["description"] = " ".join(plain)
        if len(plain) < len(told) or templated:
            out.differs.append(
                "templates ({{ … }}) are left out: a message says the value, its group and its bound"
            )
        if notes:
            out.lost.append(
                f"annotations {', '.join(sorted(notes))}: no counterpart; `labels` are for routes"
            )
        return life

    def _severity(self, word: str) -> Fields:
        if not word:
            return {}
        found = _SEVERITIES.get(word.lower())
        if found is None:
            self.out.differs.append(f"severity {word} is none of kedge's: it is medium now")
            return {"severity": Severity.MEDIUM.word}
        said = self.out.same if found.word == word else self.out.differs
        said.append(f"severity {word} is {found.word}" if found.word != word else f"severity: {word}")
        return {"severity": found.word}


def _chain(node: Binary) -> list[Node]:
    """`a and b and c` as three; of `unless`, the first is what must hold."""
    left: list[Node] = [node.left]
    if isinstance(node.left, Binary) and node.left.op == node.op:
        left = _chain(node.left)
    return [*left, node.right]


def _map(raw: Any) -> Mapping[str, Any]:
    return raw if isinstance(raw, Mapping) else {}


def _length(raw: Any) -> int:
    try:
        return promql.parse_duration(str(raw))
    except BadInput as e:
        raise NotPossible(e.reason, "write a duration such as 10m") from None
