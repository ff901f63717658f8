"""What a fused step brings in a whole training: ways to run one optimizer, raced to the target.

Ways differ by rounding alone, so they have to need the same steps. Rounding may move a run across
the target an epoch sooner or later; whether the runs of a way are longer or shorter as a whole is
tested exactly, by flipping the signs of the differences in all ways (Fisher 1935).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor

import benchbench as bb
from benchbench_plugins.optimizers import races, target
from benchbench_plugins.optimizers.races import RACES
from benchbench_plugins.optimizers.step import WAYS
from benchbench_plugins.optimizers.target import RACERS, Racer

ALPHA = 0.02
"""Of seven seeds all have to differ in one direction (p = 2 / 128) to call a way another one."""
RACE = next(race for race in RACES if race.name == "digits-mlp")
BY_NAME = {racer.name: racer for racer in RACERS if RACE.name in racer.rates}
WORKLOAD = f"{RACE.workload}-ways"
SEEDS = (2, 7, 10)


def sign_flip_p(differences: list[int]) -> float:
    """Exact two-sided p-value that paired differences are symmetric around zero.

    Over all 2^n ways to give their absolute values signs: the share whose sum is at least as far
    from zero as the one found.
    """
    sizes = [abs(d) for d in differences]
    found = abs(sum(differences))
    sums = (sum(s * d for s, d in zip(signs, sizes, strict=True)) for signs in _signs(len(sizes)))
    return sum(abs(total) >= found for total in sums) / 2 ** len(sizes)


def _signs(count: int) -> Iterator[tuple[int, ...]]:
    return product((-1, 1), repeat=count)


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """The race's data and seeds, and the optimizer's name."""
    return bb.Inputs({**races.make(RACE, params, seed), "optimizer": str(params["optimizer"])})


def reference(inputs: Any) -> Tensor:
    """Steps of each seed by the for-loop."""
    return thunk(inputs, "for-loop")()["steps"]  # type: ignore[no-any-return]


def thunk(inputs: Any, way: str) -> bb.Thunk:
    """Train with the case's optimizer, run in one way."""
    racer = BY_NAME[inputs.optimizer]
    return races.thunk(RACE, racer.maker(RACE, **WAYS[way]), inputs)


def check(evidence: bb.Evidence) -> str | None:
    """It trains as well as it says, and needs the steps of the for-loop."""
    reason = races.check(RACE, evidence)
    if reason is not None:
        return reason
    differences = (evidence.output["steps"] - evidence.reference).tolist()
    p = sign_flip_p(differences)
    if p < ALPHA:
        return (
            f"it needs other steps than the for-loop: the differences for each seed are "
            f"{differences}, which by chance would be as one-sided with p = {p:.3g}"
        )
    return None


def metrics(output: Any, reference: Tensor) -> dict[str, float]:
    """Those of a race; ``same`` is the share of seeds with exactly the for-loop's steps."""
    same = float((output["steps"] == reference).double().mean())
    return {**races.metrics(RACE, output), "same": same}


def workloads() -> Iterator[bb.Workload]:
    """One, with the optimizer as an axis."""
    yield bb.Workload(
        name=WORKLOAD,
        doc=f"{RACE.doc}: ways to run one optimizer, which have to need the same steps.",
        axes={"optimizer": tuple(BY_NAME), "seeds": SEEDS},
        presets={
            "quick": [],
            "standard": [],  # 13 s of ten minutes for everything
            "full": {"optimizer": tuple(BY_NAME), "seeds": SEEDS[1:]},
        },
        make=make,
        reference=reference,
        tolerance=None,
        check=check,
        metrics=metrics,
        work=lambda params: bb.Work(items=float(params["seeds"]), item="run"),  # type: ignore[arg-type]
        baseline="for-loop",
    )


def implementations() -> Iterator[bb.Implementation]:
    """For-loop, foreach, fused."""
    for way in ("for-loop", "foreach", "fused"):
        yield bb.Implementation(
            workload=WORKLOAD,
            name=way,
            build=_builder(way),
            unavailable=_unavailable(way),
            doc=f"torch.optim with {', '.join(f'{k}={v}' for k, v in WAYS[way].items())}.",
        )


def _builder(way: str) -> Callable[[Any], bb.Thunk]:
    return lambda inputs: thunk(inputs, way)


def _unavailable(way: str) -> Callable[[bb.Params], str | None]:
    def unavailable(params: bb.Params) -> str | None:
        racer: Racer = BY_NAME[str(params["optimizer"])]
        for option in WAYS[way]:
            if option not in inspect.signature(racer.make).parameters:
                return (
                    f"torch.optim.{racer.make.__name__} has no option {option!r} in torch "
                    f"{torch.__version__}"
                )
        return target.unavailable(params)

    return unavailable
