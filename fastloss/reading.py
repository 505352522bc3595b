"""What a loss says in other words."""

from __future__ import annotations

import math

import numpy.typing as npt

from fastloss._engine.interpretation import Interpretation, interpretation

__all__ = ["Interpretation", "interpret"]


def interpret(
    loss: npt.ArrayLike,
    *,
    base: float = math.e,
    tokens: npt.ArrayLike | None = None,
    utf8_bytes: npt.ArrayLike | None = None,
) -> Interpretation:
    r"""Say what a cross-entropy means: probability, perplexity, bits per token and per byte.

    ``probability = base**-loss``, ``perplexity = base**loss``, ``bits_per_token = loss * log2(base)`` and
    ``bits_per_byte = bits_per_token * tokens / utf8_bytes``

    .. math:: p = b^{-L}, \qquad \frac{1}{p} = b^L, \qquad L \log_2 b, \qquad L \log_2 b \cdot \frac{n}{m}

    for a loss `L` with logarithms to the base `b`, and a text of `n` tokens and `m` bytes. Choose it to read
    what `cross_entropy` and `Perplexity` return: ``print(interpret(loss))`` prints a sentence.

    Parameters
    ----------
    loss : float, or array_like of any shape
        Cross-entropy of a token, or the mean of many, at least 0. A mean gives the geometric mean of the
        probabilities. Infinity is the loss of a right token with probability 0. A NaN gives NaN.
    base : float, default 2.718281828459045
        Base of the logarithm of the loss, greater than 1: the default is for losses in nats, which all
        functions of this package return; 2 is for losses in bits.
    tokens : float, or array_like with the shape of `loss`, optional
        Number of tokens of the text that the loss is the mean of. Needs `utf8_bytes`.
    utf8_bytes : float, or array_like with the shape of `loss`, optional
        Length of the same text in UTF-8, ``len(text.encode())``. Needs `tokens`.

    Returns
    -------
    Interpretation
        A named tuple ``(probability, perplexity, bits_per_token, bits_per_byte)`` of floats, or of float64
        arrays with the shape of `loss`. ``bits_per_byte`` is None without `tokens`. ``branching_factor`` is
        another name of ``perplexity``.

    Raises
    ------
    TypeError
        If an argument has a type that cannot be used.
    ValueError
        If a loss is negative (no probability is above 1), if `base` is not greater than 1, if `tokens` or
        `utf8_bytes` is not greater than 0 or is given without the other, or if a shape is wrong.

    See Also
    --------
    Perplexity : the mean loss of a corpus.

    References
    ----------
    Jelinek, Mercer, Bahl and Baker, "Perplexity - a measure of the difficulty of speech recognition tasks",
    J. Acoust. Soc. Am. 62, S63 (1977); bits per byte as in Gao et al., "The Pile", arXiv:2101.00027.

    Examples
    --------
    >>> import fastloss
    >>> print(fastloss.interpret(0.105))  # doctest: +NORMALIZE_WHITESPACE
    A loss of 0.105 nats gives the right token a probability of 90 percent: as uncertain as a choice among
    1.11 equally likely tokens, or 0.151 bits per token.
    >>> fastloss.interpret(3.0, base=2, tokens=1000, utf8_bytes=4000)
    Interpretation(probability=0.125, perplexity=8.0, bits_per_token=3.0, bits_per_byte=0.75)
    """
    return interpretation(loss, base, tokens, utf8_bytes)
