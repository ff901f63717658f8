"""Samplers: honest contenders pass at every seed, broken packages cost their own rows only."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sampler_trials import CONTENDERS, SMALL, WORKLOADS, Trial, flat

import benchbench as bb
from benchbench_plugins.samplers import audio, bootstrap, image, imbalance, index

POINTS = [
    pytest.param(contender, params, id=f"{contender}[{label}]" if label else contender)
    for contender, implementation in CONTENDERS.items()
    if implementation.workload in SMALL  # the others are in test_plugin_samplers_more
    for label, params in SMALL[implementation.workload].items()
]


@pytest.mark.parametrize("seed", [0, 1, 7])
@pytest.mark.parametrize(("contender", "params"), POINTS)
def test_honest_contenders_pass(contender: str, params: bb.Params, seed: int) -> None:
    implementation = CONTENDERS[contender]
    reason = implementation.unavailable and implementation.unavailable(params)
    if reason:
        assert "pip install" in reason or "run it with" in reason
        return
    trial = Trial(implementation.workload, params, seed)
    thunk = implementation.build(trial.inputs)
    outputs = [thunk() for _ in range(3)]
    for calls, output in enumerate(outputs, 1):
        assert trial.judge(output, calls, timed=calls > 1) is None
    random = "audio" not in contender and "image" not in contender
    assert np.array_equal(flat(outputs[0]), flat(outputs[1])) != random
    if random:
        again = implementation.build(trial.inputs)()
        assert np.array_equal(flat(outputs[0]), flat(again)), "a seed must fix the draws"
        other = implementation.build(trial.workload.make(params, seed + 1))()
        assert not np.array_equal(flat(outputs[0]), flat(other))
    if trial.workload.metrics is not None:
        assert all(np.isfinite(value) for value in trial.metrics(outputs[0]).values())


@pytest.mark.parametrize(
    "workload", [index.UNIFORM, index.WEIGHTED, bootstrap.IID, imbalance.OVER, imbalance.UNDER]
)
def test_a_stream_that_stands_still_is_rejected(workload: str) -> None:
    trial = Trial(workload)
    output = CONTENDERS[f"{workload}:torch"].build(trial.inputs)()
    assert trial.judge(output, calls=1) is None
    assert trial.judge(output, calls=1) is None, "looking twice at one call is no replay"
    found = trial.judge(output, calls=5)
    assert found is not None
    assert "stands still" in found


def test_costs_are_floors() -> None:
    def work(name: str, params: Mapping[str, Any]) -> bb.Work:
        found = WORKLOADS[name].work
        assert found is not None
        return found({"device": "cpu", **params})

    assert work(bootstrap.IID, {"rows": 1000, "replicates": 10}).bytes == 4 * 1010
    assert work(bootstrap.IID, {"rows": 1000, "replicates": 10}).items == 10_000
    assert work(index.UNIFORM, {"rows": 1000}).bytes == 8000
    over = work(imbalance.OVER, {"rows": 1000, "ratio": (9, 1)})
    assert (over.bytes, over.items) == ((1000 + 1800) * 88, 1800)
    under = work(imbalance.UNDER, {"rows": 1000, "ratio": (9, 1)})
    assert (under.bytes, under.items) == (8000 + 200 * 168, 200)
    assert work(audio.FILTERED, {"seconds": 5}).bytes == 4 * 5 * 60_100
    assert work(image.FILTERED, {"dtype": "uint8"}).bytes == 3 * (1920 * 1080 + 640 * 480)


BROKEN = {
    "soxr": "raise RuntimeError('built for another numpy')",
    "imblearn": "raise SystemExit('no licence')",
    "cv2": "import no_such_module_of_cv2",
    "torchaudio": "raise OSError('libtorchaudio.so: undefined symbol')",
}
ASK = """
import json
from benchbench_plugins import samplers
workloads = {w.name: {a: v[0] for a, v in w.axes.items()} for w in samplers.benchbench_workloads()}
print(json.dumps({
    i.id: (i.unavailable(workloads[i.workload]) or "") if i.unavailable else ""
    for i in samplers.benchbench_implementations()
}))
"""


ABSENT = ("arch", "julius", "pandas", "polars", "tsbootstrap")
"""Peers that nobody needs to have: left out, or not."""


def test_broken_optional_packages_cost_their_own_rows_only(tmp_path: Path) -> None:
    for name, text in BROKEN.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{ASK}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    reasons = json.loads(done.stdout)
    hit = {
        "soxr-hq": "built for another numpy",
        "soxr-vhq": "built for another numpy",
        "imbalanced-learn": "SystemExit",
        "opencv-area": "no_such_module_of_cv2",
        "opencv-linear": "no_such_module_of_cv2",
        "opencv": "no_such_module_of_cv2",
        "opencv-cubic": "no_such_module_of_cv2",
        "torchaudio": "undefined symbol",
        "torchaudio-kaiser": "undefined symbol",
        **dict.fromkeys(ABSENT, ""),
    }
    for contender, reason in reasons.items():
        name = contender.split(":")[1]
        if name in hit:
            assert hit[name] in reason, contender
            assert "pip install" in reason or name in ABSENT, contender
        else:
            assert reason == "", contender
