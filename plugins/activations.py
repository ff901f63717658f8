"""Activations: elementwise, with a bias, gated, and softmax.

Shapes are those of transformers: (4096, 768) and (4096, 3072) are BERT's hidden and inner sizes,
(2048, 11008) the gate of a 7B LLaMA, (1024, 50257) GPT-2's vocabulary; (32, 128) is small enough
that the call costs more than the work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import benchbench as bb
from benchbench_plugins import _functional as shared

SHAPES = ((4096, 768), (4096, 3072), (8192, 4096), (32, 128), (8, 64, 112, 112))
GATED = ((1024, 2752), (2048, 11008), (32, 128))
ROWS = ((4096, 768), (8, 12, 512, 512), (1024, 50257), (32, 128))


def by_hand_silu(x: Tensor) -> Tensor:
    """x * sigmoid(x), two operators."""
    return x * torch.sigmoid(x)


def by_hand_softmax(x: Tensor) -> Tensor:
    """Subtract the largest, exponentiate, divide by the sum: four operators."""
    e = (x - x.amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True)


def by_hand_gelu(x: Tensor) -> Tensor:
    """0.5 x (1 + erf(x / sqrt 2)), five operators."""
    return 0.5 * x * (1 + torch.erf(x * math.sqrt(0.5)))


# float64 references that keep the left tail: 1 + erf(x) and 1 + tanh(x) lose it below about -8 even
# in float64.


def exact_gelu(x: Tensor) -> Tensor:
    """x Phi(x) by the complementary error function."""
    return 0.5 * x * torch.special.erfc(-x * math.sqrt(0.5))


def exact_gelu_tanh(x: Tensor) -> Tensor:
    """x sigmoid(2u) with u = sqrt(2 / pi) (x + 0.044715 x^3), which is x (1 + tanh u) / 2."""
    return x * torch.sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))


@dataclass(frozen=True, kw_only=True)
class Task:
    """One workload of this kind."""

    name: str
    function: Callable[..., Any]
    """The eager baseline, a function of the arguments below."""
    doc: str
    fused: Callable[[Any], Callable[..., Any]]
    direct: Callable[[Any], Callable[..., Any]]
    arguments: str = "x"
    """``x``; ``x bias`` with a bias along the last dimension; ``gate up``."""
    shapes: tuple[tuple[int, ...], ...] = SHAPES
    quick: tuple[tuple[str, str], ...] = (("float32", "forward"),)
    """Dtype and direction of each quick case, on the first shape."""
    compiled_in_quick: bool = False
    others: tuple[tuple[str, Callable[..., Any]], ...] = ()
    exact: Callable[..., Any] | None = None
    """The reference where the baseline in float64 is not precise enough to be one."""

    @property
    def workload(self) -> str:
        """The workload's name."""
        return f"activations/{self.name}"


BOTH = (("float32", "forward"), ("float32", "forward+backward"))
TASKS = (
    Task(
        name="relu",
        function=F.relu,
        doc="max(x, 0).",
        fused=lambda k: k.relu,
        direct=lambda k: k.relu,
    ),
    Task(
        name="sigmoid",
        function=torch.sigmoid,
        doc="1 / (1 + e^-x).",
        fused=lambda k: k.sigmoid,
        direct=lambda k: k.sigmoid,
    ),
    Task(
        name="tanh",
        function=torch.tanh,
        doc="Hyperbolic tangent.",
        fused=lambda k: k.tanh,
        direct=lambda k: k.tanh,
    ),
    Task(
        name="gelu",
        function=F.gelu,
        doc="x Phi(x) with the distribution function of the standard normal.",
        fused=lambda k: k.gelu,
        direct=lambda k: k.gelu,
        quick=BOTH,
        others=(("by-hand", by_hand_gelu),),
        exact=exact_gelu,
    ),
    Task(
        name="gelu_tanh",
        function=lambda x: F.gelu(x, approximate="tanh"),
        doc="GELU approximated by tanh, as GPT-2 has it.",
        fused=lambda k: lambda x: k.gelu(x, "tanh"),
        direct=lambda k: k.gelu_tanh,
        compiled_in_quick=True,
        exact=exact_gelu_tanh,
    ),
    Task(
        name="silu",
        function=F.silu,
        doc="x sigmoid(x), also called swish.",
        fused=lambda k: k.silu,
        direct=lambda k: k.silu,
        quick=(("float32", "forward"), ("bfloat16", "forward")),
        others=(("two-ops", by_hand_silu),),
    ),
    Task(
        name="softmax",
        function=lambda x: F.softmax(x, -1),
        doc="Softmax over the last dimension.",
        fused=lambda k: k.softmax,
        direct=lambda k: k.softmax,
        shapes=ROWS,
        quick=BOTH,
        others=(("by-hand", by_hand_softmax),),
    ),
    Task(
        name="bias_gelu",
        function=lambda x, bias: F.gelu(x + bias),
        doc="gelu(x + b) with a bias along the last dimension: the inner layer of a transformer.",
        fused=lambda k: k.bias_gelu,
        direct=lambda k: k.bias_gelu,
        arguments="x bias",
        shapes=SHAPES[:4],
        exact=lambda x, bias: exact_gelu(x + bias),
    ),
    Task(
        name="swiglu",
        function=lambda gate, up: F.silu(gate) * up,
        doc="silu(gate) * up: the inner layer of LLaMA.",
        fused=lambda k: k.swiglu,
        direct=lambda k: k.swiglu,
        arguments="gate up",
        shapes=GATED,
        quick=BOTH,
    ),
    Task(
        name="geglu",
        function=lambda gate, up: F.gelu(gate) * up,
        doc="gelu(gate) * up.",
        fused=lambda k: k.geglu,
        direct=lambda k: k.geglu,
        arguments="gate up",
        shapes=GATED,
        exact=lambda gate, up: exact_gelu(gate) * up,
    ),
)


def make(task: Task, params: bb.Params, seed: int) -> bb.Inputs:
    """Standard normal inputs times two, so that the tails are visited too."""
    rng = torch.Generator().manual_seed(seed)
    shape: Any = params["shape"]
    names = task.arguments.split()
    values = {
        name: shared.normal(shape[-1:] if name == "bias" else shape, params, rng).mul_(2)
        for name in names
    }
    if not shared.backward(params):
        return bb.Inputs(values)
    return bb.Inputs(values, wrt=names, cotangents=[shared.normal(shape, params, rng)])


def work(task: Task, params: bb.Params) -> bb.Work:
    """2 passes forward and 3 backward; 3 and 5 for gated ones."""
    shape: Any = params["shape"]
    gated = task.arguments == "gate up"
    return shared.traffic(params, math.prod(shape), 3 if gated else 2, 5 if gated else 3)


def _workload(task: Task) -> bb.Workload:
    quick = [{"dtype": (d,), "direction": (way,)} for d, way in task.quick]
    standard = [
        {"shape": task.shapes[:2], "direction": shared.DIRECTIONS},
        {"shape": task.shapes[:1], "dtype": ("bfloat16",), "direction": shared.DIRECTIONS},
        {"shape": ((32, 128),)},
    ]
    return bb.Workload(
        name=task.workload,
        doc=task.doc,
        axes={
            "shape": task.shapes,
            "dtype": shared.DTYPES,
            "direction": shared.DIRECTIONS,
            "device": shared.DEVICES,
        },
        presets={
            "quick": quick,
            "standard": standard,
            "full": {
                "shape": task.shapes,
                "dtype": shared.DTYPES,
                "direction": shared.DIRECTIONS,
            },
        },
        make=lambda params, seed: make(task, params, seed),
        reference=shared.in_float64(task.exact or task.function),
        work=lambda params: work(task, params),
        metrics=shared.ulp,
        baseline="eager",
    )


@bb.hookimpl
def benchbench_workloads() -> Iterator[bb.Workload]:
    """A workload for each activation."""
    for task in TASKS:
        yield _workload(task)


@bb.hookimpl
def benchbench_implementations() -> Iterator[bb.Implementation]:
    """Eager, compiled, fused, and what people write by hand."""
    for task in TASKS:
        yield shared.functional(task.workload, "eager", task.function, doc="PyTorch, eager.")
        yield shared.compiled(
            task.workload, task.function, None if task.compiled_in_quick else shared.SLOWER
        )
        yield from shared.fused(task.workload, task.fused, direct=task.direct)
        for name, function in task.others:
            yield shared.functional(task.workload, name, function)
