"""Cannot even say whether it can run."""

import benchbench as bb


@bb.implementation("zoo/double", "unavailable_raises", unavailable=lambda params: 1 // 0)
def unavailable_raises(inputs):
    return lambda: inputs.x * 2


@bb.hookimpl
def benchbench_implementations():
    return [unavailable_raises]
