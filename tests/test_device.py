"""The device of a case, and workers that lose theirs."""

import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchbench import device
from benchbench.catalog import Description
from benchbench.contract import Settings
from benchbench.engines.local import LocalEngine
from benchbench.files import Files
from benchbench.fingerprint import checksum
from benchbench.plan import plan
from benchbench.plugins import LoaderOptions
from benchbench.records import result_from_json
from benchbench.supervise import describe, execute

ZOO = Path(__file__).parent / "zoo"
WORDS = (
    "device-side assert triggered"
    if torch.cuda.is_available()
    else "illegal memory access was encountered (loses_the_device.py:"
)


def torch_with(monkeypatch, answers, initialised=True):
    """torch whose synchronisations give these answers in turn: None, or what they raise."""
    left = iter(answers)

    def synchronize():
        answer = next(left)
        if answer is not None:
            raise answer

    cuda = SimpleNamespace(is_initialized=lambda: initialised, synchronize=synchronize)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))


FAULT = RuntimeError("CUDA error: an illegal memory access was encountered\nhints follow")


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([None], ""),
        ([FAULT, None], ""),  # told once and gone
        ([FAULT, FAULT], "CUDA error: an illegal memory access was encountered"),
    ],
)
def test_a_context_is_lost_when_the_error_stays(monkeypatch, answers, reason):
    torch_with(monkeypatch, answers)
    assert device.lost() == reason


def test_where_no_gpu_is_used_nothing_is_asked(monkeypatch):
    torch_with(monkeypatch, [], initialised=False)
    assert device.lost() == ""
    device.wait()


def test_waiting_tells_what_went_wrong(monkeypatch):
    torch_with(monkeypatch, [FAULT])
    with pytest.raises(RuntimeError, match="illegal memory"):
        device.wait()


def test_the_last_cache_of_the_processor_is_the_largest(tmp_path):
    for index, size in enumerate(["48K", "2048K", "36M"]):
        folder = tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{index}"
        folder.mkdir(parents=True)
        (folder / "size").write_text(size + "\n")
    assert device.last_cache("cpu", Files(tmp_path)) == 36 << 20
    assert device.last_cache("cpu", Files(tmp_path / "none")) == 0


def test_setting_up_the_cpu_does_nothing():
    device.set_up("cpu")
    assert device.free_memory("cpu") > 0


def test_a_view_at_an_odd_place_has_a_checksum_as_its_copy_has(monkeypatch):
    x = torch.arange(9000, dtype=torch.uint8)[3:]
    assert checksum(x) == checksum(x.clone())


@pytest.fixture(scope="module")
def run():
    files = (ZOO / "runtime" / "arena.py", *sorted((ZOO / "device").glob("*.py")))
    options = LoaderOptions(files=tuple(map(str, files)), allowed=())
    settings = Settings(processes=2, budget=0.0, sample_seconds=0.0, warmup=0.0, roof=False)
    engine, records = LocalEngine(), []
    description = Description.from_json(describe(engine, options, settings))
    execute(
        plan(description), settings=settings, engine=engine, options=options, emit=records.append
    )
    rows = defaultdict(list)
    for record in records:
        if record["type"] == "result":
            fields = {name: value for name, value in record.items() if name != "type"}
            rows[record["contender"]].append(result_from_json(fields))
    return rows, records


def test_who_destroys_the_context_is_named_and_the_others_go_on(run):
    rows, records = run
    for row in rows["loses_the_device"]:
        assert (row.status, row.stage) == ("failed", "check")
        assert WORDS in row.reason
        assert "destroyed the process's CUDA context, so the worker was replaced" in row.reason
    for name in ("honest", "rival"):
        assert [row.status for row in rows[name]] == ["ok", "ok"]
    started = [r for r in records if r["type"] == "process"]
    # The first worker is replaced; the second process starts without the culprit.
    assert [(r["process"], r["restart"]) for r in started] == [(0, 0), (0, 1), (1, 0)]
    assert any(r.get("kind") == "died" and "loses_the_device" in r["text"] for r in records)


def test_an_error_that_passes_costs_no_worker(run):
    rows, _ = run
    for row in rows["is_refused_by_the_device"]:
        assert (row.status, row.stage) == ("failed", "check")
        assert "invalid configuration argument" in row.reason and "replaced" not in row.reason
