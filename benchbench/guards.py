"""Torch's global state: what a contender must leave as it found it."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
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

    def write_cudnn(name: str) -> Callable[[Any], None]:
        return lambda value: setattr(cudnn, name, value)

    return (
        Setting(name="number of threads", read=torch.get_num_threads, write=torch.set_num_threads),
        Setting(name="default dtype", read=torch.get_default_dtype, write=torch.set_default_dtype),
        Setting(
            name="default device",
            read=lambda: str(torch.get_default_device()),
            # A device that is set goes through a dispatch mode on every call; the CPU needs none.
            write=lambda value: torch.set_default_device(None if value == "cpu" else value),
        ),
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
    )


def _flushes_denormals() -> bool:
    # Python's own arithmetic obeys the same control register; 5e-324 * 1.0 is 0 when it flushes.
    return _SMALLEST * _ONE == 0.0


_SMALLEST, _ONE = 5e-324, 1.0


class GlobalState:
    """Settings as they were; finds and undoes what changed. About 5 us a look."""

    def __init__(self) -> None:
        self._settings = _settings()
        self._values = [setting.read() for setting in self._settings]

    def restore(self) -> str:
        """Put changed settings back; says which changed and how, or an empty text."""
        changed = []
        for setting, value in zip(self._settings, self._values, strict=True):
            now = setting.read()
            if now != value:
                setting.write(value)
                changed.append(f"the {setting.name} from {value} to {now}")
        return f"it changed {' and '.join(changed)}" if changed else ""


class RandomState:
    """State of the global random generators of Python, torch and numpy."""

    def __init__(self, seed: int) -> None:
        import torch

        random.seed(seed)
        torch.manual_seed(seed)
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            numpy.random.seed(seed % (1 << 32))
        self._python = random.getstate()
        self._torch = torch.get_rng_state()
        self._numpy = None if numpy is None else numpy.random.get_state()

    def restore(self) -> None:
        """Put all generators back; CUDA's is seeded lazily with torch's and is left alone."""
        import torch

        random.setstate(self._python)
        torch.set_rng_state(self._torch)
        if self._numpy is not None:
            sys.modules["numpy"].random.set_state(self._numpy)
