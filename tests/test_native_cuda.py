"""Which nvcc is taken, for which processors it compiles, and what is said where there is none."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from benchbench import native_cuda

NVCC = """#!/bin/sh
case "$1" in
--version) echo "Cuda compilation tools, release {major}.1, V{major}.1.88" ;;
--list-gpu-arch) printf 'compute_80\\ncompute_90\\ncompute_100\\ncompute_120a\\n' ;;
esac
"""


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def home(path: Path, major: int) -> Path:
    """A toolkit that answers what a build asks it."""
    program(path / "bin" / "nvcc", NVCC.format(major=major))
    (path / "include").mkdir()
    (path / "include" / "cuda_runtime_api.h").touch()
    (path / "lib64").mkdir()
    (path / "lib64" / "libcudart.so").touch()
    return path


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    """A torch built for CUDA 13 on a machine with neither toolkit nor device."""
    for name in (
        "BENCHBENCH_CUDA",
        "BENCHBENCH_CUDA_ARCHS",
        "TORCH_CUDA_ARCH_LIST",
        "CUDA_HOME",
        "CUDA_PATH",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setattr(native_cuda, "_wheels", list)
    folder = tmp_path / "torch"
    folder.mkdir()
    (folder / "version.py").write_text("cuda: Optional[str] = '13.0'\n")
    return folder


@pytest.fixture
def toolkit(torch_home, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(home(tmp_path / "cuda-13", 13)))
    return lambda: native_cuda.toolkit(torch_home)


def test_hopper_is_compiled_for_where_nothing_is_asked_and_no_device_is_visible(toolkit):
    assert toolkit().architectures == ("90",)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("9.0", ("90",)),
        ("8.0;9.0", ("80", "90")),
        ("8.0 10.0+PTX", ("80", "100")),
        ("90 90 12.0a", ("90", "120a")),
        ("7.5;9.0", ("90",)),
    ],
)
def test_torchs_list_of_architectures_is_followed(toolkit, monkeypatch, asked, found):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", asked)
    one = toolkit()
    assert one.architectures == found
    for arch in found:
        assert f"-gencode=arch=compute_{arch},code=sm_{arch}" in one.command
    # The newest one's PTX goes along for processors that come later.
    assert f"-gencode=arch=compute_{found[-1]},code=compute_{found[-1]}" in one.command


def test_our_own_list_goes_before_torchs(toolkit, monkeypatch):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0")
    monkeypatch.setenv("BENCHBENCH_CUDA_ARCHS", "80;100")
    assert toolkit().architectures == ("80", "100")


def test_visible_devices_are_compiled_for_and_too_old_ones_are_not(toolkit, tmp_path):
    program(tmp_path / "tools" / "nvidia-smi", "#!/bin/sh\nprintf '10.0\\n7.5\\n9.0\\n9.0\\n'\n")
    assert toolkit().architectures == ("90", "100")


def test_an_nvcc_of_another_version_is_passed_over(torch_home, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(home(tmp_path / "cuda-12", 12)))
    assert native_cuda.toolkit(torch_home) is None
    assert "no nvcc 13.x" in native_cuda.missing(torch_home)
    wheel = home(tmp_path / "nvidia" / "cu13", 13)
    monkeypatch.setattr(native_cuda, "_wheels", lambda: [wheel])
    found = native_cuda.toolkit(torch_home)
    assert found.nvcc.is_relative_to(wheel) and found.runtime.is_relative_to(wheel)


def test_without_an_nvcc_the_remedy_is_the_extra(torch_home):
    assert native_cuda.toolkit(torch_home) is None
    assert "pip install 'benchbench[cuda]'" in native_cuda.missing(torch_home)


def test_cuda_can_be_left_out(toolkit, torch_home, monkeypatch):
    assert toolkit() is not None
    monkeypatch.setenv("BENCHBENCH_CUDA", "0")
    assert toolkit() is None
    assert native_cuda.missing(torch_home) == "BENCHBENCH_CUDA=0"
