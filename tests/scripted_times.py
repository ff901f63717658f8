"""Workers that measure nothing: times of each contender in each process come from a function."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from benchbench.contract import WorkerSpec

Times = Callable[[str, int], float]
"""Takes ``candidate``, ``baseline``, ``null`` or ``slowed``, and the process; seconds of a call."""


class ScriptedTimes:
    """An engine for comparisons of two callables."""

    name = "scripted"

    def __init__(self, times: Times) -> None:
        self.times = times
        self.processes: list[int] = []
        self.budgets: list[float] = []

    def unavailable(self) -> str | None:
        return None

    def start(self, spec: WorkerSpec) -> Worker:
        self.processes.append(spec.process)
        self.budgets.append(spec.settings.budget)
        return Worker(self, spec)


class Worker:
    def __init__(self, engine: ScriptedTimes, spec: WorkerSpec) -> None:
        self.engine = engine
        ready = {"type": "ready", "process": spec.process, "environment": {}, "floor": 0.0}
        self.out: deque[dict[str, Any]] = deque([{"type": "loading", "plugin": ""}, ready])

    def send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "prepare":
            self.out.append({"type": "prepared", "ids": [], "failures": {}})
        if message["type"] != "run":
            return
        case, baseline = message["case"]["case"], message["case"]["baseline"]
        identity = f"{case['workload']}[inputs={case['params']['inputs']}]"
        for name in message["case"]["contenders"]:
            usual = "baseline" if name == baseline else "candidate"
            role = name.partition("@")[2] or usual
            seconds = self.engine.times(role, message["process"])
            self.out.append(
                {
                    "type": "result", "case": identity, "workload": case["workload"],
                    "params": case["params"], "contender": name, "baseline": baseline,
                    "process": message["process"], "status": "ok" if seconds else "quarantined",
                    "samples": [seconds] * 4 if seconds else [],
                }
            )  # fmt: skip
        self.out.append({"type": "done", "case": identity, "seconds": 0.1, "phases": {}})

    def receive(self, timeout: float) -> Mapping[str, Any] | None:
        if self.out:
            return self.out.popleft()
        time.sleep(min(timeout, 0.02))
        return None

    def resident_bytes(self) -> int:
        return 0

    def log(self) -> str:
        return ""

    def close(self, timeout: float = 5.0) -> None:
        pass

    def kill(self) -> None:
        pass
