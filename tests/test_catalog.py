"""The catalogue's description: everything the parent needs, nothing that it could call."""

import json
from pathlib import Path

import pytest

import benchbench as bb
from benchbench import catalog_cache
from benchbench.catalog import Contribution, Description, assemble, describe, workload_fault
from benchbench.contract import Provider
from benchbench.plugins import LoaderOptions, load

ZOO = Path(__file__).parent / "zoo"
MINE = Provider(plugin="mine", distribution="mine", version="1")
OTHER = Provider(plugin="other", distribution="other", version="2")


def workload(**fields):
    defaults = {
        "name": "a/b",
        "make": lambda params, seed: None,
        "baseline": "x",
        "check": lambda evidence: None,
    }
    return bb.Workload(**{**defaults, **fields})


def implementation(name, **fields):
    return bb.Implementation(workload="a/b", name=name, build=lambda inputs: None, **fields)


def contributions(*items, provider=MINE):
    return [Contribution(provider=provider, item=item) for item in items]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"axes": {"n": (1,)}, "open_axes": ("n",)}, "'n', which is no axis of text"),
        (
            {"axes": {"model": ("a",)}, "open_axes": ("modle",)},
            "open_axes names 'modle', which is no axis of text. Did you mean",
        ),
        ({"name": "NoSlash"}, "kind/task in lower case"),
        ({"name": "Upper/Case"}, "kind/task in lower case"),
        ({"axes": {"n": ()}}, "at least one value"),
        ({"axes": {"n": "abc"}}, "at least one value"),
        ({"axes": {"n": (None,)}}, "must be text, a number"),
        ({"axes": {"n": (1,)}, "presets": {"quick": {"m": (1,)}}}, "does not have"),
        ({"axes": {"n": (1,)}, "presets": {"quick": {"n": "1"}}}, "give a sequence"),
        ({"check": None}, "neither a reference nor a check"),
    ],
)
def test_unusable_workloads_say_why(fields, message):
    assert message in workload_fault(workload(**fields))


def test_a_sound_workload_has_no_fault():
    assert workload_fault(workload(axes={"n": (1, 2)}, presets={"quick": [{"n": (1,)}]})) == ""


def test_the_plugin_of_the_workload_keeps_an_id_whatever_the_order():
    own, stolen = implementation("x", doc="own"), implementation("x", doc="stolen")
    for order in (0, 1):
        given = [
            *contributions(stolen, provider=OTHER),
            *contributions(workload(), own),
        ]
        catalog, faults = assemble(given if order else given[::-1])
        assert catalog.implementations["a/b"]["x"].doc == "own"
        ((provider, reason),) = faults
        assert provider == OTHER
        assert "mine 1" in reason and "other 2" in reason


def test_a_workload_without_its_baseline_takes_its_contenders_along():
    catalog, faults = assemble(contributions(workload(), implementation("y")))
    assert not catalog.workloads and not catalog.implementations
    assert "baseline 'x' is contributed by no plugin" in faults[0][1]


def test_describe_asks_for_availability_and_survives_exceptions_there():
    def raises(params):
        raise RuntimeError("no\nlicence")

    file_plugin = ZOO / "every_hook.py"
    loaded = load(LoaderOptions(files=(str(file_plugin),), allowed=()))
    implementations = loaded.catalog.implementations["hooks/absolute"]
    implementations["broken"] = bb.Implementation(
        workload="hooks/absolute", name="broken", build=lambda i: None, unavailable=raises
    )
    implementations["absent"] = bb.Implementation(
        workload="hooks/absolute", name="absent", build=lambda i: None, unavailable=lambda p: "gone"
    )
    for name in ("broken", "absent"):
        loaded.catalog.providers[f"hooks/absolute:{name}"] = MINE
    described = Description.from_json(json.loads(json.dumps(describe(loaded))))
    info = described.workloads["hooks/absolute"]
    assert info.contenders["eager"].unavailable == ""
    assert info.contenders["absent"].unavailable == "gone"
    assert info.contenders["broken"].unavailable.endswith("raised RuntimeError: no licence")
    assert info.axes == {"n": (1000,)} and info.doc == "Drop the sign."
    assert set(described.timers) == {"coarse"} and set(described.engines) == {"twin"}
    assert described.reports == {"names": "Contenders and their status."}


def test_the_cache_is_found_until_something_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_CACHE", str(tmp_path / "cache"))
    plugin = tmp_path / "mine.py"
    plugin.write_text("x = 1\n")
    options = LoaderOptions(files=(str(plugin),))
    assert catalog_cache.read(options) is None
    catalog_cache.write(options, {"workloads": []})
    assert catalog_cache.read(options) == {"workloads": []}
    assert catalog_cache.read(LoaderOptions()) is None
    plugin.write_text("x = 22\n")
    assert catalog_cache.read(options) is None


def test_a_cache_that_cannot_be_read_or_written_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_CACHE", str(tmp_path))
    catalog_cache.write(LoaderOptions(), {"a": 1})
    (file,) = (tmp_path / "catalogue").iterdir()
    file.write_text("{torn")
    assert catalog_cache.read(LoaderOptions()) is None
    monkeypatch.setenv("BENCHBENCH_CACHE", str(file / "not-a-directory"))
    catalog_cache.write(LoaderOptions(), {"a": 1})
    assert catalog_cache.read(LoaderOptions()) is None
