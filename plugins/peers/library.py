"""What the peers have in common: a library on CUDA, its kernels, and why one cannot run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch

import benchbench as bb
from benchbench_plugins import _functional as shared
from benchbench_plugins._common import command, optional

Reason = Callable[[bb.Params], str | None]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One function of a library, as a contender of ``workload``."""

    workload: str
    doc: str
    function: Callable[[Any, bool], Callable[..., Any]]
    """From the library's module, and whether the case has a backward pass, to the function to call
    on the case's arguments."""
    autograd: str = ""
    """Why there is no backward pass; empty where there is one."""
    dtypes: Sequence[str] = shared.DTYPES
    unfit: Reason | None = None
    """Why the kernel does not take a case of its workload, or None."""


@dataclass(frozen=True, kw_only=True)
class Library:
    """An optional package whose kernels run on CUDA only."""

    name: str
    """Of its contenders."""
    module: str
    """Imported in the worker, and handed to the kernels."""
    kernels: Sequence[Kernel]
    capability: tuple[int, int] = (7, 0)
    """Least compute capability of the device."""

    def implementations(self) -> Iterator[bb.Implementation]:
        """A contender for each kernel; a quick look has them only when asked for by name."""
        for kernel in self.kernels:
            yield bb.Implementation(
                workload=kernel.workload,
                name=self.name,
                build=self._builder(kernel),
                unavailable=self._unavailable(kernel),
                presets=shared.SLOWER,
                doc=kernel.doc,
            )

    def _builder(self, kernel: Kernel) -> Callable[[Any], bb.Thunk]:
        def build(inputs: Any) -> bb.Thunk:
            module, reason = optional(self.module)
            if module is None:
                raise RuntimeError(reason)
            return inputs.thunk(kernel.function(module, inputs.backward))  # type: ignore[no-any-return]

        return build

    def _unavailable(self, kernel: Kernel) -> Reason:
        def reason(params: bb.Params) -> str | None:
            # Asked in this order, so that a machine without CUDA never imports the library.
            if not str(params["device"]).startswith("cuda"):
                return f"{self._absent()}it runs on CUDA only: choose device=cuda"
            return (
                self._no_device(str(params["device"]))
                or _unfit(kernel, params)
                or optional(self.module)[1]
                or None
            )

        return reason

    def _absent(self) -> str:
        """``needs X: command; `` where the package is not installed; imports nothing."""
        top = self.module.partition(".")[0]
        try:
            found = find_spec(top) is not None
        except (ImportError, ValueError):  # a stand-in without a spec, or a finder that is broken
            found = False
        return "" if found else f"needs {top}: {command(top)}; "

    def _no_device(self, device: str) -> str:
        if not torch.cuda.is_available():
            return f"{self._absent()}no CUDA device is visible to torch"
        found = torch.cuda.get_device_capability(device)
        if found < self.capability:
            return (
                f"its kernels need compute capability {self.capability[0]}.{self.capability[1]}, "
                f"this device has {found[0]}.{found[1]}"
            )
        return ""


def _unfit(kernel: Kernel, params: bb.Params) -> str:
    if kernel.autograd and shared.backward(params):
        return f"{kernel.autograd}; choose direction=forward"
    dtype = str(params.get("dtype", "float32"))
    if dtype not in kernel.dtypes:
        return f"its kernel does not take {dtype}; choose dtype={kernel.dtypes[0]}"
    return (kernel.unfit(params) if kernel.unfit else None) or ""


def planes_only(params: bb.Params) -> str | None:
    """Why a kernel of contiguous images cannot run, or None."""
    if params["layout"] == "channels_last":
        return "its kernel takes contiguous images only; choose layout=nchw"
    return None
