"""benchmarks/gpu.sh and its peers with stand-ins: each step, its limit, and the lines it says."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"
STEPS = [
    *("build", "harness", "kernels", "hot", "cold", "models", "optimizers", "samplers", "table"),
    *("sanitizer-memcheck", "sanitizer-racecheck", "sanitizer-synccheck", "autotune"),
]
pytestmark = pytest.mark.skipif(
    shutil.which("bash") is None or shutil.which("timeout") is None, reason="bash and timeout"
)
STAND_IN = """#!/usr/bin/env bash
echo "$*" >> "{calls}"
case "$*" in
    -) cat >/dev/null; echo "A GPU that is not there" ;;
    *" show "*) for last; do :; done; echo "| a table |" > "$last" ;;
    *{slow}*) sleep 30 ;;
    *{broken}*) exit 7 ;;
esac
"""


def run(folder, *, slow="@none", broken="@none", **environment):
    """Run the script with a Python, an nvidia-smi and a sanitizer that only say that they ran."""
    tools, calls = folder / "tools", folder / "calls"
    tools.mkdir()
    calls.touch()
    for name in ("python", "nvidia-smi", "compute-sanitizer"):
        text = STAND_IN.format(calls=calls, slow=slow, broken=broken)
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    done = subprocess.run(
        ["bash", str(SCRIPT), str(folder / "out")],
        env={
            **os.environ,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHON": str(tools / "python"),
            **environment,
        },
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done, (folder / "out" / "summary.txt").read_text(), calls.read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_without_a_gpu_it_ends_with_one_line(tmp_path):
    done = subprocess.run(
        ["bash", str(SCRIPT), str(tmp_path / "out")],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    said = (done.stdout + done.stderr).strip().splitlines()
    assert said == ["gpu.sh: torch finds no CUDA device; run it where one is"]


def test_every_step_runs_and_everything_is_in_one_folder(tmp_path):
    done, summary, calls = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^(\S+): fine", summary, re.MULTILINE) == STEPS
    out = tmp_path / "out"
    assert {f"{name}.log" for name in STEPS} <= {file.name for file in out.iterdir()}
    assert (out / "hot.md").read_text() == "| a table |\n" and (out / "machine.txt").is_file()
    assert "tests/test_gpu.py" in calls and "tests/test_gpu_harness.py" in calls
    stores = re.findall(r"--store (\S+)", calls) + re.findall(r"--write (\S+)", calls)
    assert stores and all(Path(place).is_relative_to(out) for place in stores)


def test_a_step_that_fails_or_hangs_does_not_stop_the_next(tmp_path):
    done, summary, _ = run(
        tmp_path, broken="test_gpu_harness", slow="optimizers/adam-step", GPU_SECONDS="13"
    )
    assert done.returncode == 1
    assert re.search(r"^harness: failed with status 7 .*harness\.log$", summary, re.MULTILINE)
    assert re.search(r"^kernels: fine", summary, re.MULTILINE)
    assert re.search(r"^optimizers: stopped after \d+ s; what it has done", summary, re.MULTILINE)
    assert re.search(r"^samplers: left out, the time is over", summary, re.MULTILINE)
    assert (tmp_path / "out" / "optimizers.md").is_file()


def test_the_whole_is_limited_to_less_than_ten_minutes():
    text = SCRIPT.read_text()
    total = int(re.search(r"GPU_SECONDS:-(\d+)", text).group(1))
    # What may come after the last step was cut: its kill and two files of its table.
    assert total + 10 + 2 * 10 <= 600


def test_every_workload_and_contender_that_it_names_exists():
    from benchbench.plugins import LoaderOptions, load

    catalog = load(LoaderOptions()).catalog
    text = re.sub(r"\\\n\s*", " ", SCRIPT.read_text())
    tables = re.findall(r"^table \w+ \d+ (.*)$", text, re.MULTILINE)
    assert len(tables) == 5
    for line in tables:
        names = re.findall(r"(?<!\S)[a-z]+/[\w-]+", line)
        assert names
        assert all("gpu" in catalog.workloads[name].presets for name in names)
        contenders = {c for name in names for c in catalog.implementations[name]}
        assert set(re.findall(r"-c (\S+)", line)) <= contenders, line
        for axis, value in re.findall(r"-a (\w+)=(\S+)", line):
            assert all(value in catalog.workloads[name].axes[axis] for name in names), line


def functions_of_cudnn():
    """A stand-in for the module: what its graphs compute, by torch on the CPU."""

    class Tensor:
        def set_output(self, yes):
            return self

        def set_data_type(self, dtype):
            return self

    class Graph:
        def __init__(self, **settings):
            self.step = None

        def tensor(self, *, name, dim, stride, data_type, **more):
            assert len(dim) == len(stride) == 4
            return Tensor()

        def layernorm(self, *, input, scale, bias, epsilon, **names):
            y, mean, rstd = (Tensor() for _ in range(3))

            def step(v):
                center = v[input].mean(1, keepdim=True)
                v[mean].copy_(center)
                spread = v[input].var(1, correction=0, keepdim=True)
                v[rstd].copy_((spread + float(v[epsilon])).rsqrt())
                v[y].copy_((v[input] - center) * v[rstd] * v[scale] + v[bias])

            self.step = step
            return y, mean, rstd

        def rmsnorm(self, *, input, scale, epsilon, **names):
            y, rstd = Tensor(), Tensor()

            def step(v):
                square = v[input].square().mean(1, keepdim=True)
                v[rstd].copy_((square + float(v[epsilon])).rsqrt())
                v[y].copy_(v[input] * v[rstd] * v[scale])

            self.step = step
            return y, rstd

        def layernorm_backward(self, *, grad, input, scale, mean, inv_variance, **names):
            return self._backward(grad, input, scale, inv_variance, lambda v: v[mean], 3)

        def rmsnorm_backward(self, *, grad, input, scale, inv_variance, has_dbias, **names):
            assert not has_dbias
            return self._backward(grad, input, scale, inv_variance, lambda v: 0.0, 2)

        def _backward(self, grad, input, scale, rstd, center, count):
            outputs = [Tensor() for _ in range(count)]

            def step(v):
                unit = (v[input] - center(v)) * v[rstd]
                slope = v[grad] * v[scale]
                dx = slope - unit * (slope * unit).mean(1, keepdim=True)
                if count == 3:
                    dx = dx - slope.mean(1, keepdim=True)
                    v[outputs[2]].copy_(v[grad].sum(0, keepdim=True))
                v[outputs[0]].copy_(dx * v[rstd])
                v[outputs[1]].copy_((v[grad] * unit).sum(0, keepdim=True))

            self.step = step
            return outputs if count == 3 else [*outputs, None]

        def validate(self):
            assert self.step is not None

        def build_operation_graph(self): ...

        def create_execution_plans(self, modes): ...

        def check_support(self): ...

        def build_plans(self): ...

        def get_workspace_size(self):
            return 0

        def execute(self, values, workspace, *, handle):
            self.step(values)

    module = types.ModuleType("cudnn")
    module.data_type = types.SimpleNamespace(FLOAT=0, HALF=1, BFLOAT16=2)
    module.norm_forward_phase = types.SimpleNamespace(TRAINING=0)
    module.heur_mode = types.SimpleNamespace(A=0, FALLBACK=1)
    module.pygraph, module.create_handle = Graph, object
    return module


def test_norms_of_cudnn_are_asked_for_what_torch_computes(monkeypatch):
    monkeypatch.setitem(sys.modules, "cudnn", functions_of_cudnn())
    spec = importlib.util.spec_from_file_location(
        "cudnn_norms", ROOT / "benchmarks" / "cudnn_norms.py"
    )
    norms = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(norms)
    rng = torch.Generator().manual_seed(1)
    for rows in (6, 3):
        x, w, b = (torch.randn(*s, generator=rng) for s in ((rows, 40), (40,), (40,)))
        for ours, theirs, leaves in (
            (
                lambda x, w, b: norms.layer_norm(x, w, b, 1e-5),
                lambda x, w, b: F.layer_norm(x, (40,), w, b, 1e-5),
                (x, w, b),
            ),
            (
                lambda x, w: norms.rms_norm(x, w, 1e-5),
                lambda x, w: F.rms_norm(x, (40,), w, 1e-5),
                (x, w),
            ),
        ):
            given = [t.clone().requires_grad_() for t in leaves]
            y, expected = ours(*given), theirs(*given)
            torch.testing.assert_close(y, expected)
            dy = torch.randn(y.shape, generator=rng)
            found, wanted = (torch.autograd.grad(v, given, dy) for v in (y, expected))
            for a, c in zip(found, wanted, strict=True):
                torch.testing.assert_close(a, c, rtol=1e-4, atol=1e-5)
