"""A finding: what a curve shows, from where to where, how surely, and what to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Finding", "number"]

# Findings of these kinds say that the run is not right. The others describe it.
_ACT = frozenset({"divergence", "non_finite", "overfitting", "leak", "underfitting"})
# Spikes are a note while they are rare: a run that returns has lost a few steps. Where more than one
# measurement in a hundred belongs to one of several, the learning rate is at its limit.
_MANY_SPIKES, _LARGE_SHARE = 5, 0.01
# Differences below this are nothing.
_TINY = 1e-100


def number(value: float) -> str:
    """Return a number as a sentence shows it: whole steps without a point, others with four digits."""
    if math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.4g}"


@dataclass(frozen=True)
class Finding:
    """One thing that a curve of losses shows.

    `LossCurve.diagnose` returns a list of them. ``str(finding)`` is one sentence with the evidence.

    Parameters
    ----------
    kind : str
        ``"falling"``, ``"plateau"``, ``"divergence"``, ``"non_finite"``, ``"spike"``, ``"overfitting"``,
        ``"noise"``, ``"leak"`` or ``"underfitting"``.
    start : float
        The first step of what was found.
    end : float
        The last step of it.
    evidence : dict
        Named numbers, among them always ``"size"``, in units of the loss (``"non_finite"``: how many), and
        ``"confidence"`` between 0 and 1. `LossCurve.diagnose` lists the others.
    advice : str
        What to do.

    See Also
    --------
    LossCurve : finds them.

    Examples
    --------
    >>> import fastloss
    >>> evidence = {"size": 2, "confidence": 1.0, "train": 2, "validation": 0}
    >>> finding = fastloss.Finding("non_finite", 70, 71, evidence, "Lower the learning rate.")
    >>> print(finding)
    The loss is NaN or infinite from step 70 (2 measurements until step 71).
    >>> finding.severity
    'act'
    """

    kind: str
    start: float
    end: float
    evidence: Mapping[str, Any]
    advice: str

    @property
    def severity(self) -> str:
        """``"act"`` if something is wrong with the run, ``"note"`` if the finding only describes it.

        Divergence, NaN and infinities, overfitting, a leak and underfitting ask for an act; so do spikes to
        which more than one in a hundred measurements belongs. Noise is a note: it says that the log is hard
        to read, not that the run is wrong.
        """
        if self.kind == "spike":
            many = self.evidence.get("count", 0) >= _MANY_SPIKES
            return "act" if many and self.evidence.get("share", 0.0) > _LARGE_SHARE else "note"
        return "act" if self.kind in _ACT else "note"

    def __str__(self) -> str:
        sentence = _SENTENCES.get(self.kind)
        if sentence is None:
            return f"{self.kind} from step {number(self.start)} to {number(self.end)}: {dict(self.evidence)}."
        return sentence(self, _Shown(self.evidence))


class _Shown(dict[str, str]):
    """The evidence as text; what is missing is a question mark, so that every finding prints."""

    def __init__(self, evidence: Mapping[str, Any]) -> None:
        super().__init__((k, number(v)) for k, v in evidence.items() if isinstance(v, (int, float)))

    def __missing__(self, name: str) -> str:
        return "?"


def _share(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return "?"
    return f"{100 * value:.3g} % of the whole fall" if value < 10 else "many times the whole fall"


def _errors(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return "?"
    return f"{number(value)} standard errors" if value < 1000 else "more than 1000 standard errors"


def _rounded(values: tuple[Any, ...], unit: float) -> list[str]:
    """Return numbers without the digits that are far below a unit."""
    if not all(isinstance(value, (int, float)) for value in values):
        return ["?"] * len(values)
    digits = 3 - math.floor(math.log10(unit)) if unit > 0 else 0
    return [number(round(value, digits) + 0.0) for value in values]


def _falling(f: Finding, e: _Shown) -> str:
    validation = f.evidence.get("validation_trend", "falling")
    loss = "loss" if validation == "falling" else "training loss"
    beside = {
        "level": f" The validation loss is level, at {e['validation_level']}.",
        "rising": f" The validation loss rises, to {e['validation_level']}.",
    }
    return (
        f"The {loss} is still falling at step {number(f.end)}: by the power law through the steps from "
        f"{number(f.start)}, as many steps again would bring it from {e['level']} to {e['next']} (90 % "
        f"interval {e['next_low']} to {e['next_high']}).{beside.get(validation, '')}"
    )


def _plateau(f: Finding, e: _Shown) -> str:
    low, high, level = (f.evidence.get(name, math.nan) for name in ("gain_low", "gain_high", "level"))
    # An interval of rounding errors alone is none.
    unit = max(abs(high - low), 1e-9 * abs(level), _TINY)
    gain, low, high = _rounded((f.evidence.get("gain"), low, high), unit)
    by = "nothing" if gain == "0" else gain
    interval = "" if gain == low == high == "0" else f" (90 % interval {low} to {high})"
    return (
        f"The loss is level since step {number(f.start)}, at {e['level']}: as many steps again as there are "
        f"would lower it by {by}{interval}."
    )


def _divergence(f: Finding, e: _Shown) -> str:
    return (
        f"The loss diverges: since step {number(f.start)} it has risen by {e['size']}, from {e['lowest']} to "
        f"{e['level']} ({_errors(f.evidence.get('z'))})."
    )


def _non_finite(f: Finding, e: _Shown) -> str:
    count = f.evidence.get("size", 0)
    until = f"{e['size']} measurements until step {number(f.end)}" if count > 1 else "one measurement"
    return f"The loss is NaN or infinite from step {number(f.start)} ({until})."


def _spike(f: Finding, e: _Shown) -> str:
    if f.evidence.get("count") == 1:
        return f"The loss jumps up by {e['size']} at step {number(f.start)}, and returns."
    steps = ", ".join(number(step) for step in f.evidence.get("steps", ())[:5])
    more = ", ..." if len(f.evidence.get("steps", ())) > 5 else ""
    return (
        f"The loss jumps up {e['count']} times, by up to {e['size']}, and returns (at steps {steps}{more})."
    )


def _overfitting(f: Finding, e: _Shown) -> str:
    while_ = ", while the training loss has not risen" if "train_change" in e else ""
    return (
        f"The model overfits: since step {e['best_step']} the validation loss has risen by {e['size']}, from "
        f"{e['lowest']} to {e['level']}{while_}."
    )


def _noise(f: Finding, e: _Shown) -> str:
    return (
        f"The noise is larger than the progress: measurements differ by {e['size']} (standard deviation), "
        f"and from the first to the last step the loss has fallen by {e['progress']}."
    )


def _leak(f: Finding, e: _Shown) -> str:
    return (
        f"The validation loss is far below the training loss since step {number(f.start)}: by {e['size']}, "
        f"{_share(f.evidence.get('share'))} ({_errors(f.evidence.get('z'))})."
    )


def _underfitting(f: Finding, e: _Shown) -> str:
    return (
        f"The model underfits: its loss at step {number(f.end)} is {e['level']}, and {e['unigram']} needs no "
        "more than the frequencies of the tokens."
    )


_SENTENCES: dict[str, Callable[[Finding, _Shown], str]] = {
    "falling": _falling,
    "plateau": _plateau,
    "divergence": _divergence,
    "non_finite": _non_finite,
    "spike": _spike,
    "overfitting": _overfitting,
    "noise": _noise,
    "leak": _leak,
    "underfitting": _underfitting,
}
