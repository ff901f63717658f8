"""Is the randomness right, and how good is the signal? Pure functions over numpy arrays.

Statistical checks return named p-values; :func:`judge` turns them into a reason. They are
two-sided: draws that are too even (a permutation passed off as draws with replacement) are as
wrong as draws that are too uneven.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchbench import Evidence

ALPHA = 1e-4
"""Chance that one check rejects an honest contender, over all tests of that check."""
AUDITS = 1000
"""Timed outputs are audited many times a run, so each audit gets this share of ALPHA."""

ORDER = "successive draws depend"
"""The test of :func:`order_tests`."""

Tests = dict[str, float]


def judge(tests: Mapping[str, float], evidence: Evidence | None = None) -> str | None:
    """Name the worst test when its p-value is below ALPHA, divided by the number of tests.

    The check before timing happens once for each process, on the same draws for the same seed;
    audits of timed outputs see new draws each time and are corrected for their number as well.
    """
    if not tests:
        return None
    name = min(tests, key=lambda key: tests[key])
    limit = ALPHA / len(tests)
    if evidence is not None and evidence.timed:
        limit /= AUDITS
    if tests[name] < limit:
        return f"{name}: p = {tests[name]:.1e}, below {limit:.1e} for {len(tests)} tests"
    return None


def array(output: Any, name: str = "output") -> np.ndarray:
    """The output as a numpy array on the host.

    Raises:
        ValueError: it is neither a tensor nor an array.
    """
    import torch

    if isinstance(output, torch.Tensor):
        return output.detach().cpu().numpy()
    if isinstance(output, np.ndarray):
        return output
    raise ValueError(f"{name} is a {type(output).__name__}, not a tensor")


def two_sided_z(z: float) -> float:
    """p-value of a standard normal statistic."""
    from scipy.special import ndtr

    return float(2 * ndtr(-abs(z)))


def chi_square(observed: np.ndarray, expected: np.ndarray, shrink: float = 1.0) -> float:
    """Two-sided p-value of Pearson's statistic.

    Args:
        observed: counts of each bin.
        expected: expected counts, with the same sum.
        shrink: variance of a count relative to independent draws; ``(N - k) / (N - 1)`` for k
            drawn from N without replacement.
    """
    from scipy.special import chdtr, chdtrc

    filled = expected > 0
    if observed[~filled].any():
        return 0.0
    observed, expected = observed[filled], expected[filled]
    freedom = len(observed) - 1
    if freedom < 1:
        return 1.0
    statistic = float(((observed - expected) ** 2 / expected).sum()) / shrink
    return float(min(1.0, 2 * min(chdtr(freedom, statistic), chdtrc(freedom, statistic))))


def count_tests(counts: np.ndarray, weights: np.ndarray | None = None) -> Tests:
    """Are ``counts`` those of independent draws in proportion to ``weights``?

    Args:
        counts: how often each of k categories was drawn.
        weights: k positive numbers; equal when None.

    Returns:
        p-values: "by position" (runs of neighbours), "by residue" (index modulo 64, where weak
        generators show), "by weight" (categories of like weight) and "distinct" (how many
        categories were drawn at all; normal approximation of the occupancy problem, Johnson and
        Kotz, Urn Models, 1977, section 3.2.3, by its Poissonised form for unequal weights).
    """
    k, n = len(counts), int(counts.sum())
    if k < 2 or n == 0:
        return {}
    p = np.full(k, 1 / k) if weights is None else weights / weights.sum()
    bins = int(min(256, k, max(2, n // 40)))
    edges = np.linspace(0, k, bins, endpoint=False).astype(np.int64)
    residues = min(64, bins)
    residue = np.arange(k) % residues
    tests = {
        "uneven by position": chi_square(
            np.add.reduceat(counts, edges), n * np.add.reduceat(p, edges)
        ),
        "uneven by residue": chi_square(
            np.bincount(residue, counts, residues), n * np.bincount(residue, p, residues)
        ),
    }
    if weights is not None:
        order = np.argsort(weights, kind="stable")
        tests["uneven by weight"] = chi_square(
            np.add.reduceat(counts[order], edges), n * np.add.reduceat(p[order], edges)
        )
    empty = np.exp(n * np.log1p(-p))
    variance = float((empty * (1 - empty)).sum() - n * (p * empty).sum() ** 2)
    if variance > 10:
        z = (np.count_nonzero(counts) - float((1 - empty).sum())) / variance**0.5
        tests["number of distinct draws"] = two_sided_z(z)
    return tests


PARTS = 16
"""Into which :func:`bias` divides the categories."""


def bias(counts: np.ndarray, weights: np.ndarray | None = None) -> str:
    """In words, where the draws are most off: by position, and by weight where there are any.

    Args:
        counts: how often each of k categories was drawn.
        weights: k positive numbers; equal when None.
    """
    k, n = len(counts), int(counts.sum())
    parts = min(PARTS, k)
    p = np.full(k, 1 / k) if weights is None else weights / weights.sum()
    edges = np.linspace(0, k, parts, endpoint=False).astype(np.int64)
    ends = np.append(edges, k)
    seen, expected = np.add.reduceat(counts, edges), n * np.add.reduceat(p, edges)
    at = _worst(seen, expected)
    found = f"categories {ends[at]} to {ends[at + 1] - 1} {_drawn(seen[at], expected[at])}"
    if weights is None or parts < PARTS:
        return found
    limits = np.quantile(weights, np.arange(1, PARTS) / PARTS)
    part = np.searchsorted(limits, weights)
    seen, expected = np.bincount(part, counts, PARTS), n * np.bincount(part, p, PARTS)
    at = _worst(seen, expected)
    ends = np.concatenate([[weights.min()], limits, [weights.max()]])
    drawn = _drawn(seen[at], expected[at])
    return f"{found}, those of weight {ends[at]:.3g} to {ends[at + 1]:.3g} {drawn}"


def _worst(seen: np.ndarray, expected: np.ndarray) -> int:
    return int(np.abs((seen - expected) / np.sqrt(np.maximum(expected, 1e-300))).argmax())


def _drawn(seen: float, expected: float) -> str:
    return f"were drawn {seen:.0f} times, {expected:.0f} are expected"


def order_tests(draws: np.ndarray, p: np.ndarray | None, k: int) -> Tests:
    """Are successive draws independent? Pairs (1st, 2nd), (3rd, 4th), ... in a 16 by 16 table."""
    pairs = len(draws) // 2
    if pairs < 256 * 20 or k < 16:
        return {}
    coarse = draws * 16 // k
    table = np.bincount(coarse[: 2 * pairs : 2] * 16 + coarse[1 : 2 * pairs : 2], minlength=256)
    if p is None:
        share = np.bincount(np.arange(k) * 16 // k, minlength=16) / k
    else:
        share = np.bincount(np.arange(k) * 16 // k, p, 16)
        share /= share.sum()
    return {ORDER: chi_square(table, pairs * np.outer(share, share).ravel())}


def draw_tests(draws: np.ndarray, k: int, weights: np.ndarray | None = None) -> Tests:
    """Tests of independent draws from k categories, in random order."""
    return {
        **count_tests(np.bincount(draws, minlength=k), weights),
        **order_tests(draws, weights, k),
    }


def inclusion_tests(included: np.ndarray) -> Tests:
    """Is a subset (a mask over N) a uniform one, drawn without replacement?"""
    total, kept = len(included), int(included.sum())
    if kept in (0, total) or total < 4:
        return {}
    shrink = (total - kept) / (total - 1)
    bins = int(min(256, max(2, kept // 40), max(2, (total - kept) // 40)))
    edges = np.linspace(0, total, bins, endpoint=False).astype(np.int64)
    sizes = np.diff(np.append(edges, total))
    residue = np.arange(total) % min(64, bins)
    share = kept / total
    mask = included.astype(np.int64)
    return {
        "uneven by position": chi_square(np.add.reduceat(mask, edges), sizes * share, shrink),
        "uneven by residue": chi_square(
            np.bincount(residue, mask), np.bincount(residue) * share, shrink
        ),
    }


def mean_tests(means: np.ndarray, centre: float, error: float) -> Tests:
    """Are bootstrap replicates of a mean where theory puts them?

    Args:
        means: one mean for each replicate.
        centre: mean of the data.
        error: standard error of the mean, ``sqrt(variance with divisor n / n)``.

    Returns:
        p-values: z of their average, chi-square of their spread, Kolmogorov-Smirnov distance to
        the normal law, and 0 for "repeated" when over a tenth of the replicates are copies.
    """
    from scipy.special import chdtr, chdtrc
    from scipy.stats import kstest

    z = (np.asarray(means, np.float64) - centre) / error
    n = len(z)
    spread = float((z**2).sum())
    return {
        "replicates are shifted": two_sided_z(float(z.sum()) / n**0.5),
        "replicates have the wrong spread": float(
            min(1.0, 2 * min(chdtr(n, spread), chdtrc(n, spread)))
        ),
        "replicates are not normal": float(kstest(z, "norm").pvalue),
        "replicates are repeated": 0.0 if len(np.unique(means)) < 0.9 * n else 1.0,
    }


def decibel(ratio: Any) -> Any:
    """``20 log10`` of an amplitude ratio, floored at -200 dB."""
    return 20 * np.log10(np.maximum(ratio, 1e-10))


def psnr(output: np.ndarray, reference: np.ndarray, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in dB, at most 200."""
    error = float(np.mean((output.astype(np.float64) - reference) ** 2))
    return float(-decibel(error**0.5 / peak))


class Seen:
    """Which outputs a case has seen, by content: a sampler must not replay its draws.

    The same draws after the same number of calls are one stream, built twice; after another number
    of calls they are a stream that stands still.
    """

    def __init__(self) -> None:
        self._calls: dict[bytes, int] = {}

    def replayed(self, draws: np.ndarray, calls: int) -> str | None:
        """Why these draws are no new ones, or None."""
        import hashlib

        digest = hashlib.blake2b(np.ascontiguousarray(draws).data, digest_size=16).digest()
        first = self._calls.setdefault(digest, calls)
        if first == calls:
            return None
        return f"call {calls} returned the same draws as call {first}: the stream stands still"
