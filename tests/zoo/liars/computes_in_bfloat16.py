"""Multiplies in bfloat16 and returns float32."""

import torch

import benchbench as bb


@bb.implementation("liars/product", "computes_in_bfloat16")
def computes_in_bfloat16(inputs):
    def call():
        return (inputs.x.to(torch.bfloat16) @ inputs.w.to(torch.bfloat16)).float()

    return call


@bb.hookimpl
def benchbench_implementations():
    return [computes_in_bfloat16]
