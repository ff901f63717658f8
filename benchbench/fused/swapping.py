"""Replace the norms and activations of a model by the fused ones, and say what was replaced.

Only exact types are replaced: a subclass of ``torch.nn.LayerNorm`` may mean something else by its
forward. A replaced module stays the same object with another class, so parameters, buffers, hooks,
state dict and whoever holds the module or its parameters (an optimizer) notice nothing.

A batch norm takes over a ReLU or ReLU6 only where the code that runs both is known: neighbours in a
module whose forward is that of ``torch.nn.Sequential``, and torchvision's residual networks, whose
blocks get a forward that adds the skip connection in the same pass too, as MobileNetV2's do.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from torch import nn

from benchbench.fused import modules

Replacements = Mapping[type[nn.Module], Callable[[nn.Module], nn.Module]]

NORMS: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.LayerNorm: modules.LayerNorm,
    nn.RMSNorm: modules.RMSNorm,
    nn.BatchNorm1d: modules.BatchNorm1d,
    nn.BatchNorm2d: modules.BatchNorm2d,
    nn.BatchNorm3d: modules.BatchNorm3d,
    nn.GroupNorm: modules.GroupNorm,
    nn.InstanceNorm1d: modules.InstanceNorm1d,
    nn.InstanceNorm2d: modules.InstanceNorm2d,
    nn.InstanceNorm3d: modules.InstanceNorm3d,
    nn.LocalResponseNorm: modules.LocalResponseNorm,
}
ACTIVATIONS: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.Sigmoid: modules.Sigmoid,
    nn.Tanh: modules.Tanh,
    nn.GELU: modules.GELU,
    nn.SiLU: modules.SiLU,
    nn.Softmax: modules.Softmax,
    nn.Softplus: modules.Softplus,
    nn.LogSigmoid: modules.LogSigmoid,
    nn.ELU: modules.ELU,
    nn.SELU: modules.SELU,
    nn.Mish: modules.Mish,
    nn.Hardswish: modules.Hardswish,
    nn.LeakyReLU: modules.LeakyReLU,
    nn.PReLU: modules.PReLU,
}
"""A lone ReLU is left: torch's is at the limit of the memory already."""

WITH_RELU: Mapping[type[nn.Module], type[nn.Module]] = {
    modules.BatchNorm1d: modules.BatchNormReLU1d,
    modules.BatchNorm2d: modules.BatchNormReLU2d,
    modules.BatchNorm3d: modules.BatchNormReLU3d,
}


CEILINGS: Mapping[type[nn.Module], float | None] = {nn.ReLU: None, nn.ReLU6: 6.0}
"""What a batch norm can take over, and where it cuts."""


@dataclass(frozen=True, kw_only=True)
class Swapped:
    """What :func:`swap` did: names of modules by what they became."""

    replaced: Mapping[str, str] = field(default_factory=dict)
    """Module name to the class that it has now."""
    fused: Mapping[str, str] = field(default_factory=dict)
    """Names of batch norms that took over what followed, and its name: the ReLU's, or that of the
    block whose skip connection it was."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Names of modules that look replaceable but were left, and why."""

    def __str__(self) -> str:
        counts = Counter(self.replaced.values())
        parts = [f"{count} {name}" for name, count in sorted(counts.items())]
        if self.fused:
            parts.append(f"{len(self.fused)} ReLU or skip connections fused into the norm before")
        if self.left:
            parts.append(f"{len(self.left)} left as they are")
        return ", ".join(parts) or "nothing to replace"


def swap(
    model: nn.Module,
    *,
    norms: bool = True,
    activations: bool = True,
    fuse: bool = True,
    replacements: Replacements | None = None,
) -> Swapped:
    """Replace modules of ``model`` in place.

    Args:
        model: any module; its own class is changed too when it is one of ours.
        norms: replace layer, RMS, batch, group, instance and local response norms.
        activations: replace those of ``ACTIVATIONS``. Modules that work in place are left: the
            model asked for it to save memory.
        fuse: let batch norms take over the ReLU or ReLU6 (and in torchvision's residual blocks the
            addition) that follows, where that can be shown to be the same; the ReLU becomes an
            identity.
        replacements: for exact types of your own choice, a function from the module to what takes
            its place (itself to leave it); it goes before ``norms`` and ``activations``, and need
            not have anything to do with this library.

    Returns:
        what was replaced, fused and left.

    Raises:
        ValueError: a replacement is asked for ``model`` itself, which cannot be put anywhere.
    """
    replaced: dict[str, str] = {}
    left: dict[str, str] = {}
    _replace(model, dict(replacements or {}), replaced)
    table = {**(NORMS if norms else {}), **(ACTIVATIONS if activations else {})}
    for name, module in model.named_modules():
        ours = table.get(type(module))
        if ours is None or name in replaced:
            continue
        if getattr(module, "inplace", False):
            left[name] = "works in place"
            continue
        # The class alone changes: parameters, buffers, hooks and settings stay as they are.
        module.__class__ = ours
        replaced[name] = ours.__name__
    fused: dict[str, str] = {}
    if norms and fuse:
        for pairs, finish in _chains(model):
            why = _obstacle(model, pairs)
            if why:
                left[pairs[0][0]] = f"not fused with its ReLU: {why}"
                continue
            for name, norm, relu_name, relu in pairs:
                norm.__class__ = WITH_RELU[type(norm)]
                if CEILINGS[type(relu)] is not None:
                    norm.ceiling = CEILINGS[type(relu)]  # type: ignore[assignment]
                replaced[name] = type(norm).__name__
                fused[name] = relu_name
            finish()
        _take_over_skips(model, fused, left)
    return Swapped(replaced=replaced, fused=fused, left=left)


Pair = tuple[str, nn.Module, str, nn.Module]
"""Name and module of a batch norm, and of the ReLU that it would take over."""


def _replace(model: nn.Module, table: Replacements, replaced: dict[str, str]) -> None:
    """Put what ``table`` makes of modules in their places; a shared module is made once."""
    made: dict[nn.Module, nn.Module] = {}
    if type(model) in table:
        raise ValueError(
            f"swap: the model itself is a {type(model).__name__}, which cannot be replaced in "
            "place; call the replacement on it instead"
        )
    for parent_name, parent in list(model.named_modules()):
        # named_children() would pass over the second place of a shared module.
        for key, child in list(parent._modules.items()):
            make = table.get(type(child))
            if child is None or make is None:
                continue
            if child not in made:
                made[child] = make(child)
            if made[child] is not child:
                setattr(parent, key, made[child])
                replaced[_join(parent_name, key)] = type(made[child]).__name__


def _chains(model: nn.Module) -> Iterator[tuple[list[Pair], Callable[[], None]]]:
    """Batch norms with the ReLU that is known to follow each, and what to do when fused."""
    resnet: Any = sys.modules.get("torchvision.models.resnet")
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            # named_children() passes over repeated modules: others would look like neighbours.
            children = [(key, child) for key, child in module._modules.items() if child is not None]
            for (one, norm), (other, relu) in pairwise(children):
                if type(norm) in WITH_RELU and type(relu) in CEILINGS:
                    pair = (_join(name, one), norm, _join(name, other), relu)
                    yield [pair], _identity(module, other)
        elif resnet is not None and type(module) in (resnet.BasicBlock, resnet.Bottleneck):
            norms = ["bn1", "bn2"] + (["bn3"] if type(module) is resnet.Bottleneck else [])
            pairs = _known(name, module, norms)
            if pairs:
                yield pairs, _fused_block(module)
        elif resnet is not None and type(module) is resnet.ResNet:
            pairs = _known(name, module, ["bn1"])
            if pairs:
                yield pairs, _identity(module, "relu")


def _take_over_skips(model: nn.Module, fused: dict[str, str], left: dict[str, str]) -> None:
    """Let the last norms of MobileNetV2's blocks add what goes past the block."""
    theirs: Any = sys.modules.get("torchvision.models.mobilenetv2")
    if theirs is None:
        return
    from benchbench.fused import mobilenet

    for name, block in list(model.named_modules()):
        if type(block) is not theirs.InvertedResidual or not block.use_res_connect:
            continue
        inner = block.get_submodule("conv")
        key, norm = list(inner._modules.items())[-1]
        if type(inner) is not nn.Sequential or type(norm) is not modules.BatchNorm2d:
            continue
        norm_name, inner_name = _join(name, f"conv.{key}"), _join(name, "conv")
        pair = (norm_name, norm, inner_name, inner)
        why = _obstacle(model, [pair])
        if why:
            left[norm_name] = f"not fused with its block's skip connection: {why}"
            continue
        block.__class__ = mobilenet.InvertedResidual
        fused[norm_name] = name


def _known(name: str, module: nn.Module, norms: list[str]) -> list[Pair]:
    """Pairs of a module that runs ``self.relu`` after each of ``norms``; empty if types differ."""
    relu = module.get_submodule("relu")
    found: list[Pair] = [
        (_join(name, key), module.get_submodule(key), _join(name, "relu"), relu) for key in norms
    ]
    fits = type(relu) is nn.ReLU and all(type(norm) in WITH_RELU for _, norm, _, _ in found)
    return found if fits else []


def _identity(parent: nn.Module, key: str) -> Callable[[], None]:
    return lambda: setattr(parent, key, nn.Identity())


def _fused_block(module: nn.Module) -> Callable[[], None]:
    def finish() -> None:
        from benchbench.fused import resnet

        module.__class__ = getattr(resnet, type(module).__name__)

    return finish


def _obstacle(model: nn.Module, pairs: list[Pair]) -> str:
    """Why the modules of ``pairs`` cannot become one each, or an empty text."""
    for norm_name, norm, relu_name, relu in pairs:
        for name, module in ((norm_name, norm), (relu_name, relu)):
            if _hooked(module):
                return f"{name} has hooks, which would see other values"
        if sum(m is norm for _, m in model.named_modules(remove_duplicate=False)) > 1:
            return f"{norm_name} is used in several places"
    return ""


def _hooked(module: nn.Module) -> bool:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind, None) for kind in kinds)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
