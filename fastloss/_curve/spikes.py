"""Isolated jumps of a loss that return: looked for among single measurements, and among means of several."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

__all__ = ["Spikes", "spikes_of"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# Blocks on either side whose median is the level that a spike rises from and returns to.
_AROUND = 9
# The chance that one curve without a spike is said to have one.
_CHANCE = 5e-4
# A spike is no less than this share of the whole range of the curve.
_LEAST = 0.05
# The first share of a run is warm-up: losses may rise there and return.
_WARM_UP = 0.02
# Few measurements estimate their noise badly.
_FEW = 4.0
# Noise that reaches as far down is noise: a spike is so much higher than a curve is deep, but for one place.
_HIGHER = 1.3
# A shorter curve has no level around a spike.
_FEWEST = 16
# Quantiles of the heights that say how far they reach without a spike, and their ratio where noise is normal.
# So many measurements are as good as that knowledge.
_INNER, _OUTER, _NORMAL_RATIO, _PRIOR = 0.75, 0.92, 2.083, 60.0
# A score is high from so many of the distances between median and `_INNER` on: two standard deviations.
_HIGH = 3.0
_SAMPLE = 8192
# Two spikes are one if the loss between them stays above this share of the lower one.
_VALLEY = 0.3


@dataclass(frozen=True)
class Spikes:
    """First measurements of the spikes, heights, standard errors of these, and the curve without them."""

    first: list[int]
    last: list[int]
    heights: list[float]
    scores: list[float]
    points: int
    replaced: Floats

    @property
    def count(self) -> int:
        return len(self.first)


def spikes_of(values: Floats, noise: Floats) -> Spikes:
    """Return the spikes of a curve of finite values, of which `noise` is the standard deviation."""
    clean = values.copy()
    mask = np.zeros(len(values), dtype=bool)
    score = np.zeros(len(values))
    scale = 1
    while len(values) // scale >= (_FEWEST if scale == 1 else 64):
        _look(clean, noise, scale, mask, score)
        scale *= 4
    found = _grouped(values, clean, mask, score)
    return Spikes(*found, int(mask.sum()), clean)


def _look(clean: Floats, noise: Floats, scale: int, mask: npt.NDArray[np.bool_], score: Floats) -> None:
    """Mark the spikes among the means of `scale` measurements, and level them in `clean`."""
    whole = len(clean) // scale * scale
    blocks = clean[:whole].reshape(-1, scale).mean(1)
    errors = noise[:whole].reshape(-1, scale).mean(1) / math.sqrt(scale)
    heights, depths = _heights_and_depths(blocks)
    range_ = float(np.quantile(_sample(blocks), 0.98) - blocks.min())
    scores = heights / errors
    deep = float(np.partition(depths / errors, -2)[-2])
    found = (scores > max(_limit(scores), _HIGHER * deep)) & (heights > _LEAST * range_)
    found[: math.ceil(_WARM_UP * len(blocks))] = False
    marked = np.flatnonzero(np.repeat(found, scale))
    if len(marked):
        mask[marked] = True
        score[marked] = np.maximum(score[marked], np.repeat(scores, scale)[marked])
        clean[mask] = np.interp(np.flatnonzero(mask), np.flatnonzero(~mask), clean[~mask])


def _heights_and_depths(blocks: Floats) -> tuple[Floats, Floats]:
    """Return how far each block is above the levels before and after it, and how far below both."""
    padded = np.pad(blocks, _AROUND, "edge")
    # The median of the medians of three times three: nearly as good as that of nine, and ten times as fast.
    threes = _median(padded[:-2], padded[1:-1], padded[2:])
    levels = _median(threes[:-6], threes[3:-3], threes[6:])
    before, after = levels[: len(blocks)], levels[_AROUND + 1 :]
    return blocks - np.maximum(before, after), np.minimum(before, after) - blocks


def _median(a: Floats, b: Floats, c: Floats) -> Floats:
    middle: Floats = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
    return middle


def _limit(scores: Floats) -> float:
    """Return the height that noise alone exceeds in one curve of two thousand.

    It is that of a normal distribution with the scores' own width, farther out where their quantiles show a
    heavier tail: one that falls as ``exp(-x**b)`` with b from the two quantiles.
    """
    scores = _one_of_each_run(scores)
    n = len(scores)
    centre, inner, outer = np.quantile(_sample(scores), (0.5, _INNER, _OUTER))
    width = float(inner - centre)
    if width <= 0.0:
        return 0.0
    seen = math.log(max(float(outer - centre) / width, 1.01))
    ratio = (n * seen + _PRIOR * math.log(_NORMAL_RATIO)) / (n + _PRIOR)
    depths = [-math.log(2.0 * tail) for tail in (1.0 - _INNER, 1.0 - _OUTER, _CHANCE / n)]
    heavier = max(ratio - math.log(_NORMAL_RATIO), 0.0) / math.log(depths[1] / depths[0])
    normal = NormalDist()
    reach = normal.inv_cdf(1.0 - _CHANCE / n) / normal.inv_cdf(_INNER) * (1.0 + _FEW / n)
    limit: float = float(centre) + width * reach * (depths[2] / depths[0]) ** heavier
    return limit


def _sample(values: Floats) -> Floats:
    """Return as many values as quantiles need; of a hundred thousand they take the most of the time."""
    return values[:: max(len(values) // _SAMPLE, 1)]


def _one_of_each_run(scores: Floats) -> Floats:
    """Return the scores, of high neighbours only the highest: a long spike is one event, not many."""
    centre, inner = np.quantile(_sample(scores), (0.5, _INNER))
    high = np.flatnonzero(scores > centre + _HIGH * (inner - centre))
    padded = np.pad(scores, 1, constant_values=-np.inf)
    lower = high[scores[high] < np.maximum(padded[high], padded[high + 2])]
    kept: Floats = np.delete(scores, lower)
    return kept


def _grouped(
    values: Floats, clean: Floats, mask: npt.NDArray[np.bool_], score: Floats
) -> tuple[list[int], list[int], list[float], list[float]]:
    """Return first and last measurement, height and score of every spike."""
    at = np.flatnonzero(mask)
    if not len(at):
        return [], [], [], []
    first, *others = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
    parts = [first]
    for part in others:
        if _is_one(values, parts[-1], part):
            parts[-1] = np.concatenate([parts[-1], part])
        else:
            parts.append(part)
    rise = values - clean
    return (
        [int(part[0]) for part in parts],
        [int(part[-1]) for part in parts],
        [float(rise[part].max()) for part in parts],
        [float(score[part].max()) for part in parts],
    )


def _is_one(values: Floats, first: Indices, second: Indices) -> bool:
    """Return whether the loss does not return to its level between two parts that are near each other."""
    begin, end, after = int(first[-1]) + 1, int(second[0]), int(second[-1]) + 1
    if end - begin > max(_AROUND, begin - int(first[0])):
        return False
    level = float(np.median(values[after : after + _AROUND])) if after < len(values) else float(values.min())
    lower = min(float(values[first].max()), float(values[second].max()))
    return float(np.median(values[begin:end])) - level > _VALLEY * (lower - level)
