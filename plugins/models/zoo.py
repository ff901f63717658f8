"""The models: how to make one, its input, and what a call costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import benchbench as bb
from benchbench_plugins._common import optional
from benchbench_plugins.models import masks
from benchbench_plugins.models.alexnet import AlexNet2012
from benchbench_plugins.models.blocks import (
    Block,
    CausalBlock,
    Recurrent,
    RotaryBlock,
    autoencoder,
    mlp,
)


def torchvision_factory(name: str) -> Callable[[], nn.Module]:
    """torchvision's network of that name, random weights, 1000 classes."""

    def factory() -> nn.Module:
        from torchvision import models

        return getattr(models, name)(weights=None)  # type: ignore[no-any-return]

    return factory


Points = Mapping[str, tuple[int, ...]]
BATCHES = (1, 2, 4, 8, 16, 32, 64)
"""Of the preset ``batches``."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network with its input and the points that it is run at."""

    name: str
    doc: str
    factory: Callable[[], nn.Module]
    input: Callable[[bb.Params], tuple[int, ...]]
    """Shape of the input at a point; the first dimension is the batch."""
    axes: Points
    quick: Points | None
    standard: Points | None
    quick_training: Points | None = None
    train_in_standard: bool = True
    classes: int = 10
    """Of the targets; 0 for a regression."""
    reconstructs: bool = False
    """Whether a regression is to the input itself."""
    images: bool = False
    swappable: bool = True
    """Whether there are norms or activations to replace: not where they are inside an operator."""
    kinked: bool = False
    """Whether its gradient jumps (ReLU, max pooling); module ``judge`` says what follows."""
    needs: str = ""
    """An optional package."""
    compile_in_quick: bool = False
    compile_in_standard: bool = True
    """False where compiling takes a minute: a standard run has ten for everything."""

    def workload(self, *, training: bool) -> str:
        """The workload's name."""
        return f"models/{self.name}-train" if training else f"models/{self.name}"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross entropy of the classes, or the mean squared error of a regression."""
        if self.classes:
            return F.cross_entropy(output, target)
        return F.mse_loss(output, target)

    def work(self, params: bb.Params, training: bool) -> bb.Work:
        """Arithmetic by torch's own counter: products and convolutions, 2 for a multiply-add."""
        flops = _counted(self.factory, self.input(params), training)
        return bb.Work(flops=flops, items=_number(params, "batch"), item="sample")

    def missing(self) -> str:
        """Why the model cannot be made here, or an empty text."""
        return optional(self.needs)[1] if self.needs else ""


def _number(params: bb.Params, axis: str) -> int:
    value = params[axis]
    assert isinstance(value, int)
    return value


@cache
def _counted(factory: Callable[[], nn.Module], shape: tuple[int, ...], training: bool) -> float:
    """Counted on the meta device: no memory, no arithmetic."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model, x = factory().train(training), torch.empty(shape)
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(training):
        output = model(x)
        if training:
            output.sum().backward()
    return float(counter.get_total_flops())


@cache
def count_parameters(factory: Callable[[], nn.Module]) -> int:
    """Trainable numbers of a model."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in factory().parameters())


def on_gpu(model: Model) -> bb.Grid:
    """Points of the preset ``gpu``: batches that are enough for a large chip."""
    return {**model.axes, "batch": (64 if model.images else 256,), "device": ("cuda",)}


def image(params: bb.Params) -> tuple[int, ...]:
    """(batch, 3, size, size)."""
    return (_number(params, "batch"), 3, _number(params, "size"), _number(params, "size"))


OF_IMAGES: dict[str, Any] = {"input": image, "classes": 1000, "images": True, "kinked": True}
"""What classifiers of photographs have in common."""
LARGE: dict[str, Any] = {
    **OF_IMAGES,
    "axes": {"batch": (1, 8), "size": (224,)},
    "quick": None,
    "compile_in_standard": False,
}
"""The same for those that take too long for a quick look."""

MODELS = (
    Model(
        name="linear-regression",
        doc="Linear regression of one number on 64.",
        factory=lambda: nn.Linear(64, 1),
        input=lambda p: (_number(p, "batch"), 64),
        axes={"batch": (1024, 1)},
        quick=None,
        standard={"batch": (1024,)},
        classes=0,
        swappable=False,
        compile_in_standard=False,
    ),
    Model(
        name="logistic-regression",
        doc="Logistic regression of ten classes on 64 numbers.",
        factory=lambda: nn.Linear(64, 10),
        input=lambda p: (_number(p, "batch"), 64),
        axes={"batch": (1024, 1)},
        quick=None,
        standard={"batch": (1024,)},
        swappable=False,
        compile_in_standard=False,
    ),
    Model(
        name="mlp",
        doc="MLP 784-512-512-10 with layer norm and GELU.",
        factory=mlp,
        input=lambda p: (_number(p, "batch"), 784),
        axes={"batch": (128, 1, 1024)},
        quick={"batch": (128,)},
        standard={"batch": (128,)},
        quick_training={"batch": (128,)},
        compile_in_quick=True,
    ),
    Model(
        name="lstm",
        doc="LSTM, 64 steps, hidden size 256.",
        factory=partial(Recurrent, nn.LSTM),
        input=lambda p: (_number(p, "batch"), 64, 256),
        axes={"batch": (32, 1)},
        quick={"batch": (32,)},
        standard={"batch": (32,)},
        swappable=False,
        compile_in_standard=False,
    ),
    Model(
        name="gru",
        doc="GRU, 64 steps, hidden size 256.",
        factory=partial(Recurrent, nn.GRU),
        input=lambda p: (_number(p, "batch"), 64, 256),
        axes={"batch": (32, 1)},
        quick=None,
        standard={"batch": (32,)},
        swappable=False,
        compile_in_standard=False,
    ),
    Model(
        name="rnn",
        doc="Elman's RNN with tanh, 64 steps, hidden size 256.",
        factory=partial(Recurrent, nn.RNN),
        input=lambda p: (_number(p, "batch"), 64, 256),
        axes={"batch": (32, 1)},
        quick=None,
        standard={"batch": (32,)},
        swappable=False,
        compile_in_standard=False,
    ),
    Model(
        name="transformer-block",
        doc="Transformer block of BERT-base's size over 128 tokens.",
        factory=Block,
        input=lambda p: (_number(p, "batch"), 128, 768),
        axes={"batch": (4, 1, 32)},
        quick={"batch": (4,)},
        standard={"batch": (4,)},
    ),
    Model(
        name="gpt2-block",
        doc="A block of GPT-2: width 768, 12 heads, causal.",
        factory=CausalBlock,
        input=lambda p: (_number(p, "batch"), _number(p, "tokens"), 768),
        axes={"batch": (1, 4), "tokens": (256, 1024)},
        quick=None,
        standard={"batch": (1,), "tokens": (256,)},
        compile_in_standard=False,
    ),
    Model(
        name="llama-block",
        doc="A block like LLaMA's: RMS norm, rotary positions, SwiGLU; width 1024, 16 heads.",
        factory=RotaryBlock,
        input=lambda p: (_number(p, "batch"), _number(p, "tokens"), 1024),
        axes={"batch": (1, 4), "tokens": (256, 1024)},
        quick=None,
        standard={"batch": (1,), "tokens": (256,)},
        compile_in_standard=False,
    ),
    Model(
        name="autoencoder",
        doc="Autoencoder 64-32-8-32-64 with tanh.",
        factory=autoencoder,
        input=lambda p: (_number(p, "batch"), 64),
        axes={"batch": (64, 1024)},
        quick=None,
        standard={"batch": (64,)},
        classes=0,
        reconstructs=True,
        compile_in_standard=False,
    ),
    Model(
        name="alexnet-2012",
        doc="AlexNet as of 2012: local response norm, overlapping pooling, two groups.",
        factory=AlexNet2012,
        axes={"batch": (1, 32), "size": (224,)},
        quick=None,
        standard={"batch": (1,), "size": (224,)},
        **OF_IMAGES,
        train_in_standard=False,
    ),
    Model(
        name="resnet18",
        doc="torchvision's ResNet-18.",
        factory=torchvision_factory("resnet18"),
        axes={"batch": (2, 8, 32), "size": (224, 64)},
        quick={"batch": (2,), "size": (224,)},
        standard={"batch": (8,), "size": (224,)},
        quick_training={"batch": (8,), "size": (64,)},
        needs="torchvision",
        compile_in_standard=False,
        **OF_IMAGES,
    ),
    *(
        Model(
            name=name,
            doc=doc,
            factory=torchvision_factory(name.replace("-", "_")),
            standard=standard,
            needs="torchvision",
            train_in_standard=name == "resnet50",
            **LARGE,
        )
        for name, doc, standard in (
            ("alexnet", "torchvision's AlexNet (of 2014).", None),
            ("vgg16", "torchvision's VGG-16.", None),
            ("vgg19", "torchvision's VGG-19.", None),
            ("resnet50", "torchvision's ResNet-50.", {"batch": (1,)}),
            ("mobilenet-v2", "torchvision's MobileNetV2.", {"batch": (1,)}),
            ("mobilenet-v3-small", "torchvision's MobileNetV3, small.", None),
            ("squeezenet1-0", "torchvision's SqueezeNet 1.0.", None),
            ("squeezenet1-1", "torchvision's SqueezeNet 1.1.", {"batch": (1,)}),
        )
    ),
)


def make(model: Model, params: bb.Params, seed: int, *, training: bool = False) -> bb.Inputs:
    """The model with its weights, an input and a target; shared, so contenders only read them.

    For training, dropout gets masks that are the same for all ways and all steps.
    """
    rng = torch.Generator().manual_seed(seed)
    device = str(params["device"])
    network = reseeded(model.factory, seed)
    _unsettle(network, rng)
    shape = model.input(params)
    if training:
        masks.fix(network, model.factory, shape, seed)
    values: dict[str, Any] = {
        "model": network.to(device),
        "x": torch.randn(shape, generator=rng).to(device),
    }
    if model.classes:
        target = torch.randint(model.classes, shape[:1], generator=rng)
    elif model.reconstructs:
        target = values["x"].clone()
    else:
        target = torch.randn((shape[0], 1), generator=rng)
    return bb.Inputs({**values, "target": target.to(device)})


def reseeded(factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network with the weights of ``seed``; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return factory()


def _unsettle(network: nn.Module, rng: torch.Generator) -> None:
    """Give norms scales, shifts and running statistics that are not 1 and 0.

    Fresh ones hardly do anything in evaluation mode, so a norm that ignored its parameters would
    pass for right.
    """
    kinds = (nn.LayerNorm, nn.modules.batchnorm._BatchNorm)
    with torch.no_grad():
        for module in network.modules():
            if not isinstance(module, kinds):
                continue
            for tensor, centre in (
                (module.weight, 1.0),
                (module.bias, 0.0),
                (getattr(module, "running_mean", None), 0.0),
                (getattr(module, "running_var", None), 1.0),
            ):
                if tensor is not None:
                    noise = torch.rand(tensor.shape, generator=rng)
                    tensor.copy_(noise.mul_(0.4).add_(centre - 0.2))
