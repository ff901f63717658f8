"""A hook without a return statement."""

import benchbench as bb


@bb.hookimpl
def benchbench_implementations():
    pass
