"""The harness on a CUDA device: timers, cold caches, roofs, signals, faults, every kind of plugin.

Run by ``benchmarks/gpu.sh``. Where there is no device, the same is tested against devices that do
not exist: test_cuda_timers.py, test_gpu_signals.py, test_device.py, test_plugin_devices.py.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from benchbench import (
    Case,
    Implementation,
    Inputs,
    Settings,
    Work,
    Workload,
    device,
    gpu,
    machine,
    roof,
)
from benchbench.catalog import Description
from benchbench.engines.local import LocalEngine
from benchbench.fingerprint import checksum
from benchbench.floors import GPU_BYTES_PER_SECOND
from benchbench.plan import plan
from benchbench.plugins import LoaderOptions
from benchbench.records import result_from_json
from benchbench.runner import Runner
from benchbench.signals import CudaPeakMemory
from benchbench.supervise import describe, execute
from benchbench.timers.cuda import CudaEventTimer, CudaHostTimer
from benchbench.timers.graph import CudaGraphTimer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
MIB = 1 << 20


def values(count, **options):
    return torch.randn(count, device="cuda", **options)


def settled(timer, thunk, calls, tries=12):
    """The median of five samples that are not doubtful."""
    taken = [sample for _ in range(tries) if not (sample := timer.sample(thunk, calls)).doubtful]
    assert len(taken) >= 5, [timer.sample(thunk, calls).doubtful for _ in range(3)]
    taken.sort(key=lambda sample: sample.elapsed)
    return taken[len(taken) // 2]


def test_launches_of_a_tiny_kernel_are_hidden():
    x = values(1024)
    sample = settled(CudaEventTimer(), lambda: x + 1, 500)
    assert not sample.starved
    # A kernel of this size takes 1 to 3 us, a launch by way of torch more.
    assert 0.2e-6 < sample.elapsed / 500 < sample.host / 500


def test_events_graphs_and_the_host_agree_on_a_long_kernel():
    x = values(1 << 28)
    found = [
        settled(timer, lambda: x + 1, 20).elapsed
        for timer in (CudaEventTimer(), CudaGraphTimer(), CudaHostTimer())
    ]
    assert max(found) < 1.1 * min(found), found


def test_graphs_and_events_agree_on_a_tiny_kernel():
    x = values(1024)
    events = settled(CudaEventTimer(), lambda: x + 1, 500).elapsed
    graph = settled(CudaGraphTimer(), lambda: x + 1, 500).elapsed
    assert 0.2 < graph / events < 2.0, (graph, events)


def test_forward_and_backward_are_captured():
    x, w = values(512, requires_grad=True), values(512, requires_grad=True)
    inputs = Inputs({"x": x, "w": w}, wrt=("x", "w"), cotangents=[values(512)])
    sample = settled(CudaGraphTimer(), inputs.thunk(lambda a, b: torch.tanh(a * b)), 100)
    assert sample.taken_by == ""
    expected = inputs.thunk(lambda a, b: torch.tanh(a * b))()
    for ours, theirs in zip(sample.output, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_what_reads_back_is_timed_with_the_host_and_falls_back_from_graphs():
    x = values(4096)

    def call():
        return x * float(x.sum())

    assert settled(CudaEventTimer(), call, 20).starved
    sample = settled(CudaGraphTimer(), call, 20)
    assert sample.taken_by == "cuda-events" and "cannot be captured" in sample.remark
    # What was captured in vain has left nothing behind.
    assert torch.randn(3, device="cuda").shape == (3,)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert not torch.cuda.is_current_stream_capturing()
    assert settled(CudaGraphTimer(), lambda: x + 1, 20).taken_by == ""


def test_a_generator_of_ones_own_is_refused_by_graphs_and_others_still_draw():
    own = torch.Generator("cuda").manual_seed(1)
    sample = CudaGraphTimer().sample(lambda: torch.rand(64, generator=own, device="cuda"), 4)
    assert sample.taken_by in ("", "cuda-events")
    assert torch.rand(4, device="cuda").min() >= 0


def test_work_on_another_stream_is_doubtful():
    x, stream = values(1 << 26), torch.cuda.Stream()

    def call():
        with torch.cuda.stream(stream):
            return x * 2 + 1

    timer = CudaEventTimer()
    doubts = [timer.sample(call, 5).doubtful for _ in range(4)]
    assert any("another stream" in doubt for doubt in doubts), doubts


def run(implementations, *, make, settings, work=None, **fields):
    workload = Workload(
        name="t/x",
        make=make,
        baseline="base",
        axes={"device": ("cuda",)},
        reference=lambda inputs: inputs.double().x * 2,
        work=None if work is None else lambda params: work,
        **fields,
    )
    results = Runner().benchbench_run_case(
        case=Case(workload="t/x", params={"device": "cuda"}, seed=1),
        workload=workload,
        implementations=[
            Implementation(workload="t/x", name=name, build=build)
            for name, build in implementations.items()
        ],
        settings=settings,
        process=0,
        stage=lambda contender, stage: None,
    )
    return {result.contender: result for result in results}


def make(count):
    def made(params, seed):
        rng = torch.Generator().manual_seed(seed)
        return Inputs({"x": torch.randn(count, generator=rng).to("cuda")})

    return made


DOUBLE = {"base": lambda inputs: inputs.thunk(lambda x: x * 2)}


@pytest.mark.parametrize("timer", ["cuda-events", "cuda-graph"])
def test_cold_calls_are_slower_than_hot_ones_where_inputs_fit_the_cache(timer):
    count = device.last_cache("cuda") // 8 // 4  # an eighth of the L2
    settings = {"budget": 0.2, "timer": timer}
    work = Work(bytes=8.0 * count)
    rows = {
        cache: run(DOUBLE, make=make(count), settings=Settings(cache=cache, **settings), work=work)
        for cache in ("hot", "cold")
    }
    for row in (row for found in rows.values() for row in found.values()):
        assert (row.status, row.reason) == ("ok", ""), row
    hot, cold = (statistics.median(rows[cache]["base"].samples) for cache in ("hot", "cold"))
    assert rows["cold"]["base"].signals["input_sets"] == 40
    assert cold > 1.05 * hot, (hot, cold)


def test_the_copy_is_slower_than_any_floor_and_a_row_has_all_signals():
    count = 1 << 27
    rows = run(
        DOUBLE, make=make(count), settings=Settings(budget=0.2), work=Work(bytes=8.0 * count)
    )
    copy, base = (statistics.median(rows[name].samples) for name in (roof.NAME, "base"))
    assert 8.0 * count / GPU_BYTES_PER_SECOND < copy
    assert 0.7 < copy / base < 1.3, (copy, base)
    found = rows["base"].signals
    assert {"host", "starved", "peak_memory"} <= set(found)
    assert 4 * count <= found["peak_memory"] <= 4 * count + 4 * MIB
    if gpu.nvml() is not None:
        assert found["sm_clock"] > 100 and 0 <= found["throttled"] <= 1


def test_a_product_reaches_what_no_memory_could():
    flops = 2.0 * 4096**3
    thunk = roof.product(flops, "cuda")
    speed = 20 * flops / settled(CudaEventTimer(), thunk, 20).elapsed
    assert speed > 20e12, speed


def test_peak_memory_is_that_of_the_block():
    x = values(4 * MIB)
    with CudaPeakMemory() as peak:
        y = x * 2 + 1  # a temporary and a result of 16 MiB each
    del y
    assert peak.bytes == 32 * MIB


def test_checksums_are_those_of_the_values_wherever_they_lie():
    x = torch.arange(100_003, device="cuda", dtype=torch.uint8)
    assert checksum(x[3:]) == checksum(x[3:].clone())
    assert checksum(x[3:]) != checksum(x[2:-1])
    y = values(1 << 20)
    before = checksum(y)
    y[12345] += 1
    assert checksum(y) != before


def test_contenders_draw_the_same_numbers_on_the_device():
    drawn = defaultdict(list)

    def build(name):
        def made(inputs):
            drawn[name].append(torch.rand(3, device="cuda").tolist())
            return lambda: inputs.x * 2

        return made

    rows = run(
        {"base": build("base"), "other": build("other")},
        make=make(100),
        settings=Settings(budget=0.0, roof=False),
    )
    assert {row.status for row in rows.values()} == {"ok"}
    assert drawn["base"] == drawn["other"]


def test_a_contender_that_leaves_another_stream_current_is_named():
    def leaves(inputs):
        def call():
            torch.cuda.set_stream(torch.cuda.Stream())
            return inputs.x * 2

        return call

    rows = run(
        {**DOUBLE, "leaves": leaves}, make=make(100), settings=Settings(budget=0.0, roof=False)
    )
    assert rows["leaves"].status == "wrong" and "current CUDA stream" in rows["leaves"].reason
    assert rows["base"].status == "ok"


def test_the_environment_has_the_device_and_its_state():
    facts = machine.worker_environment({})
    assert facts["devices"][0]["name"] == torch.cuda.get_device_name(0)
    assert facts["devices"][0]["l2"] > MIB
    if gpu.nvml() is not None:
        assert facts["gpu"]["driver"].count(".") >= 1 and facts["gpu"]["power_limit"] > 10


SMALL = Settings(processes=1, budget=0.0, warmup=0.02, sample_seconds=1e-3, timeout=120)


def rows_of(patterns, allowed, **chosen):
    """Rows of first-party workloads, run in workers as ``benchbench run`` does."""
    options, engine, records = LoaderOptions(allowed=allowed), LocalEngine(), []
    description = Description.from_json(describe(engine, options, SMALL))
    execute(
        plan(description, patterns, device="cuda", **chosen),
        settings=SMALL,
        engine=engine,
        options=options,
        emit=records.append,
    )
    found = [
        result_from_json({k: v for k, v in record.items() if k != "type"})
        for record in records
        if record["type"] == "result"
    ]
    assert found
    return found


@pytest.mark.parametrize(
    ("kind", "patterns", "contenders"),
    [
        ("activations", ["activations/silu", "activations/softmax"], ["eager", "fused"]),
        (
            "normalizations",
            ["normalizations/layer_norm", "normalizations/batch_norm_add_relu"],
            ["eager", "fused"],
        ),
        ("losses", ["losses"], []),
        ("optimizers", ["optimizers/adam", "optimizers/sgd"], ["foreach", "fused", "capturable"]),
        ("models", ["models/mlp", "models/resnet18"], ["eager", "swapped", "channels-last"]),
        (
            "samplers",
            ["samplers/bootstrap-mean", "samplers/weighted-draw", "samplers/oversample"],
            [],
        ),
        ("scenarios", ["models/resnet18-online"], ["bytes", "channels-last-swapped"]),
    ],
)
def test_every_kind_runs_on_the_device(kind, patterns, contenders):
    preset = "standard" if kind == "scenarios" else "quick"
    rows = rows_of(patterns, (kind,), contenders=contenders, preset=preset)
    bad = [
        (row.case, row.contender, row.status, row.reason)
        for row in rows
        if row.status in ("failed", "wrong", "quarantined")
    ]
    assert not bad, bad
    assert any(row.samples for row in rows)
    assert {row.timer for row in rows if row.samples} <= {"cuda-events", "cuda-host"}


def test_who_destroys_the_context_costs_the_others_nothing():
    zoo = Path(__file__).parent / "zoo"
    files = (zoo / "runtime" / "arena.py", zoo / "device" / "loses_the_device.py")
    options = LoaderOptions(files=tuple(map(str, files)), allowed=())
    engine, records = LocalEngine(), []
    description = Description.from_json(describe(engine, options, SMALL))
    execute(plan(description), settings=SMALL, engine=engine, options=options, emit=records.append)
    status = {r["contender"]: r["status"] for r in records if r["type"] == "result"}
    assert status["loses_the_device"] == "failed"
    assert (status["honest"], status["rival"]) == ("ok", "ok")
    assert sum(record["type"] == "process" for record in records) == 2
