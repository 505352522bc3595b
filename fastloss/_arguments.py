"""Every rule on arguments, once: types, shapes, class axes, options, reductions, buffers.

The functions here take what a caller gave and return what the kernels understand, or raise an error that
names the argument, what was expected and what came. All of them run before anything is written.
"""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._settings import checked_threads, get_num_threads
from fastloss._types import Array
from fastloss._workspace import empty_like


def _is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether this is bfloat16: its bits, or the type of ml_dtypes (made known to the kernels then)."""
    if dtype == _kernels.BFLOAT16_BITS:
        return True
    if dtype.name != "bfloat16" or dtype.itemsize != 2:
        return False
    _kernels.register_bfloat16(dtype)
    return True


def as_array(name: str, value: npt.ArrayLike) -> Array:
    """Return `value` as an array of whatever type."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} must be an array, or nested lists of equal lengths: {error}") from None


def floating(name: str, value: npt.ArrayLike) -> Array:
    """Return `value` as an array that the kernels can read; copies only what they cannot.

    Lists, and arrays of integers, become float64.
    """
    if _kernels.is_floating(value):
        return value  # type: ignore[return-value]
    array = as_array(name, value)
    dtype = array.dtype
    if dtype.kind in "iu" or dtype == np.bool_:
        return array.astype(np.float64)
    if dtype.kind == "f" and dtype.itemsize <= 8:
        return np.require(array, dtype.newbyteorder("="), ["A"])
    if _is_bfloat16(dtype):
        return np.require(array, dtype, ["A"])
    raise TypeError(f"{name} must hold float16, bfloat16, float32 or float64, got {dtype}")


def converted(name: str, value: npt.ArrayLike, dtype: npt.DTypeLike) -> Array:
    """Return `value`, real numbers of any type, as a contiguous array of `dtype`."""
    array = floating(name, value)
    return np.require(array, dtype, ["C", "A"])


def as_loss(values: Array, x: Array) -> Array:
    """Return unreduced losses, in float64, in the type of the input; in float32 for half types."""
    if x.dtype == np.float64:
        return values
    # A loss beyond float32 is infinite there, without a warning.
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def reduced(
    reduction: str, losses: Array | None, total: float, denominator: float, x: Array
) -> float | Array:
    """What a loss returns: its losses (there for "none"), their sum, or their mean (NaN of nothing)."""
    if losses is not None and reduction == "none":
        return as_loss(losses, x)
    if reduction == "sum":
        return total
    return total / denominator if denominator else math.nan


def class_axis(axis: Any, x: Array, name: str) -> int:
    """Return `axis` counted from the front."""
    if type(axis) is not int:
        if isinstance(axis, bool):
            raise TypeError(f"axis must be an integer, got {axis!r}")
        try:
            axis = operator.index(axis)
        except TypeError:
            raise TypeError(f"axis must be an integer, got {axis!r}") from None
    ndim = x.ndim
    if ndim == 0:
        raise ValueError(f"{name} must have a class axis, got a scalar")
    if not -ndim <= axis < ndim:
        raise np.exceptions.AxisError(axis, ndim, f"{name} with axis")
    return int(axis) % ndim


def rows_and_classes(x: Array, axis: int) -> tuple[tuple[int, ...], int]:
    """The shape of `x` without its class axis, and the number of classes, of which there must be one."""
    shape = x.shape
    if shape[axis] == 0:
        raise ValueError(f"there must be at least one class along axis {axis}, got shape {shape}")
    return shape[:axis] + shape[axis + 1 :], shape[axis]


def number(
    name: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
) -> float:
    """Return a finite number from `low` to `high` and greater than `above` as a float."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    result = float(value)
    if not (low <= result <= high and above < result and math.isfinite(result)):
        if high < math.inf:
            expected = f"between {low:g} and {high:g}"
        elif above > -math.inf:
            expected = f"finite and greater than {above:g}"
        else:
            expected = f"finite and at least {low:g}"
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return result


def index(name: str, value: Any) -> int:
    """Return an integer of any width."""
    if type(value) is int:
        return value
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None


def flag(name: str, value: Any) -> bool:
    """Return a truth value."""
    if value is True or value is False:
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {value!r}")


def reduction(value: Any, allowed: tuple[str, ...] = ("mean", "sum", "none")) -> None:
    """Check a reduction."""
    if not isinstance(value, str) or value not in allowed:
        choices = ", ".join(repr(choice) for choice in allowed)
        raise ValueError(f"reduction must be one of {choices}, got {value!r}")


def threads(value: Any) -> int:
    """The number of threads of this call."""
    return get_num_threads() if value is None else checked_threads(value, "num_threads")


def is_probabilities(target: Array) -> bool:
    """Whether a target holds probabilities, not class indices."""
    return target.dtype.kind == "f" or _is_bfloat16(target.dtype)


def probabilities(target: Array, x: Array, ignore_index: int) -> Array:
    """Return probability targets in a type that the kernels read beside `x`."""
    if ignore_index >= 0:
        raise ValueError(f"ignore_index={ignore_index} needs class indices as target, got probabilities")
    if target.shape != x.shape:
        raise ValueError(
            f"target must be integer class indices, or probabilities of the shape of the logits, "
            f"{x.shape}; got {target.dtype} of shape {target.shape}"
        )
    return np.require(target, x.dtype, ["A"])


def class_indices(
    target: Array, shape: tuple[int, ...], ignore_index: int | None
) -> tuple[Array, int | None]:
    """Return class indices as contiguous int64, and the ignored index where there can be one.

    No value changes its meaning: a uint64 above the range of int64 stays out of range.
    """
    dtype = target.dtype
    if dtype.kind not in "iu":
        raise TypeError(f"target must hold integer class indices, got {dtype}")
    if target.shape != shape:
        raise ValueError(f"target must have one class index for each row, shape {shape}; got {target.shape}")
    ignored = ignore_index if ignore_index is not None and -(2**63) <= ignore_index < 2**63 else None
    if _kernels.is_index(target):
        return target, ignored
    if dtype.kind == "u" and dtype.itemsize == 8 and (large := target > 2**63 - 1).any():
        beyond = np.where(large, np.uint64(2**63 - 1), target).astype(np.int64)
        if ignored is None and ignore_index is not None and 0 <= ignore_index < 2**64:
            beyond[target == np.uint64(ignore_index)] = -1
            ignored = -1
        return beyond, ignored
    return np.require(target, np.int64, ["C", "A"]), ignored


def bad_class_index(target: Array, position: int, classes: int) -> IndexError:
    """The error for the first class index out of range."""
    where = np.unravel_index(position, target.shape) if target.ndim else ()
    name = f"target[{', '.join(str(i) for i in where)}]" if where else "target"
    value = target[where]
    return IndexError(f"{name} is {value}, which is not a class: expected 0 <= index < {classes}")


def require_classes(target: Array, indices: Array, classes: int, counted: npt.NDArray[np.bool_]) -> None:
    """Check the class indices of a target that count, where it is not left to the kernels."""
    is_bad = counted & ((indices < 0) | (indices >= classes))
    if is_bad.any():
        raise bad_class_index(target, int(is_bad.argmax()), classes)


def class_weight(value: npt.ArrayLike, classes: int) -> Array:
    """Return class weights as contiguous float64."""
    weight = converted("weight", value, np.float64)
    if weight.shape != (classes,):
        raise ValueError(f"weight must have one entry for each class, shape ({classes},); got {weight.shape}")
    return weight


def per_row(name: str, value: npt.ArrayLike | None, shape: tuple[int, ...]) -> Array | None:
    """Return a scalar or an array of exactly `shape` as contiguous float64 of that shape."""
    if value is None:
        return None
    array = converted(name, value, np.float64)
    if array.ndim == 0:
        return np.full(shape, array)
    if array.shape != shape:
        raise ValueError(f"{name} must be a scalar or have shape {shape}, got {array.shape}")
    return array


def mask(name: str, value: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return a mask, booleans or numbers that are 0 or 1, of exactly `shape`, as booleans."""
    array = as_array(name, value)
    if array.dtype != np.bool_ and array.dtype.kind not in "iuf" and not _is_bfloat16(array.dtype):
        raise TypeError(f"{name} must hold booleans, or 0 and 1; got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    found: npt.NDArray[np.bool_] = array != 0
    if array.dtype != np.bool_ and not (array[found] == 1).all():
        raise ValueError(f"{name} must hold nothing but 0 and 1")
    return found


def upstream(value: Any, loss_shape: tuple[int, ...], return_grad: bool) -> tuple[float, Array | None]:
    """Return grad_output as a scalar factor and an array, one of them neutral (1.0 or None)."""
    if value is None:
        return 1.0, None
    if not return_grad:
        raise ValueError("grad_output needs return_grad=True")
    if type(value) is float:
        return value, None
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"grad_output must be a number or an array, got {value!r}")
    array = converted("grad_output", value, np.float64)
    if array.ndim == 0:
        return float(array), None
    if array.shape != loss_shape:
        raise ValueError(
            f"grad_output must be a scalar or have the shape of the loss, {loss_shape}; got {array.shape}"
        )
    return 1.0, array


def _overlaps_itself(array: Array) -> bool:
    """Whether two elements may be one in memory (never for what slicing and transposing give)."""
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
        # Exact, but only up to an effort (a number, whatever the stubs of NumPy say).
        return bool(np.shares_memory(a, b, max_work=10**6))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def apart(out: Array, others: tuple[Any, ...], message: str) -> None:
    """Check that a buffer shares no memory with any of the others: arrays, or what becomes one as it lies."""
    for other in others:
        is_array = isinstance(other, memoryview) or hasattr(other, "__array__")
        if is_array and _share_memory(out, np.asarray(other)):
            raise ValueError(message)


def buffer(out: Any, x: Array, others: tuple[Any, ...] = (), name: str = "out") -> Array:
    """Check a buffer for something shaped like `x`: `x` itself, or apart from all inputs."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(out).__name__}")
    if out.dtype != x.dtype:
        raise TypeError(f"{name} must be {x.dtype} like the input, got {out.dtype}")
    if out.shape != x.shape:
        raise ValueError(f"{name} must have the shape of the input, {x.shape}; got {out.shape}")
    if not out.flags.writeable:
        raise ValueError(f"{name} must be writeable, got a read-only array")
    if not out.flags.aligned or not out.dtype.isnative:
        raise ValueError(f"{name} must be aligned and of native byte order")
    if out is not x and not _same_memory(out, x) and _share_memory(out, x):
        raise ValueError(f"{name} overlaps the input: it must be exactly the input or apart from it")
    if _overlaps_itself(out):
        raise ValueError(f"{name} must not overlap itself (strides {out.strides})")
    apart(out, others, f"{name} must not overlap an input other than the first")
    return out


def gradient_buffer(
    out: Any, x: Array, others: tuple[Any, ...], return_grad: Any, accumulate: Any
) -> Array | None:
    """Check return_grad, out and accumulate; return where the gradient goes, None for nowhere."""
    return_grad = flag("return_grad", return_grad)
    accumulate = flag("accumulate", accumulate)
    if out is None:
        if accumulate:
            raise ValueError("accumulate=True needs out")
        return empty_like(x) if return_grad else None
    if not return_grad:
        raise ValueError("out needs return_grad=True")
    return buffer(out, x, others)
