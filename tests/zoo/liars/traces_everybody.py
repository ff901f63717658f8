"""Leaves a profile function behind that runs at every call of everybody."""

import sys

import benchbench as bb


@bb.implementation("liars/product", "traces_everybody")
def traces_everybody(inputs):
    def call():
        sys.setprofile(lambda frame, event, argument: None)
        return inputs.x @ inputs.w

    return call


@bb.hookimpl
def benchbench_implementations():
    return [traces_everybody]
