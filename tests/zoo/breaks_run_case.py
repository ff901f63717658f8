"""Wraps every case and raises; the cases must not notice."""

import benchbench as bb


@bb.hookimpl(wrapper=True)
def benchbench_run_case(case):
    raise OSError("the power meter is not connected")
    yield
