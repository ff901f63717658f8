"""The operations of the project."""

import torch

TERMS = 20


def exponential(x):
    """e to the power of the input, by its series: cheap to make 5 % dearer, with another term."""
    y = torch.ones_like(x)
    for term in range(TERMS, 0, -1):
        y = torch.addcmul(torch.ones_like(x), x, y, value=1.0 / term)
    return y
