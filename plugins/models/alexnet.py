"""AlexNet as published in 2012, which torchvision's (of 2014) is not."""

from __future__ import annotations

from torch import Tensor, nn


class AlexNet2012(nn.Module):
    """Krizhevsky, Sutskever, Hinton 2012: 60,965,224 parameters.

    Local response normalization after the first two layers (n 5, alpha 1e-4, beta 0.75, k 2;
    torch divides alpha by n, so it is given as 5e-4), 3x3 pooling with stride 2, and two groups
    where the layers of its two GPUs did not see each other. Images are 224x224; padding by 2 gives
    the 55x55 positions of the paper.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 96, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(96, 256, 5, padding=2, groups=2),
            nn.ReLU(),
            nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(256, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 384, 3, padding=1, groups=2),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1, groups=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, 1000),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, 1000) from (batch, 3, 224, 224)."""
        return self.classifier(self.features(x).flatten(1))  # type: ignore[no-any-return]
