"""Samplers: honest contenders pass at every seed, planted bad ones do not, figures are sane."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.stats import kstest

import benchbench as bb
from benchbench_plugins import samplers
from benchbench_plugins.samplers import audio, bootstrap, image, imbalance, index, quality

WORKLOADS = {w.name: w for w in samplers.benchbench_workloads()}
CONTENDERS = {i.id: i for i in samplers.benchbench_implementations()}
# Small enough to be quick, large enough for every test to have its say.
SMALL: dict[str, dict[str, bb.Params]] = {
    bootstrap.IID: {"": {"rows": 10_000, "replicates": 100, "device": "cpu"}},
    bootstrap.POISSON: {"": {"rows": 10_000, "replicates": 100, "device": "cpu"}},
    bootstrap.BAYESIAN: {"": {"rows": 10_000, "replicates": 100, "device": "cpu"}},
    index.UNIFORM: {"": {"rows": 40_000, "device": "cpu"}},
    index.WEIGHTED: {
        tables: {"categories": 20_000, "tables": tables, "dtype": "float64", "device": "cpu"}
        for tables in ("each-call", "once")
    },
    imbalance.OVER: {
        "two": {"rows": 20_000, "ratio": (9, 1), "device": "cpu"},
        "three": {"rows": 20_001, "ratio": (16, 3, 1), "device": "cpu"},
    },
    imbalance.UNDER: {
        "two": {"rows": 20_000, "ratio": (9, 1), "device": "cpu"},
        "three": {"rows": 20_001, "ratio": (16, 3, 1), "device": "cpu"},
    },
    audio.FILTERED: {"": {"seconds": 3, "device": "cpu"}},
    audio.DRAFT: {"": {"seconds": 3, "device": "cpu"}},
    image.FILTERED: {
        "uint8": {"dtype": "uint8", "picture": "china", "device": "cpu"},
        "float32": {"dtype": "float32", "picture": "flower", "device": "cpu"},
    },
    image.DRAFT: {
        "uint8": {"dtype": "uint8", "picture": "flower", "device": "cpu"},
        "float32": {"dtype": "float32", "picture": "china", "device": "cpu"},
    },
}
POINTS = [
    pytest.param(contender, params, id=f"{contender}[{label}]" if label else contender)
    for contender, implementation in CONTENDERS.items()
    if implementation.workload in SMALL  # the others are in test_plugin_samplers_more
    for label, params in SMALL[implementation.workload].items()
]


class Trial:
    """A workload at one point, and what its check says to a thunk's outputs."""

    def __init__(self, workload: str, params: bb.Params | None = None, seed: int = 0) -> None:
        self.workload = WORKLOADS[workload]
        self.params = params or next(iter(SMALL[workload].values()))
        self.inputs = self.workload.make(self.params, seed)
        assert self.workload.reference is not None
        self.reference = self.workload.reference(self.inputs)

    def judge(self, output: Any, calls: int = 1, *, timed: bool = False) -> str | None:
        assert self.workload.check is not None
        return self.workload.check(
            bb.Evidence(
                output=output,
                inputs=self.inputs,
                params=self.params,
                calls=calls,
                reference=self.reference,
                timed=timed,
            )
        )

    def metrics(self, output: Any) -> Mapping[str, float]:
        assert self.workload.metrics is not None
        return self.workload.metrics(output, self.reference)


def flat(output: Any) -> np.ndarray:
    """Rows of a pair, or the one tensor."""
    return quality.array(output[0] if isinstance(output, tuple) else output)


@pytest.mark.parametrize("seed", [0, 1, 7])
@pytest.mark.parametrize(("contender", "params"), POINTS)
def test_honest_contenders_pass(contender: str, params: bb.Params, seed: int) -> None:
    implementation = CONTENDERS[contender]
    reason = implementation.unavailable and implementation.unavailable(params)
    if reason:
        assert "pip install" in reason or "run it with" in reason
        return
    trial = Trial(implementation.workload, params, seed)
    thunk = implementation.build(trial.inputs)
    outputs = [thunk() for _ in range(3)]
    for calls, output in enumerate(outputs, 1):
        assert trial.judge(output, calls, timed=calls > 1) is None
    random = "audio" not in contender and "image" not in contender
    assert np.array_equal(flat(outputs[0]), flat(outputs[1])) != random
    if random:
        again = implementation.build(trial.inputs)()
        assert np.array_equal(flat(outputs[0]), flat(again)), "a seed must fix the draws"
        other = implementation.build(trial.workload.make(params, seed + 1))()
        assert not np.array_equal(flat(outputs[0]), flat(other))
    if trial.workload.metrics is not None:
        assert all(np.isfinite(value) for value in trial.metrics(outputs[0]).values())


# Planted bad contenders: each gets the trial and a generator and returns one output.
Bad = Callable[[Trial, np.random.Generator], Any]


def _indices(function: Callable[[int, np.random.Generator], np.ndarray]) -> Bad:
    return lambda trial, rng: torch.from_numpy(
        np.ascontiguousarray(function(trial.reference.categories, rng))
    )


def _block(n: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform marginally, but draws come in runs of neighbours."""
    return (np.repeat(rng.integers(0, n, n // 8), 8) + np.tile(np.arange(8), n // 8)) % n


BAD_INDICES: dict[str, tuple[Bad, str]] = {
    "modulo bias": (_indices(lambda n, r: r.integers(0, 2**16, n) % n), "uneven by position"),
    "coarse grid": (
        _indices(lambda n, r: (r.integers(0, 2**10, n) * n) >> 10),
        "uneven by residue|distinct",
    ),
    "even numbers": (_indices(lambda n, r: r.integers(0, n // 2, n) * 2), "residue|distinct"),
    "permutation": (_indices(lambda n, r: r.permutation(n)), "position|residue|distinct"),
    "first half": (_indices(lambda n, r: r.integers(0, n // 2, n)), "position"),
    "always one": (_indices(lambda n, r: np.zeros(n, np.int64)), "position"),
    "sorted": (_indices(lambda n, r: np.sort(r.integers(0, n, n))), "successive"),
    "runs": (_indices(_block), "position|successive"),
    "out of range": (_indices(lambda n, r: r.integers(0, n + 9, n)), "outside 0 to"),
    "negative": (_indices(lambda n, r: r.integers(-3, n, n)), "outside 0 to"),
    "floats": (_indices(lambda n, r: r.random(n) * n), "not integers"),
    "too few": (_indices(lambda n, r: r.integers(0, n, n - 1)), "shape"),
    "no tensor": (lambda trial, rng: [1, 2, 3], "not a tensor"),
}


def _weighted(function: Callable[[np.ndarray], np.ndarray]) -> Bad:
    def draw(trial: Trial, rng: np.random.Generator) -> torch.Tensor:
        shares = function(trial.reference.weights.copy())
        return torch.from_numpy(rng.choice(len(shares), len(shares), p=shares / shares.sum()))

    return draw


BAD_WEIGHTED: dict[str, tuple[Bad, str]] = {
    "ignores the weights": (_weighted(np.ones_like), "weight"),
    "square root": (_weighted(np.sqrt), "weight"),
    "drops the lightest": (
        _weighted(lambda w: np.where(w < np.quantile(w, 0.3), 0.0, w)),
        "weight|distinct",
    ),
    "half precision": (
        _weighted(lambda w: np.diff(np.cumsum(w / w.sum()).astype(np.float16), prepend=0.0)),
        "distinct|position|residue|weight",
    ),
    "sorted": (
        lambda trial, rng: torch.sort(_weighted(lambda w: w)(trial, rng)).values,
        "successive",
    ),
}


def _means(function: Callable[[np.ndarray, int, np.random.Generator], np.ndarray]) -> Bad:
    return lambda trial, rng: torch.from_numpy(
        function(trial.inputs.x.numpy(), trial.inputs.replicates, rng).astype(np.float32)
    )


def _draws(x: np.ndarray, replicates: int, rng: np.random.Generator, n: int) -> np.ndarray:
    return x[rng.integers(0, len(x), (replicates, n))].mean(1)


BAD_MEANS: dict[str, tuple[Bad, str]] = {
    "shifted": (
        _means(lambda x, r, g: _draws(x, r, g, len(x)) + x.std() / len(x) ** 0.5),
        "shifted",
    ),
    "too many draws": (_means(lambda x, r, g: _draws(x, r, g, 4 * len(x))), "spread|normal"),
    "too few draws": (_means(lambda x, r, g: _draws(x, r, g, len(x) // 3)), "spread"),
    "permuted": (
        _means(lambda x, r, g: np.array([g.permutation(x).mean() for _ in range(r)])),
        "spread",
    ),
    "one replicate": (_means(lambda x, r, g: np.repeat(_draws(x, 1, g, len(x)), r)), "repeated"),
    "two values": (
        _means(lambda x, r, g: x.mean() + x.std() / len(x) ** 0.5 * g.choice([-1.0, 1.0], r)),
        "normal|repeated",
    ),
    "first half": (_means(lambda x, r, g: _draws(np.sort(x)[: len(x) // 2], r, g, 99)), "shifted"),
    "not finite": (_means(lambda x, r, g: np.full(r, np.nan)), "finite"),
    "too few replicates": (_means(lambda x, r, g: _draws(x, r - 1, g, 9)), "shape"),
}


def _over(edit: Callable[..., np.ndarray | None], *, tamper: str = "") -> Bad:
    """Over-sampling by an index that ``edit`` spoils, or with spoiled contents."""

    def call(trial: Trial, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = trial.inputs.x, trial.inputs.y
        rare = np.flatnonzero(y.numpy() == 1)
        extra = len(y) - 2 * len(rare)
        drawn = edit(rare, extra, rng)
        index = torch.from_numpy(np.concatenate([np.arange(len(y)), drawn]))
        rows, labels = x[index].clone(), y[index].clone()
        if tamper == "row":
            rows[7, 3] += 1e-3
        if tamper == "label":
            labels[[0, -1]] = labels[[-1, 0]]
        if tamper == "lost":
            rows[0], labels[0] = rows[1], labels[1]
        return rows, labels

    return call


def _fair(rare: np.ndarray, extra: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(rare, extra)


BAD_OVER: dict[str, tuple[Bad, str]] = {
    "always first": (_over(lambda rare, k, r: np.full(k, rare[0])), "class 1, uneven"),
    "modulo bias": (_over(lambda rare, k, r: rare[r.integers(0, 3000, k) % len(rare)]), "uneven"),
    "in turn": (_over(lambda rare, k, r: np.resize(rare, k)), "uneven|distinct"),
    "one short": (_over(lambda rare, k, r: r.choice(rare, k - 1)), "rows are"),
    "one row changed": (_over(_fair, tamper="row"), "no rows of the input"),
    "labels swapped": (_over(_fair, tamper="label"), "another row's label"),
    "row lost": (_over(_fair, tamper="lost"), "missing|counts"),
    "rows alone": (lambda trial, rng: trial.inputs.x, "pair"),
}


def _under(pick: Callable[[np.ndarray, int, np.random.Generator], np.ndarray]) -> Bad:
    def call(trial: Trial, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = trial.inputs.x, trial.inputs.y
        rare, common = (np.flatnonzero(y.numpy() == label) for label in (1, 0))
        index = torch.from_numpy(np.concatenate([rare, pick(common, len(rare), rng)]))
        return x[index], y[index]

    return call


BAD_UNDER: dict[str, tuple[Bad, str]] = {
    "always first": (_under(lambda rows, k, r: rows[:k]), "uneven by position"),
    "every ninth": (_under(lambda rows, k, r: rows[:: len(rows) // k][:k]), "uneven"),
    "with replacement": (_under(lambda rows, k, r: r.choice(rows, k)), "more than once"),
    "early rows likelier": (
        _under(lambda rows, k, r: r.choice(rows[: len(rows) * 3 // 4], k, replace=False)),
        "uneven by position",
    ),
    "one short": (_under(lambda rows, k, r: rows[: k - 1]), "rows are"),
}


def _sound(function: Callable[[torch.Tensor], torch.Tensor]) -> Bad:
    """An honest resampling, spoiled."""
    honest = CONTENDERS[f"{audio.FILTERED}:torch"]
    return lambda trial, rng: function(honest.build(trial.inputs)())


def _borrow(workload: str, name: str) -> Bad:
    return lambda trial, rng: CONTENDERS[f"{workload}:{name}"].build(trial.inputs)()


BAD_AUDIO: dict[str, tuple[Bad, str]] = {
    "linear sold as filtered": (_borrow(audio.DRAFT, "linear"), "aliases.*belongs to"),
    "decimation sold as filtered": (_borrow(audio.DRAFT, "nearest"), "aliases.*belongs to"),
    "too quiet": (_sound(lambda x: x / 2), "off by 6.0"),
    "late": (_sound(lambda x: torch.roll(x, 1)), "delayed by 1.0"),
    "early": (_sound(lambda x: torch.roll(x, -1)), "delayed by -1.0"),
    "upside down": (_sound(lambda x: -x), "delayed|off by"),
    "silent": (_sound(torch.zeros_like), "off by"),
    "too short": (_sound(lambda x: x[:-1]), "expected float32"),
    "float64": (_sound(lambda x: x.double()), "expected float32"),
    "not finite": (_sound(lambda x: x / 0), "finite"),
    "too loud": (_sound(lambda x: x * 100), "samples reach"),
}


def _picture(function: Callable[[torch.Tensor], torch.Tensor]) -> Bad:
    honest = CONTENDERS[f"{image.FILTERED}:torch"]
    return lambda trial, rng: function(honest.build(trial.inputs)())


BAD_IMAGE: dict[str, tuple[Bad, str]] = {
    "nearest sold as filtered": (_borrow(image.DRAFT, "torch-nearest"), "belongs to"),
    "bilinear sold as filtered": (_borrow(image.DRAFT, "torch-bilinear"), "belongs to"),
    "shifted": (_picture(lambda x: torch.roll(x, 1, 1)), "dB from"),
    "channels swapped": (_picture(lambda x: x.flip(2)), "dB from"),
}
BAD_DRAFT: dict[str, tuple[Bad, str]] = {
    "flipped": (_picture(lambda x: x.flip(0)), "dB from"),
    "black": (_picture(torch.zeros_like), "dB from"),
    "planar": (_picture(lambda x: x.permute(2, 0, 1)), "expected uint8"),
    "wrong dtype": (_picture(lambda x: x.float()), "expected uint8"),
}
PLANTED = [
    pytest.param(workload, bad, reason, id=f"{workload.split('/')[1]}: {name}")
    for workload, table in (
        (index.UNIFORM, BAD_INDICES),
        (index.WEIGHTED, BAD_WEIGHTED),
        (bootstrap.IID, BAD_MEANS),
        (bootstrap.POISSON, BAD_MEANS),
        (imbalance.OVER, BAD_OVER),
        (imbalance.UNDER, BAD_UNDER),
        (audio.FILTERED, BAD_AUDIO),
        (image.FILTERED, BAD_IMAGE),
        (image.DRAFT, BAD_DRAFT),
    )
    for name, (bad, reason) in table.items()
]


@pytest.mark.parametrize(("workload", "bad", "reason"), PLANTED)
def test_planted_bad_contenders_are_rejected(workload: str, bad: Bad, reason: str) -> None:
    import re

    for seed in (0, 3):
        trial = Trial(workload, seed=seed)
        rng = np.random.default_rng(seed)
        try:
            found = trial.judge(bad(trial, rng))
        except ValueError as error:  # the runner reports what a check raises
            found = str(error)
        assert found is not None
        assert re.search(reason, found), found


def test_what_does_not_filter_is_welcome_as_a_draft() -> None:
    for workload, name in ((audio.DRAFT, "linear"), (image.DRAFT, "torch-nearest")):
        trial = Trial(workload)
        assert trial.judge(CONTENDERS[f"{workload}:{name}"].build(trial.inputs)()) is None


@pytest.mark.parametrize(
    "workload", [index.UNIFORM, index.WEIGHTED, bootstrap.IID, imbalance.OVER, imbalance.UNDER]
)
def test_a_stream_that_stands_still_is_rejected(workload: str) -> None:
    trial = Trial(workload)
    output = CONTENDERS[f"{workload}:torch"].build(trial.inputs)()
    assert trial.judge(output, calls=1) is None
    assert trial.judge(output, calls=1) is None, "looking twice at one call is no replay"
    found = trial.judge(output, calls=5)
    assert found is not None
    assert "stands still" in found


def test_balanced_classes_leave_nothing_to_draw() -> None:
    params = {"rows": 4_000, "ratio": (1, 1), "device": "cpu"}
    for workload in (imbalance.OVER, imbalance.UNDER):
        trial = Trial(workload, params)
        thunk = CONTENDERS[f"{workload}:torch"].build(trial.inputs)
        assert trial.judge(thunk(), 1) is None
        assert trial.judge(thunk(), 2) is None


# Are the p-values what they say? Under the null they are uniform.


def _p_values(draw: Callable[[np.random.Generator], quality.Tests]) -> dict[str, np.ndarray]:
    found = [draw(np.random.default_rng(seed)) for seed in range(300)]
    return {name: np.array([tests[name] for tests in found]) for name in found[0]}


def _weights(k: int) -> np.ndarray:
    return np.exp(np.random.default_rng(99).standard_normal(k))


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda r: quality.draw_tests(r.integers(0, 4000, 12_000), 4000), id="draws"),
        pytest.param(
            lambda r: quality.draw_tests(
                r.choice(4000, 12_000, p=_weights(4000) / _weights(4000).sum()),
                4000,
                _weights(4000),
            ),
            id="weighted draws",
        ),
        pytest.param(
            lambda r: quality.inclusion_tests(np.isin(np.arange(5000), r.permutation(5000)[:2000])),
            id="subset",
        ),
        pytest.param(lambda r: quality.mean_tests(r.normal(3, 2, 100), 3, 2), id="means"),
    ],
)
def test_p_values_are_uniform_for_honest_draws(
    draw: Callable[[np.random.Generator], quality.Tests],
) -> None:
    for name, values in _p_values(draw).items():
        if name == "replicates are repeated":
            assert (values == 1).all()
        else:
            assert kstest(values, "uniform").pvalue > 1e-4, name
            assert values.min() > 1e-5, name


def test_audits_are_corrected_for_their_number() -> None:
    evidence = {"output": None, "inputs": None, "params": {}, "calls": 9}
    tests = {"one": 1e-6, "other": 0.4}
    assert quality.judge(tests, bb.Evidence(**evidence)) is not None
    assert quality.judge(tests, bb.Evidence(**evidence, timed=True)) is None
    assert quality.judge({**tests, "one": 1e-9}, bb.Evidence(**evidence, timed=True)) is not None
    assert quality.judge({}) is None


# Signal quality.


def _measured(gain: float = 1.0, alias: float = 0.0, delay: float = 0.0) -> dict[str, float]:
    """What is measured on an ideal output with known faults, made from the tones directly."""
    known = audio.tones(5)
    low = known.frequencies < audio.TARGET / 2
    time = (np.arange(3 * audio.TARGET) - delay) / audio.TARGET
    output = np.zeros_like(time)
    for frequency, amplitude, phase, kept in zip(
        known.frequencies, known.amplitudes, known.phases, low, strict=True
    ):
        level = gain if kept else alias
        output += level * amplitude * np.cos(2 * np.pi * frequency * time + phase)
    return audio.measure(output, known)


def test_measured_quality_is_what_was_put_in() -> None:
    ideal = _measured()
    assert ideal["gain_db"] < 1e-9
    assert ideal["alias_db"] == -200
    assert ideal["snr_db"] == 200
    assert abs(ideal["delay"]) < 1e-9
    assert _measured(gain=0.9)["gain_db"] == pytest.approx(-20 * np.log10(0.9))
    assert _measured(alias=1e-3)["alias_db"] == pytest.approx(-60, abs=1e-6)
    assert _measured(delay=0.25)["delay"] == pytest.approx(0.25)
    assert _measured(delay=-1.5)["delay"] == pytest.approx(-1.5)


def test_tones_do_not_fall_on_each_other() -> None:
    low = np.array(audio.PASSBAND)
    landed = audio.alias(np.array(audio.STOPBAND))
    everything = np.concatenate([low, landed])
    assert len(np.unique(everything)) == len(everything)
    # Images of all tones, which interpolation leaves, must not hide in another tone either.
    tones = np.array([*audio.PASSBAND, *audio.STOPBAND])
    images = audio.alias(
        np.concatenate([k * audio.SOURCE + s * tones for k in (1, 2, 3) for s in (-1, 1)])
    )
    assert not set(images) & set(everything)


@given(frequency=st.integers(0, 22_049))
def test_aliases_land_where_sampling_puts_them(frequency: int) -> None:
    samples = np.cos(2 * np.pi * frequency * np.arange(audio.TARGET) / audio.TARGET)
    assert np.abs(np.fft.rfft(samples)).argmax() == audio.alias(frequency)


@pytest.mark.parametrize(
    ("workload", "name", "figure", "low", "high"),
    [
        (audio.FILTERED, "torch", "alias_db", -120, -90),
        (audio.FILTERED, "torch-grouped", "alias_db", -120, -90),
        (audio.FILTERED, "scipy", "alias_db", -70, -50),
        (audio.FILTERED, "scipy-fft", "alias_db", -200, -130),
        (audio.FILTERED, "soxr-hq", "alias_db", -200, -100),
        (audio.FILTERED, "soxr-vhq", "alias_db", -200, -120),
        (audio.FILTERED, "torch", "snr_db", 90, 200),
        (audio.FILTERED, "soxr-hq", "gain_db", 0, 0.1),
        (audio.DRAFT, "linear", "alias_db", -20, 0),
        (audio.DRAFT, "nearest", "alias_db", -20, 0),
        (audio.DRAFT, "linear", "snr_db", 5, 30),
        (image.FILTERED, "torch", "psnr", 55, 60),
        (image.FILTERED, "pillow", "psnr", 55, 60),
        (image.FILTERED, "torch-area", "psnr", 30, 40),
        (image.DRAFT, "torch-nearest", "psnr", 15, 30),
    ],
)
def test_quality_figures(workload: str, name: str, figure: str, low: float, high: float) -> None:
    implementation = CONTENDERS[f"{workload}:{name}"]
    trial = Trial(workload)
    assert implementation.unavailable is None or implementation.unavailable(trial.params) is None
    found = trial.metrics(implementation.build(trial.inputs)())[figure]
    assert low <= found <= high


def test_the_image_reference_is_the_antialiased_triangle_filter() -> None:
    trial = Trial(image.FILTERED)
    x = trial.inputs.x.permute(2, 0, 1)[None].double()
    theirs = torch.nn.functional.interpolate(x, image.TARGET, mode="bilinear", antialias=True)
    assert np.abs(theirs[0].permute(1, 2, 0).numpy() - trial.reference).max() < 1e-9


def test_photographs_are_tiled_without_seams_or_enlargement() -> None:
    from sklearn.datasets import load_sample_image

    whole, tile = image.photograph("flower"), load_sample_image("flower.jpg")
    height, width = tile.shape[:2]
    assert whole.shape == (*image.SOURCE, 3)
    assert np.array_equal(whole[:height, :width], tile)
    assert np.array_equal(whole[height : 2 * height, width : 2 * width], tile[::-1, ::-1])


# Costs, sizes, availability.


@given(
    rows=st.integers(100, 100_000),
    ratio=st.lists(st.integers(1, 40), min_size=1, max_size=5).map(tuple),
)
def test_class_sizes_add_up(rows: int, ratio: tuple[int, ...]) -> None:
    sizes = imbalance.sizes(rows, ratio)
    assert sum(sizes) == rows
    for size, part in zip(sizes, ratio, strict=True):
        assert abs(size - rows * part / sum(ratio)) < len(ratio)


@given(rows=st.integers(1, 5_000), cut=st.integers(1, 4_000))
@settings(max_examples=30)
def test_every_row_is_found_again(rows: int, cut: int) -> None:
    x = np.random.default_rng(rows).standard_normal((rows, 5)).astype(np.float32)
    keys = imbalance.row_keys(x)
    order = np.argsort(keys)
    known = imbalance.Truth(x=x, y=np.zeros(rows, int), keys=keys[order], order=order)
    asked = np.random.default_rng(cut).integers(0, rows, cut)
    assert np.array_equal(imbalance.origin(x[asked], known), asked)
    assert imbalance.origin(x[asked] + np.float32(0.5), known) is None


def test_costs_are_floors() -> None:
    def work(name: str, params: Mapping[str, Any]) -> bb.Work:
        found = WORKLOADS[name].work
        assert found is not None
        return found({"device": "cpu", **params})

    assert work(bootstrap.IID, {"rows": 1000, "replicates": 10}).bytes == 4 * 1010
    assert work(bootstrap.IID, {"rows": 1000, "replicates": 10}).items == 10_000
    assert work(index.UNIFORM, {"rows": 1000}).bytes == 8000
    over = work(imbalance.OVER, {"rows": 1000, "ratio": (9, 1)})
    assert (over.bytes, over.items) == ((1000 + 1800) * 88, 1800)
    under = work(imbalance.UNDER, {"rows": 1000, "ratio": (9, 1)})
    assert (under.bytes, under.items) == (8000 + 200 * 168, 200)
    assert work(audio.FILTERED, {"seconds": 5}).bytes == 4 * 5 * 60_100
    assert work(image.FILTERED, {"dtype": "uint8"}).bytes == 3 * (1920 * 1080 + 640 * 480)


BROKEN = {
    "soxr": "raise RuntimeError('built for another numpy')",
    "imblearn": "raise SystemExit('no licence')",
    "cv2": "import no_such_module_of_cv2",
    "torchaudio": "raise OSError('libtorchaudio.so: undefined symbol')",
}
ASK = """
import json
from benchbench_plugins import samplers
workloads = {w.name: {a: v[0] for a, v in w.axes.items()} for w in samplers.benchbench_workloads()}
print(json.dumps({
    i.id: (i.unavailable(workloads[i.workload]) or "") if i.unavailable else ""
    for i in samplers.benchbench_implementations()
}))
"""


def test_broken_optional_packages_cost_their_own_rows_only(tmp_path: Path) -> None:
    for name, text in BROKEN.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{ASK}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    reasons = json.loads(done.stdout)
    hit = {
        "soxr-hq": "built for another numpy",
        "soxr-vhq": "built for another numpy",
        "imbalanced-learn": "SystemExit",
        "opencv-area": "no_such_module_of_cv2",
        "opencv-linear": "no_such_module_of_cv2",
        "opencv": "no_such_module_of_cv2",
        "opencv-cubic": "no_such_module_of_cv2",
        "torchaudio": "undefined symbol",
        "torchaudio-kaiser": "undefined symbol",
        "julius": "",
        "arch": "",
        "pandas": "",
    }
    for contender, reason in reasons.items():
        name = contender.split(":")[1]
        if name in hit:
            assert hit[name] in reason, contender
            assert "pip install" in reason or name in ("julius", "arch", "pandas"), contender
        else:
            assert reason == "", contender
