"""Looks up the stack whether a timer calls it, and then hands out copies."""

import sys

import benchbench as bb


def is_timed():
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "_sample":
            return True
        frame = frame.f_back
    return False


@bb.implementation("liars/product", "knows_the_timer")
def knows_the_timer(inputs):
    answers = []

    def call():
        if not is_timed() or not answers:
            answers[:] = [inputs.x @ inputs.w]
        return answers[0].clone()

    return call


@bb.hookimpl
def benchbench_implementations():
    return [knows_the_timer]
