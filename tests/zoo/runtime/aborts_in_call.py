"""Calls abort()."""

import os

import benchbench as bb


@bb.implementation("zoo/double", "aborts_in_call")
def aborts_in_call(inputs):
    return os.abort


@bb.hookimpl
def benchbench_implementations():
    return [aborts_in_call]
