"""Falling or level: what a curve does at its end."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastloss._curve.finding import Finding
from fastloss._curve.power_law import Outlook, outlook
from fastloss._curve.series import Series

__all__ = ["beside_validation", "trend"]

Floats = npt.NDArray[np.float64]

# A loss falls if as many steps again would lower it by more than this share of the whole fall.
_LEAST = 0.005
# It is level where it stays within this share of its last level.
_LEVEL = 0.02
# How sure that has to be: as likely as not by a fit of the whole curve. Its last part alone is often level.
_SURE, _SURE_OF_A_PART, _SURE_IN_NOISE = 0.5, 0.9, 0.998
# A fit is good up to this reduced chi-square; otherwise only the later part of the curve is fitted.
_GOOD = 1.6
_POINTS = 128
# A log of less than this share of the steps begins late.
_LATE = 0.1


def trend(curve: Series, range_: float, *, is_noisy: bool = False) -> Finding:
    """Return a finding "falling" or "plateau"; where noise is larger than the progress, mostly the latter."""
    first, fit = _best_fit(curve, _LEAST * range_)
    last = float(curve.steps[-1])
    gain, low, high = fit.gain
    evidence: dict[str, Any] = {"size": gain, "confidence": fit.chance, "level": fit.level}
    is_whole = first <= float(curve.steps[len(curve.steps) // 4])
    if fit.chance > (_SURE_IN_NOISE if is_noisy else _SURE if is_whole else _SURE_OF_A_PART):
        evidence |= dict(zip(("next", "next_low", "next_high"), fit.next, strict=True))
        evidence |= {"exponent": fit.exponent, "asymptote": fit.asymptote}
        advice = "Train on: more steps still lower the loss. Compare what they bring with what they cost."
        return Finding("falling", first, last, evidence, advice)
    evidence |= {"size": abs(gain), "confidence": 1.0 - fit.chance}
    evidence |= {"gain": gain, "gain_low": low, "gain_high": high}
    advice = (
        "Stop here, or change something: a lower learning rate where the curve is noisy, a larger model, "
        "more data. More steps of the same kind bring little."
    )
    return Finding("plateau", _since(curve, range_), last, evidence, advice)


def beside_validation(train: Finding, validation: Finding) -> Finding:
    """Return the trend of the training loss with what the validation loss does: its trend, or overfitting."""
    if train.kind != "falling":
        return train
    does = {"falling": "falling", "plateau": "level", "overfitting": "rising"}[validation.kind]
    names = ("level", "gain", "gain_low", "gain_high", "next", "next_low", "next_high")
    theirs = {f"validation_{name}": validation.evidence.get(name) for name in names}
    evidence = {k: v for k, v in theirs.items() if v is not None} | {"validation_trend": does}
    advice = {
        "falling": train.advice,
        "level": (
            "More steps lower the training loss only: the validation loss is level. Stop here, or change "
            "something: more data, dropout, weight decay."
        ),
        "rising": "More steps lower the training loss only: the validation loss rises.",
    }
    return replace(train, evidence={**train.evidence, **evidence}, advice=advice[does])


def _best_fit(curve: Series, least: float) -> tuple[float, Outlook]:
    """Return the fit through the longest last part that a power law describes, and its first step."""
    n = len(curve.values)
    begin = _after_the_warm_up(curve)
    fit = None
    for part in (1.0, 0.5, 0.25):
        start = max(begin, n - max(int(part * n), 12))
        steps, values, errors = _logarithmic(curve, start)
        fit = outlook(steps, values, errors, float(_grown(curve.steps)[-1]), least)
        if fit.misfit < _GOOD:
            break
    assert fit is not None
    return float(curve.steps[start]), fit


def _after_the_warm_up(curve: Series) -> int:
    """Return where the curve begins to fall: at the highest measurement, if that is in the first tenth."""
    tenth = max(len(curve.values) // 10, 1)
    early = curve.values[: tenth + 1]
    top = int(early.argmax())
    return top if early[top] - early[0] > 3.0 * curve.noise[0] * math.sqrt(2.0) else 0


def _logarithmic(curve: Series, start: int) -> tuple[Floats, Floats, Floats]:
    """Return means over parts that grow in proportion to the step, as the power law is steep at first."""
    n = len(curve.values) - start
    marks = np.unique(np.rint(np.geomspace(1, n + 1, min(n, _POINTS) + 1)).astype(int)) - 1 + start
    counts = np.diff(marks)
    values = np.add.reduceat(curve.values, marks[:-1])[: len(counts)] / counts
    steps = np.add.reduceat(_grown(curve.steps), marks[:-1])[: len(counts)] / counts
    noise = np.add.reduceat(curve.noise, marks[:-1])[: len(counts)] / counts
    widths = np.log2(np.maximum(counts / curve.per_bin, 1.0)).astype(int)
    excess = curve.excess[np.minimum(widths, len(curve.excess) - 1)]
    return steps, values, noise * excess / np.sqrt(counts)


def _grown(steps: Floats) -> Floats:
    """Return steps that are positive and never the same.

    Where the log has a small last part of the steps, they count from its beginning: as many steps again would
    be too far away.
    """
    is_late = steps[-1] - steps[0] < _LATE * steps[-1]
    shift = 1.0 - steps[0] if steps[0] <= 0 or is_late else 0.0
    grown: Floats = steps + shift + np.arange(len(steps)) * 1e-9
    return grown


def _since(curve: Series, range_: float) -> float:
    """Return the step since which the curve has been level."""
    width = max(len(curve.means) // 32, 1)
    _, running = curve.smoothed(width)
    tail = max(len(running) // 4, 1)
    level = float(np.mean(running[-tail:]))
    errors = curve.errors(width)[: len(running)]
    outside = np.abs(running - level) > np.maximum(_LEVEL * range_, 3.5 * errors)
    start = int(np.flatnonzero(outside)[-1]) + 1 if outside.any() else 0
    return curve.start_of(min(start + (width if start else 0), len(curve.means) - 1))
