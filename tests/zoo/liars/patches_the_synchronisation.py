"""Makes torch.cuda.synchronize do nothing, so that work on other streams is not waited for."""

import torch

import benchbench as bb


@bb.implementation("liars/product", "patches_the_synchronisation")
def patches_the_synchronisation(inputs):
    torch.cuda.synchronize = lambda device=None: None
    return lambda: inputs.x @ inputs.w


@bb.hookimpl
def benchbench_implementations():
    return [patches_the_synchronisation]
