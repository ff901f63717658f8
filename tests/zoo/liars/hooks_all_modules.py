"""Registers a hook that runs around every module of everybody."""

import torch

import benchbench as bb


@bb.implementation("liars/product", "hooks_all_modules")
def hooks_all_modules(inputs):
    torch.nn.modules.module.register_module_forward_hook(lambda module, given, output: None)
    return lambda: inputs.x @ inputs.w


@bb.hookimpl
def benchbench_implementations():
    return [hooks_all_modules]
