"""How the kernels are compiled: sources, flags and key, the same for setup.py and for first use.

Importing torch's own ``cpp_extension`` would need setuptools at run time, so the few paths that a
build needs are found here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MODULE = "_native"

# -ffast-math would break nan, infinities and the error bounds; -march=native would make a library
# that crashes elsewhere: vector code chooses its instruction set at run time instead.
CXX_FLAGS = (
    "-std=c++20",
    "-O3",
    "-fPIC",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-Wall",
    "-Wno-unknown-pragmas",
)
OPENMP = ("-fopenmp",)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what the library is."""

    root: Path
    """Folder of the sources."""
    sources: tuple[Path, ...]
    compiler: str
    flags: tuple[str, ...]
    includes: tuple[str, ...]
    link_flags: tuple[str, ...]
    key: str

    def ninja(self, target: Path) -> str:
        """A build file that makes ``target``; paths are absolute."""
        flags = " ".join(map(shlex.quote, [*self.flags, *(f"-I{p}" for p in self.includes)]))
        lines = [
            "ninja_required_version = 1.5",
            f"cxx = {self.compiler}",
            f"flags = {flags}",
            f"ldflags = {' '.join(map(shlex.quote, self.link_flags))}",
            "rule compile",
            "  command = $cxx -MMD -MF $out.d $flags -c $in -o $out",
            "  depfile = $out.d",
            "  deps = gcc",
            "  description = compile $in",
            "rule link",
            "  command = $cxx -shared $in $ldflags -o $out",
            "  description = link $out",
        ]
        objects = []
        # Binding units include torch and take longest: they start first.
        for source in sorted(self.sources, key=lambda p: ("bindings" not in p.parts, p)):
            name = "_".join(source.relative_to(self.root).with_suffix(".o").parts)
            objects.append(name)
            lines.append(f"build {name}: compile {_escape(source)}")
        lines.append(f"build {_escape(target)}: link {' '.join(objects)}")
        lines.append(f"default {_escape(target)}")
        return "\n".join(lines) + "\n"


def _escape(path: Path) -> str:
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


@cache
def source_root() -> Path | None:
    """Folder of the kernels' sources: the package ``benchbench_csrc``, or None."""
    spec = importlib.util.find_spec("benchbench_csrc")
    if spec is None or not spec.submodule_search_locations:
        return None
    root = Path(next(iter(spec.submodule_search_locations)))
    return root if (root / "bindings").is_dir() else None


@cache
def compiler() -> str | None:
    """``CXX``, or the first of c++, g++ and clang++ on PATH, or None."""
    chosen = os.environ.get("CXX")
    if chosen:
        words = shlex.split(chosen)
        return chosen if words and shutil.which(words[0]) else None
    return next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), None)


def cpu_sources(root: Path) -> tuple[Path, ...]:
    """Every C++ unit of the CPU library."""
    return tuple(sorted([*root.glob("bindings/*.cpp"), *root.glob("cpu/**/*.cpp")]))


def recipe(root: Path | None = None) -> Recipe:
    """The recipe for this Python, torch and compiler.

    Args:
        root: folder of the sources; that of the installed package when left out.

    Raises:
        FileNotFoundError: there are no sources or no compiler.
    """
    root = root or source_root()
    cxx = compiler()
    if root is None or cxx is None:
        raise FileNotFoundError("the kernels need their sources and a C++ compiler")
    torch_home = _torch_home()
    sources = cpu_sources(root)
    openmp = OPENMP if _accepts(cxx, OPENMP) else ()
    # The key is also compiled in, so that a library can say what it is.
    flags = [*CXX_FLAGS, *openmp, "-D_GLIBCXX_USE_CXX11_ABI=1", f"-DBENCHBENCH_MODULE={MODULE}"]
    includes = (
        str(root),
        str(torch_home / "include"),
        str(torch_home / "include" / "torch" / "csrc" / "api" / "include"),
        sysconfig.get_path("include"),
    )
    libraries = torch_home / "lib"
    link = [*openmp, f"-L{libraries}", "-lc10", "-ltorch_cpu", "-ltorch", "-ltorch_python"]
    link += [f"-Wl,-rpath,{libraries}"]
    if sys.platform == "darwin":
        link += ["-undefined", "dynamic_lookup"]
    digest = hashlib.blake2b(digest_size=12)
    for fact in (
        _torch_version(torch_home),
        sys.implementation.cache_tag,
        platform.machine(),
        _compiler_version(cxx),
        *flags,
        *link,
    ):
        digest.update(f"{fact}\0".encode())
    for file in sorted([*sources, *root.rglob("*.h")]):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return Recipe(
        root=root,
        sources=sources,
        compiler=cxx,
        flags=tuple(flags),
        includes=includes,
        link_flags=tuple(link),
        key=digest.hexdigest(),
    )


def _torch_home() -> Path:
    # Found without importing torch: the key is asked for where torch must stay unloaded.
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("torch is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def _torch_version(home: Path) -> str:
    return (home / "version.py").read_text()


@cache
def _compiler_version(cxx: str) -> str:
    done = subprocess.run(
        [*shlex.split(cxx), "--version"], capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines()[0] if done.stdout else "?"


@cache
def _accepts(cxx: str, flags: tuple[str, ...]) -> bool:
    """Whether the compiler takes these flags (Apple's clang has no OpenMP)."""
    done = subprocess.run(
        [*shlex.split(cxx), *flags, "-x", "c++", "-fsyntax-only", os.devnull],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0
