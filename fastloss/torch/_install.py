"""Our functions in the place of torch's, for a whole program, and back."""

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
# What stands in a place, and what stood there.
_replaced: list[tuple[Callable[..., Any], Callable[..., Any]]] = []
# By the name of a function: its calls, and how many of them were left to torch.
_counts: dict[str, list[int]] = {}


class Installed(tuple[str, ...]):
    """The names that were replaced; as a context manager, until the end of the block."""

    __slots__ = ()

    def __enter__(self) -> Installed:
        return self

    def __exit__(self, *_: object) -> None:
        uninstall()


class Calls(NamedTuple):
    """The calls of an installed function: how many were taken over, and how many were left to torch.

    Attributes
    ----------
    fastloss : int
        Calls that were answered by this package.
    torch : int
        Calls that were answered by the function that was replaced.
    """

    fastloss: int
    torch: int


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _count(name: str, left_before: int) -> None:
    """Count a call. Without a lock, which a fork could leave locked: at worst two threads count one call."""
    count = _counts.setdefault(name, [0, 0])
    count[0] += 1
    count[1] += left_to_torch() > left_before


class _Replacement:
    """A function in the place of another, which counts its calls.

    An object of its own, so that `uninstall` can tell what it has put somewhere from what a program imported
    from here itself; and of a class, as a function with another `repr` could not be pickled by name.
    """

    def __init__(self, name: str, function: Callable[..., Any], own: Callable[..., Any]) -> None:
        # Pickled by name, it is found where it stands.
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


# Stands for a row that is masked: a class that nobody means.
_MASKED = torch.iinfo(torch.int64).min


def _selective_log_softmax(own: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """TRL's function of that name, by our `token_log_probs` where it is a log-probability for each row."""
    loss = LOSSES["token_log_probs"]

    def trls(*args: Any, **options: Any) -> Tensor:
        leave_to_torch()
        return own(*args, **options)

    def selective_log_softmax(
        logits: Tensor, index: Tensor, temperature: float = 1.0, row_mask: Tensor | None = None, **more: Any
    ) -> Tensor:
        # What is at its default an earlier TRL may not know.
        scaled = {} if temperature == 1.0 else {"temperature": temperature}
        masked = {} if row_mask is None else {"row_mask": row_mask}

        # The graph keeps this function, so it must not hold tensors.
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
        except IndexError:  # TRL's function ignores no class, and raises its own error
            return trls(logits, index, **scaled, **masked)

    return selective_log_softmax


def _torchs_pairs() -> Iterator[tuple[Callable[..., Any], Callable[..., Any]]]:
    """What is to replace the functions of torch, and these."""
    for name, function in OF_TORCH.items():
        own = getattr(torch.nn.functional, name, None)
        if isinstance(own, types.FunctionType):
            yield _Replacement(name, function, own), own


def _trls_pairs() -> Iterator[tuple[Callable[..., Any], Callable[..., Any]]]:
    """The same of TRL, if it has been imported and its function is not replaced already."""
    name = "selective_log_softmax"
    own = getattr(sys.modules.get("trl.trainer.utils"), name, None)
    if own is not None and not isinstance(own, _Replacement):
        yield _Replacement(name, _selective_log_softmax(own), own), own


_dictionary_of: Any = types.ModuleType.__dict__["__dict__"].__get__  # type: ignore[index]


def _places(values: Container[int]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Where values (by their identities) stand: a module that has been imported, its contents, and a name.

    Modules may be odd, or not loaded before they are touched: only what lies in their dictionaries is seen.
    """
    for key, module in list(sys.modules.items()):
        if not issubclass(type(module), types.ModuleType) or key.startswith("fastloss."):
            continue
        contents = _dictionary_of(module)
        for name, value in list(contents.items()):
            if id(value) in values:
                yield key, contents, name


def _replace(replacements: dict[int, Callable[..., Any]]) -> None:
    """Replace functions (by their identities) wherever they stand."""
    for _, contents, name in _places(replacements):
        contents[name] = replacements[id(contents[name])]


def install() -> Installed:
    """Put our functions in the place of torch's, in every module that has been imported.

    In ``torch.nn.functional``, from where the modules of ``torch.nn`` call them, and wherever else one is a
    global variable of a module, under any name: what a program has imported or saved before (``mine =
    torch.nn.functional.mse_loss``) is replaced, too. What it keeps elsewhere, in a list or an attribute of an
    object, stays torch's. A replacement says so in its `repr`, and has torch's own function as its attribute
    ``fastloss_replaces``.

    With TRL imported, its ``selective_log_softmax``, from which its trainers have their log-probabilities,
    becomes `token_log_probs`. Where TRL is imported later, call `install` once more.

    Programs, trainers and compiled models then use our functions unchanged. What TorchScript has to compile
    must be scripted before; a program exported meanwhile has our operators. A loss that is unreduced, or of
    float16, must find its logits unchanged in backward.

    Returns
    -------
    Installed
        A tuple of the names that stand replaced, as of `installed`, and a context manager: at the end of the
        block it is uninstalled.

    See Also
    --------
    uninstall : the way back. Installations are counted.
    calls : how many calls of the replaced functions were taken over.

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
    """Where our functions stand in the place of others now.

    Returns
    -------
    tuple of str
        Names with their modules, in order; empty if nothing is installed.

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
    """How many calls of the installed functions were taken over, and how many were left to torch.

    Since `install` was called where nothing was installed; still to be read after `uninstall`. Calls of the
    functions of `fastloss.torch` by their own names are not counted, nor are calls that raised an exception.
    Compiled code counts its calls while it is compiled (perhaps more than once), not when it runs.

    Returns
    -------
    dict of str to Calls
        ``(fastloss, torch)`` for the name of each function that was called, in order.

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
    """Undo one `install`; the last restores torch's functions wherever ours stand for them.

    Also in modules that were imported meanwhile. Does nothing where nothing is installed.

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
