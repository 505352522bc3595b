"""The picture of a curve: both losses, a second axis of perplexity, and the findings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastloss._curve.finding import Finding

if TYPE_CHECKING:
    from fastloss._curve.diagnosis import Measured

__all__ = ["plot"]

_COLOURS = {
    "falling": "#2a9d8f",
    "plateau": "#7f8c8d",
    "divergence": "#d62828",
    "non_finite": "#9d0208",
    "spike": "#e07a1f",
    "overfitting": "#e76f51",
    "noise": "#8d99ae",
    "leak": "#7b2cbf",
    "underfitting": "#bc6c25",
}
_TRAINING, _VALIDATION = "#1d3557", "#c1121f"
# A longer curve is drawn smoothed, over its measurements.
_DENSE = 300
# A point in ink is a place of its own on a screen; more of them only take time.
_POINTS = 4000
# The largest loss that has a perplexity on the axis, and how many times the smallest one the largest may be
# where it has none: beyond that, the scale is logarithmic.
_LARGEST, _RATIO = 300.0, 1000.0


def plot(
    train: Measured, validation: Measured, findings: list[Finding], unigram: float | None, ax: Any = None
) -> Any:
    """Draw on `ax`, or on the axes of a new figure, and return them."""
    if ax is None:
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            message = "LossCurve.plot needs matplotlib: pip install 'fastloss[demo]'"
            raise ImportError(message, name="matplotlib") from error
        ax = Figure(figsize=(9.0, 5.0), layout="constrained").subplots()
    _losses(ax, train, validation)
    if unigram is not None:
        ax.axhline(unigram, color="0.4", lw=1.2, ls=":", label="baseline", zorder=1)
    for finding in findings:
        _finding(ax, finding, train if len(train[0]) else validation, finding is findings[0])
    _scale(ax, np.concatenate([train[1], validation[1]]))
    ax.set_xlabel("step")
    ax.set_ylabel("loss")
    ax.legend(framealpha=0.85, edgecolor="none")
    return ax


def _losses(ax: Any, train: Measured, validation: Measured) -> None:
    steps, losses = train
    if len(steps):
        dense = len(steps) > _DENSE
        look = {"alpha": 0.3, "lw": 0.8} if dense else {"lw": 1.4, "label": "training"}
        thin = slice(None, None, max(len(steps) // _POINTS, 1))
        ax.plot(steps[thin], losses[thin], color=_TRAINING, zorder=2, **look)
        if dense:
            width = len(steps) // 50
            smooth = np.convolve(losses, np.ones(width) / width, "valid")
            middle = steps[(width - 1) // 2 :][: len(smooth)]
            ax.plot(middle, smooth, color=_TRAINING, lw=1.8, label="training, smoothed", zorder=3)
    steps, losses = validation
    if len(steps):
        marker = "o" if len(steps) <= 60 else ""
        ax.plot(steps, losses, color=_VALIDATION, lw=1.6, marker=marker, ms=4, label="validation", zorder=4)


def _finding(ax: Any, finding: Finding, curve: Measured, first: bool) -> None:
    """Mark a finding at its start, and the whole of the first, which matters most."""
    colour = _COLOURS.get(finding.kind, "#444444")
    name = finding.kind.replace("_", " ")
    if finding.kind == "spike":
        steps = np.asarray(finding.evidence["steps"])
        at = np.searchsorted(curve[0], steps).clip(max=len(curve[0]) - 1)
        ax.plot(steps, curve[1][at], "v", color=colour, ms=7, label=name, zorder=5)
        return
    ax.axvline(finding.start, color=colour, lw=1.4, ls="--", label=name, zorder=1)
    if first:
        ax.axvspan(finding.start, finding.end, color=colour, alpha=0.10, lw=0, zorder=0)


def _scale(ax: Any, losses: npt.NDArray[np.float64]) -> None:
    """Add the axis of perplexity, the exponential of the loss; where it is too large, a logarithmic scale."""
    finite = losses[np.isfinite(losses)]
    if not len(finite) or finite.min() < 0:  # no cross-entropy
        return
    if finite.max() > _LARGEST:
        if 0 < finite.min() < finite.max() / _RATIO:
            ax.set_yscale("log")
        return
    from matplotlib.ticker import FuncFormatter

    def loss(perplexity: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.log(np.maximum(perplexity, 1e-300))  # matplotlib asks for 0, too

    second = ax.secondary_yaxis("right", functions=(np.exp, loss))
    low, high = (limit / math.log(10.0) for limit in ax.get_ylim())
    if high - low > 0.7:  # closer ones are where matplotlib sets them
        stride = math.ceil((high - low) / 8)
        marks = (1, 2, 5) if high - low < 4 else (1,)
        powers = range(stride * math.floor(low / stride), math.ceil(high) + 1, stride)
        second.set_yticks([mark * 10.0**power for power in powers for mark in marks])
        second.yaxis.set_major_formatter(FuncFormatter(_shown))
    second.set_ylabel("perplexity")


def _shown(perplexity: float, _: int) -> str:
    if perplexity >= 1e6:
        return f"1e{round(math.log10(perplexity))}"
    return f"{perplexity:,.0f}" if perplexity >= 1 else f"{perplexity:g}"
