"""Runs one case inside a worker.

This is the default implementation of the hook ``benchbench_run_case``. It is called last, so a
plugin may wrap it (a profiler, a power meter) or take its place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from benchbench import device, gpu
from benchbench.case_run import CaseRun
from benchbench.contract import (
    Case,
    Implementation,
    Result,
    Settings,
    Stage,
    Timer,
    Workload,
)
from benchbench.correctness import Guard
from benchbench.errors import UsageError
from benchbench.heap import Heap
from benchbench.hookspecs import hookimpl
from benchbench.integrity import Integrity
from benchbench.threads import Threads
from benchbench.timers import builtin, choose, suited
from benchbench.timers.cuda import is_cuda

log = logging.getLogger("benchbench")

Announce = Callable[[str, Stage], None]


def _nothing() -> None:
    return None


def _nobody(patience: float) -> set[str]:
    return set()


class Runner:
    """The core's own plugin.

    Args:
        timers: by name; the built-in ones when left out.
        end_stray: ends this process when it is a forked child of the worker.
        strays: names of contenders whose forked children came back into the worker's code since
            the last call; takes the seconds to wait for one that is on its way.
        integrity: what functions were before plugins were imported; not looked at when left out.
        device_lost: ends the worker when an error has destroyed its CUDA context; takes the reason.
    """

    def __init__(
        self,
        timers: Mapping[str, Timer] | None = None,
        end_stray: Callable[[], None] = _nothing,
        strays: Callable[[float], set[str]] = _nobody,
        integrity: Integrity | None = None,
        device_lost: Callable[[str], None] | None = None,
    ) -> None:
        self._timers = builtin() if timers is None else timers
        self._device_lost = device_lost
        self._gauge: gpu.Gauge | None = None
        self._asked_driver = False
        self._end_stray = end_stray
        self._strays = strays
        self._integrity = integrity
        self._heap = Heap()
        self._threads: Threads | None = None
        self.phases: dict[str, float] = {}
        """Seconds that the last case spent in each phase; ``timed`` is inside samples."""

    @hookimpl(trylast=True)
    def benchbench_run_case(
        self,
        case: Case,
        workload: Workload,
        implementations: Sequence[Implementation],
        settings: Settings,
        process: int,
        stage: Announce,
    ) -> Sequence[Result]:
        """Build, check and time the implementations of one case."""
        run = CaseRun(case, workload, implementations, settings, process, self._heap)
        try:
            timer = choose(settings.timer, case.device, self._timers)
            device.set_up(case.device)
        except (UsageError, RuntimeError) as error:
            run.reject_all("", str(error))
            return run.results()
        run.timer = suited(timer, workload, settings.timer, self._timers)
        run.gpu_record = self._record(case.device, process)
        seed = _seed(settings.seed, case.seed)
        run.guard = Guard(
            stage,
            seed,
            self._end_stray,
            self._strays,
            self._integrity,
            self._take_stock(),
            self._device_lost,
        )
        run.threads = self._threads
        try:
            run.execute()
        finally:
            getattr(run.timer, "forget", _nothing)()  # graphs keep what contenders hold
        self.phases = run.phases
        return run.results()

    def _record(self, where: str, process: int) -> gpu.Record | None:
        """What the driver says of the GPU in this case; None on the CPU or where it is not asked.

        Why it cannot be asked is said once a run.
        """
        if not is_cuda(where):
            return None
        if not self._asked_driver:
            self._asked_driver = True
            import torch

            self._gauge, reason = gpu.gauge(torch, gpu.nvml())
            if reason and process == 0:
                log.info("%s", reason)
        return None if self._gauge is None else gpu.Record(gauge=self._gauge)

    def _take_stock(self) -> Threads:
        """Threads as they are before a case."""
        if self._threads is None:
            self._threads = Threads()
        self._threads.note("")
        self._threads.release()
        return self._threads


def _seed(one: int, other: int) -> int:
    return (one * 1_000_003 + other) % (1 << 31)
