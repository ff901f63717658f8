"""Pairs of a module of torch.nn and ours: their arguments and an input's shape."""

import torch
from torch import nn

from benchbench.fused import modules


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


PAIRS = (
    (nn.LayerNorm, modules.LayerNorm, {"normalized_shape": 12}, (5, 12)),
    (nn.LayerNorm, modules.LayerNorm, {"normalized_shape": (3, 4), "bias": False}, (5, 3, 4)),
    (nn.LayerNorm, modules.LayerNorm, {"normalized_shape": 12, "elementwise_affine": False}, (12,)),
    (nn.RMSNorm, modules.RMSNorm, {"normalized_shape": 12}, (2, 5, 12)),
    (nn.RMSNorm, modules.RMSNorm, {"normalized_shape": [12], "eps": 1e-4}, (5, 12)),
    (nn.BatchNorm1d, modules.BatchNorm1d, {"num_features": 6}, (5, 6)),
    (nn.BatchNorm1d, modules.BatchNorm1d, {"num_features": 6, "affine": False}, (5, 6, 4)),
    (nn.BatchNorm2d, modules.BatchNorm2d, {"num_features": 6}, (5, 6, 4, 3)),
    (nn.BatchNorm2d, modules.BatchNorm2d, {"num_features": 6, "momentum": None}, (5, 6, 4, 3)),
    (
        nn.BatchNorm2d,
        modules.BatchNorm2d,
        {"num_features": 6, "track_running_stats": False},
        (5, 6, 4, 3),
    ),
    (nn.BatchNorm3d, modules.BatchNorm3d, {"num_features": 6, "eps": 1e-2}, (2, 6, 4, 3, 2)),
    (nn.GELU, modules.GELU, {"approximate": "tanh"}, (5, 12)),
    (nn.SiLU, modules.SiLU, {}, (5, 12)),
    (nn.Tanh, modules.Tanh, {}, (5, 12)),
    (nn.Sigmoid, modules.Sigmoid, {}, (5, 12)),
    (nn.Softmax, modules.Softmax, {"dim": 1}, (5, 12, 3)),
    (nn.Softplus, modules.Softplus, {}, (5, 12)),
    (nn.Softplus, modules.Softplus, {"beta": 2.0, "threshold": 3.0}, (5, 12)),
    (nn.LogSigmoid, modules.LogSigmoid, {}, (5, 12)),
    (nn.ELU, modules.ELU, {}, (5, 12)),
    (nn.ELU, modules.ELU, {"alpha": 0.5}, (5, 12)),
    (nn.SELU, modules.SELU, {}, (5, 12)),
    (nn.Mish, modules.Mish, {}, (5, 12)),
    (nn.Hardswish, modules.Hardswish, {}, (5, 12)),
    (nn.LeakyReLU, modules.LeakyReLU, {"negative_slope": 0.2}, (5, 12)),
    (nn.PReLU, modules.PReLU, {}, (5, 12)),
    (nn.PReLU, modules.PReLU, {"num_parameters": 6}, (5, 6, 4, 3)),
    (nn.GroupNorm, modules.GroupNorm, {"num_groups": 3, "num_channels": 6}, (5, 6, 4, 3)),
    (
        nn.GroupNorm,
        modules.GroupNorm,
        {"num_groups": 2, "num_channels": 6, "affine": False, "eps": 1e-3},
        (5, 6, 4),
    ),
    (nn.InstanceNorm1d, modules.InstanceNorm1d, {"num_features": 6}, (5, 6, 4)),
    (nn.InstanceNorm1d, modules.InstanceNorm1d, {"num_features": 6, "affine": True}, (6, 4)),
    (
        nn.InstanceNorm2d,
        modules.InstanceNorm2d,
        {"num_features": 6, "affine": True, "track_running_stats": True},
        (5, 6, 4, 3),
    ),
    (
        nn.InstanceNorm3d,
        modules.InstanceNorm3d,
        {"num_features": 6, "track_running_stats": True, "momentum": 0.5},
        (2, 6, 4, 3, 2),
    ),
    (nn.LocalResponseNorm, modules.LocalResponseNorm, {"size": 3}, (2, 6, 4, 3)),
    (
        nn.LocalResponseNorm,
        modules.LocalResponseNorm,
        {"size": 4, "alpha": 0.1, "beta": 0.5, "k": 2.0},
        (2, 6, 4),
    ),
)


def randomize(module):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
    return module
