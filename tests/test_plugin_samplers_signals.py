"""Audio and images: spoiled ones are rejected, measured quality is what was put in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from sampler_trials import CONTENDERS, Bad, Trial, assert_rejected, borrowed

from benchbench_plugins.samplers import audio, image


def _sound(function: Callable[[torch.Tensor], torch.Tensor]) -> Bad:
    """An honest resampling, spoiled."""
    honest = CONTENDERS[f"{audio.FILTERED}:torch"]
    return lambda trial, rng: function(honest.build(trial.inputs)())


BAD_AUDIO: dict[str, tuple[Bad, str]] = {
    "linear sold as filtered": (borrowed(audio.DRAFT, "linear"), "aliases.*belongs to"),
    "decimation sold as filtered": (borrowed(audio.DRAFT, "nearest"), "aliases.*belongs to"),
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
    "nearest sold as filtered": (borrowed(image.DRAFT, "torch-nearest"), "belongs to"),
    "bilinear sold as filtered": (borrowed(image.DRAFT, "torch-bilinear"), "belongs to"),
    "shifted": (_picture(lambda x: torch.roll(x, 1, 1)), "dB from"),
    "channels swapped": (_picture(lambda x: x.flip(2)), "dB from"),
}
BAD_DRAFT: dict[str, tuple[Bad, str]] = {
    "flipped": (_picture(lambda x: x.flip(0)), "dB from"),
    "black": (_picture(torch.zeros_like), "dB from"),
    "planar": (_picture(lambda x: x.permute(2, 0, 1)), "expected uint8"),
    "wrong dtype": (_picture(lambda x: x.float()), "expected uint8"),
}


@pytest.mark.parametrize(
    ("workload", "bad", "reason"),
    [
        pytest.param(workload, bad, reason, id=f"{workload.split('/')[1]}: {name}")
        for workload, table in (
            (audio.FILTERED, BAD_AUDIO),
            (image.FILTERED, BAD_IMAGE),
            (image.DRAFT, BAD_DRAFT),
        )
        for name, (bad, reason) in table.items()
    ],
)
def test_planted_bad_contenders_are_rejected(workload: str, bad: Bad, reason: str) -> None:
    assert_rejected(workload, bad, reason)


def test_what_does_not_filter_is_welcome_as_a_draft() -> None:
    for workload, name in ((audio.DRAFT, "linear"), (image.DRAFT, "torch-nearest")):
        trial = Trial(workload)
        assert trial.judge(CONTENDERS[f"{workload}:{name}"].build(trial.inputs)()) is None


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
