"""A workload on a GPU for the liars that only a GPU makes possible, with an honest baseline."""

import torch

import benchbench as bb


def make(params, seed):
    generator = torch.Generator().manual_seed(seed)
    x, w = torch.randn(2, 2048, 2048, generator=generator)
    return bb.Inputs({"x": x.to(params["device"]), "w": w.to(params["device"])})


ARENA = bb.Workload(
    name="cuda-liars/product",
    doc="x @ w on a GPU.",
    make=make,
    baseline="baseline",
    axes={"device": ("cuda",)},
    reference=lambda inputs: inputs.double().x @ inputs.double().w,
)


@bb.implementation("cuda-liars/product", "baseline")
def product(inputs):
    return inputs.thunk(lambda x, w: x @ w)


@bb.hookimpl
def benchbench_workloads():
    return [ARENA]


@bb.hookimpl
def benchbench_implementations():
    return [product]
