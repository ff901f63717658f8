"""Compare two callables of a program of your own, with all the rigour of a run.

::

    from benchbench.pairs import compare

    verdict = compare(new, old, inputs=make)     # make(seed) returns the arguments
    print(verdict)
    verdict.assert_not_slower()

Both are imported in fresh worker processes, checked against each other, and timed in interleaved
blocks on the same input buffers. In pytest the fixture ``benchbench`` does the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from benchbench.claims import Inconclusive, Rules, VerdictError, WrongResult
from benchbench.contract import Case, Engine, PlannedCase, Tolerance
from benchbench.errors import UsageError, suggestion
from benchbench.pair_run import Comparison
from benchbench.pair_verdict import Time, Verdict

Check = Literal["tolerance"] | Callable[[Any, Any], object] | None

__all__ = ["Inconclusive", "Rules", "Time", "Verdict", "VerdictError", "WrongResult", "compare"]


def compare(
    candidate: Callable[..., Any],
    baseline: Callable[..., Any],
    *,
    inputs: Callable[[int], Any],
    reference: Callable[..., Any] | None = None,
    check: Check = "tolerance",
    tolerance: Tolerance | None = None,
    rules: Rules | None = None,
    name: str = "",
    timed: bool = True,
    store: Path | None = None,
    command: Sequence[str] = (),
    engine: Engine | None = None,
) -> Verdict:
    """Check two callables against each other and time them.

    Args:
        candidate: what is judged.
        baseline: what it is compared with. Both must be importable: functions and classes at the
            level of a module, their methods, ``functools.partial`` of these, or objects that can be
            pickled (a ``torch.nn.Module``).
        inputs: takes a seed and returns a tuple of arguments, a mapping of keyword arguments,
            :class:`benchbench.Inputs`, or a single argument. The same objects go to both, and
            neither may change them.
        reference: the same computation in float64, called with the inputs in float64. Left out, the
            baseline is called with them.
        check: ``"tolerance"`` compares outputs by the rule of :class:`benchbench.Tolerance`;
            a function of the two outputs (candidate's, baseline's) returns True, False, or why
            the first is wrong; None compares nothing.
        tolerance: of the rule, where it is not the usual one.
        rules: how to measure and decide, where it is not the usual way.
        name: of the comparison, in the table.
        timed: False checks the results once and times nothing.
        store: directory of the results; ``BENCHBENCH_STORE`` or ``.benchbench`` when left out.
        command: what the run is stored as the result of.
        engine: starts the processes; on this machine when left out.

    Raises:
        WrongResult: the outputs differ, an input was changed, or one of the two failed.
        UsageError: a callable cannot be imported by name in another process.
        BenchbenchError: no process can be started, or the results cannot be stored.
    """
    from benchbench import store as stores
    from benchbench.engines.local import LocalEngine
    from benchbench.timers import builtin

    __tracebackhide__ = True
    rules = Rules() if rules is None else rules
    known = ("auto", *builtin())
    if rules.timer not in known:
        raise UsageError(
            f"there is no timer {rules.timer!r}.{suggestion(rules.timer, known)} "
            f"Timers: {', '.join(known)}"
        )
    planned = _plan(candidate, baseline, inputs, rules, name, timed)
    how = check if check in ("tolerance", None) else "callable"
    spec = {
        "workload": planned.case.workload,
        "candidate": planned.contenders[0],
        "baseline": planned.baseline,
        "params": dict(planned.case.params),
        "device": rules.device,
        "doc": name,
        "check": how or "none",
        "sent": _pack(candidate, baseline, inputs, reference, check, tolerance),
    }
    comparison = Comparison(
        planned=planned,
        spec=spec,
        rules=rules,
        timed=timed,
        engine=LocalEngine() if engine is None else engine,
        directory=stores.default_directory() if store is None else store,
        command=tuple(command),
    )
    return comparison.until(lambda found: True)


def _pack(
    candidate: Any, baseline: Any, inputs: Any, reference: Any, check: Any, tolerance: Any
) -> str:
    from benchbench.shipping import pack

    for role, value in (("candidate", candidate), ("baseline", baseline), ("inputs", inputs)):
        if not callable(value):
            hint = " It is called with a seed in each process" if role == "inputs" else ""
            raise UsageError(f"{role} must be callable, not a {type(value).__name__}.{hint}")
    if isinstance(check, str) and check != "tolerance":
        raise UsageError(
            f"check={check!r} is unknown: 'tolerance', a function of both outputs, or None"
        )
    return pack(
        {
            "candidate": candidate,
            "baseline": baseline,
            "inputs": inputs,
            "reference": reference,
            "check": None if isinstance(check, str) else check,
            "tolerance": Tolerance() if tolerance is None else tolerance,
        }
    )


def _plan(
    candidate: Any, baseline: Any, inputs: Any, rules: Rules, name: str, timed: bool
) -> PlannedCase:
    one, other = _label(candidate), _label(baseline)
    if one == other:
        one, other = f"{one}-candidate", f"{other}-baseline"
    params = {"inputs": _label(inputs)}
    if rules.device != "cpu":
        params["device"] = rules.device
    task = re.sub(r"[^a-z0-9_.-]+", "-", (name or f"{one}-{other}").lower()).strip("-_.")
    case = Case(
        workload=f"pair/{task or 'pair'}",
        params=params,
        seed=rules.seed,
        untimed=() if timed else (one, other),
    )
    return PlannedCase(case=case, baseline=other, contenders=(one, other))


def _label(value: Any) -> str:
    """A callable's name as a contender may be called."""
    import functools

    while isinstance(value, functools.partial):
        value = value.func
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    if name.startswith("_"):  # torch.tanh calls itself _VariableFunctionsClass.tanh
        name = name.rpartition(".")[2]
    cleaned = re.sub(r"[^A-Za-z0-9_.+-]+", "-", name).lstrip("_.+-")
    return cleaned or "callable"
