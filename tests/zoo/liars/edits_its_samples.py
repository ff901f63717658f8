"""Climbs the stack to the record of its own samples and divides them."""

import sys

import benchbench as bb


def cheat():
    frame = sys._getframe()
    while frame is not None:
        entrant = frame.f_locals.get("entrant")
        if entrant is not None and getattr(entrant, "samples", None):
            entrant.samples[:] = [value / 100 for value in entrant.samples]
        frame = frame.f_back


@bb.implementation("liars/product", "edits_its_samples")
def edits_its_samples(inputs):
    def call():
        cheat()
        return inputs.x @ inputs.w

    return call


@bb.hookimpl
def benchbench_implementations():
    return [edits_its_samples]
