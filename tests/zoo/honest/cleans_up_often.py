"""Collects garbage and warns in its calls; slow, but that is its own affair."""

import gc
import warnings

import benchbench as bb


@bb.implementation("liars/double", "cleans_up_often")
def cleans_up_often(inputs):
    def call():
        gc.collect(0)
        warnings.warn("this kernel is old", DeprecationWarning, stacklevel=2)
        return inputs.x * 2

    return call


@bb.hookimpl
def benchbench_implementations():
    return [cleans_up_often]
