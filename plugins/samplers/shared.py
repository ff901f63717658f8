"""What the sampler modules share: generators, host views and reasons for being unavailable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import benchbench as bb
from benchbench_plugins._common import optional

if TYPE_CHECKING:
    import numpy as np
    import torch


def generator(inputs: bb.Inputs) -> torch.Generator:
    """A contender's own torch generator on the inputs' device, seeded by the case."""
    import torch

    return torch.Generator(inputs.x.device).manual_seed(inputs.seed)


def host(tensor: Any) -> np.ndarray:
    """The shared buffer itself, seen as a numpy array (no copy)."""
    return tensor.numpy()


def cpu_only(params: bb.Params) -> str | None:
    """Reason for a contender that works on host memory."""
    if params.get("device", "cpu") == "cpu":
        return None
    return "works on the CPU only: run it with device=cpu"


def needs(*packages: str, on: Callable[[bb.Params], str | None] = cpu_only) -> Any:
    """Availability of a contender that needs optional packages (modules to import).

    ``on`` is a further condition, asked first.
    """

    def unavailable(params: bb.Params) -> str | None:
        return on(params) or missing(*packages)

    return unavailable


def missing(*packages: str) -> str | None:
    """Why one of the modules cannot be used, with the command that mends it, or None."""
    for package in packages:
        found, reason = optional(package)
        if found is None:
            return reason
    return None
