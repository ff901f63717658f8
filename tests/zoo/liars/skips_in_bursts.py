"""Computes when it is called after a pause, as checks do, and copies when calls come fast."""

from time import monotonic

import benchbench as bb


@bb.implementation("liars/product", "skips_in_bursts")
def skips_in_bursts(inputs):
    last = [0.0, None]

    def call():
        if last[1] is None or monotonic() - last[0] > 0.002:
            last[1] = inputs.x @ inputs.w
        last[0] = monotonic()
        return last[1].clone()

    return call


@bb.hookimpl
def benchbench_implementations():
    return [skips_in_bursts]
