"""Frames answered one at a time: every way gives the answer, and calls are counted singly."""

from pathlib import Path

import pytest
import torch

import benchbench as bb
from benchbench.case_run import TAIL_CALLS
from benchbench.catalog import Description
from benchbench.contract import Settings
from benchbench.engines.local import LocalEngine
from benchbench.plan import plan
from benchbench.plugins import LoaderOptions
from benchbench.records import result_from_json
from benchbench.stats import summarise
from benchbench.supervise import describe, execute
from benchbench_plugins import scenarios
from benchbench_plugins.models.zoo import MODELS

WORKLOADS = {w.name: w for w in scenarios.benchbench_workloads()}
WAYS = list(scenarios.benchbench_implementations())


@pytest.mark.parametrize("network", ["resnet18", "mlp", "lstm", "autoencoder"])
@pytest.mark.parametrize("stage", scenarios.STAGES)
def test_every_way_gives_the_answer(network, stage):
    params = {"stage": stage, "device": "cpu"}
    workload = WORKLOADS[f"models/{network}-online"]
    near = scenarios.NEAR if network == "resnet18" else scenarios.NEAR_ROWS
    inputs = workload.make(params, 1)
    wanted = workload.reference(inputs)
    ways = [way for way in WAYS if way.workload == workload.name]
    assert {"eager", "compiled"} <= {way.name for way in ways}
    for way in ways:
        reason = way.unavailable(params)
        if reason or way.name == "compiled":
            continue
        output = way.build(inputs)()
        evidence = bb.Evidence(
            output=output, inputs=inputs, params=params, calls=1, reference=wanted
        )
        assert workload.check(evidence) is None, way.name
        assert workload.metrics(output, wanted)["off"] <= near[stage]
        assert output is not inputs.x
    wrong = bb.Evidence(
        output=wanted.flip(1) * 1.2, inputs=inputs, params=params, calls=1, reference=wanted
    )
    assert "off float64" in workload.check(wrong)
    shape = bb.Evidence(
        output=wanted[:, :2], inputs=inputs, params=params, calls=1, reference=wanted
    )
    assert "no tensor of shape" in workload.check(shape)


PLUGIN = """
import torch, benchbench as bb

request = bb.Workload(
    name="requests/sum", make=lambda params, seed: bb.Inputs({"x": torch.arange(300_000.0)}),
    baseline="eager", tail=True, reference=lambda inputs: inputs.double().x.cumsum(0),
    tolerance=bb.Tolerance(absolute=1e-3))

@bb.hookimpl
def benchbench_workloads():
    return [request]

@bb.hookimpl
def benchbench_implementations():
    return [bb.Implementation(workload="requests/sum", name="eager",
                              build=lambda inputs: inputs.thunk(lambda x: x.cumsum(0)))]
"""


def test_the_slowest_calls_are_told(tmp_path: Path):
    plugin = tmp_path / "requests.py"
    plugin.write_text(PLUGIN)
    options = LoaderOptions(files=(str(plugin),), allowed=())
    engine, settings = LocalEngine(), Settings(processes=2, budget=0.0, warmup=0.02, threads=1)
    records = []
    description = Description.from_json(describe(engine, options, settings))
    execute(
        plan(description), settings=settings, engine=engine, options=options, emit=records.append
    )
    found = [
        result_from_json({k: v for k, v in record.items() if k != "type"})
        for record in records
        if record["type"] == "result" and record["contender"] == "eager"
    ]
    assert [row.status for row in found] == ["ok", "ok"]
    assert all(row.calls == 1 and len(row.samples) >= TAIL_CALLS for row in found)
    (row,) = summarise(bb.Run(id="r", header={}, results=tuple(found)))
    calls = sorted(sample for result in found for sample in result.samples)
    # 80 calls: eight beyond p90, not two beyond p99.
    assert set(row.quantiles) == {"p90"}
    assert row.latency.estimate <= row.quantiles["p90"]
    assert calls[70] <= row.quantiles["p90"] <= calls[73]


def test_every_network_has_requests():
    for model in MODELS:
        workload = WORKLOADS[f"models/{model.name}-online"]
        assert workload.tail and set(workload.axes["stage"]) == set(scenarios.STAGES)
        names = {way.name for way in WAYS if way.workload == workload.name}
        assert ("pillow" in names) == model.images
        assert ("swapped" in names) == model.swappable


def test_photographs_are_frames():
    assert scenarios.frame().shape == (720, 1280, 3) and scenarios.frame().dtype == torch.uint8
