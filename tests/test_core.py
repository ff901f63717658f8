"""What the core must never be: aware of kinds, dependent on plugins, slow to import."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

CORE = Path(__file__).parents[1] / "benchbench"
FREE = ("native.py", "fused")
"""The compiled kernels name what they compute; they are a library that plugins use."""
MODULES = [
    path
    for path in sorted(CORE.rglob("*.py"))
    if path.relative_to(CORE).parts[0] not in FREE and not path.name.startswith("_native")
]
KIND_WORDS = re.compile(
    r"optimi[sz]er|sampler|normali[sz]ation|layer_?norm|batch_?norm|rms_?norm|activation|"
    r"gelu|\bsilu\b|softmax|resnet|dropout|bootstrap_mean|epoch",
    re.IGNORECASE,
)
HEAVY = ("torch", "numpy", "pandas", "scipy", "rich")


def _code(path: Path) -> str:
    """Source without docstrings and comments: prose may give examples."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant(value=None)
    return ast.unparse(tree)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(CORE)))
def test_no_kind_word_in_the_core(path):
    # The scaffold's template needs an existing workload to compete in.
    allowed = {"silu", "activation"} if path.name == "scaffold.py" else set()
    found = {match.group().lower() for match in KIND_WORDS.finditer(_code(path))}
    assert found <= allowed


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(CORE)))
def test_the_core_imports_no_plugin(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert not [n for n in names if n.split(".")[0] in ("benchbench_plugins", "plugins")]


@pytest.mark.parametrize("module", ["benchbench", "benchbench.cli", "benchbench.plugins"])
def test_importing_loads_nothing_heavy(module):
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names_exist():
    import benchbench

    for name in benchbench.__all__:
        assert getattr(benchbench, name) is not None
    with pytest.raises(AttributeError, match="Workloads"):
        benchbench.Workloads  # noqa: B018
