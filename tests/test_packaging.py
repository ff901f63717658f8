"""Every documented way of installing, done by pip into an environment of its own.

The environments see the packages of the running interpreter (torch is 3 GB), except benchbench.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from benchbench import native

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow

KERNEL = """
import json, torch
from benchbench import fused, native
x = torch.linspace(-3, 3, 1001)
assert torch.allclose(fused.gelu(x), torch.nn.functional.gelu(x), atol=1e-6)
print(json.dumps([str(native.prebuilt()), native.load().build_info()["torch"]]))
"""


@dataclass(frozen=True)
class Environment:
    root: Path
    cache: Path

    @property
    def site(self) -> Path:
        return Path(
            sysconfig.get_path("purelib", vars={"base": str(self.root), "platbase": str(self.root)})
        )

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        own = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "BENCHBENCH_BUILD")}
        own |= {"BENCHBENCH_CACHE": str(self.cache), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        return subprocess.run(
            [str(self.root / "bin" / command[0]), *command[1:]],
            capture_output=True,
            text=True,
            cwd=self.root,
            env=own | variables,
            timeout=600,
        )

    def succeed(self, *command: str, **variables: str) -> str:
        done = self.run(*command, **variables)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def pip(self, *arguments: str, **variables: str) -> None:
        self.succeed("python", "-m", "pip", *arguments, "--quiet", "--no-deps", **variables)


@pytest.fixture
def environment(tmp_path):
    """An environment with everything that this one has, but no benchbench."""
    host = tmp_path / "host"
    host.mkdir()
    for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(folder).iterdir():
            if "benchbench" not in entry.name and entry.suffix != ".pth":
                (host / entry.name).symlink_to(entry)
    # The cache of this session: the same sources and torch, wherever installed, compile once.
    made = Environment(root=tmp_path / "environment", cache=native.cache_directory().absolute())
    venv.create(made.root, with_pip=False)
    (made.site / "host.pth").write_text(f"{host}\n")
    return made


@pytest.fixture
def source(tmp_path):
    """The tree as a clone has it: what git does not ignore, without its history."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    target = tmp_path / "source"
    for name in listed.split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def modules_below(folder):
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix in (".py", ".cpp", ".h", ".cu", ".cuh", ".typed")
    }


def check_commands(environment):
    assert "0 fine" in environment.succeed("benchbench", "--help")
    assert "benchbench" in environment.succeed("python", "-m", "benchbench", "--version")
    listed = environment.succeed("benchbench", "list", BENCHBENCH_BUILD="0")
    for kind in ("activations", "normalizations", "optimizers", "samplers", "models"):
        assert f"{kind}/" in listed


def test_isolated_wheel_is_pure_and_complete(environment, source, tmp_path):
    """torch is not in the build environment: the wheel has the sources, and first use compiles."""
    environment.pip("wheel", str(source), "--wheel-dir", str(tmp_path / "wheels"))
    (wheel,) = (tmp_path / "wheels").iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for package, folder in (
        ("benchbench", "benchbench"),
        ("benchbench_plugins", "plugins"),
        ("benchbench_csrc", "csrc"),
    ):
        expected = {f"{package}/{name}" for name in modules_below(source / folder)}
        assert expected <= names, expected - names
    assert not [name for name in names if name.endswith((".so", ".o", ".log"))]
    assert not [name for name in names if name.split("/")[0] in ("tests", "csrc", "plugins")]
    assert [name for name in names if name.endswith("/LICENSE")]

    environment.pip("install", str(wheel))
    check_commands(environment)
    empty = {"BENCHBENCH_BUILD": "0", "BENCHBENCH_CACHE": str(tmp_path / "empty")}
    forbidden = environment.run("python", "-c", KERNEL, **empty)
    assert "BENCHBENCH_BUILD=0 forbids it" in forbidden.stderr
    library, _ = json.loads(environment.succeed("python", "-c", KERNEL))
    assert Path(library).is_relative_to(environment.cache)


def reduce_to_one_unit(source: Path) -> None:
    """A library of one small unit: the kernels, which take minutes, go the same way."""
    for folder in ("cpu", "cuda", "bindings"):
        shutil.rmtree(source / "csrc" / folder)
    (source / "csrc" / "bindings").mkdir()
    (source / "csrc" / "bindings" / "module.cpp").write_text(
        "#include <pybind11/pybind11.h>\n"
        'PYBIND11_MODULE(BENCHBENCH_MODULE, m) { m.attr("answer") = 42; }\n'
    )


ANSWER = "from benchbench import native; print(native.prebuilt(), native.load().answer)"


def test_without_isolation_the_library_is_in_the_wheel(environment, source):
    reduce_to_one_unit(source)
    environment.pip("install", "--no-build-isolation", str(source))
    installed = environment.site / "benchbench" / "_native.so"
    assert installed.is_file()
    stamp = installed.with_suffix(".json")
    import torch

    assert json.loads(stamp.read_text())["torch"] == torch.__version__
    printed = environment.succeed("python", "-c", ANSWER, BENCHBENCH_BUILD="0")
    assert printed.split() == [str(installed), "42"]

    # Another torch than the one it was compiled for: it must not be loaded.
    facts = json.loads(stamp.read_text())
    stamp.write_text(json.dumps({**facts, "torch": "2.11.0", "fits": "0" * 24}))
    code = "import logging; logging.basicConfig(level='INFO'); from benchbench import native\n"
    code += "print(native.load().answer, native.prebuilt())"
    cache = environment.root / "own-cache"
    done = environment.run("python", "-c", code, BENCHBENCH_CACHE=str(cache))
    assert done.returncode == 0, done.stderr
    assert f"built for torch 2.11.0, this is {torch.__version__}" in done.stderr
    answer, library = done.stdout.split()
    assert answer == "42" and Path(library).is_relative_to(cache)


def test_editable_sees_the_tree(environment, source):
    """As the README's test command installs it: isolated, so without a compiled library."""
    environment.pip("install", "--editable", str(source))
    check_commands(environment)
    where = "import benchbench.cli.run as a, benchbench_plugins.losses as b, benchbench_csrc as c"
    code = f"{where}; print(a.__file__); print(b.__file__); print(c.__path__[0])"
    for path in environment.succeed("python", "-c", code).splitlines():
        assert Path(path).is_relative_to(source)
    assert "None" in environment.succeed(
        "python", "-c", "from benchbench import native; print(native.unavailable())"
    )
    with (source / "benchbench" / "__init__.py").open("a") as file:
        file.write('\n__version__ = "9.9"\n')
    assert "9.9" in environment.succeed("benchbench", "--version")


def test_editable_without_isolation_compiles_into_the_tree(environment, source):
    reduce_to_one_unit(source)
    environment.pip("install", "--no-build-isolation", "--editable", str(source))
    printed = environment.succeed("python", "-c", ANSWER, BENCHBENCH_BUILD="0")
    assert printed.split() == [str(source / "benchbench" / "_native.so"), "42"]
    # A changed source makes it stale at once.
    with (source / "csrc" / "bindings" / "module.cpp").open("a") as file:
        file.write("// changed\n")
    reason = environment.succeed(
        "python",
        "-c",
        "from benchbench import native; print(native.unavailable())",
        BENCHBENCH_BUILD="0",
    )
    assert "forbids it" in reason


def test_build_0_installs_without_compiling(environment, source):
    environment.pip("install", "--no-build-isolation", str(source), BENCHBENCH_BUILD="0")
    assert not list((environment.site / "benchbench").glob("_native.*"))


def test_build_1_fails_where_nothing_can_be_compiled(environment, source):
    done = environment.run(
        "python", "-m", "pip", "install", "--no-deps", "--no-build-isolation", str(source),
        BENCHBENCH_BUILD="1", CXX="no-such-compiler",
    )  # fmt: skip
    assert done.returncode != 0
    assert "there is no C++ compiler" in done.stdout + done.stderr
    # In isolation there is no torch, so sources are all that can be shipped.
    environment.pip("install", str(source), BENCHBENCH_BUILD="1")
    assert not list((environment.site / "benchbench").glob("_native.*"))


def test_every_dependency_is_imported_somewhere():
    """What nothing uses is not asked for."""
    import_names = {
        "scikit-learn": "sklearn",
        "imbalanced-learn": "imblearn",
        "liger-kernel": "liger_kernel",
        "nvidia-cudnn-frontend": "cudnn",
        "nvidia-ml-py": "pynvml",
        "quack-kernels": "quack",
    }
    no_module = {"nvidia-cuda-nvcc"}  # found as a program, by benchbench/native_cuda.py
    text = "\n".join(
        path.read_text()
        for folder in ("benchbench", "plugins", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    )
    for requirement in metadata.requires("benchbench"):
        name = re.match(r"[\w.-]+", requirement).group()
        if "extra == 'dev'" in requirement.replace('"', "'") or name in no_module | {"benchbench"}:
            continue
        module = import_names.get(name, name)
        assert re.search(rf"\b(import|from) {module}\b|[\"']{module}[.\"']", text), name


def test_the_readme_installs_extras_that_exist():
    known = set(metadata.metadata("benchbench").get_all("Provides-Extra"))
    readme = (ROOT / "README.md").read_text()
    named = {name for group in re.findall(r"\.\[([\w,]+)\]", readme) for name in group.split(",")}
    assert named
    assert named <= known
    (everything,) = [r for r in metadata.requires("benchbench") if r.startswith("benchbench[")]
    # gpu-peers installs on machines with CUDA only.
    assert set(re.match(r"benchbench\[([\w,-]+)\]", everything).group(1).split(",")) == known - {
        "all",
        "gpu-peers",
    }
