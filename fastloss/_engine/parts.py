"""Run the losses of post-training, which combine lines of losses.def.

They are computed in float64. Their arrays are small compared to the logits, and sums of their parts would
lose digits in a narrower type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastloss import _kernels
from fastloss._engine import arguments
from fastloss._engine.conversion import cast, widened
from fastloss._engine.results import Request, reduced, request
from fastloss._engine.types import Array
from fastloss._engine.workspace import empty

__all__ = ["Given", "Part", "Terms", "call_of", "choice", "given", "part", "run"]

_ANYTHING = (_kernels.ANY,) * 3


class Part(NamedTuple):
    """The values of a line of losses.def and its derivatives; None for a derivative not wanted."""

    value: Array
    first: Any
    second: Any


def part(
    kernel: str,
    x: Array,
    target: float | Array = 0.0,
    third: float | Array = 1.0,
    *,
    parameters: tuple[float, float] = (0.0, 0.0),
    derivatives: int,
    num_threads: int,
) -> Part:
    """Run a line of losses.def over float64 arrays of one shape."""
    x = np.asarray(x)
    room = [empty(x.shape, np.float64, is_beside=True) if k <= derivatives else None for k in range(3)]
    value = room[0]
    assert value is not None
    t, t_value = (None, target) if isinstance(target, float) else (target, 0.0)
    u, u_value = (None, third) if isinstance(third, float) else (third, 0.0)
    _kernels.elementwise(
        _kernels.ELEMENTWISE[kernel][0], True, (x, t, u, None, None, room[1], room[2], value), _ANYTHING,
        t_value, u_value, *parameters, 1.0, True, False, False, False, num_threads,
    )  # fmt: skip
    return Part(value, room[1], room[2])


def choice(name: str, value: Any, allowed: Sequence[str]) -> str:
    """Return an option that must be one of the `allowed` words."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")
    return value


class Given(NamedTuple):
    """Arguments of one shape: as arrays of their own types, in the type of the first, and in float64."""

    seen: list[Array]
    arrays: list[Array]
    numbers: list[Array]


def given(names: Sequence[str], values: Sequence[Any]) -> Given:
    """Check arguments that are arrays of one shape, and convert them to the type of the first."""
    seen = [arguments.as_array(name, value) for name, value in zip(names, values, strict=True)]
    x = arguments.floating(names[0], seen[0])
    arrays = [x]
    for name, value in zip(names[1:], seen[1:], strict=True):
        array = arguments.floating(name, value)
        if array.shape != x.shape:
            raise ValueError(f"{name} must have the shape of {names[0]}, {x.shape}; got {array.shape}")
        arrays.append(cast(array, x.dtype))
    return Given(seen, arrays, [widened(array, np.float64) for array in arrays])


def call_of(
    read: Given,
    fields: Sequence[str],
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    others: tuple[Array | None, ...] = (),
) -> Request:
    """Check the common parameters of a loss with the shape of its arrays.

    `fields` are the names of the first arrays, which have gradients. Buffers must not overlap `others`.
    """
    count = len(fields)
    return request(
        fields, read.arrays[:count], (*read.seen[count:], *others), read.arrays[0].shape, reduction,
        return_grad, out, options, given=read.seen[:count],
    )  # fmt: skip


class Terms(NamedTuple):
    """What the mean of a loss divides by."""

    number: float  # how many terms count, or another divisor of their sum
    lengths: Array | None = None  # what each term is divided by before the sum of a mean
    is_masked: bool = False  # whether the mean of no terms is 0 instead of NaN

    def weight(self, reduction: str) -> float | Array:
        """Return the factor of each term in a reduced loss."""
        lengths = 1.0 if self.lengths is None else self.lengths
        if reduction == "mean":
            return 1.0 / ((self.number or (1.0 if self.is_masked else math.nan)) * lengths)
        return 1.0 / lengths if reduction == "sum_and_count" else 1.0


def _factor(call: Request, weight: float | Array) -> float | Array | None:
    """Return the factor of the derivatives of each term, or None if no derivatives are wanted."""
    if not call.return_grad:
        return None
    return call.scale * weight if call.upstream is None else call.upstream


def run(
    x: Array,
    call: Request,
    formula: Callable[[float | Array | None], tuple[Array, tuple[Any, ...]]],
    terms: Terms | None = None,
    gradients: Callable[..., Any] | None = None,
) -> Any:
    """Compute a loss and reduce it.

    The formula takes the factor of the derivatives (None if they are not wanted). It returns the terms and
    their derivatives with respect to each argument. A mean divides by `terms`, by default by their number.
    """
    terms = Terms(float(x.size)) if terms is None else terms
    weight = terms.weight(call.reduction)
    with np.errstate(all="ignore"):
        found, derivatives = formula(_factor(call, weight))
        rows = np.asarray(found)  # arithmetic turns 0-d arrays into scalars
        if isinstance(weight, np.ndarray):
            rows, weight = rows * weight, 1.0
        total = _kernels.total(np.ascontiguousarray(rows), call.num_threads) * float(weight)
        # A mean has been divided already.
        loss = reduced("sum" if call.reduction == "mean" else call.reduction, rows, total, terms.number, x)
        if not call.return_grad:
            return loss
        for buffer, derivative, is_added in zip(call.buffers, derivatives, call.accumulate, strict=True):
            if buffer is not None:
                values = widened(buffer, np.float64) + derivative if is_added else derivative
                buffer[...] = cast(np.asarray(values), buffer.dtype)
    return loss, (call.buffers[0] if gradients is None else gradients(*call.buffers))
