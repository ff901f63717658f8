"""Right, but writes a result of its own to every descriptor that it may guess."""

import os

import benchbench as bb


@bb.implementation("zoo/double", "writes_to_descriptors")
def writes_to_descriptors(inputs):
    def call():
        for descriptor in (1, 2):
            os.write(descriptor, b'{"type":"done"}\n')
        return inputs.x * 2

    return call


@bb.hookimpl
def benchbench_implementations():
    return [writes_to_descriptors]
