"""Losses of lists: the documents of several queries, ranked within each."""

from __future__ import annotations

from typing import Any, Unpack

import numpy.typing as npt

from fastloss._engine.documentation import documented
from fastloss._engine.fragments import LISTS
from fastloss._engine.lists import lambda_rank, list_net
from fastloss._engine.options import Common
from fastloss._engine.types import Array, Reduction

__all__ = ["lambda_rank_loss", "list_net_loss"]


@documented(LISTS)
def list_net_loss(
    scores: npt.ArrayLike,
    relevance: npt.ArrayLike,
    group_sizes: npt.ArrayLike | None = None,
    *,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Cross-entropy of the softmax of the scores against the softmax of the relevance, for each group.

    ``loss = -(softmax(relevance) * log_softmax(scores)).sum()`` of a group

    .. math::
        -\sum_i t_i \log \frac{e^{s_i}}{\sum_j e^{s_j}}, \qquad t = \mathrm{softmax}(y)

    for the scores `s` and the relevance `y` of a group. Choose it to rank documents by a graded relevance,
    with a convex loss that looks at whole lists: :math:`t` is the probability of each document to be the
    first. It is least, but not 0, where scores are the relevance plus a constant. The gradient is
    ``softmax(scores) - softmax(relevance)``.

    Parameters
    ----------
    scores : array_like with shape (n,)
        A score for each document; |types| Everything is computed in float64. A document at ``-inf`` is
        masked: its probability and gradient are 0, and the loss is infinite unless its relevance is ``-inf``,
        too.
    relevance : array_like with shape (n,)
        The relevance of each document, any number; multiply it to sharpen the target.

    See Also
    --------
    lambda_rank_loss : pairs, weighted by what their exchange changes in NDCG.
    cross_entropy : lists of one length, with any probabilities as target.

    References
    ----------
    Cao et al., "Learning to rank: from pairwise approach to listwise approach", 2007.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> scores, relevance = np.array([1.0, 0.0, 2.0, 0.0, 1.0]), np.array([2, 0, 1, 1, 0])
    >>> loss, grad = fastloss.list_net_loss(scores, relevance, [3, 2], return_grad=True)
    >>> round(loss, 4)
    1.1486
    >>> grad.round(4)
    array([-0.2103,  0.    ,  0.2103, -0.2311,  0.2311])
    """
    return list_net(scores, relevance, group_sizes, reduction, return_grad, out, common)


@documented(
    LISTS,
    outside="if a label is not an integer with a gain (the message names its position), ",
)
def lambda_rank_loss(
    scores: npt.ArrayLike,
    relevance: npt.ArrayLike,
    group_sizes: npt.ArrayLike | None = None,
    *,
    sigmoid: float = 1.0,
    truncation_level: int = 30,
    label_gain: npt.ArrayLike | None = None,
    normalize: bool = True,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Logistic losses of the pairs of a group, each weighted by what its exchange changes in NDCG.

    ``loss = sum(w * log(1 + exp(-sigmoid * (s_better - s_other))))`` over the pairs of a group

    .. math::
        \sum_{i < j} w_{ij} \log(1 + e^{-c D_{ij}}), \qquad
        w_{ij} = \frac{|g_i - g_j|\, |1 / \log_2(i + 2) - 1 / \log_2(j + 2)|}
        {\mathrm{maxDCG}\, (0.01 + |D_{ij}|)}

    for the positions `i` and `j`, from 0 on, of two documents with different labels in the order of their
    scores (equal scores as they came), of which the first is below `truncation_level`; for their gains `g`,
    `c` the `sigmoid`, and `D` the score of the better label minus the other one. Choose it to train for
    NDCG: pairs at the head of a list count most.

    Gradient and second derivative are those of LightGBM's ``lambdarank``, in which the weights are held
    constant. So the gradient is that of the value for the weights at these scores, and not the slope of the
    value, whose weights change with the scores; the value may be compared only roughly from step to step.

    Parameters
    ----------
    scores : array_like with shape (n,)
        A score for each document; |types| Everything is computed in float64. A document at ``-inf`` takes no
        part.
    relevance : array_like with shape (n,)
        The label of each document: an integer (of any type) with a gain in `label_gain`.
    sigmoid : float, default 1.0
        Steepness `c` of the logistic loss, greater than 0.
    truncation_level : int, default 30
        How many documents at the head of a list are compared with all others behind them, at least 1;
        maxDCG is the largest DCG of as many.
    label_gain : array_like with shape (labels,), optional
        The gain of each label, at least 0 and not decreasing. By default ``2**label - 1``, for labels up to
        30.
    normalize : bool, default True
        Divide the weight of a pair by 0.01 plus the distance of its scores (unless all scores of the group
        are equal), and multiply value and derivatives of a group by ``log2(1 + S) / S``, where `S` is the sum
        of the sizes of the pairs' gradients at both documents: groups with many pairs then do not dominate.
        It is ``lambdarank_norm`` of LightGBM.

    See Also
    --------
    list_net_loss : a convex loss of whole lists.

    Notes
    -----
    LightGBM takes the sigmoid from a table with an error of up to 1.2e-5, and adds up in float32; here it is
    exact. It refuses groups of more than 10,000 documents, which may have any length here.

    References
    ----------
    Burges, "From RankNet to LambdaRank to LambdaMART: an overview", 2010; ``lambdarank`` of LightGBM, its
    parameters ``sigmoid``, ``lambdarank_truncation_level``, ``label_gain`` and ``lambdarank_norm``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> scores, relevance = np.array([1.0, 0.0, 2.0, 0.0, 1.0]), np.array([2, 0, 1, 1, 0])
    >>> loss, grad = fastloss.lambda_rank_loss(scores, relevance, [3, 2], return_grad=True)
    >>> round(loss, 4)
    0.4656
    >>> grad.round(4)
    array([-0.1081,  0.0227,  0.0854, -0.1544,  0.1544])
    """
    return lambda_rank(
        scores, relevance, group_sizes, reduction, return_grad, return_hessian, out, common, sigmoid=sigmoid,
        truncation_level=truncation_level, label_gain=label_gain, normalize=normalize,
    )  # fmt: skip
