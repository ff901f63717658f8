"""A fixed piece of work, again and again for a while; run as a file in a process of its own.

``spin.py WORK CPU BEGIN SECONDS``: WORK is ``count`` (the interpreter alone) or ``copy`` (memory
alone), pinned to CPU unless that is -1, from BEGIN (``time.monotonic``, 0 for at once). Prints one
JSON object. It imports little: what it costs to start is waiting.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TURNS = 10000
BYTES = 64 << 20
"""Source and target together are more than most caches hold."""
WAIT = 0.002


def count() -> Callable[[], None]:
    """Work of a few hundred microseconds that hardly needs memory."""

    def work() -> None:
        total = 0
        for number in range(TURNS):
            total += number

    return work


def copy() -> Callable[[], None]:
    """Work of some milliseconds that needs little else than memory."""
    source, target = bytearray(BYTES), memoryview(bytearray(BYTES))

    def work() -> None:
        target[:] = source

    return work


def spin(work: Callable[[], None], begin: float, seconds: float) -> dict[str, object]:
    """Work until ``seconds`` after ``begin``.

    Returns:
        ``times``: seconds of each piece of work; ``share``: processor time over wall time;
        ``seconds``: how long it worked.
    """
    work()
    while time.monotonic() < begin:
        time.sleep(WAIT)
    times: list[float] = []
    used = time.process_time()
    start = time.monotonic()
    end = (begin or start) + seconds
    before = time.perf_counter()
    while not times or time.monotonic() < end:
        work()
        after = time.perf_counter()
        times.append(after - before)
        before = time.perf_counter()
    wall = time.monotonic() - start
    used = time.process_time() - used
    return {"times": times, "share": used / wall, "seconds": wall}


if __name__ == "__main__":
    import json

    if int(sys.argv[2]) >= 0:
        os.sched_setaffinity(0, {int(sys.argv[2])})
    made = {"count": count, "copy": copy}[sys.argv[1]]()
    print(json.dumps(spin(made, float(sys.argv[3]), float(sys.argv[4]))))
