"""A small workload with one contender of each fate, for the tests of the command line."""

import time

import benchbench as bb


def make(params, seed):
    import torch

    generator = torch.Generator().manual_seed(seed)
    return bb.Inputs({"x": torch.randn(params["n"], generator=generator)})


@bb.implementation("cli/double", "eager")
def eager(inputs):
    """The baseline."""
    return inputs.thunk(lambda x: x + x)


@bb.implementation("cli/double", "twice")
def twice(inputs):
    """Multiply by two."""
    return inputs.thunk(lambda x: 2 * x)


@bb.implementation("cli/double", "liar")
def liar(inputs):
    """Forgets the factor."""
    return inputs.thunk(lambda x: x.clone())


@bb.implementation("cli/double", "crash")
def crash(inputs):
    """Cannot be built."""
    raise RuntimeError("this one cannot be built")


@bb.implementation("cli/double", "absent", unavailable=lambda params: "needs a quantum computer")
def absent(inputs):
    """Cannot run here."""
    return inputs.thunk(lambda x: x + x)


@bb.implementation("cli/sleep", "nap")
def nap(inputs):
    """Wait for a while."""

    def sleeping():
        time.sleep(0.01)
        return inputs.x + 0

    return sleeping


@bb.hookimpl
def benchbench_workloads():
    return [
        bb.Workload(
            name="cli/double",
            doc="Twice as much.",
            make=make,
            baseline="eager",
            axes={"n": (256, 1024), "mode": ("plain", "fancy")},
            reference=lambda inputs: inputs.double().thunk(lambda x: 2 * x)(),
            work=lambda params: bb.Work(bytes=8 * params["n"], items=params["n"], item="number"),
        ),
        bb.Workload(
            name="cli/sleep",
            doc="Slow enough to be interrupted.",
            make=make,
            baseline="nap",
            axes={"n": tuple(range(1, 6))},
            presets={"quick": {"n": tuple(range(1, 6))}},
            check=lambda evidence: None,
        ),
    ]


@bb.hookimpl
def benchbench_implementations():
    return [eager, twice, liar, crash, absent, nap]


@bb.hookimpl
def benchbench_reports():
    return [
        bb.Report(
            name="shout", render=lambda run: f"{len(run.results)} RESULTS", doc="Loud and short."
        )
    ]
