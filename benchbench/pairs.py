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

import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from benchbench.claims import Inconclusive, Rules, Time, Verdict, VerdictError, WrongResult
from benchbench.contract import Case, Engine, PlannedCase, Run, Settings, Tolerance
from benchbench.errors import BenchbenchError, UsageError, suggestion

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
    with tempfile.TemporaryDirectory(prefix="benchbench-") as folder:
        job = _Job(
            planned=planned,
            plugin=_write_plugin(Path(folder), spec),
            rules=rules,
            timed=timed,
            engine=LocalEngine() if engine is None else engine,
        )
        run, path = job.execute(
            stores.default_directory() if store is None else store, tuple(command)
        )
    return _conclude(run, path, planned, rules, timed)


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


def _write_plugin(folder: Path, spec: Mapping[str, Any]) -> str:
    from benchbench.pair_plugin import PLUGIN

    file = folder / "pair.py"
    file.write_text(PLUGIN, encoding="utf-8")
    file.with_suffix(".json").write_text(json.dumps(spec), encoding="utf-8")
    return str(file)


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
    cleaned = re.sub(r"[^A-Za-z0-9_.+-]+", "-", name).lstrip("_.+-")
    return cleaned or "callable"


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A comparison that is planned."""

    planned: PlannedCase
    plugin: str
    rules: Rules
    timed: bool
    engine: Engine

    def execute(self, directory: Path, command: tuple[str, ...]) -> tuple[Run, Path]:
        """Run processes, look by look, until the comparison is decided; everything is stored."""
        from benchbench import machine, store, supervise
        from benchbench.plugins import LoaderOptions
        from benchbench.records import to_json

        options = LoaderOptions(files=(self.plugin,), allowed=())
        looks = self.rules.looks if self.timed else (1,)
        settings = self._settings(looks[-1])
        header = {
            "id": store.new_id(),
            "started": store.now(),
            "command": command,
            "settings": to_json(settings),
            "environment": machine.environment(),
            "plugins": [],
            "plugin_options": to_json(options),
            "cases": to_json([self.planned]),
            "margin": self.rules.margin,
            "level": self.rules.level,
            "looks": looks,
        }
        writer = store.create(directory, header)
        status = "interrupted"
        try:
            # One at a time: where the results differ, the first process has shown it.
            for process in range(looks[-1]):
                supervise.execute(
                    [self.planned],
                    settings=replace(settings, processes=process + 1),
                    engine=self.engine,
                    options=options,
                    emit=writer.append,
                    first=process,
                )
                if self._ends(store.read(writer.path), process + 1 in looks):
                    break
            status = "complete"
        finally:
            writer.close(status)
        return store.read(writer.path), writer.path

    def _settings(self, processes: int) -> Settings:
        rules = self.rules
        return Settings(
            preset="pair",
            processes=processes,
            budget=rules.budget,
            warmup=rules.warmup,
            threads=rules.threads,
            timer=rules.timer,
            timeout=rules.timeout,
            seed=rules.seed,
            roof=False,
        )

    def _ends(self, run: Run, look: bool) -> bool:
        """True when nothing more can be learned: something is wrong, or it is decided at a look."""
        from benchbench.stats import summarise

        if any(result.status in ("wrong", "failed") for result in run.results):
            return True
        rows = summarise(run) if look else []
        return any(
            row.verdict not in (None, "inconclusive")
            and row.ratio is not None
            and row.ratio.coverage >= self.rules.level
            for row in rows
        )


def _conclude(run: Run, path: Path, planned: PlannedCase, rules: Rules, timed: bool) -> Verdict:
    from benchbench.stats import summarise

    __tracebackhide__ = True
    rows = {row.contender: row for row in summarise(run)}
    one, other = planned.contenders
    own, base = rows[one], rows[other]
    said = tuple(
        dict.fromkeys(
            str(event["text"])
            for event in run.events
            if event.get("kind") in ("note", "hook") and event.get("text")
        )
    )
    # A wrong baseline first: it explains what is said of the candidate.
    for row in sorted((base, own), key=lambda r: r.status != "wrong"):
        if row.status != "ok":
            where = f" ({row.stage})" if row.stage else ""
            what = f"{row.contender} is {row.status}{where}: {row.reason}"
            if row.stage == "make":
                why = row.reason.removeprefix("the workload's ").removeprefix("make raised ")
                what = f"{one} and {other} cannot be compared: {why}"
            notes = "".join(f"\n  {note}" for note in said)
            raise (WrongResult if row.status in ("wrong", "failed") else BenchbenchError)(
                f"{what}{notes}\n  all of it: benchbench show {run.id}"
            )
    found = Verdict(
        candidate=one,
        baseline=other,
        margin=rules.margin,
        processes=own.processes,
        errors=own.errors,
        notes=(*said, *(f"{n}: {note}" for n, r in rows.items() for note in r.notes)),
        run=run.id,
        path=path,
    )
    if not timed:
        return found
    if own.ratio is None or own.latency is None or base.latency is None or own.verdict is None:
        raise BenchbenchError(
            f"{planned.case.id} was measured in {own.processes} of {own.attempted} processes, too "
            f"few for a verdict; `benchbench show {run.id}` says what became of the others"
        )
    return replace(
        found,
        word=own.verdict,
        ratio=own.ratio.estimate,
        interval=(own.ratio.low, own.ratio.high),
        coverage=own.ratio.coverage,
        times=tuple(
            Time(
                name=row.contender,
                estimate=row.latency.estimate,
                low=row.latency.low,
                high=row.latency.high,
                unit=row.unit,
            )
            for row in (own, base)
            if row.latency is not None
        ),
    )
