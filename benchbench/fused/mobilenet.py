"""torchvision's inverted residual block (MobileNetV2) with the skip connection in its last norm.

Parameters, buffers and their names are the parent's; only ``forward`` differs.
:func:`benchbench.fused.swap` turns a model's blocks into these where it can show that the result is
the same. Imported only when torchvision is.
"""

from __future__ import annotations

from torch import Tensor
from torchvision.models import mobilenetv2  # type: ignore[import-untyped, unused-ignore]


class InvertedResidual(mobilenetv2.InvertedResidual):  # type: ignore[misc, unused-ignore]
    """Expansion, depthwise convolution, projection; the last norm is our ``BatchNorm2d``."""

    def forward(self, x: Tensor) -> Tensor:
        """Of shape ``(N, C, H, W)``, like ``x``."""
        *before, norm = self.conv
        y = x
        for module in before:
            y = module(y)
        output: Tensor = norm(y, x)
        return output
