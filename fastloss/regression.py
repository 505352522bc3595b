"""Regression: losses of a prediction against a number, element by element.

In the formulas `x` is the input, `t` the target, :math:`r = x - t` the residual and `w` the weight.
"""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from fastloss._engine.arguments import flag, number
from fastloss._engine.documentation import documented
from fastloss._engine.elementwise import GaussianNLLGradients, crps, elementwise, gaussian, quantiles
from fastloss._engine.fragments import ELEMENTWISE, QUANTILES
from fastloss._engine.options import Checked, Common, CommonOfSeveral, Weighted, option
from fastloss._engine.types import Array, Reduction

__all__ = [
    "GaussianNLLGradients",
    "crps_loss",
    "epsilon_insensitive_loss",
    "gamma_nll_loss",
    "gaussian_nll_loss",
    "huber_loss",
    "l1_loss",
    "log_cosh_loss",
    "mean_squared_log_loss",
    "mse_loss",
    "poisson_nll_loss",
    "quantile_loss",
    "smooth_l1_loss",
    "tweedie_nll_loss",
]


@documented(
    ELEMENTWISE,
    mean="the sum of the weights (a scalar counts for each element), or by the number of elements without "
    "`weight`",
)
def mse_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Weighted],
) -> Any:
    r"""Squared error.

    ``loss = weight * (input - target)**2``; with input `x`, target `t` and weight `w`:

    .. math:: w\, (x - t)^2

    The usual loss for a number. Its minimum is at the mean of the target. Large errors dominate it;
    `huber_loss` and `l1_loss` are less sensitive to them. There is no factor of one half: the gradient is
    ``2 * weight * (input - target)``.

    See Also
    --------
    huber_loss, l1_loss : less sensitive to outliers.
    gaussian_nll_loss : with a predicted variance.

    References
    ----------
    ``torch.nn.functional.mse_loss``, ``sklearn.metrics.mean_squared_error``,
    ``optax.losses.squared_error``, ``keras.losses.MeanSquaredError``; the objectives ``regression`` of
    LightGBM and ``reg:squarederror`` of XGBoost. With a factor of one half: ``optax.losses.l2_loss``,
    ``sklearn._loss.HalfSquaredError``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> x = np.array([1.0, 2.0, 4.0])
    >>> loss, grad = fastloss.mse_loss(x, [1.5, 2.0, 1.0], return_grad=True)
    >>> round(loss, 4)
    3.0833
    >>> grad.round(4)
    array([-0.3333,  0.    ,  2.    ])

    With weights and in place: the gradient overwrites the predictions.

    >>> loss, grad = fastloss.mse_loss(x, 0.0, weight=[1.0, 2.0, 0.0], return_grad=True, out=x)
    >>> loss, grad is x
    (3.0, True)
    """
    return elementwise(
        "mse", "input", input, target, reduction, return_grad, out, common, return_hessian=return_hessian
    )


@documented(ELEMENTWISE)
def l1_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Weighted],
) -> Any:
    r"""Absolute error.

    ``loss = weight * abs(input - target)``; with input `x`, target `t` and weight `w`:

    .. math:: w\, |x - t|

    Choose it for targets with outliers: the size of an error does not change its gradient, and the minimum
    is at the median of the target. The gradient is ``weight * sign(input - target)``, 0 at the kink
    ``input == target``. The second derivative is 0 everywhere.

    See Also
    --------
    huber_loss, smooth_l1_loss, log_cosh_loss : smooth at 0.
    quantile_loss : for quantiles other than the median.

    References
    ----------
    ``torch.nn.functional.l1_loss``, ``sklearn.metrics.mean_absolute_error``,
    ``sklearn._loss.AbsoluteError``, ``keras.losses.MeanAbsoluteError``; the objectives
    ``regression_l1`` of LightGBM and ``reg:absoluteerror`` of XGBoost.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> x = np.array([1.0, 2.0, 4.0])
    >>> loss, grad = fastloss.l1_loss(x, [1.5, 2.0, 1.0], reduction="sum", return_grad=True)
    >>> loss
    3.5
    >>> grad
    array([-1.,  0.,  1.])
    """
    return elementwise(
        "l1", "input", input, target, reduction, return_grad, out, common, return_hessian=return_hessian
    )


@documented(
    ELEMENTWISE,
    mean="the sum of the weights (torch: the number of elements), or by the number of elements without "
    "`weight`",
)
def huber_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    delta: float = 1.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Weighted],
) -> Any:
    r"""Half the squared error up to `delta`, and a straight line beyond it.

    ``loss = weight * (0.5 * r**2 if abs(r) <= delta else delta * (abs(r) - 0.5 * delta))`` with
    ``r = input - target``; with weight `w`:

    .. math::

        w \cdot \begin{cases}
        \tfrac{1}{2} r^2 & \lvert r \rvert \le \delta \\
        \delta\, \big(\lvert r \rvert - \tfrac{1}{2} \delta\big) & \lvert r \rvert > \delta
        \end{cases}

    Choose it for targets with outliers: it is as precise as the squared error for small errors, and no error
    has a gradient larger than `delta`. The gradient is ``weight * clip(r, -delta, delta)``. The second
    derivative is `weight` where ``abs(r) <= delta`` and 0 beyond.

    Parameters
    ----------
    delta : float, default 1.0
        Largest error of the quadratic part, greater than 0.

    See Also
    --------
    smooth_l1_loss : the same loss divided by `delta`.
    log_cosh_loss : a similar loss without an option.

    References
    ----------
    Huber, "Robust estimation of a location parameter", 1964. ``torch.nn.functional.huber_loss``,
    ``sklearn._loss.HuberLoss``, ``optax.losses.huber_loss``, ``keras.losses.Huber``; the objective
    ``huber`` of LightGBM.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> x = np.array([1.0, 2.0, 4.0])
    >>> t = np.array([1.5, 2.0, 1.0])
    >>> loss, grad, hessian = fastloss.huber_loss(
    ...     x, t, delta=2.0, reduction="none", return_grad=True, return_hessian=True
    ... )
    >>> loss
    array([0.125, 0.   , 4.   ])
    >>> grad
    array([-0.5,  0. ,  2. ])
    >>> hessian
    array([1., 1., 0.])
    """
    return elementwise(
        "huber", "input", input, target, reduction, return_grad, out, common, option("delta", delta),
        return_hessian=return_hessian,
    )  # fmt: skip


@documented(ELEMENTWISE)
def smooth_l1_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    beta: float = 1.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Weighted],
) -> Any:
    r"""Absolute error with a parabola in place of the kink.

    ``loss = weight * (0.5 * r**2 / beta if abs(r) < beta else abs(r) - 0.5 * beta)`` with
    ``r = input - target``; with weight `w`:

    .. math::

        w \cdot \begin{cases}
        \dfrac{r^2}{2 \beta} & \lvert r \rvert < \beta \\
        \lvert r \rvert - \tfrac{1}{2} \beta & \lvert r \rvert \ge \beta
        \end{cases}

    Choose it for an absolute error with a continuous gradient, as in the regression of bounding boxes. The
    gradient is ``weight * r / beta`` where ``abs(r) < beta`` and ``weight * sign(r)`` elsewhere. The second
    derivative is ``weight / beta`` where ``abs(r) < beta`` and 0 elsewhere. With ``beta=0`` it is `l1_loss`,
    with gradient 0 at the kink ``r == 0``.

    Parameters
    ----------
    beta : float, default 1.0
        Error at which the parabola ends (half of its width), at least 0.

    See Also
    --------
    huber_loss : the same loss times `beta`.

    References
    ----------
    Girshick, "Fast R-CNN", 2015. ``torch.nn.functional.smooth_l1_loss``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> x = np.array([1.0, 2.0, 4.0])
    >>> loss, grad = fastloss.smooth_l1_loss(
    ...     x, [1.5, 2.0, 1.0], beta=2.0, reduction="none", return_grad=True
    ... )
    >>> loss
    array([0.0625, 0.    , 2.    ])
    >>> grad
    array([-0.25,  0.  ,  1.  ])
    """
    beta = number("beta", beta, low=0.0)
    kernel, parameters = ("smooth_l1", (beta,)) if beta > 0.0 else ("l1", ())
    return elementwise(
        kernel, "input", input, target, reduction, return_grad, out, common, *parameters,
        return_hessian=return_hessian,
    )  # fmt: skip


@documented(ELEMENTWISE)
def log_cosh_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Weighted],
) -> Any:
    r"""Logarithm of the hyperbolic cosine of the error.

    ``loss = weight * log(cosh(input - target))``; with input `x`, target `t` and weight `w`:

    .. math:: w \log \cosh(x - t)

    Choose it for targets with outliers if second derivatives are needed. With ``r = input - target`` the loss
    is close to ``r**2 / 2`` near 0 and to ``abs(r) - log(2)`` far from 0. The gradient is
    ``weight * tanh(r)``, and the second derivative, ``weight / cosh(r)**2``, is continuous. Large errors do
    not overflow.

    See Also
    --------
    huber_loss : a similar loss with an option.

    References
    ----------
    ``keras.losses.LogCosh``, ``optax.losses.log_cosh``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> x = np.array([1.0, 2.0, 4.0])
    >>> loss, grad = fastloss.log_cosh_loss(x, [1.5, 1.0, 1.0], reduction="none", return_grad=True)
    >>> loss.round(4)
    array([0.1201, 0.4338, 2.3093])
    >>> grad.round(4)
    array([-0.4621,  0.7616,  0.9951])
    """
    return elementwise(
        "log_cosh", "input", input, target, reduction, return_grad, out, common, return_hessian=return_hessian
    )


@documented(
    ELEMENTWISE,
    mean="the sum of the weights (that of a row counts for each quantile), or by the number of elements "
    "without `weight`",
)
def quantile_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    quantile: float | npt.ArrayLike = 0.5,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Weighted],
) -> Any:
    r"""Quantile loss (pinball loss): an absolute error with different weights for its two sides.

    ``loss = weight * max(quantile * (target - input), (quantile - 1) * (target - input))``; with input `x`,
    target `t`, weight `w` and quantile `q`:

    .. math:: w \max\big(q\, (t - x),\ (q - 1)\, (t - x)\big)

    Choose it to predict a quantile of the target instead of its mean, such as the two ends of a prediction
    interval. For weight 1 the gradient is ``-quantile`` where the prediction is too small, ``1 - quantile``
    where it is too large, and 0 at the kink ``input == target``. The second derivative is 0 everywhere.

    With an array of `Q` quantiles the last axis of `input` has a prediction for each, and `target` has the
    shape of `input` without it: all quantiles of a row are predicted from one pass over the target.

    Parameters
    ----------
    target : scalar or array_like with the shape of `input`
        Values to predict; with an array of quantiles of shape (...) for an `input` of shape (..., Q). Only a
        scalar broadcasts: (N,) against (N, 1) is an error. Values of another type are converted to the type
        of `input`.
    weight : scalar or array_like with the shape of `input`, optional
        Weight of each element; with an array of quantiles also of shape (...), the weight of each row. Where
        it is 0, loss and derivatives are 0, even if the term is infinite (a NaN stays NaN).
    quantile : float or array_like with shape (Q,), default 0.5
        The quantile, greater than 0 and less than 1. At 0.5 the loss is half of `l1_loss`. Or a quantile for
        each prediction of a row, from 0 to 1, in any order.

    See Also
    --------
    l1_loss : for the median.
    crps_loss : of several quantiles, a score of the whole distribution.

    Notes
    -----
    Quantiles that are learned together may still cross.

    References
    ----------
    Koenker and Bassett, "Regression quantiles", 1978. ``sklearn.metrics.mean_pinball_loss``,
    ``sklearn._loss.PinballLoss``; the objectives ``quantile`` of LightGBM and ``reg:quantileerror``
    of XGBoost, ``MultiQuantile`` of CatBoost.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> x = np.array([1.0, 2.0])
    >>> loss, grad = fastloss.quantile_loss(x, 1.5, quantile=0.9, reduction="none", return_grad=True)
    >>> loss.round(4)
    array([0.45, 0.05])
    >>> grad.round(4)
    array([-0.9,  0.1])

    Three quantiles of two rows:

    >>> x = np.array([[1.0, 2.0, 4.0], [0.0, 0.5, 1.0]])
    >>> fastloss.quantile_loss(x, [3.0, 0.5], quantile=[0.1, 0.5, 0.9], reduction="none").round(4)
    array([[0.2 , 0.5 , 0.1 ],
           [0.05, 0.  , 0.05]])
    """
    if isinstance(quantile, np.ndarray) and quantile.ndim == 0:
        quantile = quantile[()]
    if isinstance(quantile, (list, tuple)) or getattr(quantile, "ndim", False):
        return quantiles(
            input, target, quantile, reduction, return_grad, out, common, return_hessian=return_hessian
        )
    level = option("quantile", quantile)
    if level in (0.0, 1.0):
        raise ValueError(f"quantile must be between 0 and 1, and neither of them, got {quantile!r}")
    return elementwise(
        "quantile", "input", input, target, reduction, return_grad, out, common, level, 1.0 - level,
        return_hessian=return_hessian,
    )  # fmt: skip


@documented(QUANTILES, mean="the sum of the sample weights, or by the number of rows without them")
def crps_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    quantile: npt.ArrayLike,
    *,
    quantile_weight: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Continuous ranked probability score (CRPS) of a distribution that is given by its quantiles.

    ``loss = sample_weight * 2 * sum(quantile_weight * quantile_loss)`` for a row, over its quantiles; with
    predictions :math:`x_k` of the quantiles :math:`q_k`, their weights :math:`v_k`, target `t` and sample
    weight `w`:

    .. math:: 2 w \sum_{k=1}^Q v_k \max\big(q_k\, (t - x_k),\ (q_k - 1)\, (t - x_k)\big)

    The score is twice the integral of the quantile loss over all quantiles from 0 to 1. By default the
    weights are those of the trapezoidal rule, :math:`v_k = (q_{k+1} - q_{k-1}) / 2` with :math:`q_0 = 0` and
    :math:`q_{Q+1} = 1`, where the integrand is 0. Choose it to train or to compare forecasts of whole
    distributions: it has the unit of the target, and is the absolute error of a forecast without spread. The
    gradient of a prediction is that of its `quantile_loss`, times :math:`2 v_k`.

    Parameters
    ----------
    quantile : array_like with shape (Q,)
        The quantile of each prediction of a row, from 0 to 1, in ascending order; with `quantile_weight` in
        any order.
    quantile_weight : array_like with shape (Q,), optional
        The weight of each quantile. It is not checked, and need not add up to 1. ``np.full(Q, 1 / Q)`` gives
        twice the mean of `quantile_loss`.

    See Also
    --------
    quantile_loss : the loss of each quantile.

    Notes
    -----
    The error of the trapezoidal rule falls with the square of the distance of the quantiles. Where targets
    are normal and forecasts right, 9 quantiles from 0.1 to 0.9 give 1.5 % less than the score, and 99 of them
    0.02 % less; with equal weights they give 9 % and 1 % more.

    References
    ----------
    Gneiting and Ranjan, "Comparing density forecasts using threshold- and quantile-weighted scoring rules",
    2011. Equal weights are those of GluonTS and of most competitions.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> x, quantile = np.array([[1.0, 2.0, 4.0], [0.0, 0.5, 1.0]]), [0.1, 0.5, 0.9]
    >>> fastloss.crps_loss(x, [3.0, 0.5], quantile, reduction="none").round(4)
    array([0.55, 0.05])
    >>> loss, grad = fastloss.crps_loss(x, [3.0, 0.5], quantile, return_grad=True)
    >>> grad.round(4)
    array([[-0.025, -0.2  ,  0.025],
           [-0.025,  0.   ,  0.025]])
    """
    return crps(input, target, quantile, quantile_weight, sample_weight, reduction, return_grad, out, common)


@documented(ELEMENTWISE)
def epsilon_insensitive_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    epsilon: float = 0.1,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Weighted],
) -> Any:
    r"""Absolute error beyond `epsilon`, and 0 up to it.

    ``loss = weight * max(0, abs(input - target) - epsilon)``; with input `x`, target `t` and weight `w`:

    .. math:: w \max(0,\ |x - t| - \varepsilon)

    The loss of support vector regression. Choose it for targets whose small errors do not matter: a
    prediction within `epsilon` of its target has loss 0. The gradient is ``weight * sign(input - target)``
    beyond `epsilon` and 0 up to it, also at the kinks ``abs(input - target) == epsilon``.

    Parameters
    ----------
    epsilon : float, default 0.1
        Largest error with a loss of 0; at least 0.

    See Also
    --------
    l1_loss : the same loss with ``epsilon=0``.

    References
    ----------
    Vapnik, "The nature of statistical learning theory", 1995. ``sklearn.svm.LinearSVR`` and
    ``sklearn.linear_model.SGDRegressor`` with ``loss="epsilon_insensitive"``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> x = np.array([1.0, 2.0, 4.0])
    >>> loss, grad = fastloss.epsilon_insensitive_loss(
    ...     x, [1.5, 2.0, 1.0], epsilon=1.0, reduction="none", return_grad=True
    ... )
    >>> loss
    array([0., 0., 2.])
    >>> grad
    array([0., 0., 1.])
    """
    return elementwise(
        "epsilon_insensitive", "input", input, target, reduction, return_grad, out, common,
        number("epsilon", epsilon, low=0.0),
    )  # fmt: skip


@documented(ELEMENTWISE, domain="greater than -1")
def mean_squared_log_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Checked],
) -> Any:
    r"""Squared difference of the logarithms of 1 plus input and 1 plus target.

    ``loss = weight * (log1p(input) - log1p(target))**2``; with input `x`, target `t` and weight `w`:

    .. math:: w\, \big(\log(1 + x) - \log(1 + t)\big)^2

    Choose it for targets of at least 0 that span orders of magnitude: it measures ratios rather than
    differences. It keeps its digits where input and target are nearly equal. The gradient is
    ``2 * weight * (log1p(input) - log1p(target)) / (1 + input)``. Targets must be greater than -1. Inputs are
    not checked: one of -1 has an infinite loss, and one below -1 gives NaN.

    Parameters
    ----------
    check_domain : bool, default True
        Check that every target is greater than -1. If False, a target of -1 gives infinity or NaN, and one
        below -1 gives NaN.

    See Also
    --------
    mse_loss : the squared difference of the numbers.
    gamma_nll_loss, poisson_nll_loss : for models of the logarithm of the mean.

    References
    ----------
    ``sklearn.metrics.mean_squared_log_error``, ``keras.losses.MeanSquaredLogarithmicError`` (values
    up to 1e-7 are raised to that); half of it is the objective ``reg:squaredlogerror`` of XGBoost.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> x = np.array([1.0, 2.0, 4.0])
    >>> loss, grad = fastloss.mean_squared_log_loss(
    ...     x, [1.5, 2.0, 1.0], reduction="none", return_grad=True
    ... )
    >>> loss.round(4)
    array([0.0498, 0.    , 0.8396])
    >>> grad.round(4)
    array([-0.2231,  0.    ,  0.3665])
    """
    return elementwise("squared_log", "input", input, target, reduction, return_grad, out, common)


@documented(ELEMENTWISE, domain="at least 0")
def poisson_nll_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Checked],
) -> Any:
    r"""Negative log-likelihood of counts under a Poisson distribution.

    ``loss = weight * (exp(input) - target * input)`` if `input` is the logarithm of the rate, and
    ``loss = weight * (input - target * log(input + eps))`` with ``log_input=False``; with input `x`, target
    `t` and weight `w`:

    .. math::

        w\, (e^x - t\, x)

        w\, \big(x - t \log(x + \varepsilon)\big)

    With `full`, where ``target > 1``, Stirling's approximation of the term without the input is added,

    .. math:: w\, \big(t \log t - t + \tfrac{1}{2} \log(2 \pi t)\big)

    Choose it for counts, and for other targets of at least 0 whose variance grows in proportion to their
    mean. For weight 1 the gradient is ``exp(input) - target``, or ``1 - target / (input + eps)`` with
    ``log_input=False``.

    Parameters
    ----------
    input : array_like of any shape
        Logarithms of the predicted rates, or the rates with ``log_input=False``; |types|
    target : scalar or array_like with the shape of `input`
        Counts, at least 0; they need not be integers. At 0 only the first term of the loss counts. Only a
        scalar broadcasts. Values of another type are converted to the type of `input`.
    log_input : bool, default True
        Whether `input` is the logarithm of the rate.
    full : bool, default False
        Add the term without the input. It changes no derivative.
    eps : float, default 1e-8
        Added to the rate in the logarithm, which keeps that of a rate of 0 finite; at least 0. Not used with
        `log_input`.

    See Also
    --------
    tweedie_nll_loss : for variances that grow with another power of the mean.

    References
    ----------
    ``torch.nn.functional.poisson_nll_loss``, ``sklearn._loss.HalfPoissonLoss``,
    ``keras.losses.Poisson`` (with ``log_input=False``); the objectives ``poisson`` of LightGBM and
    ``count:poisson`` of XGBoost.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> x = np.log([1.0, 2.0, 4.0])
    >>> loss, grad = fastloss.poisson_nll_loss(x, [0, 2, 5], reduction="none", return_grad=True)
    >>> loss.round(4)
    array([ 1.    ,  0.6137, -2.9315])
    >>> grad.round(4)
    array([ 1.,  0., -1.])
    """
    kernel = "poisson_log" if flag("log_input", log_input) else "poisson"
    eps = option("eps", eps)
    if flag("full", full):
        kernel += "_full"
    return elementwise(
        kernel, "input", input, target, reduction, return_grad, out, common, 0.0 if log_input else eps,
        return_hessian=return_hessian,
    )  # fmt: skip


@documented(
    ELEMENTWISE,
    gradients=GaussianNLLGradients,
    domain="at least 0",
    checked="variance",
    gradient_or_gradients="gradients",
)
def gaussian_nll_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    var: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    full: bool = False,
    eps: float = 1e-6,
    check_domain: bool = True,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: tuple[Array | None, Array | None] | None = None,
    **common: Unpack[CommonOfSeveral],
) -> Any:
    r"""Negative log-likelihood under a normal distribution, from its mean and variance.

    ``loss = 0.5 * weight * (log(v) + (input - target)**2 / v)`` with ``v = maximum(var, eps)``; with input
    `x`, target `t` and weight `w`:

    .. math:: \tfrac{w}{2} \Big(\log v + \frac{(x - t)^2}{v}\Big), \qquad v = \max(\mathrm{var}, \varepsilon)

    Choose it for models that predict their uncertainty along with the mean. For weight 1 the gradients are
    ``(input - target) / v`` and ``0.5 * (1 / v - ((input - target) / v)**2)``. Where `var` is less than `eps`
    its gradient is that at `eps`, not 0, so that the variance can grow again.

    Parameters
    ----------
    input : array_like of any shape
        Predicted means; |types|
    var : scalar or array_like with the shape of `input`
        Predicted variances, at least 0.
    full : bool, default False
        Add the constant ``0.5 * weight * log(2 * pi)``. It changes no derivative.
    eps : float, default 1e-6
        Lower bound of the variances, at least 0.
    check_domain : bool, default True
        Check that every variance is at least 0. If False, a negative variance counts as `eps`.
    out : tuple of two, each an ndarray with the shape and dtype of `input` or None, optional
        Buffers for the gradients of `input` and `var`. Each may be its argument itself (in place).
        A gradient whose place holds None is not computed; a scalar variance needs None. Needs `return_grad`.

    Returns
    -------
    grads : GaussianNLLGradients
        Only with `return_grad`: a named tuple ``(input, var)`` of arrays with the shape and dtype of `input`.
        `var` is None for a scalar variance, and each is None if `out` has None in its place. The tuple can be
        passed again as `out`.

    See Also
    --------
    mse_loss : for a constant variance.

    References
    ----------
    Nix and Weigend, "Estimating the mean and variance of the target probability distribution", 1994.
    ``torch.nn.functional.gaussian_nll_loss``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> x, var = np.array([1.0, 2.0]), np.array([1.0, 0.25])
    >>> loss, grads = fastloss.gaussian_nll_loss(x, [2.0, 2.0], var, reduction="none", return_grad=True)
    >>> loss.round(4)
    array([ 0.5   , -0.6931])
    >>> grads.input
    array([-1.,  0.])
    >>> grads.var
    array([0., 2.])
    """
    return gaussian(
        input, target, var, weight, reduction, return_grad, out, common, full=full, eps=option("eps", eps),
        check_domain=check_domain,
    )  # fmt: skip


@documented(ELEMENTWISE, domain="greater than 0")
def gamma_nll_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Checked],
) -> Any:
    r"""Negative log-likelihood under a gamma distribution, from the logarithm of its mean.

    ``loss = weight * (input + target * exp(-input))``; with input `x`, target `t` and weight `w`:

    .. math:: w\, (x + t\, e^{-x})

    Terms without the input are left out. Choose it for positive targets whose standard deviation is
    proportional to their mean, such as durations, claims and prices. The gradient is
    ``weight * (1 - target * exp(-input))``.

    Parameters
    ----------
    input : array_like of any shape
        Logarithms of the predicted means; |types|
    target : scalar or array_like with the shape of `input`
        Values to predict, greater than 0. Only a scalar broadcasts. Values of another type are converted to
        the type of `input`.

    See Also
    --------
    tweedie_nll_loss : also for targets of 0.

    References
    ----------
    ``sklearn._loss.HalfGammaLoss``, ``sklearn.linear_model.GammaRegressor``; the objectives ``gamma`` of
    LightGBM and ``reg:gamma`` of XGBoost.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> x = np.log([1.0, 2.0, 4.0])
    >>> loss, grad = fastloss.gamma_nll_loss(x, [3.0, 2.0, 1.0], reduction="none", return_grad=True)
    >>> loss.round(4)
    array([3.    , 1.6931, 1.6363])
    >>> grad.round(4)
    array([-2.  ,  0.  ,  0.75])
    """
    return elementwise(
        "gamma", "input", input, target, reduction, return_grad, out, common, return_hessian=return_hessian
    )


@documented(ELEMENTWISE, domain="allowed for `power`")
def tweedie_nll_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    power: float = 1.5,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Checked],
) -> Any:
    r"""Half the Tweedie deviance, from the logarithm of the mean.

    ``loss = weight * (exp((2 - p) * input) / (2 - p) - target * exp((1 - p) * input) / (1 - p))`` with
    ``p = power``; with input `x`, target `t` and weight `w`:

    .. math:: w \Big(\frac{e^{(2 - p)\, x}}{2 - p} - \frac{t\, e^{(1 - p)\, x}}{1 - p}\Big)

    Terms without the input are left out. Choose it for targets whose variance is proportional to the power
    `p` of their mean. Powers between 1 and 2 describe targets that are 0 with some probability and continuous
    above, such as rainfall or the yearly claims of a policy. The powers 1 and 2 are `poisson_nll_loss` and
    `gamma_nll_loss`; a power of 0 is half the squared error of ``exp(input)``. The gradient is
    ``weight * (exp((2 - p) * input) - target * exp((1 - p) * input))``. For powers of at most 0 or above 2
    the second derivative may be negative.

    Parameters
    ----------
    input : array_like of any shape
        Logarithms of the predicted means; |types|
    target : scalar or array_like with the shape of `input`
        Values to predict: at least 0 for ``1 <= power < 2``, greater than 0 for ``power >= 2``, any finite
        number for ``power <= 0``. Only a scalar broadcasts. Values of another type are converted to the type
        of `input`.
    power : float, default 1.5
        The power `p`. A power between 0 and 1 is an error: no Tweedie distribution has one.

    See Also
    --------
    poisson_nll_loss, gamma_nll_loss : the powers 1 and 2.

    References
    ----------
    ``sklearn._loss.HalfTweedieLoss``, ``sklearn.linear_model.TweedieRegressor``; the objectives
    ``tweedie`` of LightGBM and ``reg:tweedie`` of XGBoost.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> x = np.log([1.0, 4.0, 9.0])
    >>> loss, grad = fastloss.tweedie_nll_loss(x, [0.0, 4.0, 0.0], reduction="none", return_grad=True)
    >>> loss.round(4)
    array([2., 8., 6.])
    >>> grad.round(4)
    array([1., 0., 3.])
    """
    checked = number("power", power)
    if 0.0 < checked < 1.0:
        raise ValueError(f"power must not be between 0 and 1, got {power!r}")
    kernel = "tweedie" if 1.0 < checked < 2.0 else "tweedie_beyond"
    parameters: tuple[float, ...] = (checked,)
    if checked in (1.0, 2.0):
        kernel, parameters = "poisson_log" if checked == 1.0 else "gamma", ()
    return elementwise(
        kernel, "input", input, target, reduction, return_grad, out, common, *parameters,
        return_hessian=return_hessian,
    )  # fmt: skip
