"""Log-probabilities and entropies of sequences of tokens, straight from logits."""

from __future__ import annotations

from typing import Any, Unpack

import numpy.typing as npt

from fastloss._engine.documentation import documented
from fastloss._engine.fragments import ROWS
from fastloss._engine.options import Common
from fastloss._engine.rows import cross_entropy_rows, entropy_of_rows, row_loss, sequence_loss
from fastloss._engine.statistics import TokenStatistics, statistics_of_rows
from fastloss._engine.types import Array, Reduction

__all__ = [
    "TokenStatistics",
    "entropy",
    "sequence_log_probs",
    "token_log_probs",
    "token_statistics",
]


@documented(
    ROWS,
    mean="the number of tokens that are not ignored",
    unreduced="the log-probability of each token",
    result="log_probs",
)
def token_log_probs(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    ignore_index: int = -100,
    temperature: float = 1.0,
    reduction: Reduction = "none",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Log-probability of each target token.

    ``log_probs = z[target] - log(sum(exp(z)))`` for each row, with ``z = logits / temperature``

    .. math:: z_y - \log \sum_j e^{z_j}, \qquad z = x / T

    for a row of logits `x` with class `y`. It is minus the `cross_entropy` of each row; log-probabilities of
    other classes are not stored. Preference and policy losses are functions of it: pass their gradient as
    `grad_output` for that of the logits. The gradient is ``(one_hot(target) - softmax(z)) / temperature``.

    Parameters
    ----------
    ignore_index : int, default -100
        Tokens with this target have log-probability and gradient 0, and are not read.
    temperature : float, default 1.0
        Divisor of the logits, greater than 0.

    See Also
    --------
    sequence_log_probs : their sums over sequences.
    linear_token_log_probs : the same from a linear layer, without stored logits.
    token_statistics : with entropy, log-sum-exp and more in one pass.

    References
    ----------
    ``trl.trainer.utils.selective_log_softmax``; ``torch.log_softmax`` and ``gather``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> logits = np.log([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    >>> fastloss.token_log_probs(logits, [0, 1]).round(4)
    array([-0.6931, -0.2231])
    """
    return row_loss(
        cross_entropy_rows, "logits", logits, axis, target, reduction, return_grad, out, common,
        ignore_index=ignore_index, own={"temperature": temperature}, sign=-1.0,
    )  # fmt: skip


@documented(
    ROWS,
    mean="the number of sequences",
    unreduced="the log-probability of each sequence",
    result="log_probs",
    of_nothing=(
        "A sequence without tokens that count has log-probability 0. The mean over no sequences is NaN, "
        "their sum is 0."
    ),
    outside="if `mask` and `lengths` are both given, if `mask` holds other numbers than 0 and 1, if a length "
    "is not between 0 and T, ",
)
def sequence_log_probs(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    mask: npt.ArrayLike | None = None,
    lengths: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    average: bool = False,
    temperature: float = 1.0,
    reduction: Reduction = "none",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Log-probability of each sequence of target tokens.

    ``log_probs = sum(z[t, target[t]] - log(sum(exp(z[t]))) for t in counted)``, with
    ``z = logits / temperature``

    .. math:: \sum_t m_t \Big(z_{t y_t} - \log \sum_j e^{z_{tj}}\Big), \qquad z_t = x_t / T

    for a sequence with logits :math:`x_t`, classes :math:`y_t` and mask `m`. Nothing is shifted: the logits
    at `t` are those for the target at `t`. Preference losses are functions of it: pass their gradient as
    `grad_output` for that of the logits. The gradient at `t` is ``one_hot(target) - softmax(z)``, divided
    by the temperature, and with `average` by the number of tokens that count.

    Parameters
    ----------
    logits : array_like with shape (..., T, C)
        Unnormalised scores; |types| Rows may have any strides and are not copied. Logits of tokens that do
        not count are not read, and their gradient is 0. A class at ``-inf`` is masked: its probability and
        gradient are 0.
    target : array_like of int with shape (..., T)
        Class index of each token, of any integer type. Targets of tokens that do not count may have any
        value.
    mask : array_like of bool, or of 0 and 1, with shape (..., T), optional
        Tokens that count; by default all.
    lengths : array_like of int with shape (...), optional
        Number of tokens that count in each sequence, from its first one on. An alternative to `mask`.
    ignore_index : int, default -100
        Tokens with this target do not count.
    average : bool, default False
        Divide the sum of each sequence by the number of its tokens that count.
    temperature : float, default 1.0
        Divisor of the logits, greater than 0.

    Raises
    ------
    IndexError
        If the target of a token that counts is not in ``[0, C)``. The message names the first one. Nothing
        has been written to `out` then.

    See Also
    --------
    token_log_probs : the log-probability of each token.

    References
    ----------
    The ``logps`` of TRL's DPO trainer; with `average` those of its CPO and ORPO trainers.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> logits = np.log([[[0.5, 0.5], [0.25, 0.75], [0.1, 0.9]]])
    >>> fastloss.sequence_log_probs(logits, [[0, 1, 0]], lengths=[2]).round(4)
    array([-0.9808])
    """
    return sequence_loss(
        logits, target, reduction, return_grad, out, common, mask=mask, lengths=lengths,
        ignore_index=ignore_index, average=average, temperature=temperature,
    )  # fmt: skip


@documented(
    ROWS,
    mean="the number of rows",
    unreduced="the entropy of each row",
    result="entropy",
    of_nothing=(
        "A row with a NaN, with ``+inf``, or with nothing but ``-inf`` is NaN. The mean over no rows is NaN, "
        "their sum is 0."
    ),
)
def entropy(
    logits: npt.ArrayLike,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    reduction: Reduction = "none",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Entropy of softmax(logits), in nats.

    ``entropy = -sum(p * log(p))`` for each row, with ``p = softmax(logits / temperature)``

    .. math:: -\sum_j p_j \log p_j, \qquad p = \mathrm{softmax}(x / T)

    for a row of logits `x`. It measures the uncertainty of a model: 0 if one class has all of the
    probability, ``log(C)`` if all classes have the same. An entropy bonus adds it to the objective of a
    policy. The gradient is ``-p * (log(p) + entropy) / temperature``.

    Parameters
    ----------
    temperature : float, default 1.0
        Divisor of the logits, greater than 0.

    Raises
    ------
    IndexError
        If `axis` is out of range (`numpy.exceptions.AxisError`, which is also a ValueError).

    See Also
    --------
    cross_entropy : against a target.

    References
    ----------
    ``torch.distributions.Categorical.entropy``, ``trl.trainer.utils.entropy_from_logits``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> [f"{value:.4g}" for value in fastloss.entropy(np.array([[0.0, 0.0], [0.0, 40.0]]))]
    ['0.6931', '1.742e-16']
    """
    return entropy_of_rows(logits, axis, temperature, reduction, return_grad, out, common)


@documented(ROWS, returns=TokenStatistics, result="statistics", unreduced="the value of each token")
def token_statistics(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    outputs: tuple[str, ...] = ("log_probs", "entropy"),
    ignore_index: int = -100,
    temperature: float = 1.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    return_grad: bool = False,
    grad_output: tuple[npt.ArrayLike | None, npt.ArrayLike | None] | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Log-probability of each target token, and statistics of its logits, in one pass.

    ``log_probs = log(p[target])``, ``entropy = -sum(p * log(p))``, ``logsumexp = log(sum(exp(z)))``,
    ``log_sum_sq_probs = log(sum(p**2))``, ``mean_logits = mean(z)``, ``is_top1 = argmax(z) == target`` for
    each row, with ``z = softcap * tanh(logit_scale * logits / softcap) / temperature`` and ``p = softmax(z)``

    .. math:: \log p_y, \quad -\sum_j p_j \log p_j, \quad \log \sum_j e^{z_j}, \quad \log \sum_j p_j^2,
       \quad \frac{1}{C} \sum_j z_j, \quad y = \min \arg\max_j z_j

    for a row `z` of `C` classes with the target `y`; of several maxima the first counts. These are what a
    trainer of language models logs and optimises. A row is read once for all of them. They are not reduced.
    The gradient is that of the sum of ``log_probs`` and ``entropy``, each times its upstream gradient, in one
    pass: ``[j = y] - p[j]`` and ``-p[j] * (log(p[j]) + entropy)`` with respect to ``z[j]``.

    Parameters
    ----------
    outputs : tuple of str, default ("log_probs", "entropy")
        The statistics to return: any of the fields of the result.
    ignore_index : int, default -100
        Tokens with this target have statistics 0 (False) and gradient 0, and are not read.
    return_grad : bool, default False
        Also return the gradient with respect to `logits` of ``log_probs`` and ``entropy`` together, of those
        that `outputs` names; it must name one of them.
    grad_output : tuple of two, each a scalar or array_like with shape (...) or None, optional
        The upstream gradients of ``log_probs`` and of ``entropy``, None for one that has none. By default 1
        for each of them that `outputs` names. Needs `return_grad`.

    Returns
    -------
    statistics : TokenStatistics
        A named tuple ``(log_probs, entropy, logsumexp, log_sum_sq_probs, mean_logits, is_top1)`` of arrays
        with shape (...): of bool for ``is_top1``, else of the dtype of `logits`, float32 for half types. A
        statistic that `outputs` does not name is None. A row with a NaN has NaN, and False. In float32 the
        largest error is 1e-6 or, of values above 1, a millionth; a nearly certain row, whose entropy is
        nearly 0, keeps its digits.

    See Also
    --------
    linear_token_statistics : the same from a linear layer, without stored logits.
    token_log_probs : the first alone, with reductions.
    entropy : the second alone.

    References
    ----------
    The outputs of the chunked log-probabilities of TRL; ``trl.trainer.utils.entropy_from_logits``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> logits = np.log([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    >>> found = fastloss.token_statistics(logits, [0, 2], outputs=("log_probs", "entropy", "is_top1"))
    >>> found.log_probs.round(4), found.entropy.round(4), found.is_top1
    (array([-0.6931, -2.3026]), array([1.0397, 0.639 ]), array([ True, False]))
    >>> found, grad = fastloss.token_statistics(
    ...     logits, [0, 2], return_grad=True, grad_output=(np.array([1.0, -1.0]), 0.01)
    ... )
    >>> grad.shape
    (2, 3)
    """
    return statistics_of_rows(
        logits, target, return_grad, grad_output, out,
        {"accumulate": accumulate, "num_threads": num_threads},
        axis=axis, outputs=outputs, ignore_index=ignore_index,
        own={"temperature": temperature, "softcap": softcap, "logit_scale": logit_scale},
    )  # fmt: skip
