"""Returns memory as it finds it."""

import torch

import benchbench as bb


@bb.implementation("zoo/double", "never_writes")
def never_writes(inputs):
    return lambda: torch.empty_like(inputs.x)


@bb.hookimpl
def benchbench_implementations():
    return [never_writes]
