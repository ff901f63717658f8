"""A neighbour to measure beside: processes that keep processors busy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchbench.resources import allowed_cpus

# It ends with the pipe to its parent, whatever becomes of that.
_SPIN = """
import os, select, sys
while not select.select([0], [], [], 0)[0]:
    for _ in range(200000):
        pass
"""


@contextmanager
def neighbours(count: int) -> Iterator[tuple[int, ...]]:
    """Keep the last ``count`` processors busy; gives which, or none where processes cannot be
    pinned (then the scheduler places them).
    """
    can_pin = hasattr(os, "sched_setaffinity")
    cpus = tuple(allowed_cpus()[-count:]) if count and can_pin else ()
    running = []
    try:
        for number in range(count):
            process = subprocess.Popen([sys.executable, "-c", _SPIN], stdin=subprocess.PIPE)
            running.append(process)
            if cpus:
                os.sched_setaffinity(process.pid, {cpus[number % len(cpus)]})
        yield cpus
    finally:
        for process in running:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
