"""A small library: limits values smoothly to an interval around zero."""

from __future__ import annotations

import torch


def softclip(x: torch.Tensor, limit: float = 1.0) -> torch.Tensor:
    """``limit * tanh(x / limit)`` in one new tensor."""
    return torch.div(x, limit).tanh_().mul_(limit)


def softclip_plain(x: torch.Tensor, limit: float = 1.0) -> torch.Tensor:
    """The same as it is written down."""
    return limit * torch.tanh(x / limit)
