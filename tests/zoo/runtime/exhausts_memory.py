"""Keeps everything that it allocates, up to 8 GB."""

import benchbench as bb


@bb.implementation("zoo/double", "exhausts_memory")
def exhausts_memory(inputs):
    kept = []

    def call():
        for _ in range(256):
            kept.append(b"x" * 32_000_000)  # one thread: two would wait for a busy neighbour
        raise MemoryError("nobody stopped me")

    return call


@bb.hookimpl
def benchbench_implementations():
    return [exhausts_memory]
