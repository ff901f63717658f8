"""Looks at five numbers of the input to tell whether it has an answer for it."""

import benchbench as bb


@bb.implementation("liars/product", "memoises_by_sample")
def memoises_by_sample(inputs):
    answers = {}

    def call():
        key = tuple(inputs.x.view(-1)[:: inputs.x.numel() // 5].tolist())
        if key not in answers:
            answers[key] = inputs.x @ inputs.w
        return answers[key].clone()

    return call


@bb.hookimpl
def benchbench_implementations():
    return [memoises_by_sample]
