"""Arrays of steps and losses, and which of their elements are measurements."""

from __future__ import annotations

import math
from array import array
from typing import Any

import numpy as np
import numpy.typing as npt

from fastloss._engine import arguments

__all__ = ["measurements"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Column = tuple[Floats, Bools]  # losses, and where one is given
Measurements = tuple["array[float]", "array[float]"]

# Measurements that come every k rows, but for a few such as the last: this share of the gaps is k.
_REGULAR = 0.75


def measurements(steps: Any, train: Any, validation: Any) -> tuple[Measurements, Measurements, float]:
    """Return steps and losses of the measurements of both curves, and the last step."""
    if train is None and validation is None:
        raise ValueError("train or validation must be given, got neither")
    at = _steps(steps)
    losses = _losses("train", train, len(at))
    others = _losses("validation", validation, len(at))
    others = (others[0], others[1] & ~_not_due(losses, others))
    ours, theirs = ((_packed(at[given]), _packed(values[given])) for values, given in (losses, others))
    return ours, theirs, float(at[-1]) if len(at) else -math.inf


def _packed(values: Floats) -> array[float]:
    return array("d", values.tobytes())


def _column(name: str, value: Any) -> Column:
    """Return one-dimensional float64, and where an element is neither None nor masked."""
    given = None
    if isinstance(value, np.ma.MaskedArray):
        given, value = ~np.ma.getmaskarray(value), np.ma.getdata(value)
    elif not isinstance(value, np.ndarray):
        value = list(value) if hasattr(value, "__iter__") and not hasattr(value, "__array__") else value
        if isinstance(value, list) and any(one is None for one in value):
            given = np.array([one is not None for one in value])
            value = [math.nan if one is None else one for one in value]
    elif value.dtype == object:
        return _column(name, value.tolist())
    kinds = (
        set(map(type, value)) if isinstance(value, list) else {getattr(value, "dtype", np.dtype(float)).type}
    )
    if not kinds.isdisjoint((bool, np.bool_)):
        raise TypeError(f"{name} must hold numbers, got booleans")
    array = arguments.converted(name, value, np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {array.shape}")
    return array, np.ones(len(array), dtype=bool) if given is None else given


def _losses(name: str, value: Any, count: int) -> Column:
    if value is None:
        return np.full(count, math.nan), np.zeros(count, dtype=bool)
    losses = _column(name, value)
    if len(losses[0]) != count:
        raise ValueError(f"{name} must have a loss for each of the {count} steps, got {len(losses[0])}")
    return losses


def _steps(value: Any) -> Floats:
    steps, given = _column("steps", value)
    bad = np.flatnonzero(~given | ~np.isfinite(steps))
    if len(bad):
        raise ValueError(f"steps must be finite numbers, got {steps[bad[0]]} at position {bad[0]}")
    falls = np.flatnonzero(np.diff(steps) < 0)
    if len(falls):
        position = int(falls[0]) + 1
        raise ValueError(
            f"steps must not decrease, got {steps[position]:g} after {steps[position - 1]:g} at position "
            f"{position} (a resumed run? keep the last loss of every step)"
        )
    return steps


def _not_due(train: Column, validation: Column) -> Bools:
    """Return where NaN in `validation` says that nothing was measured: where no measurement was due.

    Measurements come every k rows after the first; irregular ones no later than the longest gap. Where there
    is no training loss, the row is there for the validation loss.
    """
    losses, given = validation
    nan = given & np.isnan(losses) & train[1]
    measured = np.flatnonzero(given & ~np.isnan(losses))
    if not nan.any() or not len(measured):
        return np.zeros_like(nan)
    gaps = np.diff(measured) if len(measured) > 1 else np.array([max(int(measured[0]), 1)])
    usual = int(np.median(gaps))
    if np.mean(gaps == usual) < _REGULAR:
        usual = int(gaps.max())
    rows = np.arange(len(nan))
    before = np.searchsorted(measured, rows, side="right") - 1
    since = rows - measured[np.maximum(before, 0)]
    due: Bools = (before >= 0) & (since % usual == 0)
    return nan & ~due
