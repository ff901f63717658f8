"""One value is not a number."""

import torch

import benchbench as bb


@bb.implementation("zoo/double", "returns_nan")
def returns_nan(inputs):
    def call():
        output = inputs.x * 2
        output[7] = torch.nan
        return output

    return call


@bb.hookimpl
def benchbench_implementations():
    return [returns_nan]
