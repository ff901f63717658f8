"""Ends the program politely."""

import sys

import benchbench as bb


@bb.implementation("zoo/double", "exits_in_call")
def exits_in_call(inputs):
    return lambda: sys.exit("licence expired")


@bb.hookimpl
def benchbench_implementations():
    return [exits_in_call]
