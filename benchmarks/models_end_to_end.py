"""Whole networks with our norms and activations in the place of torch's, by benchbench itself.

    python benchmarks/models_end_to_end.py                      everything at 224 x 224, two threads
    python benchmarks/models_end_to_end.py --size 64 -n 1       a look in minutes
    python benchmarks/models_end_to_end.py resnet18-train --ways swapped compiled
    python benchmarks/models_end_to_end.py --write benchmarks/results/models_cpu.txt   (or .json)

Training steps (forward, backward, SGD) of torchvision's ResNet-18 and MobileNetV2 at batch 32, and
transformer blocks forward and in training. A row for each network and way to run it: the time of a
call, its speed-up over eager and over torch.compile, interleaved in the same processes, and its
error beside eager's, both against float64. Images are 224 x 224 as in training on ImageNet: there
the activations of a batch are beyond the caches, which is where a fused norm saves most. At 64 x 64
they mostly fit, and everything takes a twelfth of the time.

``swapped`` is ``benchbench.fused.swap(model)``: norms, activations, ReLU and ReLU6 behind batch
norm, skip connections. ``channels-last`` and ``channels-last-swapped`` store images with channels
last.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cpu_kernels import heading, record
from kernel_lines import speed_up

from benchbench import supervise
from benchbench.catalog import Description
from benchbench.contract import PlannedCase, Run, Settings
from benchbench.engines.local import LocalEngine
from benchbench.plan import plan
from benchbench.plugins import LoaderOptions
from benchbench.stats import Row, figures, summarise

PLUGINS = LoaderOptions(allowed=("models",))
IMAGES = {"resnet18-train": {"batch": ["32"]}, "mobilenet-v2-train": {"batch": ["32"]}}
BLOCKS = {
    "transformer-block": {"batch": ["4"]},
    "transformer-block-train": {"batch": ["4"]},
    "gpt2-block-train": {"batch": ["4"], "tokens": ["256"]},
    "llama-block-train": {"batch": ["4"], "tokens": ["256"]},
}
NETWORKS = (*IMAGES, *BLOCKS)
WAYS = ("compiled", "swapped", "channels-last", "channels-last-swapped")
TIMEOUT = 600.0
"""Seconds for one stage of one way: torch.compile of a training step takes minutes on two cores."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of the table."""

    network: str
    point: str
    way: str
    threads: int
    status: str
    """``ok``, or why there are no figures."""
    milliseconds: float | None = None
    eager: float | None = None
    """Speed-up over eager."""
    compiled: float | None = None
    """Speed-up over torch.compile."""
    error: float | None = None
    """Of a training step the worst of its watched gradients, else of the output."""
    eager_error: float | None = None

    def text(self) -> str:
        """The row as the table shows it."""

        def shown(value: float | None, form: str) -> str:
            return "-" if value is None else format(value, form)

        errors = f"{shown(self.error, '.1e')} / {shown(self.eager_error, '.1e')}"
        return (
            f"{self.network:<24}{self.point:<22}{self.way:<22}{self.threads:>2} "
            f"{shown(self.milliseconds, '.1f'):>9} {shown(self.eager, '.2f'):>10} "
            f"{shown(self.compiled, '.2f'):>12} {errors:>19}  "
            + ("" if self.status == "ok" else self.status)
        ).rstrip()


HEAD = (
    f"{'network':<24}{'at':<22}{'way':<22}{'th':>2} {'ms':>9} {'over eager':>10} "
    f"{'over compile':>12} {'error / eager':>19}"
)


def chosen(asked: argparse.Namespace, description: Description) -> tuple[PlannedCase, ...]:
    """A case for each network."""
    cases: list[PlannedCase] = []
    for name in asked.networks:
        axes = dict({**IMAGES, **BLOCKS}[name])
        if name in IMAGES:
            axes["size"] = [str(asked.size)]
        known = description.workloads[f"models/{name}"].contenders
        ways = [way for way in asked.ways if way in known]
        cases += plan(
            description, [f"models/{name}"], axes=axes, contenders=["eager", *ways], device="cpu"
        )
    return tuple(cases)


def measure(
    asked: argparse.Namespace,
    description: Description,
    cases: tuple[PlannedCase, ...],
    folder: Path,
) -> Run:
    """The finished run."""
    settings = Settings(
        processes=asked.processes, budget=asked.budget, threads=asked.threads, timeout=TIMEOUT
    )
    return record(cases, settings, description, PLUGINS, folder)


def lines(run: Run) -> Iterator[Line]:
    """The table's rows, network by network, eager first."""
    times = {key: found.times for key, found in figures(run).items()}
    rows = summarise(run)
    eager = {row.case: row for row in rows if row.contender == row.baseline}
    threads = int(run.header["settings"]["threads"])
    for row in rows:
        if row.role != "contender":
            continue
        point = [f"{k}={v}" for k, v in row.params.items() if k != "device"]
        own, other = times.get((row.case, row.contender), ()), times.get((row.case, "compiled"), ())
        yield Line(
            network=row.workload.split("/")[1],
            point=" ".join(point),
            way=row.contender,
            threads=threads,
            status=row.status if row.status == "ok" else f"{row.status}: {row.reason}",
            milliseconds=row.latency.estimate * 1e3 if row.latency else None,
            eager=1 / row.ratio.estimate if row.ratio and row is not eager.get(row.case) else None,
            compiled=None if row.contender == "compiled" else speed_up(own, other),
            error=_error(row),
            eager_error=_error(eager.get(row.case)),
        )


def _error(row: Row | None) -> float | None:
    if row is None:
        return None
    return row.metrics.get("gradient_error", row.errors.get("max"))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--size", type=int, default=224, help="Pixels of an image's side.")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-n", "--processes", type=int, default=3)
    parser.add_argument(
        "--budget", type=float, default=2.0, help="Timed seconds a network and process."
    )
    parser.add_argument("--store", type=Path, help="Keep the run here.")
    parser.add_argument("--write", type=Path, help="The table too: .json, or text.")
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.networks if name not in NETWORKS]
    if unknown:
        parser.error(f"no network {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    asked.networks = asked.networks or list(NETWORKS)
    return asked


def main() -> None:
    """Measure, print, write."""
    asked = parse()
    started = time.monotonic()
    described = supervise.describe(LocalEngine(), PLUGINS, Settings())
    description = Description.from_json(described)
    cases = chosen(asked, description)
    with tempfile.TemporaryDirectory() as folder:
        table = list(lines(measure(asked, description, cases, asked.store or Path(folder))))
    print(HEAD)
    for line in table:
        print(line.text())
    if asked.write is None:
        return
    head = heading(time.monotonic() - started, asked.processes)[:3]
    if asked.write.suffix == ".json":
        content = {"machine": head, "lines": [asdict(line) for line in table]}
        asked.write.write_text(json.dumps(content, indent=1) + "\n")
    else:
        note = "Errors: of training steps the worst watched gradient's, relative to its length."
        body = [line.text() for line in table]
        asked.write.write_text("\n".join([*head, note, "", HEAD, *body]) + "\n")


if __name__ == "__main__":
    main()
