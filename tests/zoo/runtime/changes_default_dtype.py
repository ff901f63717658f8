"""Leaves float64 as the default."""

import torch

import benchbench as bb


@bb.implementation("zoo/double", "changes_default_dtype")
def changes_default_dtype(inputs):
    torch.set_default_dtype(torch.float64)
    return lambda: inputs.x * 2


@bb.hookimpl
def benchbench_implementations():
    return [changes_default_dtype]
