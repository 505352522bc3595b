"""The incoming gradients of earlier calls, which a forward pass assumes for its own.

A reduced loss computes its gradient in the forward pass, before the incoming gradient is known. Programs that
accumulate gradients send the same one again and again, 1/8 for ``(loss / 8).backward()``. The kernel
multiplies it in at no cost, where a pass over the finished gradient takes half as long as the kernel.

An assumption must not change a bit of a result. A power of two multiplies exactly, before or after the kernel
rounds, unless an element becomes subnormal. So every loss may assume one. Another factor is assumed only by a
loss whose inputs the graph keeps: if it was wrong, backward runs the kernel again. That takes longer than a
multiplication, so a factor that keeps changing multiplies the finished gradient, whose last bit may differ.
"""

from __future__ import annotations

import math
import sys
from typing import Any, NamedTuple

import torch

__all__ = ["Key", "assumed", "is_exact", "keeps_changing", "kind", "remember"]

Key = tuple[Any, ...]
# Factors outside this range might lose digits of the gradient to underflow or overflow.
_LEAST, _MOST = 2.0**-24, 2.0**24
# The number of kinds of calls that are remembered.
_MOST_KEYS = 256
# A factor that has changed this often, each time from the call before, is not assumed: it may change back,
# where several losses share a kind. After more changes the kernel does not run again.
_DOUBTFUL, _CHANGING = 2, 4
# The modules between a loss and the program that calls it.
_BETWEEN = ("fastloss.torch.", "torch.")


class _Last(NamedTuple):
    """The last incoming gradient of a kind of call."""

    factor: float
    changes: int  # the times in succession that it differed from the one before


# Threads use this without a lock, as a lost entry costs only time.
_last: dict[Key, _Last] = {}


def kind(loss: str, reduction: str, dtype: torch.dtype) -> Key:
    """Return what calls have in common that receive the same incoming gradient.

    The place in the program where the loss is called belongs to it: several losses may have several weights.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(_BETWEEN):
        frame = frame.f_back
    return loss, reduction, dtype, id(frame.f_code), frame.f_lasti


def is_exact(factor: float, assumed: float) -> bool:
    """Return whether a gradient times `assumed`, multiplied, is exactly the gradient times `factor`."""
    return factor == 0.0 or abs(math.frexp(factor)[0]) == abs(math.frexp(assumed)[0])


def assumed(key: Key, *, of_any: bool) -> float:
    """Return the incoming gradient that a call assumes, the last one or 1: a power of two unless `of_any`."""
    last = _last.get(key)
    if last is None or last.changes >= _DOUBTFUL or not _LEAST <= abs(last.factor) <= _MOST:
        return 1.0
    return last.factor if of_any or is_exact(last.factor, 1.0) else 1.0


def keeps_changing(key: Key) -> bool:
    """Return whether the incoming gradient differs from call to call."""
    last = _last.get(key)
    return last is not None and last.changes >= _CHANGING


def remember(key: Key, factor: float) -> None:
    """Remember the incoming gradient of a call."""
    last = _last.get(key)
    if last is None and factor == 1.0:
        return  # the usual case
    found = _Last(factor, 0 if last is None or factor == last.factor else last.changes + 1)
    if found != last:
        if len(_last) >= _MOST_KEYS:
            _last.clear()
        _last[key] = found
