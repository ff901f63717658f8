"""Sets a variable that a library of a rival will read when it is loaded."""

import os

import benchbench as bb


@bb.implementation("liars/product", "changes_the_environment")
def changes_the_environment(inputs):
    os.environ["OMP_WAIT_POLICY"] = "passive"
    return lambda: inputs.x @ inputs.w


@bb.hookimpl
def benchbench_implementations():
    return [changes_the_environment]
