"""Every hook is documented with its exact arguments, and tested somewhere."""

import inspect
import re
from pathlib import Path

import pytest

from benchbench import hookspecs

ROOT = Path(__file__).parents[1]
HOOKS = {
    name: function
    for name, function in vars(hookspecs).items()
    if name.startswith("benchbench_") and inspect.isfunction(function)
}
DOCS = (ROOT / "docs" / "plugins.md").read_text()
TESTS = "\n".join(
    path.read_text()
    for path in (ROOT / "tests").rglob("*.py")
    if path.name not in ("test_hookspecs.py",)
)


@pytest.mark.parametrize("name", HOOKS)
def test_documented_with_exact_arguments(name):
    arguments = ", ".join(inspect.signature(HOOKS[name]).parameters)
    assert f"### `{name}({arguments})`\n" in DOCS


@pytest.mark.parametrize("name", HOOKS)
def test_implemented_by_some_test_plugin(name):
    assert re.search(rf"@(bb|benchbench)\.hookimpl[^\n]*\n\s*def {name}\(", TESTS)


@pytest.mark.parametrize("name", HOOKS)
def test_has_one_sentence(name):
    first = (HOOKS[name].__doc__ or "").strip().splitlines()[0]
    assert first.endswith(".") and len(first) < 100


def test_no_documented_hook_is_unknown():
    assert set(re.findall(r"### `(benchbench_\w+)\(", DOCS)) == set(HOOKS)
