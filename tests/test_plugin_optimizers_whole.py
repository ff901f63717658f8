"""Optimizers whose updates depend on whole tensors: Adafactor, Muon, SparseAdam, LBFGS."""

import optimizer_formulas as formulas
import pytest
import torch

import benchbench as bb
from benchbench_plugins import optimizers
from benchbench_plugins.optimizers import embedding, matrices, quasi_newton, step
from benchbench_plugins.optimizers.algorithms import PLAIN
from benchbench_plugins.optimizers.shapes import BLOCKS, parameter_list

CONTENDERS = {item.id: item for item in optimizers.benchbench_implementations()}
SHAPES = [(12, 12), (48, 12), (12, 48), (12, 12)]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def evidence_of(output, inputs, calls, reference=None):
    return bb.Evidence(output=output, inputs=inputs, params={}, calls=calls, reference=reference)


def available(workload, params):
    return {
        item.name: item
        for item in CONTENDERS.values()
        if item.workload == workload
        and item.name != "compiled"
        and (item.unavailable is None or item.unavailable(params) is None)
    }


MATRICES = [
    pytest.param(a, s, id=f"{a.name}-{s}")
    for a in (matrices.ADAFACTOR, matrices.MUON)
    for s in (PLAIN, *a.switches)
]


@pytest.fixture
def made(monkeypatch):
    def make(algorithm, switch=PLAIN):
        shapes = [*SHAPES, (7,)] if algorithm is matrices.ADAFACTOR else SHAPES
        monkeypatch.setattr(matrices, "parameter_list", lambda name: shapes)
        params = {"parameters": "small", "switch": switch, "device": "cpu"}
        return matrices.make(algorithm, params, 5)

    return make


def test_blocks_are_those_of_a_transformer():
    assert parameter_list("blocks-128x4")[:6] == [(128, 128)] * 4 + [(512, 128), (128, 512)]
    assert [len(parameter_list(name)) for name in BLOCKS] == [24, 12, 24]


@pytest.mark.parametrize(("algorithm", "switch"), MATRICES)
def test_the_reference_is_the_published_formula(algorithm, switch, made):
    inputs = made(algorithm, switch)
    formula = formulas.muon if algorithm is matrices.MUON else formulas.adafactor
    starts = [p.double() for p in inputs.parameters]
    turns = [[g.double() for g in gradients] for gradients in inputs.turns]
    wanted = formula(inputs.options, starts, turns, step.STEPS)
    found = matrices.reference(algorithm, inputs)
    for got, expected in zip(found, step.watched(wanted), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("algorithm", "switch"), MATRICES)
def test_every_way_equals_it_after_ten_steps(algorithm, switch, made):
    inputs = made(algorithm, switch)
    before = [g.clone() for gradients in inputs.turns for g in gradients]
    reference = matrices.reference(algorithm, inputs)
    found = available(algorithm.workload, {"switch": switch, "device": "cpu"})
    assert set(found) == (
        {"for-loop", "foreach"}
        if algorithm is matrices.ADAFACTOR
        else {"for-loop", "batched", "batched-float32"}
    )
    for name, item in found.items():
        thunk = item.build(inputs)
        for _ in range(step.STEPS):
            output = thunk()
        rough = algorithm is matrices.MUON and name != "batched-float32"
        for got, wanted in zip(output, reference, strict=True):
            torch.testing.assert_close(got.double(), wanted, rtol=0.0, atol=2e-3 if rough else 1e-6)
        assert matrices.check(algorithm, evidence_of(output, inputs, step.STEPS)) is None
        late = evidence_of(output, inputs, step.STEPS + 1)
        assert "not every call made the step" in matrices.check(algorithm, late)
    after = [g for gradients in inputs.turns for g in gradients]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(("algorithm", "switch"), [p for p in MATRICES if p.values[1] != PLAIN])
def test_a_switch_that_is_ignored_is_noticed(algorithm, switch, made):
    inputs = made(algorithm, switch)
    ignoring = bb.Inputs({**inputs, "options": algorithm.options(PLAIN)})
    thunk = matrices.thunk(algorithm, {}, ignoring)
    for _ in range(step.STEPS):
        output = thunk()
    assert matrices.check(algorithm, evidence_of(output, inputs, step.STEPS)) is not None


def test_audits_follow_another_tensor_each_time(made):
    inputs = made(matrices.ADAFACTOR)
    seen = {tuple(matrices.followed(inputs, calls)) for calls in range(1, 9)}
    assert seen == {(0, 1, 2, 4), (3, 1, 2, 4)}


def test_a_tensor_left_out_is_found_by_the_reference(made):
    inputs = made(matrices.ADAFACTOR)
    reference = matrices.reference(matrices.ADAFACTOR, inputs)
    unmoved = step.watched(inputs.parameters)
    output = [*reference[:-1], unmoved[-1].double()]
    assert not torch.allclose(output[-1], reference[-1], atol=1e-6)


def test_torchs_muon_and_ours_round_alike(made):
    # The same products in the same dtype: batching is no other algorithm.
    inputs = made(matrices.MUON)
    ours, theirs = (CONTENDERS[f"optimizers/muon-step:{n}"] for n in ("batched", "for-loop"))
    a, b = ours.build(inputs)(), theirs.build(inputs)()
    for got, wanted in zip(a, b, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0.0, atol=3e-4)


def test_work_of_muon_counts_its_products():
    workload = {w.name: w for w in matrices.workloads()}["optimizers/muon-step"]
    flops = workload.work({"parameters": "blocks-128x4", "switch": PLAIN}).flops
    n = 128
    square, long = 3 * 2 * n**3, 2 * 2 * n * n * 4 * n + 2 * n**3
    assert flops == 5 * 4 * (4 * square + 2 * long)


SPARSE = {"table": (500, 6), "batch": 40, "device": "cpu"}


@pytest.mark.parametrize("switch", [PLAIN, "maximize"])
def test_sparse_adam_equals_adam_on_the_rows_that_have_gradients(switch):
    inputs = embedding.make({**SPARSE, "switch": switch}, 2)
    table = inputs.table.double()
    mean, square = torch.zeros_like(table), torch.zeros_like(table)
    for k in range(1, 8):
        turn = "first" if k % 2 else "second"
        g = inputs[f"{turn}_gradient"].double() * (-1 if switch == "maximize" else 1)
        for row, gradient in zip(inputs[f"{turn}_rows"].tolist(), g, strict=True):
            mean[row] = 0.9 * mean[row] + 0.1 * gradient
            square[row] = 0.999 * square[row] + 0.001 * gradient**2
            size = 1e-3 * (1 - 0.999**k) ** 0.5 / (1 - 0.9**k)
            table[row] -= size * mean[row] / (square[row].sqrt() + 1e-8)
    torch.testing.assert_close(embedding.replay(inputs, 7), table[inputs.watched])


@pytest.mark.parametrize("switch", [PLAIN, "maximize"])
@pytest.mark.parametrize("name", ["torch", "by-rows"])
def test_both_sparse_ways_equal_float64_and_missed_steps_are_found(name, switch):
    inputs = embedding.make({**SPARSE, "switch": switch}, 2)
    before = {key: value.clone() for key, value in inputs.items() if torch.is_tensor(value)}
    thunk = CONTENDERS[f"optimizers/sparse-adam-step:{name}"].build(inputs)
    for _ in range(step.STEPS):
        output = thunk()
    torch.testing.assert_close(
        output.double(), embedding.replay(inputs, step.STEPS), rtol=1e-5, atol=1e-6
    )
    assert embedding.check(evidence_of(output, inputs, step.STEPS)) is None
    assert "not every call" in embedding.check(evidence_of(output, inputs, step.STEPS + 1))
    for _ in range(190):
        output = thunk()
    assert embedding.check(evidence_of(output, inputs, 200)) is None
    assert all(torch.equal(inputs[key], value) for key, value in before.items())


def test_dense_adam_is_not_sparse_adam():
    inputs = embedding.make({**SPARSE, "switch": PLAIN}, 2)
    table = inputs.table.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([table], lr=1e-3)
    for k in range(step.STEPS):
        turn = "second" if k % 2 else "first"
        table.grad = torch.zeros_like(table)
        table.grad[inputs[f"{turn}_rows"]] = inputs[f"{turn}_gradient"]
        optimizer.step()
    output = table.detach()[inputs.watched]
    assert embedding.check(evidence_of(output, inputs, step.STEPS)) is not None


@pytest.fixture
def small_problem(monkeypatch):
    monkeypatch.setattr(quasi_newton, "COUNT", 64)
    monkeypatch.setattr(quasi_newton, "WIDTH", 1 / 64)


PROBLEMS = ["logistic-64x10", "logcosh-1M"]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_lbfgs_equals_the_textbook(problem, small_problem):
    inputs = quasi_newton.make({"problem": problem, "switch": PLAIN, "device": "cpu"}, 1)
    double = inputs.double()
    wanted = formulas.lbfgs(quasi_newton.loss_of(double), double.start, quasi_newton.ITERATIONS)
    torch.testing.assert_close(quasi_newton.reference(inputs), wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("switch", [PLAIN, "strong-wolfe"])
def test_lbfgs_contenders_reach_the_same_place(problem, switch, small_problem):
    params = {"problem": problem, "switch": switch, "device": "cpu"}
    inputs = quasi_newton.make(params, 1)
    reference = quasi_newton.reference(inputs)
    found = available("optimizers/lbfgs", params)
    assert set(found) == ({"torch", "vector-free"} if switch == PLAIN else {"torch"})
    scale = reference.square().mean().sqrt()
    for item in found.values():
        thunk = item.build(inputs)
        first, second = thunk(), thunk()
        assert torch.equal(first, second)
        assert (first.double() - reference).abs().max() < 2e-3 * scale
        assert quasi_newton.check(evidence_of(first, inputs, 1, reference)) is None


def test_an_lbfgs_that_stops_early_is_found(small_problem):
    params = {"problem": "logistic-64x10", "switch": PLAIN, "device": "cpu"}
    inputs = quasi_newton.make(params, 1)
    reference = quasi_newton.reference(inputs)
    lazy = bb.Inputs({**inputs, "options": {**inputs.options, "max_iter": 4}})
    output = quasi_newton.torch_thunk(lazy)()
    assert "the loss fell" in quasi_newton.check(evidence_of(output, inputs, 1, reference))


def test_every_optimizer_of_torch_has_a_workload():
    names = {
        name
        for name, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
    } - {"Optimizer"}
    made = {a.make.__name__ for a in (*step.ALGORITHMS, matrices.ADAFACTOR, matrices.MUON)}
    made |= {embedding.SPARSE_ADAM.make.__name__, quasi_newton.LBFGS.make.__name__}
    assert made == names
    assert len(made) == 15
