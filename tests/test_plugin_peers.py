"""Peers: honest reasons where they cannot run, right calls where they can."""

import sys
from types import ModuleType

import pytest
import stand_ins
import torch

from benchbench.plugins import LoaderOptions, load
from benchbench_plugins import peers
from benchbench_plugins.peers import gems, library, liger, quack

FAKES = {"liger": stand_ins.liger, "quack": stand_ins.quack, "flag-gems": stand_ins.gems}
TOPS = ("liger_kernel", "quack", "flag_gems")
PEERS = {item.id: item for item in peers.benchbench_implementations()}
SMALL = {
    "normalizations/group_norm": (2, 64, 4, 4),
    "normalizations/instance_norm": (2, 64, 4, 4),
    "activations/glu": (8, 64),
    "losses/cross-entropy": (16, 10),
    "losses/mse": (16, 10),
}
pytestmark = pytest.mark.usefixtures("fresh_answers")


@pytest.fixture(scope="module")
def catalog():
    return load(LoaderOptions(allowed=("benchbench",))).catalog


@pytest.fixture
def absent(monkeypatch, fail_import):
    """None of the libraries is installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] in TOPS]:
        monkeypatch.delitem(sys.modules, name)
    fail_import(*TOPS)
    monkeypatch.setattr(library, "find_spec", lambda name: None)


@pytest.fixture
def gpu(monkeypatch):
    """A machine that says it has a Hopper."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))


def params_of(workload, **chosen):
    shape = SMALL.get(workload.name, (8, 32))
    axes = {axis: values[0] for axis, values in workload.axes.items()}
    return {**axes, "shape": shape, "device": "cpu", **chosen}


@pytest.mark.parametrize("name", PEERS)
def test_a_machine_without_cuda_imports_nothing_and_says_so(name, catalog, monkeypatch, absent):
    def must_not(package):
        raise AssertionError(f"{package} was imported for a case on the CPU")

    monkeypatch.setattr(library, "optional", must_not)
    item = PEERS[name]
    reason = item.unavailable(params_of(catalog.workloads[item.workload]))
    assert "it runs on CUDA only: choose device=cuda" in reason
    assert "pip install " in reason
    assert "\n" not in reason
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    reason = item.unavailable(params_of(catalog.workloads[item.workload], device="cuda"))
    assert "no CUDA device is visible" in reason


@pytest.mark.parametrize("name", PEERS)
def test_a_missing_library_names_the_command(name, catalog, absent, gpu):
    item = PEERS[name]
    reason = item.unavailable(params_of(catalog.workloads[item.workload], device="cuda"))
    command = {
        "liger": "pip install liger-kernel",
        "quack": "pip install quack-kernels",
        "flag-gems": "pip install flag-gems",
    }[item.name]
    assert command in reason and "not installed" in reason


def test_a_broken_library_costs_its_own_rows_only(catalog, monkeypatch, gpu, fail_import):
    for modules in FAKES.values():
        for name, module in modules().items():
            monkeypatch.setitem(sys.modules, name, module)
    fail_import("flag_gems", error=RuntimeError("no driver: 0 active drivers ([])"))
    for item in PEERS.values():
        workload = catalog.workloads[item.workload]
        reason = item.unavailable(params_of(workload, device="cuda"))
        if item.name == "flag-gems":
            assert "0 active drivers" in reason and "cannot be imported" in reason
        else:
            assert reason is None


def test_an_old_device_is_told_from_a_new_one(catalog, monkeypatch, gpu):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 0))
    workload = catalog.workloads["activations/softmax"]
    reason = PEERS["activations/softmax:quack"].unavailable(params_of(workload, device="cuda"))
    assert reason == "its kernels need compute capability 9.0, this device has 8.0"


@pytest.mark.parametrize("direction", ["forward", "forward+backward"])
@pytest.mark.parametrize("name", PEERS)
def test_every_kernel_is_called_as_its_library_wants(name, direction, catalog, monkeypatch, gpu):
    item = PEERS[name]
    for module_name, module in FAKES[item.name]().items():
        monkeypatch.setitem(sys.modules, module_name, module)
    workload = catalog.workloads[item.workload]
    params = params_of(workload, direction=direction)
    reason = item.unavailable({**params, "device": "cuda"})
    if reason is not None:
        assert direction != "forward" and "no autograd" in reason
        return
    inputs = workload.make(params, 1)
    before = [t.detach().clone() for t in tensors(inputs.tensors().values())]
    wanted, call = workload.reference(inputs), item.build(inputs)
    for _ in range(2):
        output = call()
        torch.testing.assert_close(
            flat(output), [t.float() for t in flat(wanted)], rtol=1e-4, atol=1e-5
        )
    after = [t.detach() for t in tensors(inputs.tensors().values())]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def tensors(values):
    return [value for value in values if isinstance(value, torch.Tensor)]


def flat(output):
    return [t.detach() for t in (output if isinstance(output, tuple) else (output,))]


def test_the_stand_ins_do_write_over_their_arguments():
    # Else the test above would not notice that copies are missing.
    kernels = stand_ins.liger()["liger_kernel.transformers.functional"]
    gate, up = (torch.randn(4, 8, requires_grad=True) for _ in range(2))
    before = gate.detach().clone()
    kernels.liger_swiglu(gate, up).sum().backward()
    assert not torch.equal(gate.detach(), before)
    logits = torch.randn(4, 8, requires_grad=True)
    before = logits.detach().clone()
    kernels.liger_cross_entropy(logits, torch.zeros(4, dtype=torch.int64))
    assert not torch.equal(logits.detach(), before)


def test_what_a_kernel_does_not_take_is_said(catalog, gpu):
    norm = catalog.workloads["normalizations/layer_norm"]
    reason = PEERS["normalizations/layer_norm:quack"].unavailable(
        params_of(norm, device="cuda", dtype="bfloat16")
    )
    assert reason == "its kernel does not take bfloat16; choose dtype=float32"
    groups = catalog.workloads["normalizations/group_norm"]
    reason = PEERS["normalizations/group_norm:liger"].unavailable(
        params_of(groups, device="cuda", layout="channels_last")
    )
    assert "choose layout=nchw" in reason


def test_peers_compete_in_workloads_that_exist(catalog):
    for name, item in PEERS.items():
        assert catalog.implementations[item.workload][item.name].id == name
        assert item.doc and "quick" not in item.presets
    assert {item.name for item in PEERS.values()} == {
        made.LIBRARY.name for made in (liger, quack, gems)
    }


def test_a_stand_in_without_a_spec_counts_as_absent(monkeypatch):
    # find_spec raises ValueError for modules that were put into sys.modules by hand.
    fake = ModuleType("flag_gems")
    fake.__spec__ = None
    monkeypatch.setitem(sys.modules, "flag_gems", fake)
    assert gems.LIBRARY._absent() == "needs flag_gems: pip install flag-gems; "
