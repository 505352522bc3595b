"""Validation loss far under the training loss."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from fastloss._curve.finding import Finding
from fastloss._curve.series import Series

__all__ = ["leak"]

Floats = npt.NDArray[np.float64]

# The gap is far if it is more than so many standard errors, and this share of the whole fall of the training
# loss, which a little dropout or augmentation does not reach; it is long if it has this share of the
# measurements, and so many.
_FAR, _SCORE = 0.1, 4.0
_LONG, _FEWEST = 0.25, 5
# A training loss that is a mean over the past is as high as the loss was so many steps ago (share of all).
_PAST = 0.1
# Errors of measurements that follow each other are alike: their mean is this much less sure.
_ALIKE = 1.5


def leak(train: Series, validation: Series, range_: float) -> list[Finding]:
    """Return a finding if the validation loss has long been far under the training loss, up to the end."""
    gap = _gap(train, validation)
    least = _FAR * range_
    sums = np.cumsum((gap - least)[::-1])
    count = int(sums.argmax()) + 1
    if sums.max() <= 0.0 or count < max(_FEWEST, _LONG * len(gap)):
        return []
    part = gap[-count:]
    size = float(part.mean())
    error = _ALIKE * float(part.std(ddof=1)) / math.sqrt(count)
    score = size / max(error, float(validation.noise[-1]) / math.sqrt(count))
    if score < _SCORE:
        return []
    steps = validation.steps
    evidence = {"size": size, "confidence": NormalDist().cdf(score), "share": size / range_, "z": score}
    advice = (
        "Look for validation examples, or their answers, among the training data or the inputs. Dropout, "
        "label smoothing and augmentation raise the training loss alone: measure both without them."
    )
    return [Finding("leak", float(steps[-count]), float(steps[-1]), evidence, advice)]


def _gap(train: Series, validation: Series) -> Floats:
    """Return how far each validation loss is under training, beyond what a mean over the past explains."""
    steps, level = train.smoothed(max(len(train.means) // 32, 1))
    at = validation.steps
    past = at - _PAST * float(train.steps[-1] - train.steps[0])
    gap = np.interp(at, steps, level) - validation.values
    steps, level = train.smoothed(max(len(train.means) // 8, 1))
    lag = np.interp(past, steps, level) - np.interp(at, steps, level)
    found: Floats = gap - np.maximum(lag, 0.0)
    return found
