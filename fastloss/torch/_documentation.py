"""Documentation of functions whose arguments and options are documented where they come from."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import fastloss

__all__ = ["as_module", "as_torchs", "formula", "summary"]

Function = TypeVar("Function", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type)


def summary(name: str) -> str:
    """The first line of what a function of the package says of itself."""
    return (inspect.getdoc(getattr(fastloss, name)) or "").partition("\n")[0]


def formula(name: str) -> str:
    """Its first formula, with what is said before it, if it has one."""
    _, _, *lines = (inspect.getdoc(getattr(fastloss, name)) or "").splitlines() or ("", "")
    for first, line in enumerate(lines):
        if line.startswith(".. math::"):
            # The block goes on to the next line that is neither indented nor empty.
            after = [k for k in range(first + 1, len(lines)) if lines[k] and not lines[k].startswith(" ")]
            return "\n".join(lines[: after[0] if after else None]).rstrip()
    return ""


def as_module(of: str) -> Callable[[Class], Class]:
    """A decorator: the formula of a function of the package after the first line of a module's docstring."""

    def documented(module: Class) -> Class:
        first, _, rest = (inspect.cleandoc(module.__doc__ or "")).partition("\n")
        module.__doc__ = f"{first}\n\n{formula(of)}\n{rest}"
        return module

    return documented


_AS_TORCHS = """{summary}

{formula}

{what}

Parameters
----------
{parameters}
    As those of torch's function. Tensors are float16, bfloat16, float32 or float64, all of one dtype, of any
    strides; class indices of any integer type. For anything else torch's own function is called.

Returns
-------
Tensor
    Of the shape and dtype that torch's has.

Raises
------
IndexError
    If a class index is out of range.
TypeError, ValueError, RuntimeError
    As torch's function.

See Also
--------
fastloss.{name} : the same of arrays.

References
----------
``torch.nn.functional.{name}``.
"""


def as_torchs(extra: str = "") -> Callable[[Function], Function]:
    """A decorator: the function is torch's, its docstring what else there is to say of it.

    `extra` are arguments beyond torch's.
    """

    def documented(function: Function) -> Function:
        name = function.__name__
        note = inspect.cleandoc(function.__doc__ or "")
        further = f", and further {extra}" if extra else ""
        what = f"``torch.nn.functional.{name}``, with its arguments{further}. {note}"
        parameters: Sequence[str] = list(inspect.signature(function).parameters)
        function.__doc__ = _AS_TORCHS.format(
            summary=summary(name),
            formula=formula(name),
            name=name,
            what=textwrap.fill(what, 105),
            parameters=", ".join(parameters),
        )
        return function

    return documented
