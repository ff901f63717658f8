"""The least time in which the compulsory bytes of a case can be moved.

Deliberately far below what any machine reaches, since who is under it is called a liar:

- CPU: every processor that the process may use moves three 64-byte vectors in each cycle of a
  6 GHz clock (two loads and a store from the first-level cache, the width of current cores), 1.15
  TB/s each.
- GPU: 60 TB/s, above the sum of the first-level caches of current devices (132 multiprocessors
  with 128 bytes a cycle at 2 GHz are 34 TB/s).

A copy of the same bytes is timed beside the case, but it is no floor: what lies in a cache, or is
only read, can be several times as fast.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchbench.contract import Work
from benchbench.resources import allowed_cpus

CORE_BYTES_PER_SECOND = 3 * 64 * 6e9
GPU_BYTES_PER_SECOND = 60e12


def least_seconds(work: Work | None, device: str) -> float:
    """Seconds that one call takes at the least; 0 where the case states no bytes."""
    kind = device.split(":")[0]
    if work is None or work.bytes <= 0 or kind not in ("cpu", "cuda"):
        return 0.0
    speed = GPU_BYTES_PER_SECOND
    if kind == "cpu":
        speed = CORE_BYTES_PER_SECOND * len(allowed_cpus())
    return work.bytes / speed


def floor_fault(samples: Sequence[float], work: Work | None, device: str) -> str:
    """Why a contender cannot have done the work, or an empty text."""
    least = least_seconds(work, device)
    if not samples or not least:
        return ""
    typical = statistics.median(samples)
    if typical >= least:
        return ""
    assert work is not None
    return (
        f"{typical:.3g} s a call is under the floor: moving {work.bytes:.3g} bytes takes "
        f"{least:.3g} s at the least, so it does not"
    )
