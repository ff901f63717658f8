"""What tests of the CUDA kernels share: the library on the host executor, arrays, tolerances."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import torch
from host_kernels import CSRC, Executor, compile_library, pointer

SANITIZED = "BENCHBENCH_TEST_SANITIZED"
TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.float64: 3}
WIDTHS = {torch.float32: 4, torch.bfloat16: 8, torch.float16: 8, torch.float64: 2}
SIZES = (
    "workspace",
    "partial_rows",
    "gradient_rows",
    "pixel_bytes",
    "slope_partial",
    "group_bytes",
    "group_rows",
    "draw_chunks",
    "quotient",
)
ACTIVATIONS = ("relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu")


class Kernels:
    """The launchers, with tensors in guarded memory for arguments."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        for name in SIZES:
            # Not executor.c[name], which makes another one each time.
            getattr(executor.c, name).restype = ctypes.c_int64

    def __call__(self, name: str, *arguments: object, launches: int | None = 1) -> None:
        """Run; any error of the executor fails the test, as do other than ``launches`` launches."""
        function = self.executor.c[f"run_{name}"]
        function.restype = ctypes.c_char_p
        before = self.executor.launches
        error = function(*map(word, arguments)).decode()
        assert error == "", error
        if launches is not None:
            assert self.executor.launches - before == launches

    def device(
        self,
        processors: int = 4,
        major: int = 9,
        cooperative: bool = True,
        shared: int = 227 * 1024,
    ) -> None:
        """What the next launchers are told; without arguments as at first. ``shared`` in bytes."""
        self.executor.c.set_device(processors, major, int(cooperative), shared)

    def size(self, name: str, *arguments: int) -> int:
        return int(getattr(self.executor.c, name)(*map(ctypes.c_int64, arguments)))

    def workspace(self, dtype: torch.dtype, rows: int, columns: int) -> torch.Tensor:
        size = self.executor.c.workspace(TYPES[dtype], *map(ctypes.c_int64, (rows, columns)))
        return self.executor.empty((size,), torch.uint8)

    def partial(self, dtype: torch.dtype, rows: int, columns: int) -> torch.Tensor:
        count = self.executor.c.partial_rows(ctypes.c_int64(rows))
        return self.aligned((count, columns), real(dtype))

    def pixel_workspace(self, channels: int) -> torch.Tensor:
        size = self.executor.c.pixel_bytes(ctypes.c_int64(channels))
        return self.executor.empty((size,), torch.uint8)

    def gradient_partial(self, dtype: torch.dtype, rows: int, columns: int) -> torch.Tensor:
        count = self.executor.c.gradient_rows(ctypes.c_int64(rows))
        return self.aligned((2, count, columns), real(dtype))

    def aligned(self, shape, dtype, offset: int = 0) -> torch.Tensor:
        """In guarded memory, ``offset`` elements behind an address that is aligned to a page."""
        return self.executor.empty(shape, dtype, at_end=False, offset=offset)

    def copy(self, tensor: torch.Tensor, offset: int = 0) -> torch.Tensor:
        return self.aligned(tensor.shape, tensor.dtype, offset).copy_(tensor)


def word(argument: object) -> object:
    if argument is None or isinstance(argument, torch.Tensor):
        return pointer(argument)
    if isinstance(argument, bool):
        return int(argument)
    if isinstance(argument, int):
        return ctypes.c_int64(argument)
    if isinstance(argument, float):
        return ctypes.c_double(argument)
    return argument


def load(cache: Path) -> Kernels:
    """Compile the kernels (a minute, once for their text) and load them."""
    interface = Path(__file__).parent / "host_executor" / "interface.cu"
    sources = [*sorted((CSRC / "cuda").glob("*.cu")), interface]
    # Set by test_cuda_sanitizer.py for the tests that it runs in a process of their own.
    extra = ("-fsanitize=address",) if os.environ.get(SANITIZED) else ()
    return Kernels(Executor(compile_library(sources, cache, extra)))


def real(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def random(*shape: int, dtype=torch.float32, mean: float = 0.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return (torch.randn(shape, generator=generator, dtype=torch.float64) + mean).to(dtype)


ROUNDING = {
    torch.float32: 2.0**-24,
    torch.bfloat16: 2.0**-9,
    torch.float16: 2.0**-12,
    torch.float64: 2.0**-53,
}


def close(value: torch.Tensor, truth: torch.Tensor, units: float, floor: float = 1.0) -> None:
    """``value`` within ``units`` roundings of its dtype of the float64 ``truth``.

    Relative to the element, or to ``floor`` times the root mean square where that is larger.
    """
    assert value.shape == truth.shape
    if truth.numel() == 0:
        return
    truth = truth.double()
    scale = torch.maximum(truth.abs(), floor * truth.square().mean().sqrt() + 1e-300)
    error = ((value.double() - truth).abs() / scale).max().item()
    assert error <= units * ROUNDING[value.dtype], (error / ROUNDING[value.dtype], value.dtype)
