"""Subsets, replicates, folds, series and signals: honest contenders pass, planted ones do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sampler_trials
import torch
from hypothesis import given, settings, strategies as st
from sampler_trials import CONTENDERS, WORKLOADS, flat

import benchbench as bb
from benchbench.runner import Runner
from benchbench.testing import BRIEF
from benchbench_plugins.samplers import (
    bagging,
    blocks,
    enlarge,
    folds,
    series,
    signals,
    smote,
    subset_ways,
    subsets,
)

ON_CPU = {"device": "cpu"}
SMALL: dict[str, list[dict[str, Any]]] = {
    subsets.PERMUTATION: [{"rows": 20_001}],
    subsets.SUBSET: [{"rows": 20_001, "fraction": f} for f in (0.8, 0.01)],
    subsets.WEIGHTED_SUBSET: [{"rows": 20_001, "fraction": 0.1}],
    subsets.MASK: [{"rows": 40_001, "share": p} for p in (0.5, 0.01)],
    subsets.ROWS: [{"rows": 2000, "categories": 50}],
    bagging.BAGGING: [{"rows": 5_000, "sets": 8}],
    blocks.BLOCKS: [
        {"kind": kind, "rows": 20_003, "block": 50, "replicates": 8}
        for kind in ("moving", "circular", "stationary")
    ],
    folds.K_FOLD: [{"rows": 20_003, "folds": 5, "classes": 1}],
    folds.STRATIFIED: [{"rows": 20_003, "folds": 5, "classes": 10}],
}
POINTS = [
    pytest.param(name, {**point, **ON_CPU}, id=f"{name}-{i}")
    for name, implementation in CONTENDERS.items()
    if implementation.workload in SMALL
    for i, point in enumerate(SMALL[implementation.workload])
]


class Trial(sampler_trials.Trial):
    """A workload at one small point of this file's."""

    def __init__(self, workload: str, params: dict[str, Any] | None = None, seed: int = 0) -> None:
        super().__init__(workload, params or {**SMALL[workload][0], **ON_CPU}, seed)


def reason_for(contender: str, params: dict[str, Any]) -> str | None:
    unavailable = CONTENDERS[contender].unavailable
    return unavailable(params) if unavailable else None


@pytest.mark.parametrize("seed", [0, 1, 7])
@pytest.mark.parametrize(("contender", "params"), POINTS)
def test_honest_contenders_pass(contender: str, params: dict[str, Any], seed: int) -> None:
    reason = reason_for(contender, params)
    if reason:
        assert "pip install" in reason
        return
    implementation = CONTENDERS[contender]
    trial = Trial(implementation.workload, params, seed)
    thunk = implementation.build(trial.inputs)
    outputs = [thunk() for _ in range(3)]
    for calls, output in enumerate(outputs, 1):
        assert trial.judge(output, calls, timed=calls > 1) is None
    assert not np.array_equal(flat(outputs[0]), flat(outputs[1]))
    again = implementation.build(trial.inputs)()
    assert np.array_equal(flat(outputs[0]), flat(again)), "a seed must fix the draws"
    if trial.workload.metrics is not None:
        found = trial.workload.metrics(outputs[0], trial.reference)
        assert all(np.isfinite(value) for value in found.values())
    assert "stands still" in str(trial.judge(outputs[0], 9))


N = 20_001
RNG = np.random.default_rng(5)


def _riffled() -> np.ndarray:
    """One riffle shuffle: two rising sequences, laid into each other."""
    order, mask = np.empty(N, np.int64), RNG.random(N) < 0.5
    cut = int(mask.sum())
    order[mask], order[~mask] = np.arange(cut), np.arange(cut, N)
    return order


def _shares(n: int = N) -> np.ndarray:
    return np.asarray(Trial(subsets.WEIGHTED_SUBSET).reference.shares)


BAD: list[tuple[str, str, Any, str]] = [
    (subsets.PERMUTATION, "identity", np.arange(N), "positions|falls|fixed"),
    (subsets.PERMUTATION, "reversed", np.arange(N)[::-1].copy(), "positions|falls"),
    (subsets.PERMUTATION, "rotated", np.roll(np.arange(N), 777), "positions|falls"),
    (subsets.PERMUTATION, "riffled once", _riffled(), "positions|falls"),
    (
        subsets.PERMUTATION,
        "within pages",
        np.concatenate([RNG.permutation(part) for part in np.array_split(np.arange(N), 40)]),
        "positions",
    ),
    (subsets.PERMUTATION, "with replacement", RNG.integers(0, N, N), "more than once"),
    (subsets.PERMUTATION, "too short", np.arange(N - 1), "shape"),
    (subsets.SUBSET, "the first", np.arange(round(0.8 * N)), "position"),
    (subsets.SUBSET, "every fifth left out", np.flatnonzero(np.arange(N) % 5 != 0), "shape|uneven"),
    (subsets.SUBSET, "floats", RNG.permutation(N)[: round(0.8 * N)] * 1.0, "not integers"),
    (subsets.SUBSET, "outside", RNG.permutation(N + 5)[: round(0.8 * N)] + 5, "outside 0 to"),
    (subsets.WEIGHTED_SUBSET, "unweighted", RNG.permutation(N)[:2000], "weight"),
    (
        subsets.WEIGHTED_SUBSET,
        "the heaviest",
        np.argsort(-_shares())[:2000],
        "weight",
    ),
    (
        subsets.WEIGHTED_SUBSET,
        "clocks of squared weights",
        np.argpartition(RNG.standard_exponential(N) / _shares() ** 2, 1999)[:2000],
        "weight",
    ),
    (subsets.MASK, "another share", RNG.random(40_001) < 0.53, "number kept"),
    (subsets.MASK, "alternating", np.arange(40_001) % 2 == 0, "uneven|neighbours"),
    (subsets.MASK, "pairs", np.repeat(RNG.random(20_001) < 0.5, 2)[:40_001], "neighbours|uneven"),
    (subsets.MASK, "numbers", (RNG.random(40_001) < 0.5) * 1, "not bool"),
    (subsets.ROWS, "uniform", RNG.integers(0, 50, 2000), "likely"),
    (subsets.ROWS, "outside", np.full(2000, 50), "outside 0 to"),
    (blocks.BLOCKS, "no blocks", RNG.integers(0, 20_003 - 49, (8, 20_003)), "broken"),
    (
        blocks.BLOCKS,
        "the series itself",
        np.tile(np.arange(20_003), (8, 1)),
        "uneven|later|succ",
    ),
    (folds.K_FOLD, "in runs", np.arange(20_003) * 5 // 20_003, "uneven"),
    (folds.K_FOLD, "in turn", np.arange(20_003) % 5, "uneven"),
    (folds.K_FOLD, "independent", RNG.integers(0, 5, 20_003), "spread as"),
    (folds.STRATIFIED, "not stratified", RNG.permutation(np.arange(20_003) % 5), "class .* spread"),
    (folds.STRATIFIED, "outside", np.full(20_003, 5), "outside 0 to"),
]


@pytest.mark.parametrize(
    ("workload", "output", "reason"),
    [pytest.param(w, o, r, id=f"{w}-{name}") for w, name, o, r in BAD],
)
def test_planted_outputs_are_rejected(workload: str, output: Any, reason: str) -> None:
    import re

    found = Trial(workload).judge(torch.from_numpy(np.ascontiguousarray(output)))
    assert found is not None and re.search(reason, found), found


def test_an_argmax_is_no_draw() -> None:
    trial = Trial(subsets.ROWS)
    assert "likely" in str(trial.judge(trial.inputs.x.argmax(1)))


def test_masks_that_are_not_what_was_never_drawn() -> None:
    trial = Trial(bagging.BAGGING)
    draws, mask = CONTENDERS[f"{bagging.BAGGING}:torch"].build(trial.inputs)()
    flipped = mask.clone()
    flipped[3, 17] ^= True
    assert "wrong in 1 places" in str(trial.judge((draws, flipped)))
    assert "not a pair" in str(trial.judge(draws))
    same = draws[:1].expand_as(draws).contiguous()
    repeated = (same, mask[:1].expand_as(mask).contiguous())
    assert trial.judge(repeated) is not None
    halves = torch.cat([draws[:, :2500], draws[:, :2500]], 1)
    left = torch.ones_like(mask).scatter_(1, halves, False)
    assert trial.judge((halves, left)) is not None


def test_sets_that_share_what_is_out_of_the_bag() -> None:
    # Each set alone is a fair one; together they leave out the same rows.
    trial = Trial(bagging.BAGGING)
    rng = np.random.default_rng(0)
    one = rng.integers(0, 5000, 5000)
    draws = torch.from_numpy(np.stack([rng.permutation(one) for _ in range(8)]))
    mask = torch.ones(8, 5000, dtype=torch.bool).scatter_(1, draws, False)
    assert trial.judge((draws, mask)) is not None


@pytest.mark.parametrize("kind", ["circular", "stationary"])
def test_blocks_of_another_length_are_found(kind: str) -> None:
    params = {**SMALL[blocks.BLOCKS][0], **ON_CPU, "kind": kind}
    trial = Trial(blocks.BLOCKS, params)
    other = Trial(blocks.BLOCKS, {**params, "block": 45})
    output = CONTENDERS[f"{blocks.BLOCKS}:torch"].build(other.inputs)()
    assert trial.judge(output) is not None


@settings(max_examples=30, deadline=None)
@given(bits=st.integers(1, 6), seed=st.integers(0, 2**32))
def test_a_feistel_network_is_a_permutation(bits: int, seed: int) -> None:
    keys = np.random.default_rng(seed).integers(0, 2**64, subset_ways.ROUNDS, dtype=np.uint64)
    found = subset_ways.feistel(np.arange(4**bits, dtype=np.uint64), keys, bits)
    assert np.array_equal(np.sort(found), np.arange(4**bits))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 17, 1000])
def test_every_way_permutes_small_sets_too(n: int) -> None:
    params = {"rows": n, "device": "cpu"}
    inputs = subsets.make(params, 0)
    for name, contender in CONTENDERS.items():
        if contender.workload == subsets.PERMUTATION and reason_for(name, params) is None:
            assert np.array_equal(np.sort(flat(contender.build(inputs)())), np.arange(n))


def test_leave_one_out_ways_agree_and_a_wrong_one_does_not() -> None:
    trial = Trial(folds.LEAVE_ONE_OUT, {"rows": 23, "device": "cpu"})
    found = [
        c.build(trial.inputs)() for c in CONTENDERS.values() if c.workload == folds.LEAVE_ONE_OUT
    ]
    assert len(found) == 4
    for output in found:
        assert trial.judge(output) is None
    wrong = found[0].clone()
    wrong[7, 3] = 7
    assert "split 7" in str(trial.judge(wrong))


def test_weighted_inclusion_is_that_of_successive_draws() -> None:
    # Against draws one by one from what is left, for a few rows and many repetitions.
    rng = np.random.default_rng(0)
    weights = np.repeat([1.0, 4.0], [300, 300])
    light = []
    for _ in range(300):
        left, drawn = np.ones(600, bool), []
        for _ in range(60):
            shares = weights * left
            drawn.append(rng.choice(600, p=shares / shares.sum()))
            left[drawn[-1]] = False
        light.append(np.count_nonzero(np.array(drawn) < 300))
    t = 0.0
    for _ in range(60):  # solve 300 (1 - e^-t) + 300 (1 - e^-4t) = 60 by fixed-point steps
        t += (60 - 300 * (2 - np.exp(-t) - np.exp(-4 * t))) / 1500
    expected = 300 * (1 - np.exp(-t))
    assert abs(np.mean(light) - expected) < 4 * np.std(light) / 300**0.5 + 0.1


SERIES = [series.MEAN, series.OHLC, series.FORWARD, series.LINEAR]


def run(workload: str, params: dict[str, Any], *extra: bb.Implementation) -> dict[str, bb.Result]:
    case = bb.Case(workload=workload, params=params, seed=2)
    contenders = [c for c in CONTENDERS.values() if c.workload == workload]
    found = Runner().benchbench_run_case(
        case, WORKLOADS[workload], [*contenders, *extra], BRIEF, 0, lambda *_: None
    )
    return {result.contender: result for result in found}


@pytest.mark.parametrize("workload", SERIES)
def test_series_are_equal(workload: str) -> None:
    params = {"points": 1200, "device": "cpu"}
    found = run(workload, params)
    for name, result in found.items():
        reason = reason_for(f"{workload}:{name}", params)
        assert result.status == ("skipped" if reason else "ok"), result.reason
    assert found["torch"].status == "ok"


def test_what_series_mean_by_hand() -> None:
    x = torch.arange(120, dtype=torch.float64)
    assert series.mean(x).tolist() == [29.5, 89.5]
    assert series.ohlc(x).tolist() == [[0, 59, 0, 59], [60, 119, 60, 119]]
    y = torch.tensor([0.0, 60.0, 30.0], dtype=torch.float64)
    lines = series.linear(y)
    assert lines.shape == (121,)
    assert lines[:61].tolist() == pytest.approx(list(range(61)))
    assert lines[61] == 59.5 and lines[120] == 30
    assert series.forward_fill(y)[59:61].tolist() == [0.0, 60.0]


@pytest.mark.parametrize(
    ("workload", "function"),
    [
        (series.MEAN, lambda x: x.view(-1, 60)[:, ::2].mean(1)),
        (series.OHLC, lambda x: series.ohlc(x)[:, [0, 2, 1, 3]]),
        (series.FORWARD, lambda x: x.repeat_interleave(60).roll(1)),
        (series.LINEAR, lambda x: series.forward_fill(x)[:-59]),
    ],
)
def test_other_series_are_rejected(workload: str, function: Any) -> None:
    bad = bb.Implementation(
        workload=workload, name="bad", build=lambda inputs: inputs.thunk(function)
    )
    assert run(workload, {"points": 1200, "device": "cpu"}, bad)["bad"].status == "wrong"


@pytest.mark.parametrize("rates", signals.RATES)
def test_signals_keep_tones_and_nothing_else(rates: str) -> None:
    params = {"rates": rates, "seconds": 1 if rates.startswith("10") else 3, "device": "cpu"}
    trial = Trial(signals.WORKLOAD, params)
    for contender in CONTENDERS.values():
        if contender.workload != signals.WORKLOAD or reason_for(contender.id, params):
            continue
        output = contender.build(trial.inputs)()
        assert trial.judge(output) is None, contender.id
        found = signals.metrics(output, trial.reference)
        assert found["spurious_db"] < signals.SPURIOUS_DB[rates]
        assert abs(found["gain_db"]) < 0.5


def test_signals_without_a_filter_are_rejected() -> None:
    down = Trial(signals.WORKLOAD, {"rates": signals.RATES[2], "seconds": 1, "device": "cpu"})
    x = down.inputs.x.numpy()
    at = np.arange(400_000) * 2.5
    drawn = np.interp(at, np.arange(len(x)), x).astype(np.float32)
    assert down.judge(torch.from_numpy(drawn)) is not None
    up = Trial(signals.WORKLOAD, {"rates": signals.RATES[1], "seconds": 3, "device": "cpu"})
    held = up.inputs.x.repeat_interleave(6)
    assert up.judge(held) is not None
    good = CONTENDERS[f"{signals.WORKLOAD}:torch"].build(up.inputs)()
    assert "off by" in str(up.judge(good * 0.5))
    assert "delayed" in str(up.judge(good.roll(3)))


@pytest.mark.parametrize("rates", signals.RATES)
def test_no_alias_meets_a_tone(rates: str) -> None:
    made = signals.signal(rates, 0)
    folded = np.abs((made.cut + made.target // 2) % made.target - made.target // 2)
    assert not set(folded) & set(made.carried)
    assert len(set(folded)) == len(made.cut)
    assert made.carried.max() < 0.81 * min(made.source, made.target) / 2


SMOTE = {"rows": 1000, "ratio": (9, 1), "device": "cpu"}


@pytest.mark.parametrize("seed", [0, 3])
def test_synthetic_rows_lie_between_neighbours(seed: int) -> None:
    trial = Trial(smote.WORKLOAD, SMOTE, seed)
    for contender in CONTENDERS.values():
        if contender.workload != smote.WORKLOAD or reason_for(contender.id, SMOTE):
            continue
        thunk = contender.build(trial.inputs)
        one, two = thunk(), thunk()
        assert trial.judge(one) is None, contender.id
        assert trial.judge(two, 2) is None, contender.id
        assert not torch.equal(one[0], two[0])
        assert smote.metrics(one, trial.reference)["off"] < smote.EXACT


def synthetic(change: Any) -> str | None:
    """What is said of SMOTE whose draws of row, way and share were changed."""
    trial = Trial(smote.WORKLOAD, SMOTE)
    x, y = trial.inputs.x.numpy(), trial.inputs.y.numpy()
    small, rng = x[y == 1], np.random.default_rng(0)
    missing = len(x) - 2 * len(small)
    near = smote.nearest(small.astype(np.float64))
    at, way = rng.integers(0, len(small), missing), rng.integers(0, 5, missing)
    share = rng.random((missing, 1), np.float32)
    made = change(small, near, at, way, share)
    output = (
        torch.from_numpy(np.concatenate([x, made.astype(np.float32)])),
        torch.from_numpy(np.concatenate([y, np.ones(missing, y.dtype)])),
    )
    return trial.judge(output)


def between(small: Any, near: Any, at: Any, way: Any, share: Any) -> np.ndarray:
    return np.asarray(small[at] + share * (small[near[at, way]] - small[at]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (between, None),
        (lambda s, n, a, w, u: s[a] + 0.01, "between no row"),
        (lambda s, n, a, w, u: s[a] + u * (s[a[::-1]] - s[a]), "between no row"),
        (lambda s, n, a, w, u: between(s, n, a, w, u**2), "not uniform"),
        (lambda s, n, a, w, u: between(s, n, a // 2, w, u), "unevenly"),
        (lambda s, n, a, w, u: between(s, n, np.sort(a) * 0, w, u), "unevenly"),
    ],
)
def test_planted_smote(change: Any, reason: str | None) -> None:
    found = synthetic(change)
    assert found is None if reason is None else reason in str(found)


def test_smote_forms_are_checked() -> None:
    trial = Trial(smote.WORKLOAD, SMOTE)
    x, y = CONTENDERS[f"{smote.WORKLOAD}:torch"].build(trial.inputs)()
    assert "must be a pair" in str(trial.judge(x))
    assert "expected" in str(trial.judge((x[:-1], y[:-1])))
    assert "not first" in str(trial.judge((x.roll(1, 0), y.roll(1))))
    assert "label 1" in str(trial.judge((x, torch.cat([y[:-1], y[:1] * 0]))))


@pytest.mark.parametrize("picture", ["china", "flower"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_enlarged_photographs_come_back(dtype: str, picture: str) -> None:
    params = {"dtype": dtype, "picture": picture, "device": "cpu"}
    trial = Trial(enlarge.WORKLOAD, params)
    found = {}
    for contender in CONTENDERS.values():
        if contender.workload != enlarge.WORKLOAD or reason_for(contender.id, params):
            continue
        output = contender.build(trial.inputs)()
        assert trial.judge(output) is None, (contender.id, trial.judge(output))
        found[contender.name] = enlarge.metrics(output, trial.reference)
    assert len(found) >= 6
    assert found["torch-bicubic"]["psnr"] > found["torch-nearest"]["psnr"]
    assert found["torch-bicubic"]["ssim"] > found["torch-nearest"]["ssim"]
    assert found["torch-nearest"] == found["torch-repeat"] == found["torch-area"]


@pytest.mark.parametrize("picture", ["china", "flower"])
def test_spoiled_enlargements_are_rejected(picture: str) -> None:
    trial = Trial(enlarge.WORKLOAD, {"dtype": "uint8", "picture": picture, "device": "cpu"})
    good = CONTENDERS[f"{enlarge.WORKLOAD}:torch"].build(trial.inputs)()
    for bad in (good.flip(1), good.flip(0), good.flip(2), torch.zeros_like(good), good.roll(9, 1)):
        assert "dB from the photograph" in str(trial.judge(bad))
    assert "expected uint8" in str(trial.judge(good.float()))
    assert "expected uint8" in str(trial.judge(good[:-1]))


def test_structural_similarity_of_known_cases() -> None:
    image = enlarge.original("flower")
    assert enlarge.ssim(image, image) == pytest.approx(1.0)
    noisy = image + np.random.default_rng(0).normal(0, 20, image.shape)
    very = image + np.random.default_rng(0).normal(0, 60, image.shape)
    assert 1 > enlarge.ssim(noisy, image) > enlarge.ssim(very, image) > 0
    # Constant images: only the luminance term is left.
    a, b = (np.full((40, 40, 3), v) for v in (100.0, 120.0))
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    assert enlarge.ssim(a, b) == pytest.approx(expected, rel=1e-9)
