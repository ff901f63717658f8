"""Networks of timm by name: the library itself where it is installed, and a stand-in."""

import pytest
import torch
from model_trials import CONTENDERS, WORKLOADS, evidence

from benchbench_plugins.models import judge, timm

pytestmark = pytest.mark.usefixtures("one_thread")


def test_timm_by_name():
    params = {"model": "mobilenetv3_small_050", "batch": 2, "size": 64, "device": "cpu"}
    item = CONTENDERS["models/timm:eager"]
    reason = item.unavailable(params)
    if reason is not None:
        assert "pip install" in reason and "timm" in reason
        return
    workload = WORKLOADS["models/timm"]
    inputs = workload.make(params, 1)
    reference = workload.reference(inputs)
    for name in ("eager", "channels-last", "swapped"):
        output = CONTENDERS[f"models/timm:{name}"].build(inputs)()
        assert judge.off(output, reference) < 1e-4
    assert workload.work(params).flops > 1e6
    training = WORKLOADS["models/timm-train"]
    inputs = training.make(params, 1)
    reference = training.reference(inputs)
    output = CONTENDERS["models/timm-train:eager"].build(inputs)()
    assert training.check(evidence(inputs, output, reference)) is None
    with pytest.raises(ValueError, match=r"has no model 'resnet19'.*Did you mean"):
        workload.make({**params, "model": "resnet19"}, 1)


class Timm:
    """A stand-in: two networks by name."""

    __version__ = "1.0"

    @staticmethod
    def is_model(name):
        return name in Timm.list_models()

    @staticmethod
    def list_models():
        return ["tiny", "other"]

    @staticmethod
    def create_model(name, pretrained=True, num_classes=1000):
        assert not pretrained
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 4 if name == "tiny" else 8, 3, stride=2),
            torch.nn.GELU(),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Linear(4 if name == "tiny" else 8, num_classes),
        )


def test_models_of_timm_are_made_by_name(monkeypatch):
    monkeypatch.setattr(timm, "optional", lambda package: (Timm, ""))
    timm.model_of.cache_clear()
    workload = WORKLOADS["models/timm"]
    for name, width in (("tiny", 4), ("other", 8)):
        params = {"model": name, "batch": 2, "size": 16, "device": "cpu"}
        inputs = workload.make(params, 1)
        assert inputs.model[0].out_channels == width
        reference = workload.reference(inputs)
        output = CONTENDERS["models/timm:swapped"].build(inputs)()
        assert judge.off(output, reference) < 1e-4
        assert workload.work(params).flops > 0
    with pytest.raises(ValueError, match=r"timm 1.0 has no model 'tinny'.*tiny"):
        workload.make({**params, "model": "tinny"}, 1)
    timm.model_of.cache_clear()
