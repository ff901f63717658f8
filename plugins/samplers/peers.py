"""polars and tsbootstrap beside the others: series, draws of rows, blocks and bootstrap means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np

import benchbench as bb
from benchbench_plugins._common import optional
from benchbench_plugins.samplers.blocks import BLOCKS
from benchbench_plugins.samplers.bootstrap import IID
from benchbench_plugins.samplers.index import UNIFORM
from benchbench_plugins.samplers.series import FORWARD, LINEAR, MEAN, OHLC, SECONDS
from benchbench_plugins.samplers.shared import cpu_only, host, needs
from benchbench_plugins.samplers.subsets import PERMUTATION, SUBSET

START = datetime(2000, 1, 1)


def _frame(inputs: bb.Inputs, step: timedelta) -> Callable[[], Any]:
    """A frame of the values in ``x`` and timestamps, which are made beforehand, in ``time``."""
    import polars

    x = host(inputs.x)
    end = START + step * (len(x) - 1)
    times = polars.datetime_range(START, end, step, eager=True).alias("time").set_sorted()
    return lambda: polars.DataFrame([times, polars.Series("x", x)])


def _minutes(inputs: bb.Inputs, columns: Callable[[Any], list[Any]]) -> bb.Thunk:
    import polars
    import torch

    frame, wanted = _frame(inputs, timedelta(seconds=1)), columns(polars.col("x"))

    def call() -> torch.Tensor:
        groups = frame().group_by_dynamic("time", every=timedelta(seconds=SECONDS))
        found = groups.agg(wanted).drop("time").to_numpy()
        return torch.from_numpy(np.array(found, np.float32, order="C"))

    return call


def polars_mean(inputs: bb.Inputs) -> bb.Thunk:
    """DataFrame.group_by_dynamic of timestamps, then the mean."""
    call = _minutes(inputs, lambda x: [x.mean()])
    return lambda: call()[:, 0]


def polars_ohlc(inputs: bb.Inputs) -> bb.Thunk:
    """DataFrame.group_by_dynamic of timestamps, then first, max, min and last."""
    return _minutes(
        inputs,
        lambda x: [
            x.first().alias("open"),
            x.max().alias("high"),
            x.min().alias("low"),
            x.last().alias("close"),
        ],
    )


def polars_forward_fill(inputs: bb.Inputs) -> bb.Thunk:
    """DataFrame.upsample of timestamps, then forward_fill."""
    import polars
    import torch

    frame = _frame(inputs, timedelta(seconds=SECONDS))

    def call() -> torch.Tensor:
        seconds = frame().upsample("time", every="1s").select(polars.col("x").forward_fill())
        values = seconds.to_series().to_numpy()
        # It ends at the last minute, whose seconds are still to come.
        return torch.from_numpy(np.concatenate([values, np.repeat(values[-1:], SECONDS - 1)]))

    return call


def polars_linear(inputs: bb.Inputs) -> bb.Thunk:
    """DataFrame.upsample of timestamps, then interpolate."""
    import polars
    import torch

    frame = _frame(inputs, timedelta(seconds=SECONDS))

    def call() -> torch.Tensor:
        seconds = frame().upsample("time", every="1s").select(polars.col("x").interpolate())
        return torch.from_numpy(np.array(seconds.to_series().to_numpy(), np.float32))

    return call


def _drawn(
    inputs: bb.Inputs, count: int, draw: Callable[[Any, int, int], Any]
) -> Callable[[], Any]:
    """Draws from the numbers of n rows; each call has a seed of its own."""
    import polars
    import torch

    rows = polars.int_range(inputs.n, eager=True)
    seeds = np.random.default_rng(inputs.seed)
    return lambda: torch.from_numpy(
        np.array(draw(rows, count, int(seeds.integers(1 << 62))).to_numpy())
    )


def polars_bootstrap(inputs: bb.Inputs) -> bb.Thunk:
    """Series.sample with replacement."""
    return _drawn(
        inputs, inputs.n, lambda rows, n, seed: rows.sample(n, with_replacement=True, seed=seed)
    )


def polars_subset(inputs: bb.Inputs) -> bb.Thunk:
    """Series.sample without replacement."""
    return _drawn(inputs, inputs.k, lambda rows, k, seed: rows.sample(k, seed=seed))


def polars_permutation(inputs: bb.Inputs) -> bb.Thunk:
    """Series.shuffle."""
    return _drawn(inputs, inputs.n, lambda rows, n, seed: rows.shuffle(seed))


def tsbootstrap_blocks(inputs: bb.Inputs) -> bb.Thunk:
    """tsbootstrap.bootstrap by MovingBlock, CircularBlock or StationaryBlock, indices only."""
    import torch
    import tsbootstrap as ts

    method = {
        "moving": lambda: ts.MovingBlock(block_length=inputs.block),
        "circular": lambda: ts.CircularBlock(block_length=inputs.block),
        "stationary": lambda: ts.StationaryBlock(avg_block_length=inputs.block),
    }[inputs.kind]()
    series, seeds = np.zeros(inputs.n), np.random.default_rng(inputs.seed)

    def call() -> torch.Tensor:
        found = ts.bootstrap(
            series, method=method, n_bootstraps=inputs.replicates, random_state=_seed(seeds)
        )
        return torch.from_numpy(found.indices().astype(np.int64))

    return call


def tsbootstrap_mean(inputs: bb.Inputs) -> bb.Thunk:
    """tsbootstrap.bootstrap_reduce by IID, the mean of each replicate."""
    import torch
    import tsbootstrap as ts

    x, seeds, method = host(inputs.x), np.random.default_rng(inputs.seed), ts.IID()

    def mean(values: np.ndarray, indices: Any) -> float:
        return float(values.mean())

    def call() -> torch.Tensor:
        found = ts.bootstrap_reduce(
            x,
            method=method,
            statistic=mean,
            n_bootstraps=inputs.replicates,
            random_state=_seed(seeds),
        )
        return torch.from_numpy(np.asarray(found.statistics, np.float64).reshape(-1))

    return call


def _seed(seeds: np.random.Generator) -> int:
    return int(seeds.integers(1 << 31))


def no_tsbootstrap(params: bb.Params) -> str | None:
    """Why tsbootstrap cannot run, or None: its functions are of version 0.3 and later."""
    reason = needs("tsbootstrap")(params)
    if reason is not None:
        return str(reason)
    if not hasattr(optional("tsbootstrap")[0], "bootstrap_reduce"):
        return "this tsbootstrap has no bootstrap_reduce: pip install --upgrade tsbootstrap"
    return None


def workloads() -> Iterator[bb.Workload]:
    """None of its own."""
    return iter(())


def implementations() -> Iterator[bb.Implementation]:
    """Every contender."""
    for workload, name, build in (
        (MEAN, "polars", polars_mean),
        (OHLC, "polars", polars_ohlc),
        (FORWARD, "polars", polars_forward_fill),
        (LINEAR, "polars", polars_linear),
        (UNIFORM, "polars", polars_bootstrap),
        (SUBSET, "polars", polars_subset),
        (PERMUTATION, "polars", polars_permutation),
        (BLOCKS, "tsbootstrap", tsbootstrap_blocks),
        (IID, "tsbootstrap", tsbootstrap_mean),
    ):
        yield bb.Implementation(
            workload=workload,
            name=name,
            build=build,
            unavailable=no_tsbootstrap if name == "tsbootstrap" else needs("polars", on=cpu_only),
            doc=(build.__doc__ or "").strip(),
        )
