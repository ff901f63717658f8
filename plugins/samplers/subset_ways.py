"""Contenders of the workloads in ``subsets``: torch, numpy and scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

import benchbench as bb
from benchbench_plugins.samplers.shared import cpu_only, generator, host, needs
from benchbench_plugins.samplers.subsets import (
    MASK,
    PERMUTATION,
    ROWS,
    SUBSET,
    WEIGHTED_SUBSET,
)


@bb.implementation(PERMUTATION, "torch")
def torch_randperm(inputs: bb.Inputs) -> bb.Thunk:
    """torch.randperm."""
    import torch

    n, device, rng = inputs.n, inputs.x.device, generator(inputs)
    return lambda: torch.randperm(n, generator=rng, device=device)


@bb.implementation(PERMUTATION, "torch-argsort")
def torch_argsort(inputs: bb.Inputs) -> bb.Thunk:
    """argsort of float64 uniforms, of which two are equal once in 2^53 pairs."""
    import torch

    n, device, rng = inputs.n, inputs.x.device, generator(inputs)
    return lambda: torch.rand(n, generator=rng, device=device, dtype=torch.float64).argsort()


@bb.implementation(PERMUTATION, "numpy", unavailable=cpu_only)
def numpy_permutation(inputs: bb.Inputs) -> bb.Thunk:
    """Generator.permutation, int64."""
    import torch

    rng, n = np.random.default_rng(inputs.seed), inputs.n
    return lambda: torch.from_numpy(rng.permutation(n))


@bb.implementation(PERMUTATION, "scikit-learn", unavailable=needs("sklearn.utils"))
def sklearn_shuffle(inputs: bb.Inputs) -> bb.Thunk:
    """sklearn.utils.shuffle of the row numbers."""
    import torch
    from sklearn.utils import shuffle

    rows, rng = np.arange(inputs.n), np.random.RandomState(inputs.seed)
    return lambda: torch.from_numpy(shuffle(rows, random_state=rng))


ROUNDS = 6


def feistel(index: np.ndarray, keys: np.ndarray, bits: int) -> np.ndarray:
    """A keyed permutation of 0 to 2^(2 bits) - 1, computed for each index by itself.

    A balanced Feistel network (Luby and Rackoff 1988): each round swaps the halves of the index and
    adds a hash of one to the other, which is undone by the same hash, so no two indices meet. The
    hash is a multiply-shift by odd keys.
    """
    low = np.uint64((1 << bits) - 1)
    left, right = index >> np.uint64(bits), index & low
    for key in keys:
        mixed = (right + key) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        mixed *= key | np.uint64(1)
        left, right = right, left ^ ((mixed >> np.uint64(64 - bits)) & low)
    return left << np.uint64(bits) | right


@bb.implementation(PERMUTATION, "numpy-feistel", unavailable=cpu_only)
def numpy_feistel(inputs: bb.Inputs) -> bb.Thunk:
    """Each index is computed from its position and a key: no table, any part at a time.

    Positions beyond n walk on to the next until they are inside (Black and Rogaway 2002).
    """
    import torch

    n, rng = inputs.n, np.random.default_rng(inputs.seed)
    bits = max(1, (max(1, n - 1).bit_length() + 1) // 2)

    def call() -> torch.Tensor:
        keys = rng.integers(0, 2**64, ROUNDS, dtype=np.uint64)
        found = feistel(np.arange(n, dtype=np.uint64), keys, bits)
        outside = np.flatnonzero(found >= n)
        while len(outside):
            found[outside] = feistel(found[outside], keys, bits)
            outside = outside[found[outside] >= n]
        return torch.from_numpy(found.astype(np.int64))

    return call


@bb.implementation(SUBSET, "torch")
def torch_subset(inputs: bb.Inputs) -> bb.Thunk:
    """torch.randperm, cut off."""
    import torch

    n, k, device, rng = inputs.n, inputs.k, inputs.x.device, generator(inputs)
    return lambda: torch.randperm(n, generator=rng, device=device)[:k]


@bb.implementation(SUBSET, "torch-multinomial")
def torch_multinomial_subset(inputs: bb.Inputs) -> bb.Thunk:
    """torch.multinomial of equal weights without replacement."""
    import torch

    k, rng = inputs.k, generator(inputs)
    ones = torch.ones(inputs.n, dtype=torch.float64, device=inputs.x.device)
    return lambda: torch.multinomial(ones, k, generator=rng)


def _numpy_subset(shuffle: bool) -> Callable[[bb.Inputs], bb.Thunk]:
    def build(inputs: bb.Inputs) -> bb.Thunk:
        import torch

        n, k, rng = inputs.n, inputs.k, np.random.default_rng(inputs.seed)
        return lambda: torch.from_numpy(rng.choice(n, k, replace=False, shuffle=shuffle))

    return build


@bb.implementation(SUBSET, "scikit-learn", unavailable=needs("sklearn.utils.random"))
def sklearn_subset(inputs: bb.Inputs) -> bb.Thunk:
    """sklearn.utils.random.sample_without_replacement, which picks its method by the share."""
    import torch
    from sklearn.utils.random import sample_without_replacement

    n, k, rng = inputs.n, inputs.k, np.random.RandomState(inputs.seed)
    return lambda: torch.from_numpy(sample_without_replacement(n, k, random_state=rng))


@bb.implementation(WEIGHTED_SUBSET, "torch")
def torch_weighted_subset(inputs: bb.Inputs) -> bb.Thunk:
    """torch.multinomial without replacement."""
    import torch

    weights, k, rng = inputs.x, inputs.k, generator(inputs)
    return lambda: torch.multinomial(weights, k, generator=rng)


@bb.implementation(WEIGHTED_SUBSET, "torch-clocks")
def torch_clocks(inputs: bb.Inputs) -> bb.Thunk:
    """An exponential clock for each row, the k that ring first (topk)."""
    import torch

    weights, k, rng = inputs.x, inputs.k, generator(inputs)

    def call() -> torch.Tensor:
        clocks = torch.empty_like(weights).exponential_(generator=rng).div_(weights)
        return clocks.topk(k, largest=False, sorted=False).indices

    return call


@bb.implementation(WEIGHTED_SUBSET, "numpy-clocks", unavailable=cpu_only)
def numpy_clocks(inputs: bb.Inputs) -> bb.Thunk:
    """The same in numpy, with argpartition."""
    import torch

    weights, k, rng = host(inputs.x), inputs.k, np.random.default_rng(inputs.seed)

    def call() -> torch.Tensor:
        clocks = rng.standard_exponential(len(weights)) / weights
        return torch.from_numpy(np.argpartition(clocks, k - 1)[:k])

    return call


@bb.implementation(WEIGHTED_SUBSET, "numpy", unavailable=cpu_only)
def numpy_weighted_subset(inputs: bb.Inputs) -> bb.Thunk:
    """Generator.choice(p=..., replace=False): draws with replacement until k differ."""
    import torch

    weights, k, rng = host(inputs.x), inputs.k, np.random.default_rng(inputs.seed)
    shares = weights / weights.sum()
    return lambda: torch.from_numpy(rng.choice(len(shares), k, replace=False, p=shares))


@bb.implementation(MASK, "torch")
def torch_bernoulli(inputs: bb.Inputs) -> bb.Thunk:
    """Tensor.bernoulli_ into a bool tensor."""
    import torch

    n, p, device, rng = inputs.n, inputs.p, inputs.x.device, generator(inputs)
    return lambda: torch.empty(n, dtype=torch.bool, device=device).bernoulli_(p, generator=rng)


@bb.implementation(MASK, "torch-rand")
def torch_rand(inputs: bb.Inputs) -> bb.Thunk:
    """torch.rand in float32, compared with p."""
    import torch

    n, p, device, rng = inputs.n, inputs.p, inputs.x.device, generator(inputs)
    return lambda: torch.rand(n, generator=rng, device=device) < p


@bb.implementation(MASK, "numpy", unavailable=cpu_only)
def numpy_random(inputs: bb.Inputs) -> bb.Thunk:
    """Generator.random in float32, compared with p."""
    import torch

    n, p, rng = inputs.n, inputs.p, np.random.default_rng(inputs.seed)
    return lambda: torch.from_numpy(rng.random(n, np.float32) < p)


@bb.implementation(MASK, "numpy-gaps", unavailable=cpu_only)
def numpy_gaps(inputs: bb.Inputs) -> bb.Thunk:
    """Geometric gaps from one chosen row to the next: work for the chosen ones only."""
    import torch

    n, p, rng = inputs.n, inputs.p, np.random.default_rng(inputs.seed)
    enough = int(n * p + 10 * (n * p) ** 0.5 + 10)

    def call() -> torch.Tensor:
        mask = np.zeros(n, bool)
        at = -1
        while at < n:
            places = at + np.cumsum(rng.geometric(p, enough))
            mask[places[: places.searchsorted(n)]] = True
            at = int(places[-1])
        return torch.from_numpy(mask)

    return call


@bb.implementation(ROWS, "torch")
def torch_rows(inputs: bb.Inputs) -> bb.Thunk:
    """softmax, then torch.multinomial."""
    import torch

    logits, rng = inputs.x, generator(inputs)
    return lambda: torch.multinomial(logits.softmax(1), 1, generator=rng).squeeze(1)


@bb.implementation(ROWS, "torch-gumbel")
def torch_gumbel(inputs: bb.Inputs) -> bb.Thunk:
    """argmax of the logits plus Gumbel noise; softmax is not needed."""
    import torch

    logits, rng = inputs.x, generator(inputs)

    def call() -> torch.Tensor:
        noise = torch.empty_like(logits).exponential_(generator=rng).log_()
        return (logits - noise).argmax(1)

    return call


@bb.implementation(ROWS, "torch-clocks")
def torch_row_clocks(inputs: bb.Inputs) -> bb.Thunk:
    """argmax of softmax over exponential noise, as serving engines have it."""
    import torch

    logits, rng = inputs.x, generator(inputs)

    def call() -> torch.Tensor:
        noise = torch.empty_like(logits).exponential_(generator=rng)
        return logits.softmax(1).div_(noise).argmax(1)

    return call


@bb.implementation(ROWS, "torch-cumulative")
def torch_cumulative(inputs: bb.Inputs) -> bb.Thunk:
    """Cumulative sums of softmax in float64, one uniform and one search a row."""
    import torch

    logits, rng = inputs.x, generator(inputs)

    def call() -> torch.Tensor:
        total = logits.softmax(1).cumsum(1, dtype=torch.float64)
        points = torch.rand(
            len(logits), 1, generator=rng, dtype=torch.float64, device=logits.device
        )
        found = torch.searchsorted(total, points.mul_(total[:, -1:]), right=True)
        return found.squeeze(1).clamp_(max=logits.shape[1] - 1)

    return call


def implementations() -> Iterator[bb.Implementation]:
    """Every contender."""
    yield from (torch_randperm, torch_argsort, numpy_permutation, sklearn_shuffle, numpy_feistel)
    yield from (torch_subset, torch_multinomial_subset, sklearn_subset)
    for name, shuffle in (("numpy", True), ("numpy-unordered", False)):
        yield bb.Implementation(
            workload=SUBSET,
            name=name,
            build=_numpy_subset(shuffle),
            unavailable=cpu_only,
            doc=f"Generator.choice(replace=False, shuffle={shuffle}).",
        )
    yield from (torch_weighted_subset, torch_clocks, numpy_clocks, numpy_weighted_subset)
    yield from (torch_bernoulli, torch_rand, numpy_random, numpy_gaps)
    yield from (torch_rows, torch_gumbel, torch_row_clocks, torch_cumulative)
