"""Find nvcc and what a build of CUDA sources needs; no GPU has to be there.

CUDA units are compiled only where torch is a CUDA build and an nvcc of the same major version is
found: in ``CUDA_HOME``, on ``PATH``, or in the wheels that the extra ``cuda`` installs.
``BENCHBENCH_CUDA=0`` leaves them out.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DEFAULT_ARCHITECTURE = "90"
"""Compute capability that is compiled where no device is visible and nothing else is asked for."""
OLDEST = 80
"""The kernels need at least this compute capability."""


@dataclass(frozen=True, kw_only=True)
class Toolkit:
    """An nvcc with its headers and the runtime library to link."""

    nvcc: Path
    version: str
    architectures: tuple[str, ...]
    includes: tuple[Path, ...]
    runtime: Path
    """``libcudart``, the file itself: wheels have it without the name that ``-lcudart`` needs."""

    @property
    def identity(self) -> str:
        """What a library made with it depends on."""
        return f"nvcc {self.version}, sm_{' sm_'.join(self.architectures)}"

    @property
    def defines(self) -> tuple[str, ...]:
        """For the C++ units, which then know that CUDA units are linked with them."""
        return ("-DBENCHBENCH_CUDA",)

    @property
    def include_flags(self) -> tuple[str, ...]:
        """For the units that include torch's CUDA headers."""
        return tuple(word for path in self.includes for word in ("-isystem", str(path)))

    @property
    def command(self) -> tuple[str, ...]:
        """nvcc with all flags; ``-c source -o object`` follow."""
        code = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in self.architectures]
        last = self.architectures[-1]
        # Newer processors than any of these compile the last one's PTX when it is loaded.
        code.append(f"-gencode=arch=compute_{last},code=compute_{last}")
        return (
            str(self.nvcc),
            "-std=c++17",
            "-O3",
            "--expt-relaxed-constexpr",
            "-Xcompiler=-fPIC,-fvisibility=hidden",
            *code,
            *(f"-I{path}" for path in self.includes),
        )

    @property
    def libraries(self) -> tuple[str, ...]:
        """Linked behind the objects."""
        return ("-lc10_cuda", "-ltorch_cuda", str(self.runtime))


def toolkit(torch_home: Path) -> Toolkit | None:
    """The toolkit for this torch, or None where CUDA units cannot be compiled."""
    wanted = torch_cuda(torch_home)
    if not wanted or os.environ.get("BENCHBENCH_CUDA") == "0":
        return None
    for nvcc in _candidates():
        version = _version(nvcc)
        if version.split(".")[0] != wanted.split(".")[0]:
            continue
        homes = [nvcc.resolve().parents[1], nvcc.parents[1], *_wheels()]
        includes = [home / "include" for home in homes]
        runtime = next(_runtimes(homes), None)
        includes = [path for path in includes if (path / "cuda_runtime_api.h").is_file()]
        architectures = _architectures(nvcc)
        if includes and runtime and architectures:
            return Toolkit(
                nvcc=nvcc,
                version=version,
                architectures=architectures,
                includes=tuple(dict.fromkeys(includes)),
                runtime=runtime,
            )
    return None


def missing(torch_home: Path) -> str:
    """Why :func:`toolkit` finds nothing, and what would mend it."""
    wanted = torch_cuda(torch_home)
    if os.environ.get("BENCHBENCH_CUDA") == "0":
        return "BENCHBENCH_CUDA=0"
    if not wanted:
        return "this torch is built without CUDA"
    major = wanted.split(".")[0]
    return (
        f"no nvcc {major}.x with headers and runtime was found in CUDA_HOME, on PATH or in a "
        f"wheel; pip install 'benchbench[cuda]', then run `benchbench build --force`"
    )


def torch_cuda(torch_home: Path) -> str | None:
    """The CUDA version that this torch was built for, or None."""
    text = (torch_home / "version.py").read_text()
    found = re.search(r"^cuda\b[^=]*= '([\d.]+)'", text, re.MULTILINE)
    return found.group(1) if found else None


def _candidates() -> Iterator[Path]:
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        chosen = os.environ.get(variable)
        if chosen and (Path(chosen) / "bin" / "nvcc").is_file():
            yield Path(chosen) / "bin" / "nvcc"
    on_path = shutil.which("nvcc")
    if on_path:
        yield _behind_wrapper(Path(on_path))
    for home in _wheels():
        if (home / "bin" / "nvcc").is_file():
            yield home / "bin" / "nvcc"


def _behind_wrapper(nvcc: Path) -> Path:
    """The real nvcc: one on PATH may be a script beside which no headers lie."""
    done = subprocess.run(
        [str(nvcc), "--dryrun", "-c", "-x", "cu", os.devnull, "-o", os.devnull],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"^#\$ _HERE_=(.+)$", done.stderr, re.MULTILINE)
    real = Path(found.group(1).strip()) / "nvcc" if found else nvcc
    return real if real.is_file() else nvcc


def _wheels() -> list[Path]:
    """Folders of the wheels' toolkit: ``nvidia/cu13`` and the like."""
    spec = importlib.util.find_spec("nvidia")
    places = list(spec.submodule_search_locations or []) if spec else []
    return sorted((home for place in places for home in Path(place).glob("cu[0-9]*")), reverse=True)


def _runtimes(homes: list[Path]) -> Iterator[Path]:
    for home in homes:
        for folder in ("lib64", "lib"):
            yield from sorted((home / folder).glob("libcudart.so*"))


def _version(nvcc: Path) -> str:
    done = subprocess.run([str(nvcc), "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"release [\d.]+, V([\d.]+)", done.stdout)
    return found.group(1) if found else ""


def _architectures(nvcc: Path) -> tuple[str, ...]:
    wanted = _asked() or _visible() or [DEFAULT_ARCHITECTURE]
    done = subprocess.run(
        [str(nvcc), "--list-gpu-arch"], capture_output=True, text=True, check=False
    )
    known = set(re.findall(r"compute_(\w+)", done.stdout))
    return tuple(arch for arch in wanted if arch in known)


def _asked() -> list[str]:
    """Architectures that the environment names: ``90;100``, or torch's form ``9.0 10.0+PTX``."""
    for variable in ("BENCHBENCH_CUDA_ARCHS", "TORCH_CUDA_ARCH_LIST"):
        words = re.findall(r"(\d+\.?\d+[a-z]?)", os.environ.get(variable, ""))
        if words:
            return list(dict.fromkeys(word.replace(".", "") for word in words))
    return []


def _visible() -> list[str]:
    """Architectures of this machine's devices, oldest first; empty where there are none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    done = subprocess.run(
        [tool, "--query-gpu=compute_cap", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = {int(a + b) for a, b in re.findall(r"^(\d+)\.(\d+)$", done.stdout, re.MULTILINE)}
    return [str(arch) for arch in sorted(found) if arch >= OLDEST]
