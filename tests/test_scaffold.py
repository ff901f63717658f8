"""The scaffold writes a plugin that loads."""

import pytest

from benchbench import scaffold
from benchbench.errors import UsageError
from benchbench.plugins import LoaderOptions, load

HOST = """
import benchbench as bb

@bb.implementation("activations/silu", "eager")
def eager(inputs):
    return inputs.thunk(lambda x: x)

@bb.hookimpl
def benchbench_workloads():
    return [bb.Workload(name="activations/silu", make=lambda p, s: bb.Inputs({}), baseline="eager",
                        check=lambda evidence: None)]

@bb.hookimpl
def benchbench_implementations():
    return [eager]
"""


def test_the_new_plugin_adds_its_contender(tmp_path):
    files = scaffold.create(tmp_path / "new", "my-kernels")
    assert {f.name for f in files} == {"pyproject.toml", "my_kernels.py", "README.md"}
    host = tmp_path / "host.py"
    host.write_text(HOST)
    module = next(f for f in files if f.suffix == ".py")
    loaded = load(LoaderOptions(files=(str(host), str(module)), allowed=()))
    assert [p.reason for p in loaded.plugins if p.provider.file] == ["", ""]
    assert "by-hand" in loaded.catalog.implementations["activations/silu"]
    assert 'my-kernels = "my_kernels"' in (tmp_path / "new" / "pyproject.toml").read_text()
    code = [line for line in module.read_text().splitlines() if line.strip()]
    assert len(code) <= 15


def test_it_overwrites_nothing(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        scaffold.create(tmp_path, "my-kernels")
    with pytest.raises(UsageError, match="no name for a plugin"):
        scaffold.create(tmp_path / "a", "My Kernels")
