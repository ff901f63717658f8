"""The networks' benchmark: figures from runs whose figures are known, and a plan."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic import measured, result, run

from benchbench.catalog import Description, describe
from benchbench.contract import Settings
from benchbench.plugins import load
from benchbench.records import to_json

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import models_end_to_end as models  # noqa: E402

FACTORS = {"eager": 3.0, "compiled": 2.0, "swapped": 1.0}
PARAMS = {"batch": 32, "size": 224, "device": "cpu"}
WORKLOAD = "models/resnet18-train"


def step(factors, **fields):
    rows = measured(factors, workload=WORKLOAD, params=PARAMS, base=1e-3, **fields)
    return run(rows, settings=to_json(Settings(threads=2)))


def by_way(found):
    return {line.way: line for line in models.lines(found)}


def test_figures_of_a_way():
    lines = by_way(step(FACTORS, metrics={"gradient_error": 2e-6}))
    assert {*lines} == {*FACTORS}
    swapped = lines["swapped"]
    assert (swapped.network, swapped.point, swapped.threads) == (
        "resnet18-train", "batch=32 size=224", 2,
    )  # fmt: skip
    assert swapped.eager == pytest.approx(3, rel=0.03)
    assert swapped.compiled == pytest.approx(2, rel=0.03)
    assert 1 < swapped.milliseconds < 1.7  # what the runs' shared drift allows
    assert (swapped.error, swapped.eager_error) == (2e-6, 2e-6)
    assert lines["eager"].eager is None
    assert lines["compiled"].compiled is None
    assert lines["compiled"].eager == pytest.approx(1.5, rel=0.03)
    assert "2.0e-06 / 2.0e-06" in swapped.text() and "3.0" in swapped.text()


def test_errors_of_outputs_where_no_gradient_is_watched():
    swapped = by_way(step(FACTORS))["swapped"]
    assert swapped.error == pytest.approx(1e-7)
    assert swapped.eager_error == pytest.approx(3e-7)


def test_what_was_not_measured_says_why():
    rows = [r for r in step(FACTORS).results if r.contender == "eager"]
    failed = [
        result("compiled", p, workload=WORKLOAD, params=PARAMS, status="failed", reason="no g++")
        for p in range(6)
    ]
    found = run([*rows, *failed], settings=to_json(Settings(threads=2)))
    compiled = by_way(found)["compiled"]
    assert compiled.milliseconds is None and compiled.eager is None
    assert compiled.text().endswith("failed: no g++")


@pytest.fixture(scope="module")
def description():
    return Description.from_json(describe(load(models.PLUGINS)))


def test_every_network_can_be_planned(description):
    asked = models.parse(["--size", "64"])
    cases = models.chosen(asked, description)
    assert [case.case.workload for case in cases] == [f"models/{name}" for name in models.NETWORKS]
    for case in cases:
        assert case.baseline == "eager" and {"eager", "swapped"} <= set(case.contenders)
        images = case.case.workload.removeprefix("models/") in models.IMAGES
        assert ("channels-last-swapped" in case.contenders) == images
        if images:
            assert (case.case.params["batch"], case.case.params["size"]) == (32, 64)
    one = models.parse(["gpt2-block-train", "--ways", "swapped"])
    (case,) = models.chosen(one, description)
    assert case.contenders == ("eager", "swapped")


def test_mistyped_networks_are_refused(capsys):
    with pytest.raises(SystemExit):
        models.parse(["resnet81-train"])
    assert "resnet81-train" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_table(tmp_path):
    target = tmp_path / "table.json"
    command = [sys.executable, BENCHMARKS / "models_end_to_end.py", "transformer-block"]
    command += ["--ways", "swapped", "-t", "1", "-n", "1", "--budget", "0.02", "--write", target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    content = json.loads(target.read_text())
    assert [line["way"] for line in content["lines"]] == ["eager", "swapped"]
    swapped = content["lines"][1]
    assert swapped["status"] == "ok" and swapped["eager"] > 0 and swapped["error"] >= 0
