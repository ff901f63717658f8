"""Published figures of networks, and the arithmetic of convolutions against torch itself."""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from benchbench_plugins.models import zoo
from benchbench_plugins.models.alexnet import AlexNet2012
from benchbench_plugins.models.arithmetic import (
    Field,
    Window,
    multiply_adds,
    receptive_field,
    weights,
    windows_of,
)

NETWORKS = {
    "alexnet": (61_100_840, 1.428),
    "vgg16": (138_357_544, 30.94),
    "vgg19": (143_667_240, 39.26),
    "resnet18": (11_689_512, 3.628),
    "resnet50": (25_557_032, 8.178),
    "mobilenet_v2": (3_504_872, 0.602),
    "mobilenet_v3_small": (2_542_856, 0.113),
    "squeezenet1_0": (1_248_424, 1.638),
    "squeezenet1_1": (1_235_496, 0.698),
}
"""Parameters, and GFLOP (two for a multiply-add) of one image of 224x224."""
MODELS = {model.name.replace("-", "_"): model for model in zoo.MODELS}


@pytest.mark.parametrize("name", NETWORKS)
def test_nine_networks_have_their_published_sizes_and_costs(name):
    parameters, gflop = NETWORKS[name]
    model = MODELS[name]
    assert zoo.count_parameters(model.factory) == parameters
    flops = model.work({"batch": 1, "size": 224}, False).flops
    assert flops / 1e9 == pytest.approx(gflop, rel=1e-3, abs=5e-4)
    assert model.work({"batch": 3, "size": 224}, False).flops == 3 * flops


def test_alexnet_of_2012():
    # Krizhevsky et al. speak of 60 million parameters; these are the layers of their figure 2.
    convolutions = [
        weights(3, 96, 11, bias=True),
        weights(96, 256, 5, groups=2, bias=True),
        weights(256, 384, 3, bias=True),
        weights(384, 384, 3, groups=2, bias=True),
        weights(384, 256, 3, groups=2, bias=True),
    ]
    dense = [9216 * 4096 + 4096, 4096 * 4096 + 4096, 4096 * 1000 + 1000]
    assert sum(convolutions) + sum(dense) == 60_965_224
    assert zoo.count_parameters(AlexNet2012) == 60_965_224
    with torch.device("meta"):
        features = AlexNet2012().features
        assert features(torch.empty(1, 3, 224, 224)).shape == (1, 256, 6, 6)
        assert features[0](torch.empty(1, 3, 224, 224)).shape == (1, 96, 55, 55)


def test_a_small_image_with_four_filters():
    first = Window(kernel=5)
    assert first.output_size(32) == 28
    assert weights(3, 4, 5) == 300
    assert weights(3, 4, 5) + weights(4, 10, 5) == 1300
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Conv2d(4, 10, 5))
        output = network[0](torch.empty(1, 3, 32, 32))
    assert output.shape == (1, 4, 28, 28)
    assert sum(p.numel() for p in network.parameters()) == 1314
    # A figure in circulation multiplies by the positions that share the weights; it is wrong.
    assert sum(p.numel() for p in network.parameters()) != 300_000
    assert multiply_adds(3, 4, first, 32) == 300 * 28 * 28


@pytest.mark.parametrize("channels", [1, 3, 64])
def test_two_stacked_windows_of_three_see_what_one_of_five_sees(channels):
    three, five = Window(kernel=3), Window(kernel=5)
    assert receptive_field([three, three]) == receptive_field([five])
    assert 2 * weights(channels, channels, 3) == 18 * channels**2
    assert weights(channels, channels, 5) == 25 * channels**2
    assert receptive_field([three] * 3).size == 7


windows = st.builds(
    Window,
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
)


@settings(max_examples=60, deadline=None)
@given(window=windows, size=st.integers(1, 24))
def test_output_sizes_are_torchs(window, size):
    layer = nn.Conv2d(
        1, 1, window.kernel, window.stride, window.padding, window.dilation, device="meta"
    )
    x = torch.empty(1, 1, size, size, device="meta")
    if size + 2 * window.padding < window.extent:
        with pytest.raises(ValueError, match="does not fit"):
            window.output_size(size)
        return
    assert layer(x).shape[-1] == window.output_size(size)


@settings(max_examples=40, deadline=None)
@given(stack=st.lists(windows, min_size=1, max_size=4))
def test_receptive_fields_are_what_gradients_reach(stack):
    # Positive weights: no gradient can cancel, so its support is exactly the field.
    field = receptive_field(stack)
    size = 2 * field.size + 4 * field.padding + 3 * field.stride
    layers = [
        nn.Conv1d(1, 1, w.kernel, w.stride, w.padding, w.dilation, bias=False).double()
        for w in stack
    ]
    for layer in layers:
        nn.init.ones_(layer.weight)
    x = torch.zeros(1, 1, size, dtype=torch.float64, requires_grad=True)
    output = nn.Sequential(*layers)(x)
    at = output.shape[-1] // 2
    (gradient,) = torch.autograd.grad(output[0, 0, at], x)
    reached = gradient[0, 0].nonzero().flatten()
    begin = at * field.stride - field.padding
    if begin >= 0 and begin + field.size <= size:
        assert reached[0] == begin
        assert reached[-1] == begin + field.size - 1


def test_published_receptive_fields():
    """Araujo et al. 2019, table of receptive fields; ResNet-18's main branch by hand."""
    with torch.device("meta"):
        assert receptive_field(windows_of(AlexNet2012().features)).size == 195
        vgg = MODELS["vgg16"].factory()
        field = receptive_field(windows_of(vgg.features))
        assert field == Field(size=212, stride=32, padding=90)
        resnet = MODELS["resnet18"].factory()
    resnet.avgpool = nn.Identity()
    for module in resnet.modules():
        if getattr(module, "downsample", None) is not None:
            module.downsample = None
    assert receptive_field(windows_of(resnet)).size == 435


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Conv2d(1, 1, (3, 5)), "only square"),
        (nn.Conv2d(1, 1, 3, padding="same"), "only square"),
        (nn.MaxPool2d(3, ceil_mode=True), "rounds its output size up"),
    ],
)
def test_windows_that_are_not_known_are_named(layer, message):
    with pytest.raises(ValueError, match=message):
        windows_of(nn.Sequential(layer))
