"""The norms as operators: torch's checks, tracing, gradients, threads, instruction sets, errors."""

import pytest
import torch
from kernel_errors import assert_all_equal, dense_layouts, random

from benchbench import fused, native

LIBRARY = native.load()
OPERATORS = torch.ops.benchbench


def samples(dtype=torch.float32):
    """Arguments of every operator, in each of its modes."""
    kind = {"dtype": dtype, "grad": True}
    x, r, w, b = (
        random(6, 9, **kind),
        random(6, 9, seed=1, **kind),
        random(9, **kind),
        random(9, **kind),
    )
    for rms in (False, True):
        yield OPERATORS.norm_rows.default, (x, None, w, None if rms else b, 1e-5, rms)
        yield OPERATORS.norm_rows.default, (x, r, w, None, 1e-5, rms)
        yield OPERATORS.norm_rows.default, (x, None, None, None, 1e-5, rms)
        yield OPERATORS.row_norm.default, (x, w, None if rms else b, 1e-5, rms)
        yield OPERATORS.add_row_norm.default, (x, r, w, None if rms else b, 1e-5, rms)
    mean, var = random(3, dtype=dtype), random(3, dtype=dtype).square() + 1
    for x in dense_layouts(random(2, 3, 4, 5, dtype=dtype)):
        x = x.detach().requires_grad_()
        r = random(2, 3, 4, 5, seed=9, **kind)
        w, b = random(3, **kind), random(3, seed=1, **kind)
        for training in (True, False):
            run = (mean, var) if not training else (None, None)
            rest = (*run, training, 1e-5)
            yield OPERATORS.batch_norm.default, (x, None, w, b, *rest, False, 0.0)
            yield OPERATORS.batch_norm.default, (x, None, None, None, *rest, True, 0.0)
            yield OPERATORS.batch_norm.default, (x, None, w, b, *rest, True, 0.75)
            yield OPERATORS.batch_norm.default, (x, r, w, b, *rest, True, 0.0)


SAMPLES = 26


@pytest.mark.parametrize("index", range(SAMPLES))
def test_opcheck(index):
    cases = list(samples())
    assert len(cases) == SAMPLES
    operator, arguments = cases[index]
    torch.library.opcheck(operator, arguments)


@pytest.mark.parametrize("index", range(SAMPLES))
def test_gradcheck(index):
    operator, arguments = list(samples(torch.float64))[index]
    leaves = [a for a in arguments if isinstance(a, torch.Tensor) and a.requires_grad]

    def outputs(*_):
        results = operator(*arguments)
        results = results if isinstance(results, tuple) else (results,)
        return [r for r in results if r.requires_grad and r.numel()]

    torch.autograd.gradcheck(outputs, leaves)


def test_a_second_derivative_raises():
    x = random(4, 8, grad=True)
    for y in (
        fused.layer_norm(x, (8,)),
        fused.batch_norm(x, None, None, training=True),
    ):
        (dx,) = torch.autograd.grad((y * y * y).sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match=r"derivative|not implemented"):
            dx.sum().backward()


def test_no_graph_is_kept_when_no_gradient_is_needed():
    x, w = random(4, 8), random(8, grad=True)
    assert fused.layer_norm(x, (8,)).grad_fn is None
    with torch.no_grad():
        assert fused.layer_norm(x, (8,), w).grad_fn is None
    with torch.inference_mode():
        assert fused.batch_norm(x, None, None, w, training=True).grad_fn is None
    assert fused.layer_norm(x, (8,), w).grad_fn is not None


def test_compiles_to_one_graph_with_gradients():
    def step(x, r, w, b, image, running_mean, running_var):
        y, total = fused.add_layer_norm(x, r, (8,), w, b)
        y = fused.rms_norm(y, (8,), w) + total
        z = fused.batch_norm_relu(image, running_mean, running_var, training=True)
        return (y * y).sum() + (z * z).sum() + z[0, 0, 0, 0]

    def arguments():
        x, r = random(4, 8, grad=True), random(4, 8, seed=1, grad=True)
        w, b = random(8, seed=2, grad=True), random(8, seed=3, grad=True)
        image = random(2, 3, 5, 5).requires_grad_()
        return x, r, w, b, image, torch.zeros(3), torch.ones(3)

    plain, compiled = arguments(), arguments()
    expected = step(*plain)
    expected.backward()
    found = torch.compile(step, fullgraph=True, backend="aot_eager")(*compiled)
    found.backward()
    torch.testing.assert_close(found, expected)
    for mine, true in zip(compiled, plain, strict=True):
        torch.testing.assert_close(mine, true)  # running statistics moved alike
        torch.testing.assert_close(mine.grad, true.grad)


def test_results_do_not_depend_on_the_number_of_threads(threads):
    def everything():
        found = []
        for shape in ((700, 96), (3, 70_000), (64, 48, 9, 9)):
            for x in dense_layouts(random(*shape).detach()):
                x.requires_grad_()
                c, n = x.shape[1], x.shape[-1]
                w, v = random(n, grad=True), random(c, grad=True)
                y = fused.layer_norm(x, (n,), w)
                z = fused.batch_norm_relu(x, None, None, v, training=True)
                g = random(*shape, seed=4)
                found += [y, z, *torch.autograd.grad(y, (x, w), g)]
                found += torch.autograd.grad(z, (x, v), g)
        return found

    threads(1)
    alone = everything()
    for count in (2, 3):
        threads(count)
        assert_all_equal(everything(), alone)


def test_all_instruction_sets_agree():
    x, image = random(9, 333, mean=2.0), random(3, 5, 11, 13)
    before = LIBRARY.build_info()["instruction_set"]
    found = []
    try:
        for name in LIBRARY.build_info()["instruction_sets"]:
            LIBRARY.choose_instruction_set(name)
            found.append(
                (fused.layer_norm(x, (333,)), fused.batch_norm(image, None, None, training=True))
            )
    finally:
        LIBRARY.choose_instruction_set(before)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-5, atol=1e-6)


# ---- errors ----

X = torch.zeros(4, 8)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fused.layer_norm(X, (7,)), r"normalized_shape.*7.*\[?\(?4, 8"),
        (lambda: fused.layer_norm(X, ()), "normalized_shape"),
        (lambda: fused.layer_norm(X, (8,), torch.ones(7)), r"weight.*7"),
        (lambda: fused.layer_norm(X, (4, 8), torch.ones(8, 4)), r"weight.*8, 4"),
        (lambda: fused.layer_norm(X, (8,), None, torch.ones(8, 1)), r"bias.*8, 1"),
        (lambda: fused.layer_norm(X.long(), (8,)), "floating"),
        (lambda: fused.layer_norm(X, (8,), torch.ones(8).bfloat16()), r"weight.*BFloat16.*float32"),
        (lambda: fused.layer_norm(X, (8,), torch.ones(8).double()), r"weight.*Double"),
        (lambda: fused.layer_norm(X, (8,), torch.ones(8, device="meta")), r"weight.*meta"),
        (lambda: fused.add_layer_norm(X, X.double(), (8,)), r"residual.*Double"),
        (lambda: fused.add_layer_norm(X, X[:2], (8,)), r"residual.*\[2, 8\]"),
        (lambda: fused.batch_norm(X, None, None), "running statistics"),
        (lambda: fused.batch_norm(X[:1], None, None, training=True), "more than one value"),
        (lambda: fused.batch_norm(X[0], None, None, training=True), "dimensions"),
        (lambda: fused.batch_norm(X, torch.zeros(7), torch.ones(7)), r"running mean.*7"),
        (lambda: fused.batch_norm(X, torch.zeros(7), None, training=True), r"running mean.*7"),
        (lambda: fused.batch_norm_add_relu(X, X[:3], None, None, training=True), "residual"),
        (lambda: fused.batch_norm(X.int(), None, None, training=True), "floating"),
    ],
)
def test_errors_say_what_and_what_next(call, words):
    with pytest.raises((RuntimeError, ValueError), match=words) as caught:
        call()
    text = str(caught.value)
    assert any(hint in text for hint in ("must", "convert", "move", "use ", "pass", ";"))
