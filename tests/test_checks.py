"""Comparison with the reference, judgement, memory, fingerprints of inputs."""

import dataclasses
import math
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from benchbench import Inputs, Tolerance, checks
from benchbench.checks import Error, Reference, judge
from benchbench.fingerprint import Shared, checksum
from benchbench.heap import Perturbed
from benchbench.structures import extent, leaves, overlap, total_bytes


def errors(output, reference):
    found, reason = Reference(reference).compare(output)
    assert reason == ""
    return found


def reason(output, reference):
    return Reference(reference).compare(output)[1]


def test_the_error_is_the_one_of_the_contract():
    reference = torch.tensor([1.0, -2.0, 0.0, 4.0], dtype=torch.float64)
    output = torch.tensor([1.0, -2.5, 0.25, 4.0])
    rms = math.sqrt(21 / 4)
    expected = [0.0, 0.5 / (2 + rms), 0.25 / rms, 0.0]
    found = errors(output, reference)["float32"]
    assert found.max == pytest.approx(max(expected))
    assert found.rms == pytest.approx(math.sqrt(sum(e * e for e in expected) / 4))
    assert found.eps == torch.finfo(torch.float32).eps


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 3 * checks.CHUNK), st.integers(0, 1000))
def test_one_wrong_value_is_seen_wherever_it_is(count, position):
    reference = torch.ones(count, dtype=torch.float64)
    output = torch.ones(count)
    output[position % count] = 1.5
    assert errors(output, reference)["float32"].max == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (torch.tensor([1.0, math.nan]), "1 of 2 values are nan or the like where the reference"),
        (torch.tensor([math.inf, 1.0]), "first at [0]"),
        (torch.ones(3), "the shape is [3], expected [2]"),
        ((torch.ones(2),), "the output has the parts [0], the reference has (one value)"),
        ("text", "str cannot be compared with numbers"),
        (None, "None and a value stand where the other is expected"),
    ],
)
def test_what_is_wrong_is_said(output, words):
    assert words in reason(output, torch.ones(2, dtype=torch.float64))


def test_an_output_overflows_exactly_where_its_dtype_does():
    reference = torch.tensor([1.0, 1e6, -1e6], dtype=torch.float64)
    half = reference.half()
    assert errors(half, reference)["float16"].max == 0.0
    assert "2 of 3 values" in reason(torch.tensor([1.0, 6e4, -6e4]).half(), reference)
    assert "1 of 3 values" in reason(
        torch.tensor([math.inf, math.inf, -math.inf]).half(), reference
    )


def test_a_reference_that_is_not_finite_wants_the_same_places():
    reference = torch.tensor([math.nan, 1.0, math.inf], dtype=torch.float64)
    assert errors(reference.float(), reference)["float32"].max == 0.0
    assert reason(torch.ones(3), reference)


@pytest.mark.parametrize(
    ("output", "reference"),
    [
        (np.float32([1, 2]), np.float64([1, 2])),
        (np.float32(3), torch.tensor(3.0, dtype=torch.float64)),
        (2.5, 2.5),
        (True, True),
        (torch.tensor([1 + 2j]), torch.tensor([1 + 2j], dtype=torch.complex128)),
        ({"a": torch.ones(2), "b": (1, None)}, {"a": np.ones(2), "b": (1.0, None)}),
        (torch.empty(0, 3), torch.empty(0, 3, dtype=torch.float64)),
        (torch.ones(2, 3, 4).transpose(0, 2), torch.ones(4, 3, 2, dtype=torch.float64)),
        (torch.zeros(5), torch.zeros(5, dtype=torch.float64)),
        (torch.ones(4).to_sparse(), torch.ones(4, dtype=torch.float64)),
        (np.ones((3, 4))[::-1, ::2], np.ones((3, 2))),
    ],
)
def test_equal_things_of_every_sort_have_no_error(output, reference):
    assert all(e.max == e.rms == 0.0 for e in errors(output, reference).values())


def test_a_workload_with_a_reference_of_no_numbers_is_told():
    with pytest.raises(TypeError, match="must return tensors, arrays or numbers"):
        Reference([object()])


EPS = torch.finfo(torch.float32).eps


@pytest.mark.parametrize(
    ("mine", "baseline", "ok"),
    [
        (Error(eps=EPS, max=1e-7, rms=1e-8), Error(eps=EPS), True),  # within one rounding unit
        (Error(eps=EPS, max=1e-6, rms=1e-8), Error(eps=EPS), False),
        (Error(eps=EPS, max=4e-6, rms=1e-8), Error(eps=EPS, max=1e-6, rms=1e-8), True),
        (Error(eps=EPS, max=5e-6, rms=1e-8), Error(eps=EPS, max=1e-6, rms=1e-8), False),
        (Error(eps=EPS, max=1e-6, rms=1e-6), Error(eps=EPS, max=1e-6, rms=1e-7), False),
        (Error(eps=EPS, max=3e-4, rms=1e-4), None, True),  # sqrt(eps) without a baseline
        (Error(eps=EPS, max=4e-4, rms=1e-4), None, False),
        (Error(eps=0.0, max=0.0), Error(eps=0.0), True),  # integers are exact
        (Error(eps=0.0, max=1e-9), Error(eps=0.0), False),
    ],
)
def test_the_judgement_is_relative_to_the_baseline(mine, baseline, ok):
    row, why = judge(
        {"float32": mine}, None if baseline is None else {"float32": baseline}, Tolerance()
    )
    assert (why == "") == ok, why
    assert row["max"] == mine.max and row["eps"] == mine.eps


def test_absolute_and_factor_are_the_workloads_to_choose():
    mine = {"float32": Error(eps=EPS, max=0.01)}
    assert judge(mine, None, Tolerance(absolute=0.02))[1] == ""
    assert judge(mine, {"float32": Error(eps=EPS, max=0.001)}, Tolerance(factor=20))[1] == ""
    row, why = judge(mine, {"float32": Error(eps=EPS, max=0.001)}, Tolerance(factor=2))
    assert "largest relative error of its float32 output is 0.01, allowed is 0.002" in why
    assert row["allowed"] == pytest.approx(0.002, rel=1e-3)


def test_dtypes_of_one_output_are_judged_apart():
    reference = {"y": torch.ones(4, dtype=torch.float64), "s": torch.ones(4, dtype=torch.float64)}
    output = {"y": torch.ones(4, dtype=torch.bfloat16), "s": torch.full((4,), 1.001)}
    found = errors(output, reference)
    assert set(found) == {"bfloat16", "float32"}
    assert judge(found, {d: Error(eps=e.eps) for d, e in found.items()}, Tolerance())[1]


def test_beside_the_error_of_a_dtype_stands_the_baselines_of_that_dtype():
    mine = {"bfloat16": Error(eps=2**-7, max=3e-3), "float32": Error(eps=EPS, max=1e-7)}
    baseline = {
        "bfloat16": Error(eps=2**-7, max=3e-3, rms=1e-3),
        "float32": Error(eps=EPS, max=1e-4, rms=1e-5),
    }
    row, _ = judge(mine, baseline, Tolerance())
    assert row["max"] == 3e-3 and row["baseline_max"] == 3e-3 and row["baseline_rms"] == 1e-3
    mine["float32"] = Error(eps=EPS, max=9e-4)
    row, _ = judge(mine, baseline, Tolerance())
    assert row["max"] == 9e-4 and row["baseline_max"] == 1e-4
    assert "baseline_max" not in judge(mine, None, Tolerance())[0]


@dataclasses.dataclass
class Pair:
    left: object
    right: object


def test_leaves_of_every_container():
    module = torch.nn.BatchNorm1d(2)
    value = {"a": [1, (torch.ones(1),)], "p": Pair(np.ones(1), None)}
    assert [path for path, _ in leaves(value)] == [
        "['a'][0]", "['a'][1][0]", "['p'].left", "['p'].right",
    ]  # fmt: skip
    inputs = Inputs({"x": torch.ones(2)}, cotangents=[torch.ones(2)])
    assert [path for path, _ in leaves(inputs)] == ["x", "cotangent 0"]
    assert ".running_mean" in dict(leaves(module))
    cycle = []
    cycle.append(cycle)
    assert list(leaves(cycle)) == []


def test_shared_memory_is_seen_through_views_and_numpy():
    base = torch.zeros(100)
    assert overlap(extent(base[10:20]), extent(base.view(10, 10)))
    assert overlap(extent(base.numpy()[3:5]), extent(base))
    assert not overlap(extent(base), extent(base.clone()))
    assert extent(torch.empty(0)) is None
    assert total_bytes([base, base[:10], base.clone()]) == 800
    assert checks.aliases((base.clone(), base[5:]), Inputs({"x": base})) == {"[1]": "x"}
    assert checks.shared_parts((base, base.clone()), (base[1:],)) == ["[0]"]


POISONED = """
import torch
from benchbench import checks
from benchbench.structures import specify

kept, found = [], 0
for trial in range(40):
    kept.append(torch.empty(37 * trial + 11))  # small blocks settle between the large ones
    shape = (50 + trial, 100)
    checks.poison([specify("", torch.empty(shape))])
    found += bool(torch.empty(shape).isnan().any())
print(found)
"""


def test_poison_reaches_an_output_that_is_never_written():
    # In a process of its own: what the heap of a long test run looks like is nobody's to say.
    ran = subprocess.run(
        [sys.executable, "-c", POISONED], capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) > 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is one of glibc")
@pytest.mark.parametrize("size", [1_000, 100_000, 5_000_000])
def test_perturbed_memory_holds_nothing_of_what_was_in_it(size):
    held = [torch.ones(size) for _ in range(3)]
    held.clear()
    with Perturbed():
        assert (torch.empty(size).abs() > 1e38).all()
        assert (torch.zeros(size) == 0).all()
        assert not torch.empty(size, dtype=torch.float16).isfinite().any()


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40_000), st.data())
def test_the_checksum_sees_every_change_and_every_swap(size, data):
    array = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    before = checksum(array)
    assert checksum(torch.from_numpy(array)) == before
    position = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size - 1))
    changed = array.copy()
    changed[position] ^= 1 << data.draw(st.integers(0, 7))
    assert checksum(changed) != before
    swapped = array.copy()
    swapped[[position, other]] = swapped[[other, position]]
    assert (checksum(swapped) != before) == (array[position] != array[other])


def test_the_checksum_does_not_depend_on_layout():
    tensor = torch.randn(50, 70)
    assert checksum(tensor.t().contiguous().t()) == checksum(tensor)
    assert checksum(tensor.t()) != checksum(tensor)


def make_inputs():
    torch.manual_seed(0)
    return Inputs(
        {"x": torch.randn(1000), "a": np.arange(10.0), "eps": 1e-5, "m": torch.nn.Linear(2, 2)},
        wrt=["x"],
        cotangents=[torch.ones(3)],
    )


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize(
    ("change", "name", "surface"),
    [
        (lambda i: i.x.detach().add_(1), "x", True),
        (lambda i: i.x.detach().numpy().__setitem__(3, 9.0), "x", False),
        (lambda i: i.x.sum().backward(), "x", True),
        (lambda i: i.a.__setitem__(3, 9.0), "a", False),
        (lambda i: torch.nn.init.zeros_(i.m.weight), "m.weight", True),
        (lambda i: i.cotangents[0].zero_(), "cotangent 0", True),
    ],
)
def test_changed_inputs_are_named_and_restored(change, name, surface, small, monkeypatch):
    monkeypatch.setattr(Shared, "SMALL", 1 << 20 if small else 0)
    shared = Shared(make_inputs())
    assert shared.changed(content=True) == ""
    change(shared.inputs)
    assert shared.changed(content=True) == name
    assert shared.changed(content=False) == (name if surface or small else "")
    address = shared.inputs.x.data_ptr()
    assert shared.restore(make_inputs()) == ""
    assert shared.inputs.x.data_ptr() == address
    assert shared.changed(content=True) == ""


def test_inputs_that_do_not_come_out_the_same_are_told():
    shared = Shared(Inputs({"x": torch.ones(3)}))
    assert "x does not come out the same" in shared.restore(Inputs({"x": torch.zeros(3)}))
    assert "another structure" in shared.restore(Inputs({"y": torch.ones(3)}))
    assert "x cannot be restored" in shared.restore(Inputs({"x": torch.ones(4)}))
