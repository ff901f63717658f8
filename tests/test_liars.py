"""Contenders that lie about their time or their answers, and honest ones that look like them."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from benchbench.catalog import Description
from benchbench.contract import Settings
from benchbench.engines.local import LocalEngine
from benchbench.plan import plan
from benchbench.plugins import LoaderOptions
from benchbench.records import result_from_json
from benchbench.supervise import describe, execute

ZOO = Path(__file__).parent / "zoo"
SETTINGS = Settings(
    processes=1,
    budget=0.02,
    max_passes=4,
    sample_seconds=0.002,
    warmup=0.02,
    threads=1,  # calls of two threads take any time while the machine is busy
    timeout=60.0,
)
# Words of the reason, or of each of several where it depends on which call is looked at; who is
# found in one of its cases has lied.
LIARS = {
    "memoises_by_address": "it returned what it had returned before",
    "memoises_by_version": "it returned what it had returned before",
    "memoises_by_checksum": "on values that it has not met",
    "memoises_by_sample": "on values that it has not met",
    "skips_in_bursts": "it returned what it had returned before",
    "knows_the_timer": "it returned what it had returned before",
    "computes_when_poisoned": (
        "it returned what it had returned before",
        "with other values in the input",
    ),
    "hands_out_copies": "is under the floor",
    "reads_a_copy": "with other values in the input 'x' it returned what it had returned before",
    "finishes_later": (
        "were never written",
        "changed after the call had returned",
        "it returned what it had returned before",  # the memory it got held an earlier answer
    ),
    "improves_later": "its output changed after the call had returned",
    "defers_to_the_reader": "Later, which may compute when it is read",
    "defers_by_attribute": "it carries a 'detach' of its own",
    "defers_in_a_container": "Lazy, which may compute when it is read",
    "patches_the_clock": "it replaced benchbench.timers.wall.perf_counter_ns",
    "patches_the_clock_briefly": (
        "a second clock",
        "it replaced benchbench.timers.wall.perf_counter_ns",
    ),
    "patches_the_time_module": "it replaced time.perf_counter_ns",
    "patches_the_timer": "it replaced benchbench.timers.wall.WallTimer.sample",
    "rewrites_the_judge": "it replaced benchbench.checks.judge",
    "patches_the_synchronisation": "it replaced torch.cuda.synchronize",
    "slows_the_baseline": "it replaced torch.Tensor.__mul__",
    "patches_when_loaded": "was loaded it replaced torch.nn.functional.softplus",
    "registers_a_kernel": "it registered kernels for operators of torch itself: aten/digamma/CPU",
    "edits_its_samples": "it changed its own record of what was measured",
    "edits_a_rival": "it changed baseline's record of what was measured",
    "steals_the_reference": "it returned what it had returned before",
    "spins_in_a_thread": "keeps a processor busy while nothing is called",
    "hooks_all_modules": "it changed the hooks of all modules",
    "traces_everybody": "it changed the profile function",
    "sets_an_alarm": "it changed the handler of SIGALRM",
    "leaves_a_mode": "it changed the stack of dispatch modes",
    "narrows_the_processors": "it changed the processors that the process may use",
    "changes_the_environment": "it changed the environment",
    "delays_thread_switches": "it changed the thread switch interval",
    "computes_in_bfloat16": "relative error of its float32 output",
    "skips_the_tail": "were never written",
    "wrong_when_large": "relative error of its float32 output",
    "gives_no_gradient": "relative error of its float32 output",
    "scales_its_gradient": "relative error of its float32 output",
    "keeps_its_gradient": "with other values in the input",
}
# In first-party workloads, whose own checks find them.
GUESTS = {
    "draws_by_modulo": "uneven by",
    "replays_its_draws": "returned the same draws as call",
    "resamples_without_filter": "aliases at",
}
HONEST = sorted(path.stem for path in (ZOO / "honest").glob("*.py"))


@pytest.fixture(scope="module")
def rows():
    files = [ZOO / "liars" / "arena.py", *sorted((ZOO / "honest").glob("*.py"))]
    files += [
        path
        for path in sorted((ZOO / "liars").glob("*.py"))
        if path not in files and path.stem not in GUESTS
    ]
    return measured(LoaderOptions(files=tuple(map(str, files)), allowed=()))


@pytest.fixture(scope="module")
def guests():
    files = tuple(str(ZOO / "liars" / f"{name}.py") for name in GUESTS)
    options = LoaderOptions(files=files, allowed=("samplers",))
    found = [
        measured(options, patterns=[f"samplers/{name}"], contenders=who, axes=axes, preset="full")
        for name, who, axes in (
            ("bootstrap-indices", ["draws_by_modulo", "replays_its_draws"], {"rows": ["100000"]}),
            ("audio-44100-to-16000", ["resamples_without_filter"], {"seconds": ["5"]}),
        )
    ]
    return {name: rows for part in found for name, rows in part.items()}


def measured(options, **chosen):
    """Rows by contender."""
    engine, records = LocalEngine(), []
    description = Description.from_json(describe(engine, options, SETTINGS))
    execute(
        plan(description, **chosen),
        settings=SETTINGS,
        engine=engine,
        options=options,
        emit=records.append,
    )
    found = defaultdict(list)
    for record in records:
        if record["type"] == "result":
            fields = {name: value for name, value in record.items() if name != "type"}
            found[record["contender"]].append(result_from_json(fields))
    return found


def test_every_animal_has_an_expectation():
    animals = {path.stem for path in (ZOO / "liars").glob("*.py")} - {"arena"}
    assert animals == set(LIARS) | set(GUESTS)
    assert len(LIARS) >= 20 and len(HONEST) >= 10


@pytest.mark.parametrize("name", sorted(LIARS))
def test_the_liar_is_rejected_with_the_reason(name, rows):
    caught = [row for row in rows[name] if row.status in ("wrong", "quarantined")]
    assert caught, [(row.status, row.reason) for row in rows[name]]
    for row in caught:
        words = LIARS[name] if isinstance(LIARS[name], tuple) else (LIARS[name],)
        assert any(part in row.reason for part in words), row.reason
        assert row.samples == ()


@pytest.mark.parametrize("name", sorted(GUESTS))
def test_the_liar_in_a_workload_of_samplers_is_rejected_with_the_reason(name, guests):
    assert [(row.status, row.samples) for row in guests[name]] == [("wrong", ())]
    assert GUESTS[name] in guests[name][0].reason


@pytest.mark.parametrize("name", [*HONEST, "baseline"])
def test_the_honest_are_measured(name, rows):
    assert rows[name]
    for row in rows[name]:
        assert (row.status, row.reason) == ("ok", "")
        assert len(row.samples) >= SETTINGS.min_passes and row.signals["audited"] == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_streams_of_ones_own_must_be_waited_for():
    files = [ZOO / "cuda" / "arena.py", *sorted((ZOO / "cuda").glob("w*.py"))]
    rows = measured(LoaderOptions(files=tuple(map(str, files)), allowed=()))
    assert [row.status for row in rows["waits_for_its_stream"]] == ["ok"]
    (row,) = rows["works_on_another_stream"]
    assert row.status in ("wrong", "quarantined") and row.samples == ()


def test_the_page_lists_every_animal():
    page = (ZOO.parents[1] / "docs" / "trust.md").read_text()
    caught, looks_like_one = page.split("## Honest ones")
    for folder, part in (("liars", caught), ("honest", looks_like_one)):
        for path in (ZOO / folder).glob("*.py"):
            if path.stem != "arena":
                what = ast.get_docstring(ast.parse(path.read_text())).rstrip(".")
                assert f"| `{path.stem}` | {what} |" in part
    named = set(re.findall(r"^\| `(\w+)` \|", page, re.M))
    assert named <= {path.stem for path in ZOO.rglob("*.py")}
