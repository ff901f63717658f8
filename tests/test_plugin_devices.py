"""Every first-party workload on a CUDA device that does not exist.

Fake tensors have a device and no values: what mixes devices is found as on a real one. Where an
operator needs values (it would wait for the device), or torch needs a device to be there, the walk
through that contender ends, and the rest is for ``test_gpu_harness.py`` on a real one. So are
models: a module cannot be moved where its parameters are fake.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)

from benchbench.grids import points, preset_grids
from benchbench.plugins import LoaderOptions, load
from benchbench.structures import is_tensor, leaves

KINDS = ("activations", "losses", "normalizations", "optimizers", "samplers")
NEEDS_VALUES = (DataDependentOutputException, DynamicOutputShapeException)
ABSENT = (
    "Torch not compiled with CUDA",
    "No CUDA GPUs",
    "NVIDIA driver",
    "Cannot get CUDA generator",
    "Device type CUDA is not supported",
    "PyTorch is not linked with support for cuda devices",
    "driver version is insufficient",
    "generator is not supported in refs",
    "Couldn't swap",  # a module cannot be moved
    "hasPrimaryContext",  # a backward pass asks the driver
)


@pytest.fixture(autouse=True)
def generators_anywhere(monkeypatch):
    """A generator of a device needs the device; without values it does not matter who draws."""

    of_the_host = torch.Generator

    class Anywhere:
        def __new__(cls, device="cpu"):
            return of_the_host()

    monkeypatch.setattr(torch, "Generator", Anywhere)


@pytest.fixture(scope="module")
def catalog():
    return load(LoaderOptions(allowed=KINDS)).catalog


def a_point(workload):
    """The first point of the smallest preset that has one, on a CUDA device."""
    for preset in ("quick", "standard"):
        for params in points(workload.axes, preset_grids(workload, preset)):
            simple = {"direction": "forward", "parameters": "one-64M"}
            wanted = {
                axis: value
                for axis, value in simple.items()
                if value in workload.axes.get(axis, ())
            }
            return {**params, **wanted, "device": "cuda"}
    return None


def on_gpu(workload):
    """All points of the preset ``gpu``, forward where there is a choice."""
    return [
        params
        for params in points(workload.axes, preset_grids(workload, "gpu"))
        if params.get("direction") != "forward+backward"
    ]


def walk(step, *arguments):
    """What the step gives, and the error that says that devices are mixed, or an empty text."""
    try:
        return step(*arguments), ""
    except (*NEEDS_VALUES, UnsupportedOperatorException):
        return None, ""
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return None, "" if any(words in text for words in ABSENT) else text


def called(item, inputs):
    return item.build(inputs)()


def test_there_is_something_to_walk_through(catalog):
    on_cuda = [w for w in catalog.workloads.values() if "cuda" in w.axes.get("device", ())]
    assert len(on_cuda) > 50


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_and_calls_stay_on_the_device(catalog, kind):
    reached, mixed = 0, {}
    for name, workload in on_cuda(catalog, kind):
        params = a_point(workload)
        if params is not None:
            found = faults(catalog, name, params)
            reached += found is not None
            mixed.update(found or {})
    assert reached > 2, "inputs can be made"
    assert not mixed, "\n".join(f"{who}: {why}" for who, why in mixed.items())


@pytest.mark.parametrize("kind", ["activations", "losses", "normalizations"])
def test_calls_take_the_shapes_of_the_preset_gpu(catalog, kind):
    reached, mixed = 0, {}
    for name, workload in on_cuda(catalog, kind):
        for params in on_gpu(workload):
            found = faults(catalog, name, params)
            reached += found is not None
            mixed.update(found or {})
    assert reached > 2, "inputs can be made"
    assert not mixed, "\n".join(f"{who}: {why}" for who, why in mixed.items())


def on_cuda(catalog, kind):
    for name, workload in catalog.workloads.items():
        if workload.kind == kind and "cuda" in workload.axes.get("device", ()):
            yield name, workload


def faults(catalog, name, params):
    """What is wrong with each contender at a point, by its name; None without any inputs."""
    mixed = {}
    with FakeTensorMode(allow_non_fake_inputs=True):
        inputs, fault = walk(catalog.workloads[name].make, params, 1)
        if fault:
            mixed[name] = fault
        if inputs is None:
            return mixed or None
        if _on_the_host(inputs):
            mixed[name] = f"inputs on the host: {_on_the_host(inputs)}"
        for contender, item in catalog.implementations[name].items():
            if not _elsewhere(item, params):
                output, fault = walk(called, item, inputs)
                if _on_the_host(output):
                    fault = f"output on the host: {_on_the_host(output)}"
                if fault:
                    mixed[f"{name}:{contender}"] = fault
    return mixed


FILLS = 256e6
"""Bytes that a call moves at least, so that it is no launch that is measured."""


def test_every_workload_of_a_gpu_has_the_preset_gpu_and_fills_the_chip(catalog):
    """Or docs/gpu.md says that it does not, by name."""
    text = (Path(__file__).parents[1] / "docs" / "gpu.md").read_text()
    said = re.search(r"small by nature: (.*?)\.\n", text, re.DOTALL).group(1)
    small = set(re.findall(r"`([\w/*-]+)`", said))
    found = set()
    for name, workload in everything().workloads.items():
        if "cuda" not in workload.axes.get("device", ()):
            assert name in small or f"{workload.kind}/*" in small, f"{name} runs on no GPU"
            continue
        grids = preset_grids(workload, "gpu")
        assert grids, f"{name} has no preset gpu"
        all_points = list(points(workload.axes, grids))
        assert {params["device"] for params in all_points} == {"cuda"}, name
        if workload.kind == "models":  # as large as the batch, which is checked
            assert all(p.get("batch", 64) >= 64 for p in all_points), name
            continue
        if min(workload.work(params).bytes for params in all_points) < FILLS:
            found.add(name)
    assert found <= small, sorted(found - small)


def everything():
    return load(LoaderOptions()).catalog


def _on_the_host(value):
    return [path for path, leaf in leaves(value) if is_tensor(leaf) and leaf.device.type != "cuda"]


def _elsewhere(item, params):
    """Contenders for the CPU alone, and those that have to be compiled."""
    if "compiled" in item.name or "fused" in item.name or "swapped" in item.name:
        return True
    reason = item.unavailable(params) if item.unavailable is not None else None
    return reason is not None and "no CUDA device is visible" not in reason
