"""benchbench: which implementation of this PyTorch component is faster here, and is it correct?

The public API is what ``__all__`` lists. Importing this package imports nothing else: names are
resolved on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from benchbench.authoring import implementation as implementation
    from benchbench.contract import (
        Case as Case,
        Evidence as Evidence,
        Implementation as Implementation,
        Params as Params,
        Report as Report,
        Result as Result,
        Run as Run,
        Sample as Sample,
        Settings as Settings,
        Thunk as Thunk,
        Timer as Timer,
        Tolerance as Tolerance,
        Work as Work,
        Workload as Workload,
    )
    from benchbench.hookspecs import hookimpl as hookimpl
    from benchbench.inputs import Inputs as Inputs

_HOME = {
    "implementation": "authoring",
    "hookimpl": "hookspecs",
    "Inputs": "inputs",
    **dict.fromkeys(
        [
            "Case",
            "Evidence",
            "Implementation",
            "Params",
            "Report",
            "Result",
            "Run",
            "Sample",
            "Settings",
            "Thunk",
            "Timer",
            "Tolerance",
            "Work",
            "Workload",
        ],
        "contract",
    ),
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'benchbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"benchbench.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
