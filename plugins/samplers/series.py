"""Time series: seconds to minutes (mean, and open-high-low-close), and minutes back to seconds.

These are equalities: every contender has to give the float64 reference's values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import benchbench as bb
from benchbench_plugins.samplers.shared import cpu_only, host, needs

MEAN, OHLC = "samplers/series-mean", "samplers/series-ohlc"
FORWARD, LINEAR = "samplers/series-forward-fill", "samplers/series-linear"
SECONDS = 60
"""Of a minute."""


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """A random walk ``x`` (points,) in float32: whole minutes of seconds, or minutes."""
    import torch

    rng = torch.Generator().manual_seed(seed)
    steps = torch.randn(int(params["points"]), generator=rng, dtype=torch.float64)  # type: ignore[call-overload]
    x = steps.cumsum(0).div_(100).add_(100).float()
    return bb.Inputs({"x": x.to(str(params["device"]))})


def _minutes(x: Any) -> Any:
    return x.reshape(-1, SECONDS)


def mean(x: Any) -> Any:
    """Mean of each minute (points / 60,)."""
    return _minutes(x).mean(1)


def ohlc(x: Any) -> Any:
    """First, largest, smallest and last of each minute (points / 60, 4)."""
    import torch

    m = _minutes(x)
    return torch.stack([m[:, 0], m.amax(1), m.amin(1), m[:, -1]], 1)


def forward_fill(x: Any) -> Any:
    """Each minute's value for its 60 seconds (60 points,)."""
    return x.repeat_interleave(SECONDS)


def linear(x: Any) -> Any:
    """Straight lines between minutes (60 (points - 1) + 1,)."""
    import torch

    share = torch.arange(SECONDS, dtype=x.dtype, device=x.device) / SECONDS
    lines = torch.lerp(x[:-1, None], x[1:, None], share)
    return torch.cat([lines.reshape(-1), x[-1:]])


def _torch(function: Callable[[Any], Any]) -> Callable[[bb.Inputs], bb.Thunk]:
    return lambda inputs: inputs.thunk(function)


def mean_by_pooling(x: Any) -> Any:
    """avg_pool1d with a window of 60."""
    import torch

    return torch.nn.functional.avg_pool1d(x[None], SECONDS)[0]


def mean_by_product(x: Any) -> Any:
    """A product with 60 times 1/60."""
    return _minutes(x) @ x.new_full((SECONDS,), 1 / SECONDS)


def ohlc_by_aminmax(x: Any) -> Any:
    """aminmax in one pass."""
    import torch

    m = _minutes(x)
    low, high = m.aminmax(dim=1)
    return torch.stack([m[:, 0], high, low, m[:, -1]], 1)


def fill_by_expand(x: Any) -> Any:
    """expand, then a contiguous copy."""
    return x[:, None].expand(-1, SECONDS).reshape(-1)


def linear_by_steps(x: Any) -> Any:
    """Differences times shares, added to the left value."""
    import torch

    share = torch.arange(SECONDS, dtype=x.dtype, device=x.device) / SECONDS
    left = x[:-1, None]
    return torch.cat([(left + (x[1:, None] - left) * share).reshape(-1), x[-1:]])


def _numpy(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[bb.Inputs], bb.Thunk]:
    def build(inputs: bb.Inputs) -> bb.Thunk:
        import torch

        x = host(inputs.x)
        return lambda: torch.from_numpy(function(x))

    return build


def _numpy_ohlc(x: np.ndarray) -> np.ndarray:
    m = x.reshape(-1, SECONDS)
    return np.stack([m[:, 0], m.max(1), m.min(1), m[:, -1]], 1)


def _numpy_interp(x: np.ndarray) -> np.ndarray:
    at = np.arange(SECONDS * (len(x) - 1) + 1)
    return np.interp(at, np.arange(len(x)) * SECONDS, x).astype(x.dtype)


def _pandas(how: str) -> Callable[[bb.Inputs], bb.Thunk]:
    """Series.resample on an index of timestamps, which is made beforehand; the values are not."""

    def build(inputs: bb.Inputs) -> bb.Thunk:
        import pandas
        import torch

        step = "min" if how in ("ffill", "interpolate") else "s"
        index = pandas.date_range("2000-01-01", periods=len(inputs.x), freq=step)
        x = host(inputs.x)

        def call() -> torch.Tensor:
            series = pandas.Series(x, index=index, copy=False)
            resampler = series.resample("s" if step == "min" else "min")
            found = getattr(resampler, how)()
            values = found.to_numpy(np.float32, copy=True)  # else it may be read-only
            if how == "ffill":  # it ends at the last minute, whose seconds are still to come
                values = np.concatenate([values, np.repeat(values[-1:], SECONDS - 1)])
            return torch.from_numpy(np.ascontiguousarray(values))

        return call

    return build


def workloads() -> Iterator[bb.Workload]:
    """Down by mean and by ohlc, up by the last value and by lines."""
    few, many = (60_000, 600_000), (9_999_960, 600_000)
    for name, function, points, bytes_each, doc in (
        (MEAN, mean, many, 4 + 4 / SECONDS, "Means of minutes from seconds."),
        (OHLC, ohlc, many, 4 + 16 / SECONDS, "Open, high, low, close of minutes from seconds."),
        (FORWARD, forward_fill, few, 4 + 4.0 * SECONDS, "Seconds from minutes: the last value."),
        (LINEAR, linear, few, 4 + 4.0 * SECONDS, "Seconds from minutes: straight lines."),
    ):
        on_gpu = 3_000_000 if points is few else 99_999_960
        yield bb.Workload(
            name=name,
            doc=doc,
            make=make,
            baseline="torch",
            reference=_reference(function),
            work=_work(bytes_each),
            axes={"points": points, "device": ("cpu", "cuda")},
            presets={
                "quick": [],
                "standard": {},
                "full": {"points": points},
                "gpu": {"points": (on_gpu,), "device": ("cuda",)},
            },
        )


def _reference(function: Callable[[Any], Any]) -> Callable[[bb.Inputs], Any]:
    return lambda inputs: function(inputs.x.double())


def _work(bytes_each: float) -> Callable[[bb.Params], bb.Work]:
    def work(params: bb.Params) -> bb.Work:
        points = float(int(params["points"]))  # type: ignore[call-overload]
        return bb.Work(bytes=bytes_each * points, items=points, item="point")

    return work


def implementations() -> Iterator[bb.Implementation]:
    """torch, numpy and pandas."""
    for workload, functions in (
        (MEAN, {"torch": mean, "torch-pool": mean_by_pooling, "torch-product": mean_by_product}),
        (OHLC, {"torch": ohlc, "torch-aminmax": ohlc_by_aminmax}),
        (FORWARD, {"torch": forward_fill, "torch-expand": fill_by_expand}),
        (LINEAR, {"torch": linear, "torch-steps": linear_by_steps}),
    ):
        for name, function in functions.items():
            yield bb.Implementation(
                workload=workload,
                name=name,
                build=_torch(function),
                doc=(function.__doc__ or "").strip(),
            )
    arrays: tuple[tuple[str, str, Callable[[np.ndarray], np.ndarray], str], ...] = (
        (MEAN, "numpy", lambda x: x.reshape(-1, SECONDS).mean(1), "reshape and mean."),
        (OHLC, "numpy", _numpy_ohlc, "reshape, max and min."),
        (FORWARD, "numpy", lambda x: np.repeat(x, SECONDS), "numpy.repeat."),
        (LINEAR, "numpy", _numpy_interp, "numpy.interp, which works in float64."),
    )
    for workload, name, array_function, doc in arrays:
        yield bb.Implementation(
            workload=workload,
            name=name,
            build=_numpy(array_function),
            unavailable=cpu_only,
            doc=doc,
        )
    for workload, how in (
        (MEAN, "mean"),
        (OHLC, "ohlc"),
        (FORWARD, "ffill"),
        (LINEAR, "interpolate"),
    ):
        yield bb.Implementation(
            workload=workload,
            name="pandas",
            build=_pandas(how),
            unavailable=needs("pandas"),
            doc=f"pandas.Series.resample().{how}() on timestamps.",
        )
