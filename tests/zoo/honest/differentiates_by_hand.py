"""Has its own backward pass as an autograd function."""

import torch

import benchbench as bb


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(context, cotangent):
        (x,) = context.saved_tensors
        return 3 * x * x * cotangent


@bb.implementation("liars/cube", "differentiates_by_hand")
def differentiates_by_hand(inputs):
    return inputs.thunk(Cube.apply)


@bb.hookimpl
def benchbench_implementations():
    return [differentiates_by_hand]
