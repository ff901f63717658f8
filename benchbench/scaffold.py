"""``benchbench new-plugin``: a package that adds one contender, ready to install."""

from __future__ import annotations

import re
from pathlib import Path

from benchbench.errors import UsageError

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{distribution}"
version = "0.1.0"
dependencies = ["benchbench"]

[project.entry-points.benchbench]
{distribution} = "{module}"

[tool.setuptools]
py-modules = ["{module}"]
"""

_MODULE = '''\
"""A contender for {workload}, found by benchbench through this package's entry point."""

import benchbench as bb
import torch


@bb.implementation("{workload}", "{contender}")
def contender(inputs):
    """What this contender does differently, in one sentence."""
    return inputs.thunk(lambda x: x * torch.sigmoid(x))


@bb.hookimpl
def benchbench_implementations():
    """Contribute the contender."""
    return [contender]
'''

_README = """\
# {distribution}

Adds the contender `{contender}` to `{workload}`.

```
pip install -e .
benchbench check {distribution}
benchbench run {workload} -c {contender}
```

`contender` gets the inputs that all contenders of a case share and returns a callable without
arguments. `inputs.thunk(function)` makes one from a function of the tensors and adds the backward
pass where the case asks for it. benchbench compares the output with the float64 reference of the
workload, and its error with that of the baseline.
"""


def create(path: Path, name: str, workload: str = "activations/silu") -> list[Path]:
    """Write a plugin package called ``name`` into ``path``.

    Returns:
        the files written.

    Raises:
        UsageError: the name is no distribution name, or the directory has files already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(
            f"{name!r} is no name for a plugin: use lower-case words joined by '-', "
            "such as my-kernels"
        )
    if path.exists() and any(path.iterdir()):
        raise UsageError(f"{path} is not empty; name a directory that does not exist yet")
    module = name.replace("-", "_")
    fields = {
        "distribution": name,
        "module": module,
        "workload": workload,
        "contender": "by-hand",
    }
    files = {
        path / "pyproject.toml": _PYPROJECT,
        path / f"{module}.py": _MODULE,
        path / "README.md": _README,
    }
    path.mkdir(parents=True, exist_ok=True)
    for file, template in files.items():
        file.write_text(template.format(**fields), encoding="utf-8")
    return list(files)
