"""Perplexity, of one batch or of a corpus larger than memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastloss._engine import arguments
from fastloss._engine.rows import row_losses

__all__ = ["Perplexity", "perplexity"]

# Every finite float64 is a whole number of these.
_UNIT_EXPONENT = -1074


def _exact_sum(values: npt.NDArray[np.float64]) -> int:
    """Return the sum of finite float64 numbers, without rounding, in units of 2**-1074.

    Each number is a 53-bit integer times a power of two. The integers of one exponent are added as
    two halves, which cannot overflow, and only these few sums become Python integers.
    """
    fractions, exponents = np.frexp(values)
    mantissas = np.ldexp(fractions, 53).astype(np.int64)
    total = 0
    for exponent in np.unique(exponents):
        chosen = mantissas[exponents == exponent]
        high, low = chosen >> 32, chosen & 0xFFFFFFFF
        whole = (int(high.sum()) << 32) + int(low.sum())
        shift = int(exponent) - 53 - _UNIT_EXPONENT
        total += whole << shift if shift >= 0 else whole >> -shift
    return total


class Perplexity:
    r"""Perplexity of a corpus, batch by batch.

    ``perplexity = exp(mean(-log(p[target])))`` with ``p = softmax(logits)`` of each token

    .. math:: \exp\Big(\frac{1}{N} \sum_{i=1}^{N} -\log p_i(y_i)\Big)

    over all tokens that are not ignored. Choose it for a corpus that is larger than memory or shared among
    processes. The losses are added exactly, as integers: the result has the same bits however the corpus is
    cut into batches, in whatever order these come, and whichever parts are merged.

    Parameters
    ----------
    ignore_index : int, default -100
        Tokens with this target do not count.

    See Also
    --------
    perplexity : the same for a single batch.
    cross_entropy : its logarithm, with the gradient.

    References
    ----------
    Jelinek, Mercer, Bahl and Baker, "Perplexity - a measure of the difficulty of speech recognition
    tasks", J. Acoust. Soc. Am. 62, S63 (1977).

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> logits, target = np.zeros((6, 8), dtype=np.float32), np.arange(6)
    >>> corpus = fastloss.Perplexity()
    >>> round(corpus.update(logits[:4], target[:4]).update(logits[4:], target[4:]).compute(), 12)
    8.0
    >>> corpus.bits_per_token, corpus.tokens
    (3.0, 6)
    """

    def __init__(self, *, ignore_index: int = -100) -> None:
        self.ignore_index = arguments.index("ignore_index", ignore_index)
        self.reset()

    def reset(self) -> None:
        """Remove all batches added so far. The options stay."""
        self._total = 0
        self._tokens = 0
        # How many losses were infinite, and how many NaN: these have no place in an exact sum.
        self._infinite = 0
        self._nan = 0

    def update(
        self, logits: npt.ArrayLike, target: npt.ArrayLike, *, num_threads: int | None = None
    ) -> Perplexity:
        """Add a batch.

        Parameters
        ----------
        logits : array_like with shape (..., V)
            Unnormalised scores of the V tokens of the vocabulary; float16, bfloat16 (of ml_dtypes), float32
            or float64. Lists and integers become float64. Rows may have any strides and are not copied.
        target : array_like of int with shape (...)
            Index of the target token of each row of `logits`.
        num_threads : int, optional
            Number of threads of this call, by default the package setting. Results do not depend on it.

        Returns
        -------
        Perplexity
            The object itself, so that calls can be chained.

        Raises
        ------
        TypeError
            If an argument has a type that cannot be used.
        ValueError
            If a shape or an option is wrong.
        IndexError
            If a target is neither in ``[0, V)`` nor `ignore_index`. After any of these errors nothing has
            been added.
        """
        losses, tokens = row_losses(logits, target, ignore_index=self.ignore_index, num_threads=num_threads)
        finite = np.isfinite(losses)
        whole = bool(finite.all())
        self._total += _exact_sum(losses if whole else losses[finite])
        self._tokens += tokens
        if not whole:
            nan = int(np.isnan(losses).sum())
            self._nan += nan
            self._infinite += int(losses.size - finite.sum()) - nan
        return self

    def merge(self, other: Perplexity) -> Perplexity:
        """Add the batches of another `Perplexity`, such as another process's share of the corpus.

        Parameters
        ----------
        other : Perplexity
            The one to add. It is not changed.

        Returns
        -------
        Perplexity
            The object itself, so that calls can be chained.

        Raises
        ------
        TypeError
            If `other` is not a `Perplexity`.
        ValueError
            If `other` has another `ignore_index`.
        """
        if not isinstance(other, Perplexity):
            raise TypeError(f"other must be a Perplexity, got {type(other).__name__}")
        if other.ignore_index != self.ignore_index:
            raise ValueError(f"other must have ignore_index={self.ignore_index}, got {other.ignore_index}")
        self._total += other._total
        self._tokens += other._tokens
        self._infinite += other._infinite
        self._nan += other._nan
        return self

    @property
    def tokens(self) -> int:
        """The number of tokens that count in the batches so far."""
        return self._tokens

    @property
    def mean_loss(self) -> float:
        """The mean cross-entropy of the tokens in nats; NaN before the first token."""
        if self._tokens == 0 or self._nan:
            return math.nan
        if self._infinite:
            return math.inf
        # Integers of any size are divided with one rounding.
        return self._total / (self._tokens << -_UNIT_EXPONENT)

    @property
    def bits_per_token(self) -> float:
        """The mean cross-entropy of the tokens in bits; NaN before the first token."""
        return self.mean_loss / math.log(2.0)

    def compute(self) -> float:
        """Return the perplexity of all batches so far.

        Returns
        -------
        float
            At least 1. NaN before the first token, infinity if it is too large for float64.
        """
        try:
            return math.exp(self.mean_loss)
        except OverflowError:
            return math.inf

    def __repr__(self) -> str:
        return f"Perplexity({self.compute():.6g} over {self.tokens} tokens)"

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, Perplexity):
            return NotImplemented
        return vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


def perplexity(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    ignore_index: int = -100,
    num_threads: int | None = None,
) -> float:
    r"""Return the perplexity of a batch: the exponential of its mean cross-entropy.

    ``perplexity = exp(cross_entropy(logits, target))``, of the mean over all tokens that are not ignored

    .. math:: \exp\Big(\frac{1}{N} \sum_{i=1}^{N} -\log \mathrm{softmax}(x_i)_{y_i}\Big)

    for rows of logits :math:`x_i` with targets :math:`y_i`. Choose it to evaluate a model. There is no
    gradient; train with `cross_entropy`, its logarithm.

    Parameters
    ----------
    logits : array_like with shape (..., V)
        Unnormalised scores of the V tokens of the vocabulary; float16, bfloat16 (of ml_dtypes), float32 or
        float64. Lists and integers become float64. Rows may have any strides and are not copied.
    target : array_like of int with shape (...)
        Index of the target token of each row of `logits`.
    ignore_index : int, default -100
        Tokens with this target do not count.
    num_threads : int, optional
        Number of threads of this call, by default the package setting. Results do not depend on it.

    Returns
    -------
    float
        At least 1. NaN if no token counts, infinity if it is too large for float64.

    Raises
    ------
    TypeError
        If an argument has a type that cannot be used.
    ValueError
        If a shape or an option is wrong.
    IndexError
        If a target is neither in ``[0, V)`` nor `ignore_index`. The message names the first one.

    See Also
    --------
    Perplexity : over a corpus that comes in batches.

    References
    ----------
    Jelinek, Mercer, Bahl and Baker, "Perplexity - a measure of the difficulty of speech recognition
    tasks", J. Acoust. Soc. Am. 62, S63 (1977).

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> round(fastloss.perplexity(np.zeros((5, 16), dtype=np.float32), np.arange(5)), 12)
    16.0
    """
    counter = Perplexity(ignore_index=ignore_index)
    return counter.update(logits, target, num_threads=num_threads).compute()
