"""Computes again only when the input's version counter says that it was written to."""

import benchbench as bb


@bb.implementation("liars/product", "memoises_by_version")
def memoises_by_version(inputs):
    answers = {}

    def call():
        key = (inputs.x.data_ptr(), inputs.x._version)
        if key not in answers:
            answers.clear()
            answers[key] = inputs.x @ inputs.w
        return answers[key].clone()

    return call


@bb.hookimpl
def benchbench_implementations():
    return [memoises_by_version]
