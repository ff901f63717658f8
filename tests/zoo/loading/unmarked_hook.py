"""A hook that its author forgot to mark."""


def benchbench_workloads():
    return []
