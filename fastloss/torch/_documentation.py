"""Documentation of functions whose arguments and options are documented where they come from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import fastloss

__all__ = ["as_torchs", "formula", "summary"]


Function = TypeVar("Function", bound=Callable[..., Any])


def summary(name: str) -> str:
    """The first line of what a function of the package says of itself."""
    return (inspect.getdoc(getattr(fastloss, name)) or "").partition("\n")[0]


def formula(name: str) -> str:
    """Its first formula, if it has one."""
    lines = (inspect.getdoc(getattr(fastloss, name)) or "").splitlines()
    for first, line in enumerate(lines):
        if line.startswith(".. math::"):
            block = [line]
            for more in lines[first + 1 :]:
                if not more.startswith(" "):
                    break
                block.append(more)
            return "\n".join(block).rstrip()
    return ""


_AS_TORCHS = """{summary}

{formula}

``torch.nn.functional.{name}``, with its arguments{extra}. {note}

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
        parameters: Sequence[str] = list(inspect.signature(function).parameters)
        function.__doc__ = _AS_TORCHS.format(
            summary=summary(name),
            formula=formula(name),
            name=name,
            extra=f", and further {extra}" if extra else "",
            note=inspect.cleandoc(function.__doc__ or ""),
            parameters=", ".join(parameters),
        )
        return function

    return documented
