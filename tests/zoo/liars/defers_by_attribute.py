"""Returns a plain tensor, but puts a function of its own in place of its detach()."""

import torch

import benchbench as bb


@bb.implementation("liars/product", "defers_by_attribute")
def defers_by_attribute(inputs):
    def call():
        output = torch.empty_like(inputs.x)
        output.detach = lambda: torch.mm(inputs.x, inputs.w)
        return output

    return call


@bb.hookimpl
def benchbench_implementations():
    return [defers_by_attribute]
