"""The workload of the zoo, its honest baseline and an honest rival."""

import torch

import benchbench as bb


def make(params, seed):
    generator = torch.Generator().manual_seed(seed)
    return bb.Inputs({"x": torch.randn(params["n"], generator=generator)})


WORKLOAD = bb.Workload(
    name="zoo/double",
    doc="Twice a vector.",
    make=make,
    baseline="honest",
    axes={"n": (20_000, 3_000)},
    presets={"quick": {"n": (20_000,)}, "standard": {"n": (20_000, 3_000)}},
    reference=lambda inputs: inputs.double().x * 2,
    work=lambda params: bb.Work(bytes=8 * params["n"], items=params["n"]),
)


@bb.implementation("zoo/double", "honest")
def honest(inputs):
    return inputs.thunk(lambda x: x * 2)


@bb.implementation("zoo/double", "rival")
def rival(inputs):
    return inputs.thunk(lambda x: x + x)


@bb.hookimpl
def benchbench_workloads():
    return [WORKLOAD]


@bb.hookimpl
def benchbench_implementations():
    return [honest, rival]
