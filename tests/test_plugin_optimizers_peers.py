"""Racers of other libraries: reasons, versions, and that they race like the others."""

import sys
from types import ModuleType

import pytest
import torch

import benchbench as bb
from benchbench_plugins.optimizers import peers, races, target, tune
from benchbench_plugins.optimizers.peers import PEERS
from benchbench_plugins.optimizers.races import RACES

BY_NAME = {race.name: race for race in RACES}
ITEMS = {item.id: item for item in peers.implementations()}
pytestmark = pytest.mark.usefixtures("fresh_answers")


@pytest.fixture
def nothing_installed(fail_import):
    fail_import("pytorch_optimizer", "bitsandbytes", "torchao")


class Momentum(torch.optim.SGD):
    """Takes what Adam takes, and goes down."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), weight_decay=0.0):
        super().__init__(params, lr=min(lr * 10, 0.4), momentum=betas[0])


def install(monkeypatch, version="0.50.1"):
    """Stand-ins of all three libraries."""
    for package in ("pytorch_optimizer", "bitsandbytes", "bitsandbytes.optim", "torchao.optim"):
        module = ModuleType(package)
        module.__version__ = version
        for peer in PEERS:
            if peer.package == package:
                setattr(module, peer.attribute, Momentum)
        monkeypatch.setitem(sys.modules, package, module)
    top = ModuleType("torchao")
    top.__version__ = version
    monkeypatch.setitem(sys.modules, "torchao", top)


@pytest.mark.parametrize("name", ITEMS)
def test_a_missing_library_names_the_command(name, nothing_installed):
    reason = ITEMS[name].unavailable({"seeds": 2})
    peer = next(peer for peer in PEERS if name.endswith(f":{peer.name}"))
    top = peer.package.partition(".")[0].replace("_", "-")
    assert f"not installed: pip install {top}" in reason
    assert ITEMS[name].presets == ("full",)


def test_a_broken_library_costs_its_own_rows_only(monkeypatch, fail_import):
    install(monkeypatch)
    text = "libbitsandbytes_cpu.so: cannot open shared object file"
    fail_import("bitsandbytes", error=RuntimeError(text))
    for name, item in ITEMS.items():
        reason = item.unavailable({"seeds": 2})
        if "bitsandbytes" in name:
            assert text in reason
        else:
            assert reason is None
    assert all(item.unavailable({"seeds": 2}) is None for item in target.implementations())


def test_a_version_without_the_cpu_is_told(monkeypatch):
    install(monkeypatch, version="0.49.2")
    item = ITEMS["optimizers/digits-mlp:adamw-8bit-bitsandbytes"]
    reason = item.unavailable({"seeds": 2})
    assert reason == (
        "bitsandbytes 0.49.2 has no optimizers for the CPU: pip install --upgrade "
        "'bitsandbytes>=0.50'"
    )
    install(monkeypatch, version="1.0.0rc1")
    assert item.unavailable({"seeds": 2}) is None


def test_a_version_without_the_algorithm_is_told(monkeypatch):
    install(monkeypatch)
    del sys.modules["pytorch_optimizer"].SOAP
    reason = ITEMS["optimizers/digits-mlp:soap"].unavailable({"seeds": 2})
    assert "has no SOAP: pip install --upgrade pytorch_optimizer" in reason


def test_they_race_like_the_others(monkeypatch):
    install(monkeypatch)
    race = BY_NAME["digits-logistic"]
    inputs = races.make(race, {"seeds": 1}, 1)
    for name, item in ITEMS.items():
        if item.workload == race.workload and name.endswith((":lion", ":prodigy")):
            output = item.build(inputs)()
            assert output["score"][0] > 0.9
            assert output["steps"][0] > 0


def test_settings_are_stated():
    assert ITEMS["optimizers/digits-mlp:lion"].doc.startswith("pytorch_optimizer.Lion, lr=")
    low = ITEMS["optimizers/digits-cnn:adamw-8bit-torchao"]
    assert "torchao.optim.AdamW8bit, lr=0.004, weight_decay=0.01" in low.doc


def test_low_bits_take_the_rates_of_adamw_where_states_are_large_enough():
    adamw = next(racer for racer in target.RACERS if racer.name == "adamw")
    for peer in PEERS:
        if "bit" in peer.name:
            assert set(peer.rates) == {"digits-mlp", "digits-cnn"}
            assert all(rate == adamw.rates[race] for race, rate in peer.rates.items())
    for race in ("digits-mlp", "digits-cnn"):
        assert max(p.numel() for p in BY_NAME[race].model().parameters()) >= 4096
    assert max(p.numel() for p in BY_NAME["digits-logistic"].model().parameters()) < 4096


def test_tuning_takes_those_that_are_installed(monkeypatch, nothing_installed):
    assert tune.racers() == target.RACERS


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_each_that_is_installed_goes_downhill(peer):
    reason = peer.unavailable({})
    if reason is not None:
        assert "pip install" in reason  # the tests above have the rest
        return
    if peer.compiles:
        return  # compiling takes a minute; `benchbench run optimizers/digits-mlp -c` has it
    race = BY_NAME["digits-mlp"]
    torch.manual_seed(0)
    model = race.model()
    optimizer = peer.racer().maker(race)(list(model.parameters()))
    data = race.data()
    x, y = data["train_x"][:256], data["train_y"][:256]
    losses = []
    # Lion moves every number by its rate, 0.0005, in a step: it goes down as far, but later.
    for _ in range(150 if peer.name == "lion" else 60):
        optimizer.zero_grad()
        loss = race.loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_workloads_are_those_of_the_races():
    assert list(peers.workloads()) == []
    assert {item.workload for item in ITEMS.values()} <= {race.workload for race in RACES}
    assert all(isinstance(item, bb.Implementation) for item in ITEMS.values())
