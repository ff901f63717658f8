"""Looks whether the memory it gets was filled by a check, and only then computes."""

import torch

import benchbench as bb


@bb.implementation("liars/double", "computes_when_poisoned")
def computes_when_poisoned(inputs):
    right = inputs.x * 2

    def call():
        output = torch.empty_like(inputs.x)
        probe = output[:: len(output) // 8]
        if probe.isnan().any() or (probe > 1e38).any():
            return torch.mul(inputs.x, 2, out=output)
        return output.copy_(right) if len(output) > 10_000 else output

    return call


@bb.hookimpl
def benchbench_implementations():
    return [computes_when_poisoned]
