"""Global state of torch, Python and the process: what a contender must leave as it found it."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One global setting, with how to read and write it."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], Any]


def _settings() -> tuple[Setting, ...]:
    import torch

    cudnn = torch.backends.cudnn
    kept = []

    def write_inference(value: bool) -> None:
        # A guard lasts as long as it is held; the one that was left open cannot be closed from
        # here.
        kept.append(torch._C._InferenceMode(value))

    def default_device() -> str:
        try:
            return str(torch.get_default_device())
        except Exception:  # somebody's mode stands in between; it is found next
            return "cpu"

    def write_cudnn(name: str) -> Callable[[Any], None]:
        return lambda value: setattr(cudnn, name, value)

    return (
        Setting(
            name="default device",
            read=default_device,
            # A device that is set goes through a dispatch mode on every call; the CPU needs none.
            write=lambda value: torch.set_default_device(None if value == "cpu" else value),
        ),
        *_modes(),  # before the others, since they stand between the other settings and torch
        Setting(name="number of threads", read=torch.get_num_threads, write=torch.set_num_threads),
        Setting(name="default dtype", read=torch.get_default_dtype, write=torch.set_default_dtype),
        Setting(name="grad mode", read=torch.is_grad_enabled, write=torch.set_grad_enabled),
        Setting(
            name="float32 matmul precision",
            read=torch.get_float32_matmul_precision,
            write=torch.set_float32_matmul_precision,
        ),
        Setting(
            name="deterministic algorithms",
            read=torch.are_deterministic_algorithms_enabled,
            write=torch.use_deterministic_algorithms,
        ),
        Setting(
            name="flushing of denormals",
            read=_flushes_denormals,
            write=lambda value: torch.set_flush_denormal(value),
        ),
        Setting(
            name="CPU autocast",
            read=lambda: torch.is_autocast_enabled("cpu"),
            write=lambda value: torch.set_autocast_enabled("cpu", value),
        ),
        Setting(
            name="cudnn.benchmark", read=lambda: cudnn.benchmark, write=write_cudnn("benchmark")
        ),
        Setting(
            name="cudnn.deterministic",
            read=lambda: cudnn.deterministic,
            write=write_cudnn("deterministic"),
        ),
        Setting(
            name="inference mode",
            read=torch.is_inference_mode_enabled,
            write=write_inference,
        ),
        Setting(
            name="anomaly mode", read=torch.is_anomaly_enabled, write=torch.set_anomaly_enabled
        ),
        Setting(
            name="use of oneDNN",
            read=torch._C._get_mkldnn_enabled,
            write=torch._C._set_mkldnn_enabled,
        ),
        *_cuda(),
        *_interpreter(),
        *_process(),
    )


def _cuda() -> Iterator[Setting]:
    """Where work on a GPU goes, while one is in use."""
    import torch

    cuda: Any = torch.cuda

    def guarded(read: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: read() if cuda.is_initialized() else None

    def guarded_write(write: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda value: None if value is None else write(value)

    yield Setting(
        name="current CUDA device",
        read=guarded(cuda.current_device),
        write=guarded_write(cuda.set_device),
    )
    yield Setting(
        name="current CUDA stream",
        read=guarded(cuda.current_stream),
        write=guarded_write(cuda.set_stream),
    )
    yield Setting(
        name="TF32 in convolutions",
        read=_tf32_in_convolutions,
        write=lambda value: setattr(torch.backends.cudnn, "allow_tf32", value),
    )
    yield Setting(
        name="CUDA autocast",
        read=lambda: torch.is_autocast_enabled("cuda"),
        write=lambda value: torch.set_autocast_enabled("cuda", value),
    )


def _tf32_in_convolutions() -> bool:
    import torch

    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:  # somebody set it in the newer way, which the older refuses to read
        return True


def _modes() -> Iterator[Setting]:
    """What torch runs around every operator or module of everybody."""
    import torch
    from torch.nn.modules import module

    core: Any = torch._C
    if hasattr(core, "_pop_torch_function_stack"):
        yield Setting(
            name="stack of torch function modes",
            read=core._len_torch_function_stack,
            write=_popper(core._len_torch_function_stack, core._pop_torch_function_stack),
        )
    if hasattr(core, "_pop_torch_dispatch_stack"):
        yield Setting(
            name="stack of dispatch modes",
            read=core._len_torch_dispatch_stack,
            write=_popper(
                core._len_torch_dispatch_stack, partial(core._pop_torch_dispatch_stack, None)
            ),
        )
    hooks = [
        value
        for name, value in vars(module).items()
        if name.startswith("_global_") and name.endswith("_hooks") and isinstance(value, dict)
    ]

    def keep(count: int) -> None:
        for found in hooks:
            while found and sum(map(len, hooks)) > count:
                found.popitem()

    yield Setting(name="hooks of all modules", read=lambda: sum(map(len, hooks)), write=keep)


def _popper(length: Callable[[], int], pop: Callable[[], Any]) -> Callable[[int], None]:
    def write(wanted: int) -> None:
        while length() > wanted:
            pop()

    return write


def _interpreter() -> Iterator[Setting]:
    yield Setting(name="trace function", read=sys.gettrace, write=sys.settrace)
    yield Setting(name="profile function", read=sys.getprofile, write=sys.setprofile)
    yield Setting(
        name="thread switch interval", read=sys.getswitchinterval, write=sys.setswitchinterval
    )
    yield Setting(
        name="garbage collector's thresholds",
        read=gc.get_threshold,
        write=lambda value: gc.set_threshold(*value),
    )
    yield Setting(
        name="garbage collector's callbacks",
        read=lambda: tuple(gc.callbacks),
        write=lambda value: gc.callbacks.__setitem__(slice(None), value),
    )


_ENVIRONMENT = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "MALLOC_", "LD_", "BENCHBENCH_")
"""Variables that libraries read later, or that the harness hands on."""


def _process() -> Iterator[Setting]:
    def variables() -> tuple[tuple[str, str], ...]:
        return tuple(item for item in os.environ.items() if item[0].startswith(_ENVIRONMENT))

    def set_variables(value: tuple[tuple[str, str], ...]) -> None:
        for name, _ in variables():
            del os.environ[name]
        os.environ.update(value)

    yield Setting(name="environment", read=variables, write=set_variables)
    if hasattr(os, "sched_getaffinity"):
        yield Setting(
            name="processors that the process may use",
            read=lambda: os.sched_getaffinity(0),
            write=_allow,
        )
    if hasattr(os, "getpriority"):
        yield Setting(
            name="priority",
            read=lambda: os.getpriority(os.PRIO_PROCESS, 0),
            write=lambda value: _try(os.setpriority, os.PRIO_PROCESS, 0, value),
        )
    for name in ("SIGALRM", "SIGVTALRM", "SIGPROF", "SIGUSR1", "SIGUSR2", "SIGINT"):
        number = getattr(signal, name, None)
        if number is not None:
            yield Setting(
                name=f"handler of {name}",
                read=partial(signal.getsignal, number),
                write=partial(signal.signal, number),
            )
    for name in ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF"):
        which = getattr(signal, name, None)
        if which is not None:
            yield Setting(
                name=f"interval timer {name}",
                read=partial(_is_set, which),
                write=partial(_stop, which),
            )


def _allow(cpus: set[int]) -> None:
    """For all threads: a pool that was started meanwhile has what the process had then."""
    try:
        tasks = [int(name) for name in os.listdir("/proc/self/task")]  # noqa: PTH208
    except OSError:
        tasks = [0]
    for task in tasks:
        with suppress(OSError):  # it may have ended
            os.sched_setaffinity(task, cpus)


def _is_set(which: int) -> bool:
    return signal.getitimer(which) != (0.0, 0.0)


def _stop(which: int, _: bool) -> None:
    signal.setitimer(which, 0.0)


def _difference(before: Any, after: Any) -> tuple[Any, Any]:
    """Of two long tuples only the parts in which they differ."""
    if not isinstance(before, tuple) or not isinstance(after, tuple):
        return before, after
    return tuple(x for x in before if x not in after), tuple(x for x in after if x not in before)


def _try(function: Callable[..., object], *arguments: object) -> None:
    with suppress(OSError):
        function(*arguments)


def _flushes_denormals() -> bool:
    # Python's own arithmetic obeys the same control register; 5e-324 * 1.0 is 0 when it flushes.
    return _SMALLEST * _ONE == 0.0


_SMALLEST, _ONE = 5e-324, 1.0


class GlobalState:
    """Settings as they were; finds and undoes what changed. About 25 us a look."""

    def __init__(self) -> None:
        self._settings = _settings()
        self._values = [setting.read() for setting in self._settings]

    def restore(self) -> str:
        """Put changed settings back; says which changed and how, or an empty text."""
        changed = []
        for index, (setting, value) in enumerate(zip(self._settings, self._values, strict=True)):
            now = setting.read()
            if value is None and setting.name.startswith("current CUDA"):
                self._values[index] = now  # CUDA was not in use yet
            elif now != value:
                setting.write(value)
                before, after = _difference(value, now)
                changed.append(f"the {setting.name} from {before} to {after}")
        return f"it changed {' and '.join(changed)}" if changed else ""


class RandomState:
    """State of the global random generators of Python, torch and numpy."""

    def __init__(self, seed: int) -> None:
        import torch

        random.seed(seed)
        torch.manual_seed(seed)
        self._seed = seed
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            numpy.random.seed(seed % (1 << 32))
        self._python = random.getstate()
        self._torch = torch.get_rng_state()
        self._numpy = None if numpy is None else numpy.random.get_state()

    def restore(self) -> None:
        """Put all generators back, CUDA's to its state right after seeding."""
        import torch

        random.setstate(self._python)
        torch.set_rng_state(self._torch)
        cuda: Any = torch.cuda
        if cuda.is_initialized():
            cuda.manual_seed(self._seed)
        if self._numpy is not None:
            sys.modules["numpy"].random.set_state(self._numpy)
