"""An honest plugin: the broken ones must not cost it anything."""

import benchbench as bb


@bb.implementation("zoo/negate", "eager")
def eager(inputs):
    """The baseline."""
    return inputs.thunk(lambda x: -x)


def make(params, seed):
    import torch

    torch.manual_seed(seed)
    return bb.Inputs({"x": torch.randn(params["n"])})


NEGATE = bb.Workload(
    name="zoo/negate",
    doc="Change the sign.",
    make=make,
    baseline="eager",
    axes={"n": (1000, 10)},
    reference=lambda inputs: inputs.double().thunk(lambda x: -x)(),
)


@bb.hookimpl
def benchbench_workloads():
    return [NEGATE]


@bb.hookimpl
def benchbench_implementations():
    return [eager]
