"""Never comes back."""

import time

import benchbench as bb


@bb.implementation("zoo/double", "hangs_in_call")
def hangs_in_call(inputs):
    return lambda: time.sleep(1000)


@bb.hookimpl
def benchbench_implementations():
    return [hangs_in_call]
