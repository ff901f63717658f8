"""Normalizations: contenders equal float64 on every axis, planted wrong ones do not."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import benchbench as bb
from benchbench import fused
from benchbench.catalog import ask_unavailable
from benchbench.grids import points, preset_grids
from benchbench.runner import Runner
from benchbench.testing import BRIEF
from benchbench_plugins import (
    _batch_norm,
    _functional as shared,
    _group_norm,
    _norm_more,
    normalizations,
)

ELSEWHERE = {w.name for w in _norm_more.workloads()}
"""Those of test_plugin_norms_more, whose points have other shapes and axes."""
WORKLOADS = {
    w.name.split("/")[1]: w
    for w in normalizations.benchbench_workloads()
    if w.name not in ELSEWHERE
}
CONTENDERS = [c for c in normalizations.benchbench_implementations() if c.workload not in ELSEWHERE]
ROWS = [task.name for task in normalizations.TASKS if "weight" in task.arguments]
BATCH = list(_batch_norm.FUSIONS)
GROUPED = [name for name, *_ in _group_norm.TASKS]
MAIN = ["layer_norm", "rms_norm", "batch_norm", "local_response_norm", "batch_norm_add_relu"]
"""What every quick run shows."""
DIRECTIONS = ("forward", "forward+backward")
LAYOUTS = ("nchw", "channels_last")


@pytest.fixture(scope="module", autouse=True)
def small_cases() -> Iterator[None]:
    """One thread, and full collections that pass over what was imported: hundreds of tiny cases."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


def point(task: str, **chosen: Any) -> dict[str, Any]:
    """A small point of a task: odd rows, odd planes, the first value of the other axes."""
    shape = (33, 131) if task in ROWS else (3, 32, 5, 7)
    first = {axis: values[0] for axis, values in WORKLOADS[task].axes.items()}
    assert set(chosen) <= set(first)
    return {**first, "shape": shape, **chosen}


def contenders_of(task: str, *names: str, compiled: bool = False) -> list[bb.Implementation]:
    return [
        c
        for c in CONTENDERS
        if c.workload == f"normalizations/{task}"
        and (compiled or c.name != "compiled")
        and (not names or c.name in names)
    ]


def results(
    task: str, params: dict[str, Any], contenders: list[bb.Implementation]
) -> dict[str, bb.Result]:
    """Run one small case as a worker would."""
    case = bb.Case(workload=f"normalizations/{task}", params=params, seed=0)
    found = Runner().benchbench_run_case(
        case, WORKLOADS[task], contenders, BRIEF, 0, lambda *_: None
    )
    return {result.contender: result for result in found}


def check(task: str, params: dict[str, Any], contenders: list[bb.Implementation]) -> None:
    """All are ok, or skipped for the reason that they themselves give."""
    found = results(task, params, contenders)
    assert set(found) == {c.name for c in contenders}
    for contender in contenders:
        result = found[contender.name]
        reason = ask_unavailable(contender.unavailable, params)
        assert (result.status, result.reason) == (
            ("ok", "") if reason is None else ("skipped", reason)
        )
    assert found["eager"].status == "ok"
    if fused.unavailable() is None and "fused" in found:
        assert found["fused"].status == "ok"


def every_point() -> Iterator[Any]:
    for task, workload in WORKLOADS.items():
        for layout in workload.axes.get("layout", ("",)):
            for mode in workload.axes.get("mode", ("",)):
                for dtype in workload.axes["dtype"]:
                    for direction in DIRECTIONS:
                        chosen = {"dtype": dtype, "direction": direction}
                        chosen |= {"layout": layout} if layout else {}
                        chosen |= {"mode": mode} if mode else {}
                        label = "-".join([task, *map(str, chosen.values())])
                        if dtype != "float16" or direction == "forward+backward":
                            yield pytest.param(task, chosen, id=label)


@pytest.mark.parametrize(("task", "chosen"), list(every_point()))
def test_contenders_equal_the_float64_reference(task: str, chosen: dict[str, Any]) -> None:
    check(task, point(task, **chosen), contenders_of(task))


@pytest.mark.parametrize(
    ("task", "chosen"),
    [
        ("layer_norm", {"direction": "forward+backward"}),
        ("batch_norm_add_relu", {"layout": "channels_last", "direction": "forward+backward"}),
        ("batch_norm", {"mode": "train"}),
    ],
)
def test_compiled_contenders_equal_it_too(task: str, chosen: dict[str, Any]) -> None:
    contenders = contenders_of(task, "eager", "compiled", compiled=True)
    assert len(contenders) == 2
    check(task, point(task, **chosen), contenders)


@pytest.mark.parametrize("shape", [(5, 3), (2, 4096), (1, 769)])
@pytest.mark.parametrize("task", ROWS)
def test_rows_of_unusual_length(task: str, shape: tuple[int, int]) -> None:
    params = point(task, shape=shape, direction="forward+backward")
    check(task, params, contenders_of(task))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 1, 3, 3), (32, 5, 1, 1), (4, 64, 7, 7)])
def test_planes_of_unusual_size(shape: tuple[int, ...], layout: str) -> None:
    for task in BATCH:
        params = point(task, shape=shape, layout=layout, direction="forward+backward")
        check(task, params, contenders_of(task))


Bad = Callable[..., Any]


def unbiased(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The variance divided by n - 1."""
    variance, mean = torch.var_mean(x, -1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias


BAD_ROWS: list[tuple[str, str, Bad]] = [
    ("layer_norm", "unbiased variance", unbiased),
    ("layer_norm", "no bias", lambda x, w, b: F.layer_norm(x, x.shape[-1:], w) + 0 * b),
    ("layer_norm", "large eps", lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b, 1e-3)),
    ("rms_norm", "no weight", lambda x, w: F.rms_norm(x, x.shape[-1:], None, 1e-5) + 0 * w),
    ("rms_norm", "centred", lambda x, w: F.layer_norm(x, x.shape[-1:], w, None, 1e-5)),
    ("rms_norm", "half", lambda x, w: F.rms_norm(x.half(), x.shape[-1:], w.half(), 1e-5).float()),
    (
        "add_layer_norm",
        "sum forgotten",
        lambda x, r, w, b: (F.layer_norm(x + r, x.shape[-1:], w, b), x + 0 * r),
    ),
    (
        "add_rms_norm",
        "residual not normalised",
        lambda x, r, w: (F.rms_norm(x, x.shape[-1:], w, 1e-5), 1.0 * (x + r)),
    ),
    ("local_response_norm", "k of 1", lambda x: F.local_response_norm(x, 5, 1e-4, 0.75, 1.0)),
    ("local_response_norm", "identity", lambda x: x * 2.0**-0.75),
    (
        "group_norm",
        "half as many groups",
        lambda x, w, b: F.group_norm(x, x.shape[1] // 2, w, b),
    ),
    ("instance_norm", "one group", lambda x, w, b: F.group_norm(x, 1, w, b)),
]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("task", "name", "function"), BAD_ROWS, ids=[f"{t}-{n}" for t, n, _ in BAD_ROWS]
)
def test_other_functions_are_rejected(task: str, name: str, function: Bad, direction: str) -> None:
    bad = shared.functional(f"normalizations/{task}", "bad", function)
    found = results(task, point(task, direction=direction), [*contenders_of(task, "eager"), bad])
    assert found["eager"].status == "ok"
    assert found["bad"].status == "wrong", found["bad"]
    assert "error" in found["bad"].reason


def batch_norm(*, update: Callable[..., None] | None, momentum: float = 1.0) -> Bad:
    """A batch norm that is right but for its running statistics."""

    def function(
        x: Tensor, r: Any, w: Tensor, b: Tensor, mean: Tensor, variance: Tensor, training: bool
    ) -> Tensor:
        if update is None:
            return F.batch_norm(x, mean, variance, w, b, training, momentum, 1e-5)
        y = F.batch_norm(x, None, None, w, b, True, 1.0, 1e-5)
        update(x.detach(), mean, variance)
        return y

    return function


def never(x: Tensor, mean: Tensor, variance: Tensor) -> None:
    """Leave the running statistics as they are."""


def biased(x: Tensor, mean: Tensor, variance: Tensor) -> None:
    """Torch's running variance divides by n - 1, this one by n."""
    v, m = torch.var_mean(x, (0, 2, 3), correction=0)
    mean.copy_(m)
    variance.copy_(v)


def mean_only(x: Tensor, mean: Tensor, variance: Tensor) -> None:
    """The running variance is forgotten."""
    mean.copy_(x.mean((0, 2, 3)))


def honest(x: Tensor, mean: Tensor, variance: Tensor) -> None:
    """What torch does with a momentum of one."""
    v, m = torch.var_mean(x, (0, 2, 3))
    mean.copy_(m)
    variance.copy_(v)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("function", "status"),
    [
        (batch_norm(update=never), "wrong"),
        (batch_norm(update=biased), "wrong"),
        (batch_norm(update=mean_only), "wrong"),
        (batch_norm(update=None, momentum=0.9), "wrong"),
        (batch_norm(update=honest), "ok"),
    ],
    ids=["never", "biased", "mean only", "other momentum", "honest"],
)
def test_running_statistics_are_checked(function: Bad, status: str, direction: str) -> None:
    contender = bb.Implementation(
        workload="normalizations/batch_norm",
        name="mine",
        build=lambda inputs: _batch_norm.thunk(function, inputs),
    )
    params = point("batch_norm", direction=direction, mode="train")
    found = results("batch_norm", params, [*contenders_of("batch_norm", "eager"), contender])
    assert found["eager"].status == "ok"
    assert found["mine"].status == status, found["mine"]


def test_running_statistics_belong_to_the_contender() -> None:
    workload = WORKLOADS["batch_norm"]
    inputs = workload.make(point("batch_norm", mode="train"), 0)
    before = inputs.mean.clone(), inputs.variance.clone()
    for contender in contenders_of("batch_norm", "eager", "fused"):
        if ask_unavailable(contender.unavailable, point("batch_norm")) is None:
            thunk = contender.build(inputs)
            (first, mean, variance), (again, *_) = thunk(), thunk()
            assert torch.equal(first, again)
            assert mean.data_ptr() != inputs.mean.data_ptr()
            assert not torch.equal(variance, inputs.variance)
    assert torch.equal(inputs.mean, before[0])
    assert torch.equal(inputs.variance, before[1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_have_the_layout_of_the_case(layout: str) -> None:
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    for task in [*BATCH, *GROUPED]:
        params = point(task, layout=layout, direction="forward+backward")
        inputs = WORKLOADS[task].make(params, 0)
        images = [inputs.x, inputs.cotangents[0]]
        images += [inputs.residual] if "residual" in inputs else []
        assert all(image.is_contiguous(memory_format=memory) for image in images)
        if task in BATCH:
            eager = contenders_of(task, "eager")[0].build(inputs)()
            assert eager[0].is_contiguous(memory_format=memory)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("task", ["batch_norm_relu", "batch_norm_add_relu"])
@pytest.mark.parametrize("dtype", shared.DTYPES)
def test_gradients_are_asked_for_where_they_are_defined(task: str, mode: str, dtype: str) -> None:
    """ReLU's derivative jumps at zero: no value may lie so close that rounding decides the side."""
    params = point(task, shape=(8, 16, 9, 9), dtype=dtype, mode=mode, direction="forward+backward")
    inputs = WORKLOADS[task].make(params, 5).double()
    y = F.batch_norm(
        inputs.x,
        inputs.mean,
        inputs.variance,
        inputs.weight,
        inputs.bias,
        mode == "train",
        0.0,
        1e-5,
    )
    y = y + inputs.residual if "residual" in inputs else y
    assert 0.05 < float(y.detach().abs().min()) < 0.25
    assert 0.2 < float((y > 0).double().mean()) < 0.8


def bytes_of(task: str, shape: tuple[int, ...], **chosen: Any) -> float:
    work = WORKLOADS[task].work
    assert work is not None
    return work(point(task, shape=shape, **chosen)).bytes


def test_floors_of_bytes() -> None:
    rows, both = (10, 7), {"direction": "forward+backward"}
    # x read, y written; then x and dy read, dx written.
    assert bytes_of("layer_norm", rows) == 2 * 70 * 4
    assert bytes_of("rms_norm", rows, dtype="bfloat16", **both) == 5 * 70 * 2
    # x and residual read, sum and y written; then sum and both cotangents read, the two gradients
    # are one tensor each or shared, 5 passes at the least.
    assert bytes_of("add_layer_norm", rows) == 4 * 70 * 4
    assert bytes_of("add_rms_norm", rows, **both) == 9 * 70 * 4
    images = (2, 3, 4, 5)
    assert bytes_of("batch_norm", images) == 2 * 120 * 4
    assert bytes_of("batch_norm_relu", images, mode="eval") == 2 * 120 * 4
    assert bytes_of("batch_norm_add_relu", images) == 3 * 120 * 4
    assert bytes_of("batch_norm_add_relu", images, **both) == 7 * 120 * 4
    assert bytes_of("group_norm", images, dtype="float16") == 2 * 120 * 2
    assert bytes_of("local_response_norm", images, **both) == 5 * 120 * 4


def test_reasons_why_contenders_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for contender in CONTENDERS:
        task = contender.workload.split("/")[1]
        reason = ask_unavailable(contender.unavailable, point(task, device="cuda"))
        assert reason is not None, contender.id
        assert "CUDA" in reason or "device=cpu" in reason
    monkeypatch.setattr("benchbench.fused.unavailable", lambda: "no compiler: install g++")
    for contender in CONTENDERS:
        task = contender.workload.split("/")[1]
        reason = ask_unavailable(contender.unavailable, point(task))
        ours = contender.name.startswith("fused")
        assert reason == ("no compiler: install g++" if ours else None)


def test_presets_and_documentation() -> None:
    for name, workload in WORKLOADS.items():
        assert workload.doc
        assert list(points(workload.axes, preset_grids(workload, "quick"))) or name not in MAIN
        for preset in ("standard", "full"):
            assert list(points(workload.axes, preset_grids(workload, preset)))
    assert all(c.doc for c in CONTENDERS), [c.id for c in CONTENDERS if not c.doc]
    assert len({c.id for c in CONTENDERS}) == len(CONTENDERS)
    for task in ["layer_norm", "rms_norm", "batch_norm", "local_response_norm"]:
        assert task in WORKLOADS
