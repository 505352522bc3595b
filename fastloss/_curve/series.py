"""A series of losses as the detectors read it: spikes apart, in bins, with its noise at every scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fastloss._curve.spikes import Spikes, spikes_of

__all__ = ["TINY", "Series", "series"]

Floats = npt.NDArray[np.float64]

MOST_BINS = 256
# Noise of the correlation 0.8 from one measurement to the next scatters so much more in long means.
_MOST_EXCESS = 8.0
# The smallest noise: its square is still a number.
TINY = 1e-140


@dataclass(frozen=True)
class Series:
    """Finite measurements of one loss, and their means in at most `MOST_BINS` bins of equal counts.

    `values` has the spikes replaced by the level around them. `noise` is the standard deviation of each
    measurement, and `spread` its mean over each bin. `excess[k]` is how many times the standard deviation of
    the mean of ``2**k`` bins exceeds that of independent measurements.
    """

    steps: Floats
    values: Floats
    noise: Floats
    edges: npt.NDArray[np.int64]
    means: Floats
    spread: Floats
    excess: Floats
    spikes: Spikes

    @property
    def per_bin(self) -> float:
        """How many measurements a bin has, on average."""
        return len(self.values) / len(self.means)

    def errors(self, width: int) -> Floats:
        """Return the standard error of the mean of `width` bins, at each bin."""
        excess = self.excess[min(int(math.log2(width)), len(self.excess) - 1)]
        scale: float = excess / math.sqrt(width * self.per_bin)
        return self.spread * scale

    def smoothed(self, width: int) -> tuple[Floats, Floats]:
        """Return running means of `width` bins, and their steps."""
        kernel = np.ones(width) / width
        middle = self.steps[self.edges[:-1] + (np.diff(self.edges) - 1) // 2]
        return np.convolve(middle, kernel, "valid"), np.convolve(self.means, kernel, "valid")

    def start_of(self, bin_: int) -> float:
        """Return the first step of a bin."""
        return float(self.steps[self.edges[bin_]])


def series(steps: Floats, values: Floats) -> Series:
    """Return the series of finite values; there must be at least one."""
    noise = _noise(values)
    spikes = spikes_of(values, noise)
    clean = values if not spikes.count else spikes.replaced
    bins = min(len(values), MOST_BINS)
    edges = np.linspace(0, len(values), bins + 1).astype(np.int64)
    counts = np.diff(edges)
    means = np.add.reduceat(clean, edges[:-1]) / counts
    spread = np.add.reduceat(noise, edges[:-1]) / counts
    excess = _excess(means, spread, len(values) / bins)
    return Series(steps, clean, noise, edges, means, spread, excess, spikes)


def _second_differences(values: Floats) -> Floats:
    """Return differences that a straight line does not change, of the noise's own standard deviation."""
    return np.abs(values[2:] - 2.0 * values[1:-1] + values[:-2]) / math.sqrt(6.0)


def _noise(values: Floats) -> Floats:
    """Return the standard deviation of the noise at each measurement, as it changes along the curve.

    It is at least what rounding of the log makes, and a few units in the last place.
    """
    n = len(values)
    least = max(4.0 * np.finfo(np.float64).eps * float(np.abs(values).max()), TINY)
    if n < 4:
        return np.full(n, least)
    steps = np.abs(np.diff(values))
    if steps.any():
        least = max(least, float(steps[steps > 0].min()) / math.sqrt(12.0))
    differences = _second_differences(values)
    pieces = int(np.clip(n // 64, 1, 16))
    edges = np.linspace(0, len(differences), pieces + 1).astype(int)
    medians = [float(np.median(differences[a:b])) for a, b in pairwise(edges)]
    centres = 1.0 + (edges[:-1] + edges[1:] - 1) / 2.0
    found = np.interp(np.arange(n), centres, np.asarray(medians) / 0.6745)
    return np.maximum(found, least)


def _excess(means: Floats, spread: Floats, per_bin: float) -> Floats:
    """Return how much the means of 1, 2, 4 ... bins scatter beyond independent measurements.

    Third differences leave out what is smooth. Where noise is small against the curve even they show its
    bends, so there is a limit.
    """
    found = [1.0]
    width = 1
    while len(means) // width >= 16:
        whole = len(means) // width * width
        blocks = means[:whole].reshape(-1, width).mean(1)
        expected = spread[:whole].reshape(-1, width).mean(1) / math.sqrt(width * per_bin)
        scatter = np.abs(np.diff(blocks, 3)) / math.sqrt(20.0)
        ratio = float(np.median(scatter / (expected[1:-2] + expected[2:-1]))) * 2.0 / 0.6745
        found.append(min(max(found[-1], ratio), _MOST_EXCESS))
        width *= 2
    return np.asarray(found[1:] or found)
