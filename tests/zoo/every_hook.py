"""An honest plugin that uses every hook; what it observes it writes to ZOO_OBSERVED."""

import json
import os
import time
from pathlib import Path

import benchbench as bb


def observe(**facts):
    with Path(os.environ["ZOO_OBSERVED"]).open("a") as file:
        file.write(json.dumps(facts) + "\n")


class CoarseTimer:
    """Counts whole microseconds."""

    name = "coarse"
    unit = "s"

    def unavailable(self, device):
        return None if device == "cpu" else "counts on the CPU only"

    def sample(self, thunk, calls):
        start = time.perf_counter_ns()
        for _ in range(calls):
            output = thunk()
        elapsed = (time.perf_counter_ns() - start) // 1000 * 1e-6
        return bb.Sample(elapsed=elapsed, calls=calls, output=output)


class LocalTwin:
    """The local engine under another name."""

    name = "twin"

    def __init__(self):
        self.started = 0

    def unavailable(self):
        return None

    def start(self, spec):
        from benchbench.engines.local import LocalEngine

        return LocalEngine().start(spec)


def make(params, seed):
    import torch

    generator = torch.Generator().manual_seed(seed)
    return bb.Inputs({"x": torch.randn(params["n"], generator=generator)})


@bb.implementation("hooks/absolute", "eager")
def eager(inputs):
    """The baseline."""
    return inputs.thunk(lambda x: x.abs())


@bb.implementation("hooks/absolute", "maximum")
def maximum(inputs):
    """The larger of a number and its negative."""
    import torch

    return inputs.thunk(lambda x: torch.maximum(x, -x))


@bb.hookimpl
def benchbench_workloads():
    return [
        bb.Workload(
            name="hooks/absolute",
            doc="Drop the sign.",
            make=make,
            baseline="eager",
            axes={"n": (1000,)},
            reference=lambda inputs: inputs.double().thunk(lambda x: x.abs())(),
            work=lambda params: bb.Work(bytes=8 * params["n"], items=params["n"], item="element"),
        )
    ]


@bb.hookimpl
def benchbench_implementations():
    return [eager, maximum]


@bb.hookimpl
def benchbench_timers():
    return [CoarseTimer()]


@bb.hookimpl
def benchbench_reports():
    def render(run):
        return "\n".join(f"{r.contender} {r.status}" for r in run.results)

    return [bb.Report(name="names", render=render, doc="Contenders and their status.")]


@bb.hookimpl
def benchbench_engines():
    return [LocalTwin()]


@bb.hookimpl
def benchbench_environment():
    return {"weather": "dry"}


@bb.hookimpl(wrapper=True)
def benchbench_run_case(case, process):
    observe(hook="run_case", when="before", case=case.id, process=process)
    results = yield
    observe(hook="run_case", when="after", results=len(results))
    return results


@bb.hookimpl
def benchbench_result(result):
    observe(hook="result", contender=result.contender, status=result.status)
