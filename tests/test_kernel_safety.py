"""The CPU kernels under the address and undefined-behaviour sanitizers, at the end of a page, and
in one library with code for older processors.

The sanitized build takes a minute, so it is marked slow; the rest is for every run.
"""

import math
import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import norm_cases
import pytest
import test_fused_group_norms

from benchbench import native_compile, native_recipe
from benchbench.catalog_cache import cache_directory

TESTS = Path(__file__).parent
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
LENGTHS = (0, 1, 3, 7, 15, 16, 17, 31, 33, 63, 64, 65, 70, 127, 131, 1000, 4097)


# ---- the linker ----


def compiled(unit, folder):
    """The object that the library was linked from, or one with nothing inlined away."""
    built = cache_directory() / "native" / "objects" / unit.object
    if built.exists():
        return built
    target = folder / unit.object
    subprocess.run([*unit.command, "-O0", "-c", unit.source, "-o", target], check=True)
    return target


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
@pytest.mark.parametrize("name", ["avx2", "avx512"])
def test_vector_units_export_their_table_alone(name, tmp_path):
    """The linker keeps one copy of a weak symbol for all units: AVX-512 code in it would crash a
    processor that has none."""
    (unit,) = [u for u in native_recipe.recipe().units if u.source.stem == f"kernels_{name}"]
    listing = subprocess.run(
        ["nm", "--demangle", "--defined-only", "--extern-only", compiled(unit, tmp_path)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = [line.split(maxsplit=2)[2] for line in listing.splitlines()]
    assert names == [f"benchbench::{name}::table"]


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
def test_a_weak_symbol_is_noticed(tmp_path):
    """What the test above looks for, planted."""
    source = tmp_path / "weak.cpp"
    source.write_text("inline int shared(int x) { return x; } int (*kept)(int) = shared;\n")
    (unit,) = [u for u in native_recipe.recipe().units if u.source.stem == "kernels_base"]
    target = tmp_path / "weak.o"
    subprocess.run([*unit.command, "-c", source, "-o", target], check=True)
    listing = subprocess.run(
        ["nm", "--demangle", "--defined-only", "--extern-only", target],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert " W shared(int)" in listing


# ---- sanitizers ----


def shapes():
    """Shapes of the other tests, as the driver's lines of input."""
    lines = [f"elements {n}" for n in LENGTHS]
    lines += [f"rows {r} {c}" for r, c in (*norm_cases.ROWS, (3, 4097), (5, 1)) if r]
    shapes = [(shape, shape[1]) for shape in norm_cases.PLANES]
    for (batch, channels, *image), groups in (*shapes, *test_fused_group_norms.GROUPED):
        lines.append(f"planes {batch} {channels} {math.prod(image)} {groups}")
    lines += ["rows 9 64", "rows 2 8256", "planes 2 32 128 4"]  # each begins a cache line
    lines += [f"draws {rows} {count}" for rows in (1, 7, 64, 10_000) for count in (0, 1, 63, 5001)]
    lines += ["signal 400 3 2 16", "signal 1000 160 441 64", "signal 64 1 6 112", "signal 5 2 1 32"]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def driver(request, tmp_path_factory):
    """The driver and the kernels, compiled with sanitizers; objects are kept in pytest's cache."""
    compiler = shlex.split(native_recipe.compiler())
    target = tmp_path_factory.mktemp("sanitized") / "driver"
    probe = subprocess.run(
        [*compiler, *SANITIZERS, "-x", "c++", "-", "-o", target],
        input="int main() {}",
        text=True,
        capture_output=True,
    )
    if probe.returncode:
        pytest.skip(f"{compiler[0]} has no sanitizers here: {probe.stderr.strip()[:200]}")
    kept = request.config.cache.mkdir("sanitized_kernels")
    sources = native_recipe.source_root() / "cpu"
    units = [u for u in native_recipe.recipe().units if u.source.is_relative_to(sources)]

    def compile_unit(unit):
        made = kept / unit.object
        if not made.exists():
            half = kept / f"{os.getpid()}.{unit.object}"
            command = [*unit.command, "-O0", "-g1", *SANITIZERS, "-c", unit.source, "-o", half]
            subprocess.run(command, check=True)
            half.replace(made)
        return made

    with ThreadPoolExecutor(native_compile.jobs()) as pool:
        objects = list(pool.map(compile_unit, units))
    for file in kept.glob("*.o"):  # of other revisions
        if file not in objects:
            file.unlink()
    (base,) = [u for u in units if u.source.stem == "kernels_base"]
    command = [*base.command, "-O0", "-g1", *SANITIZERS, TESTS / "kernel_driver.cpp", *objects]
    subprocess.run([*command, "-o", target], check=True)
    return target


def run(driver, lines):
    return subprocess.run(
        [driver],
        input=lines,
        text=True,
        capture_output=True,
        env={**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1", "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_kernels_under_sanitizers(driver):
    done = run(driver, shapes())
    assert done.returncode == 0, done.stderr[:4000]
    calls, *_ = done.stdout.split()
    assert int(calls) > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 4, 8, 16, 33, 1000])
def test_an_element_too_many_is_found(driver, n):
    done = run(driver, f"beyond {n}")
    assert done.returncode != 0
    assert "ERROR: AddressSanitizer" in done.stderr


@pytest.mark.slow
def test_the_driver_refuses_what_it_does_not_know(driver):
    assert run(driver, "squares 3").returncode == 2
    assert run(driver, "rows 3").returncode == 2


# ---- pages ----
# Masked vector loads are instructions that the sanitizers do not see; the processor itself does.

PAGES = """
import ctypes, mmap, sys
import torch
from benchbench import fused, native

page, libc = mmap.PAGESIZE, ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
kept = []

def at_the_end(values):
    # A copy of `values` whose last element is the last of its page; the next page cannot be read.
    size = values.numel() * values.element_size()
    room = -(-size // page) * page
    memory = mmap.mmap(-1, room + page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    kept.append(memory)
    if libc.mprotect(start + room, page, 0):
        sys.exit("mprotect failed")
    found = torch.frombuffer(memory, dtype=values.dtype, count=values.numel(), offset=room - size)
    return found.view(values.shape).copy_(values)

library = native.load()
if sys.argv[1:] == ["beyond"]:  # does the trap work at all?
    x = at_the_end(torch.ones(1000))
    ctypes.memmove(ctypes.create_string_buffer(8000), x.data_ptr(), 4004)
torch.manual_seed(0)
for name in library.build_info()["instruction_sets"]:
    library.choose_instruction_set(name)
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        for n in (1, 3, 7, 8, 9, 15, 16, 17, 33, 65, 131):
            x, w = (at_the_end(torch.randn(s).to(dtype)) for s in ((3, n), (n,)))
            image = at_the_end(torch.randn(2, 4, n).to(dtype))
            pixels = at_the_end(torch.randn(2, n, 4).to(dtype)).transpose(1, 2)
            for f in (fused.relu, fused.tanh, fused.gelu, fused.silu, fused.softplus, fused.mish,
                      fused.elu, fused.hardswish, fused.logsigmoid, fused.softmax):
                f(x)
            fused.swiglu(x, x)
            fused.bias_gelu(x, w)
            fused.prelu(x, w)
            fused.layer_norm(x, (n,), w, w)
            fused.add_rms_norm(x, x, (n,), w)
            four = at_the_end(torch.randn(4).to(dtype))
            for y in (image, pixels):
                fused.prelu(y, four)
                fused.batch_norm_relu(y, None, None, four, four, training=True)
                fused.local_response_norm(y, 3)
                fused.group_norm(y, 2, four, four)
print("done")
"""


def in_a_process_of_its_own(*arguments):
    return subprocess.run(
        [sys.executable, "-c", PAGES, *arguments], capture_output=True, text=True, timeout=300
    )


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect is POSIX")
def test_no_kernel_reads_past_the_last_page_of_its_input():
    done = in_a_process_of_its_own()
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "done"
    assert in_a_process_of_its_own("beyond").returncode < 0  # killed by the trap
