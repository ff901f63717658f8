"""Models: every way to run one agrees with float64; a broken torchvision costs its rows only."""

import importlib

import pytest
import torch

from benchbench_plugins import models
from benchbench_plugins._common import optional
from benchbench_plugins.models.ways import WAYS
from benchbench_plugins.models.zoo import MODELS, make

WORKLOADS = {w.name: w for w in models.benchbench_workloads()}
CONTENDERS = {item.id: item for item in models.benchbench_implementations()}
SMALL = {
    "mlp": {"batch": 4},
    "lstm": {"batch": 2},
    "transformer-block": {"batch": 1},
    "resnet18": {"batch": 2, "size": 64},
}


def params_of(model):
    return {**SMALL[model.name], "device": "cpu"}


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_every_eager_way_agrees_with_float64(model, training):
    params = params_of(model)
    inputs = make(model, params, 1)
    before = {name: value.clone() for name, value in inputs.model.state_dict().items()}
    workload = WORKLOADS[model.workload(training=training)]
    reference = workload.reference(inputs)
    for way in WAYS:
        if way.compile or not way.applies(model):
            continue
        item = CONTENDERS[f"{workload.name}:{way.name}"]
        assert item.unavailable(params) is None
        output = item.build(inputs)()
        # Batch norm over two small images amplifies rounding in training.
        torch.testing.assert_close(
            output,
            tuple(r.float() for r in reference) if training else reference.float(),
            rtol=2e-2 if training else 1e-3,
            atol=2e-3 if training else 1e-4,
        )
    after = inputs.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), (
        "the shared model changed"
    )


def test_a_training_step_moves_the_parameters():
    model = MODELS[0]
    inputs = make(model, params_of(model), 1)
    thunk = CONTENDERS["models/mlp-train:eager"].build(inputs)
    first = [part.clone() for part in thunk()]
    second = [part.clone() for part in thunk()]
    assert second[0] < first[0]
    assert not torch.equal(first[1], second[1])


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_the_compiled_mlp_agrees(training):
    model = MODELS[0]
    inputs = make(model, params_of(model), 1)
    name = model.workload(training=training)
    reference = WORKLOADS[name].reference(inputs)
    output = CONTENDERS[f"{name}:compiled"].build(inputs)()
    torch.testing.assert_close(
        output, tuple(r.float() for r in reference) if training else reference.float()
    )


def test_known_costs():
    resnet = next(m for m in MODELS if m.name == "resnet18")
    work = resnet.work({"batch": 1, "size": 224}, False)
    # 3.628 GFLOP with 1000 classes; ten classes save 2 x 512 x 990.
    assert work.flops == pytest.approx(3.628e9 - 2 * 512 * 990, rel=1e-3)
    assert resnet.work({"batch": 2, "size": 224}, True).flops == pytest.approx(6 * work.flops)
    mlp = next(m for m in MODELS if m.name == "mlp")
    counted = 2 * sum(p.numel() for p in mlp.factory().parameters() if p.dim() == 2)
    assert mlp.work({"batch": 1}, False).flops == counted


def test_swapping_is_end_to_end():
    from benchbench.fused import modules

    model = next(m for m in MODELS if m.name == "transformer-block")
    inputs = make(model, params_of(model), 0)
    swapped = models.ways.prepared(next(w for w in WAYS if w.name == "swapped"), inputs)
    kinds = {type(module) for module in swapped.modules()}
    assert modules.LayerNorm in kinds and modules.GELU in kinds
    assert torch.nn.LayerNorm not in kinds and torch.nn.GELU not in kinds


def test_a_broken_torchvision_costs_its_own_rows_only(monkeypatch):
    real = importlib.import_module

    def broken(name, *arguments):
        if name.startswith("torchvision"):
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", broken)
    optional.cache_clear()
    try:
        for item in CONTENDERS.values():
            reason = item.unavailable({"batch": 2, "size": 64, "device": "cpu"})
            if "resnet18" in item.workload:
                assert "torchvision::nms does not exist" in reason
            else:
                assert reason is None
    finally:
        optional.cache_clear()
