"""Time to a target: racers reach it and repeat themselves, misses are infinite, ways are alike."""

import math
import sys
from dataclasses import replace

import pytest
import torch

import benchbench as bb
from benchbench_plugins.optimizers import races, target, tune, ways
from benchbench_plugins.optimizers.target import RACERS

CONTENDERS = {item.id: item for item in (*target.implementations(), *ways.implementations())}
BY_NAME = {race.name: race for race in races.RACES}
LOGISTIC = BY_NAME["digits-logistic"]
SGD = next(racer for racer in RACERS if racer.name == "sgd")
ENTRIES = [
    pytest.param(race, racer, id=f"{race.name}-{racer.name}")
    for race in races.RACES
    for racer in RACERS
    if race.name in racer.rates
]


def evidence_of(output, inputs, reference=None):
    return bb.Evidence(output=output, inputs=inputs, params={}, calls=1, reference=reference)


def test_every_race_has_six_racers_or_more_and_the_targets_that_were_asked_for():
    for race in races.RACES:
        assert sum(race.name in racer.rates for racer in RACERS) >= 6
    assert [race.target for race in races.RACES] == [0.95, 0.97, 0.985, 0.99]


@pytest.mark.parametrize(("race", "racer"), ENTRIES)
def test_every_racer_reaches_the_target_and_repeats_itself(race, racer):
    inputs = races.make(race, {"seeds": 1}, 0)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    thunk = CONTENDERS[f"{race.workload}:{racer.name}"].build(inputs)
    output, again = thunk(), thunk()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(output["steps"], again["steps"])
    assert torch.equal(output["weights"], again["weights"])
    assert (output["score"] >= race.target).all()
    assert races.check(race, evidence_of(output, inputs)) is None
    metrics = races.metrics(race, output)
    assert metrics["hits"] == 1.0
    assert metrics["steps"] == float(output["steps"][0])
    assert metrics["seconds"] == float(output["seconds"][0]) > 0


def test_seeds_differ_and_come_from_the_case():
    inputs = races.make(LOGISTIC, {"seeds": 2}, 5)
    assert inputs.seeds == (5000, 5001)
    weights = races.thunk(LOGISTIC, SGD.maker(LOGISTIC), inputs)()["weights"]
    assert weights.shape == (2, 650)
    assert not torch.equal(weights[0], weights[1])


def test_steps_are_evaluations_of_the_gradient():
    race = BY_NAME["diabetes-linear"]
    inputs = races.make(race, {"seeds": 1}, 0)
    once = races.thunk(race, lambda p: torch.optim.SGD(p, lr=0.0), inputs)
    assert once()["steps"].tolist() == [race.epochs]
    short = replace(race, epochs=1, target=2.0)
    many = races.thunk(short, lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=7), inputs)
    assert many()["steps"].tolist() == [7]


def test_a_miss_is_infinite_and_most_misses_are_wrong():
    inputs = races.make(LOGISTIC, {"seeds": 3}, 0)
    frozen = races.thunk(LOGISTIC, lambda p: torch.optim.SGD(p, lr=0.0), inputs)()
    reason = races.check(LOGISTIC, evidence_of(frozen, inputs))
    assert "missed 95.0% in 3 of 3 runs" in reason
    metrics = races.metrics(LOGISTIC, frozen)
    assert metrics["hits"] == 0.0
    assert metrics["steps"] == metrics["seconds"] == math.inf


@pytest.mark.parametrize(("missed", "median"), [(0, 20.0), (1, 30.0), (2, math.inf)])
def test_medians_count_misses_as_infinity(missed, median):
    # The first ones miss: however few steps they made, they rank last.
    output = {
        "score": torch.tensor([0.0] * missed + [1.0] * (3 - missed), dtype=torch.float64),
        "steps": torch.tensor([10, 20, 30]),
        "seconds": torch.ones(3, dtype=torch.float64),
    }
    assert races.metrics(LOGISTIC, output)["steps"] == median


def test_a_score_that_the_weights_do_not_have_is_found():
    inputs = races.make(LOGISTIC, {"seeds": 2}, 0)
    output = races.thunk(LOGISTIC, SGD.maker(LOGISTIC), inputs)()
    better = {**output, "score": output["score"] + 0.02}
    assert "scores 9" in races.check(LOGISTIC, evidence_of(better, inputs))
    fewer = {name: value[:1] for name, value in output.items()}
    assert "1 models for 2 seeds" in races.check(LOGISTIC, evidence_of(fewer, inputs))


def test_the_split_is_stratified_and_fixed():
    data = races.digits()
    assert data["train_x"].shape == (1437, 64) and data["test_x"].shape == (360, 64)
    labels = torch.cat([data["train_y"], data["test_y"]])
    share = torch.bincount(data["test_y"]).double() / torch.bincount(labels)
    assert (share - 360 / 1797).abs().max() < 0.005


def test_the_closed_form_is_scikit_learns():
    from sklearn.linear_model import LinearRegression

    data = races.diabetes()
    fitted = LinearRegression().fit(data["train_x"].double(), data["train_y"].double())
    torch.testing.assert_close(
        data["best"].double(), torch.tensor(fitted.coef_), rtol=1e-4, atol=1e-5
    )
    model = torch.nn.Linear(10, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(data["best"])
    inputs = races.make(BY_NAME["diabetes-linear"], {"seeds": 1}, 0)
    assert races.closeness(model, inputs) == 1.0


def test_the_cnn_has_the_parameters_it_says():
    assert sum(p.numel() for p in races.cnn().parameters()) == 19_258


def test_running_statistics_are_part_of_what_is_audited():
    model, other = races.cnn(), races.cnn()
    model(torch.randn(8, 64))
    races.load_state(other, races.state_of(model))
    for got, wanted in zip(other.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(got, wanted)
    x = torch.randn(8, 64)
    assert torch.equal(model.eval()(x), other.eval()(x))


WAYS = [
    pytest.param(name, way, id=f"{name}-{way}")
    for name in ways.BY_NAME
    for way in ("foreach", "fused")
]


@pytest.mark.parametrize(("optimizer", "way"), WAYS)
def test_fused_and_foreach_need_the_steps_of_the_for_loop(optimizer, way):
    params = {"optimizer": optimizer, "seeds": 2}
    item = CONTENDERS[f"{ways.WORKLOAD}:{way}"]
    if item.unavailable(params) is not None:
        assert (optimizer, way) == ("rmsprop", "fused")
        return
    inputs = ways.make(params, 0)
    reference = ways.reference(inputs)
    output = item.build(inputs)()
    assert torch.equal(output["steps"], reference)
    assert ways.check(evidence_of(output, inputs, reference)) is None
    assert ways.metrics(output, reference)["same"] == 1.0


def test_a_way_that_is_another_algorithm_is_found():
    inputs = ways.make({"optimizer": "adam", "seeds": 7}, 0)
    output = races.thunk(ways.RACE, lambda p: torch.optim.Adam(p, lr=0.02), inputs)()
    reference = output["steps"] + torch.arange(1, 8) * 23
    assert "needs other steps" in ways.check(evidence_of(output, inputs, reference))
    # An epoch sooner or later is rounding.
    wavering = output["steps"] + torch.tensor([23, -23, 0, 0, 23, 0, 0])
    assert ways.check(evidence_of(output, inputs, wavering)) is None


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([0, 0, 0], 1.0),
        ([1], 1.0),
        ([1, 1, 1], 2 / 8),
        ([-5, -5, -5, -5, -5, -5, -5], 2 / 128),
        ([3, -1], 1.0),  # sums 2, 4, -4, -2: all at least 2 from zero
        ([3, 1, 1], 2 / 8),
        ([3, 1, -1], 6 / 8),  # all but the sums 1 and -1
    ],
)
def test_the_sign_flip_test_is_exact(differences, p):
    assert ways.sign_flip_p(differences) == p


def test_tuning_prints_four_rates_for_each_racer(monkeypatch, capsys):
    monkeypatch.setattr(tune, "SEEDS", 1)
    monkeypatch.setattr(tune, "RACERS", [SGD])
    monkeypatch.setattr(tune, "PEERS", ())
    tune.main(["digits-logistic"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert [line.endswith("<") for line in lines] == [False, False, True, False]


def test_without_scikit_learn_the_races_are_unavailable(monkeypatch, fresh_answers):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    for item in target.implementations():
        assert "scikit-learn" in item.unavailable({"seeds": 3})
    item = CONTENDERS[f"{ways.WORKLOAD}:for-loop"]
    assert "scikit-learn" in item.unavailable({"seeds": 3, "optimizer": "adam"})
