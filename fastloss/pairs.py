"""Losses of pairs and triples of vectors, and of pairs of scores."""

from __future__ import annotations

from typing import Any, Unpack

import numpy.typing as npt

from fastloss._engine.arguments import number
from fastloss._engine.documentation import documented
from fastloss._engine.elementwise import MarginRankingGradients, ranking
from fastloss._engine.fragments import RANKING, VECTORS
from fastloss._engine.options import CommonOfSeveral
from fastloss._engine.pairs import CosineEmbeddingGradients, TripletMarginGradients, cosine, triplet
from fastloss._engine.types import Array, Reduction

__all__ = [
    "CosineEmbeddingGradients",
    "MarginRankingGradients",
    "TripletMarginGradients",
    "cosine_embedding_loss",
    "margin_ranking_loss",
    "triplet_margin_loss",
]


@documented(RANKING, gradients=MarginRankingGradients, domain="-1 or 1")
def margin_ranking_loss(
    input1: npt.ArrayLike,
    input2: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    margin: float = 0.0,
    check_domain: bool = True,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: tuple[Array | None, Array | None] | None = None,
    **common: Unpack[CommonOfSeveral],
) -> Any:
    r"""Hinge loss of the difference of two scores: the better one should score higher by a margin.

    ``loss = max(0, margin - target * (input1 - input2))``

    .. math:: \max(0,\, m - t\, (x_1 - x_2))

    Choose it to learn an order from pairs, if a difference beyond the margin should not count. At the kink
    the gradient is that within the margin, as torch's.

    Parameters
    ----------
    margin : float, default 0.0
        The difference from which on a pair has no loss, any finite number.

    See Also
    --------
    hinge_loss : of one score.
    reward_model_loss : the logistic loss of the difference.

    References
    ----------
    ``torch.nn.functional.margin_ranking_loss``.

    Examples
    --------
    >>> import fastloss
    >>> loss, grads = fastloss.margin_ranking_loss(
    ...     [0.5, 0.5], [0.25, 0.25], [1, -1], margin=0.125, reduction="none", return_grad=True
    ... )
    >>> loss
    array([0.   , 0.375])
    >>> grads.input1, grads.input2
    (array([0., 1.]), array([ 0., -1.]))
    """
    return ranking(
        input1, input2, target, reduction, return_grad, out, common, margin=number("margin", margin),
        check_domain=check_domain,
    )  # fmt: skip


@documented(VECTORS, gradients=CosineEmbeddingGradients, pair="pair", domain="-1 or 1")
def cosine_embedding_loss(
    input1: npt.ArrayLike,
    input2: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    margin: float = 0.0,
    check_domain: bool = True,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: tuple[Array | None, Array | None] | None = None,
    **common: Unpack[CommonOfSeveral],
) -> Any:
    r"""Loss of the cosine of two vectors: near 1 for a pair that belongs together, below a margin for others.

    ``loss = 1 - cos if target == 1 else max(0, cos - margin)``

    .. math:: 1 - c \ \text{for}\ t = 1, \quad \max(0,\, c - m)\ \text{for}\ t = -1, \qquad
        c = \frac{x \cdot y}{\sqrt{(|x|^2 + \epsilon)\, (|y|^2 + \epsilon)}}

    for vectors `x`, `y`, the margin `m` and :math:`\epsilon = 10^{-12}`. Choose it for embeddings whose
    lengths have no meaning, if it is known of each pair whether it belongs together. At the margin the
    gradient is that above it, as torch's.

    Parameters
    ----------
    margin : float, default 0.0
        Cosine up to which a pair that does not belong together has no loss, any finite number.

    See Also
    --------
    info_nce_loss : with all other vectors of the batch as those that do not belong.
    hinge_embedding_loss : from distances.

    References
    ----------
    ``torch.nn.functional.cosine_embedding_loss``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> x, y = np.array([[3.0, 4.0], [3.0, 4.0]]), np.array([[5.0, 0.0], [5.0, 0.0]])
    >>> loss, grads = fastloss.cosine_embedding_loss(x, y, [1, -1], reduction="none", return_grad=True)
    >>> loss.round(4)
    array([0.4, 0.6])
    >>> grads.input1.round(4)
    array([[-0.128,  0.096],
           [ 0.128, -0.096]])
    """
    return cosine(
        input1, input2, target, reduction, return_grad, out, common, margin=margin, check_domain=check_domain
    )


@documented(VECTORS, gradients=TripletMarginGradients, pair="triple")
def triplet_margin_loss(
    anchor: npt.ArrayLike,
    positive: npt.ArrayLike,
    negative: npt.ArrayLike,
    *,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
    **common: Unpack[CommonOfSeveral],
) -> Any:
    r"""Margin loss of triples: the negative should be farther from the anchor than the positive, by a margin.

    ``loss = max(0, margin + D(anchor, positive) - D(anchor, negative))``

    .. math:: \max(0,\, m + D(a, b) - D(a, n)), \qquad
        D(x, y) = \Big(\sum_i |x_i - y_i + \epsilon|^p\Big)^{1/p}

    with anchor `a`, positive `b`, negative `n` and margin `m`. Choose it for embeddings of which only an
    order of distances is known. The distance is that of ``torch.nn.functional.pairwise_distance``. At the
    kinks the gradient is torch's: at the margin it is that within, and a norm of 0 has the gradient 0.

    Parameters
    ----------
    margin : float, default 1.0
        How much farther the negative has to be for a loss of 0, greater than 0.
    p : float, default 2.0
        Exponent of the norm, greater than 0; ``inf`` for the largest difference. 1, 2 and ``inf`` take no
        logarithms and exponentials.
    eps : float, default 1e-6
        Added to each difference, at least 0.
    swap : bool, default False
        Take the distance of the negative from the positive, if that is smaller than that from the anchor.
        Equal ones have half of the gradient each.

    See Also
    --------
    info_nce_loss : with all other vectors of the batch as negatives.

    References
    ----------
    Balntas et al., "Learning local feature descriptors with triplets and shallow convolutional neural
    networks", 2016. ``torch.nn.functional.triplet_margin_loss``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> a, b, n = np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]), np.array([[0.0, 5.0]])
    >>> loss, grads = fastloss.triplet_margin_loss(a, b, n, return_grad=True)
    >>> round(loss, 4)
    1.0
    >>> grads.positive.round(4), grads.negative.round(4)
    (array([[0.6, 0.8]]), array([[ 0., -1.]]))
    """
    return triplet(
        anchor,
        positive,
        negative,
        reduction,
        return_grad,
        out,
        common,
        margin=margin,
        p=p,
        eps=eps,
        swap=swap,
    )
