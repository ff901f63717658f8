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
import math
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from benchbench.contract import Case, Engine, PlannedCase, Run, Settings, Tolerance
from benchbench.errors import BenchbenchError, UsageError, suggestion
from benchbench.verdict import MARGIN, Word

LOOKS = (9, 16, 24)
"""Processes after which it is decided whether more are needed."""
FEWEST = 5
ERROR = 0.05
"""Chance that a comparison's interval misses the true ratio, over all looks together."""

Check = Literal["tolerance"] | Callable[[Any, Any], object] | None


class VerdictError(AssertionError):
    """What was claimed of two callables does not hold."""


class WrongResult(VerdictError):
    """The two do not compute the same, change their inputs, or one of them failed."""


class Inconclusive(VerdictError):
    """The measurements neither support what was claimed nor contradict it."""


def _raise(message: str) -> None:
    __tracebackhide__ = True
    raise Inconclusive(message)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a comparison is measured and decided."""

    processes: int = LOOKS[0]
    """Fresh processes at first, the replicates; at least 5."""
    most: int = LOOKS[-1]
    """An undecided comparison gets more processes, up to so many."""
    margin: float = MARGIN
    """Differences up to this share are no difference."""
    budget: float = 0.4
    """Timed seconds in each process, for both together."""
    warmup: float = 0.2
    """Most seconds of warm-up for each in each process."""
    threads: int = 0
    """Intra-op threads; 0 takes the physical cores that this process may use."""
    device: str = "cpu"
    """Where the inputs are; decides the clock."""
    timer: str = "auto"
    """``instructions`` counts them in place of time."""
    timeout: float = 180.0
    """Seconds that one step may take before its process is killed."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.processes < FEWEST:
            raise UsageError(
                f"processes={self.processes} gives no interval, and no verdict without one: take "
                f"{FEWEST} or more, better {LOOKS[0]}"
            )
        if self.margin < 0:
            raise UsageError(f"the margin must not be negative, it is {self.margin}")

    @staticmethod
    def of(given: Mapping[str, Any]) -> Rules:
        """Rules from names and values; text is read as the rule's type.

        Raises:
            UsageError: there is no such rule, or a value is none for it.
        """
        types = {f.name: {"int": int, "float": float}.get(str(f.type), str) for f in fields(Rules)}
        read = {}
        for name, value in given.items():
            if name not in types:
                raise UsageError(
                    f"benchbench has no rule {name!r}.{suggestion(name, types)} "
                    f"The rules are {', '.join(types)}"
                )
            try:
                read[name] = types[name](value)
            except (TypeError, ValueError):
                raise UsageError(
                    f"{name}={value!r} is no value for this rule: give {types[name].__name__}"
                ) from None
        return Rules(**read)

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of processes after which it is decided."""
        more = (look for look in LOOKS if self.processes < look < self.most)
        last = (self.most,) if self.most > self.processes else ()
        return (self.processes, *more, *last)

    @property
    def level(self) -> float:
        """Level of the intervals: whichever look decides, an error stays below ``ERROR`` in all.

        The error is shared out equally (Bonferroni), which holds for any dependence of the looks.
        """
        return 1.0 - ERROR / len(self.looks)


@dataclass(frozen=True, kw_only=True)
class Time:
    """Seconds of one call (or the timer's unit), with the interval over processes."""

    name: str
    estimate: float
    low: float
    high: float
    unit: str = "s"

    def __str__(self) -> str:
        from benchbench.reports.text import duration

        return (
            f"{self.name} {duration(self.estimate, self.unit)} "
            f"[{duration(self.low, self.unit)}, {duration(self.high, self.unit)}]"
        )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a comparison found.

    ``ratio`` is the candidate's time over the baseline's, below 1 is faster; ``interval`` is around
    it. Without timing (``timed`` is False) ``word`` is None, the figures are ``nan``, and the
    assertions hold, since there is nothing that could contradict them.
    """

    candidate: str
    baseline: str
    word: Word | None = None
    ratio: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)
    coverage: float = 0.0
    """Chance that an interval made like this one encloses the true ratio."""
    margin: float = MARGIN
    processes: int = 0
    times: tuple[Time, ...] = ()
    """Of the candidate and of the baseline."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """Of the candidate's output, see :class:`benchbench.Result`."""
    notes: tuple[str, ...] = ()
    run: str = ""
    """Id of the stored run."""
    path: Path = Path()
    """Its file."""
    inconclusive: Callable[[str], None] = field(default=_raise, repr=False, compare=False)
    """Called with the message when an assertion can be neither confirmed nor refuted."""

    @property
    def timed(self) -> bool:
        """False when only the results were compared."""
        return bool(self.times)

    @property
    def what(self) -> str:
        """What was measured: time, or what the timer counts."""
        units = {time.unit for time in self.times} - {"s"}
        return units.pop() if units else "time"

    def assert_not_slower(self) -> None:
        """The candidate takes at most ``1 + margin`` times as long.

        Raises:
            VerdictError: the whole interval lies above that.
            Inconclusive: the interval encloses it.
        """
        __tracebackhide__ = True
        self._claim("no slower than", above=1.0 + self.margin)

    def assert_faster(self, by: float | None = None) -> None:
        """The baseline takes at least ``by`` times as long; by default beyond the margin.

        Raises:
            VerdictError: the whole interval contradicts that.
            Inconclusive: the interval encloses it.
        """
        __tracebackhide__ = True
        factor = 1.0 + self.margin if by is None else by
        if factor < 1.0:
            raise UsageError(f"by={by}: it is the factor by which it is faster, at least 1")
        self._claim(f"at least {factor:g} times as fast as", above=1.0 / factor)

    def assert_same(self) -> None:
        """The two take the same time, within the margin.

        Raises:
            VerdictError: the whole interval lies outside the margin.
            Inconclusive: part of it does.
        """
        __tracebackhide__ = True
        upper = 1.0 + self.margin
        self._claim("as fast as", above=upper, least=1.0 / upper)

    def _claim(self, claim: str, *, above: float, least: float = 0.0) -> None:
        """The ratio is claimed to lie between ``least`` and ``above``."""
        __tracebackhide__ = True
        if not self.timed:
            return
        low, high = self.interval
        if least <= low and high <= above:
            return
        bound = f"between {least:.4g} and {above:.4g}" if least else f"at most {above:.4g}"
        if low > above or high < least:
            raise VerdictError(
                f"'{self.candidate} is {claim} {self.baseline}' does not hold: the ratio "
                f"would be {bound}.\n{self}"
            )
        self.inconclusive(
            f"{self.processes} processes do not tell whether {self.candidate} is {claim} "
            f"{self.baseline} (the ratio would be {bound}).\n{self}\n"
            "More processes (most=), a larger budget= or a quieter machine narrow the interval"
        )

    @property
    def line(self) -> str:
        """The verdict in one line."""
        if not self.timed:
            return f"{self.candidate} against {self.baseline}: results agree, not timed"
        low, high = self.interval
        return (
            f"{self.candidate} against {self.baseline}: {self.word}, {self.ratio:.3f} times the "
            f"{self.what} [{low:.3f}, {high:.3f}], {self.processes} processes"
        )

    def __str__(self) -> str:
        if not self.timed:
            return self.line
        low, high = self.interval
        lines = [
            f"{self.word}: {self.candidate} takes {self.ratio:.3f} times the {self.what} of "
            f"{self.baseline} [{low:.3f}, {high:.3f}: {100 * self.coverage:.1f} % interval over "
            f"{self.processes} processes; margin {100 * self.margin:g} %]",
            *(f"  {time}" for time in self.times),
        ]
        if self.errors:
            lines.append(
                f"  largest relative error {self.errors.get('max', 0.0):.2g}, allowed "
                f"{self.errors.get('allowed', 0.0):.2g}"
            )
        lines += [f"  {note}" for note in self.notes]
        if self.run:
            lines.append(f"  all of it: benchbench show {self.run}")
        return "\n".join(lines)


def compare(
    candidate: Callable[..., Any],
    baseline: Callable[..., Any],
    *,
    inputs: Callable[[int], Any],
    reference: Callable[..., Any] | None = None,
    check: Check = "tolerance",
    tolerance: Tolerance | None = None,
    rules: Rules = Rules(),
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
        rules: how to measure and decide.
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
