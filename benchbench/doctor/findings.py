"""What a rule is, and what it found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from benchbench.doctor.place import Machine

UNREAD = "Cannot be mended here: nothing tells whether there is something to mend."

Status = Literal["good", "noisy", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What looking at a machine gave."""

    status: Status
    read: str
    """What was read, in one line."""
    command: str = ""
    """What to type, exactly."""
    cannot: str = ""
    """Why it cannot be mended here."""
    mend: str = ""
    """How to mend it, where that differs from the rule's."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One thing that makes numbers noisy."""

    name: str
    reads: str
    noisy: str
    """When it is called noisy."""
    effect: str
    """What it does to numbers."""
    mend: str
    look: Callable[[Machine], Found | None]
    """None: there is no such thing on this machine."""
    host: bool = False
    """It belongs to the kernel, so a container cannot change it."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One rule's finding, ready to be shown."""

    name: str
    status: Status
    read: str
    effect: str
    mend: str = ""
    """How to mend it, or why that cannot be done here; empty where nothing has to be."""
    command: str = ""


def good(read: str) -> Found:
    """Nothing to mend."""
    return Found(status="good", read=read)


def noisy(read: str, command: str = "", cannot: str = "", mend: str = "") -> Found:
    """Something to mend, unless ``cannot`` says why not."""
    return Found(status="noisy", read=read, command=command, cannot=cannot, mend=mend)


def unknown(read: str, command: str = "", cannot: str = "", mend: str = "") -> Found:
    """It cannot be read; ``command`` would make it readable."""
    return Found(status="unknown", read=read, command=command, cannot=cannot, mend=mend)


def finding(rule: Rule, machine: Machine) -> Finding | None:
    """Look at a machine by one rule; None where it has nothing to look at."""
    found = rule.look(machine)
    if found is None:
        return None
    mend = ""
    if found.cannot:
        mend = f"Cannot be mended here: {found.cannot}."
    elif found.status == "noisy" or found.command:
        mend = (found.mend or rule.mend).rstrip(":.")
        if rule.host and machine.container:
            mend += f", on the host (this {machine.container} container cannot)"
        mend += ":" if found.command else "."
    elif found.status == "unknown":
        mend = UNREAD
    return Finding(
        name=rule.name,
        status=found.status,
        read=found.read,
        effect=rule.effect,
        mend=mend,
        command=found.command,
    )
