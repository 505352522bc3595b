"""Functions and modules for the elementwise losses that no other module here defines.

Each elementwise loss of `fastloss` becomes a function of tensors without code of its own. It has the
signature of the function of ``torch.nn.functional`` with its name, or else the parameters of `fastloss`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from fastloss._engine.documentation import DECLARED
from fastloss._engine.fragments import BINARY, ELEMENTWISE
from fastloss.torch import _beyond, _functional
from fastloss.torch._beyond import bound, of_tensors
from fastloss.torch._documentation import as_module, as_torchs
from fastloss.torch._evaluate import evaluate
from fastloss.torch._functional import are_alike, declare, reduction_of, take_over, torchs
from fastloss.torch._modules import module_of

_ACRONYMS = {"nll": "NLL"}


def _of_torch(name: str, parameters: list[inspect.Parameter]) -> Callable[..., Tensor]:
    """Make a function of an input and a target with torch's name and signature."""
    signature = inspect.signature(getattr(functional, name))
    positions = tuple(signature.parameters)
    required = frozenset(p.name for p in signature.parameters.values() if p.default is p.empty)
    loss = declare(name, *(p.name for p in parameters[:2]))
    ours = {"check_domain": False} if any(p.name == "check_domain" for p in parameters) else {}

    def of_torch(*args: Any, **options: Any) -> Tensor:
        given = bound(name, positions, frozenset(positions), required, args, options)
        reduction = reduction_of(
            given.pop("reduction", "mean"), given.pop("size_average", None), given.pop("reduce", None)
        )
        input, target = given.pop("input"), given.pop("target")
        own: Callable[..., Tensor] = partial(getattr(torchs, name), reduction=reduction, **given)
        if not are_alike(input, target):
            return own(input, target)
        return evaluate(loss, (input, target), {**given, **ours}, reduction, own)

    of_torch.__name__ = of_torch.__qualname__ = name
    of_torch.__module__ = "fastloss.torch"
    of_torch.__signature__ = signature  # type: ignore[attr-defined]
    take_over(name, as_torchs(of_torch))
    return of_torch


def _module_of_torch(theirs: Any, function: Callable[..., Tensor]) -> type[nn.Module]:
    """Make a subclass of a torch module whose constants are the options of the function."""
    name = function.__name__

    def forward(self: Any, input: Tensor, target: Tensor) -> Tensor:
        return function(input, target, **{option: getattr(self, option) for option in theirs.__constants__})

    documentation = f"``torch.nn.{theirs.__name__}``, computed by `fastloss.torch.{name}`."
    contents = {"forward": forward, "__doc__": documentation, "__module__": __name__}
    return as_module(name)(type(theirs.__name__, (theirs,), contents))


def _derived() -> Iterator[tuple[str, Any]]:
    """Yield the names of this module, with their functions and modules."""
    torchs_modules = {name.lower(): value for name, value in vars(nn).items()}
    for declared in list(DECLARED):
        name = declared.__name__
        is_elementwise = DECLARED[declared].family in (ELEMENTWISE, BINARY)
        if not is_elementwise or name in _functional.__all__ or name in _beyond.__all__:
            continue
        parameters = list(inspect.signature(declared).parameters.values())
        if hasattr(functional, name):
            function = _of_torch(name, parameters)
            module = _module_of_torch(torchs_modules[name.replace("_", "")], function)
        else:
            arrays = [p.name for p in parameters if "ArrayLike" in p.annotation and p.name != "grad_output"]
            function = of_tensors(name, *arrays)
            words = name.split("_")
            module = module_of("".join(_ACRONYMS.get(word, word.capitalize()) for word in words), function)
        module.__module__ = __name__  # pickle looks it up here
        yield name, function
        yield module.__name__, module


_FOUND = dict(_derived())
globals().update(_FOUND)
__all__ = sorted(_FOUND)
