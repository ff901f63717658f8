"""Fails in every call."""

import benchbench as bb


@bb.implementation("zoo/double", "raises_in_call")
def raises_in_call(inputs):
    def call():
        raise RuntimeError("bad launch")

    return call


@bb.hookimpl
def benchbench_implementations():
    return [raises_in_call]
