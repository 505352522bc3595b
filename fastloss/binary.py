r"""Two classes: binary cross-entropies from probabilities and logits, and margin losses of scores.

The cross-entropies take targets from 0 to 1, the margin losses targets that are -1 or 1. In the formulas
below `x` is the input, `t` the target, `w` the weight and :math:`\sigma(x) = 1 / (1 + e^{-x})`.
"""

from __future__ import annotations

from typing import Any, Unpack

import numpy.typing as npt

from fastloss._engine.arguments import floating, number
from fastloss._engine.documentation import documented
from fastloss._engine.elementwise import (
    averaged_over_classes,
    elementwise,
    focal_kernel,
    positive_weights,
)
from fastloss._engine.fragments import BINARY
from fastloss._engine.options import Checked, option
from fastloss._engine.types import Array, Reduction

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "hinge_embedding_loss",
    "hinge_loss",
    "multilabel_soft_margin_loss",
    "sigmoid_focal_loss",
    "soft_margin_loss",
    "squared_hinge_loss",
]


@documented(BINARY, mean="the number of elements, whatever their weights", domain="in [0, 1]")
def binary_cross_entropy(
    probs: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Checked],
) -> Any:
    r"""Binary cross-entropy of probabilities.

    ``loss = -weight * (target * max(log(probs), -100) + (1 - target) * max(log(1 - probs), -100))``; with
    probability `x`, target `t` and weight `w`:

    .. math:: -w\, \big(t \max(\log x, -100) + (1 - t) \max(\log(1 - x), -100)\big)

    Choose it for models whose output is a probability. If there are logits,
    `binary_cross_entropy_with_logits` is more precise and faster. The bound of -100 keeps the loss of a
    probability of exactly 0 or 1 finite. The gradient is
    ``weight * (probs - target) / max(probs * (1 - probs), 1e-12)``, as in torch.

    Parameters
    ----------
    target : scalar or array_like with the shape of `|x|`
        Classes, 0 or 1, or probabilities of class 1. Only a scalar broadcasts. Values of another type are
        converted to the type of `|x|`.
    check_domain : bool, default True
        Check that every probability and every target is in [0, 1]. If False, the formula is evaluated for any
        target, and a probability outside gives NaN.

    See Also
    --------
    binary_cross_entropy_with_logits : from logits.

    References
    ----------
    ``torch.nn.functional.binary_cross_entropy``, ``sklearn.metrics.log_loss``,
    ``keras.losses.BinaryCrossentropy``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> probs = np.array([0.25, 0.5, 0.8])
    >>> loss, grad = fastloss.binary_cross_entropy(probs, [0, 1, 1], reduction="none", return_grad=True)
    >>> loss.round(4)
    array([0.2877, 0.6931, 0.2231])
    >>> grad.round(4)
    array([ 1.3333, -2.    , -1.25  ])
    """
    return elementwise(
        "binary", "probs", probs, target, reduction, return_grad, out, common, mean_over_weights=False
    )


@documented(BINARY, mean="the number of elements, whatever their weights", domain="in [0, 1]")
def binary_cross_entropy_with_logits(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    pos_weight: npt.ArrayLike | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Checked],
) -> Any:
    r"""Binary cross-entropy of sigmoid(logits).

    ``loss = weight * (pos_weight * t * softplus(-logits) + (1 - t) * softplus(logits))`` with
    ``softplus(x) = log(1 + exp(x))`` and ``t = (1 - label_smoothing) * target + label_smoothing / 2``; with
    logit `x`, target `t`, weight `w`, positive weight `p`, label smoothing :math:`\varepsilon` and
    :math:`\sigma(x) = 1 / (1 + e^{-x})`:

    .. math::

        -w\, \big(p\, t' \log \sigma(x) + (1 - t') \log(1 - \sigma(x))\big),
        \qquad t' = (1 - \varepsilon)\, t + \tfrac{\varepsilon}{2}

    The usual loss for two classes, and for labels that are independent of each other. It is computed from the
    logits in one pass and is precise for logits of any size. Without `pos_weight` the gradient is
    ``weight * (sigmoid(logits) - t)``.

    Parameters
    ----------
    logits : array_like of any shape
        Unnormalised scores of class 1; |types| A logit of ``inf`` has loss 0 at a target of 1 and an infinite
        loss at a target of 0; for ``-inf`` it is the other way round.
    target : scalar or array_like with the shape of `|x|`
        Classes, 0 or 1, or probabilities of class 1. Only a scalar broadcasts. Values of another type are
        converted to the type of `|x|`.
    pos_weight : scalar, or array_like with shape (C,) or that of `logits`, optional
        Factor of the term of class 1. An array of shape (C,) has an entry for each index of the last axis. It
        is not checked: a negative factor turns the sign of the term.
    label_smoothing : float, default 0.0
        The share, between 0 and 1, of the target that is spread evenly over both classes.

    See Also
    --------
    binary_cross_entropy : from probabilities.
    soft_margin_loss : the same loss for classes -1 and 1.
    sigmoid_focal_loss : with less weight on well-classified elements.
    cross_entropy : for one class out of several.

    References
    ----------
    ``torch.nn.functional.binary_cross_entropy_with_logits``, ``sklearn._loss.HalfBinomialLoss``,
    ``optax.losses.sigmoid_binary_cross_entropy``, ``keras.losses.BinaryCrossentropy`` with
    ``from_logits=True`` (and its label smoothing); the objectives ``binary`` of LightGBM and
    ``binary:logistic`` of XGBoost.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> logits = np.array([-2.0, 0.0, 3.0])
    >>> loss, grad = fastloss.binary_cross_entropy_with_logits(logits, [0, 1, 1], return_grad=True)
    >>> round(loss, 4)
    0.2896
    >>> grad.round(4)
    array([ 0.0397, -0.1667, -0.0158])

    In place: the gradient overwrites the logits.

    >>> loss, grad = fastloss.binary_cross_entropy_with_logits(
    ...     logits, [0, 1, 1], return_grad=True, out=logits
    ... )
    >>> grad is logits
    True
    """
    x = floating("logits", logits)
    smoothing = option("label_smoothing", label_smoothing)
    positive = None if pos_weight is None else positive_weights(pos_weight, x)
    kernel = "binary_logits" if smoothing or positive is not None else "binary_logits_plain"
    return elementwise(
        kernel, "logits", x, target, reduction, return_grad, out, common, 1.0 - smoothing, 0.5 * smoothing,
        extra=positive, extra_name="pos_weight", mean_over_weights=False, return_hessian=return_hessian,
    )  # fmt: skip


@documented(BINARY, mean="the number of elements, whatever their weights", domain="in [0, 1]")
def sigmoid_focal_loss(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Checked],
) -> Any:
    r"""Focal loss: binary cross-entropy of sigmoid(logits) with less weight on well-classified elements.

    ``loss = weight * alpha_t * (1 - p_t)**gamma * bce`` with ``p = sigmoid(logits)``,
    ``p_t = target * p + (1 - target) * (1 - p)``, ``alpha_t = alpha * target + (1 - alpha) * (1 - target)``
    and the binary cross-entropy ``bce`` of the logit; with logit `x`, target `t`, weight `w` and
    :math:`\sigma(x) = 1 / (1 + e^{-x})`:

    .. math::

        w\, \alpha_t\, (1 - p_t)^\gamma\, \mathrm{bce}, \qquad
        p_t = t\, \sigma(x) + (1 - t)\, (1 - \sigma(x)), \qquad
        \alpha_t = \alpha\, t + (1 - \alpha)\, (1 - t)

    Choose it for classes of very different sizes, as in object detection, where the many easy elements would
    otherwise outweigh the few hard ones.

    Parameters
    ----------
    target : scalar or array_like with the shape of `|x|`
        Classes, 0 or 1, or probabilities of class 1. Only a scalar broadcasts. Values of another type are
        converted to the type of `|x|`.
    alpha : float or None, default 0.25
        Weight of class 1, at most 1; class 0 has ``1 - alpha``. With None, or a negative number, both classes
        have weight 1.
    gamma : float, default 2.0
        Exponent of ``1 - p_t``, at least 0: the larger, the less weight for well-classified elements. At 0
        the loss is the weighted cross-entropy.

    See Also
    --------
    binary_cross_entropy_with_logits : the same loss with ``alpha=None`` and ``gamma=0``.

    References
    ----------
    Lin et al., "Focal loss for dense object detection", 2017. ``torchvision.ops.sigmoid_focal_loss``
    (with the default reduction ``"none"``), ``optax.losses.sigmoid_focal_loss``,
    ``keras.losses.BinaryFocalCrossentropy``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> logits = np.array([-1.0, 0.0, 1.0])
    >>> loss, grad = fastloss.sigmoid_focal_loss(logits, [0, 1, 1], reduction="none", return_grad=True)
    >>> loss.round(4)
    array([0.017 , 0.0433, 0.0057])
    >>> grad.round(4)
    array([ 0.0394, -0.0746, -0.0131])
    """
    share = -1.0 if alpha is None else option("alpha", alpha)
    power = number("gamma", gamma, low=0.0)
    return elementwise(
        focal_kernel(power), "logits", logits, target, reduction, return_grad, out, common,
        share if share >= 0.0 else -1.0, power, mean_over_weights=False,
    )  # fmt: skip


@documented(BINARY, domain="-1 or 1")
def hinge_loss(
    scores: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    margin: float = 1.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Checked],
) -> Any:
    r"""Hinge loss: the amount by which a score misses the margin on the side of its class.

    ``loss = weight * max(0, margin - target * scores)``; with score `x`, target `t`, weight `w` and margin
    `m`:

    .. math:: w \max(0,\ m - t\, x)

    The loss of support vector machines. Choose it for two classes if only the sign of the score matters, not
    a probability: an element beyond the margin has loss 0. The gradient is ``-weight * target`` short of the
    margin and 0 elsewhere, also at the kink ``target * scores == margin``.

    Parameters
    ----------
    margin : float, default 1.0
        The margin, any finite number. At 0 the loss is that of the perceptron.

    See Also
    --------
    squared_hinge_loss, soft_margin_loss : with a continuous gradient.
    multi_margin_loss : for more than two classes.

    References
    ----------
    Cortes and Vapnik, "Support-vector networks", 1995. ``sklearn.metrics.hinge_loss``,
    ``optax.losses.hinge_loss``, ``keras.losses.Hinge``; the objective ``binary:hinge`` of XGBoost.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> scores = np.array([-2.0, 0.5, -0.25])
    >>> loss, grad = fastloss.hinge_loss(scores, [-1, 1, 1], reduction="none", return_grad=True)
    >>> loss
    array([0.  , 0.5 , 1.25])
    >>> grad
    array([ 0., -1., -1.])
    """
    margin = number("margin", margin)
    return elementwise("hinge", "scores", scores, target, reduction, return_grad, out, common, margin)


@documented(BINARY, domain="-1 or 1")
def squared_hinge_loss(
    scores: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    margin: float = 1.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Checked],
) -> Any:
    r"""Square of the hinge loss.

    ``loss = weight * max(0, margin - target * scores)**2``; with score `x`, target `t`, weight `w` and margin
    `m`:

    .. math:: w \max(0,\ m - t\, x)^2

    Choose it for solvers that need a continuous gradient, and if scores far on the wrong side should count
    more than in `hinge_loss`. The gradient is ``-2 * weight * target * max(0, margin - target * scores)``.

    Parameters
    ----------
    margin : float, default 1.0
        The margin, any finite number.

    See Also
    --------
    hinge_loss : the loss without the square.

    References
    ----------
    ``keras.losses.SquaredHinge``; ``sklearn.svm.LinearSVC`` with ``loss="squared_hinge"``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> scores = np.array([-2.0, 0.5, -0.25])
    >>> loss, grad = fastloss.squared_hinge_loss(scores, [-1, 1, 1], reduction="none", return_grad=True)
    >>> loss
    array([0.    , 0.25  , 1.5625])
    >>> grad
    array([ 0. , -1. , -2.5])
    """
    margin = number("margin", margin)
    return elementwise("squared_hinge", "scores", scores, target, reduction, return_grad, out, common, margin)


@documented(BINARY, domain="-1 or 1")
def hinge_embedding_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    margin: float = 1.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Checked],
) -> Any:
    r"""Loss of distances: small ones for pairs that belong together, a margin for the others.

    ``loss = weight * (input if target == 1 else max(0, margin - input))``

    .. math:: w x \ \text{for}\ t = 1, \qquad w \max(0, m - x)\ \text{for}\ t = -1

    Choose it for embeddings of pairs. At the margin the gradient of a pair that does not belong together is
    -1, as torch's.

    Parameters
    ----------
    input : array_like of any shape
        Distances; |types|
    margin : float, default 1.0
        Distance without a loss for a pair that does not belong together, any finite number.

    References
    ----------
    ``torch.nn.functional.hinge_embedding_loss``.

    Examples
    --------
    >>> import fastloss
    >>> fastloss.hinge_embedding_loss([0.25, 0.25], [1, -1], reduction="none")
    array([0.25, 0.75])
    """
    margin = number("margin", margin)
    return elementwise("hinge_embedding", "input", input, target, reduction, return_grad, out, common, margin)


@documented(
    BINARY,
    mean="the sum of the weights, unlike in `binary_cross_entropy_with_logits`, or by the number of elements "
    "without `weight`",
    domain="-1 or 1",
)
def soft_margin_loss(
    scores: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Checked],
) -> Any:
    r"""Logistic loss of a score.

    ``loss = weight * log(1 + exp(-target * scores))``; with score `x`, target `t` and weight `w`:

    .. math:: w \log\big(1 + e^{-t x}\big)

    The loss of logistic regression for classes -1 and 1: the binary cross-entropy with another name for class
    0. It is smooth everywhere and precise for scores of any size. The gradient is
    ``-weight * target * sigmoid(-target * scores)``.

    See Also
    --------
    binary_cross_entropy_with_logits : for classes 0 and 1, and for probabilities.

    References
    ----------
    ``torch.nn.functional.soft_margin_loss``, ``sklearn.linear_model.SGDClassifier`` with
    ``loss="log_loss"``; with classes 0 and 1 ``optax.losses.sigmoid_binary_cross_entropy``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> scores = np.array([-2.0, 0.0, 3.0])
    >>> loss, grad = fastloss.soft_margin_loss(scores, [-1, 1, 1], reduction="none", return_grad=True)
    >>> loss.round(4)
    array([0.1269, 0.6931, 0.0486])
    >>> grad.round(4)
    array([ 0.1192, -0.5   , -0.0474])
    """
    return elementwise(
        "soft_margin", "scores", scores, target, reduction, return_grad, out, common,
        return_hessian=return_hessian,
    )  # fmt: skip


@documented(
    BINARY,
    mean="the number of rows, whatever the weights",
    domain="in [0, 1]",
    unreduced="the loss of each row",
    loss_shape="shape (...)",
    of_nothing="The mean of no rows is NaN, their sum is 0. A NaN gives NaN in the loss of its row, and in "
    "the gradient at that element alone.",
)
def multilabel_soft_margin_loss(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Checked],
) -> Any:
    r"""Binary cross-entropy of sigmoid(logits), averaged over the classes of each row.

    ``loss = mean(weight * (target * softplus(-logits) + (1 - target) * softplus(logits)), axis=-1)`` with
    ``softplus(x) = log(1 + exp(x))``; with logit `x`, target `t`, weight `w`, `C` classes and
    :math:`\sigma(x) = 1 / (1 + e^{-x})`:

    .. math:: -\frac{1}{C} \sum_c w_c\, \big(t_c \log \sigma(x_c) + (1 - t_c) \log(1 - \sigma(x_c))\big)

    Choose it for rows that may have several classes at once, or none. Without weights its mean is that of
    `binary_cross_entropy_with_logits`; but here each class has a weight, and each row an unreduced loss. The
    gradient of a row is ``weight * (sigmoid(logits) - target) / C``.

    Parameters
    ----------
    logits : array_like with shape (..., C), C at least 1
        Unnormalised scores with the classes on the last axis; |types|
    target : scalar or array_like with the shape of `logits`
        Whether the row has the class, 0 or 1, or the probability of that. Only a scalar broadcasts. Values of
        another type are converted to the type of `logits`.
    weight : array_like with shape (C,), optional
        Weight of each class. Where it is 0, loss and gradient are 0, even if the term is infinite.

    See Also
    --------
    binary_cross_entropy_with_logits : with a loss and a weight for each element.
    cross_entropy : for rows that have exactly one class.

    References
    ----------
    ``torch.nn.functional.multilabel_soft_margin_loss``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> logits = np.array([[-2.0, 0.0], [0.0, 3.0]])
    >>> loss, grad = fastloss.multilabel_soft_margin_loss(
    ...     logits, [[0, 1], [0, 0]], reduction="none", return_grad=True
    ... )
    >>> loss.round(4)
    array([0.41  , 1.8709])
    >>> grad.round(4)
    array([[ 0.0596, -0.25  ],
           [ 0.25  ,  0.4763]])
    """
    return averaged_over_classes(
        "binary_logits", "logits", logits, target, reduction, return_grad, out, common, 1.0, 0.0,
    )  # fmt: skip
