"""Instructions counted by valgrind's callgrind, asked from inside the process that it runs.

A program talks to valgrind by *client requests*: a sequence of instructions that does nothing on a
processor and that valgrind recognises (Valgrind User Manual, "The Client Request mechanism"; the
sequences and request numbers are a stable interface, described in ``valgrind.h``). The sequence is
written into a page of memory here, so neither a compiler nor valgrind's headers are needed, as a
helper library would.

A count is what lies between two requests to dump: a dump writes the cost since the last one, over
all threads, and resets it. (The request to zero costs leaves finished threads' in; toggling the
collection leaves other threads out, so work could hide there.)
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from benchbench.errors import BenchbenchError

DIRECTORY = "BENCHBENCH_CALLGRIND"
"""Environment variable: the folder into which this worker's valgrind dumps."""
PREFIX = "count"

RUNNING = 0x1001
_TOOL = ord("C") << 24 | ord("T") << 16
DUMP = _TOOL
START = _TOOL + 4

# A C function ``size_t request(size_t (*arguments)[6])`` that returns 0 outside valgrind.
_CODE = {
    # mov rax, rdi; xor edx, edx; rol rdi by 3, 13, 61, 51; xchg rbx, rbx; mov rax, rdx; ret
    "x86_64": "4889f831d248c1c70348c1c70d48c1c73d48c1c7334887db4889d0c3",
    # mov x4, x0; mov x3, 0; ror x12 by 3, 13, 51, 61; orr x10, x10, x10; mov x0, x3; ret
    "aarch64": "e40300aa030080d28c0dcc938c35cc938ccdcc938cf5cc934a010aaae00303aac0035fd6",
}


def known_machine() -> bool:
    """True where client requests can be made from here: x86-64 and AArch64."""
    return platform.machine().lower().replace("amd64", "x86_64") in _CODE


class Callgrind:
    """Counts in a worker that valgrind runs; one per process."""

    name = "callgrind"

    def __init__(self, directory: str | None = None) -> None:
        self._directory = os.environ.get(DIRECTORY, "") if directory is None else directory
        self._started = False

    def unavailable(self) -> str | None:
        """Why this process cannot be counted, or None."""
        if not known_machine():
            return f"client requests to valgrind are not known for {platform.machine()}"
        if not self._directory:
            return "this worker was not started under valgrind (only the engine 'local' does that)"
        try:
            depth = self._ask(RUNNING)
        except OSError as error:
            return f"the system refuses executable memory ({error}), by which valgrind is asked"
        return None if depth else "valgrind does not answer, though the worker was started under it"

    def count(self, consume: Callable[[], Any]) -> tuple[int, Any, str]:
        """Instructions of ``consume()`` in all threads, what it returned, and no doubt.

        Raises:
            BenchbenchError: valgrind wrote no readable dump.
        """
        if not self._started:
            # Off until now: loading torch is five times as fast without.
            self._ask(START)
            self._started = True
        ask, dump = self._request, self._argument(DUMP)
        ask(dump)
        output = consume()
        ask(dump)
        return self._newest(), output, ""

    @cached_property
    def _page(self) -> mmap.mmap:
        protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=protection)
        machine = platform.machine().lower().replace("amd64", "x86_64")
        page.write(bytes.fromhex(_CODE[machine]))
        return page

    @cached_property
    def _request(self) -> Callable[[Any], int]:
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        return ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p)(address)

    @staticmethod
    def _argument(code: int) -> Any:
        return (ctypes.c_size_t * 6)(code, 0, 0, 0, 0, 0)

    def _ask(self, code: int) -> int:
        return self._request(self._argument(code))

    def _newest(self) -> int:
        """Cost in the last dump; all dumps of this process are removed."""
        start = f"{PREFIX}.{os.getpid()}."
        dumps = sorted(
            (p for p in Path(self._directory).glob(f"{start}*")), key=lambda p: int(p.suffix[1:])
        )
        if not dumps:
            raise BenchbenchError(
                f"instructions cannot be counted: callgrind wrote no dump into {self._directory}; "
                "see that the folder exists and its disk has room"
            )
        text = dumps[-1].read_text(errors="replace")
        for dump in dumps:
            dump.unlink(missing_ok=True)
        return parse(text)


def parse(text: str) -> int:
    """Instructions in a dump: the first event (``Ir``) of its ``summary:`` line.

    Raises:
        BenchbenchError: there is no such line.
    """
    for line in text.splitlines():
        name, _, costs = line.partition(":")
        if name == "summary" and costs.split():
            return int(costs.split()[0])
    raise BenchbenchError(
        "instructions cannot be counted: callgrind's dump has no line 'summary:'; this valgrind "
        "writes another format, try version 3.15 or later"
    )
