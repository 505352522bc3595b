"""The error for compiled kernels that cannot be imported. The module is imported only in this case."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

__all__ = ["raise_without_kernels"]

_EXTENSION = "fastloss._kernels"
_SOURCE_TREE = (
    "Python has found the source tree of fastloss in {root}, where the kernels are not compiled{built}: the "
    "current folder and PYTHONPATH come before installed packages. Either compile the kernels there, with "
    "`pip install -e .` in that folder, or start Python in another folder to import the installed fastloss."
)
_INCOMPLETE = "the fastloss in {folder} has no compiled kernels{built}: install it again with this Python."


def raise_without_kernels(error: ImportError, folder: Path) -> NoReturn:
    """Raise an error with instructions, in place of `error`, which the import of the kernels raised.

    The kernels in `folder` may be missing. Or they exist but do not load, for example without a shared
    library that the loader's own message names.
    """
    if not (isinstance(error, ModuleNotFoundError) and error.name == _EXTENSION):
        message = f"the compiled kernels of fastloss cannot be loaded: {error}"
        raise ImportError(message, name=_EXTENSION) from error
    others = sorted(path.name for path in folder.glob("_kernels.*") if path.suffix in (".so", ".pyd"))
    built = f" for this Python (only {', '.join(others)})" if others else ""
    message = _SOURCE_TREE if (folder.parent / "setup.py").is_file() else _INCOMPLETE
    raise ImportError(
        message.format(root=folder.parent, folder=folder, built=built), name=_EXTENSION
    ) from None  # "no module named ..." adds no information
