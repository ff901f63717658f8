from __future__ import annotations

import json
import subprocess
import sys

from benchbench import __version__, machine
from benchbench.groups import Limits


def test_the_environment_is_plain_json_and_has_what_every_machine_has():
    facts = machine.environment()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["benchbench"] == __version__
    assert facts["python"].count(".") == 2
    assert facts["cpu"]
    assert facts["memory"] > facts["memory_available"] > 0
    assert 1 <= facts["usable_cores"] <= facts["logical_cpus"]


def test_facts_that_cannot_be_read_are_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_CPU", tmp_path / "no-cpu")
    monkeypatch.setattr(machine, "limits", lambda files: Limits())
    facts = machine.environment()
    assert not {"governor", "turbo", "caches", "container_cpu", "container_memory"} & set(facts)
    assert all(value not in (None, "", {}, []) for value in facts.values())


def test_caches_governor_and_turbo_are_read(monkeypatch, tmp_path):
    cache = tmp_path / "cpu0" / "cache"
    for index, (level, sort, size) in enumerate(
        [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("3", "Unified", "32768K")]
    ):
        (cache / f"index{index}").mkdir(parents=True)
        for name, value in (("level", level), ("type", sort), ("size", size)):
            (cache / f"index{index}" / name).write_text(value + "\n")
    (tmp_path / "cpu0" / "cpufreq").mkdir()
    (tmp_path / "cpu0" / "cpufreq" / "scaling_governor").write_text("powersave\n")
    (tmp_path / "intel_pstate").mkdir()
    (tmp_path / "intel_pstate" / "no_turbo").write_text("1\n")
    monkeypatch.setattr(machine, "_CPU", tmp_path)
    facts = machine.environment()
    assert facts["caches"] == {"L1d": "48K", "L1i": "32K", "L3": "32768K"}
    assert facts["governor"] == "powersave"
    assert facts["turbo"] == "off"


def test_the_commit_is_that_of_the_working_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert "commit" not in machine.environment()

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "first")
    commit = machine.environment()["commit"]
    assert len(commit) >= 7
    (tmp_path / "file").write_text("two")
    assert machine.environment()["commit"] == commit + "+"


def test_variables_that_matter_are_kept_and_secrets_are_not():
    given = {
        "OMP_NUM_THREADS": "2",
        "MALLOC_TRIM_THRESHOLD_": "1",
        "TORCH_SHOW_CPP_STACKTRACES": "1",
        "PYTORCH_API_TOKEN": "secret",
        "CUDA_SECRET_THING": "secret",
        "HOME": "/home/somebody",
    }
    kept = machine.relevant_variables(given)
    assert kept == {
        "MALLOC_TRIM_THRESHOLD_": "1",
        "OMP_NUM_THREADS": "2",
        "TORCH_SHOW_CPP_STACKTRACES": "1",
    }


def test_a_worker_says_what_torch_it_has():
    import torch

    facts = machine.worker_environment({"OMP_NUM_THREADS": "3", "HOME": "/"})
    assert facts["torch"] == torch.__version__
    assert facts["threads"] == torch.get_num_threads()
    assert facts["variables"] == {"OMP_NUM_THREADS": "3"}
    assert json.loads(json.dumps(facts)) == facts
    assert ("devices" in facts) == torch.cuda.is_available()


def test_reading_the_machine_does_not_import_torch():
    script = (
        "import sys\nfrom benchbench import machine\nmachine.environment()\n"
        "assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_differences_name_what_differs():
    one = {"cpu": "A", "threads": 2, "torch": "2.11"}
    assert machine.differences(one, dict(one)) == []
    assert machine.differences(one, {**one, "threads": 4, "load": 3}) == ["threads: 2 against 4"]
