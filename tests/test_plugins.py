"""Loading: every fault stays with the plugin that has it, and says what to do."""

from pathlib import Path

import pytest

from benchbench.errors import UsageError
from benchbench.plugins import Loaded, LoaderOptions, find, load

ZOO = Path(__file__).parent / "zoo" / "loading"
BROKEN = sorted(p.stem for p in ZOO.glob("*.py") if p.stem != "good")

EXPECTED = {
    "raises_at_import": "RuntimeError: operator torchvision::nms does not exist",
    "exits_at_import": "SystemExit: no licence",
    "unknown_hook": "unknown hook 'benchbench_workload'. Did you mean 'benchbench_workloads'",
    "unmarked_hook": "not marked with @benchbench.hookimpl",
    "wrong_argument": "{'results'}",
    "generator_raises": "benchbench_implementations failed, so nothing of it is used: "
    "ZeroDivisionError: second contender",
    "wrong_type": "returned function at position 1, expected Implementation (decorate",
    "returns_none": "it returned NoneType; return an iterable of Implementation",
    "duplicate": "already contributed by plugin 'good' of good.py file, so the one of duplicate.py",
    "missing_baseline": "its baseline 'othr' is contributed by no plugin, so it cannot run."
    " Did you mean 'other'?",
    "unknown_workload": "no plugin defines the workload 'zoo/negatte'. Did you mean 'zoo/negate'?",
}


def load_files(*names: str, **options) -> Loaded:
    files = tuple(str(ZOO / f"{name}.py") for name in names)
    return load(LoaderOptions(files=files, allowed=(), **options))


def info(loaded: Loaded, name: str):
    return next(p for p in loaded.plugins if p.provider.plugin == name)


def test_every_broken_plugin_has_an_expectation():
    assert sorted(EXPECTED) == BROKEN


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("first", ["good", "broken"])
def test_a_broken_plugin_is_named_and_costs_others_nothing(name, first):
    names = ("good", name) if first == "good" else (name, "good")
    loaded = load_files(*names)
    broken = info(loaded, name)
    assert broken.status == "failed"
    assert EXPECTED[name] in broken.reason
    assert "\n" not in broken.reason
    assert broken.provider.distribution == f"{name}.py"
    good = info(loaded, "good")
    assert good.status == "ok" and not good.reason
    assert good.workloads == ("zoo/negate",)
    assert "zoo/negate:eager" in good.implementations
    eager = loaded.catalog.implementations["zoo/negate"]["eager"]
    assert eager.doc == "The baseline."


def test_all_broken_plugins_together():
    loaded = load_files(*BROKEN, "good")
    assert [p.provider.plugin for p in loaded.plugins if p.status == "ok"] == ["good"]
    assert list(loaded.catalog.workloads) == ["zoo/negate"]


def test_the_good_part_of_a_half_broken_plugin_is_used():
    loaded = load_files("good", "wrong_type")
    assert set(loaded.catalog.implementations["zoo/negate"]) == {"eager", "decorated"}
    assert info(loaded, "wrong_type").implementations == ("zoo/negate:decorated",)


def test_the_traceback_shows_the_plugins_own_frames():
    detail = info(load_files("raises_at_import"), "raises_at_import").detail
    assert "raises_at_import.py" in detail and "importlib" not in detail


def test_announce_comes_before_the_plugins_code():
    seen = []
    files = (str(ZOO / "exits_at_import.py"), str(ZOO / "good.py"))
    load(LoaderOptions(files=files, allowed=()), announce=seen.append)
    assert seen == ["exits_at_import", "good"]


def test_blocked_plugins_are_listed_and_not_loaded():
    loaded = load_files("good", "raises_at_import", blocked=("raises_at_import",))
    blocked = info(loaded, "raises_at_import")
    assert blocked.status == "blocked" and "--no-plugin" in blocked.reason


def test_unknown_names_get_a_suggestion():
    with pytest.raises(UsageError, match=r"no plugin or distribution is called 'goood'.*'good'"):
        load_files("good", blocked=("goood",))
    with pytest.raises(UsageError, match=r"BENCHBENCH_PLUGINS.*'nobody'"):
        load(LoaderOptions(allowed=("nobody",)))


def test_a_missing_file_is_a_usage_error():
    with pytest.raises(UsageError, match="there is no such file"):
        load(LoaderOptions(files=("nowhere.py",)))


def test_a_file_plugin_does_not_shadow_a_module(tmp_path):
    (tmp_path / "json.py").write_text("raise RuntimeError('shadowed')\n")
    load(LoaderOptions(files=(str(tmp_path / "json.py"),), allowed=()))
    import json

    assert json.loads("1") == 1


def test_nothing_is_found_in_the_working_directory(tmp_path, monkeypatch):
    egg = tmp_path / "stray.egg-info"
    egg.mkdir()
    (egg / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: stray\nVersion: 1\n")
    (egg / "entry_points.txt").write_text("[benchbench]\nstray = stray\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert any(found.name == "stray" for found in find(LoaderOptions()))
    monkeypatch.chdir(tmp_path)
    assert not any(found.name == "stray" for found in find(LoaderOptions()))
