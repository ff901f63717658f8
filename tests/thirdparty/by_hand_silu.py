import benchbench as bb
import torch


@bb.implementation("activations/silu", "by-hand")
def by_hand(inputs):
    return inputs.thunk(lambda x: x * torch.sigmoid(x))


@bb.hookimpl
def benchbench_implementations():
    return [by_hand]
