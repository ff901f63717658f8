"""Parts of a training step: each is what it says, and wrong ones are found."""

import pytest
import torch
from model_trials import BY_NAME, CONTENDERS, WORKLOADS

import benchbench as bb
from benchbench_plugins.models import split

PARAMS = {
    "mlp": {"batch": 4},
    "lstm": {"batch": 2},
    "resnet18": {"batch": 2, "size": 64},
    "squeezenet1-1": {"batch": 2, "size": 64},
    "transformer-block": {"batch": 1},
}


def case(name, part):
    workload = WORKLOADS[f"models/{name}-train-split"]
    params = {**PARAMS[name], "part": part, "device": "cpu"}
    inputs = workload.make(params, 1)
    return workload, params, inputs, workload.reference(inputs)


def asked(workload, params, inputs, reference, output, calls):
    return workload.check(
        bb.Evidence(output=output, inputs=inputs, params=params, calls=calls, reference=reference)
    )


@pytest.mark.parametrize("part", split.PARTS)
@pytest.mark.parametrize("name", PARAMS)
def test_every_way_does_each_part(name, part):
    found = case(name, part)
    workload, params, inputs = found[:3]
    before = [parameter.detach().clone() for parameter in inputs.model.parameters()]
    mine = [item for item in CONTENDERS.values() if item.workload == workload.name]
    assert {"eager"} <= {item.name for item in mine}
    for item in mine:
        assert item.unavailable(params) is None
        call = item.build(inputs)
        for calls in range(1, 5):
            output = call()
            assert asked(*found, output, calls) is None, (item.name, calls)
    after = inputs.model.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_wrong_parts_are_found():
    found = case("mlp", "forward")
    assert "its loss is" in asked(*found, {"loss": found[3]["loss"] * 1.01}, 1)
    found = case("mlp", "backward")
    zeros = tuple(torch.zeros_like(g) for g in found[3]["gradients"])
    assert "its gradient 0 of 3" in asked(*found, {"gradients": zeros}, 1)
    found = case("mlp", "optimizer")
    call = CONTENDERS["models/mlp-train-split:eager"].build(found[2])
    output = call()
    assert asked(*found, output, 1) is None
    assert "after 2 steps its parameter 0" in asked(*found, output, 2)


def test_the_way_of_momentum_is_the_sum_of_its_steps():
    position = velocity = 0.0
    for steps in range(1, 20):
        velocity = split.MOMENTUM * velocity + 1
        position += velocity
        assert split.travelled(steps) == pytest.approx(position, rel=1e-12)


def test_parts_add_up_to_the_work_of_a_step():
    model = BY_NAME["resnet18"]
    params = {"batch": 2, "size": 64}
    parts = [split.work(model, {**params, "part": part}) for part in split.PARTS]
    assert parts[0].flops + parts[1].flops == model.work(params, True).flops
    assert parts[2].bytes == 20 * 11_689_512
