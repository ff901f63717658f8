"""Small first-party networks, because no library has them as such."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Recurrent(nn.Module):
    """One recurrent layer over (batch, 64, 256), classes from the last state; hidden 256."""

    def __init__(self, layer: type[nn.Module]) -> None:
        super().__init__()
        self.layer = layer(256, 256, batch_first=True)
        self.head = nn.Linear(256, 10)

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
        self.head = nn.Linear(768, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, 10) from (batch, 128, 768)."""
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.inner(self.norm2(x))
        return self.head(x.mean(1))  # type: ignore[no-any-return]


def _heads(x: Tensor, count: int) -> Tensor:
    """(batch, tokens, width) to (batch, heads, tokens, width of a head)."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


class CausalBlock(nn.Module):
    """A block of GPT-2 (Radford et al. 2019): width 768, 12 heads, causal, GELU by tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(768), nn.LayerNorm(768)
        self.qkv, self.out = nn.Linear(768, 3 * 768), nn.Linear(768, 768)
        self.inner = nn.Sequential(
            nn.Linear(768, 3072), nn.GELU(approximate="tanh"), nn.Linear(3072, 768)
        )
        self.head = nn.Linear(768, 10)

    def tokens(self, x: Tensor) -> Tensor:
        """What the block makes of each token, (batch, tokens, 768) as its input."""
        q, k, v = (_heads(part, 12) for part in self.qkv(self.norm1(x)).chunk(3, -1))
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.inner(self.norm2(x))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, 10) of the last token."""
        return self.head(self.tokens(x)[:, -1])  # type: ignore[no-any-return]


class RotaryBlock(nn.Module):
    """A block like LLaMA's (Touvron et al. 2023): RMS norm, rotary positions, SwiGLU, no biases.

    Width 1024, 16 heads, inner width 2816.
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(1024, eps=1e-5), nn.RMSNorm(1024, eps=1e-5)
        self.qkv = nn.Linear(1024, 3 * 1024, bias=False)
        self.out = nn.Linear(1024, 1024, bias=False)
        self.gate, self.up = (nn.Linear(1024, 2816, bias=False) for _ in range(2))
        self.down = nn.Linear(2816, 1024, bias=False)
        self.activation = nn.SiLU()
        self.head = nn.Linear(1024, 10, bias=False)

    def tokens(self, x: Tensor) -> Tensor:
        """What the block makes of each token, (batch, tokens, 1024) as its input."""
        q, k, v = (_heads(part, 16) for part in self.qkv(self.norm1(x)).chunk(3, -1))
        seen = F.scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        y = self.norm2(x)
        return x + self.down(self.activation(self.gate(y)) * self.up(y))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, 10) of the last token."""
        return self.head(self.tokens(x)[:, -1])  # type: ignore[no-any-return]


def rotated(x: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021) of (..., tokens, width), pairs half a width apart.

    A dot product of two rotated vectors depends on the distance of their positions alone.
    """
    tokens, width = x.shape[-2:]
    pairs = torch.arange(0, width, 2, device=x.device, dtype=x.dtype) / width
    angles = torch.arange(tokens, device=x.device, dtype=x.dtype)[:, None] * 10000.0**-pairs
    cos, sin = angles.cos(), angles.sin()
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def mlp() -> nn.Module:
    """784-512-512-10 with layer norm and GELU."""
    layers: list[nn.Module] = []
    for inputs in (784, 512):
        layers += [nn.Linear(inputs, 512), nn.LayerNorm(512), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(512, 10))


def autoencoder() -> nn.Module:
    """64-32-8-32-64 with tanh: images of 8x8 through eight numbers."""
    return nn.Sequential(
        nn.Linear(64, 32),
        nn.Tanh(),
        nn.Linear(32, 8),
        nn.Tanh(),
        nn.Linear(8, 32),
        nn.Tanh(),
        nn.Linear(32, 64),
    )
