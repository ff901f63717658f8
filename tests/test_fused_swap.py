"""``swap``: a network computes what it did, with our modules, and a report of what was done."""

import copy
import pickle
from collections import Counter

import pytest
import torch
from module_pairs import PAIRS, random, randomize
from torch import nn

from benchbench import fused
from benchbench.fused import modules, swapping


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
        )
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(x + self.body(x))


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        Residual(8),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.LayerNorm(16),
        nn.GELU(),
        nn.Linear(16, 5),
    )


def assert_trains_alike(model, twin, x, steps=2):
    """Outputs, gradients, state and evaluation, in float64: nothing then hides behind rounding."""
    x = x.double()
    for network in (model.double(), twin.double()):
        network.train()
    for _ in range(steps):
        expected, found = model(x), twin(x)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
        for network, output in ((model, expected), (twin, found)):
            network.zero_grad()
            output.square().mean().backward()
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(twin.state_dict(), model.state_dict(), rtol=1e-8, atol=1e-8)
    with torch.no_grad():
        torch.testing.assert_close(twin.eval()(x), model.eval()(x), rtol=1e-8, atol=1e-8)


def test_swap_keeps_what_a_network_computes_and_says_what_it_did():
    model = small_network()
    twin = copy.deepcopy(model)
    report = fused.swap(twin)
    assert report.replaced == {
        "1": "BatchNormReLU2d",
        "3.body.1": "BatchNormReLU2d",
        "3.body.4": "BatchNorm2d",
        "4": "SiLU",
        "8": "BatchNormReLU1d",
        "10": "LayerNorm",
        "11": "GELU",
    }
    assert report.fused == {"1": "2", "3.body.1": "3.body.2", "8": "9"}
    assert report.left == {}
    assert "2 BatchNormReLU2d" in str(report)
    assert [*twin.state_dict()] == [*model.state_dict()]
    assert_trains_alike(model, twin, random(4, 3, 8, 8))


def test_swap_keeps_parameters_so_optimizers_still_hold_them():
    model = small_network()
    before = {name: id(p) for name, p in model.named_parameters()}
    fused.swap(model)
    assert {name: id(p) for name, p in model.named_parameters()} == before


def test_swap_can_be_limited():
    report = fused.swap(small_network(), norms=False)
    assert set(report.replaced.values()) == {"SiLU", "GELU"}
    report = fused.swap(small_network(), activations=False, fuse=False)
    assert set(report.replaced.values()) == {"BatchNorm1d", "BatchNorm2d", "LayerNorm"}
    assert not report.fused
    assert str(fused.swap(nn.Sequential(nn.Linear(2, 2)))) == "nothing to replace"


def test_a_second_swap_changes_nothing():
    model = small_network()
    fused.swap(model)
    assert fused.swap(model) == swapping.Swapped()


def test_the_model_itself_can_be_a_norm():
    norm = nn.LayerNorm(4)
    assert fused.swap(norm).replaced == {"": "LayerNorm"}
    assert type(norm) is modules.LayerNorm


def test_subclasses_with_their_own_meaning_are_left():
    class Odd(nn.LayerNorm):
        def forward(self, input):
            return -super().forward(input)

    model = nn.Sequential(Odd(4))
    assert not fused.swap(model).replaced


@pytest.mark.parametrize("kind", [nn.SiLU, nn.ELU, nn.SELU, nn.Mish, nn.Hardswish, nn.LeakyReLU])
def test_what_works_in_place_is_left_with_the_reason(kind):
    report = fused.swap(nn.Sequential(kind(inplace=True)))
    assert report.left == {"0": "works in place"}
    x, y = random(3, 4), random(3, 4)
    ours = getattr(modules, kind.__name__)(inplace=True)
    assert ours(x) is x
    torch.testing.assert_close(x, kind()(y))


@pytest.mark.parametrize(("theirs", "ours", "arguments", "shape"), PAIRS)
def test_swap_knows_every_module(theirs, ours, arguments, shape):
    model = nn.Sequential(randomize(theirs(**arguments)), nn.Identity())
    twin = copy.deepcopy(model)
    assert fused.swap(twin).replaced == {"0": ours.__name__}
    assert type(twin[0]) is ours
    assert [*twin.state_dict()] == [*model.state_dict()]
    x = random(*shape)
    torch.testing.assert_close(twin(x), model(x))
    for copied in (copy.deepcopy(twin), pickle.loads(pickle.dumps(twin))):
        torch.testing.assert_close(copied.eval()(x), model.eval()(x))


def test_every_name_of_the_package_is_there():
    assert set(fused.__all__) <= set(dir(fused))
    for name in fused.__all__:
        assert getattr(fused, name) is not None
    tables = {**swapping.NORMS, **swapping.ACTIVATIONS, **swapping.WITH_RELU}
    assert all(getattr(fused, ours.__name__) is ours for ours in tables.values())
    with pytest.raises(AttributeError, match=r"'layer_nrom'.*Did you mean 'layer_norm'"):
        fused.layer_nrom  # noqa: B018


class Twice(nn.Sequential):
    """Runs its modules in another order than they stand in."""

    def forward(self, x):
        return self[0](self[1](x))


def test_no_fusion_where_the_order_is_not_known():
    model = Twice(nn.BatchNorm2d(3), nn.ReLU())
    twin = copy.deepcopy(model)
    assert not fused.swap(twin).fused
    assert_trains_alike(model, twin, random(2, 3, 4, 4))


def test_no_fusion_of_a_norm_that_is_used_twice():
    norm = nn.BatchNorm2d(3)
    model = nn.Sequential(norm, nn.ReLU(), nn.Conv2d(3, 3, 1), norm)
    twin = copy.deepcopy(model)
    report = fused.swap(twin)
    assert not report.fused
    assert "several places" in report.left["0"]
    assert_trains_alike(model, twin, random(2, 3, 4, 4))


def test_no_fusion_where_a_hook_would_see_another_value():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())
    seen = []
    model[0].register_forward_hook(lambda module, given, output: seen.append(output.min()))
    report = fused.swap(model)
    assert "hooks" in report.left["0"]
    model(random(2, 3, 4, 4))
    assert seen[0] < 0


def test_repeated_modules_do_not_make_others_neighbours():
    relu, norm = nn.ReLU(), nn.BatchNorm2d(3)
    model = nn.Sequential(relu, nn.Conv2d(3, 3, 1), norm, relu, nn.Conv2d(3, 3, 1), relu)
    twin = copy.deepcopy(model)
    assert fused.swap(twin).fused == {"2": "3"}
    assert_trains_alike(model, twin, random(2, 3, 4, 4))
    again = nn.BatchNorm2d(3)
    model = nn.Sequential(again, nn.Conv2d(3, 3, 1), again, nn.ReLU())
    assert not fused.swap(model).fused


def test_any_replacement_can_be_asked_for():
    model = small_network()
    shared = nn.GELU()
    model.extend([shared, shared])
    report = fused.swap(
        model, norms=False, activations=False, replacements={nn.GELU: lambda module: nn.SiLU()}
    )
    assert report.replaced == {"11": "SiLU", "13": "SiLU", "14": "SiLU"}
    assert model[13] is model[14]
    with pytest.raises(ValueError, match="itself"):
        fused.swap(nn.GELU(), replacements={nn.GELU: lambda module: nn.SiLU()})


# ---- torchvision ----


def network(name):
    # A wrong pairing of torch and torchvision raises RuntimeError at import.
    models = pytest.importorskip("torchvision.models", exc_type=Exception)
    torch.manual_seed(0)
    return getattr(models, name)(num_classes=10)


@pytest.mark.parametrize("last", (False, True), ids=("planes", "pixels"))
@pytest.mark.parametrize(("name", "norms", "fusions"), [("resnet18", 20, 17), ("resnet50", 53, 49)])
def test_resnets_fuse_their_skip_connections(name, norms, fusions, last):
    model = network(name)
    twin = copy.deepcopy(model)
    report = fused.swap(twin)
    assert len(report.replaced) == norms
    assert len(report.fused) == fusions
    assert not report.left
    assert report.fused["layer1.0.bn2"] == "layer1.0.relu"
    x = random(2, 3, 40, 40)
    if last:
        model, twin, x = (value.to(memory_format=torch.channels_last) for value in (model, twin, x))
    with torch.no_grad():
        torch.testing.assert_close(twin.eval()(x), model.eval()(x), rtol=1e-3, atol=1e-3)
    assert_trains_alike(model, twin, x, steps=1)
    fresh = network(name)
    fresh.load_state_dict(twin.state_dict())


def test_swapped_resnets_copy_and_pickle():
    twin = network("resnet18").eval()
    fused.swap(twin)
    x = random(1, 3, 64, 64)
    for copied in (copy.deepcopy(twin), pickle.loads(pickle.dumps(twin))):
        torch.testing.assert_close(copied(x), twin(x))


def test_a_hook_in_a_block_keeps_the_block_as_it_is():
    model = network("resnet18")
    model.layer1[0].relu.register_forward_hook(lambda module, given, output: None)
    report = fused.swap(model)
    assert "layer1.0.bn1" in report.left
    assert "layer1.1.bn2" in report.fused
    assert type(model.layer1[0]).__module__ == "torchvision.models.resnet"


@pytest.mark.parametrize("last", (False, True), ids=("planes", "pixels"))
def test_mobilenets_fuse_their_cut_relus_and_skip_connections(last):
    model = network("mobilenet_v2")
    model.classifier[0].p = 0.0  # dropout would draw other numbers in the twin
    twin = copy.deepcopy(model)
    report = fused.swap(twin)
    counts = Counter(report.replaced.values())
    assert counts == {"BatchNormReLU2d": 35, "BatchNorm2d": 17}
    assert report.fused["features.0.1"] == "features.0.2"
    skips = {norm: block for norm, block in report.fused.items() if norm.startswith(block)}
    assert len(skips) == 10 and skips["features.3.conv.3"] == "features.3"
    assert not report.left
    assert twin.features[0][1].ceiling == 6.0 and "ceiling=6.0" in repr(twin.features[0][1])
    assert fused.swap(twin) == swapping.Swapped()
    x = random(2, 3, 64, 64)
    if last:
        model, twin, x = (value.to(memory_format=torch.channels_last) for value in (model, twin, x))
    assert_trains_alike(model, twin, x, steps=1)
    for copied in (copy.deepcopy(twin), pickle.loads(pickle.dumps(twin))):
        torch.testing.assert_close(copied(x.double()), twin(x.double()))
    fresh = network("mobilenet_v2")
    fresh.load_state_dict(twin.state_dict())


def test_a_hook_in_an_inverted_block_keeps_its_skip_connection():
    model = network("mobilenet_v2")
    model.features[3].conv.register_forward_hook(lambda module, given, output: None)
    report = fused.swap(model)
    assert "skip connection" in report.left["features.3.conv.3"]
    assert type(model.features[3]).__module__ == "torchvision.models.mobilenetv2"
    assert "features.5.conv.3" in report.fused


def test_networks_without_a_known_order_are_swapped_module_by_module():
    model = network("mobilenet_v3_small")
    twin = copy.deepcopy(model)
    report = fused.swap(twin)
    assert {"BatchNorm2d", "BatchNormReLU2d"} == set(report.replaced.values())
    assert "works in place" in report.left.values()  # its hardswish
    x = random(2, 3, 64, 64)
    torch.testing.assert_close(twin.eval()(x), model.eval()(x), rtol=1e-3, atol=1e-3)


def test_relu6_is_taken_over_and_trains_alike():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(inplace=True))
    twin = copy.deepcopy(model)
    assert fused.swap(twin).fused == {"1": "2"}
    assert type(twin[2]) is nn.Identity
    assert_trains_alike(model, twin, 20 * random(4, 3, 8, 8))
