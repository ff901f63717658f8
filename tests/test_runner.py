"""One case in one process: what the runner does with honest and less honest contenders."""

import ctypes
import os
from itertools import groupby

import pytest
import torch

from benchbench import Case, Evidence, Implementation, Inputs, Settings, Tolerance, Work, Workload
from benchbench.fingerprint import Shared
from benchbench.runner import Runner

BRIEF = Settings(budget=0.0, min_passes=2, sample_seconds=0.0, warmup=0.0, roof=False)


def make(params, seed):
    return Inputs({"x": torch.randn(params["n"], generator=torch.Generator().manual_seed(seed))})


def workload(**changes):
    fields = {
        "name": "t/double",
        "make": make,
        "baseline": "base",
        "axes": {"n": (50,)},
        "reference": lambda inputs: inputs.double().x * 2,
        **changes,
    }
    return Workload(**fields)


def contender(name, build, **fields):
    return Implementation(workload="t/double", name=name, build=build, **fields)


BASE = contender("base", lambda inputs: lambda: inputs.x * 2)
OTHER = contender("other", lambda inputs: lambda: inputs.x + inputs.x)


def run(*implementations, of=None, settings=BRIEF, process=0, seed=0, n=50, stage=None):
    results = Runner().benchbench_run_case(
        case=Case(workload="t/double", params={"n": n}, seed=seed),
        workload=of or workload(),
        implementations=implementations,
        settings=settings,
        process=process,
        stage=stage or (lambda contender, stage: None),
    )
    return {result.contender: result for result in results}


def test_honest_contenders_get_aligned_samples_errors_and_signals():
    rows = run(BASE, OTHER)
    for row in rows.values():
        assert (row.status, row.reason) == ("ok", "")
        assert len(row.samples) == 2 and all(sample > 0 for sample in row.samples)
        assert row.errors["max"] == 0.0
        assert row.signals["audited"] == 1 and row.signals["output_bytes"] == 200
        assert {"minor_faults", "context_switches", "system", "steal", "build", "check"} <= set(
            row.signals
        )
        assert (row.timer, row.unit, row.baseline) == ("wall", "s", "base")
    # sqrt(eps) for the baseline, its own error and a rounding unit for the others.
    assert rows["base"].errors["allowed"] == pytest.approx(2**-11.5)
    assert rows["other"].errors["allowed"] == pytest.approx(2**-23)


@pytest.mark.parametrize(
    "errors, words",
    [
        ((0.1, 0.0), "the next call's output is right, so its results differ from call to call"),
        ((0.1, 0.2), "the next call gave another wrong output"),
        ((0.1, 0.1), ""),
    ],
)
def test_a_wrong_output_is_asked_for_again_to_say_whether_it_stays_wrong(errors, words):
    def build(inputs):
        left = list(errors)
        return lambda: inputs.x * 2 + (left.pop(0) if left else 0.0)

    row = run(BASE, contender("other", build))["other"]
    assert row.status == "wrong"
    reason, _, more = row.reason.partition("; ")
    assert reason.startswith("the largest relative error of its float32 output is ")
    assert more == words


def test_a_wrong_contender_that_then_raises_is_still_wrong():
    def build(inputs):
        left = [inputs.x * 2 + 0.1]
        return lambda: left.pop()

    row = run(BASE, contender("other", build))["other"]
    assert row.status == "wrong"
    assert row.reason.startswith("the largest relative error of its float32 output is ")


def test_all_contenders_of_a_case_read_the_same_buffers():
    seen = set()

    def build(inputs):
        seen.add(inputs.x.data_ptr())
        return lambda: inputs.x * 2

    run(*(contender(name, build) for name in ("base", "b", "c")))
    assert len(seen) == 1


def test_each_step_is_announced_before_it_is_taken():
    log = []

    def build(inputs):
        log.append("building")
        return lambda: inputs.x * 2

    run(contender("base", build), stage=lambda name, stage: log.append((name, stage)))
    assert log[:4] == [("base", "build"), ("", "make"), ("base", "build"), "building"]
    stages = [stage for stage, _ in groupby(entry[1] for entry in log if entry[0] == "base")]
    assert stages[:4] == ["build", "check", "warm-up", "time"]
    assert stages.count("audit") == 1
    assert set(stages[4:]) <= {"time", "audit"}


def test_the_order_of_building_is_random_by_process_and_repeatable():
    def orders(process):
        order = []

        def builder(name):
            return contender(name, lambda inputs: order.append(name) or (lambda: inputs.x * 2))

        run(*map(builder, ["base", *"abcdefgh"]), process=process)
        return tuple(order)

    assert orders(0) == orders(0)
    assert len({orders(process) for process in range(4)}) > 1


def test_inputs_follow_from_the_seed():
    def value(seed):
        seen = []
        run(contender("base", lambda i: seen.append(float(i.x[0])) or (lambda: i.x * 2)), seed=seed)
        return seen[0]

    assert value(1) == value(1) != value(2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"make": lambda params, seed: 1 // 0}, "workload's make raised ZeroDivisionError"),
        ({"reference": lambda inputs: inputs.y}, "workload's reference raised AttributeError"),
        ({"reference": lambda i: i.x.add_(1)}, "workload's reference changed the input 'x'"),
        ({"work": lambda params: params["m"]}, "workload's work raised KeyError: 'm'"),
    ],
)
def test_a_broken_workload_fails_all_with_its_reason(changes, words):
    rows = run(BASE, OTHER, of=workload(**changes))
    assert {row.status for row in rows.values()} == {"failed"}
    assert all(words in row.reason and row.stage == "make" for row in rows.values())


@pytest.mark.parametrize("broken", [lambda inputs: None, lambda inputs: lambda: inputs.x * 3])
def test_without_its_baseline_the_others_are_timed_under_the_absolute_rule(broken):
    rows = run(contender("base", broken), OTHER)
    assert rows["base"].status in ("failed", "wrong")
    assert rows["other"].status == "ok" and len(rows["other"].samples) == 2
    assert rows["other"].errors["allowed"] == pytest.approx(2**-11.5)


def test_availability_is_asked_for_the_point():
    def unavailable(params):
        return "too big" if params["n"] > 10 else None

    row = run(BASE, contender("a", lambda i: lambda: i.x * 2, unavailable=unavailable))["a"]
    assert (row.status, row.reason, row.samples) == ("skipped", "too big", ())


def test_nobody_available_means_no_inputs_are_made():
    refuse = contender("base", BASE.build, unavailable=lambda params: "no")
    rows = run(refuse, of=workload(make=lambda params, seed: 1 // 0))
    assert rows["base"].status == "skipped"


def test_timed_outputs_and_calls_reach_the_workloads_check():
    seen = []

    def check(evidence: Evidence):
        seen.append((evidence.timed, evidence.calls, float(evidence.reference[0])))

    run(BASE, of=workload(check=check))
    assert [timed for timed, _, _ in seen] == [False, True]
    assert seen[0][1] == 1 and seen[1][1] > 1


@pytest.mark.parametrize(
    ("check", "status", "words"),
    [
        (lambda evidence: "biased by 3 sigma", "wrong", "biased by 3 sigma"),
        (lambda evidence: 1 // 0, "failed", "the workload's check raised ZeroDivisionError"),
        (lambda e: "later" if e.timed else None, "wrong", "later"),
    ],
)
def test_the_workloads_own_check_decides(check, status, words):
    row = run(BASE, of=workload(check=check))["base"]
    assert row.status == status and words in row.reason


def test_a_tournament_is_judged_by_its_check_alone():
    given = []
    rows = run(
        BASE,
        contender("other", lambda inputs: lambda: {"loss": 3.0}),
        of=workload(
            tolerance=None,
            check=lambda evidence: given.append(evidence.reference is not None),
            metrics=lambda output, reference: {"parts": len(output)},
        ),
    )
    assert {row.status for row in rows.values()} == {"ok"} and all(given)
    assert rows["other"].metrics == {"parts": 1.0}


def test_a_stateful_contender_may_reuse_its_buffer_and_is_compared_after_check_calls():
    def build(inputs):
        state = inputs.x.clone()
        return lambda: state.mul_(2)

    of = workload(
        stateful=True, check_calls=3, reference=lambda i: i.double().x * 8, tolerance=Tolerance()
    )
    assert run(contender("base", build), of=of)["base"].status == "ok"
    wrong = run(contender("base", build), of=workload(stateful=True, check_calls=2))["base"]
    assert wrong.status == "wrong"


def test_gradients_that_are_the_cotangent_itself_are_right_where_the_baselines_are():
    def make_backward(params, seed):
        return Inputs({"x": torch.randn(5)}, wrt=["x"], cotangents=[torch.ones(5)])

    def build(inputs):
        return inputs.thunk(lambda x: x + 1)

    def reference(inputs):
        return inputs.double().thunk(lambda x: x + 1)()

    rows = run(
        contender("base", build),
        contender("copy", lambda i: lambda: tuple(t.clone() for t in build(i)())),
        of=workload(make=make_backward, reference=reference),
    )
    assert {row.status for row in rows.values()} == {"ok"}


def write_raw(tensor):
    ctypes.memset(tensor.data_ptr(), 1, 4)


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_who_writes_to_the_inputs_is_named_and_nobody_else(small, seed, monkeypatch):
    monkeypatch.setattr(Shared, "SMALL", 1 << 20 if small else 0)

    def build(inputs):
        def call():
            output = inputs.x * 2
            write_raw(inputs.x)
            return output

        return call

    implementations = [BASE, OTHER, contender("writer", build), contender("late", OTHER.build)]
    rows = run(*implementations, process=seed)
    assert rows["writer"].status == "wrong"
    assert "it changed the shared input 'x'" in rows["writer"].reason
    assert {rows[name].status for name in ("base", "other", "late")} == {"ok"}


def test_inputs_that_cannot_be_made_again_end_the_case():
    def unrepeatable(params, seed):
        return Inputs({"x": torch.frombuffer(bytearray(os.urandom(200)), dtype=torch.int32)})

    writer = contender("writer", lambda i: lambda: i.x.add_(1) * 2)
    rows = run(BASE, writer, of=workload(make=unrepeatable))
    assert rows["base"].status == "failed"
    assert "cannot be restored: x does not come out the same" in rows["base"].reason


def test_global_state_is_put_back_for_the_next_contender():
    def build(inputs):
        def call():
            torch.set_grad_enabled(False)
            return inputs.x * 2

        return call

    rows = run(BASE, contender("rude", build), OTHER)
    assert rows["rude"].status == "wrong"
    assert "it changed the grad mode from True to False" in rows["rude"].reason
    assert torch.is_grad_enabled()
    assert rows["other"].status == "ok"


def test_contenders_draw_the_same_random_numbers():
    drawn = []

    def build(inputs):
        drawn.append(float(torch.rand(())))
        return lambda: inputs.x * 2

    run(*(contender(name, build) for name in ("base", "a", "b")))
    assert len(set(drawn)) == 1


def test_the_roof_is_timed_in_the_same_passes():
    of = workload(work=lambda params: Work(bytes=8 * params["n"]))
    settings = Settings(budget=0.0, sample_seconds=0.0, warmup=0.0)
    rows = run(BASE, of=of, settings=settings)
    roof = rows["roof:copy"]
    assert (roof.role, roof.status, roof.work) == ("roof", "ok", Work(bytes=400))
    assert len(roof.samples) == len(rows["base"].samples)
    assert "roof:copy" not in run(BASE, of=of)  # BRIEF has roof=False
    assert "roof:copy" not in run(BASE, settings=settings)  # no bytes are known


def test_a_timer_that_does_not_exist_fails_the_case_with_a_suggestion():
    row = run(BASE, settings=Settings(timer="wal"))["base"]
    assert row.status == "failed" and "Did you mean 'wall'?" in row.reason


def test_an_output_with_views_of_one_storage_is_one_result():
    of = workload(reference=lambda i: tuple((i.double().x * 2).split(25)))
    rows = run(contender("base", lambda i: lambda: (i.x * 2).split(25)), of=of)
    assert rows["base"].status == "ok"
    assert rows["base"].signals["output_bytes"] == 200
