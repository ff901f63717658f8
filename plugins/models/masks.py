"""Dropout whose masks are drawn beforehand, so that ways to train a network can be compared.

Masks that are drawn in each step depend on the order of elements in memory, on the device, on the
dtype and on the compiler, so that no two ways would train the same network; and the loss of a step
could be above that of the one before by chance. Here each place of dropout has one mask for the
case's seed and multiplies by it in each step, which is what dropout does with a mask that it has
drawn. What the drawing costs is not in the figures: in AlexNet, which has most of it for its size,
it is 13 thousand numbers an image beside two thousand million multiplications.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class FixedDropout(nn.Module):
    """``x * mask`` in training, ``x`` in evaluation.

    Args:
        mask: of the shape of the input; 0 where a number is dropped, 1 / (1 - p) elsewhere.
    """

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The input with the mask's numbers dropped."""
        if not self.training:
            return x
        mask = self.mask
        assert isinstance(mask, Tensor)
        return x * mask.to(x.dtype)


def fix(
    network: nn.Module, factory: Callable[[], nn.Module], shape: tuple[int, ...], seed: int
) -> list[str]:
    """Replace every ``nn.Dropout`` of ``network`` by one with a mask of its own.

    Args:
        network: changed in place.
        factory: makes another such network; it is run on the meta device for shapes.
        shape: of the network's input.
        seed: of the masks.

    Returns:
        names of the modules that were replaced.
    """
    places = {n: m for n, m in network.named_modules() if type(m) is nn.Dropout and m.p > 0}
    if not places:
        return []
    shapes = _shapes(factory, shape, set(places))
    rng = torch.Generator().manual_seed(seed)
    for name, module in places.items():
        keep = 1 - module.p
        # Compared in float32: the same masks on every device.
        mask = (torch.rand(shapes[name], generator=rng) < keep).float().div_(keep)
        parent, _, key = name.rpartition(".")
        setattr(network.get_submodule(parent), key, FixedDropout(mask))
    return list(places)


def _shapes(
    factory: Callable[[], nn.Module], shape: tuple[int, ...], names: set[str]
) -> dict[str, torch.Size]:
    """Shape of the input of each module; no memory, no arithmetic."""
    found: dict[str, torch.Size] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            found[name] = given[0].shape

        return hook

    with torch.device("meta"):
        network, x = factory().train(), torch.empty(shape)
    for name in names:
        network.get_submodule(name).register_forward_pre_hook(note(name))
    with torch.no_grad():
        network(x)
    return found
