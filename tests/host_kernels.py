"""CUDA sources compiled for the host executor and loaded through ctypes; arrays in guarded memory.

A library is compiled once for its text and flags and kept in pytest's cache.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch

from benchbench.native_recipe import compiler

CSRC = Path(__file__).resolve().parents[1] / "csrc"
EXECUTOR = ("fibre.cpp", "guarded.cpp", "executor.cpp", "interface.cpp")
FLAGS = (
    "-std=c++17",
    "-O1",
    "-g1",
    "-fPIC",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unknown-pragmas",
    "-Wno-unused-function",
    # Undefined behaviour becomes a trap, which the executor reports with kernel and thread.
    "-fsanitize=undefined",
    "-fsanitize-undefined-trap-on-error",
    "-fno-sanitize=vptr",
    "-DBENCHBENCH_HOST_EXECUTOR",
    f"-I{CSRC}",
)
_INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def text_with_headers(source: Path) -> str:
    seen: dict[Path, str] = {}
    waiting = [source]
    while waiting:
        file = waiting.pop()
        if file not in seen and file.is_file():
            seen[file] = file.read_text()
            waiting += [CSRC / name for name in _INCLUDE.findall(seen[file])]
    return "\0".join(seen.values())


def compile_library(
    sources: list[Path],
    cache: Path,
    extra: tuple[str, ...] = (),
    *,
    others: Mapping[Path, tuple[str, ...]] = MappingProxyType({}),
    link: tuple[str, ...] = (),
) -> Path:
    """The sources with the executor as a shared library; objects are reused by their text.

    ``others`` are units that have a command of their own, and ``link`` what they need.
    """
    import fcntl  # these tests run where there is a C++ compiler of the usual kind

    with (cache / "lock").open("w") as lock, ThreadPoolExecutor(os.cpu_count()) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two workers of pytest, one compiles
        sources = [*(CSRC / "host_executor" / name for name in EXECUTOR), *sources]
        units = {**{source: command_for(source, extra) for source in sources}, **others}
        objects = list(pool.map(lambda unit: compiled(*unit, cache), units.items()))
        names = "\0".join([*(file.name for file in objects), *link])
        library = cache / f"host-{hashlib.sha256(names.encode()).hexdigest()[:20]}.so"
        if not library.exists():
            command = [
                *shlex.split(compiler() or "c++"),
                "-shared",
                *extra,
                *map(str, objects),
                *link,
            ]
            make(library, command)
    return library


def command_for(source: Path, extra: tuple[str, ...]) -> tuple[str, ...]:
    command = (*shlex.split(compiler() or "c++"), *FLAGS, *extra)
    if source.parent == CSRC / "cuda":
        # Tensors have more than 2^31 elements: a number that does not hold an index is an error,
        # unless a cast says that it is meant.
        command = (*command, "-Wconversion")
    if source.parent.name == "host_executor" and source.suffix == ".cpp":
        return (*command, "-fno-sanitize=undefined")
    return command


def compiled(source: Path, command: tuple[str, ...], cache: Path) -> Path:
    text = "\0".join(command) + text_with_headers(source)
    key = hashlib.sha256(text.encode()).hexdigest()[:20]
    target = cache / f"{source.stem}-{key}.o"
    if not target.exists():
        make(target, [*command, "-x", "c++", "-c", str(source)])
    return target


def make(target: Path, command: Sequence[str]) -> None:
    partial = target.with_suffix(".partial")
    subprocess.run([*command, "-o", str(partial)], check=True)
    partial.rename(target)


class Launch(NamedTuple):
    """Of a kernel."""

    name: str
    blocks: int
    rows: int
    """Of blocks."""
    threads: int
    cluster: int
    cooperative: int


class Executor:
    """A library of kernels with the executor's options and memory."""

    def __init__(self, library: Path) -> None:
        self.c = ctypes.CDLL(str(library))
        self.c.executor_launches.restype = ctypes.c_uint64
        self.c.executor_launched.restype = ctypes.c_char_p
        self.c.executor_allocate.restype = ctypes.c_void_p
        self.c.executor_allocate.argtypes = [ctypes.c_size_t, ctypes.c_int]
        self.c.executor_address.restype = ctypes.c_void_p
        self.c.executor_address.argtypes = [ctypes.c_void_p]
        self.c.executor_free.argtypes = [ctypes.c_void_p]
        self.options()

    def options(self, seed: int = 0, resident: int = 4, round_robin: bool = False) -> None:
        self.c.executor_options(ctypes.c_uint64(seed), resident, int(round_robin))

    @property
    def launches(self) -> int:
        return int(self.c.executor_launches())

    def launched(self, back: int = 0) -> Launch:
        """What the kernel ``back`` launches before the last one was started with."""
        name, *numbers = self.c.executor_launched(back).decode().split()
        return Launch(name, *map(int, numbers))

    def empty(self, shape, dtype, *, at_end: bool = True, offset: int = 0) -> torch.Tensor:
        """A tensor of NaNs in guarded memory, ``offset`` elements into its allocation."""
        size = torch.tensor([], dtype=dtype).element_size()
        count = int(torch.Size(shape).numel())
        memory = _Memory(self.c, (count + offset) * size, at_end)
        if count == 0:
            return torch.empty(shape, dtype=dtype)
        array = (ctypes.c_char * ((count + offset) * size)).from_address(memory.address)
        array.memory = memory  # the tensor keeps the array, and that keeps the memory
        flat = torch.frombuffer(array, dtype=dtype, count=count, offset=offset * size)
        return flat.view(shape)

    def copy(self, tensor: torch.Tensor, *, at_end: bool = True, offset: int = 0) -> torch.Tensor:
        return self.empty(tensor.shape, tensor.dtype, at_end=at_end, offset=offset).copy_(tensor)


class _Memory:
    def __init__(self, c: ctypes.CDLL, size: int, at_end: bool) -> None:
        self.c = c
        self.handle = c.executor_allocate(size, int(at_end))
        self.address = c.executor_address(self.handle)

    def __del__(self) -> None:
        self.c.executor_free(self.handle)


def pointer(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    """Its address; null for None and for an empty tensor."""
    return ctypes.c_void_p(tensor.data_ptr() if tensor is not None else None)
