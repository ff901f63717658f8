"""What the harness itself costs, from a run of its own.

    python benchmarks/harness_overhead.py [--processes 3] [--write benchmarks/results/NAME.json]

Three figures: seconds of an empty call inside a timed region (the floor of every table), the same
for an empty contender that goes through the whole harness, and, for each case and process, the time
beyond timed samples and warm-up. Warm-up calls the contender, so it is shown on its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from benchbench import supervise
from benchbench.catalog import Description
from benchbench.contract import Settings
from benchbench.engines.local import LocalEngine
from benchbench.plan import plan
from benchbench.plugins import LoaderOptions

PLUGIN = """
import torch, benchbench as bb

def make(params, seed):
    generator = torch.Generator().manual_seed(seed)
    return bb.Inputs({"x": torch.randn(params["n"], generator=generator)})

vector = bb.Workload(
    name="overhead/vector", make=make, baseline="a", axes={"n": (1_000, 100_000, 1_000_000)},
    presets={"quick": {"n": (1_000, 100_000, 1_000_000)}},
    reference=lambda inputs: inputs.double().x + 1, work=lambda p: bb.Work(bytes=8 * p["n"]))
empty = bb.Workload(
    name="overhead/empty", make=lambda params, seed: bb.Inputs({}), baseline="nothing",
    axes={"n": (0,)}, reference=lambda inputs: None)

def nothing():
    return None

def contender(name):
    return bb.Implementation(workload="overhead/vector", name=name,
                             build=lambda inputs: inputs.thunk(lambda x: x + 1))

@bb.hookimpl
def benchbench_workloads():
    return [vector, empty]

@bb.hookimpl
def benchbench_implementations():
    return [*map(contender, "abcdef"),
            bb.Implementation(workload="overhead/empty", name="nothing",
                              build=lambda inputs: nothing)]
"""


PHASES = ("make", "build", "check", "verify")


def measure(processes: int) -> dict:
    """Run the plugin above and reduce its records."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "overhead.py"
        file.write_text(PLUGIN)
        options = LoaderOptions(files=(str(file),), allowed=())
        settings = Settings(processes=processes)
        engine = LocalEngine()
        description = Description.from_json(supervise.describe(engine, options, settings))
        faults = [p.reason for p in description.plugins if p.status == "failed"]
        if faults:
            raise SystemExit(f"the plugin of this script cannot be loaded: {faults[0]}")
        records: list[dict] = []
        supervise.execute(
            plan(description),
            settings=settings,
            engine=engine,
            options=options,
            emit=lambda record: records.append(dict(record)),
        )
    bad = [r for r in records if r["type"] == "result" and r["status"] != "ok"]
    if bad:
        raise SystemExit(f"{bad[0]['case']}: {bad[0]['contender']}: {bad[0]['reason']}")
    floors = [r["floor"] for r in records if r["type"] == "process"]
    through = [
        statistics.median(float(sample) for sample in r["samples"])
        for r in records
        if r["type"] == "result" and r["contender"] == "nothing"
    ]
    cases: dict[str, dict[str, list[float]]] = {}
    for record in records:
        if record["type"] == "event" and record["kind"] == "case":
            phases = record["phases"]
            beyond = record["seconds"] - phases["timed"] - phases["warm-up"]
            rows = cases.setdefault(record["case"], {})
            for name, seconds in {"beyond": beyond, **phases}.items():
                rows.setdefault(name, []).append(seconds)
    return {
        "empty_call_ns": statistics.median(floors) * 1e9,
        "empty_contender_ns": statistics.median(through) * 1e9,
        "cases": {
            name: {f"{key}_ms": statistics.median(values) * 1e3 for key, values in rows.items()}
            for name, rows in cases.items()
        },
    }


def main() -> None:
    """Print the figures, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments.processes)
    print(f"empty call                 {found['empty_call_ns']:8.1f} ns   (goal: 150)")
    print(f"empty contender            {found['empty_contender_ns']:8.1f} ns   (goal: 150)")
    for name, row in found["cases"].items():
        print(
            f"{name:34s} beyond timed and warm-up {row['beyond_ms']:6.1f} ms (goal: 50), "
            f"warm-up {row['warm-up_ms']:6.1f} ms, timed {row['timed_ms']:6.1f} ms; "
            + ", ".join(f"{name} {row[name + '_ms']:.1f}" for name in PHASES)
        )
    if arguments.write:
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        arguments.write.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
