"""Is it right, and is it worth having?"""

import pytest
import torch
from softclip import softclip, softclip_plain


def make(seed):
    """One tensor of normal numbers: the argument of both functions."""
    return torch.randn(1 << 18, generator=torch.Generator().manual_seed(seed))


def test_it_limits():
    x = torch.linspace(-100, 100, 1001)
    assert softclip(x).abs().max() <= 1


@pytest.mark.benchbench(margin=0.03)
def test_it_is_not_slower_than_the_plain_way(benchbench):
    benchbench.compare(softclip, softclip_plain, inputs=make).assert_not_slower()
