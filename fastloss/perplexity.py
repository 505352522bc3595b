"""Perplexity, of one batch or of a corpus larger than memory."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy.typing as npt

from fastloss._engine import arguments
from fastloss._engine.rows import row_losses
from fastloss._engine.totals import (
    Key,
    Totals,
    documents_of,
    joined,
    state_of,
    totals_of,
    totals_of_groups,
    totals_of_state,
)

__all__ = ["Perplexity", "perplexity"]


class Perplexity:
    r"""Perplexity of a corpus, batch by batch.

    ``perplexity = exp(mean(-log(p[target])))`` with ``p = softmax(logits)`` of each token

    .. math:: \exp\Big(\frac{1}{N} \sum_{i=1}^{N} -\log p_i(y_i)\Big)

    over all tokens that are not ignored. Choose it for a corpus that is larger than memory or shared among
    processes. The losses are added exactly, as integers: the result has the same bits however the corpus is
    cut into batches, in whatever order these come, and whichever parts are merged. The same holds for the
    totals of each document, if `update` is told which tokens belong to it.

    Two objects can be added, several by ``sum``; ``a += b`` is ``a.merge(b)``.

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
        self._totals = Totals()
        self._documents: dict[Key, Totals] = {}

    def update(
        self,
        logits: npt.ArrayLike,
        target: npt.ArrayLike,
        *,
        by: npt.ArrayLike | None = None,
        num_threads: int | None = None,
    ) -> Perplexity:
        """Add a batch.

        Parameters
        ----------
        logits : array_like with shape (..., V)
            Unnormalised scores of the V tokens of the vocabulary; float16, bfloat16 (of ml_dtypes), float32
            or float64. Lists and integers become float64. Rows may have any strides and are not copied.
        target : array_like of int with shape (...)
            Index of the target token of each row of `logits`.
        by : array_like of int or str with the shape of `target` or of its leading axes, optional
            The document of each token, or of each sequence; a single key is the document of the whole batch.
            The tokens are added to the totals of their documents, too: see `documents`. By default they
            belong to none.
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
        target = arguments.as_array("target", target)
        documents = None if by is None else documents_of(by, target.shape)
        losses, tokens = row_losses(logits, target, ignore_index=self.ignore_index, num_threads=num_threads)
        if documents is None:
            self._totals += totals_of(losses, tokens)
            return self
        keys, groups = documents
        parts = totals_of_groups(losses, target != self.ignore_index, groups, len(keys))
        self._totals += joined(parts)
        self._add_documents(dict(zip(keys, parts, strict=True)))
        return self

    def _add_documents(self, documents: Mapping[Key, Totals]) -> None:
        for key, totals in documents.items():
            known = self._documents.get(key)
            self._documents[key] = totals if known is None else known + totals

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
        self._totals += other._totals
        # A copy, as the other may be this object.
        self._add_documents(dict(other._documents))
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the object holds, for a checkpoint.

        Returns
        -------
        dict
            Its values are integers, strings and lists of these: ``json``, ``pickle`` and ``torch.save`` write
            them, and ``torch.load`` reads them with ``weights_only=True``. For formats whose metadata are
            strings, such as safetensors, write ``json.dumps(state)``. However the corpus was cut up, the
            state is the same.

        See Also
        --------
        load_state_dict : the inverse.
        """
        return state_of(self.ignore_index, self._totals, self._documents)

    def load_state_dict(self, state: Mapping[str, Any]) -> Perplexity:
        """Replace everything that the object holds, `ignore_index` too, by a checkpoint.

        Parameters
        ----------
        state : dict
            The result of `state_dict`.

        Returns
        -------
        Perplexity
            The object itself, so that calls can be chained.

        Raises
        ------
        TypeError
            If a value has a wrong type.
        ValueError
            If a key is missing or unknown, the version is unknown, a count is negative, or the documents
            hold more than the whole. After any of these errors the object is unchanged.
        """
        self.ignore_index, self._totals, self._documents = totals_of_state(state)
        return self

    @property
    def tokens(self) -> int:
        """The number of tokens that count in the batches so far."""
        return self._totals.tokens

    @property
    def mean_loss(self) -> float:
        """The mean cross-entropy of the tokens in nats; NaN before the first token."""
        return self._totals.mean_loss

    @property
    def bits_per_token(self) -> float:
        """The mean cross-entropy of the tokens in bits; NaN before the first token."""
        return self._totals.bits_per_token

    @property
    def documents(self) -> Mapping[Key, Totals]:
        """The totals of each document that a batch named, by its key; a view that cannot be written to.

        Totals have `tokens`, `mean_loss`, `bits_per_token` and `perplexity`, with the meanings that they have
        here. `infinite` and `nan` count the tokens with such losses.
        """
        return MappingProxyType(self._documents)

    def compute(self) -> float:
        """Return the perplexity of all batches so far.

        Returns
        -------
        float
            At least 1. NaN before the first token, infinity if it is too large for float64.
        """
        return self._totals.perplexity

    def __add__(self, other: Perplexity) -> Perplexity:
        return self.__copy__().merge(other) if isinstance(other, Perplexity) else NotImplemented

    def __radd__(self, other: int) -> Perplexity:
        # `sum` begins with 0.
        return self.__copy__() if type(other) is int and other == 0 else NotImplemented

    def __iadd__(self, other: Perplexity) -> Perplexity:
        return self.merge(other) if isinstance(other, Perplexity) else NotImplemented

    def __copy__(self) -> Perplexity:
        return Perplexity(ignore_index=self.ignore_index).merge(self)

    def __repr__(self) -> str:
        number = len(self._documents)
        documents = f", {number} document{'s' if number > 1 else ''}" if number else ""
        return f"Perplexity({self._totals}{documents})"

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
