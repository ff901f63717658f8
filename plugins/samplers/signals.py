"""Signals between other pairs of rates: 48 to 44.1 kHz, 8 to 48 kHz, 1 MHz to 400 kHz.

Judged as in ``audio``, by tones at whole hertz: those that both rates can carry have to keep their
level, and whatever else is heard is an alias (of a tone that the new rate cannot carry), an image
(of one that the old rate could not tell apart) or noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import ceil, gcd
from typing import Any

import numpy as np

import benchbench as bb
from benchbench_plugins.samplers.audio import sinc
from benchbench_plugins.samplers.quality import array, decibel
from benchbench_plugins.samplers.shared import cpu_only, host, needs

WORKLOAD = "samplers/signal"
SPURIOUS_DB = {"48000-44100": -10.0, "8000-48000": -20.0, "1000000-400000": -20.0}
"""Allowed at most, by pair of rates. Rates as close as the first leave no room for a filter to fall
in: the tones that have to go are in its transition (a line between samples reaches -8 dB)."""
RATES = tuple(SPURIOUS_DB)
GAIN_DB, DELAY = 3.0, 0.5
"""Allowed at most, as for audio."""


@dataclass(frozen=True, kw_only=True)
class Signal:
    """A sum of tones at one rate, to be brought to another."""

    source: int
    target: int
    carried: np.ndarray
    """Tones in hertz up to 80 % of what both rates carry."""
    cut: np.ndarray
    """Tones that the target rate cannot carry; none when the rate rises."""
    phases: np.ndarray

    @property
    def amplitude(self) -> float:
        """Of each tone; all together stay within 0.9."""
        return 0.9 / (len(self.carried) + len(self.cut))

    @property
    def up(self) -> int:
        """Outputs for each ``down`` inputs."""
        return self.target // gcd(self.source, self.target)

    @property
    def down(self) -> int:
        """Inputs for each ``up`` outputs."""
        return self.source // gcd(self.source, self.target)


def signal(rates: str, seed: int) -> Signal:
    """The tones of a pair of rates; their phases follow the seed."""
    source, target = (int(rate) for rate in rates.split("-"))
    limit = min(source, target) / 2
    # Odd hertz, unevenly spaced, so that no alias meets a tone.
    carried = np.unique(np.round(limit * 0.8 * np.linspace(0.013, 1, 10) ** 1.5).astype(int) | 1)
    cut = np.zeros(0, int)
    if target < source:
        # From 120 % of what the target carries, or where the rates are closer, from 105 %.
        begin = 1.2 * limit if 1.2 * limit < 0.9 * source / 2 else 1.05 * limit
        cut = np.round(np.linspace(begin, 0.99 * source / 2, 7)).astype(int) // 2 * 2
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(carried) + len(cut))
    return Signal(source=source, target=target, carried=carried, cut=cut, phases=phases)


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """Mono float32 (source rate * seconds,); ``signal`` says what is in it."""
    import torch

    made = signal(str(params["rates"]), seed)
    time = np.arange(made.source) / made.source
    second = np.zeros(made.source)
    for frequency, phase in zip([*made.carried, *made.cut], made.phases, strict=True):
        second += made.amplitude * np.cos(2 * np.pi * frequency * time + phase)
    seconds = int(params["seconds"])  # type: ignore[call-overload]
    x = torch.from_numpy(np.tile(second, seconds)).float()
    return bb.Inputs({"x": x.to(str(params["device"])), "signal": made})


def measure(output: np.ndarray, made: Signal) -> dict[str, float]:
    """Quality of a second from the middle.

    Returns:
        ``spurious_db``: the loudest component that is no tone of the input, relative to a tone;
        ``gain_db``: largest deviation of a tone's level, positive; ``snr_db``: tones over all else;
        ``delay``: in output samples, from the phases of the low tones.
    """
    rate = made.target
    middle = (len(output) // rate) // 2 * rate
    spectrum = np.fft.rfft(output[middle : middle + rate].astype(np.float64)) / (rate / 2)
    passed = spectrum[made.carried]
    rest = np.abs(spectrum)
    rest[made.carried] = 0
    rest[0] /= 2
    turned = np.angle(passed * np.exp(-1j * made.phases[: len(made.carried)]))
    slow = made.carried < min(made.source, rate) / 8
    per_sample = -2 * np.pi * made.carried[slow] / rate
    return {
        "spurious_db": float(decibel(rest.max() / made.amplitude)),
        "gain_db": float(np.abs(decibel(np.abs(passed) / made.amplitude)).max()),
        "snr_db": float(decibel(np.linalg.norm(passed) / max(np.linalg.norm(rest), 1e-30))),
        "delay": float((turned[slow] @ per_sample) / (per_sample @ per_sample)),
    }


def check(evidence: bb.Evidence) -> str | None:
    """Length, dtype, level and alignment of tones, and nothing else that is loud."""
    made: Signal = evidence.reference
    output = array(evidence.output)
    expected = (int(evidence.params["seconds"]) * made.target,)  # type: ignore[call-overload]
    if output.shape != expected or output.dtype != np.float32:
        return f"output is {output.dtype} {output.shape}, expected float32 {expected}"
    if not np.isfinite(output).all():
        return "some samples are not finite"
    found = measure(output, made)
    if found["gain_db"] > GAIN_DB:
        return f"tones are off by {found['gain_db']:.2f} dB, allowed {GAIN_DB:g}"
    if abs(found["delay"]) > DELAY:
        return f"delayed by {found['delay']:.2f} output samples, allowed {DELAY:g}"
    allowed = SPURIOUS_DB[str(evidence.params["rates"])]
    if found["spurious_db"] > allowed:
        return f"aliases or images at {found['spurious_db']:.1f} dB, allowed {allowed:g}"
    return None


def metrics(output: Any, reference: Signal) -> dict[str, float]:
    """See :func:`measure`; the delay is left to the check."""
    found = measure(array(output), reference)
    del found["delay"]
    return found


@bb.implementation(WORKLOAD, "torch")
def torch_polyphase(inputs: bb.Inputs) -> bb.Thunk:
    """One conv1d, an output channel for each phase; Kaiser-windowed sinc of 24 periods a side.

    Output ``up b + p`` is centred on input ``down b + p down / up``.
    """
    import torch
    from torch.nn.functional import conv1d, pad

    made, x = inputs.signal, inputs.x
    up, down = made.up, made.down
    ratio = min(1.0, made.target / made.source)
    half = ceil(24 / ratio)
    phases = np.arange(up) * down / up
    taps = np.arange(-half, int(phases[-1]) + half + 2)
    kernel = sinc(taps - phases[:, None], half + 0.5, 0.92 * ratio / 2, 9.0)
    kernel /= kernel.sum(1, keepdims=True)
    weight = torch.from_numpy(kernel).float()[:, None].to(x.device)
    size = -(-len(x) * up // down)
    blocks = -(-size // up)
    after = max(0, (blocks - 1) * down + len(taps) - half - len(x))

    def call() -> torch.Tensor:
        padded = pad(x, (half, after))[None, None]
        return conv1d(padded, weight, stride=down)[0, :, :blocks].T.reshape(-1)[:size]

    return call


@bb.implementation(WORKLOAD, "scipy", unavailable=cpu_only)
def scipy_poly(inputs: bb.Inputs) -> bb.Thunk:
    """scipy.signal.resample_poly with its default filter."""
    import torch
    from scipy.signal import resample_poly

    x, made = host(inputs.x), inputs.signal
    return lambda: torch.from_numpy(resample_poly(x, made.up, made.down))


@bb.implementation(WORKLOAD, "scipy-fft", unavailable=cpu_only)
def scipy_fft(inputs: bb.Inputs) -> bb.Thunk:
    """scipy.signal.resample: the spectrum of the whole signal, taken as periodic."""
    import torch
    from scipy.signal import resample

    x, made = host(inputs.x), inputs.signal
    size = -(-len(x) * made.up // made.down)
    return lambda: torch.from_numpy(resample(x, size))


def _soxr(quality: str) -> Callable[[bb.Inputs], bb.Thunk]:
    def build(inputs: bb.Inputs) -> bb.Thunk:
        import soxr
        import torch

        x, made = host(inputs.x), inputs.signal
        return lambda: torch.from_numpy(soxr.resample(x, made.source, made.target, quality=quality))

    return build


def _torchaudio(inputs: bb.Inputs) -> bb.Thunk:
    from torchaudio.transforms import Resample

    made = inputs.signal
    return partial(Resample(made.source, made.target).to(inputs.x.device), inputs.x)


def _julius(inputs: bb.Inputs) -> bb.Thunk:
    from julius import ResampleFrac

    made = inputs.signal
    return partial(ResampleFrac(made.source, made.target).to(inputs.x.device), inputs.x)


def workloads() -> Iterator[bb.Workload]:
    """One, with the pair of rates as an axis."""

    def work(params: bb.Params) -> bb.Work:
        source, target = (int(rate) for rate in str(params["rates"]).split("-"))
        seconds = int(params["seconds"])  # type: ignore[call-overload]
        return bb.Work(
            bytes=4.0 * seconds * (source + target),
            items=float(seconds * source),
            item="sample",
        )

    yield bb.Workload(
        name=WORKLOAD,
        doc="Mono float32 from one rate to another; aliases and images are limited.",
        make=make,
        baseline="torch",
        reference=lambda inputs: inputs.signal,
        tolerance=None,
        check=check,
        metrics=metrics,
        work=work,
        axes={"rates": RATES, "seconds": (3, 30), "device": ("cpu", "cuda")},
        presets={
            "quick": [],
            "standard": {"rates": RATES},
            "full": {"rates": RATES},
            "gpu": {"rates": RATES, "seconds": (1200,), "device": ("cuda",)},
        },
    )


def implementations() -> Iterator[bb.Implementation]:
    """Every contender."""
    yield from (torch_polyphase, scipy_poly, scipy_fft)
    anywhere = partial(needs, on=lambda params: None)
    for name, build, unavailable, doc in (
        ("soxr-hq", _soxr("HQ"), needs("soxr"), "soxr.resample, quality HQ."),
        ("soxr-vhq", _soxr("VHQ"), needs("soxr"), "soxr.resample, quality VHQ."),
        (
            "torchaudio",
            _torchaudio,
            anywhere("torchaudio.transforms"),
            "torchaudio.transforms.Resample with its defaults.",
        ),
        ("julius", _julius, anywhere("julius"), "julius.ResampleFrac with defaults."),
    ):
        yield bb.Implementation(
            workload=WORKLOAD, name=name, build=build, unavailable=unavailable, doc=doc
        )
