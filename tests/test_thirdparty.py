"""A stranger's package, installed by pip into an environment of its own, is a plugin like any."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PACKAGE = HERE / "thirdparty"


@dataclass(frozen=True)
class Environment:
    """A virtual environment that sees the packages of the running interpreter."""

    root: Path
    work: Path

    @property
    def python(self) -> str:
        return str(self.root / ("Scripts" if os.name == "nt" else "bin") / "python")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        variables = {
            **os.environ,
            "BENCHBENCH_CACHE": str(self.work / "cache"),
            "BENCHBENCH_STORE": str(self.work / "store"),
        }
        variables.pop("BENCHBENCH_PLUGINS", None)
        return subprocess.run(
            [self.python, "-m", *command],
            capture_output=True,
            text=True,
            cwd=self.work,
            env=variables,
            timeout=300,
        )

    def succeed(self, *command: str) -> str:
        done = self.run(*command)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    root = tmp_path_factory.mktemp("environment")
    work = tmp_path_factory.mktemp("work")
    venv.create(root, with_pip=False)
    found = Environment(root=root, work=work)
    # addsitedir, not bare paths: an editable installation is a .pth file that must run as well.
    host = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()}
    lines = [f"import site; site.addsitedir({folder!r})\n" for folder in sorted(host)]
    inside = sysconfig.get_path("purelib", vars={"base": str(root), "platbase": str(root)})
    Path(inside, "host.pth").write_text("".join(lines))
    source = work / "source"
    shutil.copytree(PACKAGE, source)
    found.succeed("pip", "install", "--no-deps", "--no-build-isolation", "--quiet", str(source))
    installed = list(Path(inside).glob("by_hand_silu-*.dist-info"))
    assert len(installed) == 1, "pip must install into the new environment, not into this one"
    yield found


def test_the_module_is_the_one_that_the_readme_shows() -> None:
    readme = (HERE.parent / "README.md").read_text(encoding="utf-8")
    module = (PACKAGE / "by_hand_silu.py").read_text(encoding="utf-8")
    assert f"```python\n{module}```" in readme
    assert len(module.splitlines()) <= 15


def test_plugins_names_the_package_and_its_version(environment: Environment) -> None:
    lines = environment.succeed("benchbench", "plugins").splitlines()
    mine = [line for line in lines if "by-hand-silu" in line]
    assert len(mine) == 1, lines
    assert "1.2.3" in mine[0]
    assert "failed" not in mine[0]


def test_list_shows_the_contender_beside_ours(environment: Environment) -> None:
    listed = environment.succeed("benchbench", "list", "activations/silu")
    assert "by-hand" in listed
    assert "eager" in listed


def test_run_times_the_contender_and_says_where_it_came_from(environment: Environment) -> None:
    command = ("run", "activations/silu", "-c", "by-hand", "--processes", "1")
    table = environment.succeed("benchbench", *command)
    assert "by-hand" in table

    (stored,) = (environment.work / "store").rglob("*.jsonl")
    records = [json.loads(line) for line in stored.read_text(encoding="utf-8").splitlines()]
    results = [record for record in records if record["type"] == "result"]
    mine = [result for result in results if result["contender"] == "by-hand"]
    assert mine
    for result in mine:
        assert result["status"] == "ok", result["reason"]
        assert result["samples"]
        assert result["provider"]["distribution"] == "by-hand-silu"
        assert result["provider"]["version"] == "1.2.3"
        # its error was compared with that of the baseline, which ran along
        assert result["errors"]["max"] <= result["errors"]["allowed"]
    baselines = {r["case"] for r in results if r["contender"] == r["baseline"]}
    assert baselines == {result["case"] for result in mine}


def test_what_is_uninstalled_is_gone(environment: Environment) -> None:
    """Runs last: it takes the package away. The cached catalogue must notice."""
    environment.succeed("pip", "uninstall", "--yes", "--quiet", "by-hand-silu")
    assert "by-hand" not in environment.succeed("benchbench", "list", "activations/silu")
    done = environment.run("benchbench", "run", "activations/silu", "-c", "by-hand", "-n", "1")
    assert done.returncode == 2
    assert "by-hand" in done.stderr
