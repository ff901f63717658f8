"""The operators on a CUDA device: values, gradients, streams, graphs, tracing, sizes beyond 2^31.

Run by ``benchmarks/gpu.sh``. Where no device is, the kernels' arithmetic is tested from the same
text on the host executor (test_cuda_*.py).
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ROWS = [
    (1, 1),
    (7, 33),
    (64, 128),
    (4096, 1024),
    (33, 4099),
    (16, 32768),
    (8, 200_000),
    (2, 4_200_000),
]
IMAGES = [(2, 3, 5, 7), (32, 64, 56, 56), (8, 256, 14, 14), (64, 512, 7, 7), (16, 32, 112, 112)]


@pytest.fixture(scope="module")
def fused():
    from benchbench import fused as package, native

    if not native.load().build_info()["cuda"]:
        pytest.fail("the library is built without CUDA: run `benchbench build --force`")
    return package


def random(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator(device="cuda").manual_seed(seed)
    return torch.randn(shape, generator=generator, device="cuda").to(dtype)


def with_gradients(function, inputs, grad_seed=99):
    leaves = [x.detach().requires_grad_() for x in inputs]
    output = function(*leaves)
    output = output[0] if isinstance(output, tuple) else output
    grad = random(*output.shape, seed=grad_seed).to(output.dtype)
    return [output.detach(), *torch.autograd.grad(output, leaves, grad)]


def root_mean_square(values, truth):
    return [
        float((v.double() - t).square().mean().sqrt() / (t.square().mean().sqrt() + 1e-30))
        for v, t in zip(values, truth, strict=True)
    ]


def assert_as_good_as_eager(ours, eager, inputs):
    """Errors against float64 at most 1.1 times eager's, beside a few roundings of the dtype."""
    truth = with_gradients(eager, [x.double() for x in inputs])
    found = root_mean_square(with_gradients(ours, inputs), truth)
    theirs = root_mean_square(with_gradients(eager, inputs), truth)
    room = torch.finfo(inputs[0].dtype).eps
    for mine, other in zip(found, theirs, strict=True):
        assert mine <= 1.1 * other + room, (found, theirs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "gelu", "silu"])
def test_activations(fused, name, dtype):
    eager = getattr(torch, name, None) or getattr(F, name)
    for shape in [(1,), (1001,), (333, 4097)]:
        assert_as_good_as_eager(getattr(fused, name), eager, [random(*shape, dtype=dtype)])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", ROWS[:6], ids=str)
def test_biased_gated_softmax(fused, shape, dtype):
    x, u, b = (
        random(*shape, dtype=dtype),
        random(*shape, dtype=dtype, seed=1),
        random(shape[-1], seed=2),
    )
    assert_as_good_as_eager(fused.bias_gelu, lambda a, c: F.gelu(a + c), [x, b.to(dtype)])
    assert_as_good_as_eager(fused.swiglu, lambda a, c: F.silu(a) * c, [x, u])
    assert_as_good_as_eager(fused.softmax, lambda a: torch.softmax(a, -1), [x])
    assert_as_good_as_eager(fused.log_softmax, lambda a: torch.log_softmax(a, -1), [x])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", ROWS[1:], ids=str)
def test_norms_over_rows(fused, shape, dtype):
    x, w, b = (
        random(*shape, dtype=dtype),
        random(shape[-1], dtype=dtype),
        random(shape[-1], dtype=dtype),
    )
    n = shape[-1:]
    assert_as_good_as_eager(
        lambda a, c, d: fused.layer_norm(a, n, c, d),
        lambda a, c, d: F.layer_norm(a, n, c, d),
        [x, w, b],
    )
    assert_as_good_as_eager(
        lambda a, c: fused.rms_norm(a, n, c, 1e-6), lambda a, c: F.rms_norm(a, n, c, 1e-6), [x, w]
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", IMAGES, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(fused, shape, dtype, layout, training):
    x = random(*shape, dtype=dtype).to(memory_format=layout)
    w, b = random(shape[1], seed=1), random(shape[1], seed=2)
    mean, variance = random(shape[1], seed=3), random(shape[1], seed=4).abs() + 0.1

    def eager(a, c, d):
        return F.batch_norm(a, mean.to(c), variance.to(c), c, d, training)

    def ours(a, c, d):
        m, v = (None, None) if training else (mean, variance)
        return fused.batch_norm(a, m, v, c, d, training)

    truth = with_gradients(eager, [t.double() for t in (x, w, b)])
    found = root_mean_square(with_gradients(ours, [x, w, b]), truth)
    theirs = root_mean_square(with_gradients(lambda a, c, d: eager(a, c, d), [x, w, b]), truth)
    for mine, other in zip(found, theirs, strict=True):
        assert mine <= 1.1 * other + torch.finfo(dtype).eps, (found, theirs)


GROUPS = [
    (2, 6, 5, 7, 3),
    (16, 256, 28, 28, 32),
    (4, 320, 64, 64, 32),
    (8, 64, 56, 56, 64),
    (1, 32, 160, 160, 1),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", GROUPS, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_group_norm(fused, shape, dtype, layout):
    *image, groups = shape
    x = random(*image, dtype=dtype).to(memory_format=layout)
    w, b = random(shape[1], seed=1).to(dtype), random(shape[1], seed=2).to(dtype)
    assert fused.group_norm(x, groups, w, b).stride() == x.stride()
    assert_as_good_as_eager(
        lambda a, c, d: fused.group_norm(a, groups, c, d),
        lambda a, c, d: F.group_norm(a, groups, c, d),
        [x, w, b],
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_instance_and_response_norm(fused, dtype, layout):
    x = random(8, 96, 55, 55, dtype=dtype).to(memory_format=layout)
    w, b = random(96, seed=1).to(dtype), random(96, seed=2).to(dtype)
    assert_as_good_as_eager(
        lambda a, c, d: fused.instance_norm(a, None, None, c, d),
        lambda a, c, d: F.instance_norm(a, None, None, c, d),
        [x, w, b],
    )
    for beta in (0.75, 0.6):
        assert_as_good_as_eager(
            lambda a, beta=beta: fused.local_response_norm(a, 5, 0.5, beta, 2.0),
            lambda a, beta=beta: F.local_response_norm(a, 5, 0.5, beta, 2.0),
            [x],
        )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("columns", [33, 1024, 16384])
def test_packed_gates_and_masked_softmax(fused, columns, dtype):
    x = random(64, 2 * columns, dtype=dtype)
    assert_as_good_as_eager(
        fused.packed_swiglu, lambda a: F.silu(a.chunk(2, -1)[0]) * a.chunk(2, -1)[1], [x]
    )
    scores = random(4, 3, 16, columns, dtype=dtype)
    mask = random(4, 1, 16, columns, seed=1) > -1
    assert_as_good_as_eager(
        lambda a: fused.masked_softmax(a, mask, 0.125),
        lambda a: torch.softmax((a * 0.125).masked_fill(~mask, -torch.inf), -1),
        [scores],
    )


def kernels_of(function):
    from torch.profiler import ProfilerActivity, profile

    function()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
        function()
        torch.cuda.synchronize()
    return [e.name for e in found.events() if e.device_type == torch.autograd.DeviceType.CUDA]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_launch_forward_and_at_most_two_backward(fused, dtype):
    """With autograd around: nothing is cast, copied or cleared beside the kernels."""
    rows, image = random(256, 1024, dtype=dtype), random(8, 64, 28, 28, dtype=dtype)
    n, c = (random(1024, dtype=dtype), random(1024, dtype=dtype)), (random(64).to(dtype),) * 2
    cases = [
        (lambda x, w, b: fused.layer_norm(x, (1024,), w, b), rows, n, 2),
        (lambda x, w, b: fused.batch_norm(x, None, None, w, b, True), image, c, 1),
        (lambda x, w, b: fused.group_norm(x, 8, w, b), image, c, 2),
        (lambda x: fused.packed_swiglu(x), rows, (), 1),
        (lambda x: fused.masked_softmax(x, None, 0.5), rows, (), 1),
        (lambda x: fused.local_response_norm(x, 5), image, (), 1),
    ]
    for function, x, parameters, most in cases:
        leaves = [t.detach().clone().requires_grad_() for t in (x, *parameters)]
        y = function(*leaves)
        dy = torch.ones_like(y)
        assert len(kernels_of(lambda f=function, a=leaves: f(*a))) == 1

        def backward(y=y, leaves=leaves, dy=dy):
            torch.autograd.grad(y, leaves, dy, retain_graph=True)

        assert len(kernels_of(backward)) <= most


def test_gradcheck(fused):
    x, w, b = (t.double().requires_grad_() for t in (random(5, 9), random(9), random(9)))
    assert torch.autograd.gradcheck(lambda *a: fused.layer_norm(a[0], (9,), *a[1:]), (x, w, b))
    assert torch.autograd.gradcheck(lambda a: fused.gelu(a), (x,))
    image = random(3, 4, 2, 3).double().requires_grad_()
    w, b = (t.double().requires_grad_() for t in (random(4), random(4)))
    assert torch.autograd.gradcheck(
        lambda *a: fused.batch_norm(a[0], None, None, a[1], a[2], True), (image, w, b)
    )
    assert torch.autograd.gradcheck(lambda *a: fused.group_norm(a[0], 2, *a[1:]), (image, w, b))
    assert torch.autograd.gradcheck(lambda a: fused.local_response_norm(a, 3), (image,))


def test_streams_and_graphs(fused):
    x, w = random(512, 4096), random(4096)
    expected = fused.rms_norm(x, (4096,), w)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        late = x * 1
        found = fused.rms_norm(late, (4096,), w)
    torch.cuda.current_stream().wait_stream(stream)
    assert torch.equal(found, expected)
    graph = torch.cuda.CUDAGraph()
    static = x.clone()
    with torch.cuda.graph(graph):
        output = fused.batch_norm(static.view(32, 64, 64, 64), None, None, None, None, True)
    static.copy_(random(512, 4096, seed=5))
    graph.replay()
    again = fused.batch_norm(static.view(32, 64, 64, 64), None, None, None, None, True)
    assert torch.equal(output, again)


def test_every_device(fused):
    for index in range(torch.cuda.device_count()):
        x = torch.randn(100, 300, device=f"cuda:{index}")
        assert fused.layer_norm(x, (300,)).device == x.device


def test_torch_compile(fused):
    def step(x, w):
        return fused.layer_norm(fused.gelu(x), (x.shape[-1],), w).square().mean()

    x, w = random(64, 256).requires_grad_(), random(256).requires_grad_()
    expected = torch.autograd.grad(step(x, w), [x, w])
    found = torch.autograd.grad(torch.compile(step, fullgraph=True)(x, w), [x, w])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_backward_is_bitwise_repeatable(fused):
    x, w, b = random(4096, 1000), random(1000), random(1000)
    runs = [
        with_gradients(lambda a, c, d: fused.layer_norm(a, (1000,), c, d), [x, w, b])
        for _ in range(5)
    ]
    for run in runs[1:]:
        assert all(torch.equal(a, c) for a, c in zip(run, runs[0], strict=True))


def test_a_row_does_not_depend_on_the_batch(fused):
    for columns in (100, 1001, 8192, 40_000):
        x = random(64, columns, dtype=torch.bfloat16)
        together = fused.layer_norm(x, (columns,))
        assert torch.equal(fused.layer_norm(x[5:6].clone(), (columns,))[0], together[5])


def test_beyond_two_to_the_31(fused):
    n = 2**31 + 4099
    if torch.cuda.get_device_properties(0).total_memory < 12 * 2**30:
        pytest.skip("needs 12 GiB of device memory")
    x = torch.empty(n, dtype=torch.bfloat16, device="cuda").fill_(-2.0)
    x[-1] = 3.0
    y = fused.relu(x)
    assert y[-1] == 3.0 and y[0] == 0 and y[2**31 + 5] == 0
    del y
    rows = fused.softmax(x[: 2**31].view(2**21, 1024))
    assert torch.equal(rows[-1], torch.full_like(rows[-1], 1 / 1024))


def test_samplers_draw_what_the_cpu_draws(fused):
    def seeded(seed=3):
        return torch.Generator().manual_seed(seed)

    x, labels = torch.randn(30_011).exp_(), torch.randint(3, (30_011,))
    rows = torch.randn(30_011, 7)
    for index in range(torch.cuda.device_count()):
        there = torch.device("cuda", index)
        on = x.to(there)
        for n in (1_000, 2**40):
            drawn = fused.draw(n, 70_001, generator=seeded(), device=there)
            assert drawn.device == there
            assert torch.equal(drawn.cpu(), fused.draw(n, 70_001, generator=seeded()))
        drawn = fused.AliasTable(on).draw(40_001, generator=seeded())
        assert torch.equal(drawn.cpu(), fused.AliasTable(x).draw(40_001, generator=seeded()))
        for balance in (fused.oversample, fused.undersample):
            found = balance(rows.to(there), labels.to(there), generator=seeded())
            expected = balance(rows, labels, generator=seeded())
            assert all(torch.equal(a.cpu(), b) for a, b in zip(found, expected, strict=True))
        for name in ("bootstrap", "poisson_bootstrap", "bayesian_bootstrap_mean"):
            found = getattr(fused, name)(on, 33, generator=seeded())
            expected = getattr(fused, name)(x, 33, generator=seeded())
            assert found.device == there
            torch.testing.assert_close(found.cpu(), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            fused.resample(on.view(1, -1), 441, 160).cpu(),
            fused.resample(x.view(1, -1), 441, 160),
            rtol=0,
            atol=1e-4,
        )


def test_a_captured_draw_repeats_and_a_captured_bootstrap_is_refused(fused):
    rng = torch.Generator().manual_seed(1)
    fused.draw(100, 1_000, generator=rng, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        drawn = fused.draw(100, 1_000, generator=rng, device="cuda")
    graph.replay()
    once = drawn.clone()
    graph.replay()
    assert torch.equal(drawn, once)
    x = random(1_000)
    with (
        pytest.raises(RuntimeError, match=r"which a CUDA graph cannot capture"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        fused.bootstrap(x, 3, generator=rng)


def test_errors_say_what_to_do(fused):
    with pytest.raises(RuntimeError, match=r"is on cpu .*move one of them"):
        fused.swiglu(random(4), torch.randn(4))
    with pytest.raises(RuntimeError, match=r"dtype Int is not supported"):
        fused.relu(torch.ones(3, dtype=torch.int32, device="cuda"))
