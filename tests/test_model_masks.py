"""Dropout with masks that are drawn beforehand: the same in every step and way."""

import pytest
import torch
from model_trials import BY_NAME

from benchbench_plugins.models.masks import FixedDropout, fix

pytestmark = pytest.mark.usefixtures("one_thread")


class Dropping(torch.nn.Module):
    """Dropout in two places, on different shapes."""

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 4, 3)
        self.early, self.late = torch.nn.Dropout(0.2), torch.nn.Dropout(0.5)
        self.off = torch.nn.Dropout(0.0)
        self.head = torch.nn.Linear(4 * 36, 5)

    def forward(self, x):
        return self.off(self.head(self.late(self.early(self.convolution(x)).flatten(1))))


def test_dropout_drops_the_same_numbers_in_every_step_and_way():
    network = Dropping()
    assert set(fix(network, Dropping, (2, 3, 8, 8), 7)) == {"early", "late"}
    assert network.early.mask.shape == (2, 4, 6, 6) and network.late.mask.shape == (2, 4 * 36)
    assert set(network.early.mask.unique().tolist()) == {0.0, 1.25}
    share = float((network.late.mask == 0).float().mean())
    assert 0.35 < share < 0.65  # 288 numbers
    again, other = Dropping(), Dropping()
    fix(again, Dropping, (2, 3, 8, 8), 7)
    fix(other, Dropping, (2, 3, 8, 8), 8)
    assert torch.equal(again.late.mask, network.late.mask)
    assert not torch.equal(other.late.mask, network.late.mask)
    x = torch.randn(2, 3, 8, 8)
    state = torch.get_rng_state()
    assert torch.equal(network.train()(x), network(x))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(network.eval().late(x.flatten(1)[:, :144]), x.flatten(1)[:, :144])
    assert type(network.off) is torch.nn.Dropout
    assert "mask" not in str(network.state_dict().keys())


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1-1", "mobilenet-v3-small"])
def test_training_draws_no_random_numbers(name):
    model = BY_NAME[name]
    with torch.device("meta"):
        network = model.factory()
    fix(network, model.factory, (2, 3, 64, 64), 0)
    assert any(isinstance(module, FixedDropout) for module in network.modules())
    state = torch.get_rng_state()
    network.to("meta").train()(torch.empty(2, 3, 64, 64, device="meta"))
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(type(m) is torch.nn.Dropout and m.p > 0 for m in network.modules())
