"""The step of the lowest loss, of a curve that falls and rises again.

The curve is smoothed by a penalty on its third differences. How much is what makes the measurements most
likely (restricted maximum likelihood), and what remains open is drawn from the posterior: the step is the
median of the lowest steps of such curves. A single smoothed curve follows its noise where it is flat.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastloss._curve.series import Series

__all__ = ["lowest_step"]

Floats = npt.NDArray[np.float64]

# More bins do not make the step more exact than the noise lets it be.
_BINS = 128
_ORDER = 3
_PENALTIES = 10.0 ** np.arange(-2.0, 12.0, 0.5)
_SAMPLES = 64


def lowest_step(curve: Series) -> float:
    """Return the measured step at which the curve is lowest."""
    width = -(-len(curve.means) // _BINS)
    whole = len(curve.means) // width * width
    means = curve.means[len(curve.means) - whole :].reshape(-1, width).mean(1)
    start = _after_the_fall(means)
    part = means[start:]
    is_short = len(part) <= 2 * _ORDER
    lowest = int(part.argmin() if is_short else np.median(_smooth(part).argmin(axis=0)))
    steps, _ = curve.smoothed(1)
    return float(steps[len(steps) - whole + (start + lowest) * width + (width - 1) // 2])


def _after_the_fall(means: Floats) -> int:
    """Return where the curve first is as low as at its end: its steep beginning would be smoothed less."""
    width = max(len(means) // 8, 3) | 1
    running = np.convolve(np.pad(means, width // 2, "edge"), np.ones(width) / width, "valid")
    above = np.flatnonzero(running[: int(running.argmin()) + 1] >= running[-1])
    start = int(above[-1]) + 1 if len(above) else 0
    return max(min(start, len(means) - 8), 0)


def _smooth(values: Floats) -> Floats:
    """Return curves of the posterior, one in each column."""
    n = len(values)
    differences = np.diff(np.eye(n), _ORDER, axis=0)
    roughness, basis = np.linalg.eigh(differences.T @ differences)
    roughness[:_ORDER] = 0.0
    parts = basis.T @ values
    kept = 1.0 / (1.0 + _PENALTIES[:, None] * np.maximum(roughness, 0.0))
    removed = np.maximum(1.0 - kept[:, _ORDER:], 1e-300)
    variances = (removed @ parts[_ORDER:] ** 2) / (n - _ORDER)
    unlikely = (n - _ORDER) * np.log(np.maximum(variances, 1e-300)) - np.log(removed).sum(axis=1)
    best = int(unlikely.argmin())
    draws = np.random.default_rng(0).normal(size=(n, _SAMPLES))
    scales = np.sqrt(kept[best] * variances[best])
    curves: Floats = basis @ ((kept[best] * parts)[:, None] + scales[:, None] * draws)
    return curves
