"""A fixed piece of work, again and again for a while; run as a file in a process of its own.

``spin.py CPU BEGIN SECONDS``: pinned to CPU unless that is -1, from BEGIN (``time.monotonic``, 0
for at once). Prints one JSON object. It imports little: what it costs to start is waiting.
"""

import os
import sys
import time

TURNS = 10000
WAIT = 0.002


def work() -> int:
    """A few hundred microseconds of the interpreter; always the same."""
    total = 0
    for number in range(TURNS):
        total += number
    return total


def spin(cpu: int, begin: float, seconds: float) -> dict:  # type: ignore[type-arg]
    """Work until ``seconds`` after ``begin``.

    Returns:
        ``times``: seconds of each piece of work; ``share``: processor time over wall time;
        ``seconds``: how long it worked.
    """
    if cpu >= 0:
        os.sched_setaffinity(0, {cpu})
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

    print(json.dumps(spin(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))))
