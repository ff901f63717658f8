"""The models: how to make one, its input, and what a call costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import benchbench as bb
from benchbench_plugins._common import optional

CLASSES = 10


class LSTM(nn.Module):
    """One LSTM layer over (batch, 64, 256), classes from the last state; hidden 256."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(256, 256, batch_first=True)
        self.head = nn.Linear(256, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, 10)."""
        return self.head(self.layer(x)[0][:, -1])  # type: ignore[no-any-return]


class Block(nn.Module):
    """A transformer block of BERT-base's size: width 768, 12 heads, inner width 3072, pre-norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(768), nn.LayerNorm(768)
        self.attention = nn.MultiheadAttention(768, 12, batch_first=True)
        self.inner = nn.Sequential(nn.Linear(768, 3072), nn.GELU(), nn.Linear(3072, 768))
        self.head = nn.Linear(768, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, 10) from (batch, 128, 768)."""
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.inner(self.norm2(x))
        return self.head(x.mean(1))  # type: ignore[no-any-return]


def mlp() -> nn.Module:
    """784-512-512-10 with batch norm and GELU."""
    layers: list[nn.Module] = []
    for inputs in (784, 512):
        layers += [nn.Linear(inputs, 512), nn.LayerNorm(512), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(512, CLASSES))


def resnet18() -> nn.Module:
    """torchvision's, random weights, 10 classes."""
    from torchvision.models import resnet18 as factory

    return factory(weights=None, num_classes=CLASSES)  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network with its input and the points that it is run at."""

    name: str
    doc: str
    factory: Callable[[], nn.Module]
    input: Callable[[bb.Params], tuple[int, ...]]
    flops: Callable[[bb.Params], float]
    """Of one inference, 2 for a multiply-add."""
    axes: Mapping[str, tuple[int, ...]]
    quick: Mapping[str, tuple[int, ...]]
    standard: Mapping[str, tuple[int, ...]]
    quick_training: Mapping[str, tuple[int, ...]] | None = None
    images: bool = False
    needs: str = ""
    """An optional package."""
    compile_in_quick: bool = False

    def workload(self, *, training: bool) -> str:
        """The workload's name."""
        return f"models/{self.name}-train" if training else f"models/{self.name}"

    def work(self, params: bb.Params, training: bool) -> bb.Work:
        """Backward costs twice the forward pass: gradients of inputs and of weights."""
        batch = params["batch"]
        assert isinstance(batch, int)
        factor = 3.0 if training else 1.0
        return bb.Work(flops=factor * self.flops(params), items=batch, item="sample")

    def missing(self) -> str:
        """Why the model cannot be made here, or an empty text."""
        return optional(self.needs)[1] if self.needs else ""


def _number(params: bb.Params, axis: str) -> int:
    value = params[axis]
    assert isinstance(value, int)
    return value


@cache
def _counted(factory: Callable[[], nn.Module], shape: tuple[int, ...]) -> float:
    """FLOPs by torch's own counter, on the meta device: no memory, no arithmetic."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model, x = factory().eval(), torch.empty(shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return float(counter.get_total_flops())


MODELS = (
    Model(
        name="mlp",
        doc="MLP 784-512-512-10 with layer norm and GELU.",
        factory=mlp,
        input=lambda p: (_number(p, "batch"), 784),
        flops=lambda p: 2.0 * _number(p, "batch") * (784 * 512 + 512 * 512 + 512 * CLASSES),
        axes={"batch": (128, 1, 1024)},
        quick={"batch": (128,)},
        standard={"batch": (1, 128, 1024)},
        quick_training={"batch": (128,)},
        compile_in_quick=True,
    ),
    Model(
        name="lstm",
        doc="LSTM, 64 steps, hidden size 256.",
        factory=LSTM,
        input=lambda p: (_number(p, "batch"), 64, 256),
        flops=lambda p: _number(p, "batch") * (64 * 2.0 * 4 * 256 * 512 + 2 * 256 * CLASSES),
        axes={"batch": (32, 1)},
        quick={"batch": (32,)},
        standard={"batch": (1, 32)},
    ),
    Model(
        name="transformer-block",
        doc="Transformer block of BERT-base's size over 128 tokens.",
        factory=Block,
        input=lambda p: (_number(p, "batch"), 128, 768),
        flops=lambda p: (
            _number(p, "batch")
            * 2.0
            * (128 * 768 * (4 * 768 + 2 * 3072) + 2 * 128 * 128 * 768 + 768 * CLASSES)
        ),
        axes={"batch": (4, 1, 32)},
        quick={"batch": (4,)},
        standard={"batch": (1, 4)},
    ),
    Model(
        name="resnet18",
        doc="torchvision's ResNet-18 for 10 classes.",
        factory=resnet18,
        input=lambda p: (_number(p, "batch"), 3, _number(p, "size"), _number(p, "size")),
        flops=lambda p: _counted(
            resnet18, (_number(p, "batch"), 3, _number(p, "size"), _number(p, "size"))
        ),
        axes={"batch": (2, 8, 32), "size": (224, 64)},
        quick={"batch": (2,), "size": (224,)},
        standard={"batch": (8,), "size": (224,)},
        images=True,
        needs="torchvision",
    ),
)


def make(model: Model, params: bb.Params, seed: int) -> bb.Inputs:
    """The model with its weights, an input and labels; all shared, so contenders copy the model."""
    rng = torch.Generator().manual_seed(seed)
    device = str(params["device"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = model.factory().to(device)
    shape = model.input(params)
    values: dict[str, Any] = {
        "model": network,
        "x": torch.randn(shape, generator=rng).to(device),
        "labels": torch.randint(CLASSES, shape[:1], generator=rng).to(device),
    }
    return bb.Inputs(values)
