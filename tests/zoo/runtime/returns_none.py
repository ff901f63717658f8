"""Returns nothing."""

import benchbench as bb


@bb.implementation("zoo/double", "returns_none")
def returns_none(inputs):
    return lambda: None


@bb.hookimpl
def benchbench_implementations():
    return [returns_none]
