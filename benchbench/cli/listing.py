"""``benchbench list``: fast, since it prints a cached description."""

from __future__ import annotations

import textwrap

import click

from benchbench.catalog import ImplementationInfo, WorkloadInfo
from benchbench.cli.common import describe, loader_options, plugin_options, report_failures
from benchbench.contract import format_value

_WIDTH = 110


@click.command(name="list")
@click.argument("patterns", nargs=-1, metavar="[KIND|WORKLOAD|GLOB]...")
@click.option("--verbose", "-v", is_flag=True, help="Axes, presets and what each contender is.")
@plugin_options
def command(
    patterns: tuple[str, ...],
    verbose: bool,
    files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> int:
    """List workloads and contenders; what is unavailable here, and why."""
    from benchbench.plan import select_workloads

    description = describe(loader_options(files, blocked), retry_failed=False)
    report_failures(description, strict=strict)
    kind = ""
    chosen = select_workloads(description, patterns)
    width = max(len(workload.name) for workload in chosen)
    for workload in chosen:
        if workload.name.split("/", 1)[0] != kind:
            kind = workload.name.split("/", 1)[0]
            click.echo(("\n" if not verbose else "") + click.style(kind, bold=True))
        click.echo(_verbose(workload) if verbose else _brief(workload, width))
    contenders = [info for workload in chosen for info in workload.contenders.values()]
    unavailable = sum(bool(info.unavailable) for info in contenders)
    click.echo(
        f"\n{len(chosen)} workload{'s' * (len(chosen) != 1)}, {len(contenders)} contenders, "
        f"{unavailable} of them unavailable here"
        + ("" if verbose else "; -v shows axes, presets and what each contender is")
    )
    return 0


def _brief(workload: WorkloadInfo, width: int) -> str:
    """Contenders in one paragraph; those unavailable for the same reason in another."""
    indent = width + 4
    available = [n for n, info in workload.contenders.items() if not info.unavailable]
    lines = [_wrap(f"  {workload.name:<{width}}  {', '.join(available)}", indent)]
    reasons: dict[str, list[str]] = {}
    for name, info in workload.contenders.items():
        if info.unavailable:
            reasons.setdefault(info.unavailable, []).append(name)
    for reason, names in reasons.items():
        text = f"{'':<{indent}}unavailable: {', '.join(names)}: {reason}"
        lines.append(click.style(_wrap(text, indent + 2), dim=True))
    return "\n".join(lines)


def _verbose(workload: WorkloadInfo) -> str:
    provider = workload.provider
    lines = ["", click.style(f"  {workload.name}", bold=True)]
    if workload.doc:
        lines.append(_wrap("    " + " ".join(workload.doc.split()), 4))
    lines.append(f"    from {provider.distribution} {provider.version}")
    for axis, values in workload.axes.items():
        shown = ", ".join(format_value(value) for value in values)
        lines.append(_wrap(f"    {axis:<12} {shown}", 17))
    for preset, grids in workload.presets.items():
        shown = " + ".join(
            " ".join(f"{a}={','.join(map(format_value, v))}" for a, v in grid.items())
            or "first values"
            for grid in grids
        )
        lines.append(_wrap(f"    {preset:<12} {shown}", 17))
    lines += [_contender(workload, info) for info in workload.contenders.values()]
    return "\n".join(lines)


def _contender(workload: WorkloadInfo, info: ImplementationInfo) -> str:
    facts = []
    if info.name == workload.baseline:
        facts.append("baseline")
    if info.presets is not None:
        facts.append("in " + ", ".join(info.presets))
    if info.provider.distribution != workload.provider.distribution:
        facts.append(f"from {info.provider.distribution} {info.provider.version}")
    doc = " ".join(info.doc.split())
    if info.unavailable:
        doc = f"unavailable: {info.unavailable}"
    text = f"    - {info.name}" + (f" ({'; '.join(facts)})" if facts else "")
    text = _wrap(f"{text}: {doc}" if doc else text, 6)
    return click.style(text, dim=bool(info.unavailable))


def _wrap(text: str, indent: int) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )
