"""Binds the process to one processor, which hurts those that use more threads."""

import os

import benchbench as bb


@bb.implementation("liars/product", "narrows_the_processors")
def narrows_the_processors(inputs):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return lambda: inputs.x @ inputs.w


@bb.hookimpl
def benchbench_implementations():
    return [narrows_the_processors]
