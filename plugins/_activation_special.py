"""Activations whose inputs are not simply tensors of the output's shape.

Gates whose two inputs are halves of one tensor, softmax with a mask, and the randomized leaky ReLU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

import benchbench as bb
from benchbench_plugins import _functional as shared
from benchbench_plugins._activation_tasks import SHAPES, exact_gelu

ALPHA = 1e-4
AUDITS = 1000
"""A random output is audited many times a run; each audit of a timed one gets this share."""
LOWER, UPPER = 1 / 8, 1 / 3
"""Slopes of RReLU, torch's defaults."""
RRELU = "activations/rrelu"
GPU: dict[str, Any] = {
    "dtype": ("bfloat16", "float32"),
    "direction": shared.DIRECTIONS,
    "device": shared.CUDA,
}
STANDARD = {"direction": shared.DIRECTIONS[1:]}
"""Few people wait for these: one shape, forward and backward."""


@dataclass(frozen=True, kw_only=True)
class Special:
    """An activation whose inputs are not simply tensors of the output's shape."""

    name: str
    doc: str
    function: Callable[..., Any]
    make: Callable[[bb.Params, int], bb.Inputs]
    shapes: tuple[tuple[int, ...], ...]
    """The first is the one of a standard run."""
    passes: tuple[int, int]
    """Compulsory passes over the output's elements, forward and backward."""
    gpu: tuple[int, ...]
    """A shape that fills a large GPU."""
    elements: Callable[[tuple[int, ...]], int] = math.prod
    """Of the output."""
    exact: Callable[..., Any] | None = None
    """The reference where the function in float64 is not precise enough to be one."""
    fused: dict[str, Callable[[Any], Callable[..., Any]]] = field(default_factory=dict)
    """Contenders of benchbench's own kernels: each makes a function of ``benchbench.fused``."""
    direct: Callable[[Any], Callable[..., Any]] | None = None
    """The kernel called past the dispatcher, a function of ``benchbench.fused.direct``."""
    others: dict[str, Callable[..., Any]] = field(default_factory=dict)
    inexact: Literal["", "gradient", "output"] = ""
    """What would be wrong in 16 bits."""

    @property
    def workload(self) -> str:
        """The workload's name."""
        return f"activations/{self.name}"


def _shape(params: bb.Params) -> tuple[int, ...]:
    shape = params["shape"]
    assert isinstance(shape, tuple)
    return tuple(int(size) for size in shape)


def make_glu(params: bb.Params, seed: int) -> bb.Inputs:
    """x of the case's shape; the output is half as wide."""
    rng, shape = torch.Generator().manual_seed(seed), _shape(params)
    values = {"x": shared.normal(shape, params, rng).mul_(2)}
    if not shared.backward(params):
        return bb.Inputs(values)
    half = (*shape[:-1], shape[-1] // 2)
    return bb.Inputs(values, wrt=["x"], cotangents=[shared.normal(half, params, rng)])


def glu_by_halves(x: Tensor) -> Tensor:
    """chunk, sigmoid, product: three operators."""
    value, gate = x.chunk(2, -1)
    return value * torch.sigmoid(gate)


def packed(gate: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """f(first half) * second half: chunk, function, product."""

    def function(x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return gate(first) * second

    return function


def _of_the_packed(name: str) -> Callable[[Any], Callable[..., Any]]:
    return lambda kernels: getattr(kernels, name)  # type: ignore[no-any-return]


def _of_the_halves(name: str) -> Callable[[Any], Callable[..., Any]]:
    """The kernel of two tensors on the halves, which it has to copy first."""

    def of(kernels: Any) -> Callable[..., Any]:
        function = getattr(kernels, name)
        return lambda x: function(*x.chunk(2, -1))

    return of


def _direct_gate(number: int) -> Callable[[Any], Callable[..., Any]]:
    """``number`` is the gate's place in the library's list of activations."""
    return lambda library: lambda x: library.packed_gate(x, number)


def make_masked(params: bb.Params, seed: int) -> bb.Inputs:
    """Scores (batch, heads, queries, keys), and a mask (batch, 1, queries, keys) in three forms:
    True where hidden, True where kept, and to be added.

    The mask is causal, and the last keys of each sequence are padding.
    """
    rng, shape = torch.Generator().manual_seed(seed), _shape(params)
    batch, _, queries, keys = shape
    lengths = torch.randint(keys // 2, keys + 1, (batch,), generator=rng)
    hidden = torch.arange(keys) >= lengths[:, None, None]
    causal = torch.ones(queries, keys, dtype=torch.bool).triu(1 + keys - queries)
    mask = (hidden | causal)[:, None]
    additive = torch.zeros(mask.shape).masked_fill(mask, -math.inf)
    device = str(params["device"])
    values = {
        "x": shared.normal(shape, params, rng).mul_(8),
        "mask": mask.to(device),
        "kept": (~mask).to(device),
        "additive": additive.to(shared.dtype_of(params)).to(device),
    }
    if not shared.backward(params):
        return bb.Inputs(values)
    return bb.Inputs(values, wrt=["x"], cotangents=[shared.normal(shape, params, rng)])


SCALE = 0.125
"""Of attention with heads of 64."""


def masked_softmax(x: Tensor, mask: Tensor, kept: Tensor, additive: Tensor) -> Tensor:
    """Scale, fill with -inf by a boolean mask, softmax: three operators."""
    return F.softmax((x * SCALE).masked_fill(mask, -math.inf), -1)


def softmax_of_sum(x: Tensor, mask: Tensor, kept: Tensor, additive: Tensor) -> Tensor:
    """Scale and add a mask of 0 and -inf in one operator, then softmax."""
    return F.softmax(torch.add(additive, x, alpha=SCALE), -1)


SPECIAL = (
    Special(
        name="glu",
        doc="Gated linear unit: the first half of the last dimension times sigmoid of the other.",
        function=lambda x: F.glu(x, -1),
        make=make_glu,
        shapes=((4096, 1536), (2048, 22016), (32, 256)),
        gpu=(16384, 8192),
        passes=(3, 5),
        elements=lambda shape: math.prod(shape) // 2,
        others={"by-hand": glu_by_halves},
        inexact="gradient",
    ),
    *(
        Special(
            name=f"packed_{name}",
            doc=f"{function} of the first half of the last dimension times the second half: a gate "
            "whose two inputs come from one linear layer.",
            function=packed(gate),
            make=make_glu,
            shapes=((1024, 5504), (2048, 22016), (32, 256)),
            gpu=(16384, 8192),
            passes=(3, 5),
            elements=lambda shape: math.prod(shape) // 2,
            exact=packed(exact),
            fused={
                "fused": _of_the_packed(f"packed_{name}"),
                "fused-halves": _of_the_halves(name),
            },
            direct=_direct_gate(number),
        )
        for name, function, gate, exact, number in (
            ("swiglu", "silu", F.silu, F.silu, 5),
            ("geglu", "gelu", F.gelu, exact_gelu, 3),
            ("reglu", "relu", F.relu, F.relu, 0),
        )
    ),
    Special(
        name="masked_softmax",
        doc="softmax(x / 8) over keys that a causal mask with padding leaves: attention's.",
        function=masked_softmax,
        make=make_masked,
        shapes=((2, 12, 512, 512), (8, 12, 512, 512), (1, 12, 128, 128)),
        gpu=(4, 16, 1024, 1024),
        passes=(2, 3),
        others={"additive": softmax_of_sum},
        fused={
            "fused": lambda k: lambda x, mask, kept, additive: k.masked_softmax(x, kept, SCALE),
            "fused-additive": lambda k: (
                lambda x, mask, kept, additive: k.masked_softmax(x, additive, SCALE)
            ),
        },
        direct=lambda k: lambda x, mask, kept, additive: k.masked_softmax(x, kept, SCALE, False),
    ),
)


def make_rrelu(params: bb.Params, seed: int) -> bb.Inputs:
    """x of the case's shape."""
    # Contenders draw from torch's own generator, which starts at the case's seed too: the same
    # stream would make the slopes depend on x.
    rng = torch.Generator().manual_seed(seed + (1 << 31))
    return bb.Inputs({"x": shared.normal(_shape(params), params, rng).mul_(2)})


def rrelu(inputs: Any) -> bb.Thunk:
    """F.rrelu in training."""
    x = inputs.x
    return lambda: F.rrelu(x, LOWER, UPPER, training=True)


def rrelu_by_where(inputs: Any) -> bb.Thunk:
    """Uniform slopes for all elements, then a choice: three operators."""
    x = inputs.x
    return lambda: torch.where(x >= 0, x, x * torch.empty_like(x).uniform_(LOWER, UPPER))


def check_rrelu(evidence: bb.Evidence) -> str | None:
    """Positive values unchanged; slopes of the others uniform between 1/8 and 1/3."""
    from scipy.stats import kstest

    x, y = evidence.inputs.x, evidence.output
    if y.shape != x.shape:
        return f"shape {tuple(y.shape)}, expected {tuple(x.shape)}"
    positive = x >= 0
    if not torch.equal(y[positive], x[positive]):
        return "positive values have changed"
    # Rounding moves the slope of a number close to zero by less than a thousandth of the range.
    slopes = (y[~positive].double() / x[~positive].double()).cpu()
    units = (slopes - LOWER) / (UPPER - LOWER)
    if units.numel() == 0:
        return None
    if not (units.min() > -1e-3 and units.max() < 1 + 1e-3):
        return (
            f"slopes from {float(slopes.min()):.4g} to {float(slopes.max()):.4g}, outside "
            f"{LOWER:.4g} to {UPPER:.4g}"
        )
    sample = units[:: max(1, units.numel() // 20_000)].clamp(0, 1).numpy()
    limit = ALPHA / (AUDITS if evidence.timed else 1)
    p = float(kstest(sample, "uniform").pvalue)
    if p < limit:
        return f"slopes are not uniform: p = {p:.1e}, below {limit:.1e}"
    return None


def workloads() -> Iterator[bb.Workload]:
    """All of this module."""
    for special in SPECIAL:
        yield _workload(special)
    yield bb.Workload(
        name=RRELU,
        doc="Randomized leaky ReLU in training: each negative number has a slope of its own.",
        axes={"shape": SHAPES, "dtype": ("float32",), "device": shared.DEVICES},
        presets={
            "quick": [],
            "standard": {},
            "full": {"shape": SHAPES},
            "gpu": {"shape": ((16384, 4096),), "device": shared.CUDA},
        },
        make=make_rrelu,
        check=check_rrelu,
        work=lambda params: bb.Work(
            bytes=8.0 * math.prod(_shape(params)), items=math.prod(_shape(params)), item="element"
        ),
        baseline="eager",
    )


def _workload(special: Special) -> bb.Workload:
    def work(params: bb.Params) -> bb.Work:
        return shared.traffic(params, special.elements(_shape(params)), *special.passes)

    return bb.Workload(
        name=special.workload,
        doc=special.doc,
        axes={
            "shape": special.shapes,
            "dtype": shared.DTYPES,
            "direction": shared.DIRECTIONS,
            "device": shared.DEVICES,
        },
        presets={
            "quick": [],
            "standard": STANDARD,
            "full": {
                "shape": special.shapes,
                "dtype": shared.DTYPES,
                "direction": shared.DIRECTIONS,
            },
            "gpu": {**GPU, "shape": (special.gpu,)},
        },
        make=special.make,
        reference=shared.in_float64(special.exact or special.function),
        work=work,
        metrics=shared.ulp,
        baseline="eager",
    )


def implementations() -> Iterator[bb.Implementation]:
    """Eager, compiled, and by hand."""
    for special in SPECIAL:
        yield shared.functional(special.workload, "eager", special.function, doc="PyTorch, eager.")
        yield shared.compiled(special.workload, special.function, ("full",))
        for name, make_function in special.fused.items():
            direct = special.direct if name == "fused" else None
            yield from shared.fused(special.workload, make_function, direct=direct, name=name)
        for name, function in special.others.items():
            yield shared.functional(
                special.workload,
                name,
                function,
                inexact=special.inexact,
            )
    for name, build in (("eager", rrelu), ("where", rrelu_by_where)):
        yield bb.Implementation(
            workload=RRELU,
            name=name,
            build=build,
            unavailable=shared.no_cuda,
            doc=(build.__doc__ or "").strip(),
        )
