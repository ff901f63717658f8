"""The GAN on digits: ways agree with float64, and a round that is left out is found."""

import pytest
import torch

import benchbench as bb
from benchbench.runner import Runner
from benchbench.testing import BRIEF
from benchbench_plugins.models import gan

(WORKLOAD,) = gan.workloads()
PARAMS = {"batch": 16, "device": "cpu"}
CONTENDERS = [item for item in gan.implementations() if item.name != "compiled"]


def run(*extra):
    case = bb.Case(workload=gan.WORKLOAD, params=PARAMS, seed=1)
    found = Runner().benchbench_run_case(
        case, WORKLOAD, [*CONTENDERS, *extra], BRIEF, 0, lambda *_: None
    )
    return {result.contender: result for result in found}


def test_ways_agree_with_float64():
    from benchbench import fused

    found = run()
    if fused.unavailable() is not None:
        assert found.pop("swapped").status == "skipped"
    assert {name: (r.status, r.reason) for name, r in found.items() if r.status != "ok"} == {}


def stale(inputs):
    """The generator never makes its step."""
    frozen = gan.thunk(inputs)
    generator = inputs.generator

    def call():
        losses = frozen()
        with torch.no_grad():
            fake = generator(inputs.noise[-1])
        return torch.cat([losses[:-1], losses[-1:] + 0 * fake.mean() + 1e-3])

    return call


def other_optimizer(inputs):
    """Without the first beta that the workload asks for."""

    def call():
        before = dict(gan.OPTIMIZER)
        gan.OPTIMIZER["betas"] = (0.9, 0.999)
        try:
            return gan.thunk(inputs)()
        finally:
            gan.OPTIMIZER.update(before)

    return call


@pytest.mark.parametrize("build", [stale, other_optimizer])
def test_other_trainings_are_rejected(build):
    bad = bb.Implementation(workload=gan.WORKLOAD, name="bad", build=build)
    assert run(bad)["bad"].status == "wrong"


def test_the_discriminator_learns_at_first():
    losses = gan.reference(gan.make({"batch": 64, "device": "cpu"}, 0))
    assert losses.shape == (gan.ROUNDS, 2)
    assert losses[-1, 0] < losses[0, 0]


def test_the_cost_is_torchs_count():
    from torch.utils.flop_counter import FlopCounterMode

    inputs = gan.make(PARAMS, 0)
    call = gan.thunk(inputs)
    with FlopCounterMode(display=False) as counter:
        call()
    assert WORKLOAD.work(PARAMS).flops == counter.get_total_flops()
