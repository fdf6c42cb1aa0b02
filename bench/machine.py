"""On what a figure was measured."""

import os
import platform
from importlib.metadata import version
from pathlib import Path


def cpu() -> str:
    """The processor's own name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


def memory_gib() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def describe() -> dict[str, object]:
    """The machine and the versions that the figures depend on."""
    packages = ("kedge", "elasticsearch", "uvicorn", "fastapi", "msgspec", "orjson", "celery", "numpy")
    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "memory_gib": memory_gib(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 1),
        "packages": {name: version(name) for name in packages},
    }
