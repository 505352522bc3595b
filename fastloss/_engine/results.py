"""Reductions, upstream gradients, and buffers for gradients.

A gradient is written to new memory, to a buffer that overlaps no argument, or in place over its own argument.
`request` checks the common parameters before anything is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias, get_args

import numpy as np

from fastloss._engine.arguments import as_array, converted, flag, threads
from fastloss._engine.options import common_options
from fastloss._engine.types import Array, Reduction
from fastloss._engine.workspace import empty_like

__all__ = [
    "Reduced", "Request", "accumulations", "as_loss", "buffer", "check_reduction", "places", "reduced",
    "request", "scaled", "upstream",
]  # fmt: skip

# A loss: a number, the pair of "sum_and_count", or the losses of "none".
Reduced: TypeAlias = float | tuple[float, float] | Array
_REDUCTIONS: tuple[str, ...] = get_args(Reduction)


def as_loss(values: Array, x: Array) -> Array:
    """Return unreduced float64 losses in the type of the input, or in float32 for half types."""
    if x.dtype == np.float64:
        return values
    # A loss beyond the range of float32 becomes infinite, without a warning.
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _mean(total: float, denominator: float, of_nothing: float) -> float:
    """Return `total / denominator` with 0 / 0 as `of_nothing`, and infinite if weights cancel."""
    if denominator or math.isnan(total):
        return total / (denominator or 1.0)
    return math.copysign(math.inf, total) if total else of_nothing


def reduced(
    reduction: str,
    losses: Array | None,
    total: float,
    denominator: float,
    x: Array,
    *,
    of_nothing: float = math.nan,
) -> Reduced:
    """Return the losses (needed for "none"), their sum, with what a mean divides by, or their mean.

    If nothing counts the denominator is 0, and the mean is `of_nothing`.
    """
    if losses is not None and reduction == "none":
        return as_loss(losses, x)
    if reduction == "mean":
        return _mean(total, denominator, of_nothing)
    return (total, float(denominator)) if reduction == "sum_and_count" else total


def scaled(loss: Any, function: Callable[[Any], Any]) -> Any:
    """Return a function of a loss; of the pair of "sum_and_count", that of the sum beside the count."""
    return (function(loss[0]), loss[1]) if isinstance(loss, tuple) else function(loss)


def check_reduction(value: Any, *more: str) -> None:
    """Check a reduction; a loss may have more than the usual ones."""
    allowed = (*_REDUCTIONS, *more)
    if not isinstance(value, str) or value not in allowed:
        choices = ", ".join(repr(choice) for choice in allowed)
        raise ValueError(f"reduction must be one of {choices}, got {value!r}")


def upstream(
    value: Any, loss_shape: tuple[int, ...], return_grad: bool, name: str = "grad_output"
) -> tuple[float, Array | None]:
    """Return `grad_output` as a scalar factor and an array; one of them is neutral (1.0 or None)."""
    if value is None:
        return 1.0, None
    if not return_grad:
        raise ValueError("grad_output needs return_grad=True")
    if type(value) is float:
        return value, None
    array = as_array(name, value)
    if array.ndim == 0 and array.dtype == np.bool_:
        raise TypeError(f"{name} must be a number or an array, got {value}")
    array = converted(name, array, np.float64)
    if array.ndim == 0:
        return float(array), None
    if array.shape != loss_shape:
        raise ValueError(
            f"{name} must be a scalar or have the shape of the loss, {loss_shape}; got {array.shape}"
        )
    return 1.0, array


def _overlaps_itself(array: Array) -> bool:
    """Return whether two elements may share memory; False for all slices and transposes of normal arrays."""
    if array.size <= 1:
        return False
    extent = array.itemsize
    for stride, length in sorted(zip(map(abs, array.strides), array.shape, strict=True)):
        if length > 1:
            if stride < extent:
                return True
            extent = stride * length
    return False


def _same_memory(a: Array, b: Array) -> bool:
    return (
        a.__array_interface__["data"][0] == b.__array_interface__["data"][0]
        and a.shape == b.shape
        and a.strides == b.strides
        and a.dtype == b.dtype
    )


def _share_memory(a: Array, b: Array) -> bool:
    if not np.may_share_memory(a, b):
        return False
    try:
        # Exact up to a limit of work. The limit is a number, though NumPy's stubs do not allow it.
        return bool(np.shares_memory(a, b, max_work=10**6))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def apart(out: Array, others: Iterable[Array | None], message: str) -> None:
    """Check that a buffer shares no memory with any of `others`."""
    for other in others:
        if other is not None and _share_memory(out, other):
            raise ValueError(message)


def buffer(out: Any, x: Array, name: str = "out", what: str = "the gradient") -> Array:
    """Check a buffer with the shape and dtype of `x`: it must be `x` itself or not overlap it."""
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"{name} must be a NumPy array, got {type(out).__name__}")
    if out.dtype != x.dtype:
        raise TypeError(f"{name} must have the dtype of {what}, {x.dtype}; got {out.dtype}")
    if out.shape != x.shape:
        raise ValueError(f"{name} must have the shape of the input, {x.shape}; got {out.shape}")
    if not out.flags.writeable:
        raise ValueError(f"{name} must be writeable, got a read-only array")
    if not out.flags.aligned or not out.dtype.isnative:
        raise ValueError(f"{name} must be aligned and of native byte order")
    if out is not x and _share_memory(out, x) and not _same_memory(out, x):
        raise ValueError(f"{name} overlaps the input: it must be exactly the input, or not overlap it")
    if _overlaps_itself(out):
        raise ValueError(f"{name} must not overlap itself (strides {out.strides})")
    return out


def accumulations(accumulate: Any, out: Any, fields: Sequence[str]) -> tuple[bool, ...]:
    """Check `accumulate`: one bool for all buffers, or a tuple with one for each."""
    if isinstance(accumulate, tuple) and len(fields) > 1:
        if len(accumulate) != len(fields):
            raise TypeError(
                f"accumulate must be a bool, or a tuple of {len(fields)} ({', '.join(fields)}); "
                f"got a tuple of {len(accumulate)}"
            )
        flags = tuple(flag(f"accumulate.{field}", one) for field, one in zip(fields, accumulate, strict=True))
    else:
        flags = (flag("accumulate", accumulate),) * len(fields)
    if out is None and any(flags):
        raise ValueError("accumulate=True needs out")
    return flags


def places(out: Any, fields: Sequence[str]) -> tuple[Any, ...]:
    """Return `out` of a loss with several gradients, which must be a tuple with a place for each."""
    if not isinstance(out, tuple) or len(out) != len(fields):
        raise TypeError(
            f"out must be a tuple of {len(fields)} buffers ({', '.join(fields)}), None for one not wanted; "
            f"got {type(out).__name__}"
        )
    return out


def gradient_buffers(
    out: Any,
    fields: Sequence[str],
    arrays: Sequence[Array | None],
    others: Iterable[Array | None],
    given: Sequence[Array | None] | None,
    *,
    in_place: bool,
) -> list[Array | None]:
    """Check `out`, and return the buffer of each gradient.

    Each field has a gradient, that of its array, or None if the argument has no gradient, or one that is a
    number. A buffer must not overlap an array that is read (`others` and `given`, by default `arrays`), or
    another buffer. With `in_place` it may be its own array, if the caller gave that array unconverted. A
    returned buffer of None means that the gradient is not wanted.
    """
    several = len(fields) > 1
    out = places(out, fields) if several else (out,)
    given = arrays if given is None else given
    others = list(others)
    found: list[Array | None] = []
    for k, (field, one, array) in enumerate(zip(fields, out, arrays, strict=True)):
        name = f"out.{field}" if several else "out"
        if one is None:
            found.append(None)
            continue
        if array is None:
            raise ValueError(f"{name} must be None: this argument has no gradient that is an array")
        is_own = in_place and given[k] is array
        # A converted argument is a copy, so the buffer cannot be the argument itself.
        like = array if is_own else np.broadcast_to(np.empty((), array.dtype), array.shape)
        read = [a for j, a in enumerate(given) if j != k or not is_own]
        buffer(one, like, name)
        apart(
            one,
            [*others, *read],
            f"{name} must not overlap an input{' other than its own' if in_place else ''}",
        )
        apart(one, found, f"{name} must not overlap another buffer")
        found.append(one)
    return found


class Request(NamedTuple):
    """The checked common parameters of a call."""

    reduction: str
    return_grad: bool
    scale: float  # a scalar grad_output, or 1.0
    upstream: Array | None  # an array grad_output
    buffers: list[Array | None]  # the buffer of each gradient
    accumulate: tuple[bool, ...]  # whether each gradient is added to its buffer
    num_threads: int

    def scale_over(self, count: int) -> float:
        """Return the factor of all gradients of a loss whose mean is over `count` terms."""
        return self.scale / max(count, 1) if self.reduction == "mean" else self.scale


def _new_buffers(arrays: Sequence[Array | None], return_grad: bool) -> list[Array | None]:
    """Return new arrays for the gradients of `arrays`, if they are wanted."""
    buffers: list[Array | None] = []
    is_beside = False
    for array in arrays:
        buffers.append(empty_like(array, is_beside=is_beside) if return_grad and array is not None else None)
        is_beside = is_beside or array is not None
    return buffers


def request(
    fields: Sequence[str],
    arrays: Sequence[Array | None],
    others: Iterable[Array | None],
    loss_shape: tuple[int, ...],
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: dict[str, Any],
    *,
    given: Sequence[Array | None] | None = None,
    in_place: bool = True,
) -> Request:
    """Check the common parameters of a loss; `loss_shape` is the shape of the unreduced loss.

    `fields` are the names of the gradients. For `arrays`, `others`, `given` and `in_place` see
    `gradient_buffers`.
    """
    check_reduction(reduction)
    grad_output, accumulate, num_threads = common_options(options)
    return_grad = flag("return_grad", return_grad)
    scale, array = 1.0, None
    if grad_output is not None:
        if type(grad_output) is not float:
            grad_output = as_array("grad_output", grad_output)
            others = (*others, grad_output)
        scale, array = upstream(grad_output, loss_shape if reduction == "none" else (), return_grad)
    flags = (False,) * len(fields) if accumulate is False else accumulations(accumulate, out, fields)
    if out is None:
        buffers = _new_buffers(arrays, return_grad)
    elif not return_grad:
        raise ValueError("out needs return_grad=True")
    else:
        buffers = gradient_buffers(out, fields, arrays, others, given, in_place=in_place)
    return Request(reduction, return_grad, scale, array, buffers, flags, threads(num_threads))
