"""Registers a kernel of its own for an operator of torch that others use."""

import torch

import benchbench as bb


@bb.implementation("liars/product", "registers_a_kernel")
def registers_a_kernel(inputs):
    library = torch.library.Library("aten", "IMPL")
    library.impl("digamma", lambda x: x, "CPU")
    inputs.x.library = library
    thunk = inputs.thunk(lambda x, w: x @ w)
    thunk.keep = library
    return thunk


@bb.hookimpl
def benchbench_implementations():
    return [registers_a_kernel]
