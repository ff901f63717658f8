"""Registers an operator under a name of its own and calls it."""

import torch

import benchbench as bb


@torch.library.custom_op("benchbench_zoo::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@bb.implementation("liars/double", "has_an_operator_of_its_own")
def has_an_operator_of_its_own(inputs):
    return lambda: twice(inputs.x)


@bb.hookimpl
def benchbench_implementations():
    return [has_an_operator_of_its_own]
