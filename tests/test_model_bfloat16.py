"""Models in bfloat16: every way is about as far from float64 as eager autocast is."""

import pytest
import torch
from model_trials import BY_NAME, CONTENDERS, WORKLOADS, evidence, params_of

from benchbench_plugins.models import bfloat16, judge

LOW = {"mlp", "transformer-block", "llama-block", "lstm", "resnet18", "squeezenet1-1"}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", sorted(LOW))
def test_every_way_in_bfloat16_infers_what_float64_does(name):
    model = BY_NAME[name]
    params = params_of(model)
    workload = WORKLOADS[f"models/{name}-bf16"]
    inputs = workload.make(params, 1)
    reference = workload.reference(inputs)
    errors = {}
    for way in bfloat16.WAYS:
        if way.applies(model) and not way.compile:
            item = CONTENDERS[f"{workload.name}:{way.name}"]
            assert item.unavailable(params) is None
            output = item.build(inputs)()
            assert output.dtype == torch.float32
            errors[way.name] = judge.off(output, reference)
    assert errors["float32"] < 1e-4
    assert 1e-4 < errors["autocast"] < 0.1
    for way, error in errors.items():
        assert error < 4 * errors["autocast"], way
    assert all(p.dtype == torch.float32 for p in inputs.model.parameters())


@pytest.mark.parametrize("name", ["mlp", "resnet18"])
def test_every_way_in_bfloat16_trains_as_float64_does(name):
    model = BY_NAME[name]
    params = params_of(model)
    workload = WORKLOADS[f"models/{name}-train-bf16"]
    inputs = workload.make(params, 1)
    reference = workload.reference(inputs)
    for way in bfloat16.WAYS:
        if way.applies(model, training=True) and not way.compile:
            thunk = CONTENDERS[f"{workload.name}:{way.name}"].build(inputs)
            output = thunk()
            assert workload.check(evidence(inputs, output, reference)) is None
            for _ in range(3):
                output = thunk()
            assert workload.check(evidence(inputs, output, reference, calls=4)) is None
    wrong = {**output, "gradients": tuple(torch.zeros_like(g) for g in output["gradients"])}
    wrong["loss"] = reference["loss"]
    assert "its gradient 0" in workload.check(evidence(inputs, wrong, reference))
    assert f"{workload.name}:converted" not in CONTENDERS
