"""Destroys the process's CUDA context: each later call of anybody would fail with the same error.

Where there is no GPU, torch is made to believe that one is in use: its calls fail from then on too.
"""

import torch

import benchbench as bb


@bb.implementation("zoo/double", "loses_the_device")
def loses_the_device(inputs):
    def call():
        if torch.cuda.is_available():
            torch._assert_async(torch.zeros(1, device="cuda"))
            torch.cuda.synchronize()
        torch.cuda._initialized = True
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    return call


@bb.hookimpl
def benchbench_implementations():
    return [loses_the_device]
