"""The CI files of the guide: read, and their jobs run on a clone of the example project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import ci_files
import pytest

CI = Path(__file__).parent.parent / "docs" / "ci"
GITHUB, GITLAB = CI / "github-actions.yml", CI / "gitlab-ci.yml"
QUICK = "processes=7 most=7 budget=0.02 warmup=0.02 threads=1 margin=0.5"
"""Not the rules of the guide: what is tested is that the jobs run, and that they can fail."""

SLOWER = """

_quick = softclip


def softclip(x: torch.Tensor, limit: float = 1.0) -> torch.Tensor:
    for _ in range(5):
        result = _quick(x, limit)
    return result
"""

WRONG = """

_right = softclip


def softclip(x: torch.Tensor, limit: float = 1.0) -> torch.Tensor:
    return _right(x, limit) + 0.1
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of the example project, on a branch beside main."""
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    shutil.copytree(CI / "example", origin, ignore=shutil.ignore_patterns("__pycache__"))
    (origin / ".gitignore").write_text("build/\n*.egg-info/\n.benchbench/\n__pycache__/\n")
    git(origin, "init", "--quiet", "--initial-branch=main")
    commit(origin, "first")
    git(tmp_path, "clone", "--quiet", str(origin), str(clone))
    git(clone, "switch", "--quiet", "--create", "change")
    return clone


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder: Path, message: str) -> None:
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", message)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What a runner sets, and what lets pip install here: offline, into a folder of its own."""
    prefix = tmp_path / "installed"
    site = sysconfig.get_path("purelib", vars={"base": str(prefix)})
    rules = " ".join(f"--benchbench-rule {rule}" for rule in QUICK.split())
    names = ("HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {
        **kept,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PIP_PREFIX": str(prefix),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads this one the wrong way round
        "PYTHONPATH": site,
        "PYTEST_ADDOPTS": rules,
        # As the entry point would; this checkout may have been installed before it had one.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_PLUGINS": "benchbench.pytest_plugin",
        "CI": "true",
        "GITHUB_BASE_REF": "main",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
    }


def follow(file: Path, job: str, clone: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run a job's steps until one fails; returns its exit status and all output."""
    output = ""
    for step in ci_files.steps(file, job):
        status, text = ci_files.run(step, clone, environment)
        output += text
        if status:
            return status, output
    return 0, output


@pytest.mark.parametrize("file", [GITHUB, GITLAB], ids=["github", "gitlab"])
def test_the_gate_passes_what_changes_no_code(
    file: Path, clone: Path, environment: dict[str, str]
) -> None:
    (clone / "NOTES").write_text("words\n")
    commit(clone, "words")
    status, output = follow(file, "gate", clone, environment)
    assert status == 0, output
    assert "nothing was timed" in output
    assert len(junit(clone / "gate.xml")) == 4
    assert "nothing was timed" in (clone / "gate.md").read_text()


def test_the_gate_compares_with_the_target_branch_as_it_is_now(
    clone: Path, environment: dict[str, str]
) -> None:
    """The job fetches: against what the clone knew of the branch everything would be wrong."""
    for folder in (clone.parent / "origin", clone):
        with (folder / "src" / "softclip" / "__init__.py").open("a") as source:
            source.write(WRONG)
        commit(folder, "the same on both branches")
    status, output = follow(GITLAB, "gate", clone, environment)
    assert status == 0, output
    assert "nothing was timed" in output


def test_the_gate_is_never_green_without_anything_to_compare(
    clone: Path, environment: dict[str, str]
) -> None:
    project = clone / "pyproject.toml"
    text = project.read_text()
    project.write_text(text.replace("[project.entry-points.benchbench]", "[tool.lost]"))
    assert project.read_text() != text
    commit(clone, "the plugin is no longer declared")
    status, output = follow(GITLAB, "gate", clone, environment)
    assert status == 2, output
    assert "softclip" in output


def test_the_test_job_passes(clone: Path, environment: dict[str, str]) -> None:
    status, output = follow(GITHUB, "tests", clone, environment)
    assert status == 0, output
    assert "softclip against softclip_plain: " in output
    cases = [case.get("name") for case in junit(clone / "speed.xml")]
    assert cases == ["test_it_is_not_slower_than_the_plain_way"]
    assert "test_it_limits" in [case.get("name") for case in junit(clone / "tests.xml")]
    assert list((clone / ".benchbench" / "runs").glob("*.jsonl"))


def test_the_test_job_fails_on_a_slow_down(clone: Path, environment: dict[str, str]) -> None:
    with (clone / "src" / "softclip" / "__init__.py").open("a") as source:
        source.write(SLOWER)
    commit(clone, "slower")
    status, output = follow(GITLAB, "tests", clone, environment)
    assert status == 1, output
    assert "'softclip is no slower than softclip_plain' does not hold" in output
    (failed,) = [case for case in junit(clone / "speed.xml") if case.find("failure") is not None]
    assert "times the time of softclip_plain" in (failed.findtext("failure") or "")


def junit(path: Path) -> list[ElementTree.Element]:
    return list(ElementTree.parse(path).getroot().iter("testcase"))


def test_the_files_are_what_the_services_expect() -> None:
    github = ci_files.read(GITHUB)
    assert set(github) == {"name", "on", "permissions", "concurrency", "jobs"}
    for job in github["jobs"].values():
        assert set(job) == {"runs-on", "timeout-minutes", "steps"}
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), step
            assert set(step) <= {"name", "uses", "run", "with", "if"}, step
    gitlab = ci_files.read(GITLAB)
    jobs = {name: job for name, job in gitlab.items() if name not in ("default", "variables")}
    assert set(jobs) == {"gate", "tests"} == set(github["jobs"])
    for job in jobs.values():
        known = {"rules", "timeout", "variables", "before_script", "script", "allow_failure"}
        assert set(job) <= known | {"artifacts"}
        assert all(isinstance(line, str) for line in [*job["before_script"], *job["script"]])


@pytest.mark.parametrize("file", [GITHUB, GITLAB], ids=["github", "gitlab"])
def test_another_reader_agrees(file: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="a second reader, where one is installed")
    assert texts(yaml.load(file.read_text(), yaml.BaseLoader)) == texts(ci_files.read(file))


def texts(value: object) -> object:
    """Nothing is read as the empty text."""
    if isinstance(value, dict):
        return {key: texts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [texts(item) for item in value]
    return "" if value is None else value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2\n", "second time"),
        ("a:\n\tb: 1\n", "tab"),
        ("a: [1, 2]\n", "needs quotes"),
        ("a: b: c\n", "needs quotes"),
        ("a:\n  b: 1\n c: 2\n", "belongs to nothing"),
        ("- 1\nb: 2\n", "belongs to nothing"),
        ("a: &anchor x\n", "needs quotes"),
    ],
)
def test_the_reader_refuses_what_is_not_plain(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "file.yml"
    file.write_text(text)
    with pytest.raises(AssertionError, match=said):
        ci_files.read(file)
