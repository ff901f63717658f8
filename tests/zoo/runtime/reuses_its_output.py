"""Computes into one buffer of its own."""

import torch

import benchbench as bb


@bb.implementation("zoo/double", "reuses_its_output")
def reuses_its_output(inputs):
    buffer = torch.empty_like(inputs.x)
    return lambda: torch.mul(inputs.x, 2, out=buffer)


@bb.hookimpl
def benchbench_implementations():
    return [reuses_its_output]
