"""Norms and activations of other contenders in a network."""

import sys

import pytest
import stand_ins
from model_trials import BY_NAME, CONTENDERS, WORKLOADS, evidence, params_of

import benchbench as bb
from benchbench_plugins.models import contenders, judge

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("model", "name", "replaced"),
    [
        ("mlp", "by-hand", {"1", "2", "4", "5"}),
        ("transformer-block", "by-hand", {"norm1", "norm2", "inner.1"}),
        ("llama-block", "by-hand", {"norm1", "norm2"}),
        ("mlp", "compiled", {"1", "2", "4", "5"}),
        ("llama-block", "liger", {"norm1", "norm2"}),
    ],
)
def test_norms_and_activations_by_another_contender(
    model, name, replaced, monkeypatch, fresh_answers
):
    for module_name, module in stand_ins.liger().items():
        monkeypatch.setitem(sys.modules, module_name, module)
    network = BY_NAME[model].factory()
    before = [id(parameter) for parameter in network.parameters()]
    swapped = contenders.swap(network, name, backward=False)
    assert set(swapped.replaced) == replaced
    assert [id(parameter) for parameter in network.parameters()] == before


def test_swapped_by_hand_infers_and_trains_as_float64_does():
    model = BY_NAME["mlp"]
    params = params_of(model)
    for training in (False, True):
        workload = WORKLOADS[model.workload(training=training)]
        inputs = workload.make(params, 1)
        reference = workload.reference(inputs)
        item = CONTENDERS[f"{workload.name}:swapped-by-hand"]
        assert item.unavailable(params) is None
        output = item.build(inputs)()
        if training:
            assert workload.check(evidence(inputs, output, reference)) is None
        else:
            assert judge.off(output, reference) < 1e-5
    reason = CONTENDERS["models/llama-block:swapped-liger"].unavailable(params)
    assert "normalizations/rms_norm:liger: " in reason and "CUDA only" in reason


def test_a_contender_that_is_no_function_is_refused():
    item = bb.Implementation(workload="a/b", name="c", build=lambda inputs: lambda: 1)
    with pytest.raises(TypeError, match="a/b:c is no function of the inputs alone"):
        contenders.function_of(item, backward=False)


def test_no_row_where_nothing_would_be_replaced():
    names = {item.name for item in CONTENDERS.values() if item.workload == "models/autoencoder"}
    assert "swapped-compiled" in names and "swapped-flag-gems" in names
    assert "swapped-liger" not in names and "swapped-quack" not in names
