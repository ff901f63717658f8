"""Contract dataclasses to JSON and back.

The protocol and the store use the same shapes. JSON has no infinities: non-finite floats are
written as the strings ``"nan"``, ``"inf"`` and ``"-inf"`` and read back where a field is a number.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from benchbench.contract import (
    Case,
    PlannedCase,
    PluginInfo,
    Provider,
    Result,
    Settings,
    Work,
    freeze,
)

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """Plain JSON values for dataclasses, mappings, sequences and scalars; ``str`` for the rest."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, str | int | bool):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    return str(value)


def from_json(cls: type[T], data: Mapping[str, Any]) -> T:
    """Build a flat dataclass; fields that this version does not know are ignored.

    So a file written by a newer benchbench can still be read.
    """
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return cls(**{name: value for name, value in data.items() if name in known})


def params_from_json(data: Mapping[str, Any]) -> dict[str, Any]:
    """Axis values, with lists turned back into tuples."""
    return {axis: freeze(value) for axis, value in data.items()}


def case_from_json(data: Mapping[str, Any]) -> Case:
    """The case that ``to_json`` wrote."""
    fields = {**data, "params": params_from_json(data["params"])}
    return from_json(Case, {**fields, "untimed": tuple(data.get("untimed", ()))})


def planned_from_json(data: Mapping[str, Any]) -> PlannedCase:
    """The planned case that ``to_json`` wrote."""
    return PlannedCase(
        case=case_from_json(data["case"]),
        baseline=data["baseline"],
        contenders=tuple(data["contenders"]),
    )


def settings_from_json(data: Mapping[str, Any]) -> Settings:
    """The settings that ``to_json`` wrote."""
    return from_json(Settings, data)


def provider_from_json(data: Mapping[str, Any]) -> Provider:
    """The provider that ``to_json`` wrote."""
    return from_json(Provider, data)


def plugin_from_json(data: Mapping[str, Any]) -> PluginInfo:
    """The plugin description that ``to_json`` wrote."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
    }
    fields["provider"] = provider_from_json(data.get("provider", {}))
    return from_json(PluginInfo, fields)


def _numbers(data: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in data.items()}


def result_from_json(data: Mapping[str, Any]) -> Result:
    """The result that ``to_json`` wrote."""
    fields = dict(data)
    fields["params"] = params_from_json(data.get("params", {}))
    fields["provider"] = provider_from_json(data.get("provider", {}))
    fields["samples"] = tuple(float(sample) for sample in data.get("samples", ()))
    fields["notes"] = tuple(data.get("notes", ()))
    for name in ("errors", "metrics", "signals"):
        fields[name] = _numbers(data.get(name, {}))
    work = data.get("work")
    fields["work"] = None if work is None else from_json(Work, work)
    return from_json(Result, fields)
