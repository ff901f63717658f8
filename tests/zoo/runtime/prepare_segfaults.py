"""Takes the worker down while it is prepared."""

import ctypes

import benchbench as bb


def prepare():
    ctypes.string_at(0)


@bb.implementation("zoo/double", "prepare_segfaults", prepare=prepare)
def prepare_segfaults(inputs):
    return lambda: inputs.x * 2


@bb.hookimpl
def benchbench_implementations():
    return [prepare_segfaults]
