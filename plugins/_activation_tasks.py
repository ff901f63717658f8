"""The table of activations: each is a function of tensors, and a row says what competes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from benchbench_plugins._functional import SLOWER

SHAPES = ((4096, 768), (4096, 3072), (8192, 4096), (32, 128), (8, 64, 112, 112))
GATED = ((1024, 2752), (2048, 11008), (32, 128))
ROWS = ((4096, 768), (8, 12, 512, 512), (1024, 50257), (32, 128))
SELU_POSITIVE = 1.0507009873554804934193349852946
SELU_NEGATIVE = SELU_POSITIVE * 1.6732632423543772848170429916717


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


def by_hand_log_softmax(x: Tensor) -> Tensor:
    """x - logsumexp(x), two operators."""
    return x - x.logsumexp(-1, keepdim=True)


def by_hand_mish(x: Tensor) -> Tensor:
    """x tanh(softplus(x)), three operators."""
    return x * torch.tanh(F.softplus(x))


def by_hand_hardswish(x: Tensor) -> Tensor:
    """x relu6(x + 3) / 6, four operators: as MobileNetV3 was first written."""
    return x * F.relu6(x + 3) / 6


def by_hand_prelu(x: Tensor, slope: Tensor) -> Tensor:
    """x where it is positive, else x times the slope: two operators, one of them a choice."""
    return torch.where(x > 0, x, x * slope.view(-1, *[1] * (x.dim() - 2)))


def squared_relu_by_where(x: Tensor) -> Tensor:
    """x^2 where x is positive, else zero: two operators, one of them a choice."""
    return torch.where(x > 0, x.square(), torch.zeros_like(x))


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
    fused: Callable[[Any], Callable[..., Any]] | None = None
    direct: Callable[[Any], Callable[..., Any]] | None = None
    arguments: str = "x"
    """``x``; ``x bias`` with a bias along the last dimension; ``x slope`` with a slope for each
    channel, dimension 1; ``gate up``."""
    shapes: tuple[tuple[int, ...], ...] = SHAPES
    quick: tuple[tuple[str, str], ...] = (("float32", "forward"),)
    """Dtype and direction of each quick case, on the first shape. Without any, a quick run takes
    the workload only when asked for it by name."""
    compiled: tuple[str, ...] | None = ("full",)
    """Presets with torch.compile: it takes seconds, and a standard run has ten minutes."""
    others: tuple[tuple[str, Callable[..., Any]], ...] = ()
    others_inexact: Literal["", "gradient", "output"] = ""
    """What is wrong in 16 bits because the others round intermediate results."""
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
        compiled=SLOWER,
    ),
    Task(
        name="gelu_tanh",
        function=lambda x: F.gelu(x, approximate="tanh"),
        doc="GELU approximated by tanh, as GPT-2 has it.",
        fused=lambda k: lambda x: k.gelu(x, "tanh"),
        direct=lambda k: k.gelu_tanh,
        compiled=None,
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
        others_inexact="gradient",
        compiled=SLOWER,
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
        compiled=SLOWER,
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
    Task(
        name="reglu",
        function=lambda gate, up: F.relu(gate) * up,
        doc="relu(gate) * up.",
        fused=lambda k: k.reglu,
        direct=lambda k: k.reglu,
        arguments="gate up",
        shapes=GATED,
        quick=(),
    ),
    Task(
        name="bias_relu",
        function=lambda x, bias: F.relu(x + bias),
        doc="relu(x + b) with a bias along the last dimension.",
        fused=lambda k: k.bias_relu,
        direct=lambda k: k.bias_relu,
        arguments="x bias",
        shapes=SHAPES[:4],
        quick=(),
    ),
    Task(
        name="bias_gelu_tanh",
        function=lambda x, bias: F.gelu(x + bias, approximate="tanh"),
        doc="gelu(x + b) approximated by tanh, with a bias along the last dimension.",
        fused=lambda k: lambda x, bias: k.bias_gelu(x, bias, "tanh"),
        direct=lambda k: k.bias_gelu_tanh,
        arguments="x bias",
        shapes=SHAPES[:4],
        quick=(),
        exact=lambda x, bias: exact_gelu_tanh(x + bias),
    ),
    Task(
        name="bias_silu",
        function=lambda x, bias: F.silu(x + bias),
        doc="silu(x + b) with a bias along the last dimension.",
        fused=lambda k: k.bias_silu,
        direct=lambda k: k.bias_silu,
        arguments="x bias",
        shapes=SHAPES[:4],
        quick=(),
    ),
    Task(
        name="log_softmax",
        function=lambda x: F.log_softmax(x, -1),
        doc="Logarithm of softmax over the last dimension.",
        fused=lambda k: k.log_softmax,
        direct=lambda k: k.log_softmax,
        shapes=ROWS,
        quick=(),
        others=(("by-hand", by_hand_log_softmax),),
    ),
    Task(
        name="elu",
        function=F.elu,
        doc="x, or e^x - 1 where x is negative.",
        fused=lambda k: k.elu,
        direct=lambda k: lambda x: k.elu(x, 1.0, 1.0),
        quick=(),
    ),
    Task(
        name="selu",
        function=F.selu,
        doc="ELU scaled to keep mean and variance.",
        fused=lambda k: k.selu,
        direct=lambda k: lambda x: k.elu(x, SELU_NEGATIVE, SELU_POSITIVE),
        quick=(),
    ),
    Task(
        name="softplus",
        function=F.softplus,
        doc="log(1 + e^x).",
        fused=lambda k: k.softplus,
        direct=lambda k: lambda x: k.softplus(x, 1.0, 20.0),
        quick=(),
    ),
    Task(
        name="log_sigmoid",
        function=F.logsigmoid,
        doc="log(sigmoid(x)).",
        fused=lambda k: k.logsigmoid,
        direct=lambda k: k.log_sigmoid,
        quick=(),
    ),
    Task(
        name="mish",
        function=F.mish,
        doc="x tanh(softplus(x)).",
        fused=lambda k: k.mish,
        direct=lambda k: k.mish,
        quick=(),
        others=(("by-hand", by_hand_mish),),
        others_inexact="gradient",
    ),
    Task(
        name="leaky_relu",
        function=F.leaky_relu,
        doc="x, or x / 100 where negative.",
        fused=lambda k: k.leaky_relu,
        direct=lambda k: lambda x: k.leaky_relu(x, 0.01),
        quick=(),
    ),
    Task(
        name="prelu",
        function=F.prelu,
        doc="x, or w x where negative, with a learned slope w for each channel (dimension 1).",
        fused=lambda k: k.prelu,
        direct=lambda k: k.prelu,
        arguments="x slope",
        quick=(),
        others=(("by-hand", by_hand_prelu),),
        others_inexact="gradient",
    ),
    Task(
        name="hardswish",
        function=F.hardswish,
        doc="x relu6(x + 3) / 6, as in MobileNetV3.",
        fused=lambda k: k.hardswish,
        direct=lambda k: k.hardswish,
        quick=(),
        others=(("by-hand", by_hand_hardswish),),
        others_inexact="gradient",
    ),
    Task(
        name="quick_gelu",
        function=lambda x: x * torch.sigmoid(1.702 * x),
        doc="x sigmoid(1.702 x), as in CLIP.",
        quick=(),
    ),
    Task(
        name="squared_relu",
        function=lambda x: F.relu(x).square(),
        doc="relu(x)^2, as in Primer.",
        quick=(),
        others=(("where", squared_relu_by_where),),
    ),
)
