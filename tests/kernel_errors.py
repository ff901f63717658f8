"""What tests of kernels share: inputs, errors against float64, output and gradients in one call."""

import torch


def random(*shape, dtype=torch.float32, seed=0, scale=1.0, mean=0.0, grad=False):
    """Normal numbers, the same in every dtype but for its rounding."""
    generator = torch.Generator().manual_seed(seed + sum(shape))
    values = torch.randn(shape, generator=generator, dtype=torch.float64) * scale + mean
    return values.to(dtype).requires_grad_(grad)


def ulps(value, reference, floor=0.0):
    """Errors in units in the last place of ``value``'s dtype at the reference, or at ``floor``."""
    info = torch.finfo(value.dtype)
    scale = reference.abs().clamp(min=max(floor, info.tiny))
    return (value.double() - reference).abs() / (torch.exp2(torch.log2(scale).floor()) * info.eps)


def relative(value, reference):
    """Largest error relative to the value and to the root mean square of all."""
    if reference.numel() == 0:
        return 0.0
    scale = reference.abs() + reference.square().mean().sqrt() + 1e-30
    return float(((value.double() - reference) / scale).abs().max())


def with_gradients(function, tensors, cotangent, dtype=None):
    """Output and gradients, of all ``tensors`` in ``dtype``; layouts stay."""
    leaves = [t.detach().to(dtype or t.dtype).requires_grad_() for t in tensors]
    y = function(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, cotangent.to(y.dtype))]


def dense_layouts(x):
    """The same values as planes and as channels last."""
    yield x
    if x.dim() == 3:
        yield x.transpose(1, 2).contiguous().transpose(1, 2)
    if x.dim() in (4, 5):
        last = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
        yield x.contiguous(memory_format=last)


def layouts(x):
    """Those, and with gaps."""
    yield from dense_layouts(x)
    if x.numel():
        yield x.repeat_interleave(2, dim=-1)[..., ::2]


def assert_all_equal(found, expected):
    """Two lists of tensors, to the last bit."""
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
