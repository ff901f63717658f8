"""Cannot be built."""

import benchbench as bb


@bb.implementation("zoo/double", "raises_in_build")
def raises_in_build(inputs):
    raise ValueError("no such kernel")


@bb.hookimpl
def benchbench_implementations():
    return [raises_in_build]
