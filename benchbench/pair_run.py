"""Runs a comparison of two callables look by look, and says what was found. See ``pairs``."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchbench.claims import Rules, WrongResult, followed
from benchbench.contract import Engine, PlannedCase, Run, Settings
from benchbench.errors import BenchbenchError
from benchbench.pair_verdict import Time, Verdict
from benchbench.sides import Copy, entrant_name

if TYPE_CHECKING:
    from benchbench.gate.report import Control
    from benchbench.plugins import LoaderOptions
    from benchbench.sequential import Decision
    from benchbench.stats import Row
    from benchbench.store import Writer


class Comparison:
    """A comparison under way: its run grows look by look, for as long as a question is open."""

    def __init__(
        self,
        *,
        planned: PlannedCase,
        spec: Mapping[str, Any],
        rules: Rules,
        timed: bool,
        engine: Engine,
        directory: Path,
        command: tuple[str, ...],
    ) -> None:
        self._pair = planned
        self._spec = spec
        self._rules = rules
        self._timed = timed
        self._engine = engine
        self._directory = directory
        self._command = command
        self._copies = self._controls() if timed and rules.controls != "none" else ()
        copies = (entrant_name(planned.baseline, copy.suffix) for copy in self._copies)
        self._planned = replace(planned, contenders=(*planned.contenders, *copies))
        self._path: Path | None = None
        self._done = 0
        self._seconds = 0.0

    def _controls(self) -> tuple[Copy, ...]:
        from benchbench.controls import controls_of

        return controls_of(f"{self._pair.case.workload}:{self._pair.baseline}", self._rules.slowed)

    @property
    def _looks(self) -> tuple[int, ...]:
        return self._rules.looks if self._timed else (1,)

    def until(self, settled: Callable[[Verdict], bool]) -> Verdict:
        """Take the first look, then as many as it needs until it is settled; at most all."""
        __tracebackhide__ = True
        verdict = self._verdict() if self._done else None
        while verdict is None or (self._done < self._looks[-1] and not settled(verdict)):
            self._look(next(look for look in self._looks if look > self._done))
            verdict = self._verdict()
        return verdict

    def _look(self, upto: int) -> None:
        """Run the processes up to this look, or until one finds something wrong; all is stored."""
        from benchbench import store, supervise
        from benchbench.plugins import LoaderOptions

        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="benchbench-") as folder:
            options = LoaderOptions(
                files=(_write_plugin(Path(folder), self._spec),),
                allowed=(),
                controls=self._copies,
            )
            settings = self._settings()
            writer = self._writer(options)
            status = "interrupted"
            try:
                # One at a time: where the results differ, the first process has shown it.
                for process in range(self._done, upto):
                    supervise.execute(
                        [self._planned],
                        settings=replace(settings, processes=process + 1),
                        engine=self._engine,
                        options=options,
                        emit=writer.append,
                        first=process,
                    )
                    self._done = process + 1
                    if self._wrong(store.read(writer.path)):
                        break
                status = "complete"
            finally:
                writer.close(status)
                self._seconds += time.monotonic() - started

    def _writer(self, options: LoaderOptions) -> Writer:
        from benchbench import machine, store
        from benchbench.records import to_json

        if self._path is not None:
            writer = store.Writer(self._path)
            writer.append({"type": "resume", "at": store.now(), "command": self._command})
            return writer
        design = self._rules.design
        header = {
            "id": store.new_id(),
            "started": store.now(),
            "command": self._command,
            "settings": to_json(self._settings()),
            "environment": machine.environment(),
            "plugins": [],
            "plugin_options": to_json(options),
            "cases": to_json([self._planned]),
            "margin": design.margin,
            # What `show` says of the run must not be surer than the last look of this design.
            "level": 1.0 - 2.0 * design.beta * design.spending[-1],
            "looks": self._looks,
        }
        writer = store.create(self._directory, header)
        self._path = writer.path
        return writer

    def _settings(self) -> Settings:
        rules = self._rules
        # The budget is for the two; what else is timed beside them must not take of it.
        share = len(self._planned.contenders) / len(self._pair.contenders)
        return Settings(
            preset="pair",
            processes=self._looks[-1],
            budget=rules.budget * share,
            warmup=rules.warmup,
            threads=rules.threads,
            timer=rules.timer,
            timeout=rules.timeout,
            seed=rules.seed,
            roof=False,
        )

    def _wrong(self, run: Run) -> bool:
        """True when nothing more can be learned."""
        return any(
            result.status in ("wrong", "failed")
            for result in run.results
            if result.contender in self._pair.contenders
        )

    def _verdict(self) -> Verdict:
        from benchbench import store

        __tracebackhide__ = True
        assert self._path is not None
        found = _conclude(
            store.read(self._path), self._path, self._pair, self._rules, self._done, self._timed
        )
        if not self._timed:
            return found
        controls, pending = self._judged(store.read(self._path))
        return replace(
            found,
            controls=controls,
            pending=pending and self._done < self._looks[-1],
            seconds=self._seconds,
            more=self.until,
        )

    def _judged(self, run: Run) -> tuple[tuple[Control, ...], bool]:
        """The controls as a gate judges them, and whether more processes may still tell."""
        from benchbench.controls import NULL, SLOWED
        from benchbench.gate.execute import judge_controls
        from benchbench.gate.select import Selection

        if not self._copies:
            return (), False
        case, baseline = self._pair.case.id, self._pair.baseline
        decisions: dict[tuple[str, str], Decision] = {}
        for suffix in (NULL, SLOWED):
            name = entrant_name(baseline, suffix)
            # Each is a question of its own: both are known to come out right on a sound machine.
            found = followed(_logs(run, name, baseline), self._done, self._rules.design)
            if found is not None:
                decisions[case, name] = found
        selection = Selection(cases=(), lines=(), controls=((case, baseline),))
        judged = tuple(judge_controls(selection, decisions, self._rules.slowed))
        null = decisions.get((case, entrant_name(baseline, NULL)))
        slowed = decisions.get((case, entrant_name(baseline, SLOWED)))
        fired = null is not None and null.word in ("slower", "faster")
        return judged, not fired and slowed is not None and slowed.word == "undecided"


def _logs(run: Run, one: str, other: str) -> dict[int, float]:
    """``ln(one / other)`` of each process that measured both."""
    from benchbench.stats import log_ratio

    samples: dict[str, dict[int, tuple[float, ...]]] = {one: {}, other: {}}
    for result in run.results:
        if result.contender in samples and result.status == "ok":
            samples[result.contender][result.process] = result.samples
    found = {
        process: log_ratio(own, samples[other][process])
        for process, own in samples[one].items()
        if process in samples[other]
    }
    return {process: value for process, value in found.items() if value is not None}


def _conclude(
    run: Run, path: Path, planned: PlannedCase, rules: Rules, attempted: int, timed: bool
) -> Verdict:
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
            if row is base and row.stage == "audit":
                notes += (
                    f"\n  if what {other} returns depends on earlier calls, let each call start "
                    "afresh, or compare results in a test of their own and pass check=None here"
                )
            raise (WrongResult if row.status in ("wrong", "failed") else BenchbenchError)(
                f"{what}{notes}\n  all of it: benchbench show {run.id}"
            )
    found = Verdict(
        candidate=one,
        baseline=other,
        rules=rules,
        attempted=attempted,
        errors=own.errors,
        notes=(*said, *_notes(rows, planned)),
        run=run.id,
        path=path,
    )
    if not timed:
        return found
    logs = _logs(run, one, other)
    if not logs:
        raise BenchbenchError(
            f"{planned.case.id} was measured in {own.processes} of {attempted} processes, in none "
            f"of them both callables; `benchbench show {run.id}` says what became of the others"
        )
    return replace(
        found,
        logs=logs,
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


def _notes(rows: Mapping[str, Row], planned: PlannedCase) -> list[str]:
    """What rows say of the two, and why a control has no times."""
    own = [f"{name}: {note}" for name in planned.contenders for note in rows[name].notes]
    lost = [
        f"{name} is {row.status}: {row.reason}"
        for name, row in rows.items()
        if name not in planned.contenders and row.status != "ok"
    ]
    return [*own, *lost]


def _write_plugin(folder: Path, spec: Mapping[str, Any]) -> str:
    from benchbench.pair_plugin import PLUGIN

    file = folder / "pair.py"
    file.write_text(PLUGIN, encoding="utf-8")
    file.with_suffix(".json").write_text(json.dumps(spec), encoding="utf-8")
    return str(file)
