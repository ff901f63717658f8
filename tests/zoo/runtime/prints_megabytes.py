"""Right, but prints 10 MB on each of its first calls."""

import benchbench as bb


@bb.implementation("zoo/double", "prints_megabytes")
def prints_megabytes(inputs):
    calls = []

    def call():
        calls.append(1)
        if len(calls) <= 2:
            print("x" * 10_000_000)
        return inputs.x * 2

    return call


@bb.hookimpl
def benchbench_implementations():
    return [prints_megabytes]
