"""Returns a tuple."""

import benchbench as bb


@bb.implementation("zoo/double", "wrong_structure")
def wrong_structure(inputs):
    return lambda: (inputs.x * 2,)


@bb.hookimpl
def benchbench_implementations():
    return [wrong_structure]
