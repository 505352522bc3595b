"""The softmax family: cross-entropy, negative log-likelihood, softmax, log-softmax, log-sum-exp.

The formulas and their gradients are derived at the head of ``src/softmax.h``.
"""

from __future__ import annotations

from typing import Any, Unpack

import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine.arguments import number
from fastloss._engine.documentation import documented
from fastloss._engine.fragments import ROWS, TRANSFORMS
from fastloss._engine.options import Common, RowOptions
from fastloss._engine.rows import (
    cross_entropy_rows,
    focal_loss,
    focused_loss,
    multilabel_margin,
    normalised,
    row_loss,
    sums_of_exponentials,
)
from fastloss._engine.settings import get_num_threads
from fastloss._engine.types import Array, Reduction

__all__ = [
    "cross_entropy",
    "generalized_cross_entropy",
    "log_softmax",
    "logsumexp",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "nll_loss",
    "poly_loss",
    "softmax",
    "softmax_focal_loss",
    "sparsemax_loss",
]


@documented(
    ROWS,
    mean="the sum, over the rows that are not ignored, of class weight times sample weight; with "
    "probabilities by the number of rows, or by the sum of their sample weights",
)
def cross_entropy(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    sample_weight: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **options: Unpack[RowOptions],
) -> Any:
    r"""Cross-entropy of softmax(logits) against class indices or probabilities.

    ``loss = sample_weight * weight[target] * (logsumexp(logits) - logits[target])`` for a row, without
    further options. In general a row of logits `x` becomes :math:`z = u / T` with the temperature `T`, where
    :math:`u = c \tanh(a x / c)` with a softcap `c`, else :math:`u = a x`, and `a` is the `logit_scale`. With
    :math:`\mathrm{lse} = \log \sum_j e^{z_j}`, class weights `w`, sample weight `s`, label smoothing
    :math:`\varepsilon`, z-loss factor :math:`\lambda` and `C` classes, the first formula is the loss of a row
    with class `y`, the second that of a row with probabilities `q`:

    .. math::

        s\Big[(1 - \varepsilon)\, w_y (\mathrm{lse} - z_y)
        + \frac{\varepsilon}{C} \sum_j w_j (\mathrm{lse} - z_j)
        + w_y \lambda\, \mathrm{lse}^2\Big]

        s\Big[\sum_j w_j \big((1 - \varepsilon) q_j + \tfrac{\varepsilon}{C}\big) (\mathrm{lse} - z_j)
        + \lambda\, \mathrm{lse}^2\Big]

    The usual loss for one class out of several, and for the tokens of a language model. It contains the
    softmax: pass logits, not probabilities. Without options the gradient of a row is
    ``softmax(logits) - one_hot(target)``. A row with NaN, with ``inf``, or with ``-inf`` alone gives NaN.

    Parameters
    ----------
    target : array_like of int with shape (...), or of float with the shape of `logits`
        Class index of each row, of any integer type; or the probabilities of its classes, converted to the
        type of `logits`.
    weight : array_like with shape (C,), optional
        Weight of each class. It is not checked: a negative weight turns the sign of its term.
    ignore_index : int, default -100
        Rows with this target have loss and gradient 0, and are not read. With probabilities it must be
        negative.
    return_hessian : bool, default False
        Also return the diagonal of the second derivative of the loss with respect to `logits`, for gradient
        boosting. Needs `return_grad`.

    See Also
    --------
    nll_loss : from log-probabilities.
    perplexity : the exponential of the mean.

    References
    ----------
    ``torch.nn.functional.cross_entropy``, for the meaning of weights, smoothing and reductions;
    ``sklearn.metrics.log_loss``, ``optax.losses.softmax_cross_entropy_with_integer_labels``,
    ``keras.losses.SparseCategoricalCrossentropy``; the objectives ``multiclass`` of LightGBM and
    ``multi:softprob`` of XGBoost.
    Szegedy et al., "Rethinking the Inception architecture", 2016, for label smoothing. Chowdhery et
    al., "PaLM", 2022, for the z-loss. Gemma Team, "Gemma 2", 2024, for the softcap.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> logits = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> loss, grad = fastloss.cross_entropy(logits, [0, 2], return_grad=True)
    >>> round(loss, 4)
    0.8955
    >>> grad.round(3)
    array([[-0.107,  0.053,  0.053],
           [ 0.106,  0.288, -0.394]])

    Micro-batches, or processes, add up their sums and what a mean divides by, here the rows that count:

    >>> total, count = fastloss.cross_entropy(logits, [0, -100], reduction="sum_and_count")
    >>> round(total, 4), count
    (0.2395, 1.0)

    In a training loop the gradient overwrites the logits, and nothing is allocated:

    >>> loss, grad = fastloss.cross_entropy(logits, [0, 2], return_grad=True, out=logits)
    >>> grad is logits
    True
    """
    if not options and weight is sample_weight is None and return_hessian is False:
        plain = _kernels.plain_cross_entropy(
            logits, target, axis, ignore_index, reduction, return_grad, out, get_num_threads
        )
        if plain is not None:
            return plain
    return row_loss(
        cross_entropy_rows, "logits", logits, axis, target, reduction, return_grad, out, options,
        weight=weight, ignore_index=ignore_index, sample_weight=sample_weight, return_hessian=return_hessian,
    )  # fmt: skip


@documented(ROWS)
def nll_loss(
    log_probs: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    sample_weight: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Negative log-likelihood of class indices, from log-probabilities.

    ``loss = -sample_weight * weight[target] * log_probs[target]`` for a row; with log-probabilities `x`,
    class `y`, class weights `w` and sample weight `s`:

    .. math:: -s\, w_y\, x_y

    Choose it if log-probabilities exist already. Only the element of the target is read in a row, and only
    its gradient is not 0.

    See Also
    --------
    cross_entropy : from logits, in one pass, without log-probabilities in memory.

    References
    ----------
    ``torch.nn.functional.nll_loss``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> log_probs = np.log([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    >>> fastloss.nll_loss(log_probs, [0, 1], reduction="none").round(4)
    array([0.6931, 0.2231])
    """
    return row_loss(
        _kernels.nll, "log_probs", log_probs, axis, target, reduction, return_grad, out, common,
        weight=weight, ignore_index=ignore_index, sample_weight=sample_weight,
    )  # fmt: skip


@documented(ROWS, mean="the number of rows, whatever the weights")
def multi_margin_loss(
    scores: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    p: int = 1,
    margin: float = 1.0,
    weight: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Multi-class margin loss: every other class should score a margin less than the target.

    ``loss = weight[target] / C * sum(max(0, margin - scores[target] + scores[j])**p)`` for a row, over the
    classes ``j != target``; with scores `x`, class `y`, `C` classes, class weights `w` and margin `m`:

    .. math:: \frac{w_y}{C} \sum_{j \neq y} \max(0,\, m - x_y + x_j)^p

    Choose it for scores that need not be probabilities: a class beyond the margin has no influence. The
    gradient of a term is 0 at its kink.

    Parameters
    ----------
    p : {1, 2}, default 1
        Exponent of each term.
    margin : float, default 1.0
        The difference of the scores up to which a class has a loss, any finite number.

    Raises
    ------
    IndexError
        If a class index is not in ``[0, C)``. The message names the first one. Nothing has been written to
        `out` then.

    See Also
    --------
    hinge_loss : for two classes.

    References
    ----------
    ``torch.nn.functional.multi_margin_loss``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> scores = np.array([[0.1, 0.2, 0.8]])
    >>> round(fastloss.multi_margin_loss(scores, [2]), 4)
    0.2333
    """
    power = number("p", p)
    if power not in (1.0, 2.0):
        raise ValueError(f"p must be 1 or 2, got {p!r}")
    return row_loss(
        _kernels.multi_margin, "scores", scores, -1, target, reduction, return_grad, out, common,
        weight=weight, margin=number("margin", margin), power=power,
    )  # fmt: skip


@documented(ROWS, mean="the number of rows that are not ignored, whatever `alpha`")
def softmax_focal_loss(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    gamma: float = 2.0,
    alpha: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Focal loss of softmax(logits): cross-entropy with less weight on rows that are already right.

    ``loss = -alpha[target] * (1 - p)**gamma * log(p)`` for a row, where `p` is the probability of its target;
    with class weights :math:`\alpha`, class `y` and :math:`p = \mathrm{softmax}(x)`:

    .. math:: -\alpha_y (1 - p_y)^\gamma \log p_y

    Choose it for many classes of very different sizes, where the loss of many easy rows outweighs that of the
    few hard ones. With ``gamma=0`` it is the cross-entropy. A row that is almost certain keeps its digits:
    :math:`1 - p_y` is the sum of the other probabilities. A row with NaN, with ``inf``, or with ``-inf``
    alone gives NaN.

    Parameters
    ----------
    gamma : float, default 2.0
        Exponent of :math:`1 - p_y`, at least 0. The larger it is, the less easy rows count.
    alpha : float or array_like with shape (C,), optional
        Weight of each class, or of all. It is not checked: a negative weight turns the sign of its term.
    ignore_index : int, default -100
        Rows with this target have loss and gradient 0, and are not read.

    Raises
    ------
    IndexError
        If a class index is not in ``[0, C)``. The message names the first one. Nothing has been written to
        `out` then.

    See Also
    --------
    sigmoid_focal_loss : for classes that do not exclude each other.
    poly_loss : with a term that keeps the gradient of easy rows.
    cross_entropy : without the factor.

    References
    ----------
    Lin et al., "Focal loss for dense object detection", 2017. ``keras.losses.CategoricalFocalCrossentropy``
    (with probabilities as targets, and ``alpha=0.25``).

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> logits = np.array([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> loss, grad = fastloss.softmax_focal_loss(logits, [0, 2], reduction="none", return_grad=True)
    >>> loss.round(3)
    array([0.001, 0.964])
    >>> fastloss.cross_entropy(logits, [0, 2], reduction="none").round(3)
    array([0.095, 1.551])
    """
    return focal_loss(
        logits, target, reduction, return_grad, out, common,
        axis=axis, gamma=gamma, alpha=alpha, ignore_index=ignore_index,
    )  # fmt: skip


@documented(ROWS, mean="the sum, over the rows that are not ignored, of their class weights")
def poly_loss(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    epsilon: float = 1.0,
    weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""PolyLoss of softmax(logits): cross-entropy with another first term of its series in 1 - p.

    ``loss = weight[target] * (-log(p) + epsilon * (1 - p))`` for a row, where `p` is the probability of its
    target; with class weights `w`, class `y` and :math:`p = \mathrm{softmax}(x)`:

    .. math:: w_y \big(-\log p_y + \varepsilon (1 - p_y)\big)

    The cross-entropy is :math:`\sum_j (1 - p_y)^j / j`, of which `epsilon` changes the first coefficient, and
    its gradient is multiplied by :math:`1 + \varepsilon p_y`. Choose it to tune a classifier: more than 0
    trains on rows that are already right, less than 0 leaves them, as the focal loss. With ``epsilon=0`` it
    is the cross-entropy. A row that is almost certain keeps its digits. A row with NaN, with ``inf``, or with
    ``-inf`` alone gives NaN.

    Parameters
    ----------
    epsilon : float, default 1.0
        What is added to the first coefficient, at least -1 (then that term is missing).
    weight : array_like with shape (C,), optional
        Weight of each class. It is not checked: a negative weight turns the sign of its term.
    ignore_index : int, default -100
        Rows with this target have loss and gradient 0, and are not read.

    Raises
    ------
    IndexError
        If a class index is not in ``[0, C)``. The message names the first one. Nothing has been written to
        `out` then.

    See Also
    --------
    softmax_focal_loss : with less weight on rows that are already right.
    cross_entropy : without the term.

    References
    ----------
    Leng et al., "PolyLoss: A polynomial expansion perspective of classification loss functions", 2022 (its
    Poly-1). ``optax.losses.poly_loss_cross_entropy`` (with probabilities as targets, and ``epsilon=2.0``).

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> logits = np.array([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> fastloss.poly_loss(logits, [0, 2], reduction="none").round(3)
    array([0.185, 2.34 ])
    >>> fastloss.poly_loss(logits, [0, 2], epsilon=-1.0, reduction="none").round(3)
    array([0.004, 0.763])
    """
    return focused_loss(
        _kernels.POLY, number("epsilon", epsilon, low=-1.0), logits, target, reduction, return_grad, out,
        common, axis=axis, weight=weight, ignore_index=ignore_index,
    )  # fmt: skip


@documented(ROWS, mean="the sum, over the rows that are not ignored, of their class weights")
def generalized_cross_entropy(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    q: float = 0.7,
    weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Generalised cross-entropy of softmax(logits), which is robust to wrong targets.

    ``loss = weight[target] * (1 - p**q) / q`` for a row, where `p` is the probability of its target; with
    class weights `w`, class `y` and :math:`p = \mathrm{softmax}(x)`:

    .. math:: w_y \frac{1 - p_y^q}{q}

    Choose it if some of the targets are wrong. The loss of a row is at most :math:`1 / q`, and its gradient
    is that of the cross-entropy times :math:`p_y^q`: rows whose target the model finds unlikely count little.
    ``q=0`` stands for the limit, the cross-entropy; ``q=1`` is half of the absolute error of the
    probabilities. The smaller `q`, the faster it trains, and the less robust it is. A row that is almost
    certain keeps its digits. A row with NaN, with ``inf``, or with ``-inf`` alone gives NaN.

    Parameters
    ----------
    q : float, default 0.7
        Exponent of :math:`p_y`, from 0 to 1.
    weight : array_like with shape (C,), optional
        Weight of each class. It is not checked: a negative weight turns the sign of its term.
    ignore_index : int, default -100
        Rows with this target have loss and gradient 0, and are not read.

    Raises
    ------
    IndexError
        If a class index is not in ``[0, C)``. The message names the first one. Nothing has been written to
        `out` then.

    See Also
    --------
    cross_entropy : for targets that are right.

    References
    ----------
    Zhang and Sabuncu, "Generalized cross entropy loss for training deep neural networks with noisy labels",
    2018 (without its truncation). ``keras.losses.CategoricalGeneralizedCrossEntropy`` (from probabilities,
    and with ``q=0.5``).

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> logits = np.array([[3.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
    >>> fastloss.generalized_cross_entropy(logits, [0, 2], reduction="none").round(3)
    array([0.092, 1.426])
    >>> fastloss.cross_entropy(logits, [0, 2], reduction="none").round(3)
    array([0.095, 9.   ])
    """
    return focused_loss(
        _kernels.GENERALIZED, number("q", q, low=0.0, high=1.0), logits, target, reduction, return_grad, out,
        common, axis=axis, weight=weight, ignore_index=ignore_index,
    )  # fmt: skip


@documented(ROWS, mean="the number of rows")
def multilabel_margin_loss(
    scores: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Margin loss of several labels: every other class should score at least 1 less than each label.

    ``loss = sum(max(0, 1 - scores[y] + scores[j])) / C`` for a row, over its labels ``y`` and the classes
    ``j`` that are none of them; with scores `x`, labels `Y` and `C` classes:

    .. math:: \frac{1}{C} \sum_{y \in Y} \sum_{j \notin Y} \max(0,\, 1 - x_y + x_j)

    Choose it for rows with several right classes, if scores need not be probabilities. The gradient of a term
    is 0 at its kink. A row without a label has no loss. A NaN in a row gives NaN for that row alone.

    Parameters
    ----------
    target : array_like of int with the shape of `scores`
        The class indices of the labels of each row, of any signed integer type, up to the first -1. What is
        behind it is not read. An index that is there twice counts twice, as in torch.

    Raises
    ------
    IndexError
        If an index before the first -1 is not in ``[0, C)``. The message names the first one. Nothing has
        been written to `out` then.

    See Also
    --------
    multi_margin_loss : for one label.
    multilabel_soft_margin_loss : for labels that are decided one by one.

    References
    ----------
    ``torch.nn.functional.multilabel_margin_loss``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> scores = np.array([[0.1, 0.2, 0.4, 0.8]])
    >>> round(fastloss.multilabel_margin_loss(scores, [[3, 0, -1, 1]]), 4)
    0.85
    """
    return multilabel_margin(scores, target, reduction, return_grad, out, common)


@documented(ROWS)
def sparsemax_loss(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Loss of sparsemax(logits) against class indices: 0 where the target leads by 1 or more.

    ``loss = -logits[target] + 0.5 * sum(logits[S]**2 - tau**2) + 0.5`` for a row, over its support `S`; with
    logits `z`, class `y` and the probabilities `p`:

    .. math::
        -z_y + \frac{1}{2} \sum_{j \in S} (z_j^2 - \tau^2) + \frac{1}{2}, \qquad
        p_j = \max(0,\, z_j - \tau), \quad \sum_j p_j = 1, \quad S = \{j: p_j > 0\}

    Sparsemax is the point of the probability simplex that is nearest to the logits. Choose its loss in the
    place of `cross_entropy` if most classes should have a probability of exactly 0. The gradient of a row is
    ``sparsemax(logits) - one_hot(target)``. A logit of ``-inf`` has probability 0. A row with NaN, with
    ``inf``, or with ``-inf`` alone gives NaN.

    Parameters
    ----------
    ignore_index : int, default -100
        Rows with this target have loss and gradient 0, and are not read.

    See Also
    --------
    cross_entropy : with the softmax, where no probability is 0.
    multi_margin_loss : also 0 beyond a margin, but without probabilities.

    Notes
    -----
    The loss is computed as ``0.5 * sum((p - one_hot(target))**2) + max(0, tau - logits[target])``, which is
    the same, from differences to the largest logit. So it is never negative, and a shift of the logits costs
    no digits.

    References
    ----------
    Martins and Astudillo, "From softmax to sparsemax: A sparse model of attention and multi-label
    classification", 2016. ``SparsemaxLoss`` of the package entmax, ``jaxopt.loss.multiclass_sparsemax_loss``,
    ``tfa.losses.sparsemax_loss`` (with probabilities as targets).

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> logits = np.array([[2.0, 1.5, -1.0], [2.0, 1.0, 0.0]])
    >>> loss, grad = fastloss.sparsemax_loss(logits, [1, 0], reduction="none", return_grad=True)
    >>> loss
    array([0.5625, 0.    ])
    >>> grad
    array([[ 0.75, -0.75,  0.  ],
           [ 0.  ,  0.  ,  0.  ]])
    """
    return row_loss(
        _kernels.sparsemax, "logits", logits, axis, target, reduction, return_grad, out, common,
        ignore_index=ignore_index,
    )  # fmt: skip


@documented(TRANSFORMS)
def softmax(
    x: npt.ArrayLike,
    *,
    axis: int = -1,
    out: Array | None = None,
    num_threads: int | None = None,
) -> Array:
    r"""Softmax along an axis.

    ``result = exp(x) / sum(exp(x))`` for each row along `axis`:

    .. math:: \frac{e^{x_i}}{\sum_j e^{x_j}}

    It turns scores into probabilities, and overflows for no finite score.

    Returns
    -------
    probs : ndarray with the shape and dtype of `x`
        Probabilities. A row with NaN, with ``inf``, or with ``-inf`` alone is NaN. It is `out` if `out` was
        given.

    References
    ----------
    ``torch.nn.functional.softmax``, ``scipy.special.softmax``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.softmax(np.log([1.0, 2.0, 5.0])).round(3)
    array([0.125, 0.25 , 0.625])
    """
    return normalised(_kernels.SOFTMAX, x, axis, out, num_threads)


@documented(TRANSFORMS)
def log_softmax(
    x: npt.ArrayLike,
    *,
    axis: int = -1,
    out: Array | None = None,
    num_threads: int | None = None,
) -> Array:
    r"""Logarithm of the softmax along an axis.

    ``result = x - log(sum(exp(x)))`` for each row along `axis`:

    .. math:: x_i - \log \sum_j e^{x_j}

    Choose it instead of the logarithm of `softmax`, which is ``-inf`` for a probability that underflows to 0.

    Returns
    -------
    log_probs : ndarray with the shape and dtype of `x`
        Log-probabilities. A row with NaN, with ``inf``, or with ``-inf`` alone is NaN. The largest entry
        keeps its digits if it is nearly 0. It is `out` if `out` was given.

    See Also
    --------
    cross_entropy : computes the entry of the target of each row, without an array of all entries.

    References
    ----------
    ``torch.nn.functional.log_softmax``, ``scipy.special.log_softmax``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.log_softmax(np.array([0.0, 40.0])).tolist()
    [-40.0, -4.248354255291589e-18]
    """
    return normalised(_kernels.LOG_SOFTMAX, x, axis, out, num_threads)


@documented(TRANSFORMS)
def logsumexp(x: npt.ArrayLike, *, axis: int = -1, num_threads: int | None = None) -> Array:
    r"""Logarithm of the sum of exponentials along an axis.

    ``result = log(sum(exp(x)))`` for each row along `axis`:

    .. math:: \log \sum_j e^{x_j}

    It is the logarithm of the denominator of `softmax`, and overflows for no finite score.

    Returns
    -------
    lse : ndarray with the shape of `x` without `axis`
        Has the dtype of `x`, float32 for half types. It is ``-inf`` for a row with ``-inf`` alone or without
        entries, and ``inf`` for a row with ``inf``.

    Raises
    ------
    ValueError
        If `x` is a scalar, or if `axis` or `num_threads` is out of range.

    References
    ----------
    ``torch.logsumexp``, ``scipy.special.logsumexp``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> fastloss.logsumexp(np.log([[1.0, 2.0], [3.0, 4.0]])).round(4)
    array([1.0986, 1.9459])
    """
    return sums_of_exponentials(x, axis, num_threads)
