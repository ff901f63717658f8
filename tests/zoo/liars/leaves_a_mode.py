"""Leaves a dispatch mode behind through which every operator of everybody goes."""

from torch.utils._python_dispatch import TorchDispatchMode

import benchbench as bb


class Mode(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


@bb.implementation("liars/product", "leaves_a_mode")
def leaves_a_mode(inputs):
    def call():
        Mode().__enter__()
        return inputs.x @ inputs.w

    return call


@bb.hookimpl
def benchbench_implementations():
    return [leaves_a_mode]
