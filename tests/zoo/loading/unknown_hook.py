"""A hook name with a typing error."""

import benchbench as bb


@bb.hookimpl
def benchbench_workload():
    return []
