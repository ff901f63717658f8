"""What nvcc makes of the kernels for sm_90: registers, stack, shared memory, instructions.

No GPU is needed. The objects are those of the library's own build where it was built with CUDA for
sm_90, so that nothing is compiled twice; else they are compiled once and kept in pytest's cache.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from host_kernels import CSRC

from benchbench import native_cuda, native_recipe
from benchbench.catalog_cache import cache_directory

pytestmark = pytest.mark.slow
UNITS = sorted(file.stem for file in (CSRC / "cuda").glob("*.cu"))
REGISTER_FILE = 65536  # of a processor
# Registers a thread, at most; what remains decides how many bytes are under way.
REGISTERS = {
    "elementwise": 64,
    "biased": 128,
    "biased_backward": 128,
    "column_sums": 40,
    "rows_by_lanes": 128,
    "rows_by_block": 168,
    "rows_by_grid": 168,
    "gradient_by_lanes": 255,
    "gradient_by_block": 255,
    "gradient_by_grid": 255,
    "plane_slopes": 64,
    "plane_slopes_backward": 64,
    "planes": 128,
    "planes_evaluation": 128,
    "planes_backward": 128,
    "pixels": 128,
    "pixels_backward": 128,
    "draw_indices": 40,
    "gather_rows": 40,
    "sum_replicates": 80,
    "sum_weighed": 80,
    "resample_signals": 48,
    "group_segments": 128,
    "group_pixels_forward": 128,
    "group_pixels_gradient": 128,
    "response_planes": 128,
    "response_planes_backward": 168,
    "response_pixels": 64,
    "response_pixels_backward": 64,
    "packed_gates": 64,
    "packed_gates_backward": 96,
}
# Instructions for an element, for 16 and for 32 bits: what units do while the memory moves it. At
# an H200's bandwidth there is time for about 28 for each 4 bytes.
INSTRUCTIONS = {
    "UnaryOp": (28, 40),
    "UnaryBackwardOp": (37, 55),
    "GatedOp": (36, 54),
    "GatedBackwardOp": (44, 62),
    "CurveOp": (48, 62),  # softplus and ELU ask the mathematical library
    "CurveBackwardOp": (42, 60),
}


@pytest.fixture(scope="module")
def units(pytestconfig):
    """The object of each CUDA unit, by its name, and the tool that reads them."""
    torch_home = native_recipe.torch_home()
    toolkit = native_cuda.toolkit(torch_home)
    if toolkit is None:
        pytest.skip(native_cuda.missing(torch_home))
    tool = disassembler(toolkit)
    if tool is None:
        pytest.skip("no cuobjdump: it comes with the toolkit and with triton")
    import fcntl  # nvcc is found on Linux

    kept = pytestconfig.cache.mkdir("cuda_gates")
    recipe = {u.source.stem: u for u in native_recipe.recipe().units if u.source.suffix == ".cu"}
    for_90 = replace(toolkit, architectures=("90",)).command

    @cache
    def object_of(name: str) -> Path:
        unit = recipe[name]
        built = cache_directory() / "native" / "objects" / unit.object
        target = built if built.exists() and "90" in toolkit.architectures else kept / unit.object
        with (kept / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of two workers of pytest, one compiles
            if not target.exists():
                partial = target.with_suffix(".partial")
                command = [*for_90, f"-I{CSRC}", "-c", str(unit.source), "-o", str(partial)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stderr
                assert "warning" not in done.stderr, done.stderr
                partial.rename(target)
        return target

    return lambda name, *flags: read(tool, object_of(name), *flags)


def read(tool: str, target: Path, *flags: str) -> str:
    command = [tool, "-arch", "sm_90", *flags, str(target)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def disassembler(toolkit) -> str | None:
    beside = toolkit.nvcc.with_name("cuobjdump")
    if beside.is_file():
        return str(beside)
    spec = importlib.util.find_spec("triton")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for file in Path(place).rglob("cuobjdump"):
            return str(file)
    return shutil.which("cuobjdump")


def usage(report: str):
    """(demangled name, registers, stack, shared memory, local memory) of each kernel."""
    # The compiler's binutils have it.
    plain = subprocess.run(["c++filt"], input=report, capture_output=True, text=True, check=True)
    found = re.findall(
        r"Function (\S.*):\n\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", plain.stdout
    )
    assert found, report[:400]
    for name, *numbers in found:
        short = name.replace("benchbench::cuda::", "").replace("(anonymous namespace)::", "")
        yield (short, *map(int, numbers))


@pytest.mark.parametrize("unit", UNITS)
def test_no_spills_and_registers_within_budget(units, unit):
    """What is spilled lies on the stack, so a kernel without one spills nothing."""
    for name, registers, stack, shared, local in usage(units(unit, "--dump-resource-usage")):
        kernel = re.search(r"(\w+)<", name).group(1)
        assert registers <= REGISTERS[kernel], (name, registers)
        # The driver reserves 1 KiB for each block; what a kernel declares comes on top.
        assert shared <= 1024, (name, "shared memory is asked for at the launch only")
        # For gradient checks in float64: a few bytes around calls of the mathematical library.
        assert stack <= (64 if "double" in name else 0), (name, stack)
        assert local == 0, (name, local)


def test_a_spill_is_noticed(units, tmp_path):
    """What the test above looks for, planted: more live values than registers."""
    toolkit = native_cuda.toolkit(native_recipe.torch_home())
    source = tmp_path / "spill.cu"
    source.write_text(
        """
        template <class T> __global__ void __launch_bounds__(1024, 2) spilling(T* x) {
          T v[96];
        #pragma unroll
          for (int i = 0; i < 96; ++i) v[i] = x[i * 1024 + threadIdx.x];
          __syncthreads();
        #pragma unroll
          for (int i = 0; i < 96; ++i)
            x[(95 - i) * 1024 + threadIdx.x] = v[i] * v[(i * 7 + 1) % 96];
        }
        template __global__ void spilling<float>(float*);
        """
    )
    target = tmp_path / "spill.o"
    for_90 = replace(toolkit, architectures=("90",)).command
    subprocess.run([*for_90, "-c", str(source), "-o", str(target)], check=True)
    report = read(disassembler(toolkit), target, "--dump-resource-usage")
    ((_, registers, stack, _, _),) = usage(report)
    assert registers <= 32 and stack > 0


def test_every_kernel_has_a_budget():
    names = set()
    for file in (CSRC / "cuda").rglob("*"):
        if file.suffix in (".cu", ".h"):
            names |= set(re.findall(r"__launch_bounds__\([^;{]*?\)\)?\s+(\w+)\(", file.read_text()))
    assert names == set(REGISTERS)


def test_instructions_for_an_element_are_within_budget(units):
    counted = 0
    for part in units("elementwise", "-sass").split("Function : ")[1:]:
        name = part.split("\n", 1)[0]
        op = next(op for op in INSTRUCTIONS if f"{len(op)}{op}" in name)
        dtype = re.search(r"E\dE(d|f|NS0_3f16|NS0_4bf16)E", name).group(1)
        if dtype == "d":
            continue
        half = dtype != "f"
        code = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?(\w+)", part, re.MULTILINE)
        count = sum(word != "NOP" for word in code)
        elements = (8 if half else 4) * (4 if op in ("UnaryOp", "CurveOp") else 2)
        assert count / elements <= INSTRUCTIONS[op][not half], (name, count / elements)
        counted += 1
    assert counted == 3 * 32
