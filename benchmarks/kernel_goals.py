"""What the CPU kernels are meant to reach: multiples of the floor and speed-ups, by op and size.

Figures of prototypes on an AVX-512 machine with two threads. The floor is a copy of the bytes that
the op has to move, timed in the same blocks (``roof:copy``). A goal is met within 15 %: time at
most 1.15 times the goal's multiple of the floor, speed-ups at least 0.85 times the goal's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

SLACK = 0.15


@dataclass(frozen=True, kw_only=True)
class Goal:
    """None where nothing is asked."""

    floor: float | None = None
    """Time as a multiple of the copy's, at most."""
    eager: float | None = None
    """Speed-up over eager, at least."""
    compile: float | None = None
    """Speed-up over torch.compile, at least."""
    slack: float = SLACK
    """What each may be missed by."""

    def met(
        self,
        *,
        floor: float | None,
        eager: float | None,
        compiled: float | None,
        wrong: Collection[str] = (),
    ) -> bool:
        """Whether measured figures reach all that is asked; what was not measured is not met.

        ``wrong`` names peers (``eager``, ``compiled``) whose answers were rejected: there is no
        speed of theirs to reach.
        """
        most, least = 1 + self.slack, 1 - self.slack
        high = self.floor is None or (floor is not None and floor <= self.floor * most)
        return high and all(
            wanted is None or name in wrong or (found is not None and found >= wanted * least)
            for name, wanted, found in (
                ("eager", self.eager, eager),
                ("compiled", self.compile, compiled),
            )
        )


def goal(floor: float | None, eager: float | None, compiled: float | None) -> Goal:
    """Shorter, for the table."""
    return Goal(floor=floor, eager=eager, compile=compiled)


CHAINS = {
    *("bias_relu", "bias_gelu", "bias_gelu_tanh", "bias_silu", "swiglu", "geglu", "reglu"),
    *("add_layer_norm", "add_rms_norm"),
}
"""What eager does in several operators."""


def of_a_call(op: str) -> Goal:
    """Goal of a forward call of 16 to 4096 elements, where the way to the kernel counts.

    A single operator may cost 1.2 times what eager's does; a fused one no more than eager's chain.
    """
    return Goal(eager=1.0 if op in CHAINS else 1 / 1.2, slack=0.0)


Key = tuple[str, str, str, str]
"""Workload with its layout and mode (``batch_norm nchw train``), direction (``forward``, ``both``),
size class (``beyond``, ``cache``), dtype."""

F32, BF16 = "float32", "bfloat16"
EXPONENTIAL = {
    *("sigmoid", "tanh", "gelu", "gelu_tanh", "silu", "softplus", "log_sigmoid", "elu", "selu"),
    *("mish", "bias_gelu", "bias_gelu_tanh", "bias_silu", "swiglu", "geglu", "softmax"),
    "log_softmax",
}
"""Ops that compute an exponential or the like."""
AVX2_TIMES = 1.6
"""What these may take of the goal's multiple of the floor in registers of half the width."""


def of(key: Key, instruction_set: str = "avx512") -> Goal | None:
    """The goal on an instruction set, or None."""
    found = GOALS.get(key)
    wide = instruction_set != "avx2" or key[0].split()[0] not in EXPONENTIAL
    if found is None or found.floor is None or wide:
        return found
    return replace(found, floor=found.floor * AVX2_TIMES)


def _rows(
    name: str,
    direction: str,
    beyond: tuple[float | None, float | None, float | None] | None,
    cache: tuple[float, float] | None,
    beyond_bf16: tuple[float | None, float | None, float | None] | None = None,
) -> dict[Key, Goal]:
    found = {}
    if beyond:
        found[name, direction, "beyond", F32] = goal(*beyond)
    if cache:
        found[name, direction, "cache", F32] = goal(None, *cache)
    if beyond_bf16:
        found[name, direction, "beyond", BF16] = goal(*beyond_bf16)
    return found


GOALS: Mapping[Key, Goal] = {
    **_rows("tanh", "forward", (1.1, 8, 4.5), (6, 4.8), (2.0, 5, 5)),
    **_rows("gelu_tanh", "forward", (1.2, 4, 4.4), (3.8, 4.9), (2.1, 5, 5)),
    **_rows("gelu", "forward", (1.2, 1.4, 1.6), (1.25, 2.1), (2.9, 1.0, 1.8)),
    **_rows("sigmoid", "forward", (1.2, 1.3, 1.3), (1.3, 2.2), (1.9, 1.7, 2.0)),
    **_rows("silu", "forward", (1.2, 1.3, 1.3), (1.3, 2.2), (1.9, 1.7, 2.0)),
    **_rows("bias_gelu_tanh", "forward", (1.4, 4.5, 4.4), (3.6, 4.3), (2.5, 5, 4.8)),
    **_rows("bias_gelu_tanh", "both", (1.6, 3.6, 3.8), (2.6, 3.5), (2.5, 4, 4)),
    **_rows("swiglu", "forward", (1.05, 2.1, 1.3), (1.5, 2.0), (1.4, 2.4, 1.8)),
    **_rows("swiglu", "both", (1.05, 2.3, 1.3), None),
    **_rows("softmax", "forward", (1.3, 1.3, 1.4), (1.4, 2.4), (2.9, 1.8, 2.0)),
    **_rows("layer_norm", "forward", (1.2, 1.4, 2.0), (1.2, 2.6), (1.6, 1.5, 1.6)),
    **_rows("layer_norm", "both", (1.3, 1.4, 2.5), (1.0, 2.1), (1.6, 1.9, 2.2)),
    **_rows("rms_norm", "forward", (1.2, 3.5, 1.2), (2, 2.3), (1.6, 8, 1.15)),
    **_rows("rms_norm", "both", (1.3, 6, 2.4), (3, 2), (1.6, 12, 2.2)),
    **_rows("add_layer_norm", "forward", (1.25, 1.4, 1.7), (1.15, 2.0), (1.6, 1.3, 1.4)),
    **_rows("add_layer_norm", "both", (1.3, 1.5, 2.1), (1.1, 1.9), (1.6, 1.6, 1.6)),
    **_rows("batch_norm nchw train", "forward", (1.35, 4.4, 1.9), (5, 2.4), (1.3, 2.3, 2.5)),
    **_rows("batch_norm nchw train", "both", (1.4, 2.7, 1.75), (2.2, 1.1), (1.4, 2.0, 2.0)),
    **_rows("batch_norm_relu nchw train", "forward", (1.35, 5.3, 2.0), (5.5, 2.2)),
    **_rows("batch_norm_relu nchw train", "both", (1.4, 3.4, 13), (2.5, 10)),
    **_rows(
        "batch_norm_add_relu nchw train", "forward", (1.35, 4.5, 1.6), (6, 2.3), (1.6, 2.4, 1.5)
    ),
    **_rows("batch_norm_add_relu nchw train", "both", (1.45, 2.6, 8), (1.7, 5.5), (2.0, 1.8, 8.5)),
    **_rows(
        "batch_norm channels_last train", "forward", (1.45, 1.4, 1.9), (2.2, 3.5), (1.3, 2.0, 3.6)
    ),
    **_rows(
        "batch_norm channels_last train", "both", (1.65, 1.4, 1.6), (1.3, 2.2), (1.4, 1.9, 2.5)
    ),
    **_rows("batch_norm_relu channels_last train", "forward", (None, 2.1, 1.9), None),
    **_rows("batch_norm_relu channels_last train", "both", (None, 2.0, 10), None),
    **_rows("batch_norm_add_relu channels_last train", "forward", (None, 2.6, 1.9), None),
    **_rows("batch_norm_add_relu channels_last train", "both", (None, 1.95, 8.4), None),
    **_rows("batch_norm_relu nchw eval", "forward", (1.1, 2.2, 1.2), (2, 2), (1.1, 2, 1.2)),
    **_rows("local_response_norm", "forward", (None, 12, None), None),
}
