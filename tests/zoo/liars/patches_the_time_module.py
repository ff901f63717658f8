"""Replaces time.perf_counter_ns for whoever asks the module for it."""

import time

import benchbench as bb


@bb.implementation("liars/product", "patches_the_time_module")
def patches_the_time_module(inputs):
    time.perf_counter_ns = lambda: 0
    return lambda: inputs.x @ inputs.w


@bb.hookimpl
def benchbench_implementations():
    return [patches_the_time_module]
