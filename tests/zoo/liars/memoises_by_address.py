"""Computes once for each address and hands out copies of the answer: no product but a copy."""

import benchbench as bb


@bb.implementation("liars/product", "memoises_by_address")
def memoises_by_address(inputs):
    answers = {}

    def call():
        key = inputs.x.data_ptr()
        if key not in answers:
            answers[key] = inputs.x @ inputs.w
        return answers[key].clone()

    return call


@bb.hookimpl
def benchbench_implementations():
    return [memoises_by_address]
