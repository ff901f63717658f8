"""Gets an error of the device that is told once and gone: the context lives on."""

import torch

import benchbench as bb


@bb.implementation("zoo/double", "is_refused_by_the_device")
def is_refused_by_the_device(inputs):
    def call():
        raise torch.AcceleratorError("CUDA error: invalid configuration argument")

    return call


@bb.hookimpl
def benchbench_implementations():
    return [is_refused_by_the_device]
