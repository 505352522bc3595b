"""Losses of a linear layer, whose logits are computed in chunks and never exist all at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import numpy.typing as npt

from fastloss._engine.adaptive import AdaptiveGradients, adaptive_loss
from fastloss._engine.chunks import LinearGradients
from fastloss._engine.documentation import documented
from fastloss._engine.fragments import ADAPTIVE, LINEAR
from fastloss._engine.linear import linear_loss, linear_statistics
from fastloss._engine.options import CommonOfSeveral, RowOptionsOfSeveral
from fastloss._engine.statistics import TokenStatistics
from fastloss._engine.types import Array, Reduction

__all__ = [
    "AdaptiveGradients",
    "LinearGradients",
    "adaptive_log_softmax_with_loss",
    "linear_cross_entropy",
    "linear_token_log_probs",
    "linear_token_statistics",
]


@documented(
    LINEAR,
    gradients=LinearGradients,
    mean="the sum, over the tokens that are not ignored, of class weight times sample weight; for "
    "probabilities by the number of tokens, or the sum of their sample weights",
    unreduced="the loss of each token",
    of_nothing="The mean over no tokens is NaN, their sum is 0.",
)
def linear_cross_entropy(
    input: npt.ArrayLike,
    linear_weight: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    linear_bias: npt.ArrayLike | None = None,
    weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    sample_weight: npt.ArrayLike | None = None,
    filter_eps: float = 0.0,
    memory_budget: int | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
    **options: Unpack[RowOptionsOfSeveral],
) -> Any:
    r"""Cross-entropy of a linear layer's logits, which are computed in chunks.

    ``loss = cross_entropy(input @ linear_weight.T + linear_bias, target)``

    .. math:: \mathrm{cross\_entropy}(X W^\top + b,\ y)

    with the rows :math:`x_i` of `X` as inputs, logits :math:`z_i = W x_i + b`, and the options of
    `cross_entropy`. Choose it if there are many classes: for `N` tokens, width `D` and `V` classes, the
    logits and their gradient would be ``(N, V)`` arrays. Here they are computed for some tokens at a time, in
    one buffer. Ignored tokens are left out of the products. The products are those of NumPy's BLAS, with its
    threads (for training loops see "Settings" in the README). With the gradient `g` of the logits, the
    gradients are ``g @ linear_weight``, ``g.T @ input`` and ``g.sum(axis=0)``.

    Parameters
    ----------
    target : array_like with shape (...) or (..., V)
        Class index of each token, of any integer type; or probabilities of the classes, of a floating type.
    ignore_index : int, default -100
        Tokens with this target have loss and gradient 0, and are not read. With probabilities it must be
        negative.
    filter_eps : float, default 0.0
        Threshold between 0 and 1 for approximate gradients; 0 computes exact ones. In each chunk, the
        products for the gradients of `input` and `linear_weight` leave out the classes whose logits all have
        a gradient below it. The unit is the smallest weight of a token in the chunk; without weights,
        `filter_eps` is a probability. The error of a token's gradient is less than `filter_eps`, in that
        unit, times the sum of the absolute rows of `linear_weight` that are left out. The loss and the
        gradient of the bias stay exact. The filter takes memory of its own: up to half of a chunk's logits
        and of `linear_weight`.

    See Also
    --------
    cross_entropy : from logits.
    linear_token_log_probs : the log-probability of each target.
    adaptive_log_softmax_with_loss : with small layers for rare classes.

    Notes
    -----
    The gain of `filter_eps` depends on how few classes matter in a chunk. With 32,000 classes and 1,024
    tokens (float32, value and gradients): if a twentieth of the classes are in use at all, 1e-6 takes 0.5 of
    the time and costs no digit; with classes as frequent as words (Zipf), 2**-12 keeps 46 % of them, takes
    0.9 of the time, and gradients are off by 5e-3 of their largest entry. In a small trained model of 4,704
    words it keeps 94 % and gains nothing; there 1e-2 keeps 18 %, takes 0.66 of the time, and is off by 7e-2.
    The search for the classes costs 6 %.

    References
    ----------
    ``torch.nn.functional.linear_cross_entropy``. Wijmans et al., "Cut your losses in large-vocabulary
    language models", 2025, for `filter_eps`.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> rng = np.random.default_rng(0)
    >>> hidden, weight = rng.standard_normal((4, 3)), rng.standard_normal((10, 3))
    >>> loss, grad = fastloss.linear_cross_entropy(hidden, weight, [1, 7, -100, 2], return_grad=True)
    >>> round(loss, 4)
    3.3617
    >>> grad.input.shape, grad.linear_weight.shape, grad.linear_bias
    ((4, 3), (10, 3), None)

    Micro-batches write their own rows of the gradient of `input`, and add to that of `linear_weight`:

    >>> target, total = np.array([1, 7, -100, 2]), 3
    >>> grad_hidden, grad_weight = np.empty_like(hidden), np.zeros_like(weight)
    >>> for rows in (slice(0, 2), slice(2, 4)):
    ...     loss, _ = fastloss.linear_cross_entropy(
    ...         hidden[rows], weight, target[rows], reduction="sum", return_grad=True,
    ...         grad_output=1.0 / total, out=(grad_hidden[rows], grad_weight, None),
    ...         accumulate=(False, True, False),
    ...     )
    >>> np.allclose(grad_hidden, grad.input), np.allclose(grad_weight, grad.linear_weight)
    (True, True)
    """
    return linear_loss(
        input, linear_weight, target, reduction, return_grad, out, options, linear_bias=linear_bias,
        weight=weight, ignore_index=ignore_index, sample_weight=sample_weight, filter_eps=filter_eps,
        memory_budget=memory_budget,
    )  # fmt: skip


@documented(
    LINEAR,
    gradients=LinearGradients,
    mean="the number of tokens that are not ignored",
    unreduced="the log-probability of each token",
    result="log_probs",
    of_nothing="The mean over no tokens is NaN, their sum is 0.",
)
def linear_token_log_probs(
    input: npt.ArrayLike,
    linear_weight: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    linear_bias: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    temperature: float = 1.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    memory_budget: int | None = None,
    reduction: Reduction = "none",
    return_grad: bool = False,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
    **common: Unpack[CommonOfSeveral],
) -> Any:
    r"""Log-probability of each target under a linear layer's logits, which are computed in chunks.

    ``log_probs = token_log_probs(input @ linear_weight.T + linear_bias, target)``

    .. math:: z_{i y_i} - \log \sum_j e^{z_{ij}}, \qquad z_i = \mathrm{softcap}(s\,(W x_i + b)) / T

    for token `i` with class :math:`y_i` and the `logit_scale` `s`. Choose it for preference and policy losses
    with many classes: pass their gradient as `grad_output` for that of the layer. Gradients are those of the
    log-probabilities, not of their negatives.

    Parameters
    ----------
    ignore_index : int, default -100
        Tokens with this target have log-probability and gradient 0, and are not read.

    See Also
    --------
    linear_cross_entropy : their negative mean.
    token_log_probs : from logits.
    linear_token_statistics : with entropy and more.

    References
    ----------
    ``torch.nn.functional.linear_cross_entropy``, of which it is the negative; the ``logps`` of TRL.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> hidden, weight = np.array([[1.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 0.0]])
    >>> fastloss.linear_token_log_probs(hidden, weight, [0]).round(4)
    array([-0.1269])
    """
    return linear_loss(
        input, linear_weight, target, reduction, return_grad, out, common, linear_bias=linear_bias,
        ignore_index=ignore_index, sign=-1.0, memory_budget=memory_budget,
        own={"temperature": temperature, "softcap": softcap, "logit_scale": logit_scale},
    )  # fmt: skip


@documented(
    LINEAR,
    gradients=LinearGradients,
    returns=TokenStatistics,
    result="statistics",
    unreduced="the value of each token",
)
def linear_token_statistics(
    input: npt.ArrayLike,
    linear_weight: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    linear_bias: npt.ArrayLike | None = None,
    outputs: tuple[str, ...] = ("log_probs", "entropy"),
    ignore_index: int = -100,
    temperature: float = 1.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    memory_budget: int | None = None,
    return_grad: bool = False,
    grad_output: tuple[npt.ArrayLike | None, npt.ArrayLike | None] | None = None,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
    accumulate: bool | tuple[bool, ...] = False,
    num_threads: int | None = None,
) -> Any:
    r"""Log-probability of each target under a linear layer, and statistics of its logits, in chunks.

    ``statistics = token_statistics(input @ linear_weight.T + linear_bias, target)``

    .. math:: \log p_{i y_i}, \quad -\sum_j p_{ij} \log p_{ij}, \quad \ldots, \qquad
       p_i = \mathrm{softmax}(\mathrm{softcap}(s\,(W x_i + b)) / T)

    for token `i` with class :math:`y_i` and the `logit_scale` `s`; `token_statistics` has the other formulas.
    Choose it in the place of `linear_token_log_probs` where a trainer also needs the entropy, as a bonus or
    to be logged, or more of the logits. All statistics come from the same products. Ignored tokens are left
    out of these.

    Parameters
    ----------
    outputs : tuple of str, default ("log_probs", "entropy")
        The statistics to return: any of the fields of the result.
    ignore_index : int, default -100
        Tokens with this target have statistics 0 (False) and gradient 0, and are not read.
    return_grad : bool, default False
        Also return the gradients with respect to `input`, `linear_weight` and `linear_bias` of ``log_probs``
        and ``entropy`` together, of those that `outputs` names; it must name one of them.
    grad_output : tuple of two, each a scalar or array_like with shape (...) or None, optional
        The upstream gradients of ``log_probs`` and of ``entropy``, None for one that has none. By default 1
        for each of them that `outputs` names. Needs `return_grad`.

    Returns
    -------
    statistics : TokenStatistics
        A named tuple ``(log_probs, entropy, logsumexp, log_sum_sq_probs, mean_logits, is_top1)`` of arrays
        with shape (...): of bool for ``is_top1``, else of the dtype of `input`, float32 for half types. A
        statistic that `outputs` does not name is None.

    See Also
    --------
    token_statistics : from logits.
    linear_token_log_probs : the first alone, with reductions.

    References
    ----------
    The chunked log-probabilities of TRL, with entropy and the first maximum.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> hidden, weight = np.array([[1.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 0.0]])
    >>> found = fastloss.linear_token_statistics(hidden, weight, [0])
    >>> found.log_probs.round(4), found.entropy.round(4)
    (array([-0.1269]), array([0.3653]))
    """
    return linear_statistics(
        input, linear_weight, target, return_grad, grad_output, out,
        {"accumulate": accumulate, "num_threads": num_threads}, linear_bias=linear_bias, outputs=outputs,
        ignore_index=ignore_index, memory_budget=memory_budget,
        own={"temperature": temperature, "softcap": softcap, "logit_scale": logit_scale},
    )  # fmt: skip


@documented(
    ADAPTIVE,
    gradients=AdaptiveGradients,
    mean="the number of rows that are not ignored",
    unreduced="the loss of each row",
    of_nothing="The mean over no rows is NaN, their sum is 0.",
)
def adaptive_log_softmax_with_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    head_weight: npt.ArrayLike,
    tail_weights: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    head_bias: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    memory_budget: int | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: tuple[Array | None, Array | None, Array | None, tuple[tuple[Array | None, Array | None], ...] | None]
    | None = None,
    **common: Unpack[CommonOfSeveral],
) -> Any:
    r"""Cross-entropy of the adaptive softmax, whose rare classes share clusters of small layers.

    ``loss = -log(softmax(head_weight @ x + head_bias)[entry])``, and for a class of a cluster that
    ``- log(softmax(weight @ projection @ x)[class])``

    .. math::
        -\log p_{\mathrm{head}}(y) \ \text{ for a class of the head}, \qquad
        -\log p_{\mathrm{head}}(k) - \log p_k(y) \ \text{ for a class of cluster } k

    with :math:`p_{\mathrm{head}} = \mathrm{softmax}(W x + b)` over the classes of the head and the clusters,
    and :math:`p_k = \mathrm{softmax}(W_k P_k x)` over the classes of cluster `k`. Choose it if there are many
    classes, sorted by decreasing frequency: most rows then need the head alone. A cluster's logits are
    computed for its own rows, in chunks. The shapes say what torch calls ``cutoffs``: the first is the number
    of classes of the head, and each cluster's number of classes leads to the next. Torch's ``output``, the
    log-probability of each target, is the negative of the losses of ``reduction="none"``.

    See Also
    --------
    linear_cross_entropy : with one layer for all classes.

    References
    ----------
    Grave et al., "Efficient softmax approximation for GPUs", 2017; ``torch.nn.AdaptiveLogSoftmaxWithLoss``.

    Examples
    --------
    Two classes in the head, and two clusters of three and of five classes:

    >>> import numpy as np, fastloss
    >>> rng = np.random.default_rng(0)
    >>> hidden, head = rng.standard_normal((4, 6)), rng.standard_normal((2 + 2, 6))
    >>> tails = [
    ...     (rng.standard_normal((3, 6)), rng.standard_normal((3, 3))),
    ...     (rng.standard_normal((2, 6)), rng.standard_normal((5, 2))),
    ... ]
    >>> loss, grad = fastloss.adaptive_log_softmax_with_loss(
    ...     hidden, [0, 1, 4, 9], head, tails, return_grad=True
    ... )
    >>> round(loss, 4)
    8.3753
    >>> grad.head_weight.shape, [weight.shape for pair in grad.tail_weights for weight in pair]
    ((4, 6), [(3, 6), (3, 3), (2, 6), (5, 2)])
    """
    return adaptive_loss(
        input, target, head_weight, tail_weights, reduction, return_grad, out, common, head_bias=head_bias,
        ignore_index=ignore_index, memory_budget=memory_budget,
    )  # fmt: skip
