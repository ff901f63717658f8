"""Leaves an interval timer behind that interrupts everybody a thousand times a second."""

import signal

import benchbench as bb


@bb.implementation("liars/product", "sets_an_alarm")
def sets_an_alarm(inputs):
    signal.signal(signal.SIGALRM, lambda number, frame: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    return lambda: inputs.x @ inputs.w


@bb.hookimpl
def benchbench_implementations():
    return [sets_an_alarm]
