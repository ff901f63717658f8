"""Every first-party workload on a CUDA device that does not exist.

Fake tensors have a device and no values: what mixes devices is found as on a real one. Where an
operator needs values (it would wait for the device), or torch needs a device to be there, the walk
through that contender ends, and the rest is for ``test_gpu_harness.py`` on a real one.
"""

from __future__ import annotations

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

KINDS = ("activations", "losses", "models", "normalizations", "optimizers", "samplers")
NEEDS_VALUES = (DataDependentOutputException, DynamicOutputShapeException)
ABSENT = (
    "Torch not compiled with CUDA",
    "No CUDA GPUs",
    "NVIDIA driver",
    "Cannot get CUDA generator",
    "Device type CUDA is not supported",
    "PyTorch is not linked with support for cuda devices",
)


@pytest.fixture(scope="module")
def catalog():
    return load(LoaderOptions(allowed=KINDS)).catalog


def a_point(workload):
    """The first point of the smallest preset that has one, on a CUDA device."""
    for preset in ("quick", "standard"):
        for params in points(workload.axes, preset_grids(workload, preset)):
            return {**params, "device": "cuda"}
    return None


def walk(step):
    """None, or the error that says that devices are mixed."""
    try:
        step()
    except NEEDS_VALUES:
        return None
    except UnsupportedOperatorException:
        return None
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if any(words in text for words in ABSENT):
            return None
        return text
    return None


def test_there_is_something_to_walk_through(catalog):
    on_cuda = [w for w in catalog.workloads.values() if "cuda" in w.axes.get("device", ())]
    assert len(on_cuda) > 60


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_and_calls_stay_on_the_device(catalog, kind):
    mixed = {}
    reached = 0
    for name, workload in catalog.workloads.items():
        if workload.kind != kind or "cuda" not in workload.axes.get("device", ()):
            continue
        params = a_point(workload)
        if params is None:
            continue
        with FakeTensorMode(allow_non_fake_inputs=True):
            made = []
            fault = walk(lambda: made.append(workload.make(params, 1)))
            if fault:
                mixed[name] = fault
            for inputs in made:
                for contender, item in catalog.implementations[name].items():
                    if _elsewhere(item, params):
                        continue
                    reached += 1
                    fault = walk(lambda: item.build(inputs)())
                    if fault:
                        mixed[f"{name}:{contender}"] = fault
    assert reached
    assert not mixed, "\n".join(f"{who}: {why}" for who, why in mixed.items())


def _elsewhere(item, params):
    """Contenders for the CPU alone, and those that have to be compiled."""
    if "compiled" in item.name or "fused" in item.name or "swapped" in item.name:
        return True
    reason = item.unavailable(params) if item.unavailable is not None else None
    return reason is not None and "no CUDA device is visible" not in reason
