"""Sugar for plugin authors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchbench.contract import Implementation, Params, Thunk


def implementation(
    workload: str,
    name: str,
    *,
    unavailable: Callable[[Params], str | None] | None = None,
    prepare: Callable[[], object] | None = None,
    presets: Sequence[str] | None = None,
    doc: str | None = None,
) -> Callable[[Callable[[Any], Thunk]], Implementation]:
    """Turn a function from inputs to thunk into an :class:`~benchbench.Implementation`.

    ::

        @bb.implementation("activations/silu", "by-hand")
        def by_hand(inputs):
            return inputs.thunk(lambda x: x * torch.sigmoid(x))

    The function's docstring becomes ``doc`` unless one is given.
    """

    def decorate(build: Callable[[Any], Thunk]) -> Implementation:
        return Implementation(
            workload=workload,
            name=name,
            build=build,
            unavailable=unavailable,
            prepare=prepare,
            presets=presets,
            doc=(doc if doc is not None else build.__doc__ or "").strip(),
        )

    return decorate
