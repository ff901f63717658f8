"""Writes to its input through a numpy view, which torch cannot see."""

import benchbench as bb


@bb.implementation("zoo/double", "mutates_unseen")
def mutates_unseen(inputs):
    view = inputs.x.numpy()

    def call():
        output = inputs.x * 2
        view[0] += 1
        return output

    return call


@bb.hookimpl
def benchbench_implementations():
    return [mutates_unseen]
