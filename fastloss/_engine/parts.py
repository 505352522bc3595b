"""What the losses of post-training share: float64 inside, parts that are lines of losses.def, masks, buffers.

Their arrays are small beside the logits that they come from, and what is put together from their parts would
lose digits in anything narrower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine import arguments
from fastloss._engine.conversion import cast, widened
from fastloss._engine.types import Array

__all__ = ["Common", "Given", "Part", "choice", "common", "given", "part", "run"]

_ANYTHING = (_kernels.ANY,) * 3


class Part(NamedTuple):
    """The values of a line of losses.def and its derivatives, None where not wanted."""

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
    room = [np.empty(x.shape) if k <= derivatives else None for k in range(3)]
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
    """Return an option that is one of some words."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")
    return value


class Given(NamedTuple):
    """Arguments of one shape: as the caller gave them, in the type of the first, and in float64."""

    seen: list[Array]
    arrays: list[Array]
    numbers: list[Array]


def given(names: Sequence[str], values: Sequence[Any]) -> Given:
    """Check arguments that are arrays of one shape, of which the first one's type decides."""
    seen = [arguments.as_array(name, value) for name, value in zip(names, values, strict=True)]
    x = arguments.floating(names[0], seen[0])
    arrays = [x]
    for name, value in zip(names[1:], seen[1:], strict=True):
        array = arguments.floating(name, value)
        if array.shape != x.shape:
            raise ValueError(f"{name} must have the shape of {names[0]}, {x.shape}; got {array.shape}")
        arrays.append(cast(array, x.dtype))
    return Given(seen, arrays, [widened(array, np.float64) for array in arrays])


class Common(NamedTuple):
    """The arguments that all losses have, checked."""

    reduction: str
    return_grad: bool
    scale: float
    upstream: Array | None
    buffers: list[Array | None]
    accumulate: tuple[bool, ...]  # to which of the buffers the gradients are added
    num_threads: int

    def factor(self, mean_weight: float | Array) -> float | Array | None:
        """What multiplies the derivatives of each term; None where none are wanted."""
        if not self.return_grad:
            return None
        if self.reduction == "mean":
            return self.scale * mean_weight
        return self.scale if self.upstream is None else self.upstream


def common(
    read: Given,
    fields: Sequence[str],
    *,
    others: tuple[Array | None, ...] = (),
    loss_shape: tuple[int, ...] | None = None,
    reduction: Any,
    return_grad: Any,
    grad_output: npt.ArrayLike | None,
    out: Any,
    accumulate: Any,
    num_threads: Any,
) -> Common:
    """Check what all losses have. `fields` are the names of the first arrays, for which there are gradients.

    `others` are further arrays that a buffer must be apart from. The loss has the shape of the arrays, or
    another.
    """
    arguments.reduction(reduction)
    return_grad = arguments.flag("return_grad", return_grad)
    shape = (read.arrays[0].shape if loss_shape is None else loss_shape) if reduction == "none" else ()
    grad_output = arguments.given("grad_output", grad_output)
    scale, upstream = arguments.upstream(grad_output, shape, return_grad)
    count = len(fields)
    buffers, flags = arguments.gradient_buffers(
        out, fields, read.arrays[:count], (*read.seen[count:], *others, grad_output), given=read.seen[:count],
        return_grad=return_grad, accumulate=accumulate,
    )  # fmt: skip
    return Common(reduction, return_grad, scale, upstream, buffers, flags, arguments.threads(num_threads))


def run(
    x: Array,
    call: Common,
    formula: Callable[[float | Array | None], tuple[Array, tuple[Any, ...]]],
    mean_weight: float | Array | None = None,
    gradients: Callable[..., Any] | None = None,
) -> Any:
    """Compute and reduce.

    The formula takes what multiplies the derivatives (None: there are none) and returns the terms and their
    derivatives by each argument. A mean is their sum times `mean_weight`, by default over their number.
    """
    if mean_weight is None:
        mean_weight = 1.0 / x.size if x.size else math.nan
    with np.errstate(all="ignore"):
        found, derivatives = formula(call.factor(mean_weight))
        rows = np.asarray(found)  # arithmetic makes numbers of arrays without axes
        if call.reduction == "mean" and isinstance(mean_weight, np.ndarray):
            rows, mean_weight = rows * mean_weight, 1.0
        total = _kernels.total(np.ascontiguousarray(rows), call.num_threads)
        if call.reduction == "mean":
            total *= float(mean_weight)
        loss = arguments.reduced("none" if call.reduction == "none" else "sum", rows, total, 1.0, x)
        if not call.return_grad:
            return loss
        for buffer, derivative, is_added in zip(call.buffers, derivatives, call.accumulate, strict=True):
            if buffer is not None:
                values = widened(buffer, np.float64) + derivative if is_added else derivative
                buffer[...] = cast(np.asarray(values), buffer.dtype)
    return loss, (call.buffers[0] if gradients is None else gradients(*call.buffers))
