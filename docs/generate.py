"""The tables of docs/reference, written from the code that they describe: `python -m docs.generate`.

Only what stands between `<!-- generated: NAME -->` and `<!-- end -->` is replaced; the words around it are
written by hand. `tests/docs` fails where a page is not what this module would write.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from docs import alarms
from ingest.rejection import REASONS
from kedge.analysis.catalogue import AGED, CELLS, METRICS
from kedge.cli import cli
from kedge.config import (
    ENVIRONMENT,
    Duration,
    FieldSettings,
    LabelSettings,
    ModelSettings,
    RetentionSettings,
    Settings,
    Share,
    Size,
    SourceSettings,
)
from kedge.moving import elastalert, prometheus
from kedge.notify.receivers import ReceiverModel
from kedge.notify.routes import InhibitModel, IntervalModel, RouteModel
from kedge.rehearsal import cases
from kedge.rehearsal.rows import MADE
from kedge.sketch.where import FAMILIES, FIELDS
from kedge.store.own_metrics import MetricSettings
from kedge.store.sources import NAMES, PRESETS, Mapped
from kedge.web.own import BUILD, GATEWAY, SERVER, OwnMetric
from kedge.windows import format_duration

_DURATION, _SHARE, _SIZE = (get_args(kind)[1] for kind in (Duration, Share, Size))
"""The validators that mark a length of time, a share and a size."""
FOLDER = Path(__file__).parent / "reference"
PAGES = [
    *sorted(FOLDER.glob("*.md")),
    FOLDER.parent / "custom-metrics.md",
    FOLDER.parent / "sources.md",
    FOLDER.parent / "false-alarms.md",
    FOLDER.parent / "testing-rules.md",
    FOLDER.parent / "routing.md",
    FOLDER.parent / "moving-in.md",
]
_REGION = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(columns: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """A Markdown table; pipes inside cells are escaped."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += [
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows
    ]
    return "\n".join(lines)


# --- settings ---------------------------------------------------------------------------------------------


def settings() -> str:
    variables = {name: variable for variable, name in ENVIRONMENT.items()}
    fields = (
        (
            f"`{name}`",
            f"`{variables[name]}`" if name in variables else "",
            _default(field),
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    )
    return table(("setting", "variable", "default", "meaning"), fields)


def model_settings() -> str:
    return _of_model(ModelSettings)


def retention_settings() -> str:
    return _of_model(RetentionSettings)


def metric_settings() -> str:
    return _of_model(MetricSettings)


def filter_fields() -> str:
    return table(
        ("field", "holds"),
        (
            (f"`{name}`", kind.value)
            for name, kind in (*FIELDS.items(), *((f"{stem}NAME", kind) for stem, kind in FAMILIES.items()))
        ),
    )


def label_settings() -> str:
    return _of_model(LabelSettings)


def source_settings() -> str:
    return _of_model(SourceSettings)


def source_fields() -> str:
    return _of_model(FieldSettings)


def source_names() -> str:
    return table(("name", "what it is"), ((f"`{name}`", about) for name, about in NAMES.items()))


def presets() -> str:
    """What each preset maps, one table a preset."""
    texts = []
    for name, preset in PRESETS.items():
        rows = [(f"`{kedge}`", _their_field(mapped)) for kedge, mapped in preset.fields.items()]
        rows += [("features", f"`{pattern}`") for pattern in preset.features]
        rows += [("filter", f"`{preset.filter}`")] if preset.filter else []
        texts.append(f"### {name}\n\n{preset.about}.\n\n{table(('name', 'their field'), iter(rows))}")
    return "\n\n".join(texts)


def _their_field(mapped: Mapped) -> str:
    unit = f" in {mapped.unit}" if mapped.unit != "ms" else ""
    values = f" is {' or '.join(mapped.values)}" if mapped.values else ""
    return f"`{mapped.field}`{unit}{values}"


def _of_model(model: type[BaseModel]) -> str:
    fields = (
        (f"`{field.alias or name}`", _default(field), field.description or "See below.")
        for name, field in model.model_fields.items()
    )
    return table(("setting", "default", "meaning"), fields)


def _default(field: FieldInfo) -> str:
    """The default as one would write it in kedge.yml; empty where there is none."""
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if (
        field.is_required()
        or value is None
        or value == ""
        or value == ()
        or value == {}
        or isinstance(value, BaseModel)
    ):
        return ""
    if _DURATION in field.metadata:
        return f"`{format_duration(value)}`"
    if _SIZE in field.metadata:
        return f"`{value / 1e9:g}GB`"
    return f"`{value:.0%}`" if _SHARE in field.metadata else f"`{value}`"


# --- tests of rules ---------------------------------------------------------------------------------------


def case_fields() -> str:
    """Of a test file: a table for each map in it."""
    texts = []
    for title, model in cases.MAPS.items():
        rows = (
            (f"`{field.alias or name}`", _case_default(name, field), field.description or "")
            for name, field in model.model_fields.items()
        )
        texts.append(f"### {title}\n\n{table(('field', 'default', 'meaning'), rows)}")
    return "\n\n".join(texts)


def _case_default(name: str, field: FieldInfo) -> str:
    if name in ("start", "from_"):
        return ""  # told in words
    if name == "interval":
        return f"`{format_duration(field.default)}`"
    return _default(field)


def made_metrics() -> str:
    return ", ".join(f"`{name}`" for name in MADE)


# --- commands ---------------------------------------------------------------------------------------------


def commands() -> str:
    return "\n\n".join(_command(path, command) for path, command in walk(cli))


Named = tuple[tuple[str, ...], click.Command]
"""A command and how it is called: ("kedge", "alerts", "ack")."""


def walk(command: click.Command, path: tuple[str, ...] = ("kedge",)) -> Iterator[Named]:
    """Every command below a group, itself first, in the order of `--help`."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            if child := command.get_command(context, name):
                yield from walk(child, (*path, name))


def _command(path: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command)
    name = " ".join(path)
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    usage = [name, "[OPTIONS]"] if options else [name]
    usage += [p.make_metavar(context) for p in command.params if isinstance(p, click.Argument)]
    if isinstance(command, click.Group):
        usage.append("COMMAND")
    text = [f"{'#' * min(len(path) + 1, 4)} {name}", f"`{' '.join(usage)}`", _help(command.help or "")]
    if options:
        rows = ((_flags(o), _shown_default(o), o.help or "") for o in options)
        text.append(table(("option", "default", "meaning"), rows))
    return "\n\n".join(part for part in text if part)


_VALUES = {"text": "TEXT", "integer": "N", "integer range": "N", "float": "X", "float range": "X"}


def _flags(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    if option.is_flag:
        return names
    if isinstance(option.type, click.Choice):
        return f"{names} {' or '.join(f'`{choice}`' for choice in option.type.choices)}"
    return f"{names} `{option.metavar or _VALUES.get(option.type.name, option.type.name.upper())}`"


def _shown_default(option: click.Option) -> str:
    return f"`{option.default}`" if option.show_default else ""


def _help(text: str) -> str:
    """A command's help as Markdown: what click keeps as it is (after \\b) becomes a block of text."""
    parts = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b\n"):
            margin = len("Example: ") if "Example: " in paragraph else 0
            lines = (line.removeprefix("Example: ") for line in paragraph.splitlines()[1:])
            lines = (line[margin:] if line.startswith(" " * max(margin, 1)) else line for line in lines)
            parts.append("```text\n" + "\n".join(lines) + "\n```")
        else:
            parts.append(" ".join(paragraph.split()))
    return "\n\n".join(parts)


# --- notify.yml -------------------------------------------------------------------------------------------


def notify_fields(model: type[BaseModel]) -> str:
    """What the defaults are stands with the meaning: most are inherited."""
    fields = (
        (f"`{field.alias or name}`", field.description or "") for name, field in model.model_fields.items()
    )
    return table(("field", "meaning"), fields)


# --- metrics ----------------------------------------------------------------------------------------------


def metrics() -> str:
    rows = (
        (
            f"`{info.name}`",
            info.description,
            info.unit,
            {"up": "more", "down": "less", "both": "either way"}[info.bad.value],
            info.counts,
            (f"`{info.takes}`" + ("" if info.must else ", or none")) if info.takes else "",
            "yes" if info.needs_reference or info.parts & CELLS else "",
        )
        for info in (*METRICS.values(), *AGED.values())
    )
    return table(("metric", "what it is", "unit", "worse is", "n counts", "label", "needs a baseline"), rows)


def own_metrics(those: Sequence[OwnMetric]) -> str:
    rows = (
        (
            f"`{m.name}`",
            ", ".join(f"`{label}`" for label in m.labels),
            "counter" if m.counts else "gauge",
            m.told,
        )
        for m in (BUILD, *those)
    )
    return table(("metric", "labels", "kind", "what it is"), rows)


def own_reasons() -> str:
    return table(("reason", "what was wrong"), ((f"`{name}`", told) for name, told in REASONS.items()))


# ----------------------------------------------------------------------------------------------------------

REGIONS: dict[str, Callable[[], str]] = {
    "settings": settings,
    "model-settings": model_settings,
    "retention-settings": retention_settings,
    "label-settings": label_settings,
    "metric-settings": metric_settings,
    "filter-fields": filter_fields,
    "source-settings": source_settings,
    "source-fields": source_fields,
    "source-names": source_names,
    "presets": presets,
    "commands": commands,
    "metrics": metrics,
    "own-server": partial(own_metrics, SERVER),
    "own-gateway": partial(own_metrics, GATEWAY),
    "own-reasons": own_reasons,
    "case-fields": case_fields,
    "made-metrics": made_metrics,
    "elastalert-different": lambda: bullets(elastalert.DIFFERENT),
    "prometheus-different": lambda: bullets(prometheus.DIFFERENT),
    "receiver-fields": partial(notify_fields, ReceiverModel),
    "route-fields": partial(notify_fields, RouteModel),
    "inhibit-fields": partial(notify_fields, InhibitModel),
    "interval-fields": partial(notify_fields, IntervalModel),
    **{name: partial(made, table) for name, made in alarms.REGIONS.items()},
}


def bullets(texts: Sequence[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def render(page: str) -> str:
    """A page with its generated regions as they should be now; KeyError for a region nobody writes."""
    return _REGION.sub(lambda found: found[1] + REGIONS[found[2]]() + "\n" + found[3], page)


def main() -> None:
    for file in PAGES:
        before = file.read_text("utf-8")
        if (after := render(before)) != before:
            file.write_text(after, "utf-8")


if __name__ == "__main__":
    main()
