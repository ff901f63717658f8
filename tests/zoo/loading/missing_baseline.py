"""A workload whose baseline nobody contributes."""

import benchbench as bb


@bb.implementation("zoo/orphan", "other")
def other(inputs):
    return inputs.thunk(lambda x: -x)


@bb.hookimpl
def benchbench_workloads():
    return [
        bb.Workload(
            name="zoo/orphan",
            make=lambda params, seed: bb.Inputs({}),
            baseline="othr",
            check=lambda evidence: None,
        )
    ]


@bb.hookimpl
def benchbench_implementations():
    return [other]
