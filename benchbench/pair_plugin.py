"""What a worker contributes for one comparison of two callables: a workload, two implementations.

Worker side. The plugin file that :mod:`benchbench.pairs` writes calls :func:`load`.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchbench.contract import Evidence, Implementation, Params, Thunk, Workload
from benchbench.errors import BenchbenchError, PluginError
from benchbench.inputs import Inputs
from benchbench.plugins import describe_error
from benchbench.shipping import again, unpack
from benchbench.structures import is_array, is_module, is_tensor, leaves

log = logging.getLogger("benchbench")

ROLES = ("candidate", "baseline", "inputs", "reference", "check", "tolerance")
"""What is sent."""

PLUGIN = '''\
"""Written by benchbench for one comparison; it is removed when that ends."""

from pathlib import Path

import benchbench
from benchbench import pair_plugin

_PAIR = pair_plugin.load(Path(__file__).with_suffix(".json"))


@benchbench.hookimpl
def benchbench_workloads():
    return [_PAIR.workload]


@benchbench.hookimpl
def benchbench_implementations():
    return _PAIR.implementations
'''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """The contributions."""

    workload: Workload
    implementations: tuple[Implementation, Implementation]


def load(path: Path) -> Pair:
    """Read what was sent and import the callables.

    Where one cannot be imported, the workload that is returned says so when it is run, so that the
    reason stands in the results.
    """
    spec = json.loads(path.read_text(encoding="utf-8"))
    try:
        sent = unpack(spec["sent"])
    except PluginError as error:
        sent = dict.fromkeys(ROLES, functools.partial(_raise, error))
        sent["tolerance"] = None
    judge = _Judge(
        baseline=sent["baseline"],
        reference=sent["reference"],
        check=sent["check"],
        how=spec["check"],
        name=spec["baseline"],
    )
    workload = Workload(
        name=spec["workload"],
        doc=spec["doc"],
        make=functools.partial(_make, sent["inputs"], spec["device"]),
        baseline=spec["baseline"],
        axes={axis: (value,) for axis, value in spec["params"].items()},
        reference=None if spec["check"] == "none" else judge.expected,
        tolerance=sent["tolerance"] if spec["check"] == "tolerance" else None,
        check=None if spec["check"] == "tolerance" else judge.verdict,
    )
    candidate, baseline = (
        Implementation(
            workload=spec["workload"],
            name=spec[role],
            build=functools.partial(build, sent[role]),
            doc=inspect.getdoc(sent[role]) or "",
            pair=spec["baseline"],
        )
        for role in ("candidate", "baseline")
    )
    return Pair(workload=workload, implementations=(candidate, baseline))


def _raise(error: PluginError, *arguments: Any) -> Any:
    raise error


def _make(make: Callable[[int], Any], device: str, params: Params, seed: int) -> Any:
    made = make(seed)
    for path, leaf in leaves(made):
        if is_tensor(leaf) and leaf.device.type != device.partition(":")[0]:
            raise BenchbenchError(
                f"the input {path or 'value'} is on {leaf.device}, but the comparison is for "
                f"{device}, whose clock would be the wrong one: say device={leaf.device.type!r}"
            )
    return made


def build(function: Callable[..., Any], inputs: Any) -> Thunk:
    """A copy of the callable, bound: the baseline's controls must not share its state, and what it
    holds must lie elsewhere in memory, as it does for the candidate.
    """
    return bind(again(function), inputs)


def bind(function: Callable[..., Any], inputs: Any) -> Thunk:
    """The call that is timed: a tuple's parts are arguments, a mapping's are keyword arguments,
    anything else is the one argument.
    """
    if isinstance(inputs, Inputs):
        return inputs.thunk(function)
    if isinstance(inputs, tuple):
        return functools.partial(function, *inputs)
    if isinstance(inputs, Mapping):
        return functools.partial(function, **inputs)
    return functools.partial(function, inputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Judge:
    """What the outputs should be, and whether they are."""

    baseline: Callable[..., Any]
    reference: Callable[..., Any] | None
    check: Callable[[Any, Any], Any] | None
    how: str
    name: str
    """Of the baseline."""

    def expected(self, inputs: Any) -> Any:
        """The reference's output, or the baseline's, computed in float64 where that is possible."""
        if self.how == "callable":
            return bind(self.baseline, copied(inputs))()
        if self.reference is not None:
            return bind(self.reference, in_double(inputs))()
        try:
            output = bind(in_double(self.baseline), in_double(inputs))()
        except Exception as error:
            output = bind(self.baseline, copied(inputs))()
            log.info(
                "%s cannot be computed in float64 (%s), so its own output is what the other must "
                "equal, to one rounding unit; pass reference= or a wider tolerance=",
                self.name,
                describe_error(error),
            )
        for path, leaf in leaves(output):
            number = is_tensor(leaf) or is_array(leaf) or isinstance(leaf, int | float | complex)
            if not number and leaf is not None:
                raise BenchbenchError(
                    f"output{path} of {self.name} is a {type(leaf).__name__}, which cannot be "
                    "compared as numbers: pass check=operator.eq, or another function of both "
                    "outputs"
                )
        return output

    def verdict(self, evidence: Evidence) -> str | None:
        """What the caller's own check says of one output."""
        if self.check is None:
            return None
        said = self.check(evidence.output, evidence.reference)
        if isinstance(said, str):
            return said or None
        if said is None or bool(said):
            return None
        return f"the check {getattr(self.check, '__name__', self.check)!r} says that it differs"


def in_double(value: Any) -> Any:
    """A copy with floating-point tensors, arrays and modules in float64, complex in complex128."""
    return copied(value, double=True)


def copied(value: Any, *, double: bool = False) -> Any:
    """A deep copy, in float64 or as it is, so that the original stays whatever a callee does.

    Looks into tuples, lists, mappings, dataclasses, partials, bound methods and
    :class:`benchbench.Inputs`. What cannot be copied (a lock, an open file) is taken itself.
    """
    import torch

    again = functools.partial(copied, double=double)
    if isinstance(value, Inputs):
        return value.double() if double else value
    if is_tensor(value):
        kind = torch.complex128 if value.is_complex() else torch.float64
        convert = double and (value.is_complex() or value.is_floating_point())
        new = value.detach().clone()
        return (new.to(kind) if convert else new).requires_grad_(value.requires_grad)
    if is_array(value):
        wide = {"f": "float64", "c": "complex128"}.get(value.dtype.kind) if double else None
        return copy.deepcopy(value) if wide is None else value.astype(wide)
    if is_module(value):
        return copy.deepcopy(value).double() if double else copy.deepcopy(value)
    if inspect.ismethod(value):
        return type(value)(value.__func__, again(value.__self__))
    if isinstance(value, functools.partial):
        keywords = {name: again(item) for name, item in value.keywords.items()}
        return functools.partial(again(value.func), *map(again, value.args), **keywords)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(again, value))
    if type(value) in (tuple, list):
        return type(value)(map(again, value))
    if type(value) is dict:
        return {key: again(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            f.name: again(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init
        }
        return dataclasses.replace(value, **fields)
    if isinstance(value, torch.dtype):
        return torch.float64 if double and value.is_floating_point else value
    try:
        return copy.deepcopy(value)
    except Exception:
        return value
