"""Samplers: bootstrap statistics, weighted draws, balanced classes, signals at another rate.

Random ones take a ``torch.Generator`` as torch's own functions do (torch's default one when it is
left out), draw one seed from it, and make their numbers from counters (Philox4x32-10): for the same
state of the generator the result is the same with any number of threads, on any processor, and on a
GPU. The generator need not be on the device of the tensors; one of a GPU is waited for, since its
seed is read by the host. Not differentiable: a backward pass through a result raises. A CUDA graph
that has captured one of these functions draws the same again in each replay.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

Statistic = Literal["mean", "var", "std"]


@cache
def _operator(name: str) -> Any:
    import torch

    from benchbench import native

    native.load()  # registers it
    return getattr(torch.ops.benchbench, name).default


def _native() -> Any:
    from benchbench import native

    return native.load()


def _seed(generator: torch.Generator | None) -> int:
    import torch

    place = "cpu" if generator is None else generator.device
    drawn = torch.empty((), dtype=torch.int64, device=place).random_(generator=generator)
    return int(drawn)


def bootstrap(
    x: torch.Tensor,
    replicates: int,
    statistic: Statistic = "mean",
    *,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """A statistic of ``replicates`` bootstrap sets: n rows drawn from n, alike, with replacement.

    No indices are stored. Draws are split over blocks of 8192 rows by exact binomials, so that each
    block stays in the first-level cache (on a GPU: in shared memory) while all replicates draw from
    it. The split is made by the host; for a GPU it is copied there, 4 bytes for each block of each
    replicate.

    Args:
        x: (n,) float32 or float64, on the CPU or a GPU.
        replicates: R.
        statistic: ``mean``, or ``var`` and ``std`` with divisor n.
        generator: of torch.

    Returns:
        (R,) of x's dtype on its device; sums are kept in float64.

    Raises:
        ValueError: there is no such statistic.
        RuntimeError: a shape, a dtype or a number that does not fit; the message says which.
    """
    return _bootstrap(x, replicates, statistic, generator, poisson=False)


def poisson_bootstrap(
    x: torch.Tensor,
    replicates: int,
    statistic: Statistic = "mean",
    *,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """As :func:`bootstrap`, with each row counted Poisson(1) times, independently.

    Made as a Poisson(n) number of rows drawn alike, which is the same law. A set that comes out
    empty (e^-n) gives nan.
    """
    return _bootstrap(x, replicates, statistic, generator, poisson=True)


def _bootstrap(
    x: torch.Tensor,
    replicates: int,
    statistic: Statistic,
    generator: torch.Generator | None,
    *,
    poisson: bool,
) -> torch.Tensor:
    if statistic not in ("mean", "var", "std"):
        raise ValueError(f"bootstrap: statistic is {statistic!r}; it can be mean, var or std")
    squares = statistic != "mean"
    middle = float(x.double().mean()) if squares and x.numel() else 0.0
    sums = _operator("bootstrap_sums")(x, replicates, _seed(generator), poisson, squares, middle)
    mean = sums[:, 1] / sums[:, 0]
    if not squares:
        return mean.to(x.dtype)  # type: ignore[no-any-return]
    variance = (sums[:, 2] / sums[:, 0] - mean**2).clamp_(min=0)
    return (variance if statistic == "var" else variance.sqrt_()).to(x.dtype)  # type: ignore[no-any-return]


def bayesian_bootstrap_mean(
    x: torch.Tensor, replicates: int, *, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Means under Dirichlet(1, ..., 1) weights of the rows (Rubin 1981).

    Args:
        x: (n,) float32 or float64.
        replicates: R.
        generator: of torch.

    Returns:
        (R,) of x's dtype.
    """
    sums = _operator("bayesian_sums")(x, replicates, _seed(generator))
    return (sums[:, 1] / sums[:, 0]).to(x.dtype)  # type: ignore[no-any-return]


def draw(
    n: int,
    count: int,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """``count`` numbers below ``n``, alike, as int64: ``torch.randint(n, (count,))``.

    Args:
        n: from 1 to 2^63 - 1.
        count: how many.
        generator: of torch.
        device: where they are made and stay; the same numbers on each.
    """
    import torch

    place = torch.device(device)
    return _operator("draw_uniform")(n, count, _seed(generator), device=place)  # type: ignore[no-any-return]


class AliasTable:
    """Weighted draws with replacement, each by one look-up, whatever the weights.

    Args:
        weights: (n,) float32 or float64, not negative, not all zero; they need not add up to 1.
            Summed in float64. Shares are kept to 2^-32 of a column. The table is made by the
            host: weights on a GPU are copied to it and the table, 8 bytes for each, back.
    """

    def __init__(self, weights: torch.Tensor) -> None:
        self._table = _operator("alias_table")(weights.detach())

    def __len__(self) -> int:
        return int(self._table.shape[0])

    def draw(self, count: int, *, generator: torch.Generator | None = None) -> torch.Tensor:
        """``count`` categories as int64, in random order, on the weights' device."""
        return _operator("draw_alias")(self._table, count, _seed(generator))  # type: ignore[no-any-return]


class AliasSampler:
    """For a DataLoader: ``WeightedRandomSampler`` with replacement, on an alias table.

    Args:
        weights: one for each item of the dataset.
        num_samples: draws in an epoch.
        generator: of torch.
    """

    def __init__(
        self,
        weights: torch.Tensor,
        num_samples: int,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        if num_samples <= 0:
            raise ValueError(f"AliasSampler: num_samples is {num_samples}; it must be positive")
        self._table = AliasTable(weights)
        self._count = num_samples
        self._generator = generator

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return iter(self._table.draw(self._count, generator=self._generator).tolist())


def take_rows(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """``x[index]`` for rows: (n, ...) and int64 (m,) give (m, ...), on the device of both.

    Raises:
        RuntimeError: a shape, a dtype or a device that does not fit, or an index that is no row; on
            a GPU such an index fails an assertion there, as it does in torch's own indexing.
    """
    return _operator("take_rows")(x, index)  # type: ignore[no-any-return]


def oversample(
    x: torch.Tensor, labels: torch.Tensor, *, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """All rows, and more of the small classes until all are as large as the largest.

    On a GPU the labels, 8 bytes a row, go to the host, which chooses the rows, and the chosen rows'
    numbers come back; the rows themselves stay.

    Args:
        x: (n, ...).
        labels: (n,) int64, classes numbered from 0.
        generator: of torch.

    Returns:
        Rows and labels; the original ones first.
    """
    return _balanced("oversample", x, labels, generator)


def undersample(
    x: torch.Tensor, labels: torch.Tensor, *, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """As many rows of each class as the smallest has, without replacement.

    Arguments and results are those of :func:`oversample`.
    """
    return _balanced("undersample", x, labels, generator)


def _balanced(
    name: str, x: torch.Tensor, labels: torch.Tensor, generator: torch.Generator | None
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    function = getattr(_native(), name)
    if x.is_cpu:
        return function(x, labels, _seed(generator))  # type: ignore[no-any-return]
    if labels.device != x.device:
        raise RuntimeError(
            f"{name}: labels are on {labels.device} but the input is on {x.device}; "
            "move one of them with .to()"
        )
    numbers = torch.arange(len(x))  # one for each label, or the function says what is wrong
    rows, chosen = function(numbers, labels.cpu(), _seed(generator))
    return take_rows(x, rows.to(x.device)), chosen.to(x.device)


ATTENUATION = 130.0
"""dB of the stopband of :func:`resample`."""
ZEROS, ROLLOFF = 48, 0.945
"""Zero crossings of the filter on each side, and its middle as a share of the lower Nyquist
frequency: the passband ends at 0.86 of it, the stopband begins at 1.03."""


def resample(x: torch.Tensor, before: int, after: int) -> torch.Tensor:
    """A signal at another sampling rate, by a Kaiser-windowed sinc in polyphase form.

    Aliases are at most -120 dB. The signal is zero beyond its ends.

    Args:
        x: (..., length) float32.
        before: its rate.
        after: the rate wanted, in the same unit; whole numbers.

    Returns:
        (..., ceil(length * after / before)).

    Raises:
        ValueError: a rate is not positive.
    """
    if before <= 0 or after <= 0:
        raise ValueError(f"resample: rates are {before} and {after}; they must be positive")
    common = math.gcd(before, after)
    up, down = after // common, before // common
    if up == down:
        return x.clone()
    taps, ahead = _taps(up, down, x.device)
    return _operator("resample")(x, taps, up, down, ahead)  # type: ignore[no-any-return]


@lru_cache(maxsize=32)
def _taps(up: int, down: int, device: torch.device) -> tuple[torch.Tensor, int]:
    """Filter of each phase, (up, width) float32, and how far ahead of an output it begins.

    Oppenheim and Schafer: Discrete-Time Signal Processing, 7.6 (Kaiser's window and its beta).
    """
    import torch

    cutoff = ROLLOFF * min(1.0, up / down)  # of the input's Nyquist frequency
    half = ZEROS / cutoff  # in input samples
    reach = math.floor(half)
    width = 2 * reach + 2
    padded = -(-width // 16) * 16
    beta = 0.1102 * (ATTENUATION - 8.7)
    fraction = torch.arange(up, dtype=torch.float64)[:, None] / up
    at = torch.arange(padded, dtype=torch.float64)[None, :] - reach - fraction
    inside = (1 - (at / half) ** 2).clamp(min=0)
    window = torch.special.i0(beta * inside.sqrt()) / torch.special.i0(
        torch.tensor(beta, dtype=torch.float64)
    )
    taps = torch.where(at.abs() <= half, cutoff * torch.sinc(cutoff * at) * window, 0.0)
    taps /= taps.sum(1, keepdim=True)  # a constant stays what it is
    return taps.float().contiguous().to(device), reach
