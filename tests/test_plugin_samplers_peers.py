"""polars and tsbootstrap: reasons where they are missing, right draws and series where not."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

import benchbench as bb
from benchbench_plugins import samplers
from benchbench_plugins.samplers import peers

WORKLOADS = {w.name: w for w in samplers.benchbench_workloads()}
ITEMS = {item.id: item for item in peers.implementations()}
SMALL = {
    "samplers/series-mean": {"points": 6000},
    "samplers/series-ohlc": {"points": 6000},
    "samplers/series-forward-fill": {"points": 100},
    "samplers/series-linear": {"points": 100},
    "samplers/bootstrap-indices": {"rows": 20_000},
    "samplers/subset": {"rows": 20_000},
    "samplers/permutation": {"rows": 20_000},
    "samplers/block-bootstrap": {"rows": 5_000, "replicates": 4},
    "samplers/bootstrap-mean": {"rows": 5_000, "replicates": 50},
}
pytestmark = pytest.mark.usefixtures("fresh_answers")


def params_of(name, **chosen):
    workload = WORKLOADS[name]
    axes = {axis: values[0] for axis, values in workload.axes.items()}
    return {**axes, **SMALL[name], "device": "cpu", **chosen}


def run(item, **chosen):
    """Build, call twice, and ask the workload; output of the second call."""
    workload, params = WORKLOADS[item.workload], params_of(item.workload, **chosen)
    inputs = workload.make(params, 3)
    wanted, call = workload.reference(inputs), item.build(inputs)
    for calls in (1, 2):
        output = call()
        if workload.tolerance is not None:
            torch.testing.assert_close(output, wanted.float(), rtol=1e-6, atol=1e-6)
        if workload.check is not None:
            evidence = bb.Evidence(
                output=output, inputs=inputs, params=params, calls=calls, reference=wanted
            )
            assert workload.check(evidence) is None
    return output


@pytest.mark.parametrize("name", ITEMS)
def test_a_missing_library_names_the_command(name, fail_import):
    fail_import("polars", "tsbootstrap")
    item = ITEMS[name]
    reason = item.unavailable(params_of(item.workload))
    assert f"{item.name} is not installed: pip install {item.name}" == reason
    assert "device=cpu" in item.unavailable(params_of(item.workload, device="cuda"))


@pytest.mark.parametrize("name", [n for n, item in ITEMS.items() if item.name == "polars"])
def test_polars_where_it_is_installed(name):
    item = ITEMS[name]
    reason = item.unavailable(params_of(item.workload))
    if reason is None:
        run(item)
    else:
        assert "pip install polars" in reason


@pytest.mark.parametrize("kind", ["moving", "circular", "stationary"])
@pytest.mark.parametrize("real", [False, True], ids=["stand-in", "installed"])
def test_tsbootstrap_draws_blocks(kind, real, monkeypatch):
    if not real:
        install(monkeypatch)
    item = ITEMS["samplers/block-bootstrap:tsbootstrap"]
    reason = item.unavailable(params_of(item.workload))
    if real and reason is not None:
        assert "pip install" in reason
        return
    assert reason is None
    assert run(item, kind=kind).dtype == torch.int64


@pytest.mark.parametrize("real", [False, True], ids=["stand-in", "installed"])
def test_tsbootstrap_means(real, monkeypatch):
    if not real:
        install(monkeypatch)
    item = ITEMS["samplers/bootstrap-mean:tsbootstrap"]
    reason = item.unavailable(params_of(item.workload))
    if real and reason is not None:
        assert "pip install" in reason
        return
    assert run(item).shape == (50,)


def test_an_old_tsbootstrap_is_told(monkeypatch):
    install(monkeypatch)
    del sys.modules["tsbootstrap"].bootstrap_reduce
    item = ITEMS["samplers/bootstrap-mean:tsbootstrap"]
    assert "pip install --upgrade tsbootstrap" in item.unavailable(params_of(item.workload))


def install(monkeypatch):
    """A stand-in with tsbootstrap's names and signatures."""
    module = ModuleType("tsbootstrap")

    def bootstrap(X, *, method, n_bootstraps=999, random_state=None):
        n, rng = len(X), np.random.default_rng(random_state)
        found = np.stack([method(rng, n) for _ in range(n_bootstraps)])
        return SimpleNamespace(indices=lambda: found.astype(np.int32))

    def bootstrap_reduce(X, *, method, statistic, n_bootstraps=999, random_state=None):
        n, rng = len(X), np.random.default_rng(random_state)
        drawn = [method(rng, n) for _ in range(n_bootstraps)]
        return SimpleNamespace(statistics=np.array([[statistic(X[i], i)] for i in drawn]))

    def fixed(places, n, block, rng):
        starts = rng.integers(0, places, -(-n // block))
        return (starts[:, None] + np.arange(block)).ravel()[:n] % n

    def MovingBlock(*, block_length="auto"):
        return lambda rng, n: fixed(n - block_length + 1, n, block_length, rng)

    def CircularBlock(*, block_length="auto"):
        return lambda rng, n: fixed(n, n, block_length, rng)

    def StationaryBlock(*, avg_block_length="auto"):
        def draw(rng, n):
            begins = rng.random(n) < 1 / avg_block_length
            begins[0] = True
            at = np.arange(n)
            last = np.maximum.accumulate(np.where(begins, at, 0))
            return (rng.integers(0, n, n)[last] + at - last) % n

        return draw

    def IID():
        return lambda rng, n: rng.integers(0, n, n)

    module.__dict__.update(
        bootstrap=bootstrap,
        bootstrap_reduce=bootstrap_reduce,
        MovingBlock=MovingBlock,
        CircularBlock=CircularBlock,
        StationaryBlock=StationaryBlock,
        IID=IID,
    )
    monkeypatch.setitem(sys.modules, "tsbootstrap", module)
