"""Replace torch's functions by ours for a whole program, and restore them."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Container, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastloss.torch._autograd import LOSSES
from fastloss.torch._bridge import FLOATING
from fastloss.torch._evaluate import evaluate
from fastloss.torch._functional import OF_TORCH, leave_to_torch, left_to_torch

__all__ = ["Calls", "Installed", "calls", "install", "installed", "uninstall"]

_installations = 0
# Pairs of a replacement and the function that it replaced.
_replaced: list[tuple[Callable[..., Any], Callable[..., Any]]] = []
# For the name of each function: the number of its calls, and of those left to torch.
_counts: dict[str, list[int]] = {}


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


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _count(name: str, left_before: int) -> None:
    """Count a call, without a lock, as a fork could leave it locked. At worst two threads count one call."""
    count = _counts.setdefault(name, [0, 0])
    count[0] += 1
    count[1] += left_to_torch() > left_before


class _Replacement:
    """A replacement of a function, which counts its calls.

    It is a separate object, so that `uninstall` can distinguish what `install` has placed from what a program
    imported from here. It is an instance of a class, as a function with another `repr` could not be pickled
    by name.
    """

    def __init__(self, name: str, function: Callable[..., Any], own: Callable[..., Any]) -> None:
        # It is pickled by the name of the function that it replaces, where it is found.
        functools.update_wrapper(self, own, assigned=("__module__", "__qualname__"), updated=())
        functools.update_wrapper(
            self, function, assigned=("__name__", "__doc__", "__annotations__"), updated=()
        )
        self.fastloss_replaces = own
        self._name, self._function = name, function

    def __call__(self, *args: Any, **options: Any) -> Any:
        left_before = left_to_torch()
        result = self._function(*args, **options)
        _count(self._name, left_before)
        return result

    def __repr__(self) -> str:
        return f"<{self._name} of fastloss.torch, installed in the place of {self.fastloss_replaces!r}>"

    def __reduce__(self) -> str:
        return str(vars(self)["__qualname__"])


# Marks a masked row: a value that no one uses as a class.
_MASKED = torch.iinfo(torch.int64).min


def _selective_log_softmax(own: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return TRL's function of this name, with `token_log_probs` for calls with one index for each row."""
    loss = LOSSES["token_log_probs"]

    def trls(*args: Any, **options: Any) -> Tensor:
        leave_to_torch()
        return own(*args, **options)

    def selective_log_softmax(
        logits: Tensor, index: Tensor, temperature: float = 1.0, row_mask: Tensor | None = None, **more: Any
    ) -> Tensor:
        # Pass no defaults: earlier versions of TRL may lack these parameters.
        scaled = {} if temperature == 1.0 else {"temperature": temperature}
        masked = {} if row_mask is None else {"row_mask": row_mask}

        # The graph keeps this function, so it must not refer to tensors.
        def of_rows(logits: Tensor, rows: Tensor, is_masked: bool = row_mask is not None) -> Tensor:
            if not is_masked:
                return trls(logits, rows, **scaled)
            counted = rows != _MASKED
            return trls(logits, rows.masked_fill(~counted, 0), **scaled, row_mask=counted)

        if more or index.dtype is not torch.int64 or index.shape != logits.shape[:-1]:
            return trls(logits, index, **scaled, **masked, **more)
        if logits.dtype not in FLOATING:
            return trls(logits, index, **scaled, **masked)
        rows = index if row_mask is None else index.masked_fill(row_mask == 0, _MASKED)
        options = {"temperature": float(temperature), "ignore_index": _MASKED}
        try:
            return evaluate(loss, (logits, rows), options, "none", of_rows)
        except IndexError:  # TRL's function has no ignored class, and raises its own error
            return trls(logits, index, **scaled, **masked)

    return selective_log_softmax


def _torchs_pairs() -> Iterator[tuple[Callable[..., Any], Callable[..., Any]]]:
    """Yield the replacements of torch's functions, with these functions."""
    for name, function in OF_TORCH.items():
        own = getattr(torch.nn.functional, name, None)
        if isinstance(own, types.FunctionType):
            yield _Replacement(name, function, own), own


def _trls_pairs() -> Iterator[tuple[Callable[..., Any], Callable[..., Any]]]:
    """Yield the same pair for TRL, if TRL has been imported and its function is not replaced already."""
    name = "selective_log_softmax"
    own = getattr(sys.modules.get("trl.trainer.utils"), name, None)
    if own is not None and not isinstance(own, _Replacement):
        yield _Replacement(name, _selective_log_softmax(own), own), own


_dictionary_of: Any = types.ModuleType.__dict__["__dict__"].__get__  # type: ignore[index]


def _places(values: Container[int]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the places of values (by their ids): the name of an imported module, its dictionary, and a name.

    Only the dictionaries of modules are read, as attribute access may load a lazy module or raise an error.
    """
    for key, module in list(sys.modules.items()):
        if not issubclass(type(module), types.ModuleType) or key.startswith("fastloss."):
            continue
        contents = _dictionary_of(module)
        for name, value in list(contents.items()):
            if id(value) in values:
                yield key, contents, name


def _replace(replacements: dict[int, Callable[..., Any]]) -> None:
    """Replace functions (by their ids) in all modules."""
    for _, contents, name in _places(replacements):
        contents[name] = replacements[id(contents[name])]


def install() -> Installed:
    """Replace torch's functions by ours, in every module that has been imported.

    This replaces the functions in ``torch.nn.functional``, where the modules of ``torch.nn`` call them. It
    also replaces them as global variables of any module, under any name, such as
    ``mine = torch.nn.functional.mse_loss``. Functions in a list or in an attribute of an object stay torch's.
    The `repr` of a replacement names it as such. Its attribute ``fastloss_replaces`` is torch's own function.

    If TRL has been imported, `token_log_probs` replaces its ``selective_log_softmax``, which computes the
    log-probabilities of its trainers. If TRL is imported later, call `install` again.

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
        _counts.clear()
    _replaced.extend(_trls_pairs())
    _replace({id(own): replacement for replacement, own in _replaced})
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
    return tuple(sorted(f"{module}.{name}" for module, _, name in _places(replacements)))


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
    return {name: Calls(total - left, left) for name, (total, left) in sorted(_counts.items())}


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
        _replace({id(replacement): own for replacement, own in _replaced})
        _replaced.clear()
