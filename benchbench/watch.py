"""One live worker seen from the parent: its messages, deadlines, memory, and how it was lost."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchbench.contract import Connection, Engine, Settings, Stage, WorkerSpec
from benchbench.errors import BenchbenchError, UsageError, WorkerDied
from benchbench.plugins import LoaderOptions
from benchbench.records import to_json
from benchbench.resources import available_memory

POLL_SECONDS = 0.1
LOADING_SECONDS = 120.0
"""Least time for starting the interpreter and importing torch, whatever the timeout."""
ATTEMPTS = 3
"""Workers in a row that may die without anybody to blame."""
SHARE_OF_MEMORY = 0.8
LOG_TAIL = 6000

Record = Mapping[str, Any]


class Lost(Exception):
    """A worker is gone. Says why, and what it had announced last."""

    def __init__(self, reason: str, log: str, watch: Watch) -> None:
        super().__init__(reason)
        self.reason = reason
        self.log = log[-LOG_TAIL:].strip()
        self.case, self.contender, self.stage = watch.case, watch.contender, watch.stage
        self.plugin = watch.plugin


class Watch:
    """Receives from one worker, with a deadline for each step and a limit on memory."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self.connection = connection
        self.case = self.contender = self.plugin = ""
        self.stage: Stage = ""
        self._timeout = settings.timeout
        self._limit = settings.memory_limit or int(SHARE_OF_MEMORY * available_memory())
        self._polled = 0.0

    def ask(
        self, message: Record, answers: Collection[str], patience: float | None
    ) -> Iterator[Record]:
        """Send a message and give every answer up to and with one of type ``answers``.

        Args:
            message: to the worker.
            answers: types that end the exchange.
            patience: seconds that one step may take; every announcement starts a new step. None
                waits for ever.

        Raises:
            Lost: the worker died, or had to be killed.
        """
        self.case = self.contender = ""
        self.stage = ""
        self.connection.send(message)
        yield from self.listen(answers, patience)

    def listen(self, answers: Collection[str], patience: float | None) -> Iterator[Record]:
        """Give every message up to and with one of type ``answers``; see :meth:`ask`."""
        begun = time.monotonic()
        while True:
            try:
                message = self.connection.receive(POLL_SECONDS)
            except WorkerDied as error:
                raise Lost(error.reason, error.log, self) from None
            now = time.monotonic()
            if message is not None:
                begun = now
                kind = message["type"]
                if kind == "stage":
                    self.case, self.contender = message["case"], message["contender"]
                    self.stage = message["stage"]
                elif kind == "loading":
                    self.plugin = message["plugin"]
                    patience = self._timeout if self.plugin else self._loading_patience()
                elif kind == "lost":
                    # It came faster than the announcement that it belongs to.
                    self.case, self.contender = message["case"], message["contender"]
                    self.stage = message["stage"]
                    self._end(str(message["reason"]))
                else:
                    yield message
                    if kind in answers:
                        return
            elif patience is not None and now - begun > patience:
                self._end(f"it hung: no progress for {patience:g} s, so it was killed")
            if now - self._polled > POLL_SECONDS:
                self._polled = now
                self._check_memory()

    def _loading_patience(self) -> float:
        return max(self._timeout, LOADING_SECONDS)

    def wait_ready(self) -> Record:
        """Wait until the worker has loaded every plugin.

        Raises:
            Lost: it died on the way.
            BenchbenchError: it reports that it cannot work.
        """
        for message in self.listen(("ready", "error"), self._loading_patience()):
            if message["type"] == "error":
                raise BenchbenchError(f"a worker cannot start: {message['why']}")
            if message["type"] == "ready":
                self.plugin = ""
                return message
        raise AssertionError("unreachable")

    def _check_memory(self) -> None:
        used = self.connection.resident_bytes()
        if used > self._limit:
            self._end(
                f"it used {_gib(used)} of memory, more than the limit of {_gib(self._limit)}, "
                "so it was killed"
            )

    def _end(self, reason: str) -> None:
        self.connection.kill()
        raise Lost(reason, self.connection.log(), self)


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"


class Workers:
    """Starts workers, leaving out plugins that killed one before."""

    def __init__(
        self,
        engine: Engine,
        options: LoaderOptions,
        settings: Settings,
        tell: Callable[[Record], None],
    ) -> None:
        reason = engine.unavailable()
        if reason is not None:
            raise UsageError(f"the engine {engine.name!r} cannot start workers here: {reason}")
        self._engine = engine
        self._options = options
        self._settings = settings
        self._tell = tell
        self.blocked: dict[str, str] = {}
        self.logs: dict[str, str] = {}
        self._deaths = 0

    def start(self, process: int) -> tuple[Watch, Record]:
        """A worker that has loaded its plugins, and its ``ready`` message.

        Raises:
            WorkerDied: three in a row died with no plugin to blame.
            BenchbenchError: a worker reports that it cannot work.
        """
        while True:
            options = replace(self._options, blocked=(*self._options.blocked, *self.blocked))
            spec = WorkerSpec(process=process, settings=self._settings, plugins=to_json(options))
            watch = Watch(self._engine.start(spec), self._settings)
            try:
                return watch, watch.wait_ready()
            except Lost as lost:
                self.lose(lost, "while it was loaded")
            except BaseException:
                watch.connection.kill()
                raise

    def lose(self, lost: Lost, when: str) -> None:
        """Leave out the plugin that a worker died of.

        Raises:
            WorkerDied: no plugin is to blame, three times in a row.
        """
        if lost.plugin and lost.plugin not in self.blocked:
            reason = f"it took the worker down {when}: {lost.reason}"
            self.blocked[lost.plugin] = reason
            self.logs[lost.plugin] = lost.log
            self._deaths = 0
            self._tell(
                {
                    "type": "event",
                    "kind": "blocked",
                    "plugin": lost.plugin,
                    "text": f"plugin {lost.plugin!r} is left out: {reason}",
                    "log": lost.log,
                }
            )
            return
        self._deaths += 1
        if self._deaths >= ATTEMPTS:
            raise WorkerDied(
                f"{self._deaths} workers in a row died before they could work: {lost.reason}. "
                f"`python -c 'import torch'` shows whether torch is usable; the last worker "
                f"printed: {lost.log or '(nothing)'}",
                lost.log,
            )


@contextmanager
def ended(workers: list[Watch]) -> Iterator[None]:
    """Close the workers in the list in the end; kill them when anything was raised."""
    try:
        yield
    except BaseException:
        for watch in workers:
            watch.connection.kill()
        raise
    for watch in workers:
        watch.connection.close()


def crash_place(log: str) -> str:
    """Where Python's fault handler saw a crash: `` at file.py:12``, or an empty text.

    The innermost frame outside installed packages and the standard library; else the innermost.
    """
    _, found, trace = log.rpartition("Fatal Python error")
    frames = re.findall(r'^  File "([^"]+)", line (\d+)', trace, re.MULTILINE) if found else []
    own = [f for f in frames if "site-packages" not in f[0] and "/lib/python" not in f[0]]
    for path, line in (own or frames)[:1]:
        return f" at {Path(path).name}:{line}"
    return ""
