"""Says that it cannot run here."""

import benchbench as bb


@bb.implementation(
    "zoo/double", "unavailable", unavailable=lambda params: "needs a machine of 1998"
)
def unavailable(inputs):
    return lambda: inputs.x * 2


@bb.hookimpl
def benchbench_implementations():
    return [unavailable]
