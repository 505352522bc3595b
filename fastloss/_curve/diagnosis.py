"""The findings of a curve: each detector once, and which of their findings exclude another."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from fastloss._curve.finding import Finding, number
from fastloss._curve.gap import leak
from fastloss._curve.lowest import lowest_step
from fastloss._curve.rises import Rise, departure, rise, risen
from fastloss._curve.series import Series, series
from fastloss._curve.trend import beside_validation, trend

__all__ = ["Measured", "diagnose"]

Floats = npt.NDArray[np.float64]
Measured = tuple[Floats, Floats]  # steps and losses

# Fewer measurements than these say nothing of a trend.
FEWEST = 8
FEWEST_OF_VALIDATION = 4
# Losses beyond this are infinite in all but name, and their squares would be.
_INFINITE = 1e100
# A rise is a divergence from this share of the whole fall on, and overfitting from this share.
_DIVERGED, _OVERFITTED = 0.05, 0.02
# Nobody goes back for a rise by less than this share of the loss.
_NOTABLE = 0.002
# A model underfits if its loss is not below the baseline by this share of it.
_MARGIN = 0.05


def diagnose(train: Measured, validation: Measured, unigram: float | None) -> list[Finding]:
    """Return the findings of both curves, those that ask for an act first, then by step."""
    found = _non_finite(train, validation)
    ours = _series(_finite(train), FEWEST)
    theirs = _series(_finite(validation), FEWEST_OF_VALIDATION)
    main = ours if ours is not None else theirs
    if main is not None:
        found += _of_one(main, ours is not None, not _ends_finite(train, validation))
        if ours is not None:
            theirs = _series(_undisturbed(_finite(validation), ours, found), FEWEST_OF_VALIDATION)
        if theirs is not None:
            over = _overfitting(ours, theirs)
            found = [_beside(finding, theirs, over) for finding in found] + over
            found += leak(ours, theirs, _range(ours)) if ours is not None else []
        if _ends_finite(train, validation) and all(finding.kind != "divergence" for finding in found):
            found += _underfitting(main, unigram)
    return sorted(found, key=lambda finding: (finding.severity != "act", finding.start))


def _series(measured: Measured, fewest: int) -> Series | None:
    """Return the series of finite losses; None of too few."""
    return series(*measured) if len(measured[0]) >= fewest else None


def _undisturbed(validation: Measured, train: Series, found: list[Finding]) -> Measured:
    """Return the validation losses apart from spikes of the training loss, and before it diverges."""
    steps, losses = validation
    kept = np.ones(len(steps), dtype=bool)
    for first, last in zip(train.spikes.first, train.spikes.last, strict=True):
        kept &= (steps < train.steps[first]) | (steps > train.steps[last])
    for finding in found:
        if finding.kind == "divergence":
            kept &= steps < finding.start
    return steps[kept], losses[kept]


def _beside(finding: Finding, validation: Series, overfitting: list[Finding]) -> Finding:
    """Return a finding "falling" with what the validation loss does, where it has enough measurements."""
    if finding.kind != "falling" or (not overfitting and len(np.unique(validation.steps)) < FEWEST):
        return finding
    return beside_validation(finding, *(overfitting or [trend(validation, _range(validation))]))


def certainty(score: float) -> float:
    """Return how sure a deviation of so many standard errors is."""
    return NormalDist().cdf(score)


def _finite(measured: Measured) -> Measured:
    steps, losses = measured
    whole = _is_finite(losses)
    return steps[whole], losses[whole]


def _is_finite(losses: Floats) -> npt.NDArray[np.bool_]:
    finite: npt.NDArray[np.bool_] = np.abs(losses) < _INFINITE  # false for NaN
    return finite


def _ends_finite(train: Measured, validation: Measured) -> bool:
    losses = train[1] if len(train[1]) else validation[1]
    return bool(_is_finite(losses[-1:])[0])


def _non_finite(train: Measured, validation: Measured) -> list[Finding]:
    bad = [steps[~_is_finite(losses)] for steps, losses in (train, validation)]
    steps = np.concatenate(bad)
    if not len(steps):
        return []
    evidence = {"size": len(steps), "confidence": 1.0, "train": len(bad[0]), "validation": len(bad[1])}
    advice = (
        "Go back to a checkpoint before this step. Look at the gradient norms and the batch there; lower the "
        "learning rate, clip gradients, or compute the loss in float32 where it overflows."
    )
    return [Finding("non_finite", float(steps.min()), float(steps.max()), evidence, advice)]


def _range(curve: Series) -> float:
    """Return the whole range of a curve without its noise."""
    start = curve.means[: max(len(curve.means) // 64, 1)].mean()
    _, running = curve.smoothed(max(len(curve.means) // 32, 1))
    return max(float(max(start, running.max()) - running.min()), float(curve.noise.min()))


def _of_one(curve: Series, is_training: bool, stopped: bool) -> list[Finding]:
    """Return what a curve shows by itself; a run that has stopped has no trend."""
    range_ = _range(curve)
    found = _spikes(curve)
    up = rise(curve, (_DIVERGED if is_training else _OVERFITTED) * range_)
    if up is not None and is_training:
        divergence = _divergence(curve, up)
        return [*(spike for spike in found if spike.start < divergence.start), divergence]
    # A validation loss that rises alone is overfitting, and neither noise nor a trend.
    if up is None and len(np.unique(curve.steps)) >= FEWEST:
        noise = _noise(curve)
        found += noise
        if not stopped:
            found.append(trend(curve, range_, is_noisy=bool(noise)))
    return found


def _divergence(curve: Series, up: Rise) -> Finding:
    start = departure(curve)
    evidence = {
        "size": up.size,
        "confidence": certainty(up.score),
        "lowest": up.lowest,
        "level": up.level,
        "z": up.score,
    }
    advice = (
        "Stop the run and go back to a checkpoint before this step. Lower the learning rate, lengthen the "
        "warm-up, clip gradients."
    )
    return Finding("divergence", start, float(curve.steps[-1]), evidence, advice)


def _spikes(curve: Series) -> list[Finding]:
    spikes = curve.spikes
    if not spikes.count:
        return []
    steps = [float(curve.steps[i]) for i in spikes.first]
    evidence: dict[str, Any] = {
        "size": max(spikes.heights),
        "confidence": certainty(max(spikes.scores)),
        "count": spikes.count,
        "share": spikes.points / len(curve.values),
        "steps": steps,
    }
    advice = (
        "The run has recovered. If spikes become frequent, clip gradients, lower the learning rate or the "
        "second beta of Adam, and look at the batches of these steps."
    )
    return [Finding("spike", steps[0], float(curve.steps[spikes.last[-1]]), evidence, advice)]


def _noise(curve: Series) -> list[Finding]:
    """Return a finding if the noise of one measurement is larger than the progress from first to last."""
    n = len(curve.values)
    tail = curve.values[-max(n // 4, 2) :]
    end, sigma = float(tail.mean()), float(np.median(curve.noise)) * float(curve.excess[0])
    progress = max(
        float(curve.values[:k].mean()) - end - 2.0 * sigma / math.sqrt(k)
        for k in {3, 5, max(n // 50, 1), max(n // 10, 1), max(n // 4, 1)}
    )
    if progress >= sigma or not np.ptp(curve.values):
        return []
    quarter = max(n // 4, 1)
    fallen = float(curve.values[:quarter].mean()) - end
    evidence = {
        "size": sigma,
        "confidence": certainty((sigma - fallen) / (sigma * math.sqrt(2.0 / quarter))),
        "progress": fallen,
    }
    if fallen >= sigma:
        return []
    advice = (
        "Log means over more steps, or use larger batches, before you read this curve; if it then shows no "
        "progress, change the learning rate."
    )
    return [Finding("noise", float(curve.steps[0]), float(curve.steps[-1]), evidence, advice)]


def _overfitting(train: Series | None, validation: Series) -> list[Finding]:
    least = max(_OVERFITTED * _range(validation), _NOTABLE * float(np.abs(validation.means).min()))
    up = rise(validation, least)
    if up is None:
        return []
    best = lowest_step(validation)
    change = None if train is None else risen(train, best)
    if change is not None and change > 0.25 * up.size:
        return []
    evidence = {
        "size": up.size,
        "confidence": certainty(up.score),
        "best_step": best,
        "lowest": up.lowest,
        "level": up.level,
    }
    if change is not None:
        evidence["train_change"] = change
    advice = (
        f"Go back to the checkpoint of step {number(best)}, or stop there. More data, dropout, weight decay "
        "or a smaller model move this step to a lower loss."
    )
    return [Finding("overfitting", best, float(validation.steps[-1]), evidence, advice)]


def _underfitting(curve: Series, unigram: float | None) -> list[Finding]:
    if unigram is None:
        return []
    width = max(len(curve.means) // 8, 1)
    level = float(curve.means[-width:].mean())
    error = float(curve.errors(width)[-1])
    if level < unigram - _MARGIN * abs(unigram):
        return []
    score = (level - (1.0 - _MARGIN) * unigram) / max(error, 1e-300)
    evidence = {
        "size": level - unigram,
        "confidence": certainty(score),
        "level": level,
        "unigram": unigram,
    }
    advice = (
        "Check that inputs and targets belong together. Raise the learning rate or the model's size, or "
        "train longer, until the loss is well below this baseline."
    )
    start = curve.start_of(len(curve.means) - width)
    return [Finding("underfitting", start, float(curve.steps[-1]), evidence, advice)]
