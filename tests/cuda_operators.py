"""A pytest plugin: the CUDA binding units, compiled for the host executor, answer for the CPU.

With ``-p cuda_operators`` an operator of the library runs its CUDA function on tensors of the CPU:
layouts, workspaces, launches and what surrounds them are those of the binding units, and the
kernels run on the executor. Only the device itself is missing: streams, guards, an allocator.
For a process of its own (test_cuda_operators.py starts it), since it cannot be undone.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest
import torch
from host_kernels import CSRC, compile_library

from benchbench import native
from benchbench.native_recipe import recipe


def library(cache: Path) -> Path:
    """The kernels, the executor and the CUDA binding units as one shared library."""
    plan = recipe()
    # Flags and folders of a unit that sees torch; -O1, since it is compiled more often than used.
    command = next(u.command for u in plan.units if u.source.parent.name == "bindings")
    command = (*command, "-O1", "-DBENCHBENCH_HOST_EXECUTOR")
    return compile_library(
        sorted((CSRC / "cuda").glob("*.cu")),
        cache,
        others=dict.fromkeys(sorted((CSRC / "bindings" / "cuda").glob("*.cpp")), command),
        link=tuple(w for w in plan.libraries if w.startswith("-") and "cuda" not in w),
    )


class Launches:
    """How many kernels the executor has started."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.executor_launches.restype = ctypes.c_uint64

    def __call__(self) -> int:
        return int(self._library.executor_launches())


def pytest_configure(config: Any) -> None:
    native.load()  # the schemas
    path = library(config.cache.mkdir("host_kernels"))
    torch.ops.load_library(str(path))
    config.stash[LAUNCHES] = Launches(path)


LAUNCHES = pytest.StashKey[Launches]()


@pytest.fixture(scope="session")
def launches(pytestconfig: Any) -> Launches:
    """Asks the executor how many kernels it has started."""
    return pytestconfig.stash[LAUNCHES]
