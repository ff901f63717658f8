"""Reads address 0 after 60 calls, which is after its check."""

import ctypes

import benchbench as bb


@bb.implementation("zoo/double", "segfaults_later")
def segfaults_later(inputs):
    calls = []

    def call():
        calls.append(1)
        if len(calls) > 60:
            ctypes.string_at(0)
        return inputs.x * 2

    return call


@bb.hookimpl
def benchbench_implementations():
    return [segfaults_later]
