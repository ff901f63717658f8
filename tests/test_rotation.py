"""Cold caches: calls that go round several equal sets of inputs."""

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
    roof,
    rotation,
)
from benchbench.renewal import Renewal
from benchbench.runner import Runner

MIB = 1 << 20


@pytest.mark.parametrize(
    ("size", "cache", "free", "number", "words"),
    [
        (50 * MIB, 60 * MIB, 1 << 40, 6, ""),
        (500 * MIB, 60 * MIB, 1 << 40, 2, ""),
        (10 * MIB, 60 * MIB, 1 << 40, 30, ""),
        (MIB, 60 * MIB, 1 << 40, 0, "300 sets"),
        (50 * MIB, 60 * MIB, 500 * MIB, 0, "of the memory that is free"),
        (0, 60 * MIB, 1 << 40, 0, "hold no memory"),
        (MIB, 0, 1 << 40, 0, "not known"),
    ],
)
def test_so_many_sets_that_they_fill_the_cache_five_times(size, cache, free, number, words):
    found, reason = rotation.count(size, cache, free)
    assert found == number and words in reason and bool(reason) == (number == 0)


def test_calls_go_round():
    turn = rotation.Rotation([lambda i=i: i for i in range(3)])
    assert [turn() for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0] and turn.period == 3


def make(params, seed):
    generator = torch.Generator().manual_seed(seed)
    return Inputs({"x": torch.randn(1 << 18, generator=generator)})


WORKLOAD = Workload(
    name="t/double",
    make=make,
    baseline="base",
    reference=lambda inputs: inputs.double().x * 2,
    work=lambda params: Work(bytes=1 << 21),
)
COLD = Settings(
    budget=0.02, min_passes=2, max_passes=4, sample_seconds=1e-3, warmup=0.01, cache="cold"
)


@pytest.fixture
def small_cache(monkeypatch):
    """One that five sets of a MiB fill."""
    monkeypatch.setattr(device, "last_cache", lambda where: MIB)


def run(*implementations, of=WORKLOAD, settings=COLD):
    results = Runner().benchbench_run_case(
        case=Case(workload="t/double", params={}, seed=3),
        workload=of,
        implementations=[
            Implementation(workload="t/double", name=name, build=build)
            for name, build in implementations
        ],
        settings=settings,
        process=0,
        stage=lambda contender, stage: None,
    )
    return {result.contender: result for result in results}


def double(inputs):
    return inputs.thunk(lambda x: x * 2)


def test_contenders_are_measured_on_all_sets_and_found_right(small_cache):
    seen, built = set(), []

    def base(inputs):
        return inputs.thunk(lambda x: seen.add(x.data_ptr()) or x * 2)

    def by_hand(inputs):
        built.append(inputs.x.data_ptr())
        return lambda: inputs.x + inputs.x

    rows = run(("base", base), ("by-hand", by_hand))
    assert {name: (r.status, r.reason) for name, r in rows.items()} == {
        "base": ("ok", ""),
        "by-hand": ("ok", ""),
        "roof:copy": ("ok", ""),
    }
    assert len(seen) == 5, "one function, closed over each set"
    assert len(set(built)) == 5, "built anew on each set"
    assert rows["base"].signals["input_sets"] == 5


def test_who_keeps_results_is_found_where_inputs_go_round(small_cache):
    def keeps(inputs):
        kept = {}

        def call():
            key = inputs.x.data_ptr()
            if key not in kept:
                kept[key] = inputs.x * 2
            return kept[key].clone()

        return call

    rows = run(("base", double), ("keeps", keeps))
    assert rows["base"].status == "ok"
    assert rows["keeps"].status == "wrong" and "other values" in rows["keeps"].reason


def test_other_values_reach_all_sets(small_cache):
    first, second = make({}, 3), make({}, 3)
    from benchbench.fingerprint import Shared

    renewal = Renewal(WORKLOAD, {}, 3, Shared(first), lambda e, s, step: step(), lambda: None)
    renewal.spread([second])
    before = first.x.clone()
    assert renewal._renew()
    assert torch.equal(first.x, second.x) and not torch.equal(first.x, before)


def test_a_set_that_was_written_to_makes_nobody_right(small_cache):
    built = []

    def writes(inputs):
        built.append(inputs)
        unseen = inputs.x.numpy()  # what torch does not know is written to
        is_copy = len(built) > 1

        def call():
            output = inputs.x * 2
            unseen[7] += is_copy
            return output

        return call

    rows = run(("base", double), ("writes", writes))
    assert rows["writes"].status == "wrong"


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"stateful": True}, "a state that each call"), ({}, "not known here")],
)
def test_what_cannot_be_cold_is_skipped_with_the_reason(monkeypatch, changes, words):
    from dataclasses import replace

    monkeypatch.setattr(device, "last_cache", lambda where: MIB if changes else 0)
    rows = run(("base", double), of=replace(WORKLOAD, **changes))
    assert rows["base"].status == "skipped"
    assert rows["base"].reason.startswith("--cache cold: ") and words in rows["base"].reason


def test_hot_is_the_default_and_leaves_inputs_alone():
    rows = run(("base", double), settings=Settings(budget=0.0, warmup=0.0, roof=False))
    assert "input_sets" not in rows["base"].signals


def test_the_copy_goes_round_too(monkeypatch):
    written = []

    def copy(destination, source):
        written.append(destination.data_ptr())

    monkeypatch.setattr(roof, "copiers", lambda kind: [copy])
    hot = roof.build(Work(bytes=MIB), "cpu", 1 << 40)
    cold = roof.build(Work(bytes=MIB), "cpu", 1 << 40, cold=5 * MIB)
    assert not hasattr(hot, "period") and cold.period == 5
    for _ in range(10):
        cold()
    assert len(set(written)) == 5 and written[:5] == written[5:]
    written.clear()
    hot()
    hot()
    assert written[0] == written[1]


# The other roof, where arithmetic decides.


@pytest.mark.parametrize(
    ("work", "where", "name"),
    [
        (Work(bytes=1e6, flops=1e12), "cuda", roof.PRODUCT),
        (Work(bytes=0, flops=1e12), "cuda:1", roof.PRODUCT),
        (Work(bytes=1e9, flops=1e10), "cuda", roof.NAME),
        (Work(bytes=1e6, flops=1e12), "cpu", roof.NAME),
        (Work(bytes=1e2, flops=1e5), "cuda", roof.NAME),  # smaller than a tile
        (None, "cuda", roof.NAME),
    ],
)
def test_a_product_is_the_roof_of_much_arithmetic_on_a_gpu(work, where, name):
    assert roof.name(work, where) == name


@pytest.mark.parametrize("flops", [5e6, 1e9, 3.3e10, 1.1e12, 4e14])
def test_the_product_has_as_many_operations(flops):
    rows, wide = roof.sides(flops)
    assert wide % 128 == 0 and wide <= 8192 and rows % 8 == 0
    assert 2 * rows * wide * wide == pytest.approx(flops, rel=0.05)


def test_the_product_is_one():
    thunk = roof.product(2.0 * 128**3, "cpu")
    assert thunk().shape == (128, 128)
