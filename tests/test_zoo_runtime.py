"""Contenders and plugins that misbehave in every way: each loses its own rows and nothing else."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from benchbench.catalog import Description
from benchbench.contract import Settings
from benchbench.engines.local import LocalEngine
from benchbench.plan import plan
from benchbench.plugins import LoaderOptions
from benchbench.records import result_from_json
from benchbench.supervise import describe, execute

ZOO = Path(__file__).parent / "zoo" / "runtime"
PROCESSES = 2

# Name, status, stage, words of the reason. "wrong" is found again in each process; the others are
# found once and stand in every process.
GUILTY = {
    "raises_in_build": ("failed", "build", "ValueError: no such kernel (raises_in_build.py:"),
    "raises_in_call": ("failed", "check", "RuntimeError: bad launch (raises_in_call.py:"),
    "raises_later": ("failed", "", "RuntimeError: out of handles"),
    "exits_in_call": ("failed", "check", "SystemExit: licence expired"),
    "exits_at_once": ("failed", "check", "ended by itself with exit code 3"),
    "hangs_in_call": ("failed", "check", "it hung: no progress for 4 s"),
    "segfaults_in_call": ("failed", "check", "(SIGSEGV) at segfaults_in_call.py:"),
    "segfaults_later": ("failed", "", "segmentation fault"),
    "aborts_in_call": ("failed", "check", "abort (SIGABRT)"),
    "exhausts_memory": ("failed", "check", "of memory, more than the limit of 1.25 GiB"),
    "closes_descriptors": ("failed", "", ""),
    "returns_nan": ("wrong", "check", "1 of 20000 values are nan or the like where"),
    "returns_none": ("wrong", "check", "None"),
    "is_inexact": ("wrong", "check", "relative error of its float32 output is"),
    "wrong_at_the_end": ("wrong", "check", "largest relative error"),
    "wrong_shape": ("wrong", "check", "tensor float32 [20000, 1] on cpu"),
    "wrong_dtype": ("wrong", "check", "it is a tensor float64 [20000] on cpu, the baseline's"),
    "wrong_structure": ("wrong", "check", "the output has the parts [0]"),
    "wrong_later": ("wrong", "audit", ("in a timed sample", "the largest relative error")),
    "never_writes": ("wrong", "check", "20000 of 20000 values were never written"),
    "is_not_callable": ("failed", "build", "build returned Tensor, not a callable"),
    "mutates_inputs": ("wrong", "check", "it changed the shared input 'x'"),
    "mutates_unseen": ("wrong", "check", "it changed the shared input 'x'"),
    "returns_its_input": ("wrong", "check", "it is the memory of the input 'x', not a new result"),
    "returns_a_cached_output": ("wrong", "check", "two outputs held at once"),
    "reuses_its_output": ("wrong", "check", "two outputs held at once"),
    "changes_threads": ("wrong", "check", "it changed the number of threads from"),
    "changes_default_dtype": ("wrong", "build", "it changed the default dtype from torch.float32"),
    "changes_matmul_precision": ("wrong", "", "it changed the float32 matmul precision from"),
    "flushes_denormals": ("wrong", "build", "it changed the flushing of denormals from False"),
    "forks": ("failed", "check", "it forked, and the child came back out of the call"),
    "unavailable": ("skipped", "", "needs a machine of 1998"),
    "unavailable_raises": ("skipped", "", "its availability check raised ZeroDivisionError"),
    "prepare_raises": ("failed", "prepare", "prepare raised IndexError: pop from empty list"),
    "prepare_segfaults": ("failed", "prepare", "prepare took the worker down: segmentation fault"),
}
HONEST = {
    "honest",
    "rival",
    "prints_megabytes",
    "writes_to_descriptors",
    "forks_well",
    "prepares",
    "prepares_too",
}
AT_IMPORT = {
    "segfaults_at_import": "segmentation fault",
    "hangs_at_import": "it hung: no progress for 2.5 s",
}
SETTINGS = Settings(
    processes=PROCESSES,
    budget=0.02,
    max_passes=4,
    sample_seconds=0.0005,
    warmup=0.02,
    threads=2,
    timeout=4.0,
    memory_limit=5 << 28,
)


def options(names) -> LoaderOptions:
    return LoaderOptions(files=tuple(str(ZOO / f"{name}.py") for name in names), allowed=())


def run(names, settings=SETTINGS):
    """Records of a run over one-file plugins, and the description that it was planned from."""
    engine = LocalEngine()
    description = describe(engine, options(names), settings)
    records = []
    execute(
        plan(Description.from_json(description)),
        settings=settings,
        engine=engine,
        options=options(names),
        emit=records.append,
    )
    return description, records


def results_of(records):
    found = defaultdict(list)
    for record in records:
        if record["type"] == "result":
            fields = {name: value for name, value in record.items() if name != "type"}
            found[record["contender"]].append(result_from_json(fields))
    return found


@pytest.fixture(scope="module")
def whole_zoo():
    names = ["arena", *(p.stem for p in sorted(ZOO.glob("*.py")) if p.stem not in AT_IMPORT)]
    return run(dict.fromkeys(names))[1]


@pytest.fixture(scope="module")
def results(whole_zoo):
    return results_of(whole_zoo)


def test_every_animal_has_an_expectation():
    animals = {path.stem for path in ZOO.glob("*.py")} - {"arena"}
    assert animals == set(GUILTY) | (HONEST - {"honest", "rival", "prepares_too"}) | set(AT_IMPORT)


@pytest.mark.parametrize("name", sorted(GUILTY))
def test_the_guilty_one_is_named_with_the_reason(name, results):
    status, stage, words = GUILTY[name]
    rows = results[name]
    assert [row.process for row in rows] == list(range(PROCESSES))
    for row in rows:
        assert row.status == status, row.reason
        for part in (words,) if isinstance(words, str) else words:
            assert part in row.reason
        assert not stage or row.stage == stage
        assert row.samples == ()


@pytest.mark.parametrize("name", sorted(HONEST))
def test_the_honest_lose_nothing(name, results):
    rows = results[name]
    assert [row.process for row in rows] == list(range(PROCESSES))
    for row in rows:
        assert (row.status, row.reason) == ("ok", "")
        assert len(row.samples) >= SETTINGS.min_passes
        assert row.signals["audited"] == 1
        assert row.errors["max"] <= row.errors["allowed"]


def test_samples_of_a_process_are_aligned(results):
    for process in range(PROCESSES):
        assert len({len(results[name][process].samples) for name in HONEST}) == 1


def test_a_forked_child_speaks_for_nobody(results):
    assert all(len(rows) == PROCESSES for rows in results.values())


def test_each_lost_worker_is_an_event_that_names_contender_and_stage(whole_zoo):
    died = [r["text"] for r in whole_zoo if r["type"] == "event" and r["kind"] == "died"]
    for name in ("segfaults_in_call", "aborts_in_call", "hangs_in_call", "exits_at_once"):
        # Found in the first process, excluded in the second.
        assert len([text for text in died if f"{name} (check)" in text]) == 1


def test_a_crash_leaves_the_place_in_the_log(whole_zoo):
    logs = [r["log"] for r in whole_zoo if r["type"] == "event" and "segfaults_in" in str(r)]
    assert any("segfaults_in_call.py" in log for log in logs)


def test_preparation_happens_once_and_speaks(whole_zoo):
    notes = [r["text"] for r in whole_zoo if r["type"] == "event" and r["kind"] == "note"]
    # prepare_segfaults takes the first worker down, so the others are prepared by the second.
    assert 1 <= notes.count("compiling for a second") <= 2


@pytest.mark.parametrize("name", sorted(AT_IMPORT))
def test_a_plugin_that_kills_its_worker_at_import_is_left_out(name):
    settings = replace(SETTINGS, timeout=2.5, processes=1)
    description, records = run([name, "arena"], settings)
    info = next(p for p in description["plugins"] if p["provider"]["plugin"] == name)
    assert info["status"] == "failed"
    assert AT_IMPORT[name] in info["reason"]
    blocked = [r for r in records if r["type"] == "event" and r["kind"] == "blocked"]
    assert [event["plugin"] for event in blocked] == [name]
    found = results_of(records)
    assert [row.status for row in found["honest"] + found["rival"]] == ["ok", "ok"]
