"""The device of a case: set up, its memory and its last cache, and whether it still works.

Nothing here does anything on the CPU; torch is imported by whoever has a CUDA case.
"""

from __future__ import annotations

import sys
from typing import Any

from benchbench.files import Files
from benchbench.timers.cuda import is_cuda

_FILES = Files()
_CACHES = "sys/devices/system/cpu/cpu0/cache"
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def set_up(device: str) -> None:
    """Create the context of a CUDA device, and the threads that torch differentiates with.

    Otherwise the first contender would pay for it, and be taken for the owner of those threads.
    Where there is no device this does nothing: whoever needs it says so.
    """
    if not is_cuda(device):
        return
    import torch

    if not torch.cuda.is_available():
        return
    x = torch.ones(1, device=device, requires_grad=True)
    torch.autograd.grad(x * 2, x)
    torch.cuda.synchronize()


def full_precision() -> None:
    """Let float32 convolutions on CUDA be float32, as products are already.

    cuDNN would round their inputs to TF32, eleven bits, by default. That is a way to compute, to be
    compared with others, and no ground that all stand on.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False


def lost() -> str:
    """Why no CUDA call of this process can succeed any more, or an empty text.

    Some errors (an illegal address, a failed assertion on the device) destroy the context: each
    later call fails with the same error, whoever makes it. Others are told once and gone. So it is
    asked twice.
    """
    torch = sys.modules.get("torch")
    if torch is None or not _initialised(torch):
        return ""
    reason = ""
    for _ in range(2):
        try:
            torch.cuda.synchronize()
        except Exception as error:
            reason = str(error).strip().split("\n")[0] or type(error).__name__
        else:
            return ""
    return reason


def wait() -> None:
    """Until what was queued on the CUDA device is done, if one is in use.

    Raises what went wrong there: kernels run after their call has returned, and what they do wrong
    shows in a later one, which may be somebody else's.
    """
    torch = sys.modules.get("torch")
    if torch is not None and _initialised(torch):
        torch.cuda.synchronize()


def _initialised(torch: Any) -> bool:
    cuda = getattr(torch, "cuda", None)  # absent while torch is being imported
    return cuda is not None and bool(cuda.is_initialized())


def last_cache(device: str, files: Files = _FILES) -> int:
    """Bytes of the cache before memory: the L2 of a GPU, the largest of the CPU; 0 if not known."""
    if is_cuda(device):
        import torch

        return int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0))
    sizes = [files.text(f"{_CACHES}/index{index}/size") for index in range(8)]
    return max((_bytes(text) for text in sizes if text), default=0)


def _bytes(text: str) -> int:
    number, unit = text.rstrip("KMG"), text[-1:]
    return int(number) * _UNITS.get(unit, 1) if number.isdigit() else 0


def free_memory(device: str) -> int:
    """Bytes that can still be taken where the case's tensors are."""
    if is_cuda(device):
        import torch

        free, _ = torch.cuda.mem_get_info()
        held = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return int(free + held)
    from benchbench.resources import available_memory

    return available_memory()
