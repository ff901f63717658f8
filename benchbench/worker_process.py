"""What makes a process a worker's: it dies with its parent, and what is logged reaches the user."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from benchbench.protocol import Channel

OOM_SCORE = "700"
"""So that the kernel, out of memory, ends the worker and not the parent or a neighbour."""


class Notes(logging.Handler):
    """Forwards what is logged to ``benchbench`` as notes that the user sees."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.INFO)
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        self._channel.send({"type": "note", "text": record.getMessage()})


def harden() -> None:
    """Die with the parent, be the first to go when memory runs out, and say where a crash was."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    faulthandler.enable()
    with suppress(OSError, AttributeError):
        import ctypes
        import signal

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def forget_working_directory() -> None:
    """Python 3.10 has no safe path: what lies about in the working directory stays unimported."""
    if os.environ.get("PYTHONSAFEPATH"):
        here = str(Path.cwd())
        sys.path[:] = [entry for entry in sys.path if entry not in ("", here)]
