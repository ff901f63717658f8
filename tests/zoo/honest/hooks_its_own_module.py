"""Is a module with a hook of its own and a parameter made in build."""

import torch

import benchbench as bb


class Twice(torch.nn.Module):
    def forward(self, x):
        return x * 2


@bb.implementation("liars/double", "hooks_its_own_module")
def hooks_its_own_module(inputs):
    module = Twice()
    module.register_forward_hook(lambda module, given, output: output)
    return lambda: module(inputs.x)


@bb.hookimpl
def benchbench_implementations():
    return [hooks_its_own_module]
