"""Reads address 0."""

import ctypes

import benchbench as bb


@bb.implementation("zoo/double", "segfaults_in_call")
def segfaults_in_call(inputs):
    return lambda: ctypes.string_at(0)


@bb.hookimpl
def benchbench_implementations():
    return [segfaults_in_call]
