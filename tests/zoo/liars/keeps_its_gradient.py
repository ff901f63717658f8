"""Computes the output each time, but the gradient only once."""

import benchbench as bb


@bb.implementation("liars/cube", "keeps_its_gradient")
def keeps_its_gradient(inputs):
    thunk = inputs.thunk(lambda x: x**3)
    kept = []

    def call():
        if not kept:
            kept.append(thunk()[1])
        return (inputs.x.detach() ** 3, kept[0].clone())

    return call


@bb.hookimpl
def benchbench_implementations():
    return [keeps_its_gradient]
