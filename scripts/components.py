"""Write docs/components.md from the catalogue: what is measured, and what is not and why.

``python scripts/components.py`` writes it, ``--check`` says whether it is current (exit code 1 when
it is not). Only first-party plugins are listed, and nothing that depends on this machine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from benchbench.catalog import Catalog
from benchbench.contract import Implementation, Workload, format_value
from benchbench.grids import points, preset_grids
from benchbench.plugins import LoaderOptions, load

PAGE = Path(__file__).parents[1] / "docs" / "components.md"
PRESETS = ("quick", "standard", "full")


class LeftOut(NamedTuple):
    """Something of the field that has no workload or contender here."""

    kind: str
    what: str
    why: str
    pattern: str
    """Glob over ``workload:contender`` that must match nothing while the line stands."""


LEFT_OUT = (
    LeftOut(
        "activations",
        "Figures of liger-kernel, quack-kernels and FlagGems",
        "They run on CUDA only. Their contenders have been called with stand-ins that have the "
        "same signatures, and not yet with the libraries themselves.",
        "*:*-measured",
    ),
    LeftOut(
        "activations",
        "liger-kernel's GEGLU; FlagGems' `fused_add_rms_norm`",
        "The one is by tanh, for which there is no workload; the other writes over both of its "
        "arguments, which contenders share.",
        "activations/geglu:liger",
    ),
    LeftOut(
        "activations",
        "Triton kernels of our own",
        "On CUDA `compiled` is Triton, and so are liger-kernel and FlagGems.",
        "activations/*:*triton*",
    ),
    LeftOut(
        "activations",
        "`MultiheadAttention`, which torch lists among its activations",
        "It is a layer: `models/transformer-block` has it.",
        "activations/*attention*:*",
    ),
    LeftOut(
        "normalizations",
        "Figures of SyncBatchNorm",
        "It is listed, and unavailable without a process group of several GPUs.",
        "normalizations/sync_batch_norm:[!m]*",
    ),
    LeftOut(
        "normalizations",
        "Every batch size of every stage of ResNet-50 in the presets",
        "Presets have to end: they have the stages with one batch size each.",
        "normalizations/batch_norm_sweep:*",
    ),
    LeftOut(
        "optimizers",
        "The switch `differentiable`",
        "It records each step for autograd, so that states of all steps are kept: it is for "
        "meta-learning, and no way to run the same step.",
        "optimizers/*:differentiable",
    ),
    LeftOut(
        "optimizers",
        "Foreach steps of SGD with Nesterov's momentum on shared gradients",
        "torch adds the momentum into the gradients themselves, so that a second step would start "
        "from others. In `optimizers/digits-mlp-ways` gradients are new each time.",
        "optimizers/nesterov-step:foreach-*",
    ),
    LeftOut(
        "optimizers",
        "Most of the 130 optimizers of pytorch_optimizer",
        "Seven race here, each tuned for two races; the others are a line each in "
        "`plugins/optimizers/peers.py`. Those with a schedule inside want to be told of "
        "evaluation.",
        "optimizers/*:*schedule*",
    ),
    LeftOut(
        "optimizers",
        "Steps of bitsandbytes and torchao beside AdamW's",
        "States of 8 and 4 bits are another algorithm, so they race.",
        "optimizers/*-step:*bit*",
    ),
    LeftOut(
        "models",
        "`swapped` for linear models and recurrent networks",
        "There is nothing to replace: the sigmoid and tanh of a cell are inside torch's operator.",
        "models/lstm:swapped",
    ),
    LeftOut(
        "models",
        "What drawing the masks of dropout costs in a training step",
        "Ways to run a step would draw other masks, so each place has one for the case's seed; see "
        "`plugins/models/masks.py`.",
        "models/*-train:*drawn*",
    ),
    LeftOut(
        "losses",
        "Confusion matrix, precision, recall, F1",
        "They are figures of a table, not things to be fast at; scikit-learn and torchmetrics "
        "have them.",
        "losses/*confusion*:*",
    ),
    LeftOut(
        "data",
        "california_housing, olivetti, covtype, torchvision's sets",
        "They need a download; digits, diabetes and two photographs come with scikit-learn.",
        "*california*:*",
    ),
)


PRESETS_SAID = (
    "`standard` is cut to end within ten minutes a process on two cores; "
    "`benchmarks/results/preset_standard.txt` says by kind what it took, and `python "
    "benchmarks/preset_time.py` measures it. `benchbench run models/resnet18 -p batches` "
    "sweeps the batch size. Contenders of optional libraries say what they need; a preset "
    "that leaves one out takes it by name (`-c adan`).",
)


def page(catalog: Catalog) -> str:
    """The whole page."""
    kinds = sorted({name.split("/", 1)[0] for name in catalog.workloads})
    total = sum(len(found) for found in catalog.implementations.values())
    lines = [
        "# Components",
        "",
        "Written by `python scripts/components.py` from the catalogue; a test fails when it is "
        "not current. `benchbench list -v` says the same of this machine, with what is "
        "unavailable and why.",
        "",
        f"{len(catalog.workloads)} workloads, {total} contenders.",
        "",
        "| kind | workloads | contenders | cases quick | standard | full |",
        "|---|---|---|---|---|---|",
    ]
    for kind in kinds:
        workloads = [w for n, w in catalog.workloads.items() if n.startswith(f"{kind}/")]
        counts = [sum(_cases(w, preset) for w in workloads) for preset in PRESETS]
        contenders = sum(len(catalog.implementations[w.name]) for w in workloads)
        lines.append(
            f"| [{kind}](#{kind}) | {len(workloads)} | {contenders} | "
            + " | ".join(str(count) for count in counts)
            + " |"
        )
    lines += ["", *PRESETS_SAID]
    for kind in kinds:
        lines += [
            "",
            f"## {kind}",
            "",
            "| workload | contenders, the baseline first |",
            "|---|---|",
        ]
        for name in sorted(catalog.workloads):
            if name.startswith(f"{kind}/"):
                lines.append(_row(catalog.workloads[name], catalog.implementations[name]))
    lines += ["", "## What is left out, and why", "", "| kind | what | why |", "|---|---|---|"]
    lines += [f"| {item.kind} | {item.what} | {item.why} |" for item in LEFT_OUT]
    return "\n".join(lines) + "\n"


def _cases(workload: Workload, preset: str) -> int:
    return sum(1 for _ in points(workload.axes, preset_grids(workload, preset)))


def _row(workload: Workload, contenders: dict[str, Implementation]) -> str:
    names = [workload.baseline, *(name for name in contenders if name != workload.baseline)]
    axes = "; ".join(
        f"{axis} {', '.join(format_value(value) for value in values)}"
        for axis, values in workload.axes.items()
        if axis not in ("device", "dtype", "direction")
    )
    doc = " ".join(workload.doc.split()).replace("|", "\\|")
    text = f"`{workload.name.split('/', 1)[1]}` {doc}" + (f" *{axes}*" if axes else "")
    return f"| {text} | {', '.join(names)} |"


def contradicted(catalog: Catalog) -> Iterator[str]:
    """Lines of what is left out that the catalogue has by now."""
    ids = [item.id for found in catalog.implementations.values() for item in found.values()]
    for item in LEFT_OUT:
        found = [name for name in ids if fnmatch(name, item.pattern)]
        if found:
            yield f"{item.what} is said to be left out, but there is {found[0]}"


def first_party() -> Catalog:
    """What the plugins of this distribution contribute.

    Raises:
        SystemExit: one of them failed, in whole or in part.
    """
    loaded = load(LoaderOptions(allowed=("benchbench",)))
    failed = [f"plugin {p.provider.plugin}: {p.reason}" for p in loaded.plugins if p.reason]
    if failed:
        sys.exit("\n".join([*failed, "the catalogue is not whole, so there is no page of it"]))
    return loaded.catalog


def main(arguments: list[str]) -> int:
    """Write the page, or check it."""
    catalog = first_party()
    text, faults = page(catalog), list(contradicted(catalog))
    for fault in faults:
        print(f"scripts/components.py: {fault}: take the line out", file=sys.stderr)
    if "--check" not in arguments:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        print(f"{PAGE} is not current: run python scripts/components.py", file=sys.stderr)
        return 1
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
