"""Shapes for norms, and how ours are compared with eager and with float64."""

import torch
from kernel_errors import relative

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
ROWS = ((5, 7), (64, 16), (33, 129), (4, 1000), (2, 100_003), (130, 31), (0, 8))
PLANES = (
    (4, 3),
    (5, 16),
    (2, 3, 11),
    (3, 5, 7, 7),
    (2, 33, 9, 13),
    (2, 2, 70, 65),
    (6, 4, 1, 1),
    (2, 3, 2, 5, 3),
    (1, 1, 3, 3),
)


def gradients(function, inputs, grads):
    """Outputs and gradients of ``function`` at ``inputs`` (None and constants allowed)."""
    leaves = [x.detach().requires_grad_(x.requires_grad) if x is not None else None for x in inputs]
    outputs = function(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    wanted = [x for x in leaves if x is not None and x.requires_grad]
    found = torch.autograd.grad(
        outputs, wanted, [g.to(o.dtype) for g, o in zip(grads, outputs, strict=True)]
    )
    return [o.detach() for o in outputs], list(found)


def assert_as_good(ours, eager, truth):
    """Our error is at most eager's, but for a few roundings of the result's dtype.

    Sums over all rows get more: which of two orders errs less is chance for one sum (the mean over
    many is tested by itself).
    """
    assert ours.shape == truth.shape
    assert ours.dtype == eager.dtype
    mine, theirs = relative(ours, truth), relative(eager, truth)
    if ours.dtype == torch.float64:  # the truth is eager's own
        assert mine < 1e-12
    else:
        units = 8 if ours.dim() == 1 else 4
        assert mine <= 1.5 * theirs + units * torch.finfo(ours.dtype).eps, (mine, theirs)


def compare(function, reference, inputs, grads):
    """Outputs and gradients: ours, eager's in the same dtype, and eager's in float64."""
    wide = [None if x is None else x.double() for x in inputs]
    wide = [
        None if w is None else w.detach().requires_grad_(x.requires_grad)
        for w, x in zip(wide, inputs, strict=True)
    ]
    ours = gradients(function, inputs, grads)
    eager = gradients(reference, inputs, grads)
    truth = gradients(reference, wide, [g.double() for g in grads])
    for mine, theirs, true in zip(*(o + g for o, g in (ours, eager, truth)), strict=True):
        assert_as_good(mine, theirs, true)
