"""Tests of several processes at once (``pytest -n``) share the cores; fixtures of many tests.

torch and the library are imported by the tests that need them, not here.
"""

import importlib
import os
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

LONGEST = (
    "test_kernel_safety",
    "test_packaging",
    "test_cuda_sanitizer",
    "test_gate",
    "test_cuda_operators",
    "test_calibrate",
)
"""Files that take minutes. They go first where several processes take files in turn: none is then
left alone at the end with what takes longest."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        places = {name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # would put the files of few tests last
    workers = os.environ.get("PYTEST_XDIST_WORKER_COUNT")
    if workers:
        import torch

        # More threads than cores wait for each other: a call takes milliseconds instead of micro-.
        torch.set_num_threads(max(1, torch.get_num_threads() // int(workers)))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small layers on two threads wait for each other for seconds when the machine is busy."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def fresh_answers() -> Iterator[None]:
    """What is installed is asked once a process; tests change the answer."""
    from benchbench_plugins._common import optional

    optional.cache_clear()
    yield
    optional.cache_clear()


@pytest.fixture
def fail_import(monkeypatch: pytest.MonkeyPatch, fresh_answers: None) -> Callable[..., None]:
    """Makes packages fail when a plugin imports them: not installed, or with the error given."""
    real = importlib.import_module

    def fail(*packages: str, error: Exception | None = None) -> None:
        def import_module(name: str, *arguments: str) -> ModuleType:
            top = name.partition(".")[0]
            if top in packages:
                raise error or ModuleNotFoundError(f"No module named {top!r}", name=top)
            return real(name, *arguments)

        monkeypatch.setattr(importlib, "import_module", import_module)

    return fail


@pytest.fixture
def threads():
    """Sets how many threads torch has; as before at the end."""
    import torch

    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(params=["base", "avx2", "avx512"])
def isa(request):
    """The name of each instruction set, chosen; as before at the end."""
    from benchbench import native

    library = native.load()
    if request.param not in library.build_info()["instruction_sets"]:
        pytest.skip(f"this processor has no {request.param}")
    before = library.build_info()["instruction_set"]
    library.choose_instruction_set(request.param)
    yield request.param
    library.choose_instruction_set(before)


@pytest.fixture
def stream_from():
    """Sets from how many bytes on outputs go past the caches, at first and with -1 the default."""
    from benchbench import native

    library = native.load()
    before = library.stream_from(-1)
    yield library.stream_from
    library.stream_from(before)
