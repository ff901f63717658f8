"""Allows lower precision for everybody, in its 50th call."""

import torch

import benchbench as bb


@bb.implementation("zoo/double", "changes_matmul_precision")
def changes_matmul_precision(inputs):
    calls = []

    def call():
        calls.append(1)
        if len(calls) == 50:
            torch.set_float32_matmul_precision("medium")
        return inputs.x * 2

    return call


@bb.hookimpl
def benchbench_implementations():
    return [changes_matmul_precision]
