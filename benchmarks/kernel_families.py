"""The ops that the CPU kernels' benchmark measures, with the shapes of each size class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kernel_goals import Key

from benchbench.contract import format_value

SIZES = ("beyond", "cache", "calls")
DIRECTIONS = {"forward": "forward", "both": "forward+backward"}


@dataclass(frozen=True, kw_only=True)
class Family:
    """Ops that take the same axes."""

    kind: str
    tasks: tuple[str, ...]
    beyond: tuple[int, ...]
    cache: tuple[int, ...]
    calls: tuple[tuple[int, ...], ...] = ()
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    axes: tuple[tuple[str, str], ...] = ()
    """Further axes and their values, as the command line takes them."""

    def shapes(self, sizes: tuple[str, ...]) -> dict[str, str]:
        """Shape as text to its size class."""
        classes = {"beyond": (self.beyond,), "cache": (self.cache,), "calls": self.calls}
        return {format_value(shape): size for size in sizes for shape in classes[size]}


SMALL = ((1, 16), (4, 64), (16, 256))
FAMILIES = (
    Family(
        kind="activations",
        tasks=(
            *("relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu", "softplus", "log_sigmoid"),
            *("elu", "selu", "mish", "hardswish", "leaky_relu", "prelu"),
            *("bias_relu", "bias_gelu", "bias_gelu_tanh", "bias_silu"),
            *("swiglu", "geglu", "reglu"),
        ),
        beyond=(8192, 4096),
        cache=(256, 1024),
        calls=SMALL,
    ),
    Family(
        kind="activations",
        tasks=("softmax", "log_softmax"),
        beyond=(65536, 512),
        cache=(512, 512),
        calls=SMALL,
    ),
    Family(
        kind="normalizations",
        tasks=("layer_norm", "rms_norm", "add_layer_norm", "add_rms_norm"),
        beyond=(16384, 2048),
        cache=(256, 1024),
        calls=SMALL,
    ),
    Family(
        kind="normalizations",
        tasks=("batch_norm", "batch_norm_relu", "batch_norm_add_relu"),
        beyond=(32, 256, 56, 56),
        cache=(8, 64, 28, 28),
        axes=(("layout", "nchw,channels_last"), ("mode", "train,eval")),
    ),
    Family(
        kind="normalizations",
        tasks=("group_norm", "instance_norm"),
        beyond=(16, 320, 64, 64),
        cache=(2, 320, 16, 16),
        axes=(("layout", "nchw,channels_last"),),
    ),
    Family(
        kind="normalizations",
        tasks=("local_response_norm",),
        beyond=(64, 256, 27, 27),
        cache=(2, 64, 27, 27),
        dtypes=("float32",),  # torch has no 16-bit kernel for it
    ),
)


def key_of(workload: str, params: Mapping[str, Any], sizes: Mapping[str, str]) -> Key:
    """What a case is called in the table of goals."""
    more = [str(params[axis]) for axis in ("layout", "mode") if axis in params]
    op = " ".join([workload.split("/")[1], *more])
    direction = next(k for k, v in DIRECTIONS.items() if v == params["direction"])
    return op, direction, sizes.get(format_value(params["shape"]), ""), str(params["dtype"])
