"""Finds the records of the others among all objects and makes the baseline call it twice."""

import gc

import benchbench as bb


def cheat():
    for item in gc.get_objects():
        if type(item).__name__ == "Entrant" and item.name == "baseline" and item.samples:
            item.samples[:] = [value * 100 for value in item.samples]


@bb.implementation("liars/product", "edits_a_rival")
def edits_a_rival(inputs):
    def call():
        cheat()
        return inputs.x @ inputs.w

    return call


@bb.hookimpl
def benchbench_implementations():
    return [edits_a_rival]
