"""Penalties: the size of parameters as a loss.

Added to the loss of a model they keep its parameters small; with ``accumulate`` their gradient goes into
the buffer that already holds the model's.
"""

from __future__ import annotations

from typing import Any, Unpack

import numpy.typing as npt

from fastloss._engine.arguments import number
from fastloss._engine.documentation import documented
from fastloss._engine.elementwise import elementwise
from fastloss._engine.fragments import PENALTIES
from fastloss._engine.options import Common
from fastloss._engine.types import Array, Reduction

__all__ = [
    "elastic_net_penalty",
    "l1_penalty",
    "l2_penalty",
]


@documented(PENALTIES)
def l1_penalty(
    params: npt.ArrayLike,
    strength: float,
    *,
    reduction: Reduction = "sum",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Sum of the absolute values of parameters, times a strength.

    ``loss = strength * sum(abs(params))``; with parameters `w` and strength :math:`\lambda`:

    .. math:: \lambda \sum_i \lvert w_i \rvert

    Choose it for sparse models: every gradient has the same size, so that parameters of little use reach 0.
    The gradient is ``strength * sign(params)``, 0 at the kink ``params == 0``.

    Parameters
    ----------
    strength : float
        Factor of the penalty, at least 0. At 0 the penalty is 0 even for an infinite parameter.

    See Also
    --------
    l2_penalty : makes parameters small, but not 0.
    elastic_net_penalty : both in one pass.

    References
    ----------
    Tibshirani, "Regression shrinkage and selection via the lasso", 1996. The penalty of
    ``sklearn.linear_model.SGDRegressor`` with ``penalty="l1"``; ``keras.regularizers.L1``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> params = np.array([3.0, 0.0, -1.0])
    >>> loss, grad = fastloss.l1_penalty(params, 0.5, return_grad=True)
    >>> loss
    2.0
    >>> grad
    array([ 0.5,  0. , -0.5])

    Added to an existing gradient:

    >>> loss, grad = fastloss.l1_penalty(params, 0.25, return_grad=True, out=grad, accumulate=True)
    >>> grad
    array([ 0.75,  0.  , -0.75])
    """
    return elementwise(
        "elastic_net", "params", params, 0.0, reduction, return_grad, out, common,
        number("strength", strength, low=0.0), 0.0, has_weight=False,
    )  # fmt: skip


@documented(PENALTIES)
def l2_penalty(
    params: npt.ArrayLike,
    strength: float,
    *,
    reduction: Reduction = "sum",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Half the sum of the squares of parameters, times a strength.

    ``loss = 0.5 * strength * sum(params**2)``; with parameters `w` and strength :math:`\lambda`:

    .. math:: \frac{\lambda}{2} \sum_i w_i^2

    The usual penalty (ridge, weight decay): it draws every parameter towards 0 in proportion to its size.
    With the factor of one half the gradient is ``strength * params``.

    Parameters
    ----------
    strength : float
        Factor of the penalty, at least 0. At 0 the penalty is 0 even for an infinite parameter.

    See Also
    --------
    l1_penalty : makes parameters 0.
    elastic_net_penalty : both in one pass.

    References
    ----------
    The penalty of ``sklearn.linear_model.SGDRegressor`` with ``penalty="l2"``;
    ``keras.regularizers.L2``, which has no half.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> loss, grad = fastloss.l2_penalty(np.array([3.0, 0.0, -1.0]), 0.5, return_grad=True)
    >>> loss
    2.5
    >>> grad
    array([ 1.5,  0. , -0.5])
    """
    return elementwise(
        "elastic_net", "params", params, 0.0, reduction, return_grad, out, common, 0.0,
        number("strength", strength, low=0.0), has_weight=False,
    )  # fmt: skip


@documented(PENALTIES)
def elastic_net_penalty(
    params: npt.ArrayLike,
    l1: float,
    l2: float,
    *,
    reduction: Reduction = "sum",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Sum of the absolute values and half the sum of the squares, each with its own strength.

    ``loss = l1 * sum(abs(params)) + 0.5 * l2 * sum(params**2)``; with parameters `w`:

    .. math:: \lambda_1 \sum_i \lvert w_i \rvert + \frac{\lambda_2}{2} \sum_i w_i^2

    Choose it for sparse models with correlated inputs, for which `l1_penalty` alone would keep an arbitrary
    one of a group. The gradient is ``l1 * sign(params) + l2 * params``, 0 at the kink ``params == 0``.

    Parameters
    ----------
    l1, l2 : float
        Strengths :math:`\lambda_1` of the absolute values and :math:`\lambda_2` of the squares, at least 0. A
        part with strength 0 is 0 even for an infinite parameter.

    See Also
    --------
    l1_penalty, l2_penalty : each of the two parts.

    References
    ----------
    Zou and Hastie, "Regularization and variable selection via the elastic net", 2005.
    ``sklearn.linear_model.ElasticNet``, where ``l1 = alpha * l1_ratio`` and
    ``l2 = alpha * (1 - l1_ratio)``; ``keras.regularizers.L1L2``, which has no half.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> params = np.array([3.0, 0.0, -1.0])
    >>> loss, grad = fastloss.elastic_net_penalty(params, 0.5, 1.0, return_grad=True)
    >>> loss
    7.0
    >>> grad
    array([ 3.5,  0. , -1.5])
    """
    return elementwise(
        "elastic_net", "params", params, 0.0, reduction, return_grad, out, common, number("l1", l1, low=0.0),
        number("l2", l2, low=0.0), has_weight=False,
    )  # fmt: skip
