"""What a cross-entropy stands for: a probability, a perplexity, bits; and the sentence that says it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastloss._engine.arguments import as_array, converted, number, per_row
from fastloss._engine.types import Array

__all__ = ["Interpretation", "interpretation"]


class Interpretation(NamedTuple):
    """What a cross-entropy says of a model; its ``str`` is a sentence.

    Every field is a float, or a float64 array for an array of losses.
    """

    #: The probability that the model gives the right token; of a mean loss the geometric mean.
    probability: Any
    #: Its reciprocal: the model is as uncertain as one that guesses among so many equally likely tokens.
    perplexity: Any
    #: The length of the code that the model gives a token.
    bits_per_token: Any
    #: The length of the code for a byte of the text, whatever the tokens; None where these are not counted.
    bits_per_byte: Any

    @property
    def branching_factor(self) -> Any:
        """Another name of the perplexity."""
        return self.perplexity

    def __str__(self) -> str:
        if np.ndim(self.bits_per_token) > 0:
            return _summary(self)
        if math.isnan(self.bits_per_token):
            return "A loss of NaN says nothing about the model."
        nats = self.bits_per_token * math.log(2.0)
        size = "An infinite loss" if nats == math.inf else f"A loss of {_shown(nats)} nats"
        return f"{size} {_meaning(self)}."


def _shown(value: float) -> str:
    """Return a number with three digits, and a large one with all digits before the point."""
    if value == math.inf:
        return "more than 1e308"
    return f"{value:,.0f}" if 1000 <= value < 1e15 else f"{value:.3g}"


def _meaning(found: Interpretation) -> str:
    """Return what one loss, which is not NaN, gives the right token."""
    probability, perplexity, bits, per_byte = found
    if bits in (0.0, math.inf):
        certain = "the model is certain of it" if bits == 0 else "the model rules it out"
        return f"gives the right token a probability of {0 if bits else 100} percent: {certain}"
    if probability >= 0.9995:
        chance = "more than 99.9 percent"
    elif probability < 0.01:
        chance = f"1 in {_shown(perplexity)}"
    else:
        chance = f"{100 * probability:.3g} percent"
    more = "" if per_byte is None else f", {_shown(per_byte)} bits per byte"
    return (
        f"gives the right token a probability of {chance}: as uncertain as a choice among "
        f"{_shown(perplexity)} equally likely tokens, or {_shown(bits)} bits per token{more}"
    )


def _summary(found: Interpretation) -> str:
    """Return the sentences of an array of losses: those of the lowest and of the highest."""
    bits = np.ravel(found.bits_per_token)
    known = np.flatnonzero(~np.isnan(bits))
    text = f"{bits.size} losses" + (
        f", {bits.size - known.size} of them NaN." if known.size < bits.size else "."
    )
    ends = {"lowest": np.argmin, "highest": np.argmax} if known.size else {}
    for name, which in ends.items():
        at = known[which(bits[known])]
        one = Interpretation(*(None if values is None else np.ravel(values)[at] for values in found))
        text += f" The {name} {_meaning(one)}."
    return text


def _real(name: str, value: npt.ArrayLike) -> Array:
    """Return a value, which holds numbers but no booleans, as float64."""
    array = as_array(name, value)
    if array.dtype == np.bool_:
        raise TypeError(f"{name} must be a number, or an array of numbers; got bool")
    return converted(name, array, np.float64)


def _losses(value: npt.ArrayLike) -> Array:
    losses = _real("loss", value)
    if (bad := losses < 0).any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        at = f"loss[{', '.join(map(str, where))}]" if where else "loss"
        raise ValueError(f"{at} must be at least 0, as no probability is above 1; got {losses[where]:g}")
    return losses + 0.0  # -0.0 becomes 0.0


def _tokens_per_byte(
    tokens: npt.ArrayLike | None, utf8_bytes: npt.ArrayLike | None, shape: tuple[int, ...]
) -> Array | None:
    if tokens is None and utf8_bytes is None:
        return None
    counts = []
    for name, value, other in (("tokens", tokens, "utf8_bytes"), ("utf8_bytes", utf8_bytes, "tokens")):
        if value is None:
            raise ValueError(f"{name} must be given with {other}, for the bits per byte; got None")
        count = per_row(name, _real(name, value), shape)
        assert count is not None
        if bad := count[~((count > 0) & (count < math.inf))].tolist():
            raise ValueError(f"{name} must be finite and greater than 0, got {bad[0]:g}")
        counts.append(count)
    ratio: Array = counts[0] / counts[1]
    return ratio


def interpretation(
    loss: npt.ArrayLike, base: float, tokens: npt.ArrayLike | None, utf8_bytes: npt.ArrayLike | None
) -> Interpretation:
    """Check the arguments of `fastloss.interpret`, and return its result."""
    losses = _losses(loss)
    checked = number("base", base, above=1.0)
    ratio = _tokens_per_byte(tokens, utf8_bytes, losses.shape)
    bits = losses * math.log2(checked)
    with np.errstate(over="ignore", under="ignore"):  # perplexities beyond float64 are infinite
        if checked == math.e:
            probability, perplexity = np.exp(-losses), np.exp(losses)
        else:
            probability, perplexity = np.power(checked, -losses), np.power(checked, losses)
    per_byte = None if ratio is None else bits * ratio
    fields = [None if v is None else np.asarray(v) for v in (probability, perplexity, bits, per_byte)]
    return Interpretation(*(v if v is None or v.ndim else v.item() for v in fields))
