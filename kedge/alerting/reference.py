"""The reference of rule files for people, made from the models, so that no field goes undocumented.

python -m kedge.alerting.reference > docs/reference/rules.md
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from kedge.alerting.kinds import KINDS
from kedge.alerting.rule import Rule
from kedge.alerting.schema import object_schema
from kedge.analysis.catalogue import METRICS

_HEAD = """# Rules

Rules are YAML files in a folder, `rules/` unless `kedge.yml` says otherwise; people edit them, and a saved
file takes effect at the next tick. This page is made from the code.

```yaml
# yaml-language-server: $schema=../schema/rules.v1.json
version: 1
defaults: {model: fraud, notify: ml-oncall}   # fields that every rule of the file takes
rules:
- name: slow                                  # kind is threshold unless said
  metric: latency.p95
  window: 10m
  for: 5m
  above: {medium: 200ms, high: 1s}            # a severity ladder; a bare value takes `severity`
```

A file may hold any number of rules; files of subfolders, and `*.test.yml`, are not read. Errors come all at
once, each with its place: `rules/fraud.yml:12:5: rule "slow": unknown field "abve" (did you mean "above"?)`.
A broken file keeps its last good rules in force, and no file costs another its own.

**Severities**: `info` (dashboard only), `low`, `medium`, `high`, `critical`. **Times**: `90s`, `10m`, `24h`,
`7d`. **Values**: plain numbers, `5%`, `200ms`, `1.5s`; in `rise`, `fall` and `change` also `5pp` (points of a
share) and `3x` (times), where `5%` is relative to the reference. Bounds are strict: at the bound is not
beyond it. YAML reads `1.10` as a number: put versions in quotes.

**When it is judged**: a window slides. Its rule is judged at steps of the largest of 1m, 5m, 15m, 1h, 6h and
1d that is at most a 24th of the window, and at least the model's base bucket. Rules on `performance.*` and
`calibration.*` end at the newest predictions whose labels have come in. Windows of the kinds `anomaly` and
`trend` do not slide: each is a point of a series, and judged once.

**How sure it must be**: rates, means and quantiles do not fire on a point estimate. Against an absolute bound
their interval must lie beyond it; for `rise`, `fall` and `change` the value passes the bound and the interval
of the change, with the noise of both sides, excludes none. The level follows from `budget`, or from the
rule's share of its receiver's (docs/routing.md). A value beyond its bound that may be chance fires nothing,
and clears nothing.

**The life of an alert**: inactive, pending (for `for`), firing, acknowledged, resolved. Too little data
neither fires nor clears; no data is what `no_data` says, and never a recovery unless it says `ok`.
"""


def rules_reference() -> str:
    """The page, in Markdown."""
    shared = Rule.field_names()
    lines = [_HEAD, "## Fields of every kind", "", *_table(KINDS[0], [n for n in shared if n != "kind"])]
    for kind in KINDS:
        lines += ["", f"## Kind `{kind.KIND}`", "", " ".join((kind.__doc__ or "").split()), ""]
        lines += _table(kind, [name for name in kind.field_names() if name not in shared or _own(kind, name)])
    lines += ["", "## Metrics", "", "| metric | unit | `n` counts | what it is |", "|---|---|---|---|"]
    lines += [
        f"| `{m.name}`{f' by {m.takes}' if m.must else ''} | {m.unit} | {m.counts} | {m.description} |"
        for m in METRICS.values()
    ]
    return "\n".join(lines) + "\n"


def _own(kind: type[Rule], name: str) -> bool:
    """Whether a field of every kind means something else in this one."""
    return kind is not KINDS[0] and name in kind.__annotations__ and name in Rule.model_fields


def _table(kind: type[Rule], names: list[str]) -> Iterator[str]:
    schema = object_schema(kind)
    yield "| field | default | meaning |"
    yield "|---|---|---|"
    for name in names:
        field = schema["properties"][name]
        yield f"| `{name}` | {_default(field, name in schema['required'])} | {field['description']} |"


def _default(field: dict[str, Any], required: bool) -> str:
    if required:
        return "needed"
    return f"`{json.dumps(field['default'])}`".replace('"', "") if "default" in field else ""


def main() -> None:
    sys.stdout.write(rules_reference())


if __name__ == "__main__":
    main()
