"""Sums the input and computes only for a sum that is new: right on all values, but no work."""

import benchbench as bb


@bb.implementation("liars/product", "memoises_by_checksum")
def memoises_by_checksum(inputs):
    answers = {}

    def call():
        key = float(inputs.x.sum())
        if key not in answers:
            answers[key] = inputs.x @ inputs.w
        return answers[key].clone()

    return call


@bb.hookimpl
def benchbench_implementations():
    return [memoises_by_checksum]
