"""Run by itself: `usage.py FILE COMMAND …` runs the command and writes to FILE what it took, as JSON.

A process of its own, and small: the peak of a child begins at the size of the process that forked it.
"""

import json
import os
import sys
import time
from pathlib import Path


def main() -> int:
    began = time.perf_counter()
    pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
    _, status, used = os.wait4(pid, 0)
    found = {
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": used.ru_maxrss // 1024,
    }
    Path(sys.argv[1]).write_text(json.dumps(found))
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
