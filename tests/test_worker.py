"""A real worker: its environment, what it answers, what it survives."""

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from benchbench.contract import Settings, WorkerSpec
from benchbench.engines.local import LocalEngine, describe_exit, worker_environment
from benchbench.errors import WorkerDied
from benchbench.files import Files
from benchbench.records import to_json
from benchbench.resources import allowed_cpus, available_memory, usable_cores

ZOO = Path(__file__).parent / "zoo" / "runtime"

PROBE = '''
"""Looks at the process that it runs in."""
import colorsys, resource, sys
import torch
import benchbench as bb
from benchbench import heap

def faults():
    x = torch.randn(16 * 1024 * 1024)
    counts = []
    output = None
    heap.Heap().reserve([x.nbytes])
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        output = None
        output = x * 2
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return counts

def render(run):
    return f"a run of {len(run.results)} results"

def broken(run):
    raise KeyError("latency")

def crash(run):
    import os
    os.abort()

@bb.hookimpl
def benchbench_environment():
    return {"faults": faults(), "torch_threads": torch.get_num_threads(),
            "path": sys.path, "colorsys": colorsys.__file__,
            "oom": open("/proc/self/oom_score_adj").read().strip()}

@bb.hookimpl
def benchbench_reports():
    return [bb.Report(name="short", render=render), bb.Report(name="broken", render=broken),
            bb.Report(name="crash", render=crash)]
'''

SHY = '''
"""Its environment hook raises."""
import benchbench as bb

@bb.hookimpl
def benchbench_environment():
    raise OSError("no sensors")
'''


def start(*files, **settings):
    plugins = {"files": [str(file) for file in files], "allowed": []}
    spec = WorkerSpec(process=3, settings=Settings(**settings), plugins=plugins)
    return LocalEngine().start(spec)


def receive(connection, kind, seconds=60.0):
    """Messages up to and with the first of this type."""
    seen = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        message = connection.receive(1.0)
        if message is not None:
            seen.append(message)
            if message["type"] == kind:
                return seen
    raise AssertionError(f"no {kind!r} among {[m['type'] for m in seen]}: {connection.log()}")


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "probe.py").write_text(PROBE)
    (folder / "shy.py").write_text(SHY)
    # What lies about in the working directory is not to be imported.
    (folder / "colorsys.py").write_text("raise RuntimeError('imported from the directory')")
    before = Path.cwd()
    os.chdir(folder)
    try:
        connection = start(folder / "probe.py", folder / "shy.py", ZOO / "arena.py", threads=1)
    finally:
        os.chdir(before)
    messages = receive(connection, "ready")
    yield connection, messages
    connection.close()


def test_a_worker_announces_each_plugin_before_it_loads_it(probe):
    _, messages = probe
    assert [m["what"] for m in messages if m["type"] == "loading"] == [
        "torch", "probe", "shy", "arena", "environment",
    ]  # fmt: skip


def test_a_worker_says_what_it_is(probe):
    _, messages = probe
    ready = messages[-1]
    assert ready["process"] == 3
    assert 0 < ready["floor"] < 1e-4
    assert ready["environment"]["torch"]
    assert ready["environment"]["torch_threads"] == 1
    assert int(ready["environment"]["oom"]) > 0
    assert [p["provider"]["plugin"] for p in ready["plugins"] if p["status"] == "ok"] == [
        "probe", "shy", "arena",
    ]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is one of glibc")
def test_large_outputs_do_not_page_fault_on_every_call(probe):
    faults = probe[1][-1]["environment"]["faults"]
    assert max(faults) < 100, faults  # 16384 pages each with glibc's defaults


def test_a_hook_that_raises_is_an_event(probe):
    events = [m["text"] for m in probe[1] if m["type"] == "event"]
    assert len(events) == 1
    assert "benchbench_environment of shy.py:shy raised OSError: no sensors" in events[0]


def test_a_worker_does_not_import_from_the_working_directory(probe):
    ready = probe[1][-1]  # its working directory holds a colorsys.py that raises
    assert "" not in ready["environment"]["path"]
    assert "/lib/python" in ready["environment"]["colorsys"]


def test_describe_answers_with_the_catalogue(probe):
    connection, _ = probe
    connection.send({"type": "describe"})
    description = receive(connection, "catalogue")[-1]["description"]
    assert [w["name"] for w in description["workloads"]] == ["zoo/double"]


def test_reports_of_plugins_are_rendered_and_their_faults_told(probe, tmp_path):
    from benchbench import store

    run_file = stored_run(store, tmp_path)
    connection, _ = probe
    for name, words in (("broken", "KeyError: 'latency'"), ("shrt", "Did you mean 'short'?")):
        connection.send({"type": "render", "report": name, "path": run_file})
        assert words in receive(connection, "error")[-1]["why"]
    connection.send({"type": "render", "report": "short", "path": run_file})
    assert receive(connection, "rendered")[-1]["text"] == "a run of 0 results"


def stored_run(store, folder) -> str:
    header = {
        "id": store.new_id(),
        "command": "",
        "settings": {},
        "environment": {},
        "plugins": [],
        "cases": [],
    }
    writer = store.create(folder, header)
    writer.close("complete")
    return str(next(Path(folder).rglob("*.jsonl")))


def case(n=3000, contenders=("honest", "rival")):
    return {
        "case": {"workload": "zoo/double", "params": {"n": n}, "seed": 1},
        "baseline": "honest",
        "contenders": list(contenders),
    }


def test_a_case_is_run_and_everybody_has_a_row(probe):
    connection, _ = probe
    request = {"type": "run", "process": 5, "blocked": {"gone": "it took the worker down"}}
    connection.send({**request, "case": case(contenders=("honest", "rival", "absent"))})
    messages = receive(connection, "done")
    rows = {m["contender"]: m for m in messages if m["type"] == "result"}
    assert {name: row["status"] for name, row in rows.items()} == {
        "absent": "failed", "honest": "ok", "rival": "ok", "roof:copy": "ok",
    }  # fmt: skip
    assert rows["absent"]["reason"].startswith("no loaded plugin contributes 'absent'")
    assert rows["rival"]["provider"]["plugin"] == "arena"
    assert rows["rival"]["process"] == 5
    assert messages[-1]["phases"]["timed"] <= messages[-1]["seconds"]


def test_memory_of_worker_and_children_is_seen(probe):
    connection, _ = probe
    rss = psutil.Process(connection.pid).memory_info().rss
    assert 0.5 * rss < connection.resident_bytes() < 2 * rss


@pytest.mark.parametrize("name", ["kill", "close"])
def test_no_process_is_left_behind(name, tmp_path):
    plugin = tmp_path / "parent.py"
    plugin.write_text(
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print('child', child.pid, flush=True)\n"
    )
    connection = start(plugin)
    receive(connection, "ready")
    child = int(connection.log().split("child ")[1].split()[0])
    assert psutil.pid_exists(child)
    assert connection.resident_bytes() > psutil.Process(child).memory_info().rss
    getattr(connection, name)()
    deadline = time.monotonic() + 10
    while _runs(child) and time.monotonic() < deadline:  # the kernel takes a moment
        time.sleep(0.02)
    assert not _runs(connection.pid) and not _runs(child)


def _runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_worker_dies_with_its_parent():
    code = textwrap.dedent(f"""
        import os, sys
        from benchbench.contract import Settings, WorkerSpec
        from benchbench.engines.local import LocalEngine
        plugins = {{"files": [{str(ZOO / "hangs_at_import.py")!r}], "allowed": []}}
        spec = WorkerSpec(process=0, settings=Settings(), plugins=plugins)
        connection = LocalEngine().start(spec)
        while (connection.receive(1.0) or {{}}).get("plugin") != "hangs_at_import":
            pass
        print(connection.pid, flush=True)
        os.kill(os.getpid(), 9)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90)
    worker = int(done.stdout)
    deadline = time.monotonic() + 10
    while _runs(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(worker)


def test_the_log_is_bounded_and_keeps_the_end(tmp_path):
    plugin = tmp_path / "loud.py"
    plugin.write_text("print('x' * 3_000_000)\nprint('the end')\nimport os\nos._exit(7)\n")
    connection = start(plugin)
    with pytest.raises(WorkerDied) as died:
        receive(connection, "ready")
    assert died.value.reason == "the process ended by itself with exit code 7"
    assert died.value.log.endswith("the end\n") and len(died.value.log) <= 1 << 16
    connection.kill()


def test_nonsense_on_the_pipe_ends_the_worker(tmp_path):
    plugin = tmp_path / "babbles.py"
    plugin.write_text(
        "import os\n"
        "for number in range(3, 64):\n"
        "    try:\n        os.write(number, b'nonsense\\n')\n"
        "    except OSError:\n        pass\n"
    )
    connection = start(plugin)
    with pytest.raises(WorkerDied, match="it broke the protocol"):
        receive(connection, "ready")
    assert not _runs(connection.pid)


def test_exits_are_told_in_words():
    assert describe_exit(-11) == "segmentation fault (SIGSEGV)"
    assert describe_exit(-10) == "killed by SIGUSR1"
    assert describe_exit(2) == "the process ended by itself with exit code 2"


def test_threads_are_set_and_a_users_allocator_is_respected():
    mine = worker_environment(3, {"MALLOC_MMAP_MAX_": "7", "OMP_NUM_THREADS": "64", "HOME": "/h"})
    assert mine["OMP_NUM_THREADS"] == mine["MKL_NUM_THREADS"] == "3"
    assert mine["MALLOC_MMAP_MAX_"] == "7" and int(mine["MALLOC_TRIM_THRESHOLD_"]) > 1 << 32
    assert mine["HOME"] == "/h"
    assert worker_environment(0, {})["OMP_NUM_THREADS"] == str(usable_cores())


def test_containers_limit_cores_and_memory(tmp_path):
    files = Files(tmp_path)
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    assert usable_cores(files) == len(allowed_cpus())
    assert available_memory(files) > 0
    (group / "cgroup.controllers").write_text("cpu memory\n")
    (group / "cpu.max").write_text("100000 100000\n")
    assert usable_cores(files) == 1
    (group / "cpu.max").write_text("max 100000\n")
    (group / "memory.max").write_text("1000000\n")
    (group / "memory.current").write_text("400000\n")
    assert available_memory(files) == 600000
    for cpu in allowed_cpus():
        siblings = tmp_path / "sys" / "devices" / "system" / "cpu" / f"cpu{cpu}" / "topology"
        siblings.mkdir(parents=True)
        (siblings / "thread_siblings_list").write_text("0-63\n")
    assert usable_cores(files) == 1


def test_a_limit_of_the_service_that_runs_it_counts_too(tmp_path):
    group = tmp_path / "sys" / "fs" / "cgroup" / "system.slice" / "runner.service"
    group.mkdir(parents=True)
    (tmp_path / "sys" / "fs" / "cgroup" / "cgroup.controllers").write_text("cpu\n")
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/system.slice/runner.service\n")
    (group / "cpu.max").write_text("150000 100000\n")
    assert usable_cores(Files(tmp_path)) == 1


def test_messages_hold_nothing_that_json_does_not():
    json.dumps(to_json(Settings()), allow_nan=False)
