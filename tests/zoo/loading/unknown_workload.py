"""A contender for a workload with a typing error in its name."""

import benchbench as bb


@bb.implementation("zoo/negatte", "fast")
def fast(inputs):
    return inputs.thunk(lambda x: -x)


@bb.hookimpl
def benchbench_implementations():
    return [fast]
