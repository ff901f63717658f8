"""Audio from 44.1 kHz to 16 kHz: speed, and what the filter did to tones.

The input is a sum of tones at whole hertz, so a second of output is one period and its spectrum
has no leakage: tones below 8 kHz show the gain, tones above it can only come back as aliases, at
frequencies known beforehand, and everything else is noise of the resampler's own.

``samplers/audio-44100-to-16000`` admits resamplers that filter: aliases at most -20 dB, a hundredth
of the power (torchaudio with its defaults reaches -28, soxr -143). What merely interpolates
competes in ``samplers/audio-44100-to-16000-draft``, where aliases are shown but not judged. A
resampler that does not filter is then never listed as faster than one that does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import gcd
from typing import Any

import numpy as np

import benchbench as bb
from benchbench_plugins.samplers.quality import array, decibel
from benchbench_plugins.samplers.shared import cpu_only, host, needs

FILTERED = "samplers/audio-44100-to-16000"
DRAFT = "samplers/audio-44100-to-16000-draft"
SOURCE, TARGET = 44_100, 16_000
UP, DOWN = TARGET // gcd(SOURCE, TARGET), SOURCE // gcd(SOURCE, TARGET)
# Up to 80 % of the new Nyquist frequency of 8 kHz: where every filter should be flat.
PASSBAND = (97, 211, 443, 887, 1409, 2203, 3109, 4211, 5311, 6397)
# From 120 % on: where every filter should have cut. Between the two lies the transition.
STOPBAND = (9601, 10303, 11003, 12301, 13905, 16411, 18301, 20201)
GAIN_DB = 3.0
ALIAS_DB = -20.0
DELAY = 0.5


@dataclass(frozen=True, kw_only=True)
class Tones:
    """The tones that are in the input: frequency in hertz, amplitude and phase of each."""

    frequencies: np.ndarray
    amplitudes: np.ndarray
    phases: np.ndarray


def tones(seed: int) -> Tones:
    """Equal amplitudes that sum to less than 1, phases at random."""
    frequencies = np.array([*PASSBAND, *STOPBAND])
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(frequencies))
    return Tones(
        frequencies=frequencies,
        amplitudes=np.full(len(frequencies), 0.9 / len(frequencies)),
        phases=phases,
    )


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """Mono float32 of shape ``(44100 * seconds,)`` within -1 to 1."""
    import torch

    made = tones(seed)
    time = np.arange(SOURCE) / SOURCE
    angles = 2 * np.pi * np.outer(made.frequencies, time) + made.phases[:, None]
    second = made.amplitudes @ np.cos(angles)
    x = torch.from_numpy(np.tile(second, int(params["seconds"]))).float()
    return bb.Inputs({"x": x.to(str(params["device"])), "seed": seed})


def truth(inputs: bb.Inputs) -> Tones:
    """What :func:`measure` looks for."""
    return tones(inputs.seed)


def alias(frequency: Any) -> Any:
    """Where a frequency lands after sampling at 16 kHz."""
    folded = np.asarray(frequency) % TARGET
    return np.minimum(folded, TARGET - folded)


def measure(output: np.ndarray, reference: Tones) -> dict[str, float]:
    """Quality of a resampled signal, from a second in its middle.

    Returns:
        ``alias_db``: loudest alias of a tone above 9.6 kHz relative to that tone (less is better);
        ``gain_db``: largest deviation of a tone's level below 6.4 kHz, as a positive number;
        ``snr_db``: tones below 6.4 kHz over everything that is neither tone nor alias;
        ``delay``: constant delay in output samples, from the phases of the low tones.
    """
    middle = (len(output) // TARGET) // 2 * TARGET
    second = output[middle : middle + TARGET].astype(np.float64)
    spectrum = np.fft.rfft(second) / (TARGET / 2)
    low = reference.frequencies < TARGET / 2
    passed = spectrum[reference.frequencies[low]]
    folded = alias(reference.frequencies[~low])
    gain = np.abs(passed) / reference.amplitudes[low]
    aliases = np.abs(spectrum[folded]) / reference.amplitudes[~low]
    noise = np.abs(spectrum) ** 2
    noise[reference.frequencies[low]] = 0
    noise[folded] = 0
    turned = np.angle(passed * np.exp(-1j * reference.phases[low]))
    # Only tones whose phase cannot have wrapped for delays under two samples.
    slow = reference.frequencies[low] < TARGET / 8
    per_sample = -2 * np.pi * reference.frequencies[low][slow] / TARGET
    power = float((np.abs(passed) ** 2).sum())
    return {
        "alias_db": float(decibel(aliases.max())),
        "gain_db": float(np.abs(decibel(gain)).max()),
        "snr_db": float(-decibel((noise.sum() / max(power, 1e-30)) ** 0.5)),
        "delay": float((turned[slow] @ per_sample) / (per_sample @ per_sample)),
    }


def check(evidence: bb.Evidence, *, filtered: bool) -> str | None:
    """Length, dtype, alignment, gain; and aliases where filtering is promised."""
    output = array(evidence.output)
    expected = int(evidence.params["seconds"]) * TARGET
    if output.shape != (expected,) or output.dtype != np.float32:
        return f"output is {output.dtype} {output.shape}, expected float32 {(expected,)}"
    if not np.isfinite(output).all():
        return "some samples are not finite"
    if np.abs(output).max() > 2:
        return f"samples reach {np.abs(output).max():.3g}; the input stays within 1"
    found = measure(output, evidence.reference)
    if found["gain_db"] > GAIN_DB:
        return f"tones below 6.4 kHz are off by {found['gain_db']:.2f} dB, allowed {GAIN_DB:g}"
    if abs(found["delay"]) > DELAY:
        return f"delayed by {found['delay']:.2f} output samples, allowed {DELAY:g}"
    if filtered and found["alias_db"] > ALIAS_DB:
        return (
            f"aliases at {found['alias_db']:.1f} dB, allowed {ALIAS_DB:g}: "
            f"it does not filter, so it belongs to {DRAFT}"
        )
    return None


def metrics(output: Any, reference: Tones) -> dict[str, float]:
    """See :func:`measure`, of which the delay is left to the check."""
    found = measure(array(output), reference)
    del found["delay"]
    return found


def work(params: bb.Params) -> bb.Work:
    """Input read once, output written once; items are input samples."""
    seconds = int(params["seconds"])
    return bb.Work(
        bytes=4.0 * seconds * (SOURCE + TARGET), items=float(seconds * SOURCE), item="sample"
    )


def workloads() -> Iterator[bb.Workload]:
    """With filtering demanded, and without."""
    common = {
        "make": make,
        "baseline": "torch",
        "reference": truth,
        "tolerance": None,
        "metrics": metrics,
        "work": work,
        "axes": {"seconds": (5, 60), "device": ("cpu", "cuda")},
        "presets": {
            "quick": {},
            "standard": {"seconds": (60,)},
            "gpu": {"seconds": (1200,), "device": ("cuda",)},
        },
    }
    yield bb.Workload(
        name=FILTERED,
        doc="Mono float32 from 44.1 to 16 kHz; aliases of tones above 9.6 kHz at most -20 dB.",
        check=partial(check, filtered=True),
        **common,
    )
    yield bb.Workload(
        name=DRAFT,
        doc="The same without a limit on aliases: what interpolation alone costs and spoils.",
        check=partial(check, filtered=False),
        **{**common, "presets": {**common["presets"], "quick": []}},
    )


def sinc(positions: np.ndarray, half_width: float, cutoff: float, beta: float) -> np.ndarray:
    """Kaiser-windowed sinc (Oppenheim and Schafer, Discrete-Time Signal Processing, 7.6).

    Args:
        positions: distances from the centre in input samples.
        half_width: where the window ends, in input samples.
        cutoff: half-amplitude frequency as a share of the input rate.
        beta: of the Kaiser window; 9 gives about -90 dB.
    """
    inside = np.clip(1 - (positions / half_width) ** 2, 0, None)
    window = np.i0(beta * np.sqrt(inside)) / np.i0(beta) * (np.abs(positions) < half_width)
    return 2 * cutoff * np.sinc(2 * cutoff * positions) * window


def _polyphase(inputs: bb.Inputs, groups: int) -> bb.Thunk:
    """One strided convolution for each of ``groups`` runs of neighbouring phases.

    Output ``160 b + p`` is centred on input ``441 b + p * 441 / 160``. Phases of one run share a
    kernel support, so more runs mean shorter kernels with fewer zeros and more calls.
    """
    import torch
    from torch.nn.functional import conv1d

    half = 64
    phases = np.arange(UP) * DOWN / UP
    kernels, starts = [], []
    for run in np.array_split(phases, groups):
        first = int(np.floor(run[0])) - half
        taps = np.arange(first, int(np.floor(run[-1])) + half + 2)
        kernel = sinc(taps - run[:, None], half + 0.5, 0.92 * TARGET / 2 / SOURCE, 9.0)
        kernel /= kernel.sum(1, keepdims=True)
        weight = torch.from_numpy(kernel).float()[:, None]
        kernels.append(weight.to(inputs.x.device))
        starts.append(first)
    x = inputs.x
    size = -(-len(x) * UP // DOWN)
    blocks = -(-size // UP)
    ends = [s + (blocks - 1) * DOWN + k.shape[-1] for s, k in zip(starts, kernels, strict=True)]
    before, after = -min(starts), max(0, max(ends) - len(x))

    def call() -> torch.Tensor:
        padded = torch.nn.functional.pad(x, (before, after))[None, None]
        parts = [
            conv1d(padded[..., start + before : end + before], kernel, stride=DOWN)
            for start, end, kernel in zip(starts, ends, kernels, strict=True)
        ]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return whole[0].T.reshape(-1)[:size]

    return call


@bb.implementation(FILTERED, "torch")
def torch_convolution(inputs: bb.Inputs) -> bb.Thunk:
    """One conv1d with 160 output channels and stride 441; Kaiser-windowed sinc of 128 samples."""
    return _polyphase(inputs, 1)


@bb.implementation(FILTERED, "torch-grouped")
def torch_grouped(inputs: bb.Inputs) -> bb.Thunk:
    """The same filter as torch in 10 conv1d of 16 phases each: fewer products with zero."""
    return _polyphase(inputs, 10)


@bb.implementation(FILTERED, "scipy", unavailable=cpu_only)
def scipy_poly(inputs: bb.Inputs) -> bb.Thunk:
    """scipy.signal.resample_poly with its default filter."""
    import torch
    from scipy.signal import resample_poly

    x = host(inputs.x)
    return lambda: torch.from_numpy(resample_poly(x, UP, DOWN))


@bb.implementation(FILTERED, "scipy-fft", unavailable=cpu_only)
def scipy_fft(inputs: bb.Inputs) -> bb.Thunk:
    """scipy.signal.resample: cuts the spectrum of the whole signal, which it takes as periodic."""
    import torch
    from scipy.signal import resample

    x = host(inputs.x)
    size = -(-len(x) * UP // DOWN)
    return lambda: torch.from_numpy(resample(x, size))


def _soxr(quality: str) -> Callable[[bb.Inputs], bb.Thunk]:
    def build(inputs: bb.Inputs) -> bb.Thunk:
        import soxr
        import torch

        x = host(inputs.x)
        return lambda: torch.from_numpy(soxr.resample(x, SOURCE, TARGET, quality=quality))

    return build


def _torchaudio(**settings: Any) -> Callable[[bb.Inputs], bb.Thunk]:
    def build(inputs: bb.Inputs) -> bb.Thunk:
        from torchaudio.transforms import Resample

        # The transform keeps its kernel, as a data loader's would.
        transform = Resample(SOURCE, TARGET, **settings).to(inputs.x.device)
        return partial(transform, inputs.x)

    return build


def _julius(inputs: bb.Inputs) -> bb.Thunk:
    from julius import ResampleFrac

    return partial(ResampleFrac(SOURCE, TARGET).to(inputs.x.device), inputs.x)


@bb.implementation(DRAFT, "linear")
def torch_linear(inputs: bb.Inputs) -> bb.Thunk:
    """Between the two nearest input samples, no filter; positions are tables made once."""
    import torch

    x, index, share = inputs.x, *_positions(inputs)
    index = index.clamp(max=len(x) - 2)
    return lambda: torch.lerp(x.index_select(0, index), x.index_select(0, index + 1), share)


@bb.implementation(DRAFT, "nearest")
def torch_nearest(inputs: bb.Inputs) -> bb.Thunk:
    """The nearest input sample, no filter; positions are a table made once."""
    index, share = _positions(inputs)
    index = (index + (share >= 0.5)).clamp(max=len(inputs.x) - 1)
    return partial(inputs.x.index_select, 0, index)


@bb.implementation(DRAFT, "numpy-interp", unavailable=cpu_only)
def numpy_interp(inputs: bb.Inputs) -> bb.Thunk:
    """numpy.interp at the new times, no filter."""
    import torch

    x = host(inputs.x)
    at = np.arange(-(-len(x) * UP // DOWN)) * (DOWN / UP)
    have = np.arange(len(x), dtype=np.float64)
    return lambda: torch.from_numpy(np.interp(at, have, x).astype(np.float32))


def _positions(inputs: bb.Inputs) -> tuple[Any, Any]:
    """Input index and share of the next sample for each output, exact in whole numbers."""
    import torch

    place = torch.arange(-(-len(inputs.x) * UP // DOWN), device=inputs.x.device) * DOWN
    return place // UP, (place % UP).float() / UP


def implementations() -> Iterator[bb.Implementation]:
    """Every contender of both workloads; the draft has the baseline too, to compare with."""
    yield from (torch_convolution, torch_grouped, scipy_poly, scipy_fft)
    yield bb.Implementation(
        workload=DRAFT, name="torch", build=torch_convolution.build, doc=torch_convolution.doc
    )
    yield from (torch_linear, torch_nearest, numpy_interp)
    anywhere = partial(needs, on=lambda params: None)
    for name, build, unavailable, doc in (
        ("soxr-hq", _soxr("HQ"), needs("soxr"), "soxr.resample, quality HQ."),
        ("soxr-vhq", _soxr("VHQ"), needs("soxr"), "soxr.resample, quality VHQ."),
        (
            "torchaudio",
            _torchaudio(),
            anywhere("torchaudio.transforms"),
            "torchaudio.transforms.Resample with its defaults.",
        ),
        (
            "torchaudio-kaiser",
            _torchaudio(
                lowpass_filter_width=64,
                rolloff=0.9475937167399596,
                resampling_method="sinc_interp_kaiser",
                beta=14.769656459379492,
            ),
            anywhere("torchaudio.transforms"),
            "torchaudio.transforms.Resample, the documented settings that equal Kaiser best.",
        ),
        ("julius", _julius, anywhere("julius"), "julius.ResampleFrac with defaults."),
    ):
        yield bb.Implementation(
            workload=FILTERED, name=name, build=build, unavailable=unavailable, doc=doc
        )
