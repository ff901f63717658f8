"""Parameter lists: the shapes that an optimizer meets in real models, written as formulas."""

from __future__ import annotations

from collections.abc import Iterator

from benchbench.errors import suggestion

Shape = tuple[int, ...]


def _norm(channels: int) -> Iterator[Shape]:
    yield (channels,)
    yield (channels,)


def _convolution(outputs: int, inputs: int, kernel: int) -> Iterator[Shape]:
    yield (outputs, inputs, kernel, kernel)
    yield from _norm(outputs)


def resnet(blocks: tuple[int, int, int, int], *, bottleneck: bool) -> list[Shape]:
    """Parameters of a ResNet (He et al. 2016) for 1000 classes, in the order of the modules."""
    shapes = list(_convolution(64, 3, 7))
    inputs = 64
    expansion = 4 if bottleneck else 1
    for stage, count in enumerate(blocks):
        width = 64 << stage
        for block in range(count):
            outputs = width * expansion
            if bottleneck:
                shapes += _convolution(width, inputs, 1)
                shapes += _convolution(width, width, 3)
                shapes += _convolution(outputs, width, 1)
            else:
                shapes += _convolution(width, inputs, 3)
                shapes += _convolution(width, width, 3)
            if block == 0 and (stage > 0 or inputs != outputs):
                shapes += _convolution(outputs, inputs, 1)
            inputs = outputs
    return [*shapes, (1000, inputs), (1000,)]


def parameter_list(name: str) -> list[Shape]:
    """Shapes by the name on the axis ``parameters``.

    Raises:
        ValueError: there is no such list.
    """
    if name == "resnet50":
        return resnet((3, 4, 6, 3), bottleneck=True)
    if name == "resnet18":
        return resnet((2, 2, 2, 2), bottleneck=False)
    if name == "one-64M":
        return [(64 << 20,)]
    if name == "1000x1k":
        return [(1024,)] * 1000
    if name in BLOCKS:
        return blocks(*BLOCKS[name])
    known = (*NAMES, *BLOCKS)
    raise ValueError(
        f"no parameter list is called {name!r}; there are {', '.join(known)}."
        f"{suggestion(name, known)}"
    )


def blocks(width: int, count: int) -> list[Shape]:
    """The matrices of ``count`` transformer blocks: four of attention, two of the inner layer."""
    inner = 4 * width
    return [*[(width, width)] * 4, (inner, width), (width, inner)] * count


NAMES = ("resnet50", "resnet18", "one-64M", "1000x1k")
BLOCKS = {"blocks-128x4": (128, 4), "blocks-256x2": (256, 2), "blocks-2048x4": (2048, 4)}
"""Matrices only, by name: width and number of blocks."""
