"""The CUDA kernels beside eager, torch.compile and importable peers, as shares of a copy's speed.

    python benchmarks/gpu_kernels.py --write FOLDER [--minutes 6] [--quick]

Kernel time: calls on rotating inputs of at least three times the L2, captured in one CUDA graph, so
the cache is cold and the host does not count; a copy of as many bytes is measured in turn with
each, and its speed is the roof. Host time of a call on 16 elements is measured apart, as is forward
with backward through autograd. Errors are root mean squares against float64. Cases are taken in
order of worth until the minutes are over; what was left out is named.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

Function = Callable[..., Any]
BYTES = 256 * 2**20


class Case:
    """An operation at one size: inputs, the fewest bytes it can move, and who can do it."""

    def __init__(
        self, op: str, shape: tuple[int, ...], dtype: torch.dtype, layout: str, **how: Any
    ):
        self.op, self.shape, self.dtype, self.layout = op, shape, dtype, layout
        self.make: Function = how["make"]
        self.eager: Function = how["eager"]
        self.fused: Function = how["fused"]
        self.peers: dict[str, Function] = how.get("peers", {})
        self.forward_passes, self.backward_passes = how["passes"]

    @property
    def bytes(self) -> int:
        """Of one pass over the main input."""
        size = torch.empty(0, dtype=self.dtype).element_size()
        return torch.Size(self.shape).numel() * size

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{self.op} {'x'.join(map(str, self.shape))} {dtype} {self.layout}"


def randn(*shape: int, dtype: torch.dtype, layout: str = "rows") -> torch.Tensor:
    x = torch.randn(shape, device="cuda").to(dtype)
    return x.to(memory_format=torch.channels_last) if layout == "channels-last" else x


def cases(fused: Any, quick: bool) -> Iterator[Case]:
    """All of them, the most interesting first."""
    shape = (32768, 4096)
    halves = (torch.bfloat16,) if quick else (torch.bfloat16, torch.float32)
    for dtype in halves:
        for rows, n in (
            (32768, 4096),
            (131072, 1024),
            (4096, 32768),
            (524288, 256),
            (16, 4_194_304),
        ):
            yield norm_case(fused, "layer_norm", rows, n, dtype)
            yield norm_case(fused, "rms_norm", rows, n, dtype)
        for image in ((64, 256, 56, 56), (32, 64, 112, 112), (256, 512, 14, 14)):
            for layout in ("planes", "channels-last"):
                for op in ("batch_norm", "batch_norm_relu", "batch_norm_add_relu"):
                    yield batch_case(fused, op, image, dtype, layout)
        # Diffusion's U-Net, a ResNet with group norm, a style network's instances.
        for image, groups in (
            ((32, 320, 64, 64), 32),
            ((64, 256, 56, 56), 32),
            ((64, 64, 128, 128), 64),
        ):
            for layout in ("planes", "channels-last"):
                yield group_case(fused, image, groups, dtype, layout)
        for layout in ("planes", "channels-last"):
            yield Case(
                "local_response_norm", (256, 96, 55, 55), dtype, layout,
                make=lambda d=dtype, v=layout: [randn(256, 96, 55, 55, dtype=d, layout=v)],
                eager=lambda x: F.local_response_norm(x, 5),
                fused=lambda x: fused.local_response_norm(x, 5), passes=(2, 3),
            )  # fmt: skip
        for rows, n in ((32768, 4096), (1024, 131072)):
            yield Case(
                "softmax", (rows, n), dtype, "rows",
                make=lambda r=rows, c=n, d=dtype: [randn(r, c, dtype=d)],
                eager=lambda x: torch.softmax(x, -1), fused=fused.softmax, passes=(2, 3),
                peers=peers("softmax"),
            )  # fmt: skip
        for name in ("gelu", "silu", "tanh", "relu"):
            eager = getattr(torch, name, None) or getattr(F, name)
            yield Case(
                name, shape, dtype, "rows",
                make=lambda d=dtype: [randn(*shape, dtype=d)],
                eager=eager, fused=getattr(fused, name), passes=(2, 3),
            )  # fmt: skip
        yield Case(
            "swiglu", shape, dtype, "rows",
            make=lambda d=dtype: [randn(*shape, dtype=d), randn(*shape, dtype=d)],
            eager=lambda g, u: F.silu(g) * u, fused=fused.swiglu, passes=(3, 5),
            peers=peers("swiglu"),
        )  # fmt: skip
        yield Case(
            "packed_swiglu", (32768, 8192), dtype, "rows",
            make=lambda d=dtype: [randn(32768, 8192, dtype=d)],
            eager=lambda x: F.silu(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1],
            fused=fused.packed_swiglu, passes=(1.5, 2.5),
        )  # fmt: skip
        yield masked_case(fused, dtype)
        yield Case(
            "bias_gelu", shape, dtype, "rows",
            make=lambda d=dtype: [randn(*shape, dtype=d), randn(4096, dtype=d)],
            eager=lambda x, b: F.gelu(x + b), fused=fused.bias_gelu, passes=(2, 3),
        )  # fmt: skip
    # Lengths that are not whole vectors, and small problems.
    yield norm_case(fused, "layer_norm", 32768, 4099, torch.bfloat16)
    for rows in (1, 256):
        yield norm_case(fused, "layer_norm", rows, 4096, torch.bfloat16)


def norm_case(fused: Any, op: str, rows: int, n: int, dtype: torch.dtype) -> Case:
    names = {"layer_norm": F.layer_norm, "rms_norm": F.rms_norm}
    count = 2 if op == "layer_norm" else 1
    return Case(
        op, (rows, n), dtype, "rows",
        make=lambda: [randn(rows, n, dtype=dtype), *(randn(n, dtype=dtype) for _ in range(count))],
        eager=lambda x, *p: names[op](x, (n,), *p, eps=1e-5),
        fused=lambda x, *p: getattr(fused, op)(x, (n,), *p, eps=1e-5),
        passes=(2, 3), peers=peers(op),
    )  # fmt: skip


def batch_case(
    fused: Any, op: str, shape: tuple[int, ...], dtype: torch.dtype, layout: str
) -> Case:
    def eager(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor, *r: torch.Tensor) -> torch.Tensor:
        y = F.batch_norm(x, None, None, w, b, True)
        y = y + r[0] if r else y
        return y if op == "batch_norm" else F.relu(y)

    def ours(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor, *r: torch.Tensor) -> torch.Tensor:
        return getattr(fused, op)(x, *r, None, None, w, b, True)

    more = int(op == "batch_norm_add_relu")

    def make() -> list[torch.Tensor]:
        w, b = (torch.randn(shape[1], device="cuda") for _ in range(2))
        images = [randn(*shape, dtype=dtype, layout=layout) for _ in range(1 + more)]
        return [images[0], w, b, *images[1:]]

    passes = (2 + more, 3 + more)
    return Case(op, shape, dtype, layout, make=make, eager=eager, fused=ours, passes=passes)


def group_case(
    fused: Any, shape: tuple[int, ...], groups: int, dtype: torch.dtype, layout: str
) -> Case:
    def make() -> list[torch.Tensor]:
        w, b = (torch.randn(shape[1], device="cuda").to(dtype) for _ in range(2))
        return [randn(*shape, dtype=dtype, layout=layout), w, b]

    return Case(
        "instance_norm" if groups == shape[1] else "group_norm", shape, dtype, layout, make=make,
        eager=lambda x, w, b: F.group_norm(x, groups, w, b),
        fused=lambda x, w, b: fused.group_norm(x, groups, w, b), passes=(2, 3),
    )  # fmt: skip


def masked_case(fused: Any, dtype: torch.dtype) -> Case:
    """Attention's softmax: scaled scores under a causal mask that all heads share."""
    heads, n = 64, 2048
    mask = torch.ones(n, n, dtype=torch.bool, device="cuda").tril()
    return Case(
        "masked_softmax", (heads, n, n), dtype, "rows",
        make=lambda: [randn(heads, n, n, dtype=dtype)],
        eager=lambda x: torch.softmax((x * 0.125).masked_fill(~mask, -torch.inf), -1),
        fused=lambda x: fused.masked_softmax(x, mask, 0.125), passes=(2, 3),
    )  # fmt: skip


def peers(op: str) -> dict[str, Function]:
    """Other libraries' functions, as far as they import here; keyed by distribution."""
    found: dict[str, Function] = {}

    def add(name: str, module: str, wrap: Callable[[Any], Function]) -> None:
        try:
            found[name] = wrap(importlib.import_module(module))
        except Exception as error:  # a peer that does not import is named in the header, no more
            MISSING[name] = f"{type(error).__name__}: {error}"[:100]

    if op == "rms_norm":
        add("quack", "quack", lambda m: lambda x, w: m.rmsnorm(x, w, eps=1e-5))
        add("cudnn", "cudnn_norms", lambda m: lambda x, w: m.rms_norm(x, w, 1e-5))
        add("liger", "liger_kernel.ops.rms_norm",
            lambda m: lambda x, w: m.LigerRMSNormFunction.apply(x, w, 1e-5))  # fmt: skip
    elif op == "layer_norm":
        add("cudnn", "cudnn_norms", lambda m: lambda x, w, b: m.layer_norm(x, w, b, 1e-5))
        add("liger", "liger_kernel.ops.layer_norm",
            lambda m: lambda x, w, b: m.LigerLayerNormFunction.apply(x, w, b, 1e-5))  # fmt: skip
        add("flag-gems", "flag_gems",
            lambda m: lambda x, w, b: m.layer_norm(x, x.shape[-1:], w, b, 1e-5)[0])  # fmt: skip
    elif op == "softmax":
        add("quack", "quack", lambda m: lambda x: m.softmax(x))
    elif op == "swiglu":
        add("liger", "liger_kernel.ops.swiglu",
            lambda m: lambda g, u: m.LigerSiLUMulFunction.apply(g, u))  # fmt: skip
    return found


MISSING: dict[str, str] = {}


def replay(function: Callable[[], Any], times: int) -> Callable[[], float]:
    """Seconds of one of ``times`` calls of ``function``, captured in one graph."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(times):
            function()

    def sample() -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e-3 / times

    return sample


def mend() -> None:
    """After a capture that failed torch stays on its stream, and its generator refuses to draw
    until a capture has succeeded.
    """
    torch.cuda.set_stream(torch.cuda.default_stream())
    torch.cuda.synchronize()
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        torch.zeros(1, device="cuda")


def rotating(function: Function, sets: list[list[torch.Tensor]], grad: bool) -> Callable[[], Any]:
    """Calls on the next set of inputs each time; with ``grad``, forward and backward."""
    turn = iter(range(10**9))
    if not grad:
        return lambda: function(*sets[next(turn) % len(sets)])
    leaves = [[x.detach().requires_grad_() for x in one] for one in sets]
    out = torch.ones_like(first(function(*leaves[0])))

    def call() -> Any:
        inputs = leaves[next(turn) % len(leaves)]
        return torch.autograd.grad(first(function(*inputs)), inputs, out)

    return call


def first(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def measure(case: Case, compile_modes: list[str], grad: bool) -> dict[str, Any]:
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    count = max(2, min(64, -(-3 * cache // case.bytes)))
    sets = [case.make() for _ in range(count)]
    contenders: dict[str, Function] = {"fused": case.fused, "eager": case.eager}
    for mode in compile_modes:
        torch._dynamo.reset()
        contenders[f"compile {mode}"] = torch.compile(case.eager, mode=mode, dynamic=False)
    contenders |= case.peers
    passes = case.forward_passes + (case.backward_passes if grad else 0)
    moved = int(passes * case.bytes)
    source = [torch.empty(moved // 2, dtype=torch.uint8, device="cuda") for _ in range(2)]
    target = torch.empty_like(source[0])
    turn = iter(range(10**9))
    samples: dict[str, Callable[[], float]] = {
        "copy": replay(lambda: target.copy_(source[next(turn) % 2]), count)
    }
    failures = {}
    for name, function in contenders.items():
        try:
            samples[name] = replay(rotating(function, sets, grad), count)
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {error}"[:200]
            mend()
    times: dict[str, list[float]] = {name: [] for name in samples}
    for _ in range(15):  # in turn, so that clocks and heat are shared
        for name, sample in samples.items():
            times[name].append(sample())
    medians = {name: statistics.median(values) for name, values in times.items()}
    roof = moved / medians["copy"]
    row: dict[str, Any] = {
        "case": str(case), "what": "forward + backward" if grad else "forward",
        "roof_gbs": roof / 1e9, "seconds": medians,
        "share": {n: moved / t / roof for n, t in medians.items() if n != "copy"},
        "failed": failures,
    }  # fmt: skip
    if not grad:
        row["error"] = errors(case, contenders, failures)
    return row


def errors(
    case: Case, contenders: dict[str, Function], failures: dict[str, str]
) -> dict[str, float]:
    """Root mean square against float64 on one set of inputs (not for giant ones)."""
    if case.bytes > 2**29:
        return {}
    inputs = case.make()
    truth = case.eager(*(x.double() for x in inputs))
    scale = truth.square().mean().sqrt()
    return {
        name: float((first(f(*inputs)).double() - truth).square().mean().sqrt() / scale)
        for name, f in contenders.items()
        if name not in failures
    }


def host_times(fused: Any) -> dict[str, float]:
    """Microseconds that a call on 16 elements keeps the host."""
    x, w = torch.randn(1, 16, device="cuda"), torch.randn(16, device="cuda")
    calls: dict[str, Callable[[], Any]] = {
        "fused.layer_norm": lambda: fused.layer_norm(x, (16,), w, w),
        "eager layer_norm": lambda: F.layer_norm(x, (16,), w, w),
        "fused.gelu": lambda: fused.gelu(x),
        "eager gelu": lambda: F.gelu(x),
    }
    found = {}
    for name, call in calls.items():
        best = float("inf")
        for _ in range(20):
            torch.cuda.synchronize()
            begun = time.perf_counter()
            for _ in range(200):
                call()
            best = min(best, (time.perf_counter() - begun) / 200)
        found[name] = best * 1e6
    return found


def header() -> dict[str, Any]:
    query = [
        "nvidia-smi",
        "--query-gpu=driver_version,clocks.sm,clocks.mem,power.limit",
        "--format=csv",
    ]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return {
        "date": time.strftime("%Y-%m-%d"), "gpu": torch.cuda.get_device_name(),
        "nvidia-smi": done.stdout.strip(), "torch": torch.__version__, "cuda": torch.version.cuda,
        "python": platform.python_version(), "peers that do not import": MISSING,
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    names = sorted({name for row in rows for name in row["share"]}, key=lambda n: (n != "fused", n))
    lines = ["share of a copy's speed; the copy moves as many bytes as the operation must", ""]
    lines.append("| case | | copy GB/s | " + " | ".join(names) + " |")
    lines.append("|---|---|---|" + "---|" * len(names))
    for row in rows:
        shares = (f"{row['share'][n]:.0%}" if n in row["share"] else "" for n in names)
        lines.append(
            f"| {row['case']} | {row['what']} | {row['roof_gbs']:.0f} | "
            + " | ".join(shares)
            + " |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--quick", action="store_true", help="bf16 only, no max-autotune")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch finds no CUDA device; this needs one")
    from benchbench import fused

    fused.build()
    options.write.mkdir(parents=True, exist_ok=True)
    modes = ["default"] if options.quick else ["default", "max-autotune-no-cudagraphs"]
    ends = time.monotonic() + options.minutes * 60
    rows: list[dict[str, Any]] = []
    left = []
    for case in cases(fused, options.quick):
        if time.monotonic() > ends:
            left.append(str(case))
            continue
        for grad in (False, True):
            try:
                rows.append(measure(case, modes, grad))
            except Exception as error:
                rows_failed = f"{case}: {type(error).__name__}: {error}"
                left.append(rows_failed[:300])
            torch.cuda.empty_cache()
        print(table(rows[-2:]), flush=True)
        found = {**header(), "host microseconds": host_times(fused), "rows": rows, "left out": left}
        (options.write / "kernels.json").write_text(json.dumps(found, indent=1))
        (options.write / "kernels.md").write_text(table(rows))
    if left:
        print("left out, for want of time or because of an error:", *left, sep="\n  ")


if __name__ == "__main__":
    main()
