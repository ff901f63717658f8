"""Computes forward only and says that the gradient is zero."""

import torch

import benchbench as bb


@bb.implementation("liars/cube", "gives_no_gradient")
def gives_no_gradient(inputs):
    return lambda: ((inputs.x.detach() ** 3), torch.zeros_like(inputs.x))


@bb.hookimpl
def benchbench_implementations():
    return [gives_no_gradient]
