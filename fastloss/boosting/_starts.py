r"""The constant score of least loss, where boosting starts, and the link.

For labels `y` with weights `w`, the score `s` that minimises the sum of :math:`w_i L(s, y_i)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastloss._engine.types import Array
from fastloss.boosting import _derivatives
from fastloss.boosting._derivatives import (
    Given,
    Pair,
    class_indices,
    no_class,
    require_classes,
    require_labels,
)
from fastloss.classification import softmax
from fastloss.survival import aft_loss

# LightGBM's share of a class without labels: a probability other than 0.
LEAST_SHARE = 1e-15
LARGEST_LOGIT = math.log1p(-LEAST_SHARE) - math.log(LEAST_SHARE)
# Largest and smallest logarithm of a dispersion, and of the degrees of freedom.
DISPERSIONS, FREEDOMS = (-14.0, 7.0), (-2.0, 7.0)
# Four for each bit of float64, and some more.
STEPS = 300
# Halvings of an interval down to the digits of float64.
BISECTIONS = 60


class Sample(NamedTuple):
    """Labels and weights, float64 of shape (n,), the options of the loss, and the library."""

    labels: Array
    weight: Array
    options: dict[str, Any]
    library: str


# --- the constants of least loss ---


def mean(sample: Sample) -> float:
    return float(np.average(sample.labels, weights=sample.weight))


def quantile(sample: Sample) -> float | Array:
    level = sample.options["quantile"]
    if isinstance(level, tuple):
        return np.array([_quantile(sample, one) for one in level])
    return _quantile(sample, level)


def median(sample: Sample) -> float:
    return _quantile(sample, 0.5)


def _quantile(sample: Sample, level: float) -> float:
    """Return the smallest label such that labels up to it have at least a share `level` of all weights."""
    order = np.argsort(sample.labels, kind="stable")
    weights = np.cumsum(sample.weight[order])
    return float(sample.labels[order[np.searchsorted(weights, level * weights[-1])]])


def _variance(sample: Sample) -> float:
    """Return the variance, held to a share of the squared mean, as its logarithm is a score."""
    centre = mean(sample)
    variance = float(np.average((sample.labels - centre) ** 2, weights=sample.weight))
    return max(variance, LEAST_SHARE * max(centre * centre, 1.0))


def gaussian(sample: Sample) -> Array:
    """Return the mean and the logarithm of the variance."""
    return np.array([mean(sample), math.log(_variance(sample))])


def _scored(
    sample: Sample, derivatives: Callable[[Given], Pair], scores: list[float], held: tuple[float, float]
) -> Array:
    """Return the minimum by Fisher's scoring, near one, with the last score held between two numbers."""
    point = np.array(scores)
    for _ in range(STEPS):
        rows = np.broadcast_to(point, (len(sample.labels), len(point)))
        given = Given(rows, sample.labels, None, sample.options, sample.library)
        slope, bend = (sample.weight @ one.astype(np.float64) for one in derivatives(given))
        step = np.clip(slope / bend, -1.0, 1.0)
        before = point
        point = point - step
        point[-1] = min(max(point[-1], held[0]), held[1])
        if np.abs(point - before).max() < 1e-7:
            break
    return point


def negative_binomial(sample: Sample) -> Array:
    """Return the logarithms of the mean and of the dispersion, from the dispersion of the moments on."""
    log_mean_ = log_mean(sample)
    centre = math.exp(log_mean_)
    excess = (_variance(sample) - centre) / centre**2
    start = [log_mean_, min(max(math.log(max(excess, 1e-3)), DISPERSIONS[0]), DISPERSIONS[1])]
    return _scored(sample, _derivatives.negative_binomial, start, DISPERSIONS)


def student_t(sample: Sample) -> Array:
    """Return the location and the logarithms of scale and degrees of freedom, from the quartiles on."""
    low, middle, high = (_quantile(sample, level) for level in (0.25, 0.5, 0.75))
    width = 0.7 * (high - low) or math.sqrt(_variance(sample))
    return _scored(sample, _derivatives.student_t, [middle, math.log(width), math.log(5.0)], FREEDOMS)


def huber(sample: Sample) -> float:
    delta = sample.options["delta"]

    def derivatives(score: float) -> tuple[float, float]:
        error = score - sample.labels
        slope = sample.weight * np.clip(error, -delta, delta)
        return _sum(slope), _sum(sample.weight[np.abs(error) < delta])

    return _between_labels(sample, derivatives)


def log_cosh(sample: Sample) -> float:
    def derivatives(score: float) -> tuple[float, float]:
        slope = np.tanh(score - sample.labels)
        return _sum(sample.weight * slope), _sum(sample.weight * (1.0 - slope * slope))

    return _between_labels(sample, derivatives)


def log_mean(sample: Sample) -> float:
    require_labels(~(sample.labels < 0.0), sample.labels, "at least 0")
    # If all labels are 0, the minimum is at minus infinity.
    return math.log(mean(sample) or LEAST_SHARE)


def logit(sample: Sample) -> float:
    """Return the logit of the share of class 1, which counts `pos_weight` times."""
    is_share = (sample.labels >= 0.0) & (sample.labels <= 1.0)
    if sample.library == "lightgbm":
        require_classes(sample.labels)
    require_labels(is_share, sample.labels, "between 0 and 1")
    positive = _sum(sample.weight * sample.labels) * sample.options["pos_weight"]
    negative = _sum(sample.weight * (1.0 - sample.labels))
    return _within(_log(positive) - _log(negative))


def focal(sample: Sample) -> float:
    """Return the score at which the slopes of the two classes, weighted by their shares, cancel.

    With :math:`q = 1 - p` the slope for class 1 is :math:`-a q^\\gamma (q - \\gamma p \\log p)`, for class 0
    the same of the negative score. The logarithm of their ratio falls from infinity to minus infinity.
    """
    require_classes(sample.labels)
    alpha, gamma = sample.options["alpha"], sample.options["gamma"]
    is_weighted = alpha is not None and alpha >= 0.0
    share, other_share = (alpha, 1.0 - alpha) if is_weighted else (1.0, 1.0)
    positive = share * _sum(sample.weight * sample.labels)
    negative = other_share * _sum(sample.weight * (1.0 - sample.labels))
    if positive == 0.0 or negative == 0.0:
        return _within(_log(positive) - _log(negative))
    log_ratio = math.log(positive) - math.log(negative)

    def log_slope(score: float) -> float:
        log_p, log_q = -np.logaddexp(0.0, -score), -np.logaddexp(0.0, score)
        return float(gamma * log_q + np.log(np.exp(log_q) - gamma * np.exp(log_p) * log_p))

    def difference(score: float) -> tuple[float, float]:
        return log_slope(-score) - log_slope(score) - log_ratio, 0.0

    return _root(difference, -LARGEST_LOGIT, LARGEST_LOGIT, 0.0)


def zero(sample: Sample) -> float:
    """Return the score of Cox's loss, to which a constant does not matter."""
    return 0.0


def aft(labels: Array, weight: Array, options: dict[str, Any]) -> float:
    """Return the log time at which the slopes of all rows cancel; `labels` are bounds."""
    lower, upper = labels.T
    ends = np.log(labels[(labels > 0.0) & np.isfinite(labels)])
    if not ends.size:
        return 0.0

    def derivatives(score: float) -> tuple[float, float]:
        _, slope, bend = aft_loss(
            np.full(len(lower), score), lower, upper, weight=weight, **options, reduction="sum",
            return_grad=True, return_hessian=True,
        )  # fmt: skip
        return _sum(slope), _sum(bend)

    far = 10.0 * options["scale"]
    return _root(derivatives, float(ends.min()) - far, float(ends.max()) + far, float(np.mean(ends)))


def class_weights(labels: Array, weight: Array, num_class: int | None) -> Array:
    """Return the weight of all rows of each class."""
    if num_class is None and labels.dtype.kind in "fiub":
        is_class = (labels >= 0) & (labels < 2**31) & (labels == np.floor(labels))
        require_labels(is_class, labels, "that is a class, an integer from 0 on")
        num_class = int(labels.max()) + 1
    classes = max(num_class or 0, 2)
    indices = class_indices(labels, classes)
    if indices.min() < 0 or indices.max() >= classes:
        raise no_class(labels, classes)
    return np.bincount(indices, weight, classes)


def log_shares(sample: Sample) -> Array:
    """Return the logarithm of each class's share: the scores of least softmax cross-entropy.

    The labels of the sample are the classes.
    """
    logs: Array = np.log(np.maximum(sample.weight / sample.weight.sum(), LEAST_SHARE))
    return logs


def focal_shares(sample: Sample) -> Array:
    """Return the logarithms of the probabilities of least focal loss of a softmax.

    With the weight w of a class, times its alpha, and the factor F of the gradient, the slope by the score of
    class j is p_j S - w_j F(p_j), where S is the sum of all w F. So w F(p) / p, which falls in p, is the same
    number S for all classes: that with probabilities that add up to 1. Both are found by bisection.
    """
    alpha, gamma = sample.options["alpha"], sample.options["gamma"]
    weight = sample.weight
    if alpha is not None:
        weighted = weight * _derivatives.alpha_of(alpha, len(weight))
        weight = weighted if weighted.any() else weight
    counted = weight > 0.0
    if gamma == 0.0 or np.count_nonzero(counted) == 1:
        return log_shares(sample._replace(weight=weight))
    log_weight = np.log(weight[counted])

    def log_slope(loss: Array) -> Array:
        value: Array = log_weight + np.log(_derivatives.focal_factor(loss, gamma)) + loss
        return value

    def losses(level: float) -> Array:
        low, high = np.full(len(log_weight), 1e-15), np.full(len(log_weight), LARGEST_LOGIT)
        for _ in range(BISECTIONS):
            middle = np.sqrt(low * high)
            is_above = log_slope(middle) > level
            high, low = np.where(is_above, middle, high), np.where(is_above, low, middle)
        found: Array = np.sqrt(low * high)
        return found

    at_uniform = log_slope(np.full(len(log_weight), math.log(len(log_weight))))
    low, high = float(at_uniform.min()), float(at_uniform.max())
    for _ in range(BISECTIONS):
        level = low + 0.5 * (high - low)
        low, high = (level, high) if np.exp(-losses(level)).sum() > 1.0 else (low, level)
    shares_ = np.full(len(weight), LEAST_SHARE)
    shares_[counted] = np.exp(-losses(high))
    logs: Array = np.log(shares_)
    return logs


def _sum(values: Array) -> float:
    return float(values.sum())


def _log(value: float) -> float:
    return math.log(value) if value > 0.0 else -math.inf


def _within(score: float) -> float:
    return min(max(score, -LARGEST_LOGIT), LARGEST_LOGIT)


def _between_labels(sample: Sample, derivatives: Callable[[float], tuple[float, float]]) -> float:
    """Return the minimum of a convex loss of the error, which is between the extreme labels."""
    counted = sample.labels[sample.weight > 0.0]
    return _root(derivatives, float(counted.min()), float(counted.max()), median(sample))


def _root(
    derivatives: Callable[[float], tuple[float, float]], low: float, high: float, start: float
) -> float:
    """Return the root of an increasing function that returns its value and its derivative (or 0).

    Newton's method, with bisection in every fourth step and if a step would leave the bounds.
    """
    score = start
    for step in range(STEPS):
        slope, bend = derivatives(score)
        if slope == 0.0:
            break
        low, high = (low, score) if slope > 0.0 else (score, high)
        following = score - slope / bend if bend > 0.0 and step % 4 < 3 else math.nan
        if following == score:  # the step is below the last digit
            break
        if not low < following < high:
            following = low + 0.5 * (high - low)
        if following in (low, high):
            break
        score = following
    return score


# --- links: from scores to predictions ---


def identity(scores: Array) -> Array:
    return scores


def exponential(scores: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        result: Array = np.exp(scores)
    return result


def sigmoid(scores: Array) -> Array:
    with np.errstate(under="ignore"):
        small = np.exp(-np.abs(scores))  # never above 1
    result: Array = np.where(scores < 0.0, small, 1.0) / (1.0 + small)
    return result


def parameters(scores: Array) -> Array:
    """The location as it is, and the exponentials of the others."""
    result = exponential(scores)
    result[..., 0] = scores[..., 0]
    return result


def shares(scores: Array) -> Array:
    if scores.ndim < 1 or scores.shape[-1] < 2:
        raise ValueError(
            f"scores must have shape (rows, classes), with two classes or more, got {scores.shape}"
        )
    return softmax(scores)
