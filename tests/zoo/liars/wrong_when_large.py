"""Right for small vectors; of large ones it computes a half."""

import torch

import benchbench as bb


@bb.implementation("liars/double", "wrong_when_large")
def wrong_when_large(inputs):
    def call():
        if len(inputs.x) < 100_000:
            return inputs.x * 2
        output = torch.zeros_like(inputs.x)
        half = len(inputs.x) // 2
        torch.mul(inputs.x[:half], 2, out=output[:half])
        return output

    return call


@bb.hookimpl
def benchbench_implementations():
    return [wrong_when_large]
