"""Package the sources of the kernels, and compile them where torch is there to compile against.

``pip install .`` builds in isolation, without torch: the wheel is pure Python and ships the
sources, which are compiled on first use. ``pip install --no-build-isolation .`` sees torch and
compiles the library into the wheel.

``BENCHBENCH_BUILD=0`` does not compile; ``1`` fails where torch is there and it cannot compile,
anything else warns and ships the sources alone.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # the recipe is part of what is being installed

from benchbench import native_recipe  # noqa: E402
from benchbench.errors import NativeError  # noqa: E402
from benchbench.native_compile import compile_library  # noqa: E402

MODE = os.environ.get("BENCHBENCH_BUILD") or "auto"


def reason_not_to_compile() -> str | None:
    """Why the library stays out of this installation, or None."""
    if MODE == "0":
        return "BENCHBENCH_BUILD=0"
    try:
        native_recipe.recipe(HERE / "csrc")
    except FileNotFoundError as missing:
        return str(missing)
    return None


class BuildLibrary(build_ext):
    """Compile by the same recipe as on first use, instead of setuptools' own rules."""

    def build_extension(self, ext: Extension) -> None:
        """Compile the library and write beside it what it was built for."""
        plan = native_recipe.recipe(HERE / "csrc")
        target = Path(self.get_ext_fullpath(ext.name)).absolute()
        try:
            work = Path(self.build_temp).absolute() / "objects"
            compile_library(plan, target, work, journal=work / "build.log")
        except NativeError as error:
            if MODE == "1":
                raise
            self.warn(f"{error}; the kernels will be compiled on first use instead")

    def get_ext_filename(self, fullname: str) -> str:
        """``benchbench/_native.so``: what it fits stands beside it, not in its name."""
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def copy_extensions_to_source(self) -> None:
        """An editable installation takes both files from the tree."""
        for ext in self.extensions:
            built = Path(self.build_lib) / self.get_ext_filename(ext.name)
            for file in (built, built.with_suffix(".json")):
                if file.exists():
                    self.copy_file(str(file), str(HERE / file.relative_to(self.build_lib)))

    def get_outputs(self) -> list[str]:
        """The library and its description, if they were made."""
        libraries = [Path(name) for name in super().get_outputs()]
        files = [file for path in libraries for file in (path, path.with_suffix(".json"))]
        return [str(file) for file in files if file.exists()]


def below(package: str, folder: str) -> list[str]:
    """``package`` and the packages below it, where ``folder`` is its place in the tree."""
    return [package, *(f"{package}.{name}" for name in find_packages(str(HERE / folder)))]


reason = reason_not_to_compile()
if reason is not None:
    if MODE == "1" and importlib.util.find_spec("torch") is not None:
        sys.exit(f"benchbench: BENCHBENCH_BUILD=1, but the kernels cannot be compiled: {reason}")
    print(f"benchbench: the kernels will be compiled on first use ({reason})", file=sys.stderr)

setup(
    packages=[
        *below("benchbench", "benchbench"),
        *below("benchbench_plugins", "plugins"),
        "benchbench_csrc",
    ],
    package_dir={"benchbench_plugins": "plugins", "benchbench_csrc": "csrc"},
    package_data={
        "benchbench": ["py.typed"],
        "benchbench_csrc": ["**/*.cpp", "**/*.h", "**/*.cu", "**/*.cuh"],
    },
    ext_modules=[] if reason else [Extension(f"benchbench.{native_recipe.MODULE}", sources=[])],
    cmdclass={"build_ext": BuildLibrary},
)
