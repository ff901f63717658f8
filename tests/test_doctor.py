"""What the doctor says of machines that are trees of files."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from doctor_machines import CPU, GIB, GROUPS, QUIET, a_laptop, cores, plant, says
from hypothesis import given, settings, strategies as st

from benchbench.doctor.place import Machine
from benchbench.doctor.probe import Core
from benchbench.doctor.render import render_text
from benchbench.doctor.rules import diagnose
from benchbench.files import Files, listed, processors
from benchbench.groups import limits


@pytest.fixture
def laptop(tmp_path):
    return a_laptop(tmp_path)


def test_a_laptop_is_told_what_to_mend_and_how(laptop):
    found = says(laptop)
    noisy = {name for name, one in found.items() if one.status == "noisy"}
    assert noisy == {
        "neighbours", "threads", "governor", "boost", "heat", "power", "hyperthreads",
        "kinds of core", "huge pages", "clock",
    }  # fmt: skip
    assert found["governor"].read == "powersave (intel_pstate)"
    assert found["governor"].command.startswith("echo performance | sudo tee /sys/devices/")
    assert found["boost"].command == f"echo 1 | sudo tee /{CPU}/intel_pstate/no_turbo"
    assert found["hyperthreads"].command == "taskset -c 0-3 benchbench run"
    assert found["kinds of core"].command == "taskset -c 0-3 benchbench run"
    assert "firefox (812) 1.1" in found["neighbours"].read
    assert "12 %" in found["neighbours"].read
    assert found["threads"].command == "benchbench run --threads 6"
    assert found["clock"].command.startswith("echo tsc | sudo tee ")
    assert found["heat"].read == "95 C of 100 C; cores were slowed 7 times since boot"
    assert found["quota"].status == found["steal"].status == found["virtual machine"].status
    assert found["quota"].status == "good"


def test_a_laptop_that_was_mended_has_nothing_to_complain_of(laptop, tmp_path):
    tree = {f"{CPU}/cpufreq/policy{cpu}/scaling_governor": "performance" for cpu in range(12)}
    plant(
        tmp_path,
        tree
        | {
            f"{CPU}/intel_pstate/no_turbo": "1",
            "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
            "sys/class/thermal/thermal_zone1/temp": "50000",
            "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
        },
    )
    mended = replace(laptop, allowed=(0, 1, 2, 3), threads=4, plugged=True, load=0.3, probe=QUIET)
    diagnosis = diagnose(mended)
    assert not diagnosis.of("noisy")
    assert not diagnosis.of("unknown")
    assert "Nothing that can be read here is noisy" in render_text(diagnosis)


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_with_a_quota(tmp_path, version):
    tree = cores(8) | {
        ".dockerenv": "",
        "proc/cpuinfo": "flags : fpu hypervisor",
        "sys/class/dmi/id/sys_vendor": "QEMU",
        "proc/stat": "cpu 900 0 0 9000 0 0 0 100 0 0",
        "sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never",
    }
    stat = "nr_periods 200\nnr_throttled 50\nthrottled_usec 9"
    if version == 2:
        tree |= {
            "proc/self/cgroup": "0::/../inside",
            f"{GROUPS}/cgroup.controllers": "cpu memory",
            f"{GROUPS}/cpu.max": "250000 100000",
            f"{GROUPS}/cpu.stat": f"usage_usec 5\n{stat}",
            f"{GROUPS}/memory.max": str(2 * GIB),
            f"{GROUPS}/memory.current": str(2 * GIB - GIB // 2),
        }
    else:
        tree |= {
            "proc/self/cgroup": "4:memory:/docker/1f\n3:cpu,cpuacct:/docker/1f",
            f"{GROUPS}/cpu,cpuacct/cpu.cfs_quota_us": "-1",
            f"{GROUPS}/cpu/cpu.cfs_quota_us": "250000",
            f"{GROUPS}/cpu/cpu.cfs_period_us": "100000",
            f"{GROUPS}/cpu/cpu.stat": stat,
            f"{GROUPS}/memory/memory.limit_in_bytes": str(2 * GIB),
            f"{GROUPS}/memory/memory.usage_in_bytes": str(2 * GIB - GIB // 2),
        }
    machine = Machine(
        files=plant(tmp_path, tree),
        allowed=tuple(range(8)),
        threads=8,
        libc="glibc 2.36",
        memory=(64 * GIB, 40 * GIB),
        probe=replace(QUIET, stolen=0.03),
    )
    found = says(machine)
    assert found["quota"].status == "noisy"
    assert found["quota"].read == "2.5 processors in each 100 ms; used up in 25.0 % of periods"
    assert found["quota"].command == "taskset -c 6-7 benchbench run"
    assert found["threads"].read == "8 threads on 2 cores"
    assert found["threads"].command == "benchbench run --threads 2"
    assert found["memory"].status == "noisy"
    assert "0.5 GiB more" in found["memory"].read
    assert found["steal"].status == "noisy"
    assert found["steal"].read == "3.0 % now, 1.0 % since boot"
    assert found["steal"].mend.startswith("Cannot be mended here: ")
    assert found["governor"].status == "unknown"
    assert "host" in found["governor"].mend
    assert "on the host (this Docker container cannot):" in found["huge pages"].mend
    assert "QEMU" in found["virtual machine"].read
    pinned = says(replace(machine, allowed=(6, 7), threads=2))
    assert pinned["quota"].status == pinned["threads"].status == "good"


def test_less_than_a_processor_cannot_be_mended_inside(tmp_path):
    tree = cores(4) | {
        f"{GROUPS}/cgroup.controllers": "cpu",
        f"{GROUPS}/cpu.max": "50000 100000",
    }
    found = says(Machine(files=plant(tmp_path, tree), allowed=(0, 1, 2, 3)))
    assert found["quota"].status == "noisy"
    assert not found["quota"].command
    assert found["quota"].mend.startswith("Cannot be mended here: ")


def test_the_tightest_of_nested_groups_counts(tmp_path):
    files = plant(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a/b",
            f"{GROUPS}/cgroup.controllers": "cpu memory",
            f"{GROUPS}/a/cpu.max": "100000 100000",
            f"{GROUPS}/a/cpu.stat": "nr_periods 4\nnr_throttled 1",
            f"{GROUPS}/a/b/cpu.max": "400000 100000",
            f"{GROUPS}/a/memory.max": "max",
            f"{GROUPS}/a/b/memory.max": "1000",
            f"{GROUPS}/a/b/memory.current": "400",
        },
    )
    found = limits(files)
    assert (found.quota, found.periods, found.throttled) == (1.0, 4, 1)
    assert (found.memory, found.memory_used) == (1000, 400)


def test_files_in_cache_are_no_shortage(tmp_path):
    tree = {
        f"{GROUPS}/cgroup.controllers": "memory",
        f"{GROUPS}/memory.max": str(4 * GIB),
        f"{GROUPS}/memory.current": str(4 * GIB - 4096),
    }
    machine = Machine(files=plant(tmp_path, tree))
    assert says(machine)["memory"].status == "noisy"
    plant(tmp_path, {f"{GROUPS}/memory.stat": f"anon 5\ninactive_file {3 * GIB}"})
    assert says(replace(machine))["memory"].status == "good"


def test_a_chips_sensors_are_taken_before_zones(tmp_path):
    tree = {
        "sys/class/thermal/thermal_zone0/type": "acpitz",
        "sys/class/thermal/thermal_zone0/temp": "17000",
        "sys/class/hwmon/hwmon0/name": "nvme",
        "sys/class/hwmon/hwmon0/temp1_input": "84000",
        "sys/class/hwmon/hwmon1/name": "k10temp",
        "sys/class/hwmon/hwmon1/temp1_input": "61000",
        "sys/class/hwmon/hwmon1/temp3_input": "55000",
    }
    machine = Machine(files=plant(tmp_path, tree))
    assert says(machine)["heat"].read == "61 C"
    plant(tmp_path, {"sys/class/hwmon/hwmon1/temp1_crit": "70000"})
    assert says(machine)["heat"].status == "noisy"


def test_where_nothing_can_be_read_nothing_is_noisy_and_nothing_is_claimed(tmp_path):
    diagnosis = diagnose(Machine(files=Files(tmp_path)))
    assert not diagnosis.of("noisy")
    # Only what needs no file: variables that are not set, one thread, no GPU.
    assert {one.name for one in diagnosis.of("good")} == {"threads", "variables", "gpu"}
    assert all(one.mend for one in diagnosis.of("unknown"))
    text = render_text(diagnosis)
    assert len(text.splitlines()) < 40
    # Findings that are alike share a line: clocks, heat, and what has no reason of its own.
    assert text.count("the kernel does not say") == 3


def test_macos_says_what_it_does_not_tell(tmp_path):
    sysctl = {"hw.nperflevels": "2", "hw.perflevel0.physicalcpu": "4", "hw.physicalcpu": "8"}
    machine = Machine(
        files=Files(tmp_path),
        system="macOS",
        sysctl=sysctl | {"kern.hv_vmm_present": "0"},
        allowed=tuple(range(8)),
        threads=8,
        plugged=True,
        load=1.2,
        memory=(16 * GIB, 8 * GIB),
        swap_used=0,
        probe=replace(QUIET, cores=(replace(QUIET.cores[0], cpu=-1),), together=None, stolen=None),
    )
    found = says(machine)
    assert found["governor"].mend == "Cannot be mended here: macOS sets the clocks itself."
    assert found["kinds of core"].read == "2 kinds of core, 4 of them fast"
    assert found["kinds of core"].command == "benchbench run --threads 4"
    assert "glibc" in found["allocator"].mend
    for name in ("quota", "virtual machine", "memory nodes", "huge pages", "steadiness", "power"):
        assert found[name].status == "good", found[name]
    saving = says(replace(machine, sysctl={"lowpowermode": "1"}))["power"]
    assert (saving.status, saving.command) == ("noisy", "sudo pmset -a lowpowermode 0")
    assert "processor -1" not in render_text(diagnose(machine))


def test_processors_that_halve_each_other_are_taken_for_one_core(tmp_path):
    halved = replace(QUIET, together=0.6)
    machine = Machine(files=plant(tmp_path, cores(4)), allowed=(0, 1, 2, 3), probe=halved)
    assert says(machine)["two at once"].command == "benchbench run --threads 2"
    disturbed = replace(machine, probe=replace(halved, others=1.0))
    assert not says(disturbed)["two at once"].command


def test_few_others_matter_less_on_many_processors(tmp_path):
    machine = Machine(
        files=plant(tmp_path, cores(64)),
        allowed=tuple(range(64)),
        threads=8,
        probe=replace(QUIET, others=0.9),
    )
    assert says(machine)["neighbours"].status == says(machine)["threads"].status == "good"
    all_of_it = says(replace(machine, threads=64))["threads"]
    assert all_of_it.command == "benchbench run --threads 63"
    loud = says(replace(machine, probe=replace(QUIET, others=1.5)))
    assert loud["neighbours"].status == "noisy"


def test_the_load_stands_in_where_no_work_was_done(tmp_path):
    machine = Machine(files=Files(tmp_path), load=1.0)
    assert says(machine)["neighbours"].status == "good"
    assert says(replace(machine, load=2.5))["neighbours"].status == "noisy"


def test_memory_nodes_and_the_other_half_of_a_core(tmp_path):
    tree = cores(4, 2) | {
        "sys/devices/system/node/node0/cpulist": "0-1,4-5",
        "sys/devices/system/node/node1/cpulist": "2-3,6-7",
    }
    machine = Machine(files=plant(tmp_path, tree), allowed=(0, 1, 2, 3), threads=4)
    found = says(machine)
    assert found["memory nodes"].command == "taskset -c 0-1 benchbench run"
    assert found["hyperthreads"].status == "good"
    assert "4-7" in found["hyperthreads"].read
    busy = says(replace(machine, probe=replace(QUIET, others=0.5)))["hyperthreads"]
    assert busy.command == f"echo off | sudo tee /{CPU}/smt/control"
    one = says(replace(machine, allowed=(0,), threads=1))
    assert one["processors"].status == "noisy"
    assert one["processors"].command == "taskset -c 0-7 benchbench run"
    groups = {"proc/self/cgroup": "0::/box", f"{GROUPS}/cgroup.controllers": "cpuset cpu"}
    plant(tmp_path, groups | {f"{GROUPS}/box/cpuset.cpus.effective": "0-1"})
    some = says(replace(machine, allowed=(0,), threads=1))["processors"]
    assert some.command == "taskset -c 0-1 benchbench run"
    plant(tmp_path, {f"{GROUPS}/box/cpuset.cpus.effective": "0"})
    none = says(replace(machine, allowed=(0,), threads=1))["processors"]
    assert (none.read, none.command) == ("1 of 8: processor 0", "")
    assert none.mend.startswith("Cannot be mended here: ")


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(2, 6),
    threads=st.integers(1, 2),
    weak=st.integers(0, 3),
    halves=st.booleans(),
    quota=st.one_of(st.none(), st.floats(1, 20)),
)
def test_whoever_follows_the_advice_is_told_so(count, threads, weak, halves, quota):
    """The one command that pins ends every finding that gives it."""
    with tempfile.TemporaryDirectory() as folder:
        last = count * threads + weak - 1
        tree = cores(count, threads) | {f"{CPU}/online": f"0-{last}"}
        for cpu in range(count * threads, last + 1):
            tree[f"{CPU}/cpu{cpu}/topology/thread_siblings_list"] = str(cpu)
        for cpu in range(last + 1):
            tree[f"{CPU}/cpu{cpu}/cpu_capacity"] = "1024" if cpu < count * threads else "512"
        split = count // 2 if halves else count
        nodes = [[c for c in range(last + 1) if (c % count < split) == side] for side in (1, 0)]
        for number, node in enumerate(node for node in nodes if node):
            tree[f"sys/devices/system/node/node{number}/cpulist"] = listed(node)
        if quota is not None:
            tree[f"{GROUPS}/cgroup.controllers"] = "cpu"
            tree[f"{GROUPS}/cpu.max"] = f"{int(quota * 100000)} 100000"
        machine = Machine(
            files=plant(Path(folder), tree), allowed=tuple(range(last + 1)), probe=QUIET
        )
        pinning = ("hyperthreads", "kinds of core", "memory nodes", "quota")
        before = says(machine)
        commands = {before[name].command for name in pinning} - {""}
        assert commands <= {machine.pinned}
        after = replace(machine, allowed=machine.best)
        found = says(replace(after, threads=after.usable))
        assert not [found[name] for name in (*pinning, "threads") if found[name].status == "noisy"]
        assert machine.best == after.best
        # And it gives nothing away: each allowed core of the best kind and node is used.
        if quota is None and not halves:
            assert len(machine.best) == count


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"together": 0.6}, "two at once"),
        ({"cores": (Core(cpu=3, middle=1e-3, jitter=0.2, share=1.0),)}, "steadiness"),
        ({"cores": (Core(cpu=3, middle=1e-3, jitter=0.0, share=0.5),)}, "steadiness"),
        (
            {
                "cores": tuple(
                    Core(cpu=n, middle=t, jitter=0, share=1) for n, t in enumerate((1, 2))
                )
            },
            "steadiness",
        ),
        ({"copying": Core(cpu=0, middle=5e-3, jitter=0.3, share=1.0)}, "memory speed"),
        ({"swapped": 5}, "swap"),
        ({"hot": 1}, "heat"),
        ({"others": 0.5}, "neighbours"),
        ({"reading": 2e-6}, "clock"),
        ({"stolen": 0.2}, "steal"),
    ],
)
def test_what_the_work_shows_is_noisy(tmp_path, change, name):
    machine = Machine(files=plant(tmp_path, cores(2)), allowed=(0, 1), probe=QUIET)
    assert says(machine)[name].status != "noisy"
    assert says(replace(machine, probe=replace(QUIET, **change)))[name].status == "noisy"


@pytest.mark.parametrize(
    ("variables", "name", "command"),
    [
        ({"MALLOC_TRIM_THRESHOLD_": "131072"}, "allocator", "unset MALLOC_TRIM_THRESHOLD_"),
        ({"GLIBC_TUNABLES": "glibc.malloc.check=1"}, "allocator", "unset GLIBC_TUNABLES"),
        ({"MALLOC_PERTURB_": "7"}, "variables", "unset MALLOC_PERTURB_"),
        ({"CUDA_LAUNCH_BLOCKING": "1"}, "variables", "unset CUDA_LAUNCH_BLOCKING"),
    ],
)
def test_variables_that_change_what_is_timed(tmp_path, variables, name, command):
    machine = Machine(files=Files(tmp_path), libc="glibc 2.36")
    assert says(machine)[name].status == "good"
    found = says(replace(machine, variables=variables))[name]
    assert (found.status, found.command) == ("noisy", command)
    assert says(replace(machine, variables={"CUDA_LAUNCH_BLOCKING": "0"}))[name].status == "good"


def test_another_allocator_is_named(tmp_path):
    machine = Machine(files=Files(tmp_path), variables={"LD_PRELOAD": "/usr/lib/libjemalloc.so.2"})
    assert says(machine)["allocator"].read.startswith("jemalloc")
    assert says(replace(machine, variables={}))["allocator"].status == "unknown"


def test_addresses_that_are_not_random(tmp_path):
    machine = Machine(files=plant(tmp_path, {"proc/sys/kernel/randomize_va_space": "0"}))
    assert says(machine)["random addresses"].command == "sudo sysctl kernel.randomize_va_space=2"
    plant(
        tmp_path,
        {"proc/sys/kernel/randomize_va_space": "2", "proc/self/personality": "00040000"},
    )
    assert says(machine)["random addresses"].status == "noisy"
    plant(tmp_path, {"proc/self/personality": "00000000"})
    assert says(machine)["random addresses"].status == "good"


def test_lists_of_processors():
    assert processors("0-2,8\n") == (0, 1, 2, 8)
    assert processors("none") == ()
    assert listed([8, 1, 0, 2]) == "0-2,8"
