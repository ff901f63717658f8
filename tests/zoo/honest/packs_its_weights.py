"""Brings the weights into another order when it is built: they are constant in use."""

import benchbench as bb


@bb.implementation("liars/product", "packs_its_weights")
def packs_its_weights(inputs):
    packed = inputs.w.t().contiguous().t()
    return lambda: inputs.x @ packed


@bb.hookimpl
def benchbench_implementations():
    return [packs_its_weights]
