"""The fused kernels for users: functions, drop-in modules, and ``swap`` for whole models.

::

    from benchbench import fused

    y = fused.layer_norm(x, (768,), weight, bias)
    fused.swap(model)

Importing this package costs nothing. The first use of a function loads the compiled library, and
compiles it once for the machine where no prebuilt one fits (``benchbench build`` does so ahead).
Functions are differentiable once and can be traced by ``torch.compile``.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    **dict.fromkeys(
        [
            "relu",
            "sigmoid",
            "tanh",
            "gelu",
            "silu",
            "bias_relu",
            "bias_gelu",
            "bias_silu",
            "swiglu",
            "geglu",
            "reglu",
            "softmax",
            "log_softmax",
        ],
        "activations",
    ),
    **dict.fromkeys(
        [
            "softplus",
            "logsigmoid",
            "elu",
            "selu",
            "mish",
            "hardswish",
            "leaky_relu",
            "prelu",
        ],
        "curves",
    ),
    **dict.fromkeys(
        [
            "layer_norm",
            "rms_norm",
            "add_layer_norm",
            "add_rms_norm",
            "batch_norm",
            "batch_norm_relu",
            "batch_norm_add_relu",
        ],
        "norms",
    ),
    **dict.fromkeys(["group_norm", "instance_norm", "local_response_norm"], "group_norms"),
    **dict.fromkeys(
        [
            "ReLU",
            "Sigmoid",
            "Tanh",
            "GELU",
            "SiLU",
            "Softmax",
            "Softplus",
            "LogSigmoid",
            "ELU",
            "SELU",
            "Mish",
            "Hardswish",
            "LeakyReLU",
            "PReLU",
            "SwiGLU",
            "LayerNorm",
            "RMSNorm",
            "BatchNorm1d",
            "BatchNorm2d",
            "BatchNorm3d",
            "GroupNorm",
            "InstanceNorm1d",
            "InstanceNorm2d",
            "InstanceNorm3d",
            "LocalResponseNorm",
            "BatchNormReLU1d",
            "BatchNormReLU2d",
            "BatchNormReLU3d",
            "AddLayerNorm",
            "AddRMSNorm",
        ],
        "modules",
    ),
    **dict.fromkeys(
        [
            "packed_swiglu",
            "packed_geglu",
            "packed_reglu",
            "masked_softmax",
            "masked_log_softmax",
        ],
        "transformer",
    ),
    **dict.fromkeys(["swap", "Swapped"], "swapping"),
    **dict.fromkeys(
        [
            "AliasSampler",
            "AliasTable",
            "bayesian_bootstrap_mean",
            "bootstrap",
            "draw",
            "oversample",
            "poisson_bootstrap",
            "resample",
            "take_rows",
            "undersample",
        ],
        "sampling",
    ),
}

__all__ = ["build", "direct", "unavailable", "unavailable_on_cuda", *_HOME]


def build() -> None:
    """Compile the kernels unless they are there; the ``prepare`` of every fused contender.

    Raises:
        benchbench.errors.NativeError: they cannot be built; the message says how to mend it.
    """
    from benchbench import native

    native.load()


def unavailable() -> str | None:
    """Why the kernels cannot be used here, or None. Looks at files only; compiles nothing."""
    from benchbench import native

    return native.unavailable()


def unavailable_on_cuda() -> str | None:
    """Why the CUDA kernels cannot be used here, or None. Compiles nothing."""
    from benchbench import native

    return native.unavailable_on_cuda()


def __getattr__(name: str) -> Any:
    if name == "direct":
        # The module's own functions: no dispatcher, no autograd, no tracing.
        from benchbench import native

        value: Any = native.load()
    elif name in _HOME:
        value = getattr(importlib.import_module(f"benchbench.fused.{_HOME[name]}"), name)
    else:
        from benchbench.errors import suggestion

        hint = "" if name.startswith("__") else suggestion(name, __all__)
        raise AttributeError(f"module 'benchbench.fused' has no attribute {name!r}.{hint}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
