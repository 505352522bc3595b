"""Fast, exact loss functions with gradients for training on CPUs.

Every function takes NumPy arrays (or anything that ``numpy.asarray`` takes) and, where asked, returns the
gradient from the same pass over memory. Names and meanings are those of ``torch.nn.functional``.

The modules `fastloss.torch`, `fastloss.boosting` and `fastloss.reference` are imported when they are first
used. The types of every function are in ``__init__.pyi``, which tests/stubs.py makes.
"""

import importlib

try:
    importlib.import_module("fastloss._kernels")
except ImportError as error:
    import pathlib

    from fastloss._missing import raise_without_kernels as _raise_without_kernels

    _raise_without_kernels(error, pathlib.Path(__file__).parent)

from fastloss import (
    alignment,
    binary,
    classification,
    contrastive,
    curve,
    distribution,
    divergence,
    linear,
    linear_divergence,
    lists,
    pairs,
    penalty,
    perplexity,
    policy,
    preference,
    reading,
    regression,
    sequence,
    survival,
)
from fastloss._engine import settings as _settings

__version__ = "0.2.0"  # the one home of the version: pyproject.toml reads it here

_MODULES = (
    alignment, binary, classification, contrastive, curve, distribution, divergence, linear,
    linear_divergence, lists, pairs, penalty, perplexity, policy, preference, reading, regression, sequence,
    survival, _settings,
)  # fmt: skip


def _public() -> dict[str, object]:
    """Return every public name of these modules but the types of gradients."""
    found = {name: getattr(module, name) for module in _MODULES for name in module.__all__}
    return {n: v for n, v in found.items() if not (isinstance(v, type) and issubclass(v, tuple))}


_PUBLIC = _public()
globals().update(_PUBLIC)

__all__ = sorted(_PUBLIC)

_LAZY_MODULES = ("boosting", "reference", "torch")


def __getattr__(name: str) -> object:
    """Import a module when it is first used: PyTorch takes seconds, and need not be installed."""
    if name not in _LAZY_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ImportError as error:
        # So hasattr() is False, and help() and tab completion, which ask for every attribute, go on.
        raise AttributeError(f"{__name__}.{name} cannot be imported: {error}") from error


def __dir__() -> list[str]:
    """Return the names for users; the modules that the functions are defined in are not among them."""
    special = [name for name in globals() if name.startswith("__") and name.endswith("__")]
    return sorted([*special, *__all__, *_LAZY_MODULES])
