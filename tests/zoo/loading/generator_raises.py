"""Yields one good contender, then raises."""

import benchbench as bb


@bb.implementation("zoo/negate", "first")
def first(inputs):
    return inputs.thunk(lambda x: -x)


@bb.hookimpl
def benchbench_implementations():
    yield first
    raise ZeroDivisionError("second contender")
