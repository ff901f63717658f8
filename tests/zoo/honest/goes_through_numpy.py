"""Computes with numpy on the same memory and wraps the new array."""

import torch

import benchbench as bb


@bb.implementation("liars/product", "goes_through_numpy")
def goes_through_numpy(inputs):
    x, w = inputs.x.numpy(), inputs.w.numpy()
    return lambda: torch.from_numpy(x @ w)


@bb.hookimpl
def benchbench_implementations():
    return [goes_through_numpy]
