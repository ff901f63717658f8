"""Which tier of an engine a shape reaches, seen from how the executor was asked to start it.

The values of each tier are checked where its engine is tested; here it is seen that the shapes
there reach what docs/kernels.md says, clusters of four and of eight too, and that lengths around
each bound fall on its two sides.
"""

from __future__ import annotations

import sys

import cuda_cases
import pytest
import test_cuda_batch_norm as batch
import test_cuda_group_norm as group
import test_cuda_rows as rows
import test_cuda_rows_backward as backward
import torch
from cuda_cases import TYPES, WIDTHS, close, random, real

from benchbench.native_recipe import compiler

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None or sys.platform == "win32", reason="no C++ compiler"),
]


@pytest.fixture(scope="module")
def kernels(pytestconfig):
    return cuda_cases.load(pytestconfig.cache.mkdir("host_kernels"))


def tier(launch, count):
    """A launch's tier, for ``count`` rows, which are more than a block of lanes has."""
    if launch.cooperative:
        return "grid"
    if launch.cluster > 1:
        return f"cluster of {launch.cluster}"
    lanes = {-(-count // (256 // lanes)): f"lanes{lanes}" for lanes in (8, 32)}
    return "block" if launch.blocks >= count else lanes[launch.blocks]


COUNT = 33  # rows: 2 blocks of 32 teams of 8 lanes, 5 of 8 warps


def softmax(kernels, dtype, columns, count=COUNT):
    x = kernels.copy(random(count, columns, dtype=dtype) * 4)
    y = kernels.aligned(x.shape, dtype)
    between = kernels.workspace(dtype, count, columns)
    kernels("softmax", TYPES[dtype], False, x, y, between, count, columns)
    found = tier(kernels.executor.launched(), count)
    close(y, torch.softmax(x.double(), 1), 100, floor=0.1)
    return found


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_bounds_between_the_tiers_of_rows(kernels, dtype):
    w = WIDTHS[dtype]
    bounds = {32 * w: ("lanes8", "lanes32"), 128 * w: ("lanes32", "block")}
    for most, names in bounds.items():
        assert tuple(softmax(kernels, dtype, n) for n in (most, most + w)) == names
        assert tuple(softmax(kernels, dtype, n) for n in (most - 1, most + 1)) == names


def test_clusters_of_every_size_and_the_grid(kernels):
    """In float64, whose rows are the shortest of each tier, whole vectors and odd."""
    dtype = torch.float64
    found = {n: softmax(kernels, dtype, n, 2) for n in (2048, 2050, 4096, 4098, 8192, 8194, 16386)}
    assert found == {
        2048: "block",
        2050: "cluster of 2",
        4096: "cluster of 2",
        4098: "cluster of 4",
        8192: "cluster of 4",
        8194: "cluster of 8",
        16386: "grid",
    }
    odd = {softmax(kernels, dtype, n, 2) for n in (1001, 4001, 8001, 12_001, 40_001)}
    assert odd == {"block", "cluster of 2", "cluster of 4", "cluster of 8", "grid"}
    kernels.device(major=8)  # which has no clusters
    assert softmax(kernels, dtype, 8_194, 2) == "grid"
    kernels.device()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_lengths_of_the_norms_reach_their_tiers(kernels, dtype):
    for name, columns in rows.lengths(dtype).items():
        count = 2 if columns > 2000 else COUNT
        x = kernels.copy(random(count, columns, dtype=dtype))
        rows.run_norm(kernels, x)
        expected = {"one": "lanes8", "few": "lanes8", "cluster odd": "cluster"}.get(
            name, name.removesuffix(" odd").removesuffix(" of several warps").removesuffix(" of 2")
        )
        assert tier(kernels.executor.launched(), count).startswith(expected), name


def test_norms_in_clusters_of_four_and_eight(kernels):
    dtype = torch.float64
    for columns, expected in ((5000, "cluster of 4"), (12_000, "cluster of 8")):
        x = kernels.copy(random(2, columns, dtype=dtype, mean=0.5))
        w, b = (kernels.copy(random(columns, dtype=dtype, seed=s)) for s in (1, 2))
        y, _, _, rstd = rows.run_norm(kernels, x, None, w, b)
        assert tier(kernels.executor.launched(), 2) == expected
        truth = rows.norm_truth(x, None, w, b, False)
        close(y, truth[0], 64)
        close(rstd, truth[3], 64)
        dy = kernels.copy(random(2, columns, dtype=dtype, seed=3))
        found = backward.run(kernels, x, w, dy)
        launch = kernels.executor.launched(1)
        assert launch.cooperative or launch.cluster in (4, 8)
        for ours, theirs in zip(found, backward.truth(x, w, dy, None, False), strict=True):
            close(ours, theirs, 400)


def test_the_backward_engine_reaches_its_tiers(kernels):
    dtype, reached = torch.float64, set()
    w = WIDTHS[dtype]
    # lanes: few blocks for many rows; beyond: a block or a cluster for each group of rows.
    for columns in (30 * w, 100 * w, 300 * w, 1100 * w, 2200 * w, 4200 * w, 9000 * w):
        x, dy = (kernels.copy(random(3, columns, dtype=dtype, seed=s)) for s in (1, 2))
        backward.run(kernels, x, kernels.copy(random(columns, dtype=real(dtype), seed=3)), dy)
        launch, second = kernels.executor.launched(1), kernels.executor.launched()
        assert launch.name == "norm_rows_backward" and second.name != launch.name
        reached.add("grid" if launch.cooperative else launch.cluster)
    assert reached == {1, 2, 4, 8, "grid"}


def test_groups_and_channels_reach_blocks_and_clusters(kernels):
    dtype = torch.float32
    found = {}
    for name, shape in group.SHAPES.items():
        problem = group.Problem(kernels, shape, dtype, "planes")
        problem.forward()
        found[name] = [tier(kernels.executor.launched(), shape[0] * shape[2])]
        batch_, channels, _, area = shape
        problem.backward(random(batch_, channels, area, dtype=dtype, seed=9))
        found[name].append(kernels.executor.launched(1).cluster)
    forwards = {names[0] for names in found.values()}
    assert {"lanes8", "lanes32", "block"} <= forwards, found
    assert any(name.startswith("cluster") for name in forwards), found
    backwards = {names[1] for names in found.values()}
    assert 1 in backwards and max(backwards) > 1, found


def test_batch_norm_reaches_clusters_and_the_grid(kernels):
    kernels.device(processors=64)
    found = set()
    for shape in ((2, 3, 49), (4, 2, 3000), (8, 1, 9000)):
        for layout in batch.LAYOUTS:
            batch.Problem(kernels, shape, torch.float32, layout, "relu").forward()
            launch = kernels.executor.launched()
            found.add((layout, "grid" if launch.cooperative else launch.cluster))
    kernels.device()
    assert ("pixels", "grid") in found
    assert {size for layout, size in found if layout == "planes"} >= {1, 8}
