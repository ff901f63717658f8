"""Doubles in place."""

import benchbench as bb


@bb.implementation("zoo/double", "mutates_inputs")
def mutates_inputs(inputs):
    return lambda: inputs.x.mul_(2).clone()


@bb.hookimpl
def benchbench_implementations():
    return [mutates_inputs]
