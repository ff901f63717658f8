"""Returns float64."""

import benchbench as bb


@bb.implementation("zoo/double", "wrong_dtype")
def wrong_dtype(inputs):
    return lambda: inputs.x.double() * 2


@bb.hookimpl
def benchbench_implementations():
    return [wrong_dtype]
