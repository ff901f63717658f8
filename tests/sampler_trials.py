"""What the sampler tests share: small points of each workload, and what a check says of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import benchbench as bb
from benchbench_plugins import samplers
from benchbench_plugins.samplers import audio, bootstrap, image, imbalance, index, quality

WORKLOADS = {w.name: w for w in samplers.benchbench_workloads()}
CONTENDERS = {i.id: i for i in samplers.benchbench_implementations()}
# Small enough to be quick, large enough for every test to have its say.
SMALL: dict[str, dict[str, bb.Params]] = {
    bootstrap.IID: {"": {"rows": 10_000, "replicates": 100, "device": "cpu"}},
    bootstrap.POISSON: {"": {"rows": 10_000, "replicates": 100, "device": "cpu"}},
    bootstrap.BAYESIAN: {"": {"rows": 10_000, "replicates": 100, "device": "cpu"}},
    index.UNIFORM: {"": {"rows": 40_000, "device": "cpu"}},
    index.WEIGHTED: {
        tables: {"categories": 20_000, "tables": tables, "dtype": "float64", "device": "cpu"}
        for tables in ("each-call", "once")
    },
    imbalance.OVER: {
        "two": {"rows": 20_000, "ratio": (9, 1), "device": "cpu"},
        "three": {"rows": 20_001, "ratio": (16, 3, 1), "device": "cpu"},
    },
    imbalance.UNDER: {
        "two": {"rows": 20_000, "ratio": (9, 1), "device": "cpu"},
        "three": {"rows": 20_001, "ratio": (16, 3, 1), "device": "cpu"},
    },
    audio.FILTERED: {"": {"seconds": 3, "device": "cpu"}},
    audio.DRAFT: {"": {"seconds": 3, "device": "cpu"}},
    image.FILTERED: {
        "uint8": {"dtype": "uint8", "picture": "china", "device": "cpu"},
        "float32": {"dtype": "float32", "picture": "flower", "device": "cpu"},
    },
    image.DRAFT: {
        "uint8": {"dtype": "uint8", "picture": "flower", "device": "cpu"},
        "float32": {"dtype": "float32", "picture": "china", "device": "cpu"},
    },
}


class Trial:
    """A workload at one point, and what its check says to a thunk's outputs."""

    def __init__(self, workload: str, params: bb.Params | None = None, seed: int = 0) -> None:
        self.workload = WORKLOADS[workload]
        self.params = params or next(iter(SMALL[workload].values()))
        self.inputs = self.workload.make(self.params, seed)
        reference = self.workload.reference
        self.reference = None if reference is None else reference(self.inputs)

    def judge(self, output: Any, calls: int = 1, *, timed: bool = False) -> str | None:
        assert self.workload.check is not None
        return self.workload.check(
            bb.Evidence(
                output=output,
                inputs=self.inputs,
                params=self.params,
                calls=calls,
                reference=self.reference,
                timed=timed,
            )
        )

    def metrics(self, output: Any) -> Mapping[str, float]:
        assert self.workload.metrics is not None
        return self.workload.metrics(output, self.reference)


def flat(output: Any) -> np.ndarray:
    """Rows of a pair, or the one tensor."""
    return quality.array(output[0] if isinstance(output, tuple) else output)


# A planted bad contender gets the trial and a generator and returns one output.
Bad = Callable[[Trial, np.random.Generator], Any]


def assert_rejected(workload: str, bad: Bad, reason: str) -> None:
    """The check says why, in words that match ``reason``, with two seeds."""
    for seed in (0, 3):
        trial = Trial(workload, seed=seed)
        try:
            found = trial.judge(bad(trial, np.random.default_rng(seed)))
        except ValueError as error:  # the runner reports what a check raises
            found = str(error)
        assert found is not None
        assert re.search(reason, found), found


def borrowed(workload: str, name: str) -> Bad:
    """What an honest contender of another workload makes."""
    return lambda trial, rng: CONTENDERS[f"{workload}:{name}"].build(trial.inputs)()
