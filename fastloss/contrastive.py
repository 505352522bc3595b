"""Contrastive losses of two sets of vectors, whose similarities are computed in chunks."""

from __future__ import annotations

from typing import Any, Unpack

import numpy.typing as npt

from fastloss._engine.contrastive import InfoNCEGradients, SigLIPGradients, info_nce, siglip
from fastloss._engine.documentation import documented
from fastloss._engine.fragments import CONTRASTIVE
from fastloss._engine.options import CommonOfSeveral
from fastloss._engine.types import Array, Reduction

__all__ = [
    "InfoNCEGradients",
    "SigLIPGradients",
    "info_nce_loss",
    "siglip_loss",
]


@documented(
    CONTRASTIVE, gradients=InfoNCEGradients, numbers="the temperature", places="the temperature's place"
)
def info_nce_loss(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    *,
    target: npt.ArrayLike | None = None,
    temperature: float = 0.05,
    symmetric: bool = False,
    normalize: bool = True,
    memory_budget: int | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: tuple[Array | None, Array | None, None] | None = None,
    **common: Unpack[CommonOfSeveral],
) -> Any:
    r"""Cross-entropy of finding the key of each query among all keys, by cosine similarity.

    ``loss = cross_entropy(unit(query) @ unit(key).T / temperature, target)``

    .. math::
        -\log \frac{e^{s_{i y_i} / T}}{\sum_j e^{s_{ij} / T}}, \qquad
        s_{ij} = \frac{q_i \cdot k_j}{|q_i|\, |k_j|}

    for query `i`, whose key is :math:`y_i`, and the temperature `T`. Choose it to train embeddings on pairs
    that belong together: all other keys of the batch are negatives. Keys beyond the pairs are further (hard)
    negatives. The similarities, an ``(N, M)`` array, are computed for some queries at a time, in one buffer.

    Parameters
    ----------
    key : array_like with shape (M, D)
        The vectors to choose from, of the dtype of `query`. Without `target` row `i` belongs to row `i` of
        `query`, which must not have more rows.
    target : array_like of int with shape (N,), optional
        The row of `key` that belongs to each query, of any integer type; by default `i` for query `i`.
    temperature : float, default 0.05
        Divisor of the similarities, greater than 0. It is the reciprocal of a scale.
    symmetric : bool, default False
        Also choose the query of each key: the loss of index `i` is the mean of both directions, as in CLIP.
        There must be as many keys as queries, and no `target`.
    normalize : bool, default True
        Divide each vector by its length, or by 1e-12 if it is shorter, as
        ``torch.nn.functional.normalize`` does. Otherwise similarities are plain dot products.

    Raises
    ------
    IndexError
        If a target is not in ``[0, M)``. The message names the first one. Nothing has been written to `out`
        then.

    See Also
    --------
    siglip_loss : each pair by itself, without a sum over all keys.
    linear_cross_entropy : with keys that are a layer.

    Notes
    -----
    Value and gradients take three matrix products, the value alone one. With `symmetric` they take four,
    because the similarities are computed again when the sums over all queries are known; what the last chunk
    holds is not computed again, so that three remain if all similarities fit in `memory_budget`.

    References
    ----------
    van den Oord, Li and Vinyals, "Representation learning with contrastive predictive coding", 2018; Radford
    et al., "Learning transferable visual models from natural language supervision", 2021, for `symmetric`.
    ``MultipleNegativesRankingLoss(scale=1 / temperature)`` of sentence-transformers.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> query, key = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[3.0, 0.0], [3.0, 4.0]])
    >>> loss, grad = fastloss.info_nce_loss(query, key, temperature=0.5, return_grad=True)
    >>> round(loss, 4), round(grad.temperature, 4)
    (0.2775, 0.5168)
    >>> grad.query.round(4)
    array([[0.    , 0.248 ],
           [0.0336, 0.    ]])
    """
    return info_nce(
        query, key, reduction, return_grad, out, common, target=target, temperature=temperature,
        symmetric=symmetric, normalize=normalize, memory_budget=memory_budget,
    )  # fmt: skip


@documented(CONTRASTIVE, gradients=SigLIPGradients, numbers="`scale` and `bias`", places="the places of both")
def siglip_loss(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    *,
    scale: float,
    bias: float,
    memory_budget: int | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: tuple[Array | None, Array | None, None, None] | None = None,
    **common: Unpack[CommonOfSeveral],
) -> Any:
    r"""Logistic loss of every pair of a query and a key, of which the pairs `(i, i)` belong together.

    ``loss = -log_sigmoid(labels * (scale * query @ key.T + bias)).sum(axis=1)``, labels 1 or -1

    .. math:: \sum_j \log(1 + e^{-l_{ij} (t\, q_i \cdot k_j + b)})

    for query `i`, with :math:`l_{ij} = 1` if `j = i`, else -1, the `scale` `t` and the `bias` `b`. Choose it
    where the softmax of `info_nce_loss` would need all keys of a larger batch at once: here pairs do not
    depend on each other, so that parts of a batch add up. Vectors are usually of length 1; they are taken as
    they are. The similarities, an ``(N, M)`` array, are computed for some queries at a time, in one buffer.

    Parameters
    ----------
    key : array_like with shape (M, D)
        The vectors of the other side, of the dtype of `query`, at least as many. Rows beyond those of `query`
        belong to none.
    scale : float
        Factor of the dot products, greater than 0. Training usually begins at 10.
    bias : float
        Added to the scaled dot products. Training usually begins at -10, as most pairs do not belong
        together.

    See Also
    --------
    info_nce_loss : the softmax over all keys.

    Notes
    -----
    Value and gradients take three matrix products, the value alone one.

    References
    ----------
    Zhai et al., "Sigmoid loss for language image pre-training", 2023.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> query, key = np.eye(2), np.array([[0.6, 0.8], [0.0, 1.0]])
    >>> loss, grad = fastloss.siglip_loss(query, key, scale=10.0, bias=-5.0, return_grad=True)
    >>> round(loss, 4), round(grad.scale, 4), round(grad.bias, 4)
    (1.6876, 0.297, 0.3418)
    """
    return siglip(
        query, key, reduction, return_grad, out, common, scale=scale, bias=bias, memory_budget=memory_budget
    )
