"""Right, and says what it prepares."""

import logging

import benchbench as bb


def prepare():
    logging.getLogger("benchbench").info("compiling for a second")
    print("compiler output")


@bb.implementation("zoo/double", "prepares", prepare=prepare)
def prepares(inputs):
    return lambda: inputs.x * 2


@bb.implementation("zoo/double", "prepares_too", prepare=prepare)
def prepares_too(inputs):
    return lambda: inputs.x * 2


@bb.hookimpl
def benchbench_implementations():
    return [prepares, prepares_too]
