"""Workers as processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchbench.contract import Connection, WorkerSpec
from benchbench.errors import WorkerDied
from benchbench.protocol import Board, Lines, encode, write_all
from benchbench.records import to_json
from benchbench.resources import usable_cores
from benchbench.timers.instructions_launch import launch

LOG_BYTES = 1 << 16

ALLOCATOR = {
    # glibc gives every block over 32 MiB back to the kernel, so each output would page-fault on
    # every call: 3 to 30 times the time of the kernel that is to be measured.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")

_SIGNALS = {
    signal.SIGSEGV: "segmentation fault (SIGSEGV)",
    signal.SIGABRT: "abort (SIGABRT)",
    signal.SIGBUS: "bus error (SIGBUS)",
    signal.SIGFPE: "arithmetic fault (SIGFPE)",
    signal.SIGILL: "illegal instruction (SIGILL)",
    signal.SIGKILL: "killed (SIGKILL; the kernel does this when memory runs out)",
    signal.SIGTERM: "terminated (SIGTERM)",
}


def worker_environment(threads: int, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment that a worker starts with.

    Allocator thresholds are set unless the caller's environment has its own; thread counts are
    always set, since the settings decide them.
    """
    environment = {**ALLOCATOR, **(os.environ if base is None else base)}
    environment.update(dict.fromkeys(THREADS, str(threads or usable_cores())))
    if Path.cwd() != _home():
        # A worker must not import what lies about in the working directory. (When benchbench is
        # itself used out of the working directory, that is its only way in.)
        environment["PYTHONSAFEPATH"] = "1"
    return environment


def _with_path(environment: dict[str, str], path: Sequence[str]) -> dict[str, str]:
    """The environment with directories from which Python imports first."""
    if path:
        before = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([*path, *([before] if before else [])])
    return environment


def _home() -> Path:
    """The folder that holds the package."""
    return Path(__file__).resolve().parent.parent.parent


def describe_exit(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"the process ended by itself with exit code {code}"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"killed by signal {-code}"
    return _SIGNALS.get(number, f"killed by {number.name}")


class LocalEngine:
    """Starts workers by exec on this machine (the default)."""

    name = "local"
    doc = "worker processes on this machine"

    def unavailable(self) -> str | None:
        """None: a process can always be started."""
        return None

    def start(self, spec: WorkerSpec) -> Connection:
        """Start one fresh worker process."""
        return LocalConnection(spec)


class LocalConnection:
    """The parent's end of a worker process.

    The worker leads a session and process group of its own, so that its children die with it and
    Ctrl-C on the terminal reaches the parent alone.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self._launch = launch(spec.settings)
        settings = self._launch.settings
        environment = worker_environment(settings.threads) | dict(self._launch.environment)
        worker_reads, self._writing = os.pipe()
        reading, worker_writes = os.pipe()
        self._board = Board()
        board = self._board.descriptor
        python = spec.interpreter or sys.executable
        command = [*self._launch.prefix, python, "-u", "-m", "benchbench.worker"]
        command += [str(number) for number in (worker_reads, worker_writes, board)]
        self._process = subprocess.Popen(
            command,
            pass_fds=(worker_reads, worker_writes, board),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=_with_path(environment, spec.path),
        )
        os.close(worker_reads)
        os.close(worker_writes)
        self._lines = Lines(reading)
        self._log: deque[bytes] = deque()
        self._drain = threading.Thread(target=self._drain_output, daemon=True)
        self._drain.start()
        self._closed = False
        self.send(
            {
                "type": "start",
                "process": spec.process,
                "settings": to_json(settings),
                "plugins": to_json(spec.plugins),
            }
        )

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    def _drain_output(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        size = 0
        while data := os.read(stream.fileno(), LOG_BYTES):
            self._log.append(data)
            size += len(data)
            while size - len(self._log[0]) >= LOG_BYTES:
                size -= len(self._log.popleft())

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message; a dead worker is not an error here, ``receive`` tells."""
        with suppress(OSError):
            write_all(self._writing, encode(message))

    def receive(self, timeout: float) -> Mapping[str, Any] | None:
        """Next message, None after ``timeout`` seconds.

        Raises:
            WorkerDied: the worker ended, or spoke what is not the protocol.
        """
        try:
            message = self._lines.receive(timeout)
        except ValueError as error:
            self.kill()
            raise WorkerDied(f"it broke the protocol: {error}", self.log()) from None
        if message is not None:
            return message
        announced = self._board.read()
        if announced is not None:
            return announced
        if not self._lines.closed:
            return None
        raise WorkerDied(self._ended(), self.log())

    def _ended(self) -> str:
        """Wait for a process that closed its pipe, and say how it ended."""
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self.kill()
            return "it closed the pipe to its parent and went on without it"
        self.kill()  # the children that it may have left
        return describe_exit(code) + (self._launch.hint if code == -signal.SIGILL else "")

    def resident_bytes(self) -> int:
        """Memory of the worker and its children, 0 when not known."""
        page = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
        if not Path("/proc/self/statm").exists():
            return self._resident_by_psutil()
        total = 0
        waiting = [self._process.pid]
        # Reading only the worker's own subtree: a scan of all processes, ten times a second, would
        # take a share of the cores that are being measured.
        while waiting:
            pid = waiting.pop()
            with suppress(OSError, IndexError, ValueError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
                for task in Path(f"/proc/{pid}/task").iterdir():
                    waiting += [int(n) for n in (task / "children").read_text().split()]
        return total

    def _resident_by_psutil(self) -> int:
        import psutil

        total = 0
        with suppress(psutil.Error):
            worker = psutil.Process(self._process.pid)
            for process in [worker, *worker.children(recursive=True)]:
                with suppress(psutil.Error):
                    total += int(process.memory_info().rss)
        return total

    def log(self) -> str:
        """Last part of what the worker printed."""
        if self._process.poll() is not None:
            self._drain.join(1.0)
        return b"".join(self._log)[-LOG_BYTES:].decode(errors="replace")

    def close(self, timeout: float = 5.0) -> None:
        """Ask the worker to end, then make it."""
        if self._closed:
            return
        self.send({"type": "exit"})
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """End the worker and its children at once."""
        if self._closed:
            return
        self._closed = True
        # The group outlives its leader while a child is left, and its number cannot be reused.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10.0)
        deadline = time.monotonic() + 1.0
        while self._drain.is_alive() and time.monotonic() < deadline:
            self._drain.join(0.05)
        for descriptor in (self._writing, self._lines.descriptor):
            with suppress(OSError):
                os.close(descriptor)
        if self._process.stdout is not None and not self._drain.is_alive():
            self._process.stdout.close()
        self._lines.closed = True
        self._board.close()
        self._launch.close()
