"""Replaces the timer's method by one that reports a hundredth."""

import benchbench as bb
from benchbench.timers.wall import WallTimer


@bb.implementation("liars/product", "patches_the_timer")
def patches_the_timer(inputs):
    honest = WallTimer.sample

    def sample(self, thunk, calls):
        found = honest(self, thunk, calls)
        return type(found)(elapsed=found.elapsed / 100, calls=calls, output=found.output)

    WallTimer.sample = sample
    return lambda: inputs.x @ inputs.w


@bb.hookimpl
def benchbench_implementations():
    return [patches_the_timer]
