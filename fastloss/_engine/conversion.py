"""Conversions of arguments to arrays, and of arrays to other types.

The adapters pass bfloat16 as its bits, in a type that NumPy can store but not compute with. NumPy's own
conversions read this type as zeros, so only this module converts callers' arrays.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine.types import Array

__all__ = ["as_array", "cast", "is_bfloat16", "stored", "widened"]


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Return whether this is bfloat16: its bits, or the type of ml_dtypes, which is then registered."""
    if dtype.itemsize != 2:
        return False
    if dtype == _kernels.BFLOAT16_BITS:
        return True
    if dtype.name != "bfloat16":
        return False
    _kernels.register_bfloat16(dtype)
    return True


def _name_of_type(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _way_for(value: Any) -> str:
    """Return a hint for errors on how to pass an object of another library."""
    library = type(value).__module__.partition(".")[0]
    if library == "torch":
        return "; use fastloss.torch, or pass tensor.detach().numpy()"
    if library in ("jax", "jaxlib"):
        return "; call it outside of jax.jit and jax.grad, on arrays with values"
    if library == "scipy":
        return "; pass matrix.toarray()"
    return ""


def _has_masked(value: Any) -> bool:
    """Return whether a masked array, or one in a list, has masked elements."""
    if isinstance(value, np.ma.MaskedArray):
        return bool(np.ma.is_masked(value))
    return isinstance(value, (list, tuple)) and any(map(_has_masked, value))


def as_array(name: str, value: npt.ArrayLike) -> Array:
    """Return `value` as an array of numbers or booleans, without changing its type."""
    if type(value) is np.ndarray and value.dtype.kind != "O":
        return value
    if type(value) is float:
        return np.array(value)
    if _has_masked(value):
        raise TypeError(
            f"{name} must not have masked elements: pass the data, and the mask as a weight of 0, "
            "an ignored target or the `mask` of the function"
        )
    try:
        array = np.asarray(value)
    except MemoryError:
        raise
    except ValueError as error:
        raise ValueError(f"{name} must be an array, or nested lists of equal lengths: {error}") from error
    except Exception as error:  # types of other libraries may raise any error
        raise _no_array(name, value) from error
    if array.dtype.kind == "O":
        raise _no_array(name, value)
    return array


def _no_array(name: str, value: Any) -> TypeError:
    """Return the error for a value whose elements are not numbers."""
    what = "an array of objects" if isinstance(value, np.ndarray) else _name_of_type(value)
    if isinstance(value, (list, tuple)):
        what += " with elements that are no numbers"
    return TypeError(f"{name} must be an array of numbers, got {what}{_way_for(value)}")


def widened(array: Array, compute: npt.DTypeLike) -> Array:
    """Return a contiguous array in the type of the computation; a copy only if needed."""
    return cast(array, compute, contiguous=True)


def stored(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return computed values, rounded to bfloat16 if that is `dtype`."""
    if dtype != _kernels.BFLOAT16_BITS or values.dtype == dtype:
        return values
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16
    rounded[np.isnan(values)] = 0x7FC0
    return rounded.astype(np.uint16).view(dtype).reshape(values.shape)


def cast(array: Array, dtype: npt.DTypeLike, *, contiguous: bool = False) -> Array:
    """Return an array converted to `dtype`, rounded to nearest; the array itself if the kernels can read it.

    A value beyond the range of the type becomes infinite, without a warning.
    """
    wanted = np.dtype(dtype)
    flags = array.flags
    if array.dtype == wanted and flags.aligned and (flags.c_contiguous or not contiguous):
        return array
    order: Literal["C", "K"] = "C" if contiguous else "K"
    if array.dtype != wanted and _kernels.BFLOAT16_BITS in (array.dtype, wanted):
        return _of_bits(array, wanted).astype(wanted, order=order, copy=False)
    if wanted.itemsize >= array.dtype.itemsize:  # no warning is possible
        return array.astype(wanted, order=order)
    with np.errstate(all="ignore"):
        return array.astype(wanted, order=order)


def _of_bits(array: Array, wanted: np.dtype[Any]) -> Array:
    """Convert the bits of bfloat16 to numbers, or numbers to these bits."""
    with np.errstate(all="ignore"):
        if wanted == _kernels.BFLOAT16_BITS:
            return stored(array, wanted)
        wide = (array["bfloat16"].astype(np.uint32) << 16).view(np.float32)
        return wide.astype(wanted, copy=False)
