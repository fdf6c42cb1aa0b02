"""When a test fails, the logs of the processes that it had started are part of the report."""

from collections.abc import Generator, Iterator

import pytest

from tests.e2e.harness import RUNNING
from tests.e2e.launcher import Launcher


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, "pytest.Result[pytest.TestReport]", None]:  # type: ignore[name-defined]
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        report.sections += [("processes", one.logs()) for one in RUNNING]


@pytest.fixture(scope="session")
def kedge() -> Iterator[Launcher]:
    """Runs `kedge` commands, each in a process of its own."""
    with Launcher() as launcher:
        yield launcher
