"""The workloads of the liars and of the honest who look like them, with an honest baseline each."""

import torch

import benchbench as bb

SIDE = 320


def vector(params, seed):
    generator = torch.Generator().manual_seed(seed)
    return bb.Inputs({"x": torch.randn(params["n"], generator=generator)})


def matrices(params, seed):
    generator = torch.Generator().manual_seed(seed)
    x, w = torch.randn(2, params["side"], params["side"], generator=generator)
    return bb.Inputs({"x": x.clone(), "w": w.clone()})


def differentiable(params, seed):
    generator = torch.Generator().manual_seed(seed)
    x, cotangent = torch.randn(2, params["n"], generator=generator)
    return bb.Inputs({"x": x.clone()}, wrt=["x"], cotangents=[cotangent.clone()])


def double_reference(inputs):
    return inputs.double().x * 2


def cube_reference(inputs):
    double = inputs.double()
    return (double.x**3, 3 * double.x**2 * double.cotangents[0])


WORKLOADS = [
    bb.Workload(
        name="liars/double",
        doc="Twice a vector: nothing but memory.",
        make=vector,
        baseline="baseline",
        axes={"n": (1 << 20, 3_000)},
        presets={"quick": {"n": (1 << 20, 3_000)}},
        reference=double_reference,
        work=lambda params: bb.Work(bytes=8 * params["n"]),
    ),
    bb.Workload(
        name="liars/double-kept",
        doc="Twice a vector that never has other values.",
        make=vector,
        baseline="baseline",
        axes={"n": (1 << 22,)},
        reference=double_reference,
        renewed=(),
        work=lambda params: bb.Work(bytes=8 * params["n"]),
    ),
    bb.Workload(
        name="liars/product",
        doc="x @ w: much arithmetic, so that it pays not to do it.",
        make=matrices,
        baseline="baseline",
        axes={"side": (SIDE,)},
        reference=lambda inputs: inputs.double().x @ inputs.double().w,
    ),
    bb.Workload(
        name="liars/cube",
        doc="x ** 3 and its gradient.",
        make=differentiable,
        baseline="baseline",
        axes={"n": (20_000,)},
        reference=cube_reference,
    ),
]


@bb.implementation("liars/double", "baseline")
def double(inputs):
    return inputs.thunk(lambda x: x * 2)


@bb.implementation("liars/double-kept", "baseline")
def double_kept(inputs):
    return inputs.thunk(lambda x: x * 2)


@bb.implementation("liars/product", "baseline")
def product(inputs):
    return inputs.thunk(lambda x, w: x @ w)


@bb.implementation("liars/cube", "baseline")
def cube(inputs):
    return inputs.thunk(lambda x: x**3)


@bb.hookimpl
def benchbench_workloads():
    return WORKLOADS


@bb.hookimpl
def benchbench_implementations():
    return [double, double_kept, product, cube]
