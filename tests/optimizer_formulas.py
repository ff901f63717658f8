"""Optimizers as their papers and torch's documentation write them, one number at a time in float64.

Independent of torch.optim: they say what its steps should compute. Gradients are taken in turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Step = Callable[[dict[str, Any], dict[str, Any], Tensor, Tensor, int], Tensor]
"""From options, state, parameters, gradient and the step's number (from 1) to new parameters."""


def run(
    make: type, options: dict[str, Any], start: Tensor, turns: list[Tensor], steps: int
) -> Tensor:
    """Parameters after ``steps`` steps from ``start``; ``make`` is the class in torch.optim."""
    step, defaults = FORMULAS[make.__name__]
    given = {**defaults, **options}
    decoupled = given.get("decoupled_weight_decay", make is torch.optim.AdamW)
    decay, state, p = given.get("weight_decay", 0.0), {}, start.clone()
    for k in range(1, steps + 1):
        g = turns[(k - 1) % len(turns)]
        g = -g if given.get("maximize") else g
        if decoupled:
            p = p * (1 - given["lr"] * decay)
        else:
            g = g + decay * p
        p = step(given, state, p, g, k)
    return p


def _average(state: dict[str, Any], name: str, value: Tensor, beta: float) -> Tensor:
    state[name] = beta * state.get(name, torch.zeros_like(value)) + (1 - beta) * value
    return state[name]


def sgd(o: dict[str, Any], s: dict[str, Any], p: Tensor, g: Tensor, k: int) -> Tensor:
    mu = o["momentum"]
    s["b"] = g if k == 1 else mu * s["b"] + (1 - o["dampening"]) * g
    update = s["b"] if mu else g
    return p - o["lr"] * (g + mu * s["b"] if o["nesterov"] else update)


def adam(o: dict[str, Any], s: dict[str, Any], p: Tensor, g: Tensor, k: int) -> Tensor:
    b1, b2 = o["betas"]
    mean = _average(s, "m", g, b1) / (1 - b1**k)
    square = _average(s, "v", g * g, b2)
    if o["amsgrad"]:  # torch takes the maximum before the correction of the bias
        square = s["top"] = torch.maximum(s.get("top", square), square)
    return p - o["lr"] * mean / ((square / (1 - b2**k)).sqrt() + o["eps"])


def rmsprop(o: dict[str, Any], s: dict[str, Any], p: Tensor, g: Tensor, k: int) -> Tensor:
    square = _average(s, "v", g * g, o["alpha"])
    if o["centered"]:
        square = square - _average(s, "m", g, o["alpha"]) ** 2
    update = g / (square.sqrt() + o["eps"])
    s["b"] = o["momentum"] * s.get("b", torch.zeros_like(p)) + update
    return p - o["lr"] * s["b"]


def adagrad(o: dict[str, Any], s: dict[str, Any], p: Tensor, g: Tensor, k: int) -> Tensor:
    s["sum"] = s.get("sum", torch.full_like(p, o["initial_accumulator_value"])) + g * g
    rate = o["lr"] / (1 + (k - 1) * o["lr_decay"])
    return p - rate * g / (s["sum"].sqrt() + o["eps"])


def adadelta(o: dict[str, Any], s: dict[str, Any], p: Tensor, g: Tensor, k: int) -> Tensor:
    before = s.get("u", torch.zeros_like(p))
    square = _average(s, "v", g * g, o["rho"])
    delta = ((before + o["eps"]) / (square + o["eps"])).sqrt() * g
    _average(s, "u", delta * delta, o["rho"])
    return p - o["lr"] * delta


def adamax(o: dict[str, Any], s: dict[str, Any], p: Tensor, g: Tensor, k: int) -> Tensor:
    b1, b2 = o["betas"]
    mean = _average(s, "m", g, b1)
    s["u"] = torch.maximum(b2 * s.get("u", torch.zeros_like(p)), g.abs() + o["eps"])
    return p - o["lr"] / (1 - b1**k) * mean / s["u"]


def nadam(o: dict[str, Any], s: dict[str, Any], p: Tensor, g: Tensor, k: int) -> Tensor:
    b1, b2 = o["betas"]
    mu, following = (b1 * (1 - 0.5 * 0.96 ** (i * o["momentum_decay"])) for i in (k, k + 1))
    product = s["product"] = s.get("product", 1.0) * mu
    mean = following * _average(s, "m", g, b1) / (1 - product * following)
    mean = mean + (1 - mu) * g / (1 - product)
    return p - o["lr"] * mean / ((_average(s, "v", g * g, b2) / (1 - b2**k)).sqrt() + o["eps"])


def radam(o: dict[str, Any], s: dict[str, Any], p: Tensor, g: Tensor, k: int) -> Tensor:
    b1, b2 = o["betas"]
    mean, square = _average(s, "m", g, b1) / (1 - b1**k), _average(s, "v", g * g, b2)
    top = 2 / (1 - b2) - 1
    rho = top - 2 * k * b2**k / (1 - b2**k)
    if rho <= 5:
        return p - o["lr"] * mean
    rectified = math.sqrt((rho - 4) * (rho - 2) * top / ((top - 4) * (top - 2) * rho))
    return p - o["lr"] * mean * rectified * math.sqrt(1 - b2**k) / (square.sqrt() + o["eps"])


def rprop(o: dict[str, Any], s: dict[str, Any], p: Tensor, g: Tensor, k: int) -> Tensor:
    less, more = o["etas"]
    agreed = (g * s.get("g", torch.zeros_like(p))).sign()
    factor = torch.where(agreed > 0, more, torch.where(agreed < 0, less, 1.0)).double()
    s["size"] = (s.get("size", torch.full_like(p, o["lr"])) * factor).clamp(*o["step_sizes"])
    s["g"] = torch.where(agreed < 0, 0.0, g)
    return p - s["g"].sign() * s["size"]


def asgd(o: dict[str, Any], s: dict[str, Any], p: Tensor, g: Tensor, k: int) -> Tensor:
    lr, decay = o["lr"], o["lambd"]
    rate = s.get("rate", lr)
    s["rate"] = lr / (1 + decay * lr * k) ** o["alpha"]
    return p * (1 - decay * rate) - rate * g


def adafactor(o: dict[str, Any], starts: list[Tensor], turns: list[list[Tensor]], steps: int):
    """Shazeer and Stern 2018, with torch's placement of the epsilons; whole tensors in float64."""
    result, (eps1, eps2), clip = [], o["eps"], o.get("d", 1.0)
    for i, p in enumerate(starts):
        rows, columns, squares = 0.0, 0.0, 0.0
        for k in range(1, steps + 1):
            g = turns[(k - 1) % len(turns)][i] * (-1 if o.get("maximize") else 1)
            fresh = k ** o.get("beta2_decay", -0.8)
            size = max(eps2, float(p.square().mean().sqrt())) * min(o["lr"], k**-0.5)
            p = p * (1 - o["lr"] * o.get("weight_decay", 0.0))
            if p.dim() > 1:
                rows = (1 - fresh) * rows + fresh * g.square().mean(-1, keepdim=True)
                columns = (1 - fresh) * columns + fresh * g.square().mean(-2, keepdim=True)
                squares = rows * columns / rows.mean(-2, keepdim=True).clamp(min=eps1)
            else:
                squares = (1 - fresh) * squares + fresh * g.square()
            update = g / squares.sqrt().clamp(min=eps1)
            p = p - size * update / max(1.0, float(update.square().mean().sqrt()) / clip)
        result.append(p)
    return result


def muon(o: dict[str, Any], starts: list[Tensor], turns: list[list[Tensor]], steps: int):
    """Jordan et al. 2024: the odd polynomial of Newton-Schulz acts on singular values alone."""
    result = []
    for i, p in enumerate(starts):
        average, (n, m) = torch.zeros_like(p), p.shape
        factor = {
            "original": max(1.0, n / m) ** 0.5,
            "match_rms_adamw": 0.2 * max(n, m) ** 0.5,
            "spectral_unclamped": (n / m) ** 0.5,
        }[o.get("adjust_lr_fn", "original")]
        for k in range(1, steps + 1):
            g = turns[(k - 1) % len(turns)][i]
            average = 0.95 * average + 0.05 * g
            u, values, v = torch.linalg.svd(
                0.95 * average + 0.05 * g if o.get("nesterov", True) else average,
                full_matrices=False,
            )
            values = values / values.norm()
            for _ in range(5):
                values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
            p = p * (1 - o["lr"] * o["weight_decay"])
            p = p - o["lr"] * factor * (u * values) @ v
        result.append(p)
    return result


def lbfgs(function: Callable[[Tensor], Tensor], start: Tensor, iterations: int) -> Tensor:
    """Nocedal and Wright 2006, algorithm 7.4, with the inverse Hessian as a matrix (BFGS, 6.17).

    With a history as long as the run, limited memory differs from BFGS only in the first matrix,
    which L-BFGS scales anew in each iteration.
    """
    p, pairs = start.clone(), []

    def gradient(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_(True)
        return torch.autograd.grad(function(x), x)[0]

    g = gradient(p)
    for k in range(iterations):
        if not pairs:
            d = -g * min(1.0, 1.0 / float(g.abs().sum()))
        else:
            s, y = pairs[-1]
            h = torch.eye(len(p), dtype=p.dtype) * (s @ y) / (y @ y)
            for s, y in pairs:
                rho = 1 / (s @ y)
                left = torch.eye(len(p), dtype=p.dtype) - rho * torch.outer(s, y)
                h = left @ h @ left.T + rho * torch.outer(s, s)
            d = -h @ g
        p = p + d
        if k + 1 < iterations:
            before, g = g, gradient(p)
            pairs.append((d, g - before))
    return p


ADAM = {"betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False}
FORMULAS: dict[str, tuple[Step, dict[str, Any]]] = {
    "SGD": (sgd, {"momentum": 0.0, "dampening": 0.0, "nesterov": False}),
    "Adam": (adam, ADAM),
    "AdamW": (adam, ADAM),
    "RMSprop": (rmsprop, {"alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "centered": False}),
    "Adagrad": (adagrad, {"lr_decay": 0.0, "eps": 1e-10, "initial_accumulator_value": 0.0}),
    "Adadelta": (adadelta, {"rho": 0.9, "eps": 1e-6}),
    "Adamax": (adamax, ADAM),
    "NAdam": (nadam, {**ADAM, "momentum_decay": 0.004}),
    "RAdam": (radam, ADAM),
    "Rprop": (rprop, {"etas": (0.5, 1.2), "step_sizes": (1e-6, 50.0)}),
    "ASGD": (asgd, {"lambd": 1e-4, "alpha": 0.75}),
}
"""By class in torch.optim: the step, and torch's documented defaults."""
