"""One thread writes for all: together where it can, apart where it must."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future

import duckdb
import pytest

from kedge.errors import StoreUnavailable
from kedge.store.duckdb.writer import Transaction, Writer


class Log:
    """A table of numbers, and what the writer did to it."""

    def __init__(self) -> None:
        self.connection = duckdb.connect(":memory:")
        self.connection.execute("CREATE TABLE numbers (n INTEGER)")
        self.groups: list[list[int]] = []
        self.committed: list[int] = []
        self.rollbacks = 0
        self.gate = threading.Event()
        self.writer = Writer(self.connection, self.rolled_back)

    def rolled_back(self) -> None:
        self.rollbacks += 1

    def hold(self, transaction: Transaction, payloads: list[None]) -> list[None]:
        """Keep the writer busy, so that what follows is queued."""
        self.gate.wait(10)
        return payloads

    def insert(self, transaction: Transaction, payloads: list[int]) -> list[int]:
        self.groups.append(payloads)
        transaction.connection.executemany("INSERT INTO numbers VALUES (?)", [[n] for n in payloads])
        if any(n < 0 for n in payloads):
            raise ValueError("a negative number")
        transaction.after_commit(lambda: self.committed.extend(payloads))
        return [10 * n for n in payloads]

    def queued(self, *numbers: int) -> list[Future[int]]:
        held = self.writer.submit(self.hold, None)
        futures = [self.writer.submit(self.insert, n) for n in numbers]
        self.gate.set()
        held.result()
        return futures

    @property
    def numbers(self) -> list[int]:
        return [n for (n,) in self.connection.cursor().execute("SELECT n FROM numbers ORDER BY n").fetchall()]


@pytest.fixture
def log() -> Iterator[Log]:
    made = Log()
    yield made
    made.writer.close()
    made.connection.close()


def test_what_was_queued_meanwhile_is_written_together(log: Log) -> None:
    futures = log.queued(1, 2, 3)
    assert [future.result() for future in futures] == [10, 20, 30]
    assert log.groups in ([[1, 2, 3]], [[1], [2, 3]])
    assert log.committed == [1, 2, 3]


def test_one_bad_write_of_a_group_costs_no_other(log: Log) -> None:
    good, bad, last = log.queued(1, -2, 3)
    assert good.result() == 10
    with pytest.raises(ValueError, match="negative"):
        bad.result()
    assert last.result() == 30
    assert log.numbers == [1, 3]
    assert log.committed == [1, 3]
    assert log.rollbacks > 0


def test_closing_commits_what_is_queued_and_takes_no_more(log: Log) -> None:
    futures = log.queued(1, 2)
    log.writer.close()
    assert log.numbers == [1, 2]
    assert [future.result() for future in futures] == [10, 20]
    with pytest.raises(StoreUnavailable, match="closed"):
        log.writer.submit(log.insert, 3)
