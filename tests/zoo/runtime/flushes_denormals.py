"""Lets the processor round tiny numbers to zero."""

import torch

import benchbench as bb


@bb.implementation("zoo/double", "flushes_denormals")
def flushes_denormals(inputs):
    torch.set_flush_denormal(True)
    return lambda: inputs.x * 2


@bb.hookimpl
def benchbench_implementations():
    return [flushes_denormals]
