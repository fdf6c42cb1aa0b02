"""`kedge rules import …`."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kedge.cli.common import json_option, settings_from
from kedge.cli.output import fail, json_line, table
from kedge.cli.rules.paths import shown

if TYPE_CHECKING:
    from kedge.moving.fields import Options
    from kedge.moving.report import Translated

Importer = Callable[[Mapping[str, str], "Options"], "list[Translated]"]


@click.group("import")
def import_() -> None:
    """Translate the rules of other tools, and tell of each what is equal, differs or is not possible.

    \b
    Example: kedge rules import elastalert elastalert/rules --model fraud --out rules/moved.yml
             kedge rules import prometheus alerts.yml --map http_requests_total=volume.count
    """


def _shared(command: Callable[..., None]) -> Callable[..., None]:
    """The options of both."""
    for option in (
        json_option,
        click.option(
            "--out",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Write the rules there, and the report to standard output; a file that exists stays.",
        ),
        click.option(
            "--map",
            "pairs",
            multiple=True,
            metavar="THEIRS=OURS",
            help="What a metric, field or label of theirs is here: `country=segment.country`.",
        ),
        click.option("--model", default="*", help="The model that the rules watch; '*': each by itself."),
    ):
        command = option(command)
    return command


@import_.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@_shared
@click.pass_context
def elastalert(
    ctx: click.Context,
    paths: tuple[Path, ...],
    model: str,
    pairs: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Translate rules of ElastAlert2: the files in PATHS, and those in its folders.

    The rules go to standard output, or with --out to a file; the report beside them says what became of each.
    Rules over a filter need metrics in kedge.yml, which are printed too. Exits with 1 where some rules could
    not be translated.

    \b
    Example: kedge rules import elastalert elastalert/rules --model fraud --out rules/moved.yml
    """
    from kedge.moving.elastalert import DIFFERENT, import_elastalert

    _run(ctx, "ElastAlert2", import_elastalert, DIFFERENT, _read(paths), model, pairs, out, as_json=as_json)


@import_.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@_shared
@click.pass_context
def prometheus(
    ctx: click.Context,
    paths: tuple[Path, ...],
    model: str,
    pairs: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Translate alerting rules of Prometheus: the rule files in PATHS, and those in its folders.

    What a metric of theirs is in kedge, --map says. The rules go to standard output, or with --out to a file;
    the report beside them says what became of each. Exits with 1 where some rules could not be translated.

    \b
    Example: kedge rules import prometheus alerts.yml --model fraud --out rules/moved.yml \\
               --map http_requests_total=volume.count --map latency_seconds=latency
    """
    from kedge.moving.prometheus import DIFFERENT, import_prometheus

    _run(ctx, "Prometheus", import_prometheus, DIFFERENT, _read(paths), model, pairs, out, as_json=as_json)


def _read(paths: Sequence[Path]) -> dict[str, str]:
    files: list[Path] = []
    for path in paths:
        found = (f for f in path.rglob("*") if f.suffix in (".yml", ".yaml") and f.is_file())
        files += sorted(found) if path.is_dir() else [path]
    texts = {}
    for file in dict.fromkeys(files):
        try:
            texts[shown(file)] = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as e:
            fail(f"{shown(file)}: cannot be read: {e}")
    if not texts:
        raise click.UsageError("there are no rules: name a file, or a folder with .yml or .yaml files")
    return texts


def _run(
    ctx: click.Context,
    origin: str,
    importer: Importer,
    different: Sequence[str],
    files: Mapping[str, str],
    model: str,
    pairs: Sequence[str],
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    from kedge.moving import report
    from kedge.moving.fields import Options, parse_vocabulary

    if out is not None and out.exists():
        raise click.UsageError(f"{out} is there already, and is not written over: name another file")
    settings_from(ctx)  # what it defines is known then
    options = Options(model, parse_vocabulary(pairs))
    found = importer(files, options)
    text = report.rules_text(found, f"rules of {origin}", options.defaults)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    if as_json:
        for one in found:
            json_line(one.to_json())
    else:
        if out is None:
            click.echo(text, nl=False)
        _tell(found, different, out, err=out is None)
    if any(one.verdict is report.Verdict.NOT_POSSIBLE for one in found):
        sys.exit(1)


def _tell(found: "Sequence[Translated]", different: Sequence[str], out: Path | None, *, err: bool) -> None:
    """The report: on standard error where the rules themselves are printed."""
    from rich.markup import escape

    from kedge.moving.report import Verdict, metrics_text

    def say(text: str = "") -> None:
        click.echo(text, err=err)

    rows: list[Sequence[Any]] = []
    for one in found:
        said = [
            *(f"= {t}" for t in dict.fromkeys(one.same)),
            *(f"≠ {t}" for t in one.differs),
            *(f"✗ {t}" for t in one.lost),
        ]
        if one.why:
            said = [f"✗ {one.why}", f"→ {one.instead}"]
        rows.append((escape(one.source), one.verdict.value, escape("\n".join(said))))
    table("", ["rule", "is", "what"], rows, to_err=err)
    counts = {verdict: sum(one.verdict is verdict for one in found) for verdict in Verdict}
    say()
    say(", ".join(f"{n} {verdict.value}" for verdict, n in counts.items()))
    if snippet := metrics_text([one for one in found if one.waits]):
        say("\nRules over a filter need these metrics in kedge.yml, and are comments until then:")
        say(snippet)
    if receivers := sorted({name for one in found for name in one.receivers}):
        say(f"\nnotify.yml must name these receivers: {', '.join(receivers)}")
    say("\nOf all of them (docs/moving-in.md):")
    for text in different:
        say(f"- {text}")
    if out is not None:
        say(f"\nwritten to {out}: kedge rules check {out}")
