"""Returns a plain function where an implementation is expected; its other contender is fine."""

import benchbench as bb


def undecorated(inputs):
    return inputs.thunk(lambda x: -x)


@bb.implementation("zoo/negate", "decorated")
def decorated(inputs):
    return inputs.thunk(lambda x: -x)


@bb.hookimpl
def benchbench_implementations():
    return [undecorated, decorated]
