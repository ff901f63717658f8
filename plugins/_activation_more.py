"""The rest of torch.nn's activations: shrinking, clamping, and softmax over other dimensions.

Rows as in ``_activation_tasks``. Those whose output has another shape, or is random, or takes a
mask, are at the end with a ``make`` of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

import benchbench as bb
from benchbench_plugins import _functional as shared
from benchbench_plugins._activation_tasks import ROWS, SHAPES, Task, exact_gelu

ALPHA = 1e-4
AUDITS = 1000
"""A random output is audited many times a run; each audit of a timed one gets this share."""
LOWER, UPPER = 1 / 8, 1 / 3
"""Slopes of RReLU, torch's defaults."""


def hardsigmoid_by_hand(x: Tensor) -> Tensor:
    """relu6(x + 3) / 6, three operators."""
    return F.relu6(x + 3) / 6


def relu6_by_clamp(x: Tensor) -> Tensor:
    """clamp between 0 and 6."""
    return x.clamp(0, 6)


def hardtanh_by_clamp(x: Tensor) -> Tensor:
    """clamp between -1 and 1."""
    return x.clamp(-1, 1)


def hardshrink_by_product(x: Tensor) -> Tensor:
    """x times a comparison, three operators."""
    return x * (x.abs() > 0.5)


def softshrink_by_where(x: Tensor) -> Tensor:
    """A comparison, and a choice between zero and x less half its sign: six operators."""
    return torch.where(x.abs() > 0.5, x - 0.5 * x.sign(), 0.0)


def softsign_by_reciprocal(x: Tensor) -> Tensor:
    """x times the reciprocal of 1 + |x|: a product where torch divides."""
    return x * torch.reciprocal(1 + x.abs())


def threshold_by_where(x: Tensor) -> Tensor:
    """A choice between x and a constant, two operators."""
    return torch.where(x > 0.125, x, 20.0)


def rrelu_as_leaky(x: Tensor) -> Tensor:
    """leaky_relu with the mean slope."""
    return F.leaky_relu(x, (LOWER + UPPER) / 2)


def celu_by_hand(x: Tensor) -> Tensor:
    """max(x, 0) + min(0, 2 expm1(x / 2)), five operators."""
    return x.clamp(min=0) + (2 * torch.expm1(x / 2)).clamp(max=0)


def softmax2d_channels_last(x: Tensor) -> Tensor:
    """Softmax over the last dimension of a channels-last copy."""
    return F.softmax(x.permute(0, 2, 3, 1).contiguous(), -1).permute(0, 3, 1, 2).contiguous()


IMAGES = ((8, 64, 112, 112), (8, 21, 128, 128))
MORE = (
    Task(
        name="celu",
        function=lambda x: F.celu(x, 2.0),
        doc="max(x, 0) + min(0, a (e^(x / a) - 1)) with a = 2.",
        quick=(),
        others=(("by-hand", celu_by_hand),),
        others_inexact="gradient",
    ),
    Task(
        name="hardshrink",
        function=F.hardshrink,
        doc="x, or 0 where |x| is at most 0.5.",
        quick=(),
        others=(("product", hardshrink_by_product),),
    ),
    Task(
        name="hardsigmoid",
        function=F.hardsigmoid,
        doc="relu6(x + 3) / 6, as in MobileNetV3.",
        quick=(),
        others=(("by-hand", hardsigmoid_by_hand),),
        others_inexact="gradient",
    ),
    Task(
        name="hardtanh",
        function=F.hardtanh,
        doc="x clamped between -1 and 1.",
        quick=(),
        others=(("clamp", hardtanh_by_clamp),),
    ),
    Task(
        name="relu6",
        function=F.relu6,
        doc="x clamped between 0 and 6.",
        quick=(),
        others=(("clamp", relu6_by_clamp),),
    ),
    Task(
        name="rrelu_eval",
        function=lambda x: F.rrelu(x, LOWER, UPPER, training=False),
        doc="Randomized leaky ReLU in evaluation: the slope is the mean of its range.",
        quick=(),
        others=(("leaky", rrelu_as_leaky),),
    ),
    Task(
        name="softmax2d",
        function=lambda x: F.softmax(x, 1),
        doc="Softmax over the channels of an image, at each position.",
        shapes=IMAGES,
        quick=(),
        others=(("channels-last", softmax2d_channels_last),),
    ),
    Task(
        name="softmin",
        function=lambda x: F.softmin(x, -1),
        doc="Softmax of -x over the last dimension.",
        shapes=ROWS,
        quick=(),
    ),
    Task(
        name="softshrink",
        function=F.softshrink,
        doc="x moved towards 0 by 0.5, no further than 0.",
        quick=(),
        others=(("where", softshrink_by_where),),
    ),
    Task(
        name="softsign",
        function=F.softsign,
        doc="x / (1 + |x|).",
        quick=(),
        others=(("reciprocal", softsign_by_reciprocal),),
        others_inexact="gradient",
    ),
    Task(
        name="tanhshrink",
        function=F.tanhshrink,
        doc="x - tanh(x).",
        quick=(),
    ),
    Task(
        name="threshold",
        function=lambda x: F.threshold(x, 0.125, 20.0),
        doc="x, or 20 where x is at most 0.125.",
        quick=(),
        others=(("where", threshold_by_where),),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Special:
    """An activation whose inputs are not simply tensors of the output's shape."""

    name: str
    doc: str
    function: Callable[..., Any]
    make: Callable[[bb.Params, int], bb.Inputs]
    shapes: tuple[tuple[int, ...], ...]
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
        shapes=((2048, 22016), (4096, 1536), (32, 256)),
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
            shapes=((2048, 22016), (1024, 5504), (32, 256)),
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
        shapes=((8, 12, 512, 512), (1, 12, 128, 128)),
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


RRELU = "activations/rrelu"


_GPU: dict[str, Any] = {
    "dtype": ("bfloat16", "float32"),
    "direction": shared.DIRECTIONS,
    "device": shared.CUDA,
}
STANDARD = {"direction": shared.DIRECTIONS[1:]}
"""Few people wait for these: one shape, forward and backward."""


def workloads(ordinary: Callable[[Task], bb.Workload]) -> Iterator[bb.Workload]:
    """All of this module; ``ordinary`` makes the workload of a task."""
    for task in MORE:
        workload = ordinary(task)
        presets = {**workload.presets, "standard": STANDARD}
        if task.shapes is IMAGES:
            presets["gpu"] = {**_GPU, "shape": ((64, 64, 128, 128),)}
        yield replace(workload, presets=presets)
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
            "gpu": {**_GPU, "shape": (special.gpu,)},
        },
        make=special.make,
        reference=shared.in_float64(special.exact or special.function),
        work=work,
        metrics=shared.ulp,
        baseline="eager",
    )


def implementations() -> Iterator[bb.Implementation]:
    """Eager, compiled, and by hand."""
    for task in MORE:
        yield shared.functional(task.workload, "eager", task.function, doc="PyTorch, eager.")
        yield shared.compiled(task.workload, task.function, ("full",))
        for name, function in task.others:
            yield shared.functional(task.workload, name, function, inexact=task.others_inexact)
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
