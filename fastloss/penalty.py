"""Penalties: the size of parameters as a loss.

Added to the loss of a model they keep its parameters small; with ``accumulate`` their gradient goes into
the buffer that already holds the model's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from fastloss._engine.arguments import number
from fastloss._engine.documentation import documented
from fastloss._engine.elementwise import elementwise
from fastloss._engine.fragments import PENALTIES
from fastloss._engine.options import Common
from fastloss._engine.types import Array, Reduction

if TYPE_CHECKING:
    from typing_extensions import Unpack

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

    ``loss = strength * sum(abs(params))``

    .. math:: \lambda \sum_i |w_i|

    For sparse models: it draws every parameter towards 0 equally hard, so that those of little use get
    there. At the kink, :math:`w_i = 0`, the gradient is 0.

    Parameters
    ----------
    strength : float
        The factor :math:`\lambda`; at least 0. At 0 even an infinite parameter costs nothing.

    See Also
    --------
    l2_penalty : shrinks, without making sparse.
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

    Added to a gradient that is there already:

    >>> loss, grad = fastloss.l1_penalty(params, 0.25, return_grad=True, out=grad, accumulate=True)
    >>> grad
    array([ 0.75,  0.  , -0.75])
    """
    return elementwise(
        "elastic_net",
        "params",
        params,
        0.0,
        None,
        reduction,
        return_grad,
        out,
        common,
        parameters=(number("strength", strength, low=0.0), 0.0),
    )


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

    ``loss = 0.5 * strength * sum(params**2)``

    .. math:: \frac{\lambda}{2} \sum_i w_i^2

    The usual penalty (ridge, weight decay): it draws every parameter towards 0 in proportion to its size.
    With the half the gradient is :math:`\lambda w`.

    Parameters
    ----------
    strength : float
        The factor :math:`\lambda`; at least 0. At 0 even an infinite parameter costs nothing.

    See Also
    --------
    l1_penalty : makes sparse.
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
        "elastic_net",
        "params",
        params,
        0.0,
        None,
        reduction,
        return_grad,
        out,
        common,
        parameters=(0.0, number("strength", strength, low=0.0)),
    )


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

    ``loss = l1 * sum(abs(params)) + 0.5 * l2 * sum(params**2)``

    .. math:: \lambda_1 \sum_i |w_i| + \frac{\lambda_2}{2} \sum_i w_i^2

    For sparse models whose inputs are correlated, where `l1_penalty` alone would keep one of a group at
    random. At the kink, :math:`w_i = 0`, the gradient is 0.

    Parameters
    ----------
    l1, l2 : float
        The strengths :math:`\lambda_1` of the absolute values and :math:`\lambda_2` of the squares; at
        least 0. A part whose strength is 0 costs nothing, even where a parameter is infinite.

    See Also
    --------
    l1_penalty, l2_penalty : one of the two.

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
        "elastic_net",
        "params",
        params,
        0.0,
        None,
        reduction,
        return_grad,
        out,
        common,
        parameters=(number("l1", l1, low=0.0), number("l2", l2, low=0.0)),
    )
