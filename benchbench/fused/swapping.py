"""Replace the norms and activations of a model by the fused ones, and say what was replaced.

Only exact types are replaced: a subclass of ``torch.nn.LayerNorm`` may mean something else by its
forward. Parameters and buffers stay the same objects, so optimizers that hold them still do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from benchbench.fused import modules

NORMS: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.LayerNorm: modules.LayerNorm,
    nn.RMSNorm: modules.RMSNorm,
    nn.BatchNorm1d: modules.BatchNorm1d,
    nn.BatchNorm2d: modules.BatchNorm2d,
    nn.BatchNorm3d: modules.BatchNorm3d,
}
ACTIVATIONS: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.Sigmoid: modules.Sigmoid,
    nn.Tanh: modules.Tanh,
    nn.GELU: modules.GELU,
    nn.SiLU: modules.SiLU,
    nn.Softmax: modules.Softmax,
}
"""A lone ReLU is left: torch's is at the limit of the memory already."""


@dataclass(frozen=True, kw_only=True)
class Swapped:
    """What :func:`swap` did: names of modules by what they became."""

    replaced: Mapping[str, str]
    """Module name to the class that it has now."""
    fused: Mapping[str, str]
    """Names of batch norms that took over the ReLU that followed, and the ReLU's name."""

    def __str__(self) -> str:
        counts: dict[str, int] = {}
        for name in self.replaced.values():
            counts[name] = counts.get(name, 0) + 1
        parts = [f"{count} {name}" for name, count in sorted(counts.items())]
        if self.fused:
            parts.append(f"{len(self.fused)} ReLU fused into the norm before it")
        return ", ".join(parts) or "nothing to replace"


def swap(model: nn.Module, *, norms: bool = True, activations: bool = True) -> Swapped:
    """Replace modules of ``model`` in place.

    Args:
        model: any module; its own class is changed too when it is one of ours.
        norms: replace layer, RMS and batch norms. A ``BatchNorm2d`` that stands directly before a
            ``ReLU`` in an ``nn.Sequential`` takes it over, and the ReLU becomes an identity.
        activations: replace sigmoid, tanh, GELU, SiLU and softmax.

    Returns:
        what was replaced.
    """
    table = {**(NORMS if norms else {}), **(ACTIVATIONS if activations else {})}
    replaced: dict[str, str] = {}
    for name, module in model.named_modules():
        ours = table.get(type(module))
        if ours is not None:
            # The class alone changes: parameters, buffers, hooks and settings stay as they are.
            module.__class__ = ours
            replaced[name] = ours.__name__
    fused = _fuse(model) if norms else {}
    for name in fused:
        replaced[name] = modules.BatchNormReLU2d.__name__
    return Swapped(replaced=replaced, fused=fused)


def _fuse(model: nn.Module) -> dict[str, str]:
    fused: dict[str, str] = {}
    for name, sequence in model.named_modules():
        if type(sequence) is not nn.Sequential:
            continue
        prefix = f"{name}." if name else ""
        children = list(sequence.named_children())
        for (one, norm), (other, relu) in pairwise(children):
            plain = not norm._forward_hooks and not relu._forward_hooks
            plain = plain and not relu._forward_pre_hooks
            if type(norm) is modules.BatchNorm2d and type(relu) is nn.ReLU and plain:
                norm.__class__ = modules.BatchNormReLU2d
                setattr(sequence, other, nn.Identity())
                fused[prefix + one] = prefix + other
    return fused
