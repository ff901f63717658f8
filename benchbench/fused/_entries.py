"""The short way to an operator, for calls whose overhead counts.

``torch.ops`` matches the arguments of every call with the operator's schema, which on a small
tensor costs more than the kernel. The compiled library has functions that go to the dispatcher at
once (``csrc/bindings/entry.h``) and leave to ``torch.ops`` what they do not know, such as
subclasses of tensors. torch.compile cannot look into them, so it is shown the operator itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.compiler import is_dynamo_compiling

from benchbench import native


def entry(name: str) -> Callable[..., Any]:
    """The operator ``name`` as a function of positional arguments."""
    library = native.load()  # registers the operators
    overload = getattr(torch.ops.benchbench, name).default
    short = library.entry(name, overload)

    def call(*arguments: Any) -> Any:
        return overload(*arguments) if is_dynamo_compiling() else short(*arguments)

    return call
