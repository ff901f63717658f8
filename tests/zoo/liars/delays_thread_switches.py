"""Raises the interpreter's switch interval, so that rivals' threads wait."""

import sys

import benchbench as bb


@bb.implementation("liars/product", "delays_thread_switches")
def delays_thread_switches(inputs):
    sys.setswitchinterval(0.5)
    return lambda: inputs.x @ inputs.w


@bb.hookimpl
def benchbench_implementations():
    return [delays_thread_switches]
