"""What a worker process does: load plugins, then describe, prepare, run and render on request.

Started by an engine as ``python -m benchbench.worker READ WRITE BOARD`` with three inherited
descriptors. Standard output and error are the plugins' to write to.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchbench import device
from benchbench.catalog import ask_unavailable, describe
from benchbench.contract import (
    Implementation,
    PlannedCase,
    Provider,
    Result,
    Settings,
    Stage,
    Status,
    Workload,
)
from benchbench.correctness import explain
from benchbench.errors import BenchbenchError, UsageError, suggestion
from benchbench.guards import GlobalState
from benchbench.integrity import Integrity
from benchbench.plugins import Loaded, LoaderOptions, load
from benchbench.protocol import Board, Channel
from benchbench.records import (
    params_from_json,
    planned_from_json,
    settings_from_json,
    to_json,
)
from benchbench.resources import usable_cores
from benchbench.runner import Runner
from benchbench.timers import builtin, wall
from benchbench.worker_process import Notes, forget_working_directory, harden

log = logging.getLogger("benchbench")

LOST_EXIT_CODE = 71


class Worker:
    """One worker process after its start."""

    def __init__(self, channel: Channel, start: Mapping[str, Any]) -> None:
        self.channel = channel
        self.process = int(start["process"])
        self.settings: Settings = settings_from_json(start["settings"])
        self._options = LoaderOptions.from_json(start["plugins"])
        self.loaded: Loaded | None = None
        self.runner: Runner | None = None
        self._hook_broken = False
        self._announced: dict[str, Any] = {"case": "", "contender": "", "stage": ""}
        self._modules = 0
        """How many there were when the garbage collector was last told to leave them alone."""
        self._tainted: dict[str, str] = {}
        """Why contenders of a plugin cannot be trusted, by plugin."""

    def load(self) -> None:
        """Import torch, then each plugin, announcing whose code runs; then say ``ready``."""
        self._loading("", "torch")
        import torch

        torch.set_num_threads(self.settings.threads or usable_cores())
        device.full_precision()
        integrity, state, loading = Integrity(), GlobalState(), ""

        def announce(name: str) -> None:
            nonlocal loading
            self._see_surroundings(integrity, state, loading)
            loading = name
            # The plugin that is imported next may never come back: this must not wait.
            self._loading(name, name)

        self.loaded = load(self._options, announce=announce)
        self._see_surroundings(integrity, state, loading)
        self._loading("", "environment")
        self.runner = Runner(
            {**builtin(), **self.loaded.catalog.timers},
            self.channel.end_stray,
            self.channel.strays,
            integrity,
            self.device_lost,
        )
        self.loaded.manager.register(self.runner, name="benchbench:runner")
        self._leave_modules_to_themselves()
        self.channel.send(
            {
                "type": "ready",
                "process": self.process,
                "environment": self._environment(),
                "floor": wall.floor(),
                "plugins": to_json(self.loaded.plugins),
            }
        )

    def _leave_modules_to_themselves(self) -> None:
        """Nothing that was imported by now is looked at by the garbage collector any more.

        Between cases, when no case's objects are alive. A collection then costs well under a
        millisecond in place of up to 130 ms with all of torch.
        """
        if len(sys.modules) != self._modules:
            self._modules = len(sys.modules)
            gc.collect()
            gc.freeze()

    def _see_surroundings(self, integrity: Integrity, state: GlobalState, plugin: str) -> None:
        """Undo what a plugin changed while it was loaded.

        Who replaces functions that others rely on takes part in nothing. A setting may come from
        a package that the plugin needs, so it is only put back.
        """
        changed = state.restore()
        if changed:
            text = f"plugin {plugin or '?'}: {changed} when it was loaded; that was put back"
            self.channel.send({"type": "event", "kind": "hook", "text": text})
        replaced = integrity.restore(deep=True)
        if replaced:
            self._tainted[plugin] = f"when its plugin {plugin} was loaded {replaced}"

    def _loading(self, plugin: str, what: str) -> None:
        self.channel.send({"type": "loading", "plugin": plugin, "what": what})

    def _environment(self) -> dict[str, Any]:
        assert self.loaded is not None
        from benchbench import machine

        found: dict[str, Any] = dict(machine.worker_environment())
        for hook in self.loaded.manager.hook.benchbench_environment.get_hookimpls():
            try:
                returned: Any = hook.function()
                found.update(returned)
            except BaseException as error:
                self.channel.send(
                    {
                        "type": "event",
                        "kind": "hook",
                        "text": f"benchbench_environment of {hook.plugin_name} raised "
                        f"{explain(error)}",
                    }
                )
        return found

    def serve(self) -> None:
        """Answer messages until told to exit, or until the parent is gone."""
        answers: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "describe": self.describe,
            "prepare": self.prepare,
            "run": self.run,
            "render": self.render,
        }
        while (message := self.channel.receive()) is not None and message["type"] != "exit":
            answers[message["type"]](message)

    def describe(self, message: Mapping[str, Any]) -> None:
        """Send the catalogue without callables."""
        assert self.loaded is not None
        description = describe(self.loaded, announce=lambda plugin: self._loading(plugin, plugin))
        self.channel.send({"type": "catalogue", "description": description})

    def prepare(self, message: Mapping[str, Any]) -> None:
        """Run each distinct ``prepare`` of the named implementations once.

        An implementation that is unavailable at every point where it would run is left out: what
        it lacks (a compiler, say) is its reason for that.
        """
        assert self.loaded is not None
        wanted: dict[int, tuple[Callable[[], object], list[str]]] = {}
        points = message.get("params", {})
        for group in self.loaded.catalog.implementations.values():
            for item in group.values():
                if item.id not in message["ids"] or item.prepare is None:
                    continue
                self._stage("", item.id, "prepare")
                if not _available_somewhere(item, points.get(item.id, [])):
                    continue
                wanted.setdefault(id(item.prepare), (item.prepare, []))[1].append(item.id)
        done: list[str] = []
        failures: dict[str, str] = {}
        for function, ids in wanted.values():
            self._stage("", "\n".join(ids), "prepare")
            try:
                function()
                self.channel.end_stray()
                done += ids
            except BaseException as error:
                self.channel.end_stray()
                failures.update(dict.fromkeys(ids, f"prepare raised {explain(error)}"))
        self.channel.send({"type": "prepared", "ids": done, "failures": failures})

    def _stage(self, case: str, contender: str, stage: Stage) -> None:
        self._announced = {"case": case, "contender": contender, "stage": stage}
        self.channel.announce({"type": "stage", **self._announced})

    def device_lost(self, reason: str) -> None:
        """Say who was in hand when the process lost its device, and end; does not return."""
        text = f"{reason}; this destroyed the process's CUDA context, so the worker was replaced"
        self.channel.send({"type": "lost", "reason": text, **self._announced})
        # Neither exit handlers nor destructors: they would wait for the device, or fail on it.
        os._exit(LOST_EXIT_CODE)

    def run(self, message: Mapping[str, Any]) -> None:
        """Run one case and send a result for each of its contenders."""
        assert self.loaded is not None and self.runner is not None
        planned = planned_from_json(message["case"])
        case_id = planned.case.id
        settings = self.settings
        if not message.get("roof", True):
            settings = replace(settings, roof=False)
        self.runner.phases = {}
        started = time.perf_counter()
        self._leave_modules_to_themselves()
        for result in self._results(planned, int(message["process"]), settings, message["blocked"]):
            self._observe(result)
            self.channel.send({"type": "result", **to_json(result)})
        self.channel.send(
            {
                "type": "done",
                "case": case_id,
                "seconds": time.perf_counter() - started,
                "phases": self.runner.phases,
            }
        )

    def _results(
        self,
        planned: PlannedCase,
        process: int,
        settings: Settings,
        blocked: Mapping[str, str],
    ) -> list[Result]:
        assert self.loaded is not None
        catalog, case = self.loaded.catalog, planned.case
        workload = catalog.workloads.get(case.workload)
        offered = catalog.implementations.get(case.workload, {})
        present = [offered[name] for name in planned.contenders if name in offered]
        missing = [name for name in planned.contenders if name not in offered]
        results = [
            self._failed(planned, name, process, self._why_missing(name, blocked))
            for name in missing
        ]
        if workload is None or not present:
            return results
        for item in [i for i in present if self._taint(catalog.providers, i)]:
            present.remove(item)
            reason = self._taint(catalog.providers, item)
            results.append(self._failed(planned, item.name, process, reason, status="wrong"))
        if not present:
            return results
        results += self._call_hook(planned, workload, present, process, settings)
        providers = catalog.providers
        return [
            replace(r, provider=providers.get(f"{r.workload}:{r.contender}", Provider()))
            for r in results
        ]

    def _taint(self, providers: Mapping[str, Provider], item: Implementation) -> str:
        return self._tainted.get(providers.get(item.id, Provider()).plugin, "")

    def _call_hook(
        self,
        planned: PlannedCase,
        workload: Workload,
        present: Sequence[Implementation],
        process: int,
        settings: Settings,
    ) -> list[Result]:
        assert self.loaded is not None
        case = planned.case
        arguments: dict[str, Any] = {
            "case": case,
            "workload": workload,
            "implementations": present,
            "settings": settings,
            "process": process,
            "stage": lambda contender, stage: self._stage(case.id, contender, stage),
        }
        hook = self.loaded.manager.hook.benchbench_run_case
        others = [h.plugin_name for h in hook.get_hookimpls() if h.plugin is not self.runner]
        if others and not self._hook_broken:
            try:
                return _all_results(hook(**arguments))
            except BaseException as error:
                self.channel.end_stray()
                # Whoever wraps a case must not cost the contenders of others their rows.
                self._hook_broken = True
                text = (
                    f"benchbench_run_case of {' or '.join(others)} failed in {case.id}, so the "
                    f"rest of this process runs without it: {explain(error)}"
                )
                self.channel.send({"type": "event", "kind": "hook", "text": text})
        try:
            assert self.runner is not None
            return list(self.runner.benchbench_run_case(**arguments))
        except BaseException as error:
            self.channel.end_stray()
            if device.lost():
                self.device_lost(explain(error))
            reason = f"benchbench_run_case raised {explain(error)}"
            return [self._failed(planned, item.name, process, reason) for item in present]

    def _why_missing(self, name: str, blocked: Mapping[str, str]) -> str:
        assert self.loaded is not None
        faults = [
            f"plugin {info.provider.plugin}: {blocked.get(info.provider.plugin, info.reason)}"
            for info in self.loaded.plugins
            if info.status != "ok"
        ]
        known = "; ".join(faults)
        return f"no loaded plugin contributes {name!r}" + (f" ({known})" if known else "")

    @staticmethod
    def _failed(
        planned: PlannedCase, name: str, process: int, reason: str, status: Status = "failed"
    ) -> Result:
        return Result(
            case=planned.case.id,
            workload=planned.case.workload,
            params=planned.case.params,
            contender=name,
            baseline=planned.baseline,
            process=process,
            status=status,
            reason=reason,
            seed=planned.case.seed,
        )

    def _observe(self, result: Result) -> None:
        assert self.loaded is not None
        for hook in self.loaded.manager.hook.benchbench_result.get_hookimpls():
            try:
                hook.function(**({"result": result} if "result" in hook.argnames else {}))
            except BaseException as error:
                self.channel.send(
                    {
                        "type": "event",
                        "kind": "hook",
                        "text": f"benchbench_result of {hook.plugin_name} raised {explain(error)}",
                    }
                )

    def render(self, message: Mapping[str, Any]) -> None:
        """Send a stored run as a plugin's report shows it."""
        assert self.loaded is not None
        try:
            from benchbench import store

            reports = self.loaded.catalog.reports
            name = message["report"]
            if name not in reports:
                raise UsageError(
                    f"no plugin has a report {name!r}.{suggestion(name, reports)} "
                    f"Reports: {', '.join(reports) or 'none'}"
                )
            text = reports[name].render(store.read(Path(message["path"])))
        except BaseException as error:
            self.channel.send({"type": "error", "where": "render", "why": explain(error)})
        else:
            self.channel.send({"type": "rendered", "text": str(text)})


def _all_results(returned: Any) -> list[Result]:
    """What a plugin's ``benchbench_run_case`` returned, if it is what it has to be."""
    if isinstance(returned, list | tuple) and all(isinstance(r, Result) for r in returned):
        return list(returned)
    raise BenchbenchError(
        f"it must return a sequence of Result, not {type(returned).__name__}; return what the "
        "wrapped call gave"
    )


def _available_somewhere(item: Implementation, points: Sequence[Mapping[str, Any]]) -> bool:
    asked = [ask_unavailable(item.unavailable, params_from_json(p)) for p in points]
    return not asked or any(reason is None for reason in asked)


def main(arguments: Sequence[str]) -> None:
    """Serve the parent over the given descriptors."""
    forget_working_directory()
    harden()
    reading, writing, board = (int(argument) for argument in arguments)
    os.set_inheritable(board, False)
    channel = Channel(reading, writing, Board(board))
    start = channel.receive()
    if start is None:
        return
    log.addHandler(Notes(channel))
    log.setLevel(logging.INFO)
    log.propagate = False
    worker = Worker(channel, start)
    try:
        worker.load()
    except BaseException as error:
        channel.end_stray()
        channel.send({"type": "error", "where": "loading", "why": explain(error)})
        return
    worker.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
    # Threads that plugins left behind, and their exit handlers, must not keep the worker alive.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
