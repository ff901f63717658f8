"""Replaces the clock in the middle of a sample; the false one puts the true one back when read."""

import benchbench as bb
import benchbench.timers.wall as wall


@bb.implementation("liars/product", "patches_the_clock_briefly")
def patches_the_clock_briefly(inputs):
    true = wall.perf_counter_ns
    calls = [0]

    def call():
        calls[0] += 1
        if calls[0] > 8 and wall.perf_counter_ns is true:
            start = true()

            def false():
                wall.perf_counter_ns = true
                return start

            wall.perf_counter_ns = false
        return inputs.x @ inputs.w

    return call


@bb.hookimpl
def benchbench_implementations():
    return [patches_the_clock_briefly]
