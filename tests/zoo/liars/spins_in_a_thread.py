"""Leaves a thread behind that keeps a processor and the interpreter busy while others are timed."""

import threading

import benchbench as bb


def spin():
    while True:
        pass


@bb.implementation("liars/product", "spins_in_a_thread")
def spins_in_a_thread(inputs):
    threads = []

    def call():
        if not threads:
            threads.append(threading.Thread(target=spin, daemon=True))
            threads[0].start()
        return inputs.x @ inputs.w

    return call


@bb.hookimpl
def benchbench_implementations():
    return [spins_in_a_thread]
