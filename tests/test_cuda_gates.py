"""What nvcc makes of the kernels for sm_90: registers, spills, shared memory, instructions.

No GPU is needed. The compiler's reports are kept in pytest's cache by the sources' text.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from host_kernels import CSRC, text_with_headers

from benchbench import native_cuda, native_recipe

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
    "add_parts": 40,
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
def toolkit(tmp_path_factory):
    found = native_cuda.toolkit(native_recipe.torch_home())
    if found is None:
        pytest.skip(native_cuda.missing(native_recipe.torch_home()))
    return found


def compiled(toolkit, unit, cache: Path):
    """The object for sm_90 and ptxas' report."""
    source = CSRC / "cuda" / f"{unit}.cu"
    command = [str(toolkit.nvcc), "-std=c++17", "-O3", "--expt-relaxed-constexpr", "-Xptxas=-v"]
    command += ["-gencode=arch=compute_90,code=sm_90", f"-I{CSRC}"]
    command += [f"-I{path}" for path in toolkit.includes]
    text = "\0".join([*command, toolkit.version, text_with_headers(source)])
    key = hashlib.sha256(text.encode()).hexdigest()[:20]
    target = cache / f"{unit}-{key}.o"
    report = target.with_suffix(".txt")
    if not report.exists():
        done = subprocess.run(
            [*command, "-c", str(source), "-o", str(target)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr, done.stderr
        # The compiler's binutils have it.
        plain = subprocess.run(
            ["c++filt"], input=done.stderr, capture_output=True, text=True, check=True
        )
        report.write_text(plain.stdout)
    return target, report.read_text()


def kernels_of(report: str):
    """(demangled name, stack, spilled, registers, static shared memory) of each kernel."""
    found = re.findall(
        r"Function properties for (\S[^\n]*)\n\s+(\d+) bytes stack frame, (\d+) bytes spill "
        r"stores, (\d+) bytes spill loads\n[^\n]*Used (\d+) registers([^\n]*)",
        report,
    )
    assert found
    for name, stack, stores, loads, registers, rest in found:
        shared = re.search(r"(\d+) bytes smem", rest)
        yield (
            name.replace("benchbench::cuda::", "").replace("(anonymous namespace)::", ""),
            int(stack),
            int(stores) + int(loads),
            int(registers),
            int(shared.group(1)) if shared else 0,
        )


@pytest.mark.parametrize("unit", UNITS)
def test_no_spills_and_registers_within_budget(toolkit, unit, pytestconfig):
    _, report = compiled(toolkit, unit, pytestconfig.cache.mkdir("cuda_gates"))
    for name, stack, spilled, registers, shared in kernels_of(report):
        short = re.search(r"(\w+)<", name).group(1)
        assert registers <= REGISTERS[short], (name, registers)
        assert shared == 0, (name, "shared memory is asked for at the launch only")
        if "double" in name:
            # For gradient checks: a few bytes around calls of the mathematical library.
            assert spilled <= 64 and stack <= 64, (name, stack, spilled)
        else:
            assert spilled == 0, (name, spilled)
            assert stack == 0, (name, stack)


def test_every_kernel_has_a_budget():
    names = set()
    for file in (CSRC / "cuda").rglob("*"):
        if file.suffix in (".cu", ".h"):
            names |= set(re.findall(r"__launch_bounds__\([^;{]*?\)\)?\s+(\w+)\(", file.read_text()))
    assert names == set(REGISTERS)


def disassembler(toolkit) -> str | None:
    beside = toolkit.nvcc.with_name("cuobjdump")
    if beside.is_file():
        return str(beside)
    spec = importlib.util.find_spec("triton")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for file in Path(place).rglob("cuobjdump"):
            return str(file)
    return shutil.which("cuobjdump")


def test_instructions_for_an_element_are_within_budget(toolkit, pytestconfig):
    tool = disassembler(toolkit)
    if tool is None:
        pytest.skip("no cuobjdump: it comes with the toolkit and with triton")
    target, _ = compiled(toolkit, "elementwise", pytestconfig.cache.mkdir("cuda_gates"))
    done = subprocess.run([tool, "-sass", str(target)], capture_output=True, text=True, check=True)
    counted = 0
    for part in done.stdout.split("Function : ")[1:]:
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
