"""Changes the number of threads and the grad mode in its call, and puts both back."""

import torch

import benchbench as bb


@bb.implementation("liars/double", "restores_what_it_sets")
def restores_what_it_sets(inputs):
    def call():
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                return inputs.x * 2
        finally:
            torch.set_num_threads(threads)

    return call


@bb.hookimpl
def benchbench_implementations():
    return [restores_what_it_sets]
