"""A contender that does not use the project's operations."""

import torch

import benchbench as bb


@bb.implementation("gated/exponential", "plain")
def plain(inputs):
    """A power of two instead."""
    x = inputs["x"]
    return lambda: torch.exp2(x * 1.4426950408889634)
