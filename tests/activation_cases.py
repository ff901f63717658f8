"""The activation operators by name: references, inputs, and what each is composed of.

References are written here, in float64 and in forms that do not cancel: torch's own float64 gelu
loses the left tail.
"""

import math

import torch
import torch.nn.functional as F

OPS = torch.ops.benchbench


def gelu_tanh(x):
    x3 = x.clamp(-1e4, 1e4) ** 3  # the sigmoid is 0 or 1 long before
    return x * torch.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x3))


ALONE = {
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": lambda x: x * 0.5 * torch.special.erfc(-x / math.sqrt(2)),
    "gelu_tanh": gelu_tanh,
    "silu": lambda x: x * torch.sigmoid(x),
}
EAGER = {
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
}
BIASED = {"bias_" + name: name for name in ("relu", "gelu", "gelu_tanh", "silu")}
GATED = {"reglu": "relu", "geglu": "gelu", "geglu_tanh": "gelu_tanh", "swiglu": "silu"}
ROWS = {"softmax": torch.softmax, "log_softmax": torch.log_softmax}
ALL = [*ALONE, *BIASED, *GATED, *ROWS]


def operator(name):
    return getattr(OPS, name).default


def arguments(name, shape, dtype, seed=0, grad=False):
    """Inputs of an operator: the main one and, where there is one, the second."""
    torch.manual_seed(seed)
    tensors = [(torch.randn(shape, dtype=torch.float64) * 3).to(dtype)]
    if name in BIASED:
        tensors.append(torch.randn(shape[-1:], dtype=torch.float64).to(dtype))
    elif name in GATED:
        tensors.append(torch.randn(shape, dtype=torch.float64).to(dtype))
    return [t.requires_grad_(grad) for t in tensors]


def compose(name, table):
    """The same function out of single operators of ``table``."""
    if name in ALONE:
        return table[name]
    if name in BIASED:
        return lambda x, b: table[BIASED[name]](x + b)
    if name in GATED:
        return lambda g, u: table[GATED[name]](g) * u
    return lambda x: ROWS[name](x, -1)


def with_grads(function, tensors, dtype=None):
    """Output and gradients for a fixed random output gradient."""
    leaves = [t.detach().to(dtype or t.dtype).requires_grad_() for t in tensors]
    y = function(*leaves)
    torch.manual_seed(7)
    dy = torch.randn(y.shape, dtype=torch.float64).to(tensors[0].dtype).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, leaves, dy)]
