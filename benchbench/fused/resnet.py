"""torchvision's residual blocks with batch norm, ReLU and the skip connection fused.

The parameters, buffers and their names are the parents', so a state dict fits both; only
``forward`` differs. :func:`benchbench.fused.swap.swap` turns a model's blocks into these where it
can show that the result is the same. Imported only when torchvision is.
"""

from __future__ import annotations

from torch import Tensor
from torchvision.models import resnet  # type: ignore[import-untyped, unused-ignore]


class BasicBlock(resnet.BasicBlock):  # type: ignore[misc, unused-ignore]
    """Two 3x3 convolutions; ``bn1`` and ``bn2`` are ``BatchNormReLU2d``."""

    def forward(self, x: Tensor) -> Tensor:
        """Of shape ``(N, planes, H / stride, W / stride)``."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn1(self.conv1(x))
        output: Tensor = self.bn2(self.conv2(out), identity)
        return output


class Bottleneck(resnet.Bottleneck):  # type: ignore[misc, unused-ignore]
    """1x1, 3x3 and 1x1 convolutions; ``bn1`` to ``bn3`` are ``BatchNormReLU2d``."""

    def forward(self, x: Tensor) -> Tensor:
        """Of shape ``(N, 4 planes, H / stride, W / stride)``."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn1(self.conv1(x))
        out = self.bn2(self.conv2(out))
        output: Tensor = self.bn3(self.conv3(out), identity)
        return output
