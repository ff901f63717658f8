"""Copies the input and works in place on the copy."""

import benchbench as bb


@bb.implementation("liars/double", "works_in_place")
def works_in_place(inputs):
    return lambda: inputs.x.clone().mul_(2)


@bb.hookimpl
def benchbench_implementations():
    return [works_in_place]
