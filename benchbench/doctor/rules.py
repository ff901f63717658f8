"""All rules, those that matter most first, and what they say of a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchbench.doctor import clocks, cores, graphics, sharing, system
from benchbench.doctor.findings import Finding, Rule, Status, finding
from benchbench.doctor.place import Machine

RULES: tuple[Rule, ...] = (
    sharing.NEIGHBOURS,
    sharing.STEAL,
    sharing.SPIN,
    sharing.MEMORY_SPEED,
    sharing.TOGETHER,
    cores.THREADS,
    cores.ALLOWED,
    sharing.QUOTA,
    system.ALLOCATION,
    system.VARIABLES,
    clocks.GOVERNOR,
    clocks.BOOST,
    clocks.HEAT,
    clocks.POWER,
    cores.SIBLINGS,
    cores.KINDS,
    cores.NODES,
    sharing.MEMORY,
    sharing.SWAP,
    system.PAGES,
    system.ADDRESSES,
    system.CLOCK,
    clocks.VIRTUAL,
    graphics.PRESENT,
    graphics.SHARING,
    graphics.SLOWED,
    graphics.CLOCKS,
    graphics.HEAT,
    graphics.POWER,
    graphics.PERSISTENCE,
    graphics.INSTANCES,
)


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What was found on a machine."""

    machine: Machine
    findings: tuple[Finding, ...]

    def of(self, status: Status) -> tuple[Finding, ...]:
        """Findings of a status, in the rules' order."""
        return tuple(one for one in self.findings if one.status == status)


def diagnose(machine: Machine, rules: Sequence[Rule] = RULES) -> Diagnosis:
    """Look at a machine by every rule."""
    found = (finding(rule, machine) for rule in rules)
    return Diagnosis(machine=machine, findings=tuple(one for one in found if one is not None))
