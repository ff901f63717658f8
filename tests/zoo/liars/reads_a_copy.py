"""Copies its input when it is built: memory of its own, which may lie better or worse."""

import benchbench as bb


@bb.implementation("liars/product", "reads_a_copy")
def reads_a_copy(inputs):
    x = inputs.x.clone()
    return lambda: x @ inputs.w


@bb.hookimpl
def benchbench_implementations():
    return [reads_a_copy]
