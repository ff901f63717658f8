"""Takes one thread only."""

import torch

import benchbench as bb


@bb.implementation("zoo/double", "changes_threads")
def changes_threads(inputs):
    def call():
        torch.set_num_threads(1)
        return inputs.x * 2

    return call


@bb.hookimpl
def benchbench_implementations():
    return [changes_threads]
