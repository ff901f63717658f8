"""Tests of several processes at once (``pytest -n``) share the cores."""

import os


def pytest_configure() -> None:
    workers = os.environ.get("PYTEST_XDIST_WORKER_COUNT")
    if workers:
        import torch

        # More threads than cores wait for each other: a call takes milliseconds instead of micro-.
        torch.set_num_threads(max(1, torch.get_num_threads() // int(workers)))
