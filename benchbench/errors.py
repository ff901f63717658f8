"""One tree of exceptions. Every message names what failed, where, why, and what to do next.

BenchbenchError
├── UsageError        a name or option that does not exist (exit code 2)
├── PlanError         nothing to run, or a grid that makes no sense (exit code 2)
├── PluginError       a plugin that cannot be loaded or contributes something unusable
├── WorkerDied        a worker process ended, hung or was killed
├── StoreError        results that cannot be written or read
└── NativeError       the compiled kernels cannot be built or loaded
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchbenchError(Exception):
    """Base of all errors that benchbench raises on purpose."""

    exit_code = 1


class UsageError(BenchbenchError):
    """A name or option that does not exist."""

    exit_code = 2


class PlanError(BenchbenchError):
    """Nothing to run, or a grid that makes no sense."""

    exit_code = 2


class PluginError(BenchbenchError):
    """A plugin cannot be loaded or contributes something unusable."""

    exit_code = 3


class WorkerDied(BenchbenchError):
    """A worker process ended. ``reason`` is one line: the signal or exit code, in words."""

    def __init__(self, reason: str, log: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.log = log


class StoreError(BenchbenchError):
    """Results cannot be written or read."""


class NativeError(BenchbenchError):
    """The compiled kernels cannot be built or loaded."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """``" Did you mean 'gelu'?"`` for a mistyped ``name``, or an empty text."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    if not close:
        return ""
    return " Did you mean " + " or ".join(repr(match) for match in close) + "?"
