"""Callables reach another process by name, from the same files."""

from __future__ import annotations

import functools
import importlib
import operator
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from benchbench.errors import PluginError, UsageError
from benchbench.shipping import describe, pack, unpack

RECEIVE = """
import sys
from benchbench.shipping import unpack
sent = unpack(sys.stdin.read())
print(sent["candidate"](*sent["arguments"]))
"""


def received(packed: str, folder: Path) -> str:
    """What the callable returns in a fresh process that starts elsewhere."""
    done = subprocess.run(
        [sys.executable, "-c", RECEIVE],
        input=packed,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import modules of a folder that is on the search path here only."""
    files = {
        "plain_module.py": "import plain_helper\ndef f(x): return plain_helper.g(x)\n",
        "plain_helper.py": "def g(x): return ('helped', x)\n",
        "pack_age/__init__.py": "",
        "pack_age/inner.py": "from . import other\nclass C:\n    @classmethod\n"
        "    def m(cls, x): return (cls.__name__, other.v, x)\n"
        "    def __init__(self, v): self.v = v\n"
        "    def __call__(self, x): return (self.v, x)\n",
        "pack_age/other.py": "v = 'beside'\n",
        "name_space/deep/part.py": "def f(x): return (__name__, x)\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module
    for name in [n for n in sys.modules if n.split(".")[0] in ("pack_age", "name_space")]:
        del sys.modules[name]
    for name in ("plain_module", "plain_helper"):
        sys.modules.pop(name, None)


def test_functions_of_modules_packages_and_namespaces(imported: Any, tmp_path: Path) -> None:
    inner = imported("pack_age.inner")
    cases = {
        "('helped', 1)": imported("plain_module").f,
        "('C', 'beside', 1)": inner.C.m,
        "('kept', 1)": inner.C("kept"),
        "('name_space.deep.part', 1)": imported("name_space.deep.part").f,
        "3": functools.partial(operator.add, 2),
    }
    for expected, function in cases.items():
        assert received(pack({"candidate": function, "arguments": (1,)}), tmp_path) == expected


def test_a_module_of_the_same_name_elsewhere_is_not_taken(imported: Any, tmp_path: Path) -> None:
    """A test module that its loader found by path alone: nothing on the search path leads to it."""
    elsewhere = tmp_path / "not_on_the_path" / "json.py"
    elsewhere.parent.mkdir()
    elsewhere.write_text("def f(x): return 'this one'\n")
    spec = importlib.util.spec_from_file_location("pack_age.found", elsewhere)
    assert spec is not None and spec.loader is not None
    imported("pack_age")
    (tmp_path / "pack_age" / "found.py").write_text("def f(x): return 'the wrong one'\n")
    module = importlib.util.module_from_spec(spec)
    sys.modules["pack_age.found"] = module
    spec.loader.exec_module(module)
    packed = pack({"candidate": module.f, "arguments": (1,)})
    assert received(packed, tmp_path) == "this one"


def test_what_cannot_be_sent(imported: Any) -> None:
    def inner() -> None: ...

    class Local:
        def method(self) -> None: ...

    for value, said in (
        (lambda: 1, r"the candidate is a lambda \(test_shipping.py:\d+\)"),
        (inner, "'inner' is defined inside 'test_what_cannot_be_sent'"),
        (functools.partial(operator.add, inner), "'inner' is defined inside"),
        (Local().method, "'Local.method' is defined inside"),
        (functools.partial(operator.add, threading.Lock()), "cannot be sent to a fresh process"),
    ):
        with pytest.raises(UsageError, match=said):
            pack({"candidate": value})


def test_a_decorator_that_hides_the_function_is_named(imported: Any) -> None:
    module = imported("plain_module")
    hidden, module.f = module.f, functools.lru_cache(module.f)
    with pytest.raises(UsageError, match=r"plain_module\.f cannot be sent.*not the same object"):
        pack({"candidate": hidden})


def test_an_import_that_fails_is_told_with_what_to_do(imported: Any, tmp_path: Path) -> None:
    packed = pack({"candidate": imported("plain_module").f})
    (tmp_path / "plain_helper.py").write_text("raise RuntimeError('no data here')")
    for name in ("plain_module", "plain_helper"):
        del sys.modules[name]
    path, finders = list(sys.path), list(sys.meta_path)
    try:
        with pytest.raises(PluginError, match=r"the candidate cannot be imported.*no data here"):
            unpack(packed)
    finally:
        sys.path[:], sys.meta_path[:] = path, finders


def test_names_for_people() -> None:
    assert describe(functools.partial(Path.cwd)) == "partial of pathlib.Path.cwd"
    assert describe(operator.itemgetter(1)) == "operator.itemgetter"
