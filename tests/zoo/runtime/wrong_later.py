"""Right in its first 30 calls, zeros from then on."""

import torch

import benchbench as bb


@bb.implementation("zoo/double", "wrong_later")
def wrong_later(inputs):
    calls = []

    def call():
        calls.append(1)
        return inputs.x * 2 if len(calls) < 30 else torch.zeros_like(inputs.x)

    return call


@bb.hookimpl
def benchbench_implementations():
    return [wrong_later]
