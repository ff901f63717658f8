"""Replaces an operator of torch.Tensor by a slower one and calls the fast one itself."""

import torch

import benchbench as bb


@bb.implementation("liars/double", "slows_the_baseline")
def slows_the_baseline(inputs):
    fast = torch.Tensor.__mul__

    def slow(x, y):
        for _ in range(3):
            output = fast(x, y)
        return output

    torch.Tensor.__mul__ = slow
    return lambda: fast(inputs.x, 2)


@bb.hookimpl
def benchbench_implementations():
    return [slows_the_baseline]
