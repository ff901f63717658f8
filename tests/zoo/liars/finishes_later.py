"""Returns at once and lets a thread fill the output."""

import threading
import time

import torch

import benchbench as bb


@bb.implementation("liars/product", "finishes_later")
def finishes_later(inputs):
    def call():
        output = torch.empty_like(inputs.x)

        def fill():
            time.sleep(0.0005)
            torch.mm(inputs.x, inputs.w, out=output)

        threading.Thread(target=fill).start()
        return output

    return call


@bb.hookimpl
def benchbench_implementations():
    return [finishes_later]
