"""Leaves out the last value."""

import benchbench as bb


@bb.implementation("zoo/double", "wrong_at_the_end")
def wrong_at_the_end(inputs):
    def call():
        output = inputs.x * 2
        output[-1] = 0
        return output

    return call


@bb.hookimpl
def benchbench_implementations():
    return [wrong_at_the_end]
