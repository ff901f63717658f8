"""Losses: the sixth kind. It came with this module and one entry point, no line of the core.

Class-index against one-hot targets is the comparison that matters here: the loss is the same, but
an index target is 8 bytes a row, a one-hot target 4 bytes a class and row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import benchbench as bb

CROSS_ENTROPY = "losses/cross-entropy"
NLL = "losses/nll"
MSE = "losses/mse"


def make_cross_entropy(params: bb.Params, seed: int) -> bb.Inputs:
    """Logits (rows, classes), targets as class indices (rows,) int64 and one-hot in float32."""
    import torch
    from torch.nn.functional import one_hot

    _, classes = _shape(params)
    logits, target, rng = _classified(params, seed)
    hot = one_hot(target, classes).to(torch.float32)
    return bb.Inputs(
        {"logits": logits, "target": target, "hot": hot}, **_direction(params, rng, "logits")
    )


def make_nll(params: bb.Params, seed: int) -> bb.Inputs:
    """Log-probabilities (rows, classes) and class indices (rows,) int64."""
    logits, target, rng = _classified(params, seed)
    scores = logits.log_softmax(1)
    return bb.Inputs({"scores": scores, "target": target}, **_direction(params, rng, "scores"))


def make_mse(params: bb.Params, seed: int) -> bb.Inputs:
    """Prediction and target, both of the case's shape, standard normal."""
    import torch

    rng = torch.Generator().manual_seed(seed)
    prediction, target = (
        torch.randn(_shape(params), generator=rng).to(str(params["device"])) for _ in range(2)
    )
    return bb.Inputs(
        {"prediction": prediction, "target": target}, **_direction(params, rng, "prediction")
    )


def _shape(params: bb.Params) -> tuple[int, int]:
    shape = params["shape"]
    if not isinstance(shape, tuple) or len(shape) != 2:
        raise ValueError(f"shape={shape}: give rows and columns such as 4096x1000")
    return int(shape[0]), int(shape[1])


def _classified(params: bb.Params, seed: int) -> tuple[Any, Any, Any]:
    import torch

    rows, classes = _shape(params)
    rng, device = torch.Generator().manual_seed(seed), str(params["device"])
    logits = torch.randn(rows, classes, generator=rng).mul_(2)
    target = torch.randint(classes, (rows,), generator=rng)
    return logits.to(device), target.to(device), rng


def _direction(params: bb.Params, rng: Any, name: str) -> dict[str, Any]:
    """Gradients with respect to ``name`` when the case asks for them; the loss is a scalar."""
    import torch

    if params["direction"] == "forward":
        return {}
    return {
        "wrt": (name,),
        "cotangents": (torch.rand((), generator=rng).add_(0.5).to(str(params["device"])),),
    }


def _in_float64(function: Callable[..., Any]) -> Callable[[bb.Inputs], Any]:
    """The same loss in float64, with the gradient where the case has one."""
    return lambda inputs: inputs.double().thunk(function)()


# One function a contender. Each takes all inputs of its workload and ignores what it does not use.


def index_targets(logits: Any, target: Any, hot: Any) -> Any:
    """cross_entropy with class indices: 8 bytes of target a row."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits, target)


def one_hot_targets(logits: Any, target: Any, hot: Any) -> Any:
    """cross_entropy with class probabilities, one-hot: 4 bytes of target a class and row."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits, hot)


def one_hot_made(logits: Any, target: Any, hot: Any) -> Any:
    """cross_entropy with one-hot targets that each call makes from the indices."""
    from torch.nn.functional import cross_entropy, one_hot

    return cross_entropy(logits, one_hot(target, logits.shape[1]).to(logits.dtype))


def gathered(logits: Any, target: Any, hot: Any) -> Any:
    """logsumexp minus the target's logit: the other log-probabilities are never written."""
    picked = logits.gather(1, target[:, None]).squeeze(1)
    return (logits.logsumexp(1) - picked).mean()


def hot_product(logits: Any, target: Any, hot: Any) -> Any:
    """Mean over rows of the product of one-hot targets and log_softmax, as textbooks write it."""
    return -(hot * logits.log_softmax(1)).sum(1).mean()


def nll_loss(scores: Any, target: Any) -> Any:
    """torch.nn.functional.nll_loss."""
    from torch.nn.functional import nll_loss

    return nll_loss(scores, target)


def nll_gather(scores: Any, target: Any) -> Any:
    """Mean of the gathered log-probabilities, negated."""
    return -scores.gather(1, target[:, None]).mean()


def nll_index(scores: Any, target: Any) -> Any:
    """Mean over advanced indexing by row and class, negated."""
    import torch

    return -scores[torch.arange(len(scores), device=scores.device), target].mean()


def mse_loss(prediction: Any, target: Any) -> Any:
    """torch.nn.functional.mse_loss."""
    from torch.nn.functional import mse_loss

    return mse_loss(prediction, target)


def mse_by_hand(prediction: Any, target: Any) -> Any:
    """Mean of the squared difference, operation by operation."""
    return (prediction - target).square().mean()


def mse_row_dots(prediction: Any, target: Any) -> Any:
    """Dot product of each row's difference with itself, then their mean: squares are not stored.

    One dot product over the whole tensor would be simpler, but sums 4 million squares in float32
    without pairing and is 300 times less accurate.
    """
    import torch

    difference = prediction - target
    squares = torch.bmm(difference[:, None, :], difference[:, :, None])
    return squares.mean() / difference.shape[1]


CONTENDERS: dict[str, dict[str, Callable[..., Any]]] = {
    CROSS_ENTROPY: {
        "index": index_targets,
        "one-hot": one_hot_targets,
        "one-hot-made": one_hot_made,
        "gather": gathered,
        "one-hot-product": hot_product,
    },
    NLL: {"torch": nll_loss, "gather": nll_gather, "indexing": nll_index},
    MSE: {"torch": mse_loss, "by-hand": mse_by_hand, "row-dots": mse_row_dots},
}


def work_cross_entropy(params: bb.Params) -> bb.Work:
    """Logits and index targets read once; the gradient written once where there is one."""
    rows, classes = _shape(params)
    passes = 1 if params["direction"] == "forward" else 2
    return bb.Work(
        bytes=4.0 * rows * classes * passes + 8.0 * rows,
        items=float(rows),
        item="row",
    )


def work_nll(params: bb.Params) -> bb.Work:
    """A log-probability and a target read for each row; the whole gradient written."""
    rows, classes = _shape(params)
    gradient = 0.0 if params["direction"] == "forward" else 4.0 * rows * classes
    return bb.Work(bytes=12.0 * rows + gradient, items=float(rows), item="row")


def work_mse(params: bb.Params) -> bb.Work:
    """Two tensors read once; the gradient written once where there is one."""
    rows, columns = _shape(params)
    size, backward = float(rows * columns), params["direction"] != "forward"
    return bb.Work(
        bytes=4 * size * (3 if backward else 2),
        items=size,
        item="element",
    )


@bb.hookimpl
def benchbench_workloads() -> Iterator[bb.Workload]:
    """Cross-entropy, negative log-likelihood and mean squared error, means over rows."""
    classes = ((4096, 1000), (256, 50257), (65536, 10), (1024, 50257))
    both = ("forward", "forward+backward")
    for name, make, baseline, work, shapes, quick, doc in (
        (
            CROSS_ENTROPY,
            make_cross_entropy,
            "index",
            work_cross_entropy,
            classes,
            both,
            "Mean cross-entropy of logits; targets are given as class indices and one-hot.",
        ),
        (
            NLL,
            make_nll,
            "torch",
            work_nll,
            classes,
            (),
            "Mean negative log-likelihood of class indices.",
        ),
        (
            MSE,
            make_mse,
            "torch",
            work_mse,
            ((4096, 1024), (32, 128)),
            both[1:],
            "Mean squared error over all elements.",
        ),
    ):
        yield bb.Workload(
            name=name,
            doc=doc,
            make=make,
            baseline=baseline,
            reference=_in_float64(CONTENDERS[name][baseline]),
            work=work,
            axes={
                "shape": shapes,
                "direction": both,
                "device": ("cpu", "cuda"),
            },
            presets={
                "quick": [{"direction": quick}] if quick else [],
                "standard": {"shape": shapes[:3], "direction": both},
                "full": {"shape": shapes, "direction": both},
                "gpu": {
                    "shape": ((65536, 1000),) if name != MSE else ((16384, 4096),),
                    "direction": both,
                    "device": ("cuda",),
                },
            },
        )


@bb.hookimpl
def benchbench_implementations() -> Iterator[bb.Implementation]:
    """Every contender of :data:`CONTENDERS`, in the direction that the case asks for."""
    for workload, functions in CONTENDERS.items():
        for name, function in functions.items():
            yield bb.Implementation(
                workload=workload,
                name=name,
                build=_builder(function),
                doc=(function.__doc__ or "").strip(),
            )


def _builder(function: Callable[..., Any]) -> Callable[[bb.Inputs], bb.Thunk]:
    return lambda inputs: inputs.thunk(function)
