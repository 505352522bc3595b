"""Curves that rise: divergence of the training loss, overfitting of the validation loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastloss._curve.series import TINY, Series, series

__all__ = ["Rise", "departure", "rise", "risen"]

Floats = npt.NDArray[np.float64]

# The slope of the last part of a curve is a rise from so many standard errors on: less than one curve in a
# hundred that is level reaches that by chance in one of the parts, and curves that fall hardly ever do.
_SCORE = 3.5
# Few measurements estimate their noise badly.
_FEW = 4.0
# A run that has risen and returned may do it again: the last rise has to be larger than the earlier ones.
_EARLIER = 1.5
# Each part looked at is so much shorter than the one before, down to a share of the curve.
_SHORTER, _SHORTEST = 0.8, 1 / 24
# A curve has left its lowest level when its means stay so many standard errors above the lowest one.
_LEFT = 4.0
# A shorter curve has no noise of its own.
_FEWEST = 12
# The bends of a curve of so few measurements count as noise of it all: the last part has noise of its own, if
# it is no shorter than the second number.
_BENT, _LAST = 48, 5
# The rounding of a log, relative to the loss.
_LEAST = 1e-5


@dataclass(frozen=True)
class Rise:
    """A rise from the lowest level to the last, its size, and the standard errors of its slope."""

    lowest_bin: int
    lowest: float
    level: float
    size: float
    score: float


def rise(curve: Series, least: float) -> Rise | None:
    """Return the rise at the end of a curve that is beyond noise and larger than `least`, or None."""
    bins = len(curve.means)
    shortest = max(round(bins * _SHORTEST), 4)
    best = None
    length = bins
    while length >= shortest:
        score = _score(curve, length)
        if score > max(_SCORE, best.score if best else 0.0):
            found = _rise(curve, max(length // 5, 1), score)
            if found.size > least:
                best = found
        length = min(int(length * _SHORTER), length - 1)
    return best


def _score(curve: Series, length: int) -> float:
    """Return the slope of the last `length` bins in standard errors, or fewer as noise may be larger."""
    x: Floats = np.arange(length, dtype=np.float64) - (length - 1) / 2.0
    width = max(length // 4, 1)
    errors = curve.errors(width)[-length:] * math.sqrt(width)
    score = float(x @ curve.means[-length:] / math.sqrt(float(x**2 @ errors**2)))
    score /= 1.0 + _FEW / len(curve.means)
    return max(score, _own_score(x, curve)) if length >= _LAST and len(curve.values) <= _BENT else score


def _own_score(x: Floats, curve: Series) -> float:
    """Return the slope of the last bins in standard errors of the scatter about their own line.

    Student's t as the normal deviate of the same probability, by Wallace's approximation.
    """
    part, freedom = curve.means[-len(x) :], len(x) - 2
    slope = float(x @ part) / float(x @ x)
    rest = part - part.mean() - slope * x
    least = max(_LEAST * float(np.abs(part).max()), TINY)
    scatter = max(float(rest @ rest) / freedom, least**2)
    t = slope / math.sqrt(scatter / float(x @ x))
    size = math.sqrt(freedom * math.log1p(t * t / freedom)) * (8 * freedom + 1) / (8 * freedom + 3)
    return math.copysign(size, t)


def _rise(curve: Series, width: int, score: float) -> Rise:
    """Return the rise of means of `width` bins, less what the curve has risen, and come back, before."""
    _, running = curve.smoothed(width)
    at = int(running.argmin())
    size = float(running[-1] - running[at])
    if size <= _EARLIER * _earlier(running, at):
        size = 0.0
    return Rise(at + width // 2, float(running[at]), float(running[-1]), size, score)


def _earlier(running: Floats, at: int) -> float:
    """Return the largest rise, after the first tenth, from which the curve came back before `at`."""
    part = running[len(running) // 10 : at + 1]
    if len(part) < 3:
        return 0.0
    return float((part - np.minimum.accumulate(part)).max())


def risen(curve: Series, start: float) -> float:
    """Return by how much a curve has risen from a step to its end; negative if it has fallen."""
    bins = len(curve.means)
    width = max(bins // 16, 1)
    at = int(np.searchsorted(curve.steps[curve.edges[:-1]], start, side="right")) - 1
    at = min(max(at - width // 2, 0), bins - width)
    return float(curve.means[-width:].mean() - curve.means[at : at + width].mean())


def departure(curve: Series) -> float:
    """Return the step at which a curve that rises leaves its lowest level.

    The noise of a curve that explodes is not that of its lowest level. So the part before that step is looked
    at again by itself, until it stays.
    """
    start = len(curve.values)
    left = _left(curve)
    while left < start and left >= _FEWEST:
        start = left
        left = _left(series(curve.steps[:start], curve.values[:start]))
    return float(curve.steps[min(start, left, len(curve.steps) - 1)])


def _left(curve: Series) -> int:
    """Return the first measurement after the last that is at the lowest level, by means of any width."""
    first = len(curve.means)
    width = 1
    while width <= max(len(curve.means) // 4, 1):
        _, running = curve.smoothed(width)
        at = int(running.argmin())
        threshold = running[at] + _LEFT * curve.errors(width)[at + width // 2]
        first = min(first, int(np.flatnonzero(running <= threshold)[-1]) + width)
        width *= 2
    return int(curve.edges[first])
