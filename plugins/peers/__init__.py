"""Kernels of other libraries, as contenders of workloads that are there already.

Each module names one library and what of it competes where. The libraries are optional, run on CUDA
only, and are imported in a worker when a case on such a device asks for them: one that is missing
or broken costs its own rows, with the reason and the command that mends it.
"""

from __future__ import annotations

from collections.abc import Iterator

import benchbench as bb
from benchbench_plugins.peers import gems, liger, quack

LIBRARIES = (liger.LIBRARY, quack.LIBRARY, gems.LIBRARY)


@bb.hookimpl
def benchbench_implementations() -> Iterator[bb.Implementation]:
    """Every kernel of every library."""
    for library in LIBRARIES:
        yield from library.implementations()
