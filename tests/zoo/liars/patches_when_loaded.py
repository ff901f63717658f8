"""Replaces a function of torch when its module is imported, before any case starts."""

import torch

import benchbench as bb

torch.nn.functional.softplus = lambda x: x


@bb.implementation("liars/product", "patches_when_loaded")
def patches_when_loaded(inputs):
    return lambda: inputs.x @ inputs.w


@bb.hookimpl
def benchbench_implementations():
    return [patches_when_loaded]
