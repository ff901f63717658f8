"""docs/components.md says what the catalogue has, and what is left out really is."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import components  # noqa: E402


@pytest.fixture(scope="module")
def catalog():
    return components.first_party()


def test_the_page_is_current(catalog):
    assert components.PAGE.read_text(encoding="utf-8") == components.page(catalog), (
        "run python scripts/components.py"
    )


def test_nothing_that_is_left_out_is_there(catalog):
    assert list(components.contradicted(catalog)) == []


def test_a_line_that_no_longer_holds_is_named(catalog, monkeypatch):
    line = components.LEFT_OUT[0]._replace(pattern="activations/gelu:*")
    monkeypatch.setattr(components, "LEFT_OUT", (line,))
    (fault,) = components.contradicted(catalog)
    assert "activations/gelu:eager" in fault


def test_every_workload_and_contender_is_on_the_page(catalog):
    sections = components.page(catalog).split("\n## ")[1:]
    by_kind = {text.split("\n", 1)[0]: text.splitlines() for text in sections}
    for name, found in catalog.implementations.items():
        kind, task = name.split("/")
        (row,) = [line for line in by_kind[kind] if line.startswith(f"| `{task}` ")]
        listed = row.rsplit(" | ", 1)[1].removesuffix(" |").split(", ")
        assert sorted(listed) == sorted(found)
        assert listed[0] == catalog.workloads[name].baseline


def test_check_says_when_it_is_not_current(catalog, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(components, "first_party", lambda: catalog)
    monkeypatch.setattr(components, "PAGE", tmp_path / "components.md")
    assert components.main(["--check"]) == 1
    assert "is not current" in capsys.readouterr().err
    assert components.main([]) == 0
    assert components.main(["--check"]) == 0
    workload = next(iter(catalog.workloads.values()))
    changed = {**catalog.workloads, workload.name: replace(workload, doc="Another one.")}
    monkeypatch.setattr(components, "first_party", lambda: replace(catalog, workloads=changed))
    assert components.main(["--check"]) == 1


def test_every_kind_of_the_catalogue_has_its_section(catalog):
    page = components.page(catalog)
    for kind in {name.split("/")[0] for name in catalog.workloads}:
        assert f"\n## {kind}\n" in page
    assert {line.kind for line in components.LEFT_OUT} <= {
        name.split("/")[0] for name in catalog.workloads
    } | {"data"}


def test_there_is_no_page_of_a_catalogue_that_is_not_whole(monkeypatch):
    loaded = components.load(components.LoaderOptions(allowed=("benchbench",)))
    broken = (replace(loaded.plugins[0], reason="claims an id twice"), *loaded.plugins[1:])
    monkeypatch.setattr(components, "load", lambda options: replace(loaded, plugins=broken))
    with pytest.raises(SystemExit, match="claims an id twice"):
        components.first_party()
