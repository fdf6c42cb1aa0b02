"""`kedge rules test`."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kedge.cli.common import json_option
from kedge.cli.output import json_line
from kedge.cli.rules.paths import chosen_paths, shown

if TYPE_CHECKING:
    from kedge.rehearsal.running import Report, Result


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("-v", "--verbose", is_flag=True, help="Name every test, with how long it took.")
@click.option(
    "--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write a JUnit report there, for CI."
)
@json_option
@click.pass_context
def test(
    ctx: click.Context, paths: tuple[Path, ...], verbose: bool, junit: Path | None, as_json: bool
) -> None:
    """Run the tests of rules: `*.test.yml` beside the rule files, or the files in PATHS.

    Exits with 1 where something came out otherwise than expected, with 2 where a file cannot be used.

    \b
    Example: kedge rules test
             kedge rules test rules/fraud.test.yml -v
             kedge rules test --junit report.xml
    """
    from kedge.rehearsal import running
    from kedge.rehearsal.cases import case_files

    files = case_files(chosen_paths(ctx, paths))
    if not files:
        raise click.UsageError("there are no tests: write some beside the rules, in a file named *.test.yml")
    report, began = running.Report(), time.perf_counter()
    for file in files:
        name, marks = shown(file), 0
        for one in running.run_file(file, name):
            if isinstance(one, running.Result):
                report.results.append(one)
                marks = _progress(one, marks, verbose, quiet=as_json)
            else:
                report.problems.append(one)
        if marks and not verbose:
            click.echo()
    if junit is not None:
        junit.write_text(running.junit(report), "utf-8")
    for problem in report.broken:
        click.echo(str(problem), err=True)
    if as_json:
        _print_json(report)
    else:
        click.echo("\n".join(running.told(report, time.perf_counter() - began)).lstrip("\n"))
    if report.broken:
        sys.exit(2)
    if report.failed:
        sys.exit(1)


def _progress(one: "Result", marks: int, verbose: bool, *, quiet: bool) -> int:
    """A dot a test; the marks on this line."""
    if quiet:
        return 0
    if verbose:
        said = {".": "passed", "F": "FAILED", "E": "cannot be run"}[one.mark]
        click.echo(f"{one.file}:{one.line}: {one.name}: {said} ({one.seconds:.2f} s)")
        return 1
    if not marks:
        click.echo(f"{one.file} ", nl=False)
    click.echo(one.mark, nl=False)
    return marks + 1


def _print_json(report: "Report") -> None:
    for one in report.results:
        json_line(
            {
                "file": one.file,
                "line": one.line,
                "test": one.name,
                "passed": one.passed,
                "seconds": round(one.seconds, 3),
                "failures": [
                    {"line": line, "what": failure.title, "diff": list(failure.diff)}
                    for line, failure in one.failures
                ],
                "problem": one.problem.text if one.problem else None,
            }
        )
    for problem in report.problems:
        json_line(
            {"file": problem.file, "line": problem.line, "column": problem.column, "problem": problem.text}
        )
