"""What the model tests share: small points of each model, and evidence for the checks."""

import benchbench as bb
from benchbench_plugins import models
from benchbench_plugins.models.zoo import MODELS

WORKLOADS = {w.name: w for w in models.benchbench_workloads()}
CONTENDERS = {item.id: item for item in models.benchbench_implementations()}
BY_NAME = {model.name: model for model in MODELS}
SMALL = {
    "linear-regression": {"batch": 16},
    "logistic-regression": {"batch": 16},
    "mlp": {"batch": 4},
    "lstm": {"batch": 2},
    "transformer-block": {"batch": 1},
    "alexnet-2012": {"batch": 1, "size": 224},
    "resnet18": {"batch": 2, "size": 64},
    "gpt2-block": {"batch": 1, "tokens": 16},
    "llama-block": {"batch": 1, "tokens": 16},
    "autoencoder": {"batch": 4},
    "gru": {"batch": 2},
    "rnn": {"batch": 2},
}


def params_of(model):
    return {**SMALL.get(model.name, {"batch": 2, "size": 64}), "device": "cpu"}


def evidence(inputs, output, reference, calls=1):
    return bb.Evidence(output=output, inputs=inputs, params={}, calls=calls, reference=reference)
