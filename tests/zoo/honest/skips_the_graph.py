"""Computes output and gradient by a formula, without autograd."""

import benchbench as bb


@bb.implementation("liars/cube", "skips_the_graph")
def skips_the_graph(inputs):
    def call():
        x = inputs.x.detach()
        square = x * x
        return (square * x, 3 * square * inputs.cotangents[0])

    return call


@bb.hookimpl
def benchbench_implementations():
    return [skips_the_graph]
