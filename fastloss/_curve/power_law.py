"""The power law ``a + b (step + c)^-d`` through a curve, with what it says of the steps to come.

For given c and d the curve is linear in a and b. So the posterior of a and b is normal, and a grid over c
and d has all of it: no iteration, no local minimum, and intervals that include every curve that fits. Beside
the power laws stand exponentials ``a + b exp(-step / t)``, the limit of large c and d, for curves that end.
The grid is drawn again, finer, over the part that fits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

__all__ = ["Outlook", "outlook"]

Floats = npt.NDArray[np.float64]

# Ranges of the exponent d and of the time t, which is a share of all steps.
_EXPONENTS = (0.05, 4.0)
_TIMES = (0.004, 1.0)
_ACROSS = 20
# How often the grid is drawn: over the whole ranges, then along what fits, flatter each time.
_ROUNDS = 8
# A grid reaches so many standard deviations of a posterior that is this much wider than the true one.
_REACH, _WIDER = 3.0, 2.0
# The standard deviation of b before any measurement, in ranges of the curve.
_PRIOR = 3.0
_NODES = np.array([NormalDist().inv_cdf((i + 0.5) / 15) for i in range(15)])


@dataclass(frozen=True)
class Outlook:
    """What the fits say of the last step, and of as many steps again.

    `next` is the loss then and `gain` the fall until then: the median, and the 5 and 95 % quantiles. `chance`
    is that of a gain of more than was asked. `misfit` is the reduced chi-square.
    """

    level: float
    next: tuple[float, float, float]
    gain: tuple[float, float, float]
    chance: float
    exponent: float
    asymptote: float
    misfit: float


@dataclass(frozen=True)
class _Curves:
    """Curves of one family: their parameters, values of their shapes now and then, the fits of a and b."""

    logs: Floats  # (points, parameters): logarithms of d and c, or of t
    now: Floats
    then: Floats
    middle: Floats  # of the shapes, where the fit is at `centre` whatever b is
    b: Floats
    errors_b: Floats
    misfits: Floats
    costs: Floats


@dataclass(frozen=True)
class _Grid:
    """Points ``centre + axes @ u`` of logarithms, for u between -1 and 1, that lie within bounds."""

    centre: Floats
    axes: Floats
    low: Floats
    high: Floats

    @classmethod
    def over(cls, *ranges: tuple[float, float]) -> _Grid:
        low, high = np.log(np.array(ranges)).T
        return cls((low + high) / 2.0, np.diag((high - low) / 2.0), low, high)

    def points(self) -> Floats:
        lines = [np.linspace(-1.0, 1.0, _ACROSS)] * len(self.centre)
        units = np.stack([part.ravel() for part in np.meshgrid(*lines, indexing="ij")])
        points: Floats = self.centre + (self.axes @ units).T
        return points

    def share(self) -> float:
        """Return the volume of a point, as a share of the volume within the bounds."""
        whole = float(np.prod((self.high - self.low) / 2.0))
        volume = abs(float(np.linalg.det(self.axes)))
        return volume / whole / float(_ACROSS ** len(self.centre))

    def along(self, curves: _Curves, inflation: float) -> _Grid:
        """Return the grid along the axes of the posterior."""
        weights = np.exp(-0.5 / (_WIDER * inflation) * (curves.costs - curves.costs.min()))
        weights /= weights.sum()
        mean = weights @ curves.logs
        apart = curves.logs - mean
        # No narrower than half a step of this grid, which may have seen a single point.
        least = self.axes @ self.axes.T / (_ACROSS - 1) ** 2
        variances, directions = np.linalg.eigh((apart.T * weights) @ apart + least)
        return _Grid(mean, directions * (_REACH * np.sqrt(variances)), self.low, self.high)


def outlook(steps: Floats, values: Floats, errors: Floats, last: float, least: float) -> Outlook:
    """Return what as many steps again would bring, and the `chance` that it is more than `least`.

    `steps` grow up to `last`; `errors` are the standard errors of the values.
    """
    x = steps / last
    gap = max(float(x[1] - x[0]), 1e-6)
    grids = [_Grid.over(_EXPONENTS, (min(0.3 * gap, 0.5), 2.0)), _Grid.over(_TIMES)]
    data = _Data(x, values, 1.0 / errors**2, max(float(np.ptp(values)), float(errors.max())))
    for left in reversed(range(_ROUNDS)):
        families = [_fitted(data, grid) for grid in grids]
        misfit = min(float(f.misfits.min()) for f in families) / max(len(values) - 4, 1)
        inflation = max(misfit, 1.0)
        if left:
            grids = [grid.along(f, inflation) for grid, f in zip(grids, families, strict=True)]
    lowest = min(float(f.costs.min()) for f in families)
    shares = [
        np.exp(-0.5 * (f.costs - lowest) / inflation) * grid.share()
        for f, grid in zip(families, grids, strict=True)
    ]
    return _summary(data, families, shares, least, misfit)


def _summary(
    data: _Data, families: list[_Curves], shares: list[Floats], least: float, misfit: float
) -> Outlook:
    share = np.concatenate(shares)
    share /= share.sum()
    now, then, middle, b, errors_b = (
        np.concatenate([getattr(f, name) for f in families])
        for name in ("now", "then", "middle", "b", "errors_b")
    )
    scale = math.sqrt(max(misfit, 1.0))
    errors = np.sqrt(1.0 / data.total + (errors_b * (then - middle)) ** 2)
    gains = _spread(b * (now - then), scale * errors_b * (now - then))
    law = int(shares[0].argmax())
    laws = families[0]
    return Outlook(
        level=float(share @ (data.centre + b * (now - middle))),
        next=_quantiles(_spread(data.centre + b * (then - middle), scale * errors), share),
        gain=_quantiles(gains, share),
        # The shares add up to 1, but for rounding.
        chance=min(float(share @ (gains > least).mean(axis=1)), 1.0),
        exponent=float(np.exp(laws.logs[law, 0])),
        asymptote=float(data.centre - laws.b[law] * laws.middle[law]),
        misfit=misfit,
    )


def _spread(means: Floats, errors: Floats) -> Floats:
    """Return equally likely values of each normal distribution."""
    values: Floats = means[:, None] + np.abs(errors)[:, None] * _NODES
    return values


def _quantiles(values: Floats, share: Floats) -> tuple[float, float, float]:
    """Return median, 5 and 95 % quantile of rows of values, of which each row has a share."""
    order = np.argsort(values, axis=None)
    cumulative = np.cumsum(np.repeat(share / values.shape[1], values.shape[1])[order])
    places = np.minimum(np.searchsorted(cumulative, (0.5, 0.05, 0.95)), len(order) - 1)
    middle, low, high = values.ravel()[order[places]].tolist()
    return middle, low, high


@dataclass(frozen=True)
class _Data:
    x: Floats
    values: Floats
    weights: Floats
    range_: float

    @property
    def total(self) -> float:
        return float(self.weights.sum())

    @property
    def centre(self) -> float:
        return float(self.weights @ self.values) / self.total


def _fitted(data: _Data, grid: _Grid) -> _Curves:
    """Return the curves of a grid: power laws if it has two parameters, exponentials if one."""
    logs = grid.points()
    at = np.concatenate([data.x, [1.0, 2.0]])
    parameters = np.exp(np.clip(logs, grid.low, grid.high))
    if logs.shape[1] == 2:
        shape = -parameters[:, :1] * np.log1p((at - at[0]) / parameters[:, 1:])
    else:
        shape = -(at - at[0]) / parameters
    curves = np.exp(shape)
    found = _Curves(logs, curves[:, -2], curves[:, -1], *_solved(data, curves[:, :-2]))
    found.costs[((logs < grid.low) | (logs > grid.high)).any(axis=1)] = np.inf
    return found


def _solved(data: _Data, curves: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return each curve's mean, the best b, its error, chi-square, and minus twice the log-likelihood."""
    y = data.values - data.centre
    means = curves @ data.weights / data.total
    centred = curves - means[:, None]
    spread = centred**2 @ data.weights
    products = centred @ (data.weights * y)
    prior = 1.0 / (_PRIOR * data.range_) ** 2
    b = products / (spread + prior)
    misfits = float(data.weights @ y**2) - 2.0 * b * products + b**2 * spread
    costs = misfits + b**2 * prior + np.log(spread + prior)
    return means, b, 1.0 / np.sqrt(spread + prior), misfits, costs
