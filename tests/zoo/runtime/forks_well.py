"""Right: forks once, and the child ends in the call."""

import os

import benchbench as bb


@bb.implementation("zoo/double", "forks_well")
def forks_well(inputs):
    calls = []

    def call():
        if not calls:
            calls.append(1)
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
        return inputs.x * 2

    return call


@bb.hookimpl
def benchbench_implementations():
    return [forks_well]
