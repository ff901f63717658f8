"""What first-party plugins share: optional packages that may be missing or broken."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "imblearn": "imbalanced-learn",
    "quack": "quack-kernels",
    "sklearn": "scikit-learn",
}
"""Where the distribution has another name than the top module."""


def command(package: str) -> str:
    """What installs the distribution of a package or module."""
    top = package.partition(".")[0]
    return f"pip install {DISTRIBUTIONS.get(top, top.replace('_', '-'))}"


@cache
def optional(package: str) -> tuple[ModuleType | None, str]:
    """Import ``package`` if that works, whatever it takes not to fail.

    A package that is installed but broken raises anything at import (torchvision raises
    RuntimeError on a mismatched torch), so only interrupts pass.

    Returns:
        the module and an empty text, or None and the reason with the command that mends it.
    """
    top = package.partition(".")[0]
    try:
        return importlib.import_module(package), ""
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as error:
        if error.name == top:
            return None, f"{top} is not installed: {command(top)}"
        return None, f"{package} needs {error.name}, which is not installed: {command(top)}"
    except BaseException as error:
        text = " ".join(str(error).split())[:200]
        return None, (
            f"{package} is installed but cannot be imported ({type(error).__name__}: {text}): "
            f"{command(top)} --force-reinstall"
        )
