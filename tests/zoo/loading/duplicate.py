"""Claims an id that the workload's own plugin already has."""

import benchbench as bb


@bb.implementation("zoo/negate", "eager")
def usurper(inputs):
    return inputs.thunk(lambda x: x)


@bb.hookimpl
def benchbench_implementations():
    return [usurper]
