"""The host executor finds the faults that are planted for it, and none where there is none."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest
import torch
from host_kernels import Executor, compile_library, pointer

from benchbench.native_recipe import compiler

pytestmark = pytest.mark.skipif(
    compiler() is None or sys.platform == "win32", reason="needs a C++ compiler"
)
SEEDS = range(20)


@pytest.fixture(scope="module")
def executor(pytestconfig):
    source = Path(__file__).parent / "host_executor" / "faults.cu"
    return Executor(compile_library([source], pytestconfig.cache.mkdir("host_kernels")))


def run(executor, name, *arguments) -> str:
    function = executor.c[f"run_{name}"]
    function.restype = ctypes.c_char_p
    words = [pointer(a) if isinstance(a, torch.Tensor) else a for a in arguments]
    return function(*words).decode()


def found(executor, attempt, **options) -> int:
    """In how many of the seeds ``attempt`` returns something wrong."""
    count = 0
    for seed in SEEDS:
        executor.options(seed=seed, **options)
        count += bool(attempt())
    executor.options()
    return count


def test_a_missing_barrier_is_found_in_every_schedule_but_few(executor):
    x = executor.copy(torch.ones(1000))

    def wrong(faulty):
        total = executor.empty((1,), torch.float32)
        assert run(executor, "missing_barrier", x, total, 1000, faulty) == ""
        return not torch.equal(total, torch.tensor([1000.0]))

    assert found(executor, lambda: wrong(0)) == 0
    assert found(executor, lambda: wrong(1)) >= 12


def test_a_race_is_found_by_the_greedy_schedule_and_not_by_taking_turns(executor):
    rounds = 6
    x = executor.copy(torch.arange(rounds * 128.0).view(rounds, 128))
    expected = x.sum(1, keepdim=True).expand(rounds, 128)

    def wrong(faulty):
        totals = executor.empty((rounds, 128), torch.float32)
        assert run(executor, "race", x, totals, rounds, faulty) == ""
        return not torch.equal(totals, expected)

    assert found(executor, lambda: wrong(0)) == 0
    assert found(executor, lambda: wrong(1)) == len(SEEDS)
    assert found(executor, lambda: wrong(1), round_robin=True) == 0


def test_an_update_that_is_not_atomic_is_found(executor):
    def wrong(faulty):
        count = executor.copy(torch.zeros(1, dtype=torch.int32))
        assert run(executor, "lost_update", count, faulty) == ""
        return count.item() != 128

    assert found(executor, lambda: wrong(0)) == 0
    assert found(executor, lambda: wrong(1)) == len(SEEDS)


@pytest.mark.parametrize(
    ("kernel", "threads", "words"),
    [
        ("divergent_barrier", 64, ["__syncthreads", "not all threads reach"]),
        ("two_barriers", 64, ["divergent barrier", "__syncthreads"]),
        ("divergent_shuffle", 32, ["__shfl_xor_sync", "has ended"]),
    ],
)
def test_divergence_is_found_and_named(executor, kernel, threads, words):
    y = executor.empty((threads,), torch.float32)
    assert run(executor, kernel, y, 0) == ""
    text = run(executor, kernel, y, 1)
    assert text.startswith(f"kernel {kernel}")
    for word in [*words, "faults.cu:"]:
        assert word in text


@pytest.mark.parametrize("n", [64, 61, 128])
def test_one_element_out_of_bounds_is_found(executor, n):
    x = executor.copy(torch.arange(float(n)))
    y = executor.empty((n,), torch.float32)
    assert run(executor, "out_of_bounds", x, y, n, 0, 0) == ""
    assert torch.equal(x, y)
    if n % 64:  # otherwise no thread is left that would
        room = executor.empty((n + 1,), torch.float32)
        assert "out of bounds" in run(executor, "out_of_bounds", x, room, n, 1, 1)
        text = run(executor, "out_of_bounds", x, y, n, 0, 1)
        assert "out of bounds" in text
        assert f"thread ({n},0,0)" in text
    front = executor.copy(torch.arange(float(n)), at_end=False)
    before = ctypes.c_void_p(front.data_ptr() - 4)
    assert "out of bounds" in run(executor, "out_of_bounds", before, y, n, 0, 0)


def test_shared_memory_beyond_its_size_is_found(executor):
    y = executor.empty((32,), torch.float32)
    assert run(executor, "shared_overrun", y, 8) == ""
    # 160 bytes fill a line and a quarter: beyond them is a canary, beyond its line nothing at all.
    assert "wrote beyond its 160 bytes" in run(executor, "shared_overrun", y, 9)
    assert "out of bounds" in run(executor, "shared_overrun", y, 40)


def test_misaligned_vectors_are_found(executor):
    x, y = executor.copy(torch.arange(132.0)), executor.empty((128,), torch.float32)
    assert run(executor, "misaligned", x, y, 4) == ""
    assert torch.equal(y, x[4:])
    assert "not aligned to 16 bytes" in run(executor, "misaligned", x, y, 1)


def test_uninitialised_shared_memory_is_not_a_number(executor):
    y = executor.empty((64,), torch.float32)
    assert run(executor, "uninitialised", y, 0) == ""
    assert torch.equal(y, torch.ones(64))
    assert run(executor, "uninitialised", y, 1) == ""
    assert y.isnan().nonzero().flatten().tolist() == [7]


def test_a_wait_that_never_ends_is_found(executor):
    for seed in range(3):
        executor.options(seed=seed)
        flag = executor.copy(torch.zeros(1, dtype=torch.int32))
        assert run(executor, "endless_wait", flag, 0) == ""
    executor.options()
    flag = executor.copy(torch.zeros(1, dtype=torch.int32))
    assert "spin" in run(executor, "endless_wait", flag, 1)


def test_a_block_that_leaves_its_cluster_early_is_found(executor):
    y = executor.empty((8, 32), torch.float32)
    assert found(executor, lambda: run(executor, "cluster_exit", y, 0)) == 0
    assert torch.equal(y, torch.full((8, 32), 10.0))
    assert found(executor, lambda: run(executor, "cluster_exit", y, 1)) >= 10


def test_a_grid_exchange_needs_its_barrier_and_a_cooperative_launch(executor):
    expected = torch.arange(192.0).roll(-32)

    def wrong(faulty):
        between = executor.empty((192,), torch.float32)
        y = executor.empty((192,), torch.float32)
        assert run(executor, "grid_exchange", between, y, faulty, 1) == ""
        return not torch.equal(y, expected)

    assert found(executor, lambda: wrong(0)) == 0
    assert found(executor, lambda: wrong(1)) >= 15
    y = executor.empty((192,), torch.float32)
    assert "needs a cooperative launch" in run(executor, "grid_exchange", y, y, 0, 0)


def test_undefined_behaviour_is_found(executor):
    y = executor.empty((1,), torch.int32)
    assert run(executor, "undefined_shift", y, 4) == ""
    assert y.item() == 16
    assert "undefined behaviour" in run(executor, "undefined_shift", y, 40)


def test_a_schedule_is_repeated_by_its_seed(executor):
    x = executor.copy(torch.ones(1000))

    def totals():
        executor.options(seed=3)
        total = executor.empty((1,), torch.float32)
        run(executor, "missing_barrier", x, total, 1000, 1)
        return total.view(torch.int32).item()

    assert len({totals() for _ in range(5)}) == 1
    executor.options()
