"""The parent's side of a run: attribute what goes wrong, run it again without, hand on rows.

A worker that dies, hangs or takes too much memory costs the contender that was announced last its
rows in that case, for the rest of the run, and nobody else anything: a new worker runs the case
again without it. In every later process the contender gets a failed row with the same reason at
once, so that each process has a row for each contender and a resumed run knows what is done. An
implementation that cost three workers is not tried in further cases.

A plugin that kills the worker while it is loaded is left out for the rest of the run.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchbench import roof
from benchbench.contract import Engine, PlannedCase, Result, Settings, Stage
from benchbench.errors import BenchbenchError
from benchbench.plugins import LoaderOptions
from benchbench.records import result_from_json, to_json
from benchbench.watch import ATTEMPTS, Lost, Record, Watch, Workers, crash_place, ended

LOSSES = 3
"""Workers that one implementation may cost before it is left out of all further cases."""


def describe(engine: Engine, options: LoaderOptions, settings: Settings) -> dict[str, Any]:
    """The catalogue's description, made in a worker.

    A plugin that kills the worker is left out, stands in the description as failed, and is named
    under ``blocked`` with the reason: add those names to the options' own for the run, or it kills
    (or hangs) the run's first worker again.

    Raises:
        WorkerDied: workers die with no plugin to blame.
        UsageError: a plugin file or name does not exist.
    """
    workers = Workers(engine, options, settings, lambda record: None)
    live: list[Watch] = []
    with ended(live):
        while True:
            watch, _ = workers.start(0)
            live[:] = [watch]
            try:
                for message in watch.ask({"type": "describe"}, ["catalogue"], settings.timeout):
                    if message["type"] == "catalogue":
                        return _with_blocked(message["description"], workers)
            except Lost as lost:
                live.clear()
                workers.lose(lost, "while it was asked what is available")


def _with_blocked(description: dict[str, Any], workers: Workers) -> dict[str, Any]:
    for info in description["plugins"]:
        name = info["provider"]["plugin"]
        if name in workers.blocked:
            info["status"] = "failed"
            info["reason"] = workers.blocked[name]
            info["detail"] = workers.logs[name]
    description["blocked"] = dict(workers.blocked)
    return description


def render(engine: Engine, options: LoaderOptions, report_name: str, run_path: str) -> str:
    """A stored run as a plugin's report shows it.

    Raises:
        BenchbenchError: the report raised, or took its worker down.
    """
    settings = Settings()
    workers = Workers(engine, options, settings, lambda record: None)
    live: list[Watch] = []
    with ended(live):
        watch, _ = workers.start(0)
        live.append(watch)
        request = {"type": "render", "report": report_name, "path": str(run_path)}
        try:
            for message in watch.ask(request, ["rendered", "error"], settings.timeout):
                if message["type"] == "rendered":
                    return str(message["text"])
                if message["type"] == "error":
                    break
        except Lost as lost:
            live.clear()
            why = f"the worker was lost: {lost.reason}"
        else:
            why = str(message["why"])
    raise BenchbenchError(f"the report {report_name!r} cannot show {run_path}: {why}")


@dataclass(frozen=True, kw_only=True)
class _Exclusion:
    """Why a contender is not run (again)."""

    reason: str
    stage: Stage


def execute(
    cases: Sequence[PlannedCase],
    *,
    settings: Settings,
    engine: Engine,
    options: LoaderOptions,
    emit: Callable[[Record], None],
    done: Collection[tuple[str, str, int]] = (),
    first: int = 0,
) -> None:
    """Run all cases in ``settings.processes`` fresh workers and emit records as they come.

    Records are of type ``process`` (what a worker says of itself; a worker that replaces a lost
    one says it again, with ``restart``), ``result``, ``event`` (``kind`` and, when there is
    something to tell the user, ``text``) and, not to be stored, ``progress``.

    Args:
        cases: from the plan; each process runs them in an order of its own.
        settings: of the run.
        engine: starts the workers.
        options: which plugins they load.
        emit: takes every record, in this thread.
        done: case id, contender and process of rows that exist (a resumed run). A case that is
            done in part is run again whole, since its rows belong together.
        first: number of the first process; those before it were run earlier.

    Raises:
        WorkerDied: workers die with nobody to blame.
        UsageError: the engine cannot work here.
    """
    execution = Execution(cases, settings, engine, options, emit, done, first)
    for process in range(first, settings.processes):
        for _ in execution.steps(process):
            pass
    execution.close()


class Execution:
    """Runs cases a step at a time, so that whoever drives it can run others in between.

    Args: those of :func:`execute`.
    """

    def __init__(
        self,
        cases: Sequence[PlannedCase],
        settings: Settings,
        engine: Engine,
        options: LoaderOptions,
        emit: Callable[[Record], None],
        done: Collection[tuple[str, str, int]] = (),
        first: int = 0,
    ) -> None:
        self.settings = settings
        self.emit = emit
        self.workers = Workers(engine, options, settings, emit)
        finished = set(done)
        self.queues = {
            process: self._shuffled(
                [c for c in cases if not _is_done(c, process, finished)], process
            )
            for process in range(first, settings.processes)
        }
        self.total = sum(len(queue) for queue in self.queues.values())
        self.finished = 0
        self.excluded: dict[tuple[str, str], _Exclusion] = {}
        """By case id and contender."""
        self.given_up: dict[str, _Exclusion] = {}
        """By implementation id, for all cases."""
        self.losses: defaultdict[str, int] = defaultdict(int)
        self.strikes: defaultdict[str, int] = defaultdict(int)
        self.without_roof: set[str] = set()
        self.prepared = False
        self.case_seconds: list[float] = []

    def _shuffled(self, cases: list[PlannedCase], process: int) -> deque[PlannedCase]:
        rng = random.Random(f"{self.settings.seed}:{process}")
        return deque(rng.sample(cases, len(cases)))

    def close(self) -> None:
        """Say that all is done."""
        if self.total:
            self._progress(None, self.settings.processes - 1)

    def steps(self, process: int) -> Generator[PlannedCase, None, None]:
        """Run the cases of one process in its own order; gives each when it has been run.

        Processes are run one after the other: they must not disturb each other's times.
        """
        queue = self.queues[process]
        live: list[Watch] = []
        shown: set[tuple[str, str]] = set()
        restart = 0
        with ended(live):
            while queue:
                planned = queue[0]
                self._progress(planned, process)
                names = self._admitted(planned, process, shown)
                if not names:
                    queue.popleft()
                    self.finished += 1
                    yield planned
                    continue
                try:
                    if not live:
                        live.append(self._start(process, restart))
                        restart += 1
                        continue  # preparing may have excluded contenders of this case
                    self._run_case(live[0], planned, names, process)
                except Lost as lost:
                    live.clear()
                    self._attribute(planned, names, lost, process)
                    continue
                queue.popleft()
                self.finished += 1
                yield planned

    def _admitted(
        self, planned: PlannedCase, process: int, shown: set[tuple[str, str]]
    ) -> tuple[str, ...]:
        """Contenders that may run; the others' rows are emitted, once a process."""
        names = []
        for name in planned.contenders:
            key = (planned.case.id, name)
            exclusion = self.excluded.get(key) or self.given_up.get(
                f"{planned.case.workload}:{name}"
            )
            if exclusion is None:
                names.append(name)
            elif key not in shown:
                shown.add(key)
                self._emit_failed(planned, name, process, exclusion)
        return tuple(names)

    def _emit_failed(
        self, planned: PlannedCase, name: str, process: int, exclusion: _Exclusion
    ) -> None:
        result = Result(
            case=planned.case.id,
            workload=planned.case.workload,
            params=planned.case.params,
            contender=name,
            baseline=planned.baseline,
            process=process,
            status="failed",
            reason=exclusion.reason,
            stage=exclusion.stage,
            seed=planned.case.seed,
        )
        self.emit({"type": "result", **to_json(result)})

    def _start(self, process: int, restart: int) -> Watch:
        while True:
            watch, ready = self.workers.start(process)
            self.emit(
                {
                    "type": "process",
                    "process": process,
                    "restart": restart,
                    "environment": ready["environment"],
                    "floor": ready["floor"],
                }
            )
            if self.prepared:
                return watch
            try:
                self._prepare(watch)
            except Lost as lost:
                self._lose_preparation(lost)
                continue
            except BaseException:
                watch.connection.kill()
                raise
            self.prepared = True
            return watch

    def _prepare(self, watch: Watch) -> None:
        """One-time work of the implementations, before anything is timed; may take any time."""
        params: dict[str, list[Any]] = {}
        for planned in {c.case.id: c for queue in self.queues.values() for c in queue}.values():
            for name in planned.contenders:
                identity = f"{planned.case.workload}:{name}"
                if identity not in self.given_up:
                    params.setdefault(identity, []).append(to_json(planned.case.params))
        request = {"type": "prepare", "ids": list(params), "params": params}
        for message in watch.ask(request, ["prepared"], None):
            if message["type"] == "prepared":
                for identity, reason in message["failures"].items():
                    self.given_up[identity] = _Exclusion(reason=reason, stage="prepare")
                    self._event("prepare", f"{identity}: {reason}")
            else:
                self._pass_on(message)

    def _lose_preparation(self, lost: Lost) -> None:
        if lost.stage != "prepare" or not lost.contender:
            self.workers.lose(lost, "before preparation")
            return
        for identity in lost.contender.split("\n"):
            reason = f"prepare took the worker down: {lost.reason}"
            self.given_up[identity] = _Exclusion(reason=reason, stage="prepare")
            self._event("died", f"{identity}: {reason}", log=lost.log)

    def _run_case(
        self, watch: Watch, planned: PlannedCase, names: tuple[str, ...], process: int
    ) -> None:
        request = {
            "type": "run",
            "case": to_json(replace(planned, contenders=names)),
            "process": process,
            "roof": planned.case.id not in self.without_roof,
            "blocked": self.workers.blocked,
        }
        started = time.monotonic()
        rows: list[Record] = []
        for message in watch.ask(request, ["done"], self.settings.timeout):
            if message["type"] == "result":
                rows.append(message)
            elif message["type"] != "done":
                self._pass_on(message)
            else:
                for row in rows:
                    self.emit(_checked(row))
                self.emit(
                    {
                        "type": "event",
                        "kind": "case",
                        "case": planned.case.id,
                        "process": process,
                        "seconds": message["seconds"],
                        "phases": message["phases"],
                    }
                )
        self.case_seconds.append(time.monotonic() - started)

    def _attribute(
        self, planned: PlannedCase, names: tuple[str, ...], lost: Lost, process: int
    ) -> None:
        """Decide who is left out of the case because a worker was lost in it."""
        case_id = planned.case.id
        announced = lost.contender if lost.case == case_id else ""
        stage = lost.stage if lost.case == case_id else ""
        where = f"{case_id}, process {process}"
        reason = lost.reason + crash_place(lost.log)
        culprits: Iterable[str] = ()
        if announced in roof.NAMES:
            self.without_roof.add(case_id)
        elif announced in names:
            culprits = (announced,)
            identity = f"{planned.case.workload}:{announced}"
            self.losses[identity] += 1
            if self.losses[identity] >= LOSSES:
                self.given_up[identity] = _Exclusion(
                    reason=f"not run again after it cost {LOSSES} workers, the last one in "
                    f"{case_id} ({stage}): {reason}",
                    stage=stage,
                )
        elif stage == "make":
            culprits = names
        else:
            self.strikes[case_id] += 1
            if self.strikes[case_id] >= ATTEMPTS:
                culprits = names
        for name in culprits:
            self.excluded[case_id, name] = _Exclusion(reason=reason, stage=stage)
        who = announced or (f"the workload's {stage}" if stage else "nobody that was announced")
        self._event("died", f"{where}: {who} ({stage or 'start'}): {reason}", log=lost.log)

    def _pass_on(self, message: Record) -> None:
        if message["type"] == "note":
            self._event("note", str(message["text"]))
        elif message["type"] == "event":
            self.emit(message)

    def _event(self, kind: str, text: str, **more: Any) -> None:
        self.emit({"type": "event", "kind": kind, "text": text, **more})

    def _progress(self, planned: PlannedCase | None, process: int) -> None:
        left = None
        if self.case_seconds:
            mean = sum(self.case_seconds) / len(self.case_seconds)
            left = mean * (self.total - self.finished)
        self.emit(
            {
                "type": "progress",
                "done": self.finished,
                "total": self.total,
                "process": process,
                "case": planned.case.id if planned is not None else "",
                "seconds_left": left,
            }
        )


def _checked(message: Record) -> Record:
    """A result message, validated by a round trip through :class:`Result`."""
    fields = {name: value for name, value in message.items() if name != "type"}
    return {"type": "result", **to_json(result_from_json(fields))}


def _is_done(planned: PlannedCase, process: int, done: set[tuple[str, str, int]]) -> bool:
    return all((planned.case.id, name, process) in done for name in planned.contenders)
