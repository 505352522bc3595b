"""Replace torch's functions by ours for a whole program, and restore them."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from fastloss.torch import _adaptive, _sentence_transformers, _transformers, _trl
from fastloss.torch._foreign import Replacement, Slot, counts, known_rows, places, replace
from fastloss.torch._functional import OF_TORCH

__all__ = ["Calls", "Installed", "calls", "install", "installed", "uninstall"]

_installations = 0
# Pairs of a replacement and the function that it replaced.
_replaced: list[tuple[Callable[..., Any], Callable[..., Any]]] = []
# Attributes that were replaced in their places.
_slots: list[Slot] = []
_LIBRARIES = (_adaptive.FOREIGN, _transformers.FOREIGN, _trl.FOREIGN, _sentence_transformers.FOREIGN)


class Installed(tuple[str, ...]):
    """The names of the replaced functions; as a context manager it uninstalls at the end of the block."""

    __slots__ = ()

    def __enter__(self) -> Installed:
        return self

    def __exit__(self, *_: object) -> None:
        uninstall()


class Calls(NamedTuple):
    """The number of calls of an installed function that ran here, and that were left to torch.

    Attributes
    ----------
    fastloss : int
        Calls that were run by this package.
    torch : int
        Calls that were run by the replaced function.
    """

    fastloss: int
    torch: int


def _torchs_pairs() -> Iterator[tuple[Callable[..., Any], Callable[..., Any]]]:
    """Yield the replacements of torch's functions, with these functions."""
    for name, function in OF_TORCH.items():
        own = getattr(torch.nn.functional, name, None)
        if isinstance(own, types.FunctionType):
            yield Replacement(name, function, own), own


def _take_libraries() -> None:
    """Take over what is known of the libraries that have been imported, and is not taken already."""
    taken = {slot.title for slot in _slots if slot.is_placed()}
    for rows in _LIBRARIES:
        # A list: a row may rely on the signature of another.
        for row, own in list(known_rows(rows, taken)):
            if row.is_local or "." in row.name:
                _slots.append(Slot(row, own))
            else:
                _replaced.append((Replacement(row.name, row.make(own), own), own))


def install() -> Installed:
    """Replace torch's functions by ours, in every module that has been imported.

    This replaces the functions in ``torch.nn.functional``, where the modules of ``torch.nn`` call them. It
    also replaces them as global variables of any module, under any name, such as
    ``mine = torch.nn.functional.mse_loss``. Functions in a list or in an attribute of an object stay torch's.
    The `repr` of a replacement names it as such. Its attribute ``fastloss_replaces`` is torch's own function.

    It replaces the forward of ``torch.nn.AdaptiveLogSoftmaxWithLoss``, which has no function.

    Of transformers, TRL and sentence-transformers it replaces the losses of their trainers, if they have been
    imported; see docs/pytorch.md. If one is imported later, call `install` again. A function of theirs whose
    signature is not known here, as of another version, is left as it is, with a warning.

    Programs, trainers and compiled models use our functions without changes. Script functions with
    TorchScript before `install`. A program that is exported after `install` contains our operators. The
    logits of an unreduced or float16 loss must not be modified before backward.

    Returns
    -------
    Installed
        A tuple of the replaced names, which `installed` also returns. As a context manager it calls
        `uninstall` at the end of the block.

    See Also
    --------
    uninstall : undo an `install`. Installations are counted.
    calls : the number of calls that the replacements ran.

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
    global _installations
    if _installations == 0:
        _replaced.extend(_torchs_pairs())
        counts.clear()
    _take_libraries()
    replace({id(own): replacement for replacement, own in _replaced})
    _installations += 1
    return Installed(installed())


def installed() -> tuple[str, ...]:
    """Return the names of the functions that are replaced now.

    Returns
    -------
    tuple of str
        Names with their modules, sorted; empty if nothing is installed.

    Examples
    --------
    >>> import fastloss.torch as ft
    >>> with ft.install():
    ...     "torch.nn.functional.cross_entropy" in ft.installed()
    True
    >>> ft.installed()
    ()
    """
    replacements = {id(replacement) for replacement, _ in _replaced}
    names = [f"{module}.{name}" for module, _, name in places(replacements)]
    return tuple(sorted(names + [slot.title for slot in _slots if slot.is_placed()]))


def calls() -> dict[str, Calls]:
    """Return how many calls of the installed functions ran here, and how many were left to torch.

    Counting starts at the outermost `install`, and the counts are kept after `uninstall`. Calls of the
    functions of `fastloss.torch` by their own names are not counted, nor are calls that raised an exception.
    Compiled code counts its calls during compilation (perhaps more than once), not when it runs.

    Returns
    -------
    dict of str to Calls
        ``(fastloss, torch)`` for the name of each function that was called, sorted by name.

    Examples
    --------
    >>> import torch
    >>> import fastloss.torch as ft
    >>> x, y = torch.zeros(2, 3), torch.ones(2, 3)
    >>> with ft.install():
    ...     for target in (y, y, y.double()):
    ...         _ = torch.nn.functional.mse_loss(x, target)
    >>> ft.calls()
    {'mse_loss': Calls(fastloss=2, torch=1)}
    """
    return {name: Calls(total - left, left) for name, (total, left) in sorted(counts.items())}


def uninstall(*, all: bool = False) -> None:
    """Undo one `install`; the last `uninstall` restores torch's functions in all modules.

    These include modules that were imported after `install`. Without an installation this does nothing.

    Parameters
    ----------
    all : bool, default False
        Undo every `install` that has not been undone.

    Examples
    --------
    >>> import fastloss.torch as ft
    >>> ft.uninstall()
    """
    global _installations
    if _installations == 0:
        return
    _installations = 0 if all else _installations - 1
    if _installations == 0:
        replace({id(replacement): own for replacement, own in _replaced})
        _replaced.clear()
        for slot in _slots:
            slot.restore()
        _slots.clear()
