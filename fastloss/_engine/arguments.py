"""Checks of arguments: types, shapes, class axes, numbers, targets, weights and masks.

Each function takes a caller's argument and returns it in the form that the kernels read. Otherwise it raises
an error that names the argument, the expected values and the given one. All checks run before anything is
written.
"""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine.conversion import as_array as as_array
from fastloss._engine.conversion import cast, is_bfloat16
from fastloss._engine.settings import checked_threads, get_num_threads
from fastloss._engine.types import Array


def floating(name: str, value: npt.ArrayLike) -> Array:
    """Return `value` as an array that the kernels can read, copied only if it is not one already.

    Lists and arrays of integers become float64.
    """
    if _kernels.is_floating(value):
        return value  # type: ignore[return-value]
    array = as_array(name, value)
    dtype = array.dtype
    if dtype.kind in "iu" or dtype == np.bool_:
        return cast(array, np.float64)
    if dtype.kind == "f" and dtype.itemsize <= 8:
        return cast(array, dtype.newbyteorder("="))
    if is_bfloat16(dtype):
        return cast(array, dtype)
    raise TypeError(f"{name} must hold float16, bfloat16, float32 or float64, got {dtype}")


def given(name: str, value: npt.ArrayLike | None) -> Array | None:
    """Return `value` as an array, or None. It is converted once: buffers are compared with this array."""
    return None if value is None else as_array(name, value)


def converted(name: str, value: npt.ArrayLike, dtype: npt.DTypeLike) -> Array:
    """Return `value`, which holds real numbers of any type, as a contiguous array of `dtype`."""
    return cast(floating(name, value), dtype, contiguous=True)


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
    """Return the shape of `x` without its class axis, and the number of classes, which must be at least 1."""
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
    """Return `value` as a float; it must be finite, from `low` to `high`, and greater than `above`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    try:
        result = float(value)
    except OverflowError:
        raise ValueError(f"{name} must be finite, got an integer beyond the range of float64") from None
    if not (low <= result <= high and above < result and math.isfinite(result)):
        if high < math.inf:
            expected = f"between {low:g} and {high:g}" if low > -math.inf else f"finite and at most {high:g}"
        elif above > -math.inf:
            expected = f"finite and greater than {above:g}"
        elif low > -math.inf:
            expected = f"finite and at least {low:g}"
        else:
            expected = "finite"
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return result


def index(name: str, value: Any) -> int:
    """Return `value`, an integer of any width, as an int."""
    if type(value) is int:
        return value
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None


def flag(name: str, value: Any) -> bool:
    """Return `value`, a Python or NumPy bool, as a bool."""
    if value is True or value is False:
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {value!r}")


def threads(value: Any) -> int:
    """Return the number of threads for this call."""
    return get_num_threads() if value is None else checked_threads(value, "num_threads")


def is_probabilities(target: Array) -> bool:
    """Return whether a target holds probabilities, not class indices."""
    return target.dtype.kind == "f" or is_bfloat16(target.dtype)


def _hint_of_axis(target: Array, shape: tuple[int, ...], axis: int) -> str:
    """Return a hint for targets that would fit if the classes were on axis 1, as in torch."""
    fits = len(shape) > 2 and axis != 1 and target.shape == shape[:1] + shape[2:]
    return " (classes on axis 1? pass axis=1)" if fits else ""


def probabilities(
    target: Array, shape: tuple[int, ...], axis: int, dtype: npt.DTypeLike, ignore_index: int
) -> Array:
    """Return probability targets in the dtype of the logits, as the kernels read them."""
    if target.shape != shape:
        rows = shape[:axis] + shape[axis + 1 :]
        hint = "; convert class indices by target.astype(np.int64)" if target.shape == rows else ""
        raise ValueError(
            f"target must be integer class indices, or probabilities of the shape of the logits, "
            f"{shape}; got {target.dtype} of shape {target.shape}{hint}{_hint_of_axis(target, shape, axis)}"
        )
    if ignore_index >= 0:
        raise ValueError(f"ignore_index={ignore_index} needs class indices as target, got probabilities")
    return cast(target, dtype)


def class_indices(
    target: Array, shape: tuple[int, ...], axis: int, ignore_index: int | None, name: str = "target"
) -> tuple[Array, int | None]:
    """Return class indices for logits of a shape as contiguous int64, and the index to ignore, if any.

    Values keep their meaning: a uint64 above the range of int64 stays out of range.
    """
    dtype, rows = target.dtype, shape[:axis] + shape[axis + 1 :]
    if dtype.kind not in "iu":
        hint = f"; convert them by {name}.astype(np.int64)" if dtype.kind in "fb" else ""
        raise TypeError(f"{name} must hold integer class indices, got {dtype}{hint}")
    if target.shape != rows:
        hint = _hint_of_axis(target, shape, axis)
        if target.shape == shape:
            hint = (
                " (probabilities, or one-hot? pass target.astype(logits.dtype); labels of two classes? "
                "use binary_cross_entropy_with_logits)"
            )
        raise ValueError(
            f"{name} must have one class index for each row, shape {rows}; got {target.shape}{hint}"
        )
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


def bad_value(name: str, values: Array, position: tuple[Any, ...], expected: str) -> ValueError:
    """Return the error for the value at `position`."""
    where = f"{name}[{', '.join(map(str, position))}]" if position else name
    value = cast(values[position], np.float32) if is_bfloat16(values.dtype) else values[position]
    return ValueError(f"{where} is {value}: expected {expected}")


def first_bad_value(name: str, values: Array, is_bad: Array, expected: str) -> ValueError:
    """Return the error for the first bad value."""
    position = np.unravel_index(int(is_bad.argmax()), values.shape) if values.ndim else ()
    return bad_value(name, values, position, expected)


def bad_class_index(target: Array, position: int, classes: int, name: str = "target") -> IndexError:
    """Return the error for the class index at `position`, which is out of range."""
    where = np.unravel_index(position, target.shape) if target.ndim else ()
    at = f"[{', '.join(str(i) for i in where)}]" if where else ""
    value = target[where]
    return IndexError(f"{name}{at} is {value}, which is not a class: expected 0 <= index < {classes}")


def require_classes(
    target: Array, indices: Array, classes: int, counted: npt.NDArray[np.bool_], name: str = "target"
) -> None:
    """Check the class indices that count, for callers whose kernel does not check them."""
    is_bad = counted & ((indices < 0) | (indices >= classes))
    if is_bad.any():
        raise bad_class_index(target, int(is_bad.argmax()), classes, name)


def class_weight(value: npt.ArrayLike, classes: int, name: str = "weight") -> Array:
    """Return class weights as contiguous float64."""
    weight = converted(name, value, np.float64)
    if weight.shape != (classes,):
        raise ValueError(f"{name} must have one entry for each class, shape ({classes},); got {weight.shape}")
    return weight


def per_row(name: str, value: npt.ArrayLike | None, shape: tuple[int, ...]) -> Array | None:
    """Return a scalar, or an array of exactly `shape`, as a contiguous float64 array of that shape."""
    if value is None:
        return None
    array = converted(name, value, np.float64)
    if array.ndim == 0:
        return np.full(shape, array)
    if array.shape != shape:
        raise ValueError(f"{name} must be a scalar or have shape {shape}, got {array.shape}")
    return array


def mask(name: str, value: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return a mask of exactly `shape` as booleans; it may hold booleans, or the numbers 0 and 1."""
    array = as_array(name, value)
    if array.dtype != np.bool_ and array.dtype.kind not in "iuf" and not is_bfloat16(array.dtype):
        raise TypeError(f"{name} must hold booleans, or 0 and 1; got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    array = cast(array, np.float32) if array.dtype == _kernels.BFLOAT16_BITS else array
    found: npt.NDArray[np.bool_] = array != 0
    if array.dtype != np.bool_ and not (array[found] == 1).all():
        raise ValueError(f"{name} must contain only 0 and 1")
    return found
