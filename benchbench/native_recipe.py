"""How the kernels are compiled: units, flags and keys, the same for setup.py and for first use.

Standard library only, and nothing here imports torch: the keys are asked for where torch must stay
unloaded, and torch's own ``cpp_extension`` would need setuptools at run time. The few paths and
flags that a build needs are found here instead.

pybind11's headers are those that torch ships. Its type casters (``torch/csrc/utils/pybind.h``) are
written against that version; another one in front of it on the include path would compile the
casters against headers they were never tried with.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchbench import native_cuda

MODULE = "_native"
_DIGEST = 12
"""Bytes of a key."""

# -ffast-math would break nan, infinities and the error bounds; -march=native would make a library
# that crashes elsewhere: the units choose their instruction set themselves, at run time.
CXX_FLAGS = (
    "-std=c++20",  # what torch's headers ask for
    "-O3",
    "-fPIC",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-Wall",
    "-Wno-unknown-pragmas",
    "-D_GLIBCXX_USE_CXX11_ABI=1",  # every torch that is supported
    f"-DBENCHBENCH_MODULE={MODULE}",
)
OPENMP = ("-fopenmp",)
_INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One source file and how it is compiled."""

    source: Path
    object: str
    """Name of the object file. It holds a digest of the file and of our headers that it includes,
    so an object is reused only for the text it was made from, whatever clocks say."""
    command: tuple[str, ...]
    """Compiler and flags, without ``-c source -o object``."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what the library is."""

    units: tuple[Unit, ...]
    link: tuple[str, ...]
    """The linker's command in front of the objects."""
    libraries: tuple[str, ...]
    """Its flags behind the objects."""
    fits: str
    """Digest of sources, torch, Python and processor: a library fits here if it has the same."""
    toolchain: str
    """Digest of compilers, flags and architectures."""
    facts: dict[str, str]
    """What the digests were made from, for people: ``torch``, ``python``, ``compiler``,
    ``cuda`` (or why there is none)."""

    @property
    def key(self) -> str:
        """Name of the library's directory in the cache."""
        return f"{self.fits}-{self.toolchain}"

    def ninja(self, target: Path) -> str:
        """A build file that makes ``target``; objects go into ninja's working directory."""
        lines = [
            "ninja_required_version = 1.5",
            "rule compile",
            "  command = $compiler -c $in -o $out",
            "  description = compile $in",
            "rule link",
            f"  command = {_words(self.link)} $in {_words(self.libraries)} -o $out",
            "  description = link $out",
        ]
        # Binding units include torch's headers and take longest: they start first.
        for unit in sorted(self.units, key=lambda u: ("bindings" not in u.source.parts, u.source)):
            lines.append(f"build {_escape(unit.object)}: compile {_escape(str(unit.source))}")
            lines.append(f"  compiler = {_words(unit.command)}")
        objects = " ".join(_escape(unit.object) for unit in self.units)
        lines.append(f"build {_escape(str(target))}: link {objects}")
        lines.append(f"default {_escape(str(target))}")
        return "\n".join(lines) + "\n"


def recipe(root: Path | None = None) -> Recipe:
    """The recipe for this Python, torch and compiler.

    Args:
        root: folder of the sources; that of the installed package when left out.

    Raises:
        FileNotFoundError: there are no sources, no torch or no compiler.
    """
    root = root or source_root()
    cxx = compiler()
    if root is None:
        raise FileNotFoundError("the kernels' sources are not installed")
    if cxx is None:
        raise FileNotFoundError("there is no C++ compiler")
    torch = torch_home()
    has_cuda = any(root.glob("cuda/*.cu"))
    cuda = native_cuda.toolkit(torch) if has_cuda else None
    without = f"none: {native_cuda.missing(torch)}" if has_cuda and cuda is None else ""
    openmp = OPENMP if _accepts(cxx, OPENMP) else ()
    flags = [*CXX_FLAGS, *openmp]
    cxx_words = shlex.split(cxx)
    headers = [torch / "include", torch / "include" / "torch" / "csrc" / "api" / "include"]
    headers.append(Path(sysconfig.get_path("include")))
    kernel_command = (*cxx_words, *flags, f"-I{root}")
    # torch's headers are not ours to mend: -isystem keeps their warnings out of the log.
    binding_command = (
        *kernel_command,
        *(word for path in headers for word in ("-isystem", str(path))),
        *((*cuda.defines, *cuda.include_flags) if cuda else ()),
    )
    told = " ".join([_compiler_version(cxx), *flags])
    units = []
    for source in sources(root, cuda=cuda is not None):
        command = kernel_command
        if "bindings" in source.parts:
            command = binding_command
        if source.name == "module.cpp":
            command = (*command, f'-DBENCHBENCH_BUILT_WITH="{_c_text(told)}"')
        if source.suffix == ".cu" and cuda is not None:
            command = (*cuda.command, f"-I{root}")
        digest = _digest(*command, _text_with_headers(source, root))
        name = "_".join(source.relative_to(root).with_suffix("").parts)
        units.append(Unit(source=source, object=f"{name}-{digest}.o", command=command))
    libraries = [f"-L{torch / 'lib'}", "-lc10", "-ltorch_cpu", "-ltorch", "-ltorch_python"]
    libraries += cuda.libraries if cuda else ()
    # No rpath: torch is imported first, so its libraries are found by name, and the file stays
    # good when the environment moves.
    undefined = ("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ()
    return Recipe(
        units=tuple(units),
        link=(*cxx_words, "-shared", *openmp, *undefined),
        libraries=tuple(libraries),
        fits=fits(root),
        toolchain=_digest(told, cxx, cuda.identity if cuda else ""),
        facts={
            "torch": torch_version(),
            "python": platform.python_version(),
            "compiler": _compiler_version(cxx),
            "cuda": cuda.identity if cuda else without,
        },
    )


def sources(root: Path, *, cuda: bool = False) -> tuple[Path, ...]:
    """Every unit below ``root``; those of CUDA only where they can be compiled."""
    found = [*root.glob("bindings/*.cpp"), *root.glob("cpu/**/*.cpp")]
    if cuda:
        found += [*root.glob("cuda/*.cu"), *root.glob("bindings/cuda/*.cpp")]
    return tuple(sorted(found))


def fits(root: Path) -> str:
    """Digest of sources, torch, Python and processor; needs no compiler."""
    texts = [
        (torch_home() / "version.py").read_text(),
        str(sys.implementation.cache_tag),
        sys.platform,
        platform.machine(),
    ]
    for suffix in ("cpp", "h", "cu", "cuh"):
        for file in sorted(root.rglob(f"*.{suffix}")):
            texts += [file.relative_to(root).as_posix(), file.read_text()]
    return _digest(*texts)


@cache
def source_root() -> Path | None:
    """Folder of the kernels' sources: the package ``benchbench_csrc``, or None."""
    spec = importlib.util.find_spec("benchbench_csrc")
    if spec is None or not spec.submodule_search_locations:
        return None
    root = Path(next(iter(spec.submodule_search_locations)))
    return root if (root / "bindings").is_dir() else None


def compiler() -> str | None:
    """``CXX``, or the first of c++, g++ and clang++ on PATH, or None."""
    chosen = os.environ.get("CXX")
    if chosen:
        return chosen if shutil.which(shlex.split(chosen)[0]) else None
    return next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), None)


def torch_home() -> Path:
    """Folder of the torch that would be imported.

    Raises:
        FileNotFoundError: torch is not installed.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("torch is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def torch_version() -> str:
    """``__version__`` of the torch that would be imported, such as ``2.14.1+cu130``."""
    text = (torch_home() / "version.py").read_text()
    found = re.search(r"__version__ = '([^']+)'", text)
    return found.group(1) if found else "unknown"


def _text_with_headers(source: Path, root: Path) -> str:
    """The text of ``source`` and, once each, of our headers that it includes."""
    seen: dict[Path, str] = {}
    waiting = [source]
    while waiting:
        file = waiting.pop()
        if file in seen or not file.is_file():
            continue
        text = seen[file] = file.read_text()
        for name in _INCLUDE.findall(text):
            waiting += [root / name, file.parent / name]
    return "\0".join(f"{file.relative_to(root)}\0{seen[file]}" for file in sorted(seen))


def _digest(*texts: str) -> str:
    digest = hashlib.blake2b(digest_size=_DIGEST)
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def _c_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _words(words: tuple[str, ...]) -> str:
    return " ".join(shlex.quote(word).replace("$", "$$") for word in words)


def _escape(path: str) -> str:
    return path.replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


@cache
def _compiler_version(cxx: str) -> str:
    done = subprocess.run(
        [*shlex.split(cxx), "--version"], capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines()[0] if done.stdout else cxx


@cache
def _accepts(cxx: str, flags: tuple[str, ...]) -> bool:
    """Whether the compiler takes these flags (Apple's clang has no OpenMP)."""
    done = subprocess.run(
        [*shlex.split(cxx), *flags, "-x", "c++", "-fsyntax-only", os.devnull],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0
