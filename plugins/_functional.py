"""What plugins share whose contenders are functions of tensors: axes, factories, quality.

A contender here is a function from the case's tensors to the output; ``Inputs.thunk`` adds the
backward pass where the case has one.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import FunctionType
from typing import Any, Literal

import torch
from torch import Tensor

import benchbench as bb

DTYPES = ("float32", "bfloat16", "float16")
DIRECTIONS = ("forward", "forward+backward")
DEVICES = ("cpu", "cuda")
SLOWER = ("standard", "full", "gpu")
"""Presets for contenders whose compile would take most of a quick look."""
CUDA = ("cuda",)
"""The devices of the preset ``gpu``, whose shapes fill a large chip: at least 256 MB are moved."""
_SAMPLE = 1 << 18


def dtype_of(params: bb.Params) -> torch.dtype:
    """The torch dtype that the axis ``dtype`` names."""
    return getattr(torch, str(params["dtype"]))  # type: ignore[no-any-return]


def size_of(params: bb.Params) -> int:
    """Bytes of one element."""
    return dtype_of(params).itemsize


def backward(params: bb.Params) -> bool:
    """Whether the case has a backward pass."""
    return params["direction"] == "forward+backward"


def normal(shape: Iterable[int], params: bb.Params, rng: torch.Generator) -> Tensor:
    """Standard normal values of the case's dtype on its device; the same for a seed anywhere."""
    drawn = torch.randn(tuple(shape), generator=rng)
    return drawn.to(dtype_of(params)).to(str(params["device"]))


def functional(
    workload: str,
    name: str,
    function: Callable[..., Any],
    *,
    doc: str = "",
    presets: Iterable[str] | None = None,
    inexact: Literal["", "gradient", "output"] = "",
) -> bb.Implementation:
    """A contender that calls ``function`` on the case's arguments.

    ``inexact`` names what would be rejected as wrong in 16 bits.
    """
    return bb.Implementation(
        workload=workload,
        name=name,
        build=lambda inputs: inputs.thunk(function),
        unavailable=partial(too_coarse, inexact) if inexact else no_cuda,
        doc=doc or (function.__doc__ or "").strip().split("\n")[0],
        presets=None if presets is None else tuple(presets),
    )


def compiled(
    workload: str, function: Callable[..., Any], presets: Iterable[str] | None = SLOWER
) -> bb.Implementation:
    """The same function through ``torch.compile``; compiling happens in the first call."""
    return bb.Implementation(
        workload=workload,
        name="compiled",
        build=lambda inputs: inputs.thunk(compile_function(function)),
        unavailable=no_compiler,
        doc="torch.compile of the baseline: fullgraph, static shapes.",
        presets=None if presets is None else tuple(presets),
    )


def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """``torch.compile`` with a cache entry of its own.

    Compiled code is cached by code object, a few entries each: one that cases of many shapes share
    would soon fall back to eager.
    """

    def call(*arguments: Any) -> Any:
        return function(*arguments)

    own = FunctionType(
        call.__code__.replace(co_name="contender"), globals(), "contender", None, call.__closure__
    )
    return torch.compile(own, dynamic=False, fullgraph=True)


def fused(
    workload: str,
    function: Callable[[Any], Callable[..., Any]],
    *,
    direct: Callable[[Any], Callable[..., Any]] | None = None,
    name: str = "fused",
) -> list[bb.Implementation]:
    """Our kernels: ``function(benchbench.fused)`` gives the one to call.

    With ``direct``, the same kernel without dispatcher and autograd is a contender too, so that
    what those cost is a row of the table.
    """
    from benchbench import fused as kernels

    found = [
        bb.Implementation(
            workload=workload,
            name=name,
            build=lambda inputs: inputs.thunk(function(kernels)),
            unavailable=no_kernels,
            prepare=kernels.build,
            doc="benchbench's own kernel.",
        )
    ]
    if direct is not None:
        found.append(
            bb.Implementation(
                workload=workload,
                name="fused-direct",
                build=lambda inputs: inputs.thunk(direct(kernels.direct)),
                unavailable=no_direct_kernels,
                prepare=kernels.build,
                doc="The same kernel called past torch's dispatcher.",
                presets=SLOWER,
            )
        )
    return found


def no_cuda(params: bb.Params) -> str | None:
    """Why a contender cannot run on the case's device, or None."""
    if str(params["device"]).startswith("cuda") and not torch.cuda.is_available():
        return "no CUDA device is visible to torch"
    return None


def too_coarse(part: str, params: bb.Params) -> str | None:
    """Why several operators in a row cannot compete in 16 bits, or None."""
    if size_of(params) < 4 and (part == "output" or backward(params)):
        return (
            f"it rounds every intermediate result to {params['dtype']}, which leaves its {part} "
            "less exact than the tolerance; choose dtype=float32"
        )
    return no_cuda(params)


def no_compiler(params: bb.Params) -> str | None:
    """Why torch.compile cannot run, or None."""
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        return "torch.compile needs a C++ compiler; install g++"
    return no_cuda(params)


def no_kernels(params: bb.Params) -> str | None:
    """Why our kernels cannot run, or None."""
    from benchbench import fused as kernels

    if params["device"] != "cpu":
        return no_cuda(params) or kernels.unavailable_on_cuda()
    return kernels.unavailable()


def no_direct_kernels(params: bb.Params) -> str | None:
    """Why the direct functions cannot run, or None."""
    if backward(params):
        return "direct functions have no autograd, so they run forward only"
    if params["device"] != "cpu":
        return "direct functions are those of the CPU's kernels; run it with device=cpu"
    return no_kernels(params)


def in_float64(function: Callable[..., Any]) -> Callable[[bb.Inputs], Any]:
    """A workload's reference: the same function of the same inputs in float64."""
    return lambda inputs: inputs.double().thunk(function)()


_EXPONENT = 0x7FF0_0000_0000_0000


def ulp(output: Any, reference: Any) -> Mapping[str, float]:
    """Largest error of the first output in units in the last place, over up to 2^18 of its values.

    A unit in the last place of the reference, in the output's dtype: eps 2^floor(log2 |r|), at
    least that of the smallest normal number.
    """
    first, expected = (x[0] if isinstance(x, tuple) else x for x in (output, reference))
    step = max(1, first.numel() // _SAMPLE)
    values = first.detach().reshape(-1)[::step].to("cpu", torch.float64, copy=True)
    wanted = expected.detach().reshape(-1)[::step].double().cpu()
    info = torch.finfo(first.dtype)
    # A float64 without its fraction is the power of two below it.
    bits = wanted.abs().clamp_min_(info.tiny).view(torch.int64).bitwise_and_(_EXPONENT)
    error = values.sub_(wanted).abs_().div_(bits.view(torch.float64).mul_(info.eps))
    error.masked_fill_(wanted.isfinite().logical_not_(), 0.0)
    worst = float(error.max()) if error.numel() else 0.0
    return {"ulp": worst if math.isfinite(worst) else math.inf}


def traffic(
    params: bb.Params, elements: int, forward: int, gradient: int, *, flops: float = 0.0
) -> bb.Work:
    """Compulsory bytes: ``forward`` passes over the elements, ``gradient`` more for backward."""
    passes = forward + (gradient if backward(params) else 0)
    return bb.Work(
        bytes=float(passes * elements * size_of(params)),
        flops=flops,
        items=float(elements),
        item="element",
    )
