"""A hook that asks for an argument that does not exist."""

import benchbench as bb


@bb.hookimpl
def benchbench_result(results):
    pass
