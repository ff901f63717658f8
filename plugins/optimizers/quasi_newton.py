"""Ten iterations of L-BFGS from the start, on problems that are the same for all.

A call of ``torch.optim.LBFGS.step`` is a whole minimisation with evaluations of the loss in
between, and soon has nothing left to do. So a call here starts anew: parameters at their first
values, an empty history, ten iterations, then the parameters are returned. ``evaluate`` counts in
all contenders alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import benchbench as bb
from benchbench_plugins import _functional as shared
from benchbench_plugins.optimizers.algorithms import PLAIN, Algorithm, Switch

ITERATIONS = 10
LBFGS = Algorithm(
    name="lbfgs",
    make=torch.optim.LBFGS,
    # Tolerances of zero, so that nobody stops early.
    settings={
        "lr": 1.0,
        "max_iter": ITERATIONS,
        "history_size": ITERATIONS,
        "tolerance_grad": 0.0,
        "tolerance_change": 0.0,
    },
    passes=1,
    switches={"strong-wolfe": Switch(options={"line_search_fn": "strong_wolfe"})},
)
ROWS, FEATURES, CLASSES, RIDGE = 1024, 64, 10, 1e-2
COUNT, WIDTH = 1 << 20, 2.0**-20
"""The first step of L-BFGS has length one over all numbers, so each is about 1 / COUNT away from
its best value. Were it 1, the first step would change the gradient by no more than rounding."""
Loss = Callable[[Tensor], Tensor]
"""From the flat parameters to a scalar."""


def make(params: bb.Params, seed: int) -> bb.Inputs:
    """Data of the problem and the parameters' first values, ``start`` (flat)."""
    rng = torch.Generator().manual_seed(seed)
    values: dict[str, Any]
    if params["problem"] == "logistic-64x10":
        x = torch.randn(ROWS, FEATURES, generator=rng)
        teacher = torch.randn(FEATURES, CLASSES, generator=rng)
        noise = torch.randn(ROWS, CLASSES, generator=rng).mul_(4)
        target = (x @ teacher + noise).argmax(1)
        values = {"x": x, "target": target, "start": torch.zeros(FEATURES * CLASSES)}
    else:
        # Curvatures between 0.2 and 2: ten iterations get far, but not to the end.
        scale = torch.rand(COUNT, generator=rng).mul_(math.log(10)).exp_().div_(5)
        centre = torch.randn(COUNT, generator=rng).mul_(WIDTH)
        values = {"scale": scale, "centre": centre, "start": torch.zeros(COUNT)}
    device = str(params["device"])
    values = {name: value.to(device) for name, value in values.items()}
    return bb.Inputs({**values, "options": LBFGS.options(str(params["switch"]))})


def loss_of(inputs: Any) -> Loss:
    """The function to minimise, smooth and convex.

    Logistic regression with a ridge penalty; or, elementwise, the sum of ``a log cosh(p - c)`` in
    units of WIDTH, whose cost next to L-BFGS's own is small.
    """
    if "x" in inputs:
        x, target = inputs.x, inputs.target

        def logistic(p: Tensor) -> Tensor:
            scores = x @ p.view(FEATURES, CLASSES)
            return F.cross_entropy(scores, target) + RIDGE / 2 * p.square().sum()

        return logistic
    scale, centre = inputs.scale, inputs.centre

    def log_cosh(p: Tensor) -> Tensor:
        distance = (p - centre).abs() / WIDTH
        return WIDTH**2 * (scale * (distance + F.softplus(-2 * distance) - math.log(2))).sum()

    return log_cosh


def torch_thunk(inputs: Any) -> bb.Thunk:
    """torch.optim.LBFGS: history in lists of vectors, two loops over it."""
    loss, start = loss_of(inputs), inputs.start

    def call() -> Tensor:
        p = start.clone().requires_grad_(True)
        optimizer = torch.optim.LBFGS([p], **inputs.options)

        def evaluate() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            value = loss(p)
            value.backward()
            return value

        optimizer.step(evaluate)
        return p.detach()

    return call


def two_loops(gram: Tensor, pairs: int) -> list[float]:
    """Coefficients of the direction in the basis (s_1.., y_1.., g), from its Gram matrix.

    Both loops of L-BFGS only take inner products and add multiples, so they can be made on
    2 m + 1 numbers instead of vectors (Chen, Wang, Zhou 2014, "Large-scale L-BFGS using
    MapReduce"). ``gram`` is on the host, in float64.
    """
    last = 2 * pairs
    combined = torch.zeros(last + 1, dtype=torch.float64)
    combined[last] = -1.0
    alphas = []
    for i in range(pairs - 1, -1, -1):
        alpha = float(gram[i] @ combined) / float(gram[i, pairs + i])
        combined[pairs + i] -= alpha
        alphas.append(alpha)
    if pairs:
        s, y = pairs - 1, last - 1
        combined *= gram[s, y] / gram[y, y]
    for i, alpha in zip(range(pairs), reversed(alphas), strict=True):
        beta = float(gram[pairs + i] @ combined) / float(gram[i, pairs + i])
        combined[i] += alpha - beta
    return combined.tolist()  # type: ignore[no-any-return]


def vector_free_thunk(inputs: Any) -> bb.Thunk:
    """The history is a matrix: two products with it an iteration, the loops on 2 m + 1 numbers."""
    loss, start, lr = loss_of(inputs), inputs.start, float(inputs.options["lr"])

    def gradient_at(p: Tensor) -> Tensor:
        p.requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(p), p)
        p.requires_grad_(False)
        return gradient

    def call() -> Tensor:
        p = start.clone()
        # Rows are s_1, y_1, s_2, y_2, ...
        history = p.new_empty(2 * ITERATIONS, len(p))
        gram = torch.zeros(2 * ITERATIONS, 2 * ITERATIONS, dtype=torch.float64)
        pairs, gradient = 0, gradient_at(p)
        step = -gradient * min(1.0, 1.0 / float(gradient.abs().sum())) * lr
        for iteration in range(1, ITERATIONS + 1):
            p += step
            if iteration == ITERATIONS:
                break
            before, gradient = gradient, gradient_at(p)
            s, y = history[2 * pairs], history[2 * pairs + 1]
            s.copy_(step)
            torch.sub(gradient, before, out=y)
            pairs += 1
            rows = 2 * pairs
            columns = torch.stack([s, y, gradient])
            products = (history[:rows] @ columns.T).double().cpu()
            if not products[rows - 2, 1] > 1e-10:  # curvature, as torch has it
                pairs -= 1
                continue
            gram[:rows, rows - 2 : rows] = products[:, :2]
            gram[rows - 2 : rows, :rows] = products[:, :2].T
            order = [*range(0, rows, 2), *range(1, rows, 2)]
            basis = torch.zeros(rows + 1, rows + 1, dtype=torch.float64)
            basis[:rows, :rows] = gram[order][:, order]
            basis[:rows, rows] = basis[rows, :rows] = products[order, 2]
            found = two_loops(basis, pairs)
            weights = p.new_zeros(rows)
            weights[order] = p.new_tensor(found[:rows])
            step = torch.addmv(gradient, history[:rows].T, weights, beta=found[rows], alpha=1.0)
            step *= lr
        return p

    return call


def reference(inputs: bb.Inputs) -> Any:
    """torch's L-BFGS in float64."""
    return torch_thunk(inputs.double())()


def check(evidence: bb.Evidence) -> str | None:
    """The loss fell as far as in float64."""
    loss = loss_of(evidence.inputs.double())
    first, last, wanted = (
        float(loss(p.double()))
        for p in (evidence.inputs.start, evidence.output, evidence.reference)
    )
    if not abs(last - wanted) <= 1e-5 * (first - wanted):
        return f"the loss fell from {first:.6g} to {last:.6g}, in float64 to {wanted:.6g}"
    return None


def work(params: bb.Params) -> bb.Work:
    """The history's vectors, written once, and read once to reach each direction."""
    count = FEATURES * CLASSES if params["problem"] == "logistic-64x10" else COUNT
    pairs = ITERATIONS - 1
    return bb.Work(
        bytes=4.0 * count * (2 * pairs + pairs * (pairs + 1)), items=ITERATIONS, item="iteration"
    )


def _no_line_search(params: bb.Params) -> str | None:
    if params["switch"] == "strong-wolfe":
        return "it takes steps of the learning rate, without a line search; choose switch=none"
    return shared.no_cuda(params)


def workloads() -> Iterator[bb.Workload]:
    """L-BFGS."""
    problems = ("logistic-64x10", "logcosh-1M")
    yield bb.Workload(
        name="optimizers/lbfgs",
        doc="Ten iterations of L-BFGS from the start, losses and gradients included.",
        axes={
            "problem": problems,
            "switch": (PLAIN, *LBFGS.switches),
            "device": shared.DEVICES,
        },
        presets={
            "quick": [],
            "standard": {"problem": problems},
            "full": {"problem": problems, "switch": (PLAIN, *LBFGS.switches)},
            "gpu": {"problem": problems[1:], "device": shared.CUDA},
        },
        make=make,
        reference=reference,
        # Iterations feed on each other: rounding grows from one to the next.
        tolerance=bb.Tolerance(factor=10, units=256, absolute=1e-3),
        check=check,
        work=work,
        baseline="torch",
    )


def implementations() -> Iterator[bb.Implementation]:
    """torch's, and one on a matrix of the history."""
    for name, build, reason in (
        ("torch", torch_thunk, shared.no_cuda),
        ("vector-free", vector_free_thunk, _no_line_search),
    ):
        yield bb.Implementation(
            workload="optimizers/lbfgs",
            name=name,
            build=build,
            unavailable=reason,
            doc=(build.__doc__ or "").strip(),
        )
