"""Computes whole vectors of 16 only; the rest keeps what the memory held."""

import torch

import benchbench as bb


@bb.implementation("liars/double", "skips_the_tail")
def skips_the_tail(inputs):
    whole = (len(inputs.x) - 1) // 16 * 16

    def call():
        output = torch.empty_like(inputs.x)
        torch.mul(inputs.x[:whole], 2, out=output[:whole])
        return output

    return call


@bb.hookimpl
def benchbench_implementations():
    return [skips_the_tail]
