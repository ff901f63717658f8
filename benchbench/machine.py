"""What this machine is: written into every run, so that a number can be judged later.

Read from ``/proc`` and ``/sys`` where they exist; a fact that cannot be read is left out. Nothing
here takes more than a few milliseconds or imports torch before :func:`worker_environment`.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchbench import __version__
from benchbench.files import Files
from benchbench.groups import limits
from benchbench.resources import available_memory, usable_cores
from benchbench.timers.instructions_launch import NOTE

_CPU = Path("/sys/devices/system/cpu")
_VECTOR_FLAGS = ("avx", "avx2", "fma", "f16c", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")
_VARIABLES = (
    "OMP_",
    "MKL_",
    "KMP_",
    "GOMP_",
    "OPENBLAS_",
    "MALLOC_",
    "GLIBC_TUNABLES",
    "LD_PRELOAD",
    "TORCH",
    "PYTORCH_",
    "CUDA_",
    "NVIDIA_",
    "CUBLAS_",
    "BENCHBENCH_",
    "ONEDNN_",
    "DNNL_",
)
_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CERT")


def environment() -> dict[str, Any]:
    """Facts about the machine, the kernel, the container and the project, without torch."""
    granted = limits(Files())
    facts: dict[str, Any] = {
        "benchbench": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "logical_cpus": os.cpu_count(),
        "usable_cores": usable_cores(),
        "caches": _caches(),
        "vector": _vector_flags(),
        "governor": _read(_CPU / "cpu0" / "cpufreq" / "scaling_governor"),
        "turbo": turbo(_CPU),
        "hypervisor": hypervisor(),
        "memory": _total_memory(),
        "memory_available": available_memory(),
        "huge_pages": chosen(_read(Path("/sys/kernel/mm/transparent_hugepage/enabled"))),
        "container_cpu": granted.quota,
        "container_memory": granted.memory,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "commit": _commit(),
    }
    return {name: value for name, value in facts.items() if value not in (None, "", {}, [])}


def worker_environment(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Facts that only a process with torch knows; ``variables`` defaults to ``os.environ``."""
    import numpy
    import torch

    facts: dict[str, Any] = {
        "torch": torch.__version__,
        "torch_git": torch.version.git_version,
        "torch_cuda": torch.version.cuda,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "numpy": numpy.__version__,
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "variables": relevant_variables(os.environ if variables is None else variables),
        "allocator": _allocator(),
        "devices": _devices(),
        "gpu": _gpu(),
        "counter": (os.environ if variables is None else variables).get(NOTE, ""),
    }
    return {name: value for name, value in facts.items() if value not in (None, "", {}, [])}


def relevant_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that change how fast code runs; nothing that looks like a secret."""
    return {
        name: value
        for name, value in sorted(variables.items())
        if name.startswith(_VARIABLES) and not any(word in name.upper() for word in _SECRET)
    }


IDENTITY = (
    "cpu",
    "machine",
    "logical_cpus",
    "usable_cores",
    "torch",
    "torch_cuda",
    "threads",
    "counter",
)
"""Facts that must agree before two runs' absolute times may be compared."""


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """``cpu: A against B`` for every identifying fact in which two environments differ."""
    found = []
    for name in (*IDENTITY, "devices"):
        if one.get(name) != other.get(name):
            found.append(f"{name}: {one.get(name)} against {other.get(name)}")
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def chosen(text: str) -> str:
    """``always [madvise] never`` -> ``madvise``."""
    return text.partition("[")[2].partition("]")[0]


def _cpuinfo(field: str, root: Path = Path("/")) -> str:
    for line in _read(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""


def cpu_model() -> str:
    """The processor's name, with family and model where ``/proc`` has them."""
    if sys.platform == "darwin":
        return output(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.processor()
    model = _cpuinfo("model name") or platform.processor() or platform.machine()
    family, number = _cpuinfo("cpu family"), _cpuinfo("model")
    # Virtual machines hide the model's name; family and model still tell the generation.
    return f"{model} (family {family}, model {number})" if family and number else model


def _vector_flags() -> list[str]:
    present = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return [flag for flag in _VECTOR_FLAGS if flag in present]


def _caches() -> dict[str, str]:
    found = {}
    for index in sorted((_CPU / "cpu0" / "cache").glob("index*")):
        level, sort, size = (_read(index / name) for name in ("level", "type", "size"))
        if level and size:
            letter = {"Data": "d", "Instruction": "i"}.get(sort, "")
            found[f"L{level}{letter}"] = size
    return found


def turbo(cpus: Path) -> str:
    """Whether clocks may rise above the nominal one: ``on``, ``off``, or ``""`` if not told."""
    no_turbo = _read(cpus / "intel_pstate" / "no_turbo")
    if no_turbo:
        return "off" if no_turbo == "1" else "on"
    boost = _read(cpus / "cpufreq" / "boost") or _read(cpus / "cpufreq" / "policy0" / "boost")
    return {"0": "off", "1": "on"}.get(boost, "")


def hypervisor(root: Path = Path("/")) -> str:
    """What kind of virtual machine this is, ``yes`` if it does not say, ``""`` if it is none."""
    if "hypervisor" not in _cpuinfo("flags", root).split():
        return ""
    return _read(root / "sys/hypervisor/type") or "yes"


def _total_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().total)


def output(command: Iterable[str]) -> str:
    """What a short command prints, empty when it fails or is not there."""
    try:
        done = subprocess.run(list(command), capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _commit() -> str:
    """Revision of the project in the working directory, with ``+`` when it has changes."""
    commit = output(["git", "rev-parse", "--short=12", "HEAD"])
    if commit and output(["git", "status", "--porcelain", "--untracked-files=no"]):
        commit += "+"
    return commit


def _allocator() -> str:
    preload = os.environ.get("LD_PRELOAD", "")
    for name in ("jemalloc", "tcmalloc", "mimalloc"):
        if name in preload:
            return name
    return " ".join(platform.libc_ver()).strip()


def _devices() -> list[dict[str, Any]]:
    import torch

    if not torch.cuda.is_available():
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(
            {
                "name": properties.name,
                "memory": properties.total_memory,
                "processors": properties.multi_processor_count,
                "capability": f"{properties.major}.{properties.minor}",
                "l2": getattr(properties, "L2_cache_size", None),
            }
        )
    return found


def _gpu() -> dict[str, Any]:
    """State of the GPU that torch works on: driver, limits, clocks, modes."""
    import torch

    if not torch.cuda.is_available():
        return {}
    from benchbench import gpu

    found, reason = gpu.gauge(torch, gpu.nvml())
    return {"unknown": reason} if found is None else gpu.describe(found)
