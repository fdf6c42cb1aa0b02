"""Where the processor time of a span went: what shows which process bounds a rate on one machine."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil


@dataclass(frozen=True)
class Spent:
    """Processor time, in seconds."""

    server: float
    kedge: float
    client: float
    """This process: what posts, or waits."""
    idle: float
    """Of all cores."""

    def less(self, other: "Spent") -> "Spent":
        """Without what another span took."""
        return Spent(*(a - b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def per_row(self, rows: int) -> dict[str, float]:
        """In µs, by process."""
        return {name: 1e6 * seconds / rows for name, seconds in vars(self).items()}


class Meter:
    """Counts from when it is made. `kedge`: tells the processor time of kedge's process until now, in s."""

    def __init__(self, server: psutil.Process, kedge: Callable[[], float] = lambda: 0.0):
        self._clocks = (lambda: cpu_of(server), kedge, lambda: cpu_of(psutil.Process()), _idle)
        self._before = [clock() for clock in self._clocks]

    def spent(self) -> Spent:
        return Spent(*(clock() - before for clock, before in zip(self._clocks, self._before, strict=True)))


def usual(spans: Sequence[tuple[Spent, int]]) -> dict[str, float]:
    """Processor time a row, by process, in µs: the median over spans of so many rows."""
    each = [spent.per_row(rows) for spent, rows in spans]
    return {name: round(statistics.median(one[name] for one in each), 1) for name in each[0]}


def busy(per_row: dict[str, float]) -> float:
    """Of a row, in µs: what a machine with no idle core would still spend."""
    return sum(us for name, us in per_row.items() if name != "idle")


def cpu_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _idle() -> float:
    times = psutil.cpu_times()
    return float(times.idle + getattr(times, "iowait", 0.0))


def server_process(url: str) -> psutil.Process:
    """The process that listens there, on this machine."""
    port = urlsplit(url).port
    for connection in psutil.net_connections("tcp"):
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr
        if listens and connection.laddr.port == port and connection.pid is not None:
            return psutil.Process(connection.pid)
    raise RuntimeError(f"no process of this machine listens at {url}")
