"""The CUDA kernels on the host executor under the address sanitizer, in a process of its own.

Guard pages find what lies beyond an array; the sanitizer also sees the fibres' stacks and memory
that was freed.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_cases import SANITIZED

from benchbench.native_recipe import compiler

HERE = Path(__file__).parent
CHOSEN = [
    "test_cuda_rows.py::test_norms_at_any_address",
    "test_cuda_rows.py::test_giant_rows_are_shared_by_the_grid",
    "test_cuda_rows_backward.py::test_gradients_are_the_same_in_every_schedule",
    "test_cuda_batch_norm.py::test_16_bit_parameters",
    "test_cuda_group_norm.py::test_any_address",
    "test_cuda_response_norm.py::test_any_address",
    "test_cuda_activations.py::test_gated",
    "test_cuda_activations.py::test_prelu",
]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or compiler() is None, reason="gcc or clang on Linux")
def test_kernels_are_clean_under_the_address_sanitizer():
    cxx = shlex.split(compiler() or "c++")
    done = subprocess.run(
        [*cxx, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    runtime = Path(done.stdout.strip())
    if not runtime.is_absolute():
        pytest.skip("the compiler has no address sanitizer to load first")
    environment = {
        **os.environ,
        SANITIZED: "1",
        "LD_PRELOAD": str(runtime),
        # Python keeps memory until it ends; everything else is an error.
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "OMP_NUM_THREADS": "1",
    }
    tests = [str(HERE / name) for name in CHOSEN]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", *tests],
        env=environment, capture_output=True, text=True, check=False, cwd=HERE.parent,
    )  # fmt: skip
    assert run.returncode == 0, (run.stdout + run.stderr)[-4000:]
