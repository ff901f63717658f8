"""Computes into memory that it keeps, and returns a copy."""

import torch

import benchbench as bb


@bb.implementation("liars/product", "keeps_a_scratch_buffer")
def keeps_a_scratch_buffer(inputs):
    scratch = torch.empty_like(inputs.x)
    return lambda: torch.mm(inputs.x, inputs.w, out=scratch).clone()


@bb.hookimpl
def benchbench_implementations():
    return [keeps_a_scratch_buffer]
