"""A rule as a person would begin it: a few answers become commented YAML. Pure."""

from dataclasses import dataclass

from kedge.alerting.loading import VERSION
from kedge.analysis.catalogue import Bad, MetricInfo, lookup

HEAD = f"# yaml-language-server: $schema=../schema/rules.v1.json\nversion: {VERSION}\nrules:\n"
"""Of a file that is new."""


@dataclass(frozen=True)
class Draft:
    """What is known of a rule on a metric."""

    name: str
    model: str
    metric: str
    side: str
    """`above`, `below`, `rise`, `fall` or `change`."""
    bound: str
    window: str = "1h"
    for_: str = "0"
    by: tuple[str, ...] = ()
    label: str = ""
    """The class or the feature, of a metric that is of one."""
    notify: str = ""
    severity: str = "medium"

    @property
    def info(self) -> MetricInfo:
        return lookup(self.metric)

    def text(self) -> str:
        """The rule as an item of `rules:`, each line with what it means."""
        info = self.info
        compares = self.side in ("rise", "fall", "change")
        lines: list[tuple[str, str]] = [
            (f"name: {self.name}", "names its alerts; unique over all files"),
            (f"model: {_quoted(self.model)}", ""),
            (f"metric: {self.metric}", info.description.rstrip(".")),
        ]
        if self.label and info.takes:
            lines.append((f"{info.takes}: {_quoted(self.label)}", f"the {info.takes} that is meant"))
        if self.by:
            lines.append((f"by: [{', '.join(self.by)}]", "an alert for each value"))
        lines.append((f"window: {self.window}", "how much time is looked at; it slides"))
        if compares:
            lines.append(("compare: {to: baseline}", "or history, same_time, version"))
        lines += [
            (f"{self.side}: {{{self.severity}: {self.bound}}}", "a ladder: add high or critical"),
            (f"for: {self.for_}", "so long it must last; 0 fires at once"),
            ("keep_firing: 0", "resolves once it was ok for so long"),
            ("min_count: 0", f"least n to judge on; counts {info.counts}"),
            ("no_data: keep", "or ok, or alert"),
            (f"notify: {_quoted(self.notify)}", "a receiver of notify.yml; empty is the default one"),
            ('runbook: ""', "a link for whoever is called"),
            ('description: ""', "what it means when it fires, in a sentence"),
        ]
        width = max(len(line) for line, _ in lines)
        shown = [f"{line:{width}}  # {why}" if why else line for line, why in lines]
        return "".join(f"{'- ' if not i else '  '}{line}\n" for i, line in enumerate(shown))


def worse(metric: str) -> str:
    """The side on which a metric is bad, where it has one."""
    return "below" if lookup(metric).bad is Bad.DOWN else "above"


def appended(before: str, rule: str) -> str:
    """A file with one rule more at its end: the list of rules must be the last thing in it."""
    if not before.strip():
        return HEAD + rule
    return before + ("" if before.endswith("\n") else "\n") + rule


def _quoted(text: str) -> str:
    plain = text.replace("-", "").replace("_", "").replace(".", "").isalnum() and not text[0].isdigit()
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return text if plain and text.lower() not in ("true", "false", "null") else f'"{escaped}"'
