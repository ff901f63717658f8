"""The drop-in modules and ``swap``: torch's behaviour, torch's state, other kernels."""

import copy
import pickle
from collections import Counter

import pytest
import torch
from torch import nn

from benchbench import fused
from benchbench.fused import modules, swapping


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


PAIRS = (
    (nn.LayerNorm, modules.LayerNorm, {"normalized_shape": 12}, (5, 12)),
    (nn.LayerNorm, modules.LayerNorm, {"normalized_shape": (3, 4), "bias": False}, (5, 3, 4)),
    (nn.LayerNorm, modules.LayerNorm, {"normalized_shape": 12, "elementwise_affine": False}, (12,)),
    (nn.RMSNorm, modules.RMSNorm, {"normalized_shape": 12}, (2, 5, 12)),
    (nn.RMSNorm, modules.RMSNorm, {"normalized_shape": [12], "eps": 1e-4}, (5, 12)),
    (nn.BatchNorm1d, modules.BatchNorm1d, {"num_features": 6}, (5, 6)),
    (nn.BatchNorm1d, modules.BatchNorm1d, {"num_features": 6, "affine": False}, (5, 6, 4)),
    (nn.BatchNorm2d, modules.BatchNorm2d, {"num_features": 6}, (5, 6, 4, 3)),
    (nn.BatchNorm2d, modules.BatchNorm2d, {"num_features": 6, "momentum": None}, (5, 6, 4, 3)),
    (
        nn.BatchNorm2d,
        modules.BatchNorm2d,
        {"num_features": 6, "track_running_stats": False},
        (5, 6, 4, 3),
    ),
    (nn.BatchNorm3d, modules.BatchNorm3d, {"num_features": 6, "eps": 1e-2}, (2, 6, 4, 3, 2)),
    (nn.GELU, modules.GELU, {"approximate": "tanh"}, (5, 12)),
    (nn.SiLU, modules.SiLU, {}, (5, 12)),
    (nn.Tanh, modules.Tanh, {}, (5, 12)),
    (nn.Sigmoid, modules.Sigmoid, {}, (5, 12)),
    (nn.Softmax, modules.Softmax, {"dim": 1}, (5, 12, 3)),
    (nn.Softplus, modules.Softplus, {}, (5, 12)),
    (nn.Softplus, modules.Softplus, {"beta": 2.0, "threshold": 3.0}, (5, 12)),
    (nn.LogSigmoid, modules.LogSigmoid, {}, (5, 12)),
    (nn.ELU, modules.ELU, {}, (5, 12)),
    (nn.ELU, modules.ELU, {"alpha": 0.5}, (5, 12)),
    (nn.SELU, modules.SELU, {}, (5, 12)),
    (nn.Mish, modules.Mish, {}, (5, 12)),
    (nn.Hardswish, modules.Hardswish, {}, (5, 12)),
    (nn.LeakyReLU, modules.LeakyReLU, {"negative_slope": 0.2}, (5, 12)),
    (nn.PReLU, modules.PReLU, {}, (5, 12)),
    (nn.PReLU, modules.PReLU, {"num_parameters": 6}, (5, 6, 4, 3)),
    (nn.GroupNorm, modules.GroupNorm, {"num_groups": 3, "num_channels": 6}, (5, 6, 4, 3)),
    (
        nn.GroupNorm,
        modules.GroupNorm,
        {"num_groups": 2, "num_channels": 6, "affine": False, "eps": 1e-3},
        (5, 6, 4),
    ),
    (nn.InstanceNorm1d, modules.InstanceNorm1d, {"num_features": 6}, (5, 6, 4)),
    (nn.InstanceNorm1d, modules.InstanceNorm1d, {"num_features": 6, "affine": True}, (6, 4)),
    (
        nn.InstanceNorm2d,
        modules.InstanceNorm2d,
        {"num_features": 6, "affine": True, "track_running_stats": True},
        (5, 6, 4, 3),
    ),
    (
        nn.InstanceNorm3d,
        modules.InstanceNorm3d,
        {"num_features": 6, "track_running_stats": True, "momentum": 0.5},
        (2, 6, 4, 3, 2),
    ),
    (nn.LocalResponseNorm, modules.LocalResponseNorm, {"size": 3}, (2, 6, 4, 3)),
    (
        nn.LocalResponseNorm,
        modules.LocalResponseNorm,
        {"size": 4, "alpha": 0.1, "beta": 0.5, "k": 2.0},
        (2, 6, 4),
    ),
)


def randomize(module):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
    return module


@pytest.mark.parametrize(("theirs", "ours", "arguments", "shape"), PAIRS)
def test_a_module_behaves_as_torchs(theirs, ours, arguments, shape):
    one, other = randomize(theirs(**arguments)), randomize(ours(**arguments))
    assert isinstance(other, theirs)
    for step in range(3):  # training: running statistics move
        x, y = (random(*shape, seed=step).requires_grad_() for _ in range(2))
        a, b = one(x), other(y)
        torch.testing.assert_close(b, a)
        a.square().sum().backward()
        b.square().sum().backward()
        torch.testing.assert_close(y.grad, x.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(other.state_dict(), one.state_dict())
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(other.eval()(x), one.eval()(x))


@pytest.mark.parametrize(("theirs", "ours", "arguments", "shape"), PAIRS)
def test_state_goes_both_ways_and_copies_survive(theirs, ours, arguments, shape):
    one, other = randomize(theirs(**arguments)), ours(**arguments)
    one(random(*shape))
    other.load_state_dict(one.state_dict())
    back = theirs(**arguments)
    back.load_state_dict(other.state_dict())
    torch.testing.assert_close(back.state_dict(), one.state_dict())
    x = random(*shape, seed=3)
    expected = other.eval()(x)
    for copied in (copy.deepcopy(other), pickle.loads(pickle.dumps(other))):
        assert type(copied) is ours
        torch.testing.assert_close(copied(x), expected)


@pytest.mark.parametrize(("theirs", "ours", "arguments", "shape"), PAIRS)
def test_a_module_compiles_to_one_graph(theirs, ours, arguments, shape):
    torch._dynamo.reset()
    plain, traced = randomize(ours(**arguments)), randomize(ours(**arguments))
    compiled = torch.compile(traced, fullgraph=True, backend="aot_eager")
    for step in range(2):
        x, y = (random(*shape, seed=step).requires_grad_() for _ in range(2))
        a, b = plain(x), compiled(y)
        torch.testing.assert_close(b, a)
        a.square().sum().backward()
        b.square().sum().backward()
        torch.testing.assert_close(y.grad, x.grad)
    torch.testing.assert_close(traced.state_dict(), plain.state_dict())
    for p, q in zip(plain.parameters(), traced.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # of torch's own
@pytest.mark.parametrize(("theirs", "ours", "arguments", "shape"), PAIRS)
def test_a_module_under_autocast(theirs, ours, arguments, shape):
    """Bfloat16 from a layer before it, float32 parameters: as torch's module, and no less exact."""
    one, other = randomize(theirs(**arguments)), randomize(ours(**arguments))
    exact = randomize(theirs(**arguments)).double()
    mix = nn.Linear(shape[-1], shape[-1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = mix(random(*shape))
        assert x.dtype is torch.bfloat16
        y = other(x)
        expected = one(x)
    assert y.dtype in (torch.bfloat16, expected.dtype)
    wide = x.detach().double().requires_grad_()
    truth = exact(wide)
    scale = truth.abs().max() * torch.finfo(torch.bfloat16).eps
    assert (y - truth).abs().max() <= max((expected - truth).abs().max(), scale)
    y.float().square().sum().backward()
    assert mix.weight.grad.isfinite().all()
    for parameter in other.parameters():
        assert parameter.grad.dtype is torch.float32
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("dimensions", (1, 2, 3))
def test_batch_norm_with_relu_and_a_residual(dimensions):
    shape = (4, 5, 6, 3, 2)[: dimensions + 2]
    fusedly = randomize(getattr(modules, f"BatchNormReLU{dimensions}d")(5))
    plain = randomize(getattr(nn, f"BatchNorm{dimensions}d")(5))
    x, r = random(*shape), random(*shape, seed=1)
    torch.testing.assert_close(fusedly(x), plain(x).relu())
    torch.testing.assert_close(fusedly(x, r), (plain(x) + r).relu())
    torch.testing.assert_close(fusedly.state_dict(), plain.state_dict())
    plain.load_state_dict(fusedly.state_dict())


def test_norms_of_a_sum():
    x, r = random(3, 8), random(3, 8, seed=1)
    norm, rms = modules.AddLayerNorm(8), modules.AddRMSNorm(8)
    torch.testing.assert_close(norm(x, r), (nn.LayerNorm(8)(x + r), x + r))
    torch.testing.assert_close(rms(x, r), (nn.RMSNorm(8)(x + r), x + r))
    nn.LayerNorm(8).load_state_dict(norm.state_dict())


def test_wrong_dimensions_are_refused_as_in_torch():
    with pytest.raises(ValueError, match="4D"):
        modules.BatchNorm2d(3)(random(2, 3))


def test_modules_compile_to_one_graph():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4))
    twin = copy.deepcopy(model)
    fused.swap(twin)
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")
    x = random(2, 3, 8, 8)
    torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(twin[1].running_var, model[1].running_var)
    compiled(x).square().sum().backward()
    assert twin[0].weight.grad.isfinite().all()


# ---- swap ----


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
