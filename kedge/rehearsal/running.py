"""Running test files: what was found of each test, and the report for other programs (JUnit)."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from kedge.alerting.loading import Problem, RuleBook, load_rules
from kedge.errors import BadInput, KedgeError
from kedge.notify.base import Message, Receipt
from kedge.notify.receivers import Receivers, load_receivers
from kedge.rehearsal.cases import Case, Loaded, load_cases
from kedge.rehearsal.trial import Failure, play

DEFAULT = "default"
"""The receiver of rules that name none, where no file says who that is."""


@dataclass
class Result:
    """What was found of one test."""

    file: str
    line: int
    name: str
    failures: list[tuple[int, Failure]] = field(default_factory=list)
    """With the line of what was expected."""
    problem: Problem | None = None
    """Why it could not be run."""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.failures and self.problem is None

    @property
    def mark(self) -> str:
        return "." if self.passed else "E" if self.problem else "F"


@dataclass
class Report:
    """What was found of all files."""

    results: list[Result] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    """What is wrong with the files themselves, and with the rules they are of."""

    @property
    def failed(self) -> list[Result]:
        return [one for one in self.results if one.failures]

    @property
    def broken(self) -> list[Problem]:
        return [*self.problems, *(one.problem for one in self.results if one.problem)]


def run_file(path: Path, name: str) -> Iterator[Result | Problem]:
    """The tests of one file in order; problems where it cannot be used. `name`: as people call it."""
    loaded = load_cases(path, name)
    if loaded.content is None:
        yield from sorted(loaded.problems)
        return
    try:
        book, receivers = _book(loaded), _receivers(loaded)
    except BadInput as e:
        for line in str(e).splitlines():
            yield Problem(name, *loaded.place("notify"), line)
        return
    if book.problems or loaded.problems:
        yield from loaded.problems
        yield from book.problems
        return
    if receivers is None:
        receivers = _everybody(book)
    book = book.shared(receivers.tree)
    for i, case in enumerate(loaded.content.tests):
        yield _run(loaded, i, case, book, receivers)


def _run(loaded: Loaded, i: int, case: Case, book: RuleBook, receivers: Receivers) -> Result:
    line, _ = loaded.place("tests", i)
    result = Result(loaded.name, line, case.name)
    began = time.perf_counter()
    try:
        for failure in play(case, book, receivers):
            result.failures.append((loaded.place("tests", i, *failure.loc)[0], failure))
    except BadInput as e:
        where = [int(part) if part.isdigit() else part for part in (e.place or "series").split("/")]
        result.problem = Problem(
            loaded.name, *loaded.place("tests", i, *where), f'test "{case.name}": {e.reason}'
        )
    result.seconds = time.perf_counter() - began
    return result


def _book(loaded: Loaded) -> RuleBook:
    assert loaded.content is not None  # noqa: S101 -- the caller has seen to it
    paths = []
    for i, rules in enumerate(loaded.content.rules):
        path = loaded.path.parent / rules
        if not path.exists():
            loaded.add(f"there is no file {rules} beside this one", "rules", i)
        else:
            paths.append(path)
    return load_rules(paths)


def _receivers(loaded: Loaded) -> Receivers | None:
    """Those of the file that is named; its secrets are not needed, for nothing is sent."""
    assert loaded.content is not None  # noqa: S101 -- the caller has seen to it
    if loaded.content.notify is None:
        return None
    path = loaded.path.parent / loaded.content.notify
    if not path.exists():
        loaded.add(f"there is no file {loaded.content.notify} beside this one", "notify")
        return None
    try:
        return load_receivers(path, Placeholders())
    except KedgeError as e:
        raise BadInput(str(e)) from None


class Placeholders(Mapping[str, str]):
    """An environment in which every variable is set, to something that opens nothing."""

    def __getitem__(self, name: str) -> str:
        return "https://rehearsal.invalid/"

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Nobody:
    """A receiver that is never sent to."""

    def send(self, message: Message, *, thread: dict[str, str] | None = None, again: bool = False) -> Receipt:
        raise KedgeError("a rehearsal sends nothing")


def _everybody(book: RuleBook) -> Receivers:
    """Every receiver that a rule names, and the default one."""
    names = {DEFAULT, *(rule.notify for rule in book.rules if rule.notify)}
    return Receivers(dict.fromkeys(names, Nobody()), DEFAULT)


def junit(report: Report) -> str:
    """The report as JUnit XML: a suite a file."""
    root = ET.Element("testsuites")
    files = dict.fromkeys([*(one.file for one in report.results), *(p.file for p in report.problems)])
    for file in files:
        results = [one for one in report.results if one.file == file]
        problems = [p for p in report.problems if p.file == file]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=file,
            tests=str(len(results) + bool(problems)),
            failures=str(sum(bool(one.failures) for one in results)),
            errors=str(sum(one.problem is not None for one in results) + bool(problems)),
            time=f"{sum(one.seconds for one in results):.3f}",
        )
        for one in results:
            case = _case(suite, file, one.name, one.line, one.seconds)
            for line, failure in one.failures:
                told = ET.SubElement(case, "failure", message=failure.title, type="expectation")
                told.text = "\n".join([f"{file}:{line}: {failure.title}", *failure.diff])
            if one.problem is not None:
                ET.SubElement(case, "error", message=one.problem.text, type="problem").text = str(one.problem)
        if problems:
            case = _case(suite, file, "the file can be used", problems[0].line, 0.0)
            told = ET.SubElement(case, "error", message=problems[0].text, type="problem")
            told.text = "\n".join(map(str, problems))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: Any, file: str, name: str, line: int, seconds: float) -> Any:
    return ET.SubElement(
        suite, "testcase", classname=file, name=name, file=file, line=str(line), time=f"{seconds:.3f}"
    )


def told(report: Report, seconds: float) -> Sequence[str]:
    """The failures, and the last line, for people."""
    lines: list[str] = []
    for one in report.failed:
        lines += ["", f"FAILED {one.file}:{one.line}: {one.name}"]
        for line, failure in one.failures:
            lines.append(f"  {one.file}:{line}: {failure.title}")
            lines += [f"    {text}" for text in failure.diff]
    passed = sum(one.passed for one in report.results)
    counts = [(passed, "passed"), (len(report.failed), "failed"), (len(report.broken), "problems")]
    said = ", ".join(f"{n} {what}" for n, what in counts if n or what == "passed")
    return [*lines, "", f"{said} in {seconds:.2f} s"]
