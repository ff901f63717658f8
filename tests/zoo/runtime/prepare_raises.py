"""Cannot be prepared."""

import benchbench as bb


@bb.implementation("zoo/double", "prepare_raises", prepare=lambda: [].pop())
def prepare_raises(inputs):
    return lambda: inputs.x * 2


@bb.hookimpl
def benchbench_implementations():
    return [prepare_raises]
