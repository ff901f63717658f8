"""Forks in every call, and both processes come back."""

import os

import benchbench as bb


@bb.implementation("zoo/double", "forks")
def forks(inputs):
    def call():
        os.fork()
        return inputs.x * 2

    return call


@bb.hookimpl
def benchbench_implementations():
    return [forks]
