"""Methods that forward all arguments, with the signature of the method that receives them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])


def with_signature_of(other: Any) -> Callable[[_Function], _Function]:
    """Return a decorator for a method that forwards all arguments: scikit-learn inspects their names."""

    def decorate(function: _Function) -> _Function:
        function.__signature__ = inspect.signature(other)  # type: ignore[attr-defined]
        return function

    return decorate
