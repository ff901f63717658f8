"""The build on first use, on a library of two small units; and what the real one promises."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from benchbench import native, native_cuda, native_recipe
from benchbench.errors import NativeError, UsageError

# Python's own headers: those of pybind11 and torch take seconds.
MODULE_CPP = """
#include <Python.h>
#include "cpu/answer.h"
#define JOIN(a, b) a##b
#define INIT(name) JOIN(PyInit_, name)
#define TEXT(name) #name
#define NAME(name) TEXT(name)
static PyObject* ask(PyObject*, PyObject*) { return PyLong_FromLong(answer()); }
static PyMethodDef methods[] = {{"answer", ask, METH_NOARGS, ""}, {}};
static PyModuleDef module = {PyModuleDef_HEAD_INIT, NAME(BENCHBENCH_MODULE), "", -1, methods};
PyMODINIT_FUNC INIT(BENCHBENCH_MODULE)() { return PyModule_Create(&module); }
"""
ANSWER_H = "int answer();\n"
ANSWER_CPP = '#include "cpu/answer.h"\nint answer() { return 42; }\n'

needs_compiler = pytest.mark.skipif(native_recipe.compiler() is None, reason="no C++ compiler")


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A folder of sources in place of the kernels, in a path that needs quoting, and a cache."""
    root = tmp_path / "my sources: $HOME"
    for name, text in (
        ("bindings/module.cpp", MODULE_CPP),
        ("cpu/answer.h", ANSWER_H),
        ("cpu/answer.cpp", ANSWER_CPP),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setenv("BENCHBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BENCHBENCH_BUILD", raising=False)
    monkeypatch.setattr(native, "source_root", lambda: root)
    monkeypatch.setattr(native, "_package", lambda: tmp_path / "installation")
    forget()
    yield root
    monkeypatch.undo()
    forget()


def forget():
    """What a process remembers, as if it were a new one."""
    for function in (native._fits, native._recipe, native._tell_once):
        function.cache_clear()


def answer(library: Path) -> int:
    """Ask a library, in a process of its own: an extension cannot be loaded twice under a name."""
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('_native', {str(library)!r})\n"
        "import torch; module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module); print(module.answer())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


class Announce:
    """Passes a message on and sets an event."""

    def __init__(self, then, event):
        self.then, self.event, self.first = then, event, None

    def __call__(self, message, *arguments):
        self.first = self.first or message
        self.then(message, *arguments)
        self.event.set()


def objects():
    work = native.cache_directory() / "native" / "objects"
    return {file.name: file.stat().st_mtime_ns for file in work.glob("*.o")}


@needs_compiler
def test_first_use_compiles_and_says_so(sources, caplog):
    caplog.set_level(logging.INFO, "benchbench")
    assert native.prebuilt() is None
    assert native.unavailable() is None
    library = native.build()
    assert answer(library) == 42
    said = " ".join(caplog.messages)
    assert "compiling the fused kernels (2 units" in said
    assert str(library.parent) in said
    assert re.search(r"compiled the fused kernels in \d+ s", said)


@needs_compiler
def test_what_is_built_is_used_even_without_a_compiler(sources, monkeypatch, caplog):
    library = native.build()
    caplog.set_level(logging.INFO, "benchbench")
    monkeypatch.setattr(native, "compile_library", None)  # calling it would be an error
    assert native.build() == library
    assert not caplog.messages
    forget()
    monkeypatch.setattr(native, "compiler", lambda: None)
    assert native.prebuilt() == library
    assert native.unavailable() is None


@needs_compiler
def test_only_what_changed_is_compiled_again(sources):
    first = native.build()
    before = objects()
    (sources / "cpu" / "answer.cpp").write_text(ANSWER_CPP.replace("42", "43"))
    forget()
    assert native.prebuilt() is None, "a library of other sources must not be used"
    second = native.build()
    assert second != first
    assert (answer(first), answer(second)) == (42, 43)
    after = objects()
    assert len(after) == 3
    assert {name: after[name] for name in before} == before


@needs_compiler
def test_an_older_file_with_another_text_is_compiled(sources):
    """Packages keep the times of their files, so times must not decide."""
    native.build()
    file = sources / "cpu" / "answer.cpp"
    file.write_text(ANSWER_CPP.replace("42", "44"))
    os.utime(file, (0, 0))
    forget()
    assert answer(native.build()) == 44


@needs_compiler
def test_a_changed_header_recompiles_the_units_that_include_it(sources):
    native.build()
    before = set(objects())
    (sources / "cpu" / "answer.h").write_text(ANSWER_H + "// another\n")
    forget()
    native.build()
    assert len(set(objects()) - before) == 2


@needs_compiler
def test_a_failing_compile_is_explained_and_not_tried_again(sources, monkeypatch):
    (sources / "cpu" / "answer.cpp").write_text("int answer() { return forty_two; }\n")
    with pytest.raises(NativeError) as caught:
        native.build()
    message = str(caught.value)
    assert "forty_two" in message
    assert "benchbench build" in message
    assert "\n" not in message
    (journal,) = re.findall(r"whole log is (.+)\. Mend", message)
    assert "forty_two" in Path(journal).read_text()
    assert native.unavailable() == message
    with monkeypatch.context() as patched:
        patched.setattr(native, "compile_library", None)
        with pytest.raises(NativeError, match="forty_two"):
            native.build()
    # Mended: other sources, so nothing is remembered of them.
    (sources / "cpu" / "answer.cpp").write_text(ANSWER_CPP)
    forget()
    assert native.unavailable() is None
    assert answer(native.build()) == 42


@needs_compiler
def test_force_tries_again_after_a_passing_cause(sources, tmp_path, monkeypatch):
    """A full disk, a killed compiler: nothing changed that a key could notice."""
    broken = tmp_path / "broken"
    script = tmp_path / "cxx"
    script.write_text(
        f'#!/bin/sh\ncase "$*" in *-shared*) test -e {broken} && echo "no space left" && exit 1;;'
        f' esac\nexec {native_recipe.compiler()} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    broken.touch()
    with pytest.raises(NativeError, match="no space left"):
        native.build()
    broken.unlink()
    with pytest.raises(NativeError, match="no space left"):
        native.build()
    assert answer(native.build(force=True)) == 42
    assert native.unavailable() is None


def test_no_compiler_is_a_reason_with_a_remedy(sources, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    reason = native.unavailable()
    assert reason.startswith("no C++ compiler found; install g++")
    assert "benchbench build" in reason
    with pytest.raises(NativeError, match="install g\\+\\+"):
        native.build()


@pytest.mark.parametrize(("mode", "reason"), [("0", "BENCHBENCH_BUILD=0 forbids it"), ("1", None)])
def test_mode_0_never_compiles_and_mode_1_insists(sources, monkeypatch, mode, reason):
    monkeypatch.setenv("BENCHBENCH_BUILD", mode)
    monkeypatch.setenv("CXX", "no-such-compiler")
    found = native.unavailable()
    assert (found is None) if reason is None else (reason in found)
    # With 1 a contender is not unavailable, so this failure is its result.
    with pytest.raises(NativeError):
        native.build()


def test_a_mistyped_mode_is_refused(sources, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_BUILD", "yes")
    with pytest.raises(UsageError, match="must be 0, 1 or auto"):
        native.unavailable()


@needs_compiler
def test_waiting_for_another_process_is_announced(sources, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "benchbench")
    monkeypatch.setattr(native, "_LOCK_NOTICE", 0.05)
    work = native.cache_directory() / "native" / "objects"
    work.mkdir(parents=True)
    held, may_go = threading.Event(), threading.Event()

    def hold():
        with FileLock(work / "lock"):
            held.set()
            may_go.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    # It lets go once the waiting was announced, not after some time.
    monkeypatch.setattr(native.log, "info", tell := Announce(native.log.info, may_go))
    assert native.build().exists()
    holder.join()
    assert tell.first.startswith("waiting")
    assert f"waiting for another process that compiles the fused kernels in {work}" in caplog.text


def test_a_lock_file_that_was_left_behind_stops_nobody(sources):
    """What torch's own lock waits on for ever."""
    work = native.cache_directory() / "native" / "objects"
    work.mkdir(parents=True)
    (work / "lock").touch()
    lock = FileLock(work / "lock")
    lock.acquire(timeout=1)
    lock.release()


def test_a_cache_that_cannot_be_written_is_explained(sources, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("BENCHBENCH_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(native, "compiler", lambda: "c++")
    with pytest.raises(NativeError, match="set BENCHBENCH_CACHE to a folder"):
        native.build()


def test_a_library_of_another_torch_in_the_installation_is_ignored(sources, tmp_path, caplog):
    caplog.set_level(logging.INFO, "benchbench")
    installed = tmp_path / "installation"
    installed.mkdir()
    (installed / "_native.so").touch()
    (installed / "_native.json").write_text('{"torch": "2.0.0", "fits": "x"}')
    assert native.prebuilt() is None
    assert native.prebuilt() is None
    assert len(caplog.messages) == 1
    assert "built for torch 2.0.0, this is" in caplog.messages[0]


@needs_compiler
def test_the_key_changes_with_everything_that_decides(sources, monkeypatch):
    plan = native_recipe.recipe(sources)
    assert native_recipe.recipe(sources).key == plan.key
    script = sources.parent / "another-cxx"
    script.write_text(f'#!/bin/sh\nexec {native_recipe.compiler()} "$@"\n')
    script.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("CXX", str(script))
        other = native_recipe.recipe(sources)
        assert (other.fits, other.toolchain == plan.toolchain) == (plan.fits, False)
    with monkeypatch.context() as patched:
        patched.setattr(native_recipe, "CXX_FLAGS", (*native_recipe.CXX_FLAGS, "-g"))
        assert native_recipe.recipe(sources).toolchain != plan.toolchain
    torch = sources.parent / "torch"
    torch.mkdir()
    (torch / "version.py").write_text("__version__ = '2.11.0'\n")
    with monkeypatch.context() as patched:
        patched.setattr(native_recipe, "torch_home", lambda: torch)
        assert native_recipe.torch_version() == "2.11.0"
        assert native_recipe.recipe(sources).fits != plan.fits


def test_flags_neither_loosen_arithmetic_nor_bind_to_this_machine():
    flags = {*native_recipe.CXX_FLAGS, *native_recipe.OPENMP}
    assert not {flag for flag in flags if "fast-math" in flag or "-march" in flag}
    assert {"-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp"} <= flags


def test_torch_is_not_imported_to_answer():
    code = (
        "import sys; from benchbench import native; native.unavailable(); native.prebuilt(); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_kernels_see_no_torch():
    root = native_recipe.source_root()
    for file in [*root.glob("cpu/**/*.cpp"), *root.glob("cpu/**/*.h")]:
        assert not re.search(r"#include\s*<(torch|ATen|c10|pybind11)/", file.read_text()), file


@pytest.mark.slow
@needs_compiler
def test_the_real_library_says_what_it_is():
    if native.unavailable() is not None:
        pytest.fail(native.unavailable())
    info = native.load().build_info()
    import torch

    assert torch.__version__.startswith(info["torch"])
    assert "-O3" in info["built_with"]
    assert "base" in info["instruction_sets"]
    assert info["instruction_set"] in info["instruction_sets"]
    assert info["openmp"] or sys.platform == "darwin"
    assert hasattr(torch.ops.benchbench, "gelu")


@needs_compiler
def test_cuda_units_are_compiled_and_linked_where_nvcc_is(sources, monkeypatch):
    """No GPU is needed to compile and link; calling the kernel's launcher would need one."""
    if native_cuda.toolkit(native_recipe.torch_home()) is None:
        pytest.skip("needs a CUDA build of torch and an nvcc of its major version")
    # nvcc does not quote what it hands on, so its sources must lie in a plain path.
    sources = sources.rename(sources.parent / "plain")
    monkeypatch.setattr(native, "source_root", lambda: sources)
    (sources / "cuda").mkdir()
    (sources / "cuda" / "fill.cu").write_text(
        "__global__ void fill(float* x) { x[threadIdx.x] = 1; }\n"
        "void launch_fill(float* x, cudaStream_t stream) { fill<<<1, 32, 0, stream>>>(x); }\n"
        "int cuda_version() { int v = 0; cudaRuntimeGetVersion(&v); return v; }\n"
    )
    module = sources / "bindings" / "module.cpp"
    module.write_text(
        "#include <cuda_runtime_api.h>\n"
        "#ifndef BENCHBENCH_CUDA\n#error the define is missing\n#endif\n"
        "int cuda_version(); void launch_fill(float*, cudaStream_t);\n"
        "auto* const kept = &launch_fill;\n"
        + module.read_text().replace("answer()", "kept ? cuda_version() : 0")
    )
    monkeypatch.setenv("BENCHBENCH_CUDA_ARCHS", "90")
    forget()
    major = native_cuda.torch_cuda(native_recipe.torch_home()).split(".")[0]
    assert str(answer(native.build())).startswith(major)
    assert "sm_90" in native._recipe().facts["cuda"]


def test_cuda_units_stay_out_where_torch_has_no_cuda(tmp_path):
    (tmp_path / "version.py").write_text("__version__ = '2.14.1+cpu'\ncuda: Optional[str] = None\n")
    assert native_cuda.torch_cuda(tmp_path) is None
    assert native_cuda.toolkit(tmp_path) is None


def test_ninja_comes_from_its_wheel():
    assert importlib.util.find_spec("ninja") is not None
    from benchbench.native_compile import _ninja

    assert Path(_ninja()[0]).is_file()
