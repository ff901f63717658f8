"""Puts a slow clock in place of the one that the timer reads."""

import time

import benchbench as bb
import benchbench.timers.wall as wall


@bb.implementation("liars/product", "patches_the_clock")
def patches_the_clock(inputs):
    wall.perf_counter_ns = lambda: time.monotonic_ns() // 100
    return lambda: inputs.x @ inputs.w


@bb.hookimpl
def benchbench_implementations():
    return [patches_the_clock]
