"""The project as another interpreter's environment has it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchbench.errors import UsageError
from benchbench.gate.project import Build, Project, importable
from benchbench.plugins import GROUP
from benchbench.sides import BASELINE, Side

PATIENCE = 120.0

_ASK = """
import importlib.util, json, platform, sys
from importlib import metadata
name, group = sys.argv[1:]
def version(of):
    try:
        return metadata.version(of)
    except metadata.PackageNotFoundError:
        return ""
out = {
    "facts": {"python": platform.python_version(), "torch": version("torch"),
              "numpy": version("numpy")},
    "benchbench": version("benchbench"), "path": sys.path,
}
try:
    d = metadata.distribution(name)
except metadata.PackageNotFoundError:
    pass
else:
    out["version"] = d.version
    out["files"] = [str(f) for f in d.files or ()]
    out["top_level"] = (d.read_text("top_level.txt") or "").split()
    out["plugins"] = [[e.name, e.value] for e in d.entry_points if e.group == group]
    names = {value.partition(":")[0].partition(".")[0] for _, value in out["plugins"]}
    out["places"] = {}
    for top in sorted({*names, *out["top_level"], *sys.stdin.read().split()}):
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            spec = None
        if spec is not None:
            folders = list(spec.submodule_search_locations or ())
            out["places"][top] = folders[0] if folders else spec.origin
    for requirement in d.requires or ():
        of = requirement.split(";")[0].split(" ")[0]
        of = "".join(c if c.isalnum() or c in "-_." else " " for c in of).split()[0]
        out["facts"][of.lower()] = version(of)
print(json.dumps(out))
"""


def interpreter_build(
    project: Project, interpreter: str, files: Sequence[str], hints: Sequence[str] = ()
) -> Build:
    """The project in the environment of ``interpreter``.

    Args:
        project: which one.
        interpreter: path of a Python, as in ``other/bin/python``.
        files: one-file plugins, the same for both builds.
        hints: import names of the project here, in case its list there is missing.

    Raises:
        UsageError: the interpreter cannot be run, or has no such project or no benchbench.
    """
    found = ask(interpreter, project.name, hints)
    if "version" not in found:
        raise UsageError(
            f"the environment of {interpreter} has no {project.name!r}. Install the version to "
            f"compare with there: {interpreter} -m pip install '{project.name}==...'"
        )
    if not found["benchbench"]:
        raise UsageError(
            f"the environment of {interpreter} has no benchbench. Install it there: "
            f"{interpreter} -m pip install benchbench"
        )
    names = importable(found["files"])
    places = {
        name: place
        for name, place in found["places"].items()
        if not names or name in names or name in found["top_level"]
    }
    return Build(
        side=Side(
            name=BASELINE,
            version=found["version"],
            distribution=project.name,
            locations=tuple(places.items()),
            plugins=(
                *((name, target) for name, target in found["plugins"]),
                *((Path(file).stem, file) for file in files),
            ),
        ),
        text=f"{project.name} {found['version']} ({interpreter})",
        interpreter=interpreter,
        facts=found["facts"],
    )


def ask(interpreter: str, name: str, hints: Sequence[str] = ()) -> dict[str, Any]:
    """What an environment says of a distribution and of itself.

    Raises:
        UsageError: the interpreter cannot be run.
    """
    try:
        done = subprocess.run(
            [interpreter, "-c", _ASK, name, GROUP],
            input=" ".join(hints),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd="/" if Path("/").is_dir() else None,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(
            f"--baseline-python {interpreter} cannot be run: {error}. Give the path of a Python "
            "interpreter, such as other-env/bin/python"
        ) from error
    if done.returncode:
        raise UsageError(
            f"--baseline-python {interpreter} cannot say what it has installed: "
            f"{done.stderr.strip()[-500:]}"
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
