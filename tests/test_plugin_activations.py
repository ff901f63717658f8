"""Activations: every contender equals its float64 reference, planted wrong ones do not."""

from __future__ import annotations

import gc
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import benchbench as bb
from benchbench import fused
from benchbench.catalog import Description, ask_unavailable, describe
from benchbench.errors import NativeError
from benchbench.grids import points, preset_grids
from benchbench.plan import plan
from benchbench.plugins import LoaderOptions, load
from benchbench.runner import Runner
from benchbench.testing import BRIEF
from benchbench_plugins import _functional as shared, activations
from benchbench_plugins._activation_tasks import TASKS
from benchbench_plugins._common import optional

WORKLOADS = {w.name: w for w in activations.benchbench_workloads()}
CONTENDERS = list(activations.benchbench_implementations())
# An odd row is a row with a tail for every vector width.
SHAPE = (33, 131)
DIRECTIONS = ("forward", "forward+backward")
COMPILED = ("activations/gelu_tanh", "activations/softmax")
"""Workloads whose compiled contender is compiled here too: each takes seconds."""


@pytest.fixture(scope="module", autouse=True)
def small_cases() -> Iterator[None]:
    """One thread, and full collections that pass over what was imported: hundreds of tiny cases."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


def point(dtype: str = "float32", direction: str = "forward", **more: Any) -> dict[str, Any]:
    return {"shape": SHAPE, "dtype": dtype, "direction": direction, "device": "cpu", **more}


def results(
    workload: str,
    params: dict[str, Any],
    contenders: list[bb.Implementation],
    seed: int = 0,
) -> dict[str, bb.Result]:
    """Run one small case as a worker would."""
    case = bb.Case(workload=workload, params=params, seed=seed)
    found = Runner().benchbench_run_case(
        case, WORKLOADS[workload], contenders, BRIEF, 0, lambda *_: None
    )
    return {result.contender: result for result in found}


def faults(found: dict[str, bb.Result], params: dict[str, Any]) -> dict[str, str]:
    """Reasons of all that are neither ok nor skipped for the reason that they themselves give."""
    expected = {i.name: ask_unavailable(i.unavailable, params) for i in CONTENDERS if i.unavailable}
    return {
        name: f"{result.status}: {result.reason}"
        for name, result in found.items()
        if result.status != "ok"
        and not (result.status == "skipped" and result.reason == expected.get(name))
    }


def contenders_of(workload: str, *, compiled: bool = False) -> list[bb.Implementation]:
    return [c for c in CONTENDERS if c.workload == workload and (compiled or c.name != "compiled")]


def every_point() -> Iterator[Any]:
    """All points of what a quick run shows; of the rest, where all their contenders run."""
    for task in TASKS:
        for dtype in shared.DTYPES:
            for direction in DIRECTIONS:
                if task.quick or direction == "forward+backward" or dtype == "float32":
                    yield pytest.param(
                        task.workload, dtype, direction, id=f"{task.name}-{dtype}-{direction}"
                    )


@pytest.mark.parametrize(("workload", "dtype", "direction"), list(every_point()))
def test_contenders_equal_the_float64_reference(workload: str, dtype: str, direction: str) -> None:
    params = point(dtype, direction)
    found = results(workload, params, contenders_of(workload))
    assert faults(found, params) == {}
    assert found["eager"].status == "ok"
    if fused.unavailable() is None and "fused" in found:
        assert found["fused"].status == "ok"
        assert found["fused-direct"].status == ("ok" if direction == "forward" else "skipped")


@pytest.mark.parametrize("workload", COMPILED)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_compiled_contenders_equal_it_too(workload: str, direction: str) -> None:
    params = point(direction=direction)
    found = results(workload, params, contenders_of(workload, compiled=True))
    assert faults(found, params) == {}
    assert "compiled" in found


BAD: list[tuple[str, str, Callable[..., Any]]] = [
    ("gelu", "tanh for erf", lambda x: F.gelu(x, approximate="tanh")),
    ("gelu_tanh", "erf for tanh", F.gelu),
    ("silu", "gelu's fast form", lambda x: x * torch.sigmoid(1.01 * x)),
    ("sigmoid", "hard", F.hardsigmoid),
    ("tanh", "half", lambda x: torch.tanh(x.half()).float()),
    ("softmax", "over columns", lambda x: F.softmax(x, 0)),
    ("softmax", "bfloat16", lambda x: F.softmax(x.bfloat16(), -1).float()),
    ("swiglu", "swapped", lambda gate, up: F.silu(up) * gate),
    ("bias_gelu", "no bias", lambda x, bias: F.gelu(x) + 0 * bias),
    ("relu", "leaky", lambda x: F.leaky_relu(x, 1e-4)),
    ("mish", "silu", F.silu),
]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("task", "name", "function"), BAD, ids=[f"{task}-{name}" for task, name, _ in BAD]
)
def test_other_functions_are_rejected(
    task: str, name: str, function: Callable[..., Any], direction: str
) -> None:
    workload = f"activations/{task}"
    bad = shared.functional(workload, "bad", function)
    eager = [c for c in contenders_of(workload) if c.name == "eager"]
    found = results(workload, point(direction=direction), [*eager, bad])
    assert found["eager"].status == "ok"
    assert found["bad"].status == "wrong"
    assert "error" in found["bad"].reason


def test_a_right_activation_with_a_wrong_gradient_is_rejected() -> None:
    workload = "activations/silu"
    bad = shared.functional(workload, "bad", lambda x: x * torch.sigmoid(x.detach()))
    eager = [c for c in contenders_of(workload) if c.name == "eager"]
    assert results(workload, point(), [*eager, bad])["bad"].status == "ok"
    found = results(workload, point(direction="forward+backward"), [*eager, bad])
    assert found["bad"].status == "wrong"


@pytest.mark.parametrize("task", TASKS, ids=[task.name for task in TASKS])
def test_references_keep_the_tails(task: Any) -> None:
    """A reference in float64 must be that good even where the function is tiny."""
    if task.exact is None:
        return
    x = torch.linspace(-12, 12, 97, dtype=torch.float64)
    rest = [torch.zeros_like(x) for _ in task.arguments.split()[1:]]
    if task.arguments == "gate up":
        rest = [torch.ones_like(x)]
    got = task.exact(x, *rest)
    for value, output in zip(x.tolist(), got.tolist(), strict=True):
        u = value + 0.044715 * value**3
        expected = (
            value / (1 + math.exp(-math.sqrt(8 / math.pi) * u))
            if task.name.endswith("gelu_tanh")
            else 0.5 * value * math.erfc(-value / math.sqrt(2))
        )
        assert output == pytest.approx(expected, rel=1e-12, abs=0)


def bytes_of(task: str, **params: Any) -> float:
    work = WORKLOADS[f"activations/{task}"].work
    assert work is not None
    return work(point(**params)).bytes


def test_floors_of_bytes() -> None:
    # 10 x 7 elements. Forward: read x, write y. Backward: read x and dy, write dx.
    shape = (10, 7)
    assert bytes_of("silu", shape=shape) == 2 * 70 * 4
    assert bytes_of("silu", shape=shape, dtype="bfloat16") == 2 * 70 * 2
    assert bytes_of("softmax", shape=shape, direction="forward+backward") == 5 * 70 * 4
    assert bytes_of("bias_gelu", shape=shape, direction="forward+backward") == 5 * 70 * 4
    # Gated: two read, one written; backward gate, up and dy read, two gradients written.
    assert bytes_of("swiglu", shape=shape, dtype="float16") == 3 * 70 * 2
    assert bytes_of("swiglu", shape=shape, direction="forward+backward") == 8 * 70 * 4
    work = WORKLOADS["activations/silu"].work
    assert work is not None and work(point(shape=shape)).items == 70


def test_inputs_follow_the_seed_and_the_point() -> None:
    make = WORKLOADS["activations/bias_gelu"].make
    one, same, other = (make(point("bfloat16"), seed) for seed in (3, 3, 4))
    assert torch.equal(one.x, same.x)
    assert not torch.equal(one.x, other.x)
    assert (one.x.shape, one.bias.shape) == (SHAPE, SHAPE[-1:])
    assert one.x.dtype == one.bias.dtype == torch.bfloat16
    assert not one.backward
    both = make(point(direction="forward+backward"), 3)
    assert both.wrt == ("x", "bias")
    assert both.cotangents[0].shape == SHAPE


def test_ulp_counts_units_in_the_last_place() -> None:
    one = torch.tensor([1.0, 3.0, -5.0, 0.0])
    eps = 2.0**-23
    assert shared.ulp(one, one.double()) == {"ulp": 0.0}
    off = one.clone()
    off[1] += 2 * (2 * eps)  # between 2 and 4 a unit is 2 eps
    assert shared.ulp(off, one.double()) == {"ulp": 2.0}
    tiny = torch.tensor([2.0**-126 * eps])  # a subnormal is one unit of the least normal number
    assert shared.ulp(tiny, torch.zeros(1, dtype=torch.float64)) == {"ulp": 1.0}
    assert shared.ulp(torch.tensor([math.nan]), one[:1].double()) == {"ulp": math.inf}
    assert shared.ulp((off, one), (one.double(), one.double())) == {"ulp": 2.0}
    metrics = results("activations/tanh", point(), contenders_of("activations/tanh"))
    assert 0 < metrics["eager"].metrics["ulp"] < 4


def test_reasons_why_contenders_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    by_name = {c.name: c for c in contenders_of("activations/gelu", compiled=True)}

    def reason(name: str, **params: Any) -> str | None:
        return ask_unavailable(by_name[name].unavailable, point(**params))

    assert reason("eager") is None
    coarse = {c.name: c for c in contenders_of("activations/softmax")}["by-hand"].unavailable
    assert ask_unavailable(coarse, point()) is None
    assert ask_unavailable(coarse, point("bfloat16")) is None
    assert "float32" in str(ask_unavailable(coarse, point("bfloat16", "forward+backward")))
    assert "no autograd" in str(reason("fused-direct", direction="forward+backward"))
    assert "CUDA" in str(reason("fused", device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert reason("eager", device="cuda") == "no CUDA device is visible to torch"
    assert reason("compiled", device="cuda") == "no CUDA device is visible to torch"
    monkeypatch.setattr("benchbench.fused.unavailable", lambda: "no compiler: install g++")
    assert reason("fused") == reason("fused-direct") == "no compiler: install g++"
    monkeypatch.setattr(shared.shutil, "which", lambda name: None)
    assert "install g++" in str(reason("compiled"))


def test_kernels_that_cannot_be_built_cost_their_own_rows_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchbench.fused.unavailable", lambda: "no compiler: install g++")
    found = results("activations/silu", point(), contenders_of("activations/silu"))
    assert {n: r.status for n, r in found.items()} == {
        "eager": "ok",
        "two-ops": "ok",
        "fused": "skipped",
        "fused-direct": "skipped",
    }
    assert found["fused"].reason == "no compiler: install g++"


def test_preset_and_documentation() -> None:
    for workload in WORKLOADS.values():
        assert workload.doc
        for preset in ("standard", "full"):
            assert list(points(workload.axes, preset_grids(workload, preset)))
    assert all(contender.doc for contender in CONTENDERS), [c.id for c in CONTENDERS if not c.doc]
    names = [c.id for c in CONTENDERS]
    assert len(names) == len(set(names))
    # What the main job shows in any case.
    for task in ["sigmoid", "softmax", "tanh", "relu", "gelu", "silu", "swiglu"]:
        assert len(preset_grids(WORKLOADS[f"activations/{task}"], "quick")) >= 1


def test_a_quick_run_takes_the_rest_only_by_name() -> None:
    description = Description.from_json(describe(load(LoaderOptions(allowed=("activations",)))))
    everything = {case.case.workload for case in plan(description, ["activations"])}
    assert "activations/silu" in everything
    assert "activations/mish" not in everything
    (case,) = plan(description, ["activations/mish"])
    assert case.case.id == (
        "activations/mish[shape=4096x768,dtype=float32,direction=forward,device=cpu]"
    )
    (case,) = plan(description, ["activations/mish"], axes={"dtype": ["bfloat16"]})
    assert case.case.params["dtype"] == "bfloat16"
    assert "activations/mish" in {
        case.case.workload for case in plan(description, ["activations"], preset="standard")
    }


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """Writes a package whose import runs the given code, and returns its name."""
    monkeypatch.syspath_prepend(tmp_path)
    written: list[str] = []

    def write(name: str, code: str) -> str:
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
        written.append(name)
        return name

    optional.cache_clear()
    yield write
    optional.cache_clear()
    for name in written:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise RuntimeError('operator nms\\n does not exist')", "operator nms does not exist"),
        ("raise OSError('libnothing.so: no such file')", "OSError: libnothing.so"),
        ("raise ImportError('cannot import name')", "ImportError: cannot import name"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import nothing_of_that_name", "needs nothing_of_that_name, which is not installed"),
    ],
)
def test_a_broken_package_is_a_reason(
    broken: Callable[[str, str], str], code: str, expected: str
) -> None:
    name = broken("broken_by_test", code)
    module, reason = optional(name)
    assert module is None
    assert expected in reason
    assert "\n" not in reason
    assert "pip install broken-by-test" in reason


def test_a_missing_and_a_sound_package(broken: Callable[[str, str], str]) -> None:
    module, reason = optional("nothing_of_that_name")
    assert module is None
    assert reason == "nothing_of_that_name is not installed: pip install nothing-of-that-name"
    module, reason = optional(broken("sound_by_test", "answer = 42"))
    assert module is not None and module.answer == 42
    assert reason == ""


def test_a_broken_package_costs_its_own_contender_only(
    broken: Callable[[str, str], str],
) -> None:
    name = broken("broken_by_test", "raise RuntimeError('built for another torch')")
    peer = bb.Implementation(
        workload="activations/silu",
        name="peer",
        build=lambda inputs: inputs.thunk(optional(name)[0].silu),  # type: ignore[union-attr]
        unavailable=lambda params: optional(name)[1] or None,
    )
    found = results("activations/silu", point(), [*contenders_of("activations/silu"), peer])
    assert found["peer"].status == "skipped"
    assert "built for another torch" in found["peer"].reason
    assert found["eager"].status == found["two-ops"].status == "ok"


def test_an_interrupt_is_not_a_reason(broken: Callable[[str, str], str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        optional(broken("interrupted_by_test", "raise KeyboardInterrupt"))


def test_compiled_functions_do_not_share_a_cache_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code is cached by code object; a shared one would fall back to eager in time."""
    taken: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: taken.append(function))
    for _ in range(2):
        shared.compile_function(F.relu)
    assert taken[0].__code__ is not taken[1].__code__
    assert torch.equal(taken[0](-torch.ones(2)), torch.zeros(2))


def test_prepare_reports_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise NativeError("no compiler")

    monkeypatch.setattr("benchbench.native.load", fail)
    (ours,) = [c for c in contenders_of("activations/relu") if c.name == "fused"]
    assert ours.prepare is not None
    with pytest.raises(NativeError, match="no compiler"):
        ours.prepare()
