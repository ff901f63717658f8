"""Draws 17 random bits and takes the remainder: low numbers come twice as often."""

import torch

import benchbench as bb


@bb.implementation("samplers/bootstrap-indices", "draws_by_modulo")
def draws_by_modulo(inputs):
    n = inputs.n
    generator = torch.Generator().manual_seed(inputs.seed)
    bits = 1 << n.bit_length()
    return lambda: torch.randint(bits, (n,), generator=generator) % n


@bb.hookimpl
def benchbench_implementations():
    return [draws_by_modulo]
