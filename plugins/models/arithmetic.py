"""Arithmetic of convolutions: sizes, weights, multiply-adds and receptive fields.

Formulas of Dumoulin and Visin 2016 ("A guide to convolution arithmetic for deep learning") and
Araujo, Norris and Sim 2019 ("Computing receptive fields of convolutional neural networks").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, kw_only=True)
class Window:
    """What a convolution or pooling does along one dimension; in elements."""

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    @property
    def extent(self) -> int:
        """Input elements from the first to the last that one output sees."""
        return self.dilation * (self.kernel - 1) + 1

    def output_size(self, size: int) -> int:
        """Outputs for ``size`` inputs.

        Raises:
            ValueError: the window is wider than the padded input.
        """
        free = size + 2 * self.padding - self.extent
        if free < 0:
            raise ValueError(
                f"a window over {self.extent} elements does not fit into {size} with "
                f"{self.padding} of padding on each side: give more input or padding"
            )
        return free // self.stride + 1


@dataclass(frozen=True, kw_only=True)
class Field:
    """The input that one output of a stack of windows depends on, along one dimension."""

    size: int
    stride: int
    """Input elements from one output to the next."""
    padding: int
    """Elements that the first output's field begins before the input."""


def receptive_field(windows: Iterable[Window]) -> Field:
    """Of windows one after another: each adds its extent less one, in strides so far."""
    size, stride, padding = 1, 1, 0
    for window in windows:
        size += (window.extent - 1) * stride
        padding += window.padding * stride
        stride *= window.stride
    return Field(size=size, stride=stride, padding=padding)


def weights(inputs: int, outputs: int, kernel: int, *, groups: int = 1, bias: bool = False) -> int:
    """Learned numbers of a square convolution: each filter sees the inputs of its group."""
    return outputs * (inputs // groups) * kernel * kernel + (outputs if bias else 0)


def multiply_adds(inputs: int, outputs: int, window: Window, size: int, *, groups: int = 1) -> int:
    """Of a square convolution on a square image; FLOPs are twice as many."""
    return weights(inputs, outputs, window.kernel, groups=groups) * window.output_size(size) ** 2


def windows_of(network: nn.Module) -> list[Window]:
    """Windows of a network's convolutions and pools, in the order of its modules.

    It is the path of the data where modules are called one after another; of a network with
    branches give the branch. Square windows only.

    Raises:
        ValueError: a window is not square, or rounds its output size up.
    """
    found = []
    for name, module in network.named_modules():
        if not isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
            continue
        dilation = getattr(module, "dilation", 1)
        sizes = []
        for value in (module.kernel_size, module.stride, module.padding, dilation):
            pair = value if isinstance(value, tuple) else (value, value)
            if len(set(pair)) != 1 or isinstance(pair[0], str):
                raise ValueError(f"{name} has the window {value}; only square ones are known here")
            sizes.append(int(pair[0]))
        if getattr(module, "ceil_mode", False):
            raise ValueError(f"{name} rounds its output size up, which is not known here")
        kernel, stride, padding, dilated = sizes
        found.append(Window(kernel=kernel, stride=stride, padding=padding, dilation=dilated))
    return found
