"""Techniques: what each contender claims is checked, and the figures say what they should."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import benchbench as bb
from benchbench_plugins import techniques
from benchbench_plugins.techniques import batches, curves, ensembles, pruning, validation
from benchbench_plugins.techniques.training import network

WORKLOADS = {w.name: w for w in techniques.benchbench_workloads()}
CONTENDERS = {i.id: i for i in techniques.benchbench_implementations()}
SMALL = {
    pruning.TICKET: {"percent": 5, "seeds": 1},
    pruning.INFERENCE: {"percent": 5, "batch": 50},
    batches.NAME: {"seeds": 1},
    ensembles.BAGGING: {"trees": 40},
    ensembles.SPREAD: {"replicates": 12},
    validation.NAME: {"rows": 442},
    curves.NAME: {"seeds": 1},
}
SAMPLERS = {"bagging", "forest", "by-hand"}


class Ran:
    """A workload at its small point, with the output of each contender."""

    def __init__(self, name):
        self.workload = WORKLOADS[name]
        self.params = SMALL[name]
        self.inputs = self.workload.make(self.params, 0)
        reference = self.workload.reference
        self.reference = None if reference is None else reference(self.inputs)
        self.outputs = {
            i.name: i.build(self.inputs)() for i in CONTENDERS.values() if i.workload == name
        }

    def judge(self, output):
        return self.workload.check(
            bb.Evidence(
                output=output,
                inputs=self.inputs,
                params=self.params,
                calls=1,
                reference=self.reference,
            )
        )

    def metrics(self, name):
        return self.workload.metrics(self.outputs[name], self.reference)


@pytest.fixture(scope="module")
def ran():
    torch.set_num_threads(1)
    cache = {}

    def get(name):
        if name not in cache:
            cache[name] = Ran(name)
        return cache[name]

    return get


@pytest.mark.parametrize("name", [n for n, w in WORKLOADS.items() if w.check is not None])
def test_what_contenders_claim_is_so(name, ran):
    one = ran(name)
    assert one.workload.baseline in one.outputs
    for contender, output in one.outputs.items():
        assert one.judge(output) is None, contender
        assert all(math.isfinite(v) for v in one.metrics(contender).values()), contender


@pytest.mark.parametrize("name", [pruning.TICKET, batches.NAME, curves.NAME])
def test_a_boast_is_found(name, ran):
    one = ran(name)
    output = dict(next(iter(one.outputs.values())))
    output["accuracy"] = output["accuracy"] + 0.02
    assert "right, not" in one.judge(output)
    output["accuracy"] = output["accuracy"][:0]
    assert "0 results for 1 seeds" in one.judge(output)


def test_training_is_repeatable(ran):
    one = ran(batches.NAME)
    (again,) = (i for i in CONTENDERS.values() if i.id.endswith("batch-64"))
    assert torch.equal(again.build(one.inputs)()["weights"], one.outputs["batch-64"]["weights"])


def test_a_ticket_keeps_its_share_and_its_initial_values(ran):
    one = ran(pruning.TICKET)
    assert one.metrics("dense")["kept"] > 0.9
    for name in ("ticket", "reinitialised", "elsewhere"):
        assert 0.05 < one.metrics(name)["kept"] < 0.07  # 5 %, the last layer 10 %, and biases
    model, masks = pruning._ticket(0, 0.05)
    kept = [w[m] for w, m in zip(pruning.weights_of(model), masks, strict=True)]
    first = [
        w[m] for w, m in zip(pruning.weights_of(network(0, *pruning.WIDTHS)), masks, strict=True)
    ]
    assert all(map(torch.equal, kept, first))
    assert one.metrics("ticket")["accuracy"] > one.metrics("elsewhere")["accuracy"]


def test_pruned_networks_give_the_same_logits(ran):
    one = ran(pruning.INFERENCE)
    for output in one.outputs.values():
        torch.testing.assert_close(output.double(), one.reference, rtol=1e-4, atol=1e-4)


def test_a_compacted_network_is_smaller():
    layers = [
        (torch.zeros(4, 3), torch.tensor([1.0, -1, 2, 3])),
        (torch.ones(2, 4), torch.zeros(2)),
    ]
    layers[0][0][2, 1] = 5
    layers[1][0][:, 3] = 0
    used, smaller = pruning.compacted(layers)
    assert used.tolist() == [1]
    assert [w.shape for w, _ in smaller] == [(1, 1), (2, 1)]
    x = torch.randn(6, 3)
    torch.testing.assert_close(pruning.forward(x[:, used], smaller), pruning.forward(x, layers))


def test_sharpness_is_the_largest_eigenvalue_of_the_hessian():
    model = nn.Linear(3, 2, bias=False).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(2, (30,), generator=generator)

    def loss(flat):
        return nn.functional.cross_entropy(x @ flat.view(2, 3).T, y)

    hessian = torch.autograd.functional.hessian(loss, model.weight.detach().reshape(-1))
    found = batches.sharpness(model, x, y, iterations=200)
    assert found == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-6)


def test_out_of_bag_estimates_lie_near_the_error(ran):
    one = ran(ensembles.BAGGING)
    tree = one.metrics("tree")
    assert "oob_error" not in tree
    for name in SAMPLERS:
        found = one.metrics(name)
        assert found["test_error"] < tree["test_error"]
        assert abs(found["oob_error"] - found["test_error"]) < 0.12
    classes = one.outputs["tree"]["classes"]
    assert "only" in one.judge({"classes": np.roll(classes, 1)})
    assert "shape" in one.judge({"classes": classes[1:]})


def test_error_is_bias_plus_variance(ran):
    one = ran(ensembles.SPREAD)
    for name in one.outputs:
        found = one.metrics(name)
        assert found["error"] == pytest.approx(found["bias2"] + found["variance"])
    rigid, flexible = one.metrics("mean"), one.metrics("deep-tree")
    assert rigid["variance"] < 0.05 < flexible["variance"]
    assert rigid["bias2"] > flexible["bias2"]
    assert "shape" in one.judge(one.outputs["mean"][1:])
    assert "not finite" in one.judge(np.full_like(one.outputs["mean"], np.nan))
    assert "off by" in one.judge(one.outputs["mean"] + 1e4)


def test_leaving_one_out_agrees_with_its_formula(ran):
    one = ran(validation.NAME)
    assert float(one.outputs["leave-one-out"][0]) == pytest.approx(one.reference, rel=1e-10)
    assert float(one.outputs["10-fold"][0]) == pytest.approx(
        float(one.outputs["scikit-learn"][0]), rel=5e-3
    )
    assert "allowed is 10%" in one.judge(one.outputs["10-fold"] * 1.2)
    assert "one finite number" in one.judge(np.array([1.0, 2.0]))


def test_stopping_early_takes_fewer_epochs_and_is_as_good(ran):
    one = ran(curves.NAME)
    whole, early = one.metrics("to-the-end"), one.metrics("patience-5")
    assert whole["epochs"] == curves.EPOCHS > 2 * early["epochs"]
    assert early["accuracy"] > whole["accuracy"] - 0.06
    assert whole["overfitting"] == 1.0
    rewound = one.metrics("patience-20-rewound")
    assert rewound["overfitting"] == 0.0
    assert rewound["epochs"] == one.metrics("patience-20")["epochs"]


@pytest.mark.parametrize(
    ("training", "held_out", "word"),
    [
        ([2, 1, 0.1, 0.01], [2, 1.2, 0.9, 1.4], "overfitting"),
        ([2.3, 2.2, 2.1], [2.3, 2.25, 2.2], "underfitting"),
        ([2, 1, 0.3, 0.2], [2, 1, 0.4, 0.35], "fitting"),
        ([2, 1, 0.01], [2, 1, 0.3], "fitting"),
    ],
)
def test_curves_have_a_verdict(training, held_out, word):
    assert curves.verdict(training, held_out) == word


def test_curves_must_match():
    with pytest.raises(ValueError, match="equally long"):
        curves.verdict([1.0], [])
