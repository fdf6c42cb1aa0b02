"""`kedge rules new`."""

from pathlib import Path

import click

from kedge.cli.common import settings_from
from kedge.cli.output import fail

SIDES = ("above", "below", "rise", "fall", "change")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--name", help="Names the rule.")
@click.option("--model", help="The model that it watches, or '*'.")
@click.option("--metric", help="What is watched: errors.rate, latency.p95, performance.recall.")
@click.option("--class", "cls", metavar="CLASS", help="The class that is meant, of a metric that is of one.")
@click.option("--feature", help="The feature that is meant, of a metric that is of one.")
@click.option("--by", multiple=True, metavar="DIMENSION", help="An alert for each of its values; repeatable.")
@click.option("--window", default="1h", show_default=True, help="How much time is looked at.")
@click.option("--side", type=click.Choice(SIDES), help="Which way is wrong.")
@click.option("--bound", help="Beyond what: 200ms, 5%, 5pp, 3x.")
@click.option("--severity", default="medium", show_default=True, help="How bad that is.")
@click.option("--for", "for_", default="0", show_default=True, help="How long it must last.")
@click.option("--notify", default="", help="The receiver of its alerts.")
@click.pass_context
def new(
    ctx: click.Context,
    file: Path,
    name: str | None,
    model: str | None,
    metric: str | None,
    cls: str | None,
    feature: str | None,
    by: tuple[str, ...],
    window: str,
    side: str | None,
    bound: str | None,
    severity: str,
    for_: str,
    notify: str,
) -> None:
    """Write a commented rule at the end of FILE; what is not given by flags is asked.

    Nothing is overwritten, and nothing is written that `kedge rules check` would refuse.

    \b
    Example: kedge rules new rules/fraud.yml
             kedge rules new rules/fraud.yml --name slow --model fraud --metric latency.p95 --side above
             --bound 200ms --for 10m
    """
    from kedge.alerting.draft import Draft, appended, worse
    from kedge.alerting.loading import load_rules, parse_rules
    from kedge.analysis.catalogue import lookup

    metric = lookup(_asked("metric", metric, "errors.rate")).name
    info = lookup(metric)
    label = {"class": cls, "feature": feature}.get(info.takes or "", "") or ""
    if info.must and not label and info.takes not in by:
        label = _asked(str(info.takes), None, None)
    draft = Draft(
        name=_asked("name", name, metric.replace(".", "-")),
        model=_asked("model", model, None),
        metric=metric,
        side=_asked("side (above, below, rise, fall, change)", side, worse(metric)),
        bound=_asked("bound", bound, None),
        window=window,
        for_=for_,
        by=by,
        label=label,
        notify=notify,
        severity=severity,
    )
    before = file.read_text("utf-8") if file.exists() else ""
    after = appended(before, draft.text())
    book = parse_rules(after, str(file))
    known = parse_rules(before, str(file))
    if len(book.rules) != len(known.rules) + 1 or len(book.problems) > len(known.problems):
        problems = [p for p in book.problems if p not in known.problems]
        fail("\n".join(map(str, problems)) or f"{file}: `rules:` is not the last thing in this file")
    folder = settings_from(ctx).rules
    others = load_rules([folder]).by_name if folder.exists() else {}
    if draft.name in others and draft.name not in known.by_name:
        fail(f'there is a rule "{draft.name}" at {others[draft.name].place}; names are unique over all files')
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as out:
        out.write(after[len(before) :])
    click.echo(f"{book.by_name[draft.name].place}: rule {draft.name}")


def _asked(what: str, given: str | None, default: str | None) -> str:
    if given is not None:
        return given
    answer: str = click.prompt(what, default=default)
    return answer
