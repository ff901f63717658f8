"""The kernels' benchmark: figures and goals from runs whose figures are known."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic import measured, result, run

from benchbench import native
from benchbench.catalog import Description, describe
from benchbench.contract import Settings, Work, format_value
from benchbench.plugins import load
from benchbench.records import to_json

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import cpu_kernels  # noqa: E402
import kernel_families  # noqa: E402
import kernel_goals  # noqa: E402
import kernel_lines  # noqa: E402

FAMILIES = kernel_families.FAMILIES
ELEMENTWISE = FAMILIES[0]
FACTORS = {"eager": 8.0, "compiled": 5.0, "fused": 1.0, "roof:copy": 0.95}


def tanh_run(factors, *, shape=(8192, 4096), threads=2, **fields):
    params = {
        "shape": shape,
        "dtype": "float32",
        "direction": "forward",
        "device": "cpu",
    }
    rows = measured(factors, workload="activations/tanh", params=params, base=1e-3, **fields)
    return run(rows, settings=to_json(Settings(threads=threads)))


def only(found):
    (line,) = found
    return line


def test_figures_of_a_row():
    line = only(kernel_lines.lines(tanh_run(FACTORS), ELEMENTWISE))
    assert (line.op, line.direction, line.size, line.threads) == ("tanh", "forward", "beyond", 2)
    assert line.floor == pytest.approx(1 / 0.95, rel=0.02)
    assert line.eager == pytest.approx(8, rel=0.02)
    assert line.compiled == pytest.approx(5, rel=0.02)
    assert line.error == pytest.approx(1e-7) and line.eager_error == pytest.approx(8e-7)
    assert line.met is True
    assert "(8)" in line.text() and line.text().endswith("yes")


@pytest.mark.parametrize(
    "slower", [{"roof:copy": 0.5}, {"eager": 4.0}, {"compiled": 3.0}], ids=lambda f: next(iter(f))
)
def test_each_part_of_a_goal_counts(slower):
    found = tanh_run({**FACTORS, **slower}, signals={"minor_faults": 321.0, "system": 0.4})
    line = only(kernel_lines.lines(found, ELEMENTWISE))
    assert line.met is False
    assert "NO" in line.text()
    assert "321 page faults a call" in line.why and "40 % in the system" in line.why


def test_one_thread_has_no_goal_and_what_did_not_run_says_why():
    line = only(kernel_lines.lines(tanh_run(FACTORS, threads=1), ELEMENTWISE))
    assert line.goal is None and line.met is None
    rows = [r for r in tanh_run(FACTORS).results if r.contender not in ("fused", "compiled")]
    wrong = [
        result(
            "fused",
            process,
            workload="activations/tanh",
            params=rows[0].params,
            status="wrong",
            reason="error 1e-3 exceeds 1e-6",
        )
        for process in range(6)
    ]
    found = run([*rows, *wrong], settings=to_json(Settings(threads=2)))
    line = only(kernel_lines.lines(found, ELEMENTWISE))
    assert line.met is False
    assert "wrong: error 1e-3 exceeds 1e-6" in line.text()


def test_what_was_not_measured_does_not_meet_a_goal():
    line = only(kernel_lines.lines(tanh_run({"eager": 8.0, "fused": 1.0}), ELEMENTWISE))
    assert line.floor is None and line.compiled is None
    assert line.met is False


def test_a_peer_that_is_wrong_has_no_speed_to_reach():
    rows = [r for r in tanh_run(FACTORS).results if r.contender != "compiled"]

    def with_compiled(status):
        lost = [
            result(
                "compiled",
                process,
                workload="activations/tanh",
                params=rows[0].params,
                status=status,
                reason="error 1e-3",
            )
            for process in range(6)
        ]
        found = run([*rows, *lost], settings=to_json(Settings(threads=2)))
        return only(kernel_lines.lines(found, ELEMENTWISE))

    wrong, failed = with_compiled("wrong"), with_compiled("failed")
    assert (wrong.met, failed.met) == (True, False)
    assert wrong.why == "compiled is wrong: error 1e-3"
    assert failed.why.startswith("compiled is failed: error 1e-3")


def test_avx2_has_an_allowance_for_exponentials():
    tanh, norm = (
        ("tanh", "forward", "beyond", "float32"),
        ("layer_norm", "forward", "beyond", "float32"),
    )
    assert kernel_goals.of(tanh, "avx2").floor == pytest.approx(1.6 * 1.1)
    assert kernel_goals.of(tanh, "avx2").eager == kernel_goals.of(tanh).eager == 8
    assert kernel_goals.of(norm, "avx2") == kernel_goals.of(norm) == kernel_goals.GOALS[norm]
    assert kernel_goals.of(("relu", "forward", "beyond", "float32"), "avx2") is None
    slow = tanh_run({**FACTORS, "roof:copy": 0.6})
    halves = [only(kernel_lines.lines(slow, ELEMENTWISE, isa)).met for isa in ("avx512", "avx2")]
    assert halves == [False, True]
    listed = {task for family in FAMILIES for task in family.tasks}
    assert not kernel_goals.EXPONENTIAL - listed


def test_small_calls_show_what_the_dispatcher_costs():
    factors = {"eager": 1.1, "compiled": 9.0, "fused": 1.0, "fused-direct": 0.5}
    found = list(
        kernel_lines.lines(tanh_run(factors, shape=(1, 16), work=Work(bytes=128.0)), ELEMENTWISE)
    )
    assert [line.op for line in found] == ["tanh", "tanh (direct)"]
    assert found[1].eager == pytest.approx(2.2, rel=0.02)
    assert [line.met for line in found] == [True, None]
    slow = tanh_run({**factors, "eager": 0.8}, shape=(1, 16), work=Work(bytes=128.0), threads=1)
    assert [line.met for line in kernel_lines.lines(slow, ELEMENTWISE)] == [False, None]
    big = tanh_run({**FACTORS, "fused-direct": 1.0})
    assert only(kernel_lines.lines(big, ELEMENTWISE)).op == "tanh"


def test_a_chain_must_not_cost_more_than_eagers():
    alone, chain = kernel_goals.of_a_call("tanh"), kernel_goals.of_a_call("swiglu")
    figures = {"floor": 9.0, "compiled": None}
    assert alone.met(eager=0.84, **figures) and not alone.met(eager=0.82, **figures)
    assert chain.met(eager=1.01, **figures) and not chain.met(eager=0.99, **figures)
    listed = {task for family in FAMILIES for task in family.tasks}
    assert not kernel_goals.CHAINS - listed


def test_goals_name_rows_that_are_measured():
    ops = set()
    for family in FAMILIES:
        for task in family.tasks:
            values = {axis: texts.split(",") for axis, texts in family.axes}
            for layout in values.get("layout", [""]):
                for mode in values.get("mode", [""]):
                    ops.add(" ".join(part for part in (task, layout, mode) if part))
    for op, direction, size, dtype in kernel_goals.GOALS:
        assert op in ops
        assert direction in kernel_families.DIRECTIONS
        assert size in kernel_families.SIZES
        assert dtype in (kernel_goals.F32, kernel_goals.BF16)


def test_every_kernel_is_in_a_family():
    """Workloads that borrow another's kernel are not listed; each kernel's own one is."""
    from benchbench_plugins import (
        _activation_tasks,
        _batch_norm,
        _group_norm,
        activations,
        normalizations,
    )

    own = {t.workload for t in (*_activation_tasks.TASKS, *normalizations.TASKS) if t.fused}
    own |= {f"normalizations/{name}" for name in _batch_norm.FUSIONS}
    own |= {f"normalizations/{name}" for name, *_ in _group_norm.TASKS}
    listed = {f"{family.kind}/{task}" for family in FAMILIES for task in family.tasks}
    assert listed == own
    kernels = {
        implementation.workload
        for plugin in (activations, normalizations)
        for implementation in plugin.benchbench_implementations()
        if implementation.name == "fused"
    }
    assert listed <= kernels
    for family in FAMILIES:
        assert format_value(family.beyond) in family.shapes(kernel_families.SIZES)


@pytest.fixture(scope="module")
def description():
    return Description.from_json(describe(load(cpu_kernels.PLUGINS)))


def test_what_it_asks_for_can_be_planned(description):
    asked = cpu_kernels.parse(["--dtypes", "float32", "bfloat16"])
    for family in FAMILIES:
        selection = cpu_kernels.select(asked, family)
        planned = cpu_kernels.chosen(asked, family, description)
        points = math.prod(len(values.split(",")) for values in selection.axes.values())
        assert len(planned) == points * len(selection.patterns)
        assert all("fused" in case.contenders for case in planned)
    one = cpu_kernels.parse(["gelu", "--sizes", "cache", "--dtypes", "float32"])
    chosen = [s for family in FAMILIES if (s := cpu_kernels.select(one, family))]
    assert [s.patterns for s in chosen] == [["activations/gelu"]]
    assert chosen[0].axes["shape"] == "256x1024"
    assert chosen[0].contenders == ["compiled", "fused"]
    assert not cpu_kernels.chosen(one, FAMILIES[-1], description)


def test_only_what_has_a_goal(description):
    asked = cpu_kernels.parse(["--goals"])
    assert (asked.threads, asked.sizes) == ([2], ["beyond", "cache"])
    assert "tanh" in asked.ops and "batch_norm" in asked.ops and "mish" not in asked.ops
    assert cpu_kernels.parse(["--goals", "tanh"]).ops == ["tanh"]
    found = set()
    for family in FAMILIES:
        sizes = family.shapes(kernel_families.SIZES)
        for planned in cpu_kernels.chosen(asked, family, description):
            found.add(kernel_families.key_of(planned.case.workload, planned.case.params, sizes))
    assert found == set(kernel_goals.GOALS)


def test_mistyped_ops_are_refused(capsys):
    with pytest.raises(SystemExit):
        cpu_kernels.parse(["tahn"])
    assert "tahn" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_table(tmp_path):
    target = tmp_path / "table.json"
    command = [sys.executable, BENCHMARKS / "cpu_kernels.py", "silu", "-t", "1"]
    command += ["--sizes", "cache", "--dtypes", "float32", "--directions", "forward"]
    command += ["--processes", "1", "--budget", "0.02", "--write", target]
    built = native.load().build_info()
    narrower = built["instruction_set"] == "avx512"  # compiled code for it may be cached by now
    command += ["--isa", "avx2"] if narrower else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    content = json.loads(target.read_text())
    assert len(content["machine"]) == 3
    used = "avx2" if narrower else built["instruction_set"]
    assert content["machine"][2].endswith(f"kernels for {used}")
    assert [line["op"] for line in content["lines"]] == ["silu"]
    for line in content["lines"]:
        assert line["status"] == "ok"
        assert line["floor"] > 0 and line["eager"] > 0 and line["compiled"] > 0
    assert "goals are met" in done.stdout
