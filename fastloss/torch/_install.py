"""Our functions in the place of torch's, for a whole program, and back."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from fastloss.torch import _beyond, _functional

__all__ = ["Installed", "install", "uninstall"]

_installations = 0
# What stands in a place, and what stood there.
_replaced: list[tuple[Callable[..., Any], Callable[..., Any]]] = []


class Installed(tuple[str, ...]):
    """The names that were replaced; as a context manager, until the end of the block."""

    __slots__ = ()

    def __enter__(self) -> Installed:
        return self

    def __exit__(self, *_: object) -> None:
        uninstall()


def _twin(function: Callable[..., Any], own: Callable[..., Any]) -> Callable[..., Any]:
    """A function that does the same and is another object.

    So that `uninstall` can tell what it has put somewhere from what a program imported from here itself.
    """
    assert isinstance(function, types.FunctionType)
    twin = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    twin.__kwdefaults__, twin.__doc__ = function.__kwdefaults__, function.__doc__
    # Pickled by name, it is found where it stands.
    twin.__module__, twin.__annotations__ = own.__module__, function.__annotations__
    twin.fastloss_replaces = own  # type: ignore[attr-defined]
    return twin


def _selective_log_softmax(own: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """TRL's function of that name, by ours where it is a log-probability for each row."""

    def selective_log_softmax(
        logits: Tensor, index: Tensor, temperature: float = 1.0, row_mask: Tensor | None = None, **more: Any
    ) -> Tensor:
        if more or index.shape != logits.shape[:-1] or not logits.is_cpu:
            # What is at its default an earlier TRL may not know.
            if row_mask is not None:
                more["row_mask"] = row_mask
            if temperature != 1.0:
                more["temperature"] = temperature
            return own(logits, index, **more)
        if row_mask is not None:
            index = index.masked_fill(row_mask == 0, -100)
        return _beyond.token_log_probs(logits, index, temperature=float(temperature))

    return selective_log_softmax


def _pairs() -> Iterator[tuple[Callable[..., Any], Callable[..., Any]]]:
    """Functions, and what is to replace them."""
    for name in _functional.__all__:
        own = getattr(torch.nn.functional, name, None)
        if isinstance(own, types.FunctionType):
            yield own, _twin(getattr(_functional, name), own)
    trl = sys.modules.get("trl.trainer.utils")
    own = getattr(trl, "selective_log_softmax", None)
    if own is not None:
        yield own, _selective_log_softmax(own)


def _replace(replacements: dict[int, Callable[..., Any]]) -> list[str]:
    """Replace functions (by their identities) in every module that has been imported; return the names.

    Modules may be odd, or not loaded before they are touched: only what lies in their dictionaries is seen.
    """
    names = []
    for key, module in list(sys.modules.items()):
        if not issubclass(type(module), types.ModuleType) or key.startswith("fastloss."):
            continue
        contents = _dictionary_of(module)
        for name, value in list(contents.items()):
            if id(value) in replacements:
                contents[name] = replacements[id(value)]
                names.append(f"{key}.{name}")
    return sorted(names)


_dictionary_of: Any = types.ModuleType.__dict__["__dict__"].__get__  # type: ignore[index]


def install() -> Installed:
    """Put our functions in the place of torch's, in every module that has been imported.

    In ``torch.nn.functional``, from where the modules of ``torch.nn`` call them, and wherever else a function
    of it has been imported by name. With TRL imported, its ``selective_log_softmax``, from which its trainers
    have their log-probabilities, becomes `token_log_probs`. Programs, trainers and compiled models then use
    them unchanged. What TorchScript has to compile must be scripted before; a program exported meanwhile has
    our operators. A loss that is unreduced, or of float16, must find its logits unchanged in backward.

    Returns
    -------
    Installed
        A tuple of the names that were replaced (all that stand replaced, if it was installed before), and a
        context manager: at the end of the block it is uninstalled.

    See Also
    --------
    uninstall : the way back. Calls are counted.

    Examples
    --------
    >>> import torch
    >>> import fastloss.torch as ft
    >>> own = torch.nn.functional.mse_loss
    >>> with ft.install() as names:
    ...     torch.nn.functional.mse_loss is own
    False
    >>> "torch.nn.functional.mse_loss" in names
    True
    >>> torch.nn.functional.mse_loss is own
    True
    """
    global _installations, _names
    if _installations == 0:
        _replaced.extend((twin, own) for own, twin in _pairs())
    _names = Installed(sorted({*_names, *_replace({id(own): twin for twin, own in _replaced})}))
    _installations += 1
    return _names


_names = Installed()


def uninstall() -> None:
    """Undo one `install`; the last restores torch's functions wherever ours stand for them.

    Also in modules that were imported meanwhile. Does nothing where nothing is installed.

    Examples
    --------
    >>> import fastloss.torch as ft
    >>> ft.uninstall()
    """
    global _installations, _names
    if _installations == 0:
        return
    _installations -= 1
    if _installations == 0:
        _replace({id(twin): own for twin, own in _replaced})
        _replaced.clear()
        _names = Installed()
