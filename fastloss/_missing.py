"""The error for compiled kernels that cannot be imported. This module is imported only then."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

__all__ = ["raise_without_kernels"]

_EXTENSION = "fastloss._kernels"
_SOURCE_TREE = (
    "Python has found the source tree of fastloss in {root}, where the kernels are not compiled{built}: the "
    "current folder and PYTHONPATH come before installed packages. Either compile the kernels there, with "
    "`pip install -e .` in that folder, or start Python in another folder, to import the installed fastloss."
)
_INCOMPLETE = "the fastloss in {folder} has no compiled kernels{built}: install it again with this Python."


def raise_without_kernels(error: ImportError, folder: Path) -> NoReturn:
    """Raise an error that tells what to do, for the one that the kernels' import from `folder` has raised.

    Kernels that are not there are one case, kernels that are there but do not load the other: they lack a
    shared library, say, and the loader's own message tells which.
    """
    if not (isinstance(error, ModuleNotFoundError) and error.name == _EXTENSION):
        message = f"the compiled kernels of fastloss cannot be loaded: {error}"
        raise ImportError(message, name=_EXTENSION) from error
    others = sorted(path.name for path in folder.glob("_kernels.*") if path.suffix in (".so", ".pyd"))
    built = f" for this Python (only {', '.join(others)})" if others else ""
    message = _SOURCE_TREE if (folder.parent / "setup.py").is_file() else _INCOMPLETE
    raise ImportError(
        message.format(root=folder.parent, folder=folder, built=built), name=_EXTENSION
    ) from None  # "no module named ..." tells nothing more
