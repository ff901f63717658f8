"""Allocates the output without values and fills it."""

import torch

import benchbench as bb


@bb.implementation("liars/double", "writes_into_its_output")
def writes_into_its_output(inputs):
    return lambda: torch.mul(inputs.x, 2, out=torch.empty_like(inputs.x))


@bb.hookimpl
def benchbench_implementations():
    return [writes_into_its_output]
