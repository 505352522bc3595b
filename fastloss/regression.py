"""Regression: losses of a prediction against a number, element by element.

In the formulas below `x` is the input, `t` the target, :math:`r = x - t` the residual and `w` the weight.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from fastloss._engine import arguments
from fastloss._engine.elementwise import elementwise, gaussian
from fastloss._engine.types import Array, Reduction

__all__ = [
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


def mse_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Squared error.

    .. math:: w\, (x - t)^2

    The usual loss for a number: its minimum is at the mean of the target. Large errors dominate it;
    `huber_loss` and `l1_loss` heed them less. There is no factor of one half: the gradient is
    :math:`2 w r`.

    Parameters
    ----------
    input : array_like
        Predictions, of any shape; float16, bfloat16 (of ml_dtypes), float32 or float64. Lists and
        integers become float64.
    target : scalar or array_like, shape of `input`
        What is to be predicted. Nothing but a scalar is broadcast: (N,) against (N, 1) is an error.
        Other types than that of `input`, integers and booleans included, are converted to it.
    weight : scalar or array_like, shape of `input`, optional
        A weight for each element. Where it is 0, loss and derivatives are 0, even where the term
        itself is infinite.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the sum of the weights (the number of elements without `weight`; a
        scalar counts as the weight of each element).
    return_grad : bool, default False
        Also return the gradient with respect to `input`, computed in the same pass.
    return_hessian : bool, default False
        Also return the second derivative of each element's loss by that element; needs `return_grad`.
    grad_output : scalar, or array_like of the loss's shape, optional
        The upstream gradient: multiplies both derivatives, not the loss. Needs `return_grad`.
    out : ndarray, shape and dtype of `input`, optional
        Where the gradient is written; may be `input` itself (in place). Needs `return_grad`.
    accumulate : bool, default False
        Add the gradient to `out`.
    num_threads : int, optional
        For this call; the package setting otherwise. Results do not depend on it.

    Returns
    -------
    loss : float, or ndarray of the shape of `input`
        A Python float for ``"mean"`` and ``"sum"``; for ``"none"`` an array of the dtype of `input`,
        float32 for half types. Of no elements the mean is NaN and the sum 0. A NaN in `input` or
        `target` is NaN in the unreduced loss and the derivatives, at that element alone.
    grad : ndarray, shape and dtype of `input`
        Only with `return_grad`; `out` where it was given.
    hessian : ndarray, shape and dtype of `input`
        Only with `return_hessian`. Both derivatives are those of the loss that is returned: ``"mean"``
        divides them too.

    Raises
    ------
    TypeError
        If an argument is of a type that cannot be used.
    ValueError
        If a shape or an option is wrong, or `out` overlaps an input without being `input`. Nothing
        has been written to `out` then.

    See Also
    --------
    huber_loss, l1_loss : less sensitive to outliers.
    gaussian_nll_loss : with a variance that is predicted too.

    References
    ----------
    ``torch.nn.functional.mse_loss``, ``sklearn.metrics.mean_squared_error``,
    ``optax.losses.squared_error``, ``keras.losses.MeanSquaredError``; the objectives ``regression`` of
    LightGBM and ``reg:squarederror`` of XGBoost. Some peers halve it: ``optax.losses.l2_loss``,
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

    Weighted, and in place: the gradient takes the place of the predictions.

    >>> loss, grad = fastloss.mse_loss(x, 0.0, weight=[1.0, 2.0, 0.0], return_grad=True, out=x)
    >>> loss, grad is x
    (3.0, True)
    """
    return elementwise(
        "mse",
        "input",
        input,
        target,
        parameters=(),
        weight=weight,
        reduction=reduction,
        return_grad=return_grad,
        return_hessian=return_hessian,
        grad_output=grad_output,
        out=out,
        accumulate=accumulate,
        num_threads=num_threads,
    )


def l1_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Absolute error.

    .. math:: w\, |x - t|

    For targets with outliers: every error pulls equally hard, and the minimum is at the median of the
    target. At the kink, :math:`r = 0`, the gradient is 0. The second derivative is 0 everywhere.

    Parameters
    ----------
    input : array_like
        Predictions; types as in `mse_loss`.
    target : scalar or array_like, shape of `input`
        What is to be predicted.
    weight : scalar or array_like, shape of `input`, optional
        A weight for each element.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the sum of the weights.
    return_grad, return_hessian, grad_output, out, accumulate, num_threads
        As in `mse_loss`.

    Returns
    -------
    loss : float, or ndarray of the shape of `input`
        As in `mse_loss`.
    grad, hessian : ndarray, shape and dtype of `input`
        Only with `return_grad` and `return_hessian`.

    Raises
    ------
    TypeError, ValueError
        As `mse_loss`.

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
        "l1",
        "input",
        input,
        target,
        parameters=(),
        weight=weight,
        reduction=reduction,
        return_grad=return_grad,
        return_hessian=return_hessian,
        grad_output=grad_output,
        out=out,
        accumulate=accumulate,
        num_threads=num_threads,
    )


def huber_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    delta: float = 1.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Half the squared error up to `delta`, and a straight line beyond it.

    .. math::

        w \cdot \begin{cases}
        \tfrac{1}{2} r^2 & |r| \le \delta \\
        \delta\, \big(|r| - \tfrac{1}{2} \delta\big) & |r| > \delta
        \end{cases}

    For targets with outliers: as precise as the squared error on small errors, while no element pulls
    harder than `delta`. The gradient is :math:`r` held within :math:`\pm\delta`; the second derivative is 1
    where :math:`|r| \le \delta` and 0 beyond.

    Parameters
    ----------
    input : array_like
        Predictions; types as in `mse_loss`.
    target : scalar or array_like, shape of `input`
        What is to be predicted.
    weight : scalar or array_like, shape of `input`, optional
        A weight for each element.
    delta : float, default 1.0
        Where the parabola goes over into the line; greater than 0.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the sum of the weights (``torch.nn.functional.huber_loss`` divides by the
        number of elements).
    return_grad, return_hessian, grad_output, out, accumulate, num_threads
        As in `mse_loss`.

    Returns
    -------
    loss : float, or ndarray of the shape of `input`
        As in `mse_loss`.
    grad, hessian : ndarray, shape and dtype of `input`
        Only with `return_grad` and `return_hessian`.

    Raises
    ------
    TypeError, ValueError
        As `mse_loss`.

    See Also
    --------
    smooth_l1_loss : the same divided by `delta`.
    log_cosh_loss : of the same kind, without an option.

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
        "huber",
        "input",
        input,
        target,
        parameters=(arguments.number("delta", delta, above=0.0),),
        weight=weight,
        reduction=reduction,
        return_grad=return_grad,
        return_hessian=return_hessian,
        grad_output=grad_output,
        out=out,
        accumulate=accumulate,
        num_threads=num_threads,
    )


def smooth_l1_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    beta: float = 1.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Absolute error with a parabola in place of the kink.

    .. math::

        w \cdot \begin{cases}
        \dfrac{r^2}{2 \beta} & |r| < \beta \\
        |r| - \tfrac{1}{2} \beta & |r| \ge \beta
        \end{cases}

    The absolute error for gradients that must not jump, as in the regression of bounding boxes: far out
    the gradient is the sign of the error, whatever `beta` is. The second derivative is :math:`1 / \beta`
    where :math:`|r| < \beta` and 0 elsewhere. With ``beta=0`` it is `l1_loss`, with gradient 0 at the
    kink :math:`r = 0`.

    Parameters
    ----------
    input : array_like
        Predictions; types as in `mse_loss`.
    target : scalar or array_like, shape of `input`
        What is to be predicted.
    weight : scalar or array_like, shape of `input`, optional
        A weight for each element.
    beta : float, default 1.0
        Half the width of the parabola; at least 0.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the sum of the weights.
    return_grad, return_hessian, grad_output, out, accumulate, num_threads
        As in `mse_loss`.

    Returns
    -------
    loss : float, or ndarray of the shape of `input`
        As in `mse_loss`.
    grad, hessian : ndarray, shape and dtype of `input`
        Only with `return_grad` and `return_hessian`.

    Raises
    ------
    TypeError, ValueError
        As `mse_loss`.

    See Also
    --------
    huber_loss : the same times `beta`.

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
    beta = arguments.number("beta", beta, low=0.0)
    return elementwise(
        "smooth_l1" if beta > 0.0 else "l1",
        "input",
        input,
        target,
        parameters=(beta,) if beta > 0.0 else (),
        weight=weight,
        reduction=reduction,
        return_grad=return_grad,
        return_hessian=return_hessian,
        grad_output=grad_output,
        out=out,
        accumulate=accumulate,
        num_threads=num_threads,
    )


def log_cosh_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Logarithm of the hyperbolic cosine of the error.

    .. math:: w \log \cosh(x - t)

    A smooth relative of the Huber loss, for targets with outliers where second derivatives are wanted:
    :math:`r^2 / 2` near 0, :math:`|r| - \log 2` far out, the gradient :math:`\tanh r`, and a second
    derivative, :math:`1 / \cosh^2 r`, that nowhere jumps. Nothing overflows, however large the error.

    Parameters
    ----------
    input : array_like
        Predictions; types as in `mse_loss`.
    target : scalar or array_like, shape of `input`
        What is to be predicted.
    weight : scalar or array_like, shape of `input`, optional
        A weight for each element.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the sum of the weights.
    return_grad, return_hessian, grad_output, out, accumulate, num_threads
        As in `mse_loss`.

    Returns
    -------
    loss : float, or ndarray of the shape of `input`
        As in `mse_loss`.
    grad, hessian : ndarray, shape and dtype of `input`
        Only with `return_grad` and `return_hessian`.

    Raises
    ------
    TypeError, ValueError
        As `mse_loss`.

    See Also
    --------
    huber_loss : with a bend that can be chosen.

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
        "log_cosh",
        "input",
        input,
        target,
        parameters=(),
        weight=weight,
        reduction=reduction,
        return_grad=return_grad,
        return_hessian=return_hessian,
        grad_output=grad_output,
        out=out,
        accumulate=accumulate,
        num_threads=num_threads,
    )


def quantile_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    quantile: float = 0.5,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Quantile loss (pinball loss): an absolute error whose two sides weigh differently.

    .. math:: w \max\big(q\, (t - x),\ (q - 1)\, (t - x)\big)

    For predicting a quantile `q` of the target instead of its mean, as for the two ends of a prediction
    interval. The gradient is :math:`-q` where the prediction is too small, :math:`1 - q` where it is too
    large, and 0 at the kink :math:`x = t`. The second derivative is 0 everywhere.

    Parameters
    ----------
    input : array_like
        Predictions; types as in `mse_loss`.
    target : scalar or array_like, shape of `input`
        What is to be predicted.
    weight : scalar or array_like, shape of `input`, optional
        A weight for each element.
    quantile : float, default 0.5
        The quantile `q`, greater than 0 and less than 1. At 0.5 the loss is half of `l1_loss`.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the sum of the weights.
    return_grad, return_hessian, grad_output, out, accumulate, num_threads
        As in `mse_loss`.

    Returns
    -------
    loss : float, or ndarray of the shape of `input`
        As in `mse_loss`.
    grad, hessian : ndarray, shape and dtype of `input`
        Only with `return_grad` and `return_hessian`.

    Raises
    ------
    TypeError, ValueError
        As `mse_loss`.

    See Also
    --------
    l1_loss : for the median.

    References
    ----------
    Koenker and Bassett, "Regression quantiles", 1978. ``sklearn.metrics.mean_pinball_loss``,
    ``sklearn._loss.PinballLoss``; the objectives ``quantile`` of LightGBM and ``reg:quantileerror``
    of XGBoost.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> x = np.array([1.0, 2.0])
    >>> loss, grad = fastloss.quantile_loss(x, 1.5, quantile=0.9, reduction="none", return_grad=True)
    >>> loss.round(4)
    array([0.45, 0.05])
    >>> grad.round(4)
    array([-0.9,  0.1])
    """
    checked = arguments.number("quantile", quantile, low=0.0, high=1.0)
    if checked in (0.0, 1.0):
        raise ValueError(f"quantile must be between 0 and 1, and neither of them, got {quantile!r}")
    return elementwise(
        "quantile",
        "input",
        input,
        target,
        parameters=(checked, 1.0 - checked),
        weight=weight,
        reduction=reduction,
        return_grad=return_grad,
        return_hessian=return_hessian,
        grad_output=grad_output,
        out=out,
        accumulate=accumulate,
        num_threads=num_threads,
    )


def epsilon_insensitive_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    epsilon: float = 0.1,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Absolute error beyond `epsilon`, and nothing up to it.

    .. math:: w \max(0,\ |x - t| - \varepsilon)

    The loss of support vector regression, for targets whose small errors do not matter: an element that is
    predicted to within `epsilon` is left alone. The gradient is the sign of the error beyond `epsilon`
    and 0 up to it, at the kinks :math:`|r| = \varepsilon` included.

    Parameters
    ----------
    input : array_like
        Predictions; types as in `mse_loss`.
    target : scalar or array_like, shape of `input`
        What is to be predicted.
    weight : scalar or array_like, shape of `input`, optional
        A weight for each element.
    epsilon : float, default 0.1
        The error that costs nothing; at least 0.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the sum of the weights.
    return_grad, grad_output, out, accumulate, num_threads
        As in `mse_loss`.

    Returns
    -------
    loss : float, or ndarray of the shape of `input`
        As in `mse_loss`.
    grad : ndarray, shape and dtype of `input`
        Only with `return_grad`.

    Raises
    ------
    TypeError, ValueError
        As `mse_loss`.

    See Also
    --------
    l1_loss : the same with ``epsilon=0``.

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
        "epsilon_insensitive",
        "input",
        input,
        target,
        parameters=(arguments.number("epsilon", epsilon, low=0.0),),
        weight=weight,
        reduction=reduction,
        return_grad=return_grad,
        grad_output=grad_output,
        out=out,
        accumulate=accumulate,
        num_threads=num_threads,
    )


def mean_squared_log_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    check_domain: bool = True,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Squared difference of the logarithms of 1 plus each.

    .. math:: w\, \big(\log(1 + x) - \log(1 + t)\big)^2

    For targets that are at least 0 and span orders of magnitude: it weighs ratios rather than
    differences. Near :math:`x = t` no digits are lost. Targets must be greater than -1; an input below
    -1 is not an error, but NaN, and one of exactly -1 costs infinitely much.

    Parameters
    ----------
    input : array_like
        Predictions; types as in `mse_loss`.
    target : scalar or array_like, shape of `input`
        What is to be predicted; greater than -1.
    weight : scalar or array_like, shape of `input`, optional
        A weight for each element.
    check_domain : bool, default True
        Check that every target is greater than -1. Without, one of -1 gives infinity or NaN, and one below
        NaN.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the sum of the weights.
    return_grad, grad_output, out, accumulate, num_threads
        As in `mse_loss`.

    Returns
    -------
    loss : float, or ndarray of the shape of `input`
        As in `mse_loss`.
    grad : ndarray, shape and dtype of `input`
        Only with `return_grad`.

    Raises
    ------
    TypeError, ValueError
        As `mse_loss`; also for a target that is not greater than -1, with its position.

    See Also
    --------
    mse_loss : of the numbers themselves.
    gamma_nll_loss, poisson_nll_loss : from a model of the logarithm.

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
    return elementwise(
        "squared_log",
        "input",
        input,
        target,
        parameters=(),
        weight=weight,
        check_domain=check_domain,
        reduction=reduction,
        return_grad=return_grad,
        grad_output=grad_output,
        out=out,
        accumulate=accumulate,
        num_threads=num_threads,
    )


def poisson_nll_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    check_domain: bool = True,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Negative log-likelihood of counts under a Poisson distribution.

    From the logarithm of the rate (`log_input`), and from the rate itself:

    .. math::

        w\, (e^x - t\, x)

        w\, \big(x - t \log(x + \varepsilon)\big)

    and with `full`, where :math:`t > 1`, plus Stirling's approximation of the term without the input,

    .. math:: w\, \big(t \log t - t + \tfrac{1}{2} \log(2 \pi t)\big)

    For counts, and for other targets of at least 0 whose variance grows with their mean. Targets must
    not be negative; they need not be whole.

    Parameters
    ----------
    input : array_like
        Logarithms of the predicted rates, or with ``log_input=False`` the rates; types as in `mse_loss`.
    target : scalar or array_like, shape of `input`
        The counts; at least 0. At a target of 0 only the first term is there.
    weight : scalar or array_like, shape of `input`, optional
        A weight for each element.
    log_input : bool, default True
        Whether `input` is the logarithm of the rate.
    full : bool, default False
        Add the term without the input. It changes no derivative.
    eps : float, default 1e-8
        Keeps the logarithm of a rate of 0 finite; at least 0. Not used with `log_input`.
    check_domain : bool, default True
        Check that every target is at least 0. Without, a negative one gives the number that the formula
        gives, which is no likelihood.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the sum of the weights.
    return_grad, return_hessian, grad_output, out, accumulate, num_threads
        As in `mse_loss`.

    Returns
    -------
    loss : float, or ndarray of the shape of `input`
        As in `mse_loss`.
    grad, hessian : ndarray, shape and dtype of `input`
        Only with `return_grad` and `return_hessian`.

    Raises
    ------
    TypeError, ValueError
        As `mse_loss`; also for a negative target, with its position.

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
    eps = arguments.number("eps", eps, low=0.0)
    is_log = arguments.flag("log_input", log_input)
    return elementwise(
        ("poisson_log" if is_log else "poisson") + ("_full" if arguments.flag("full", full) else ""),
        "input",
        input,
        target,
        parameters=() if is_log else (eps,),
        weight=weight,
        check_domain=check_domain,
        reduction=reduction,
        return_grad=return_grad,
        return_hessian=return_hessian,
        grad_output=grad_output,
        out=out,
        accumulate=accumulate,
        num_threads=num_threads,
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
    grad_output: npt.ArrayLike | None = None,
    out: tuple[Array | None, Array | None] | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Negative log-likelihood under a normal distribution, from its mean and variance.

    .. math:: \tfrac{w}{2} \Big(\log v + \frac{(x - t)^2}{v}\Big), \qquad v = \max(\mathrm{var}, \varepsilon)

    and with `full` plus :math:`\tfrac{w}{2} \log 2 \pi`. For models that predict how uncertain they are
    along with the mean. Variances must not be negative. Where `var` is less than `eps` its gradient is
    that at `eps`, not 0, so that a variance can leave the ground again.

    Parameters
    ----------
    input : array_like
        Predicted means; types as in `mse_loss`.
    target : scalar or array_like, shape of `input`
        What is to be predicted.
    var : scalar or array_like, shape of `input`
        Predicted variances; at least 0.
    weight : scalar or array_like, shape of `input`, optional
        A weight for each element.
    full : bool, default False
        Add the constant. It changes no derivative.
    eps : float, default 1e-6
        The least variance; at least 0.
    check_domain : bool, default True
        Check that every variance is at least 0. Without, a negative one counts as `eps`.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the sum of the weights.
    return_grad : bool, default False
        Also return the gradients with respect to `input` and `var`, computed in the same pass.
    grad_output : scalar, or array_like of the loss's shape, optional
        The upstream gradient: multiplies both gradients, not the loss. Needs `return_grad`.
    out : tuple of two ndarrays or None, optional
        Where the gradients for `input` and `var` are written, each as in `mse_loss`; None for one that is
        not wanted. A tuple that was returned can be passed again. Needs `return_grad`.
    accumulate : bool or tuple of two bools, default False
        Add the gradients to `out`: both of them, or those for which the tuple says so.
    num_threads : int, optional
        As in `mse_loss`.

    Returns
    -------
    loss : float, or ndarray of the shape of `input`
        As in `mse_loss`.
    grads : named tuple with the fields input and var
        Only with `return_grad`: arrays of the shape and dtype of `input`. `var` is None where the variance
        is a scalar, and either is None where `out` holds None for it.

    Raises
    ------
    TypeError, ValueError
        As `mse_loss`; also for a negative variance, with its position.

    See Also
    --------
    mse_loss : for a variance that is the same everywhere.

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
        input,
        target,
        var,
        weight=weight,
        full=full,
        eps=arguments.number("eps", eps, low=0.0),
        check_domain=check_domain,
        reduction=reduction,
        return_grad=return_grad,
        grad_output=grad_output,
        out=out,
        accumulate=accumulate,
        num_threads=num_threads,
    )


def gamma_nll_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    check_domain: bool = True,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Negative log-likelihood under a gamma distribution, from the logarithm of its mean.

    .. math:: w\, (x + t\, e^{-x})

    Terms without the input are left out. For positive targets whose spread is proportional to their
    mean, such as durations, claims and prices. Targets must be positive.

    Parameters
    ----------
    input : array_like
        Logarithms of the predicted means; types as in `mse_loss`.
    target : scalar or array_like, shape of `input`
        What is to be predicted; greater than 0.
    weight : scalar or array_like, shape of `input`, optional
        A weight for each element.
    check_domain : bool, default True
        Check that every target is greater than 0. Without, another gives the number that the formula
        gives, which is no likelihood.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the sum of the weights.
    return_grad, return_hessian, grad_output, out, accumulate, num_threads
        As in `mse_loss`.

    Returns
    -------
    loss : float, or ndarray of the shape of `input`
        As in `mse_loss`.
    grad, hessian : ndarray, shape and dtype of `input`
        Only with `return_grad` and `return_hessian`.

    Raises
    ------
    TypeError, ValueError
        As `mse_loss`; also for a target that is not positive, with its position.

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
        "gamma",
        "input",
        input,
        target,
        parameters=(),
        weight=weight,
        check_domain=check_domain,
        reduction=reduction,
        return_grad=return_grad,
        return_hessian=return_hessian,
        grad_output=grad_output,
        out=out,
        accumulate=accumulate,
        num_threads=num_threads,
    )


def tweedie_nll_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    power: float = 1.5,
    check_domain: bool = True,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: Array | None = None,
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Half the Tweedie deviance, from the logarithm of the mean.

    .. math:: w \Big(\frac{e^{(2 - p)\, x}}{2 - p} - \frac{t\, e^{(1 - p)\, x}}{1 - p}\Big)

    Terms without the input are left out. For targets whose variance grows as the power `p` of their mean;
    between 1 and 2 they may be 0 with some probability and continuous above, such as rainfall or the
    claims of an insured in a year. Powers 1 and 2 are `poisson_nll_loss` and `gamma_nll_loss`, and a power
    of 0 is the squared error of a mean with a log link.

    Parameters
    ----------
    input : array_like
        Logarithms of the predicted means; types as in `mse_loss`.
    target : scalar or array_like, shape of `input`
        What is to be predicted; at least 0 for :math:`1 \le p < 2`, greater than 0 for
        :math:`p \ge 2`, any finite number for :math:`p \le 0`.
    weight : scalar or array_like, shape of `input`, optional
        A weight for each element.
    power : float, default 1.5
        The power `p`. No such distribution has a power between 0 and 1: that is an error.
    check_domain : bool, default True
        Check that every target is one that the power allows. Without, another gives the number that the
        formula gives, which is no likelihood.
    reduction : {"mean", "sum", "none"}, default "mean"
        ``"mean"`` divides by the sum of the weights.
    return_grad, return_hessian, grad_output, out, accumulate, num_threads
        As in `mse_loss`.

    Returns
    -------
    loss : float, or ndarray of the shape of `input`
        As in `mse_loss`.
    grad, hessian : ndarray, shape and dtype of `input`
        Only with `return_grad` and `return_hessian`. For powers below 1 or above 2 the second derivative
        may be negative.

    Raises
    ------
    TypeError, ValueError
        As `mse_loss`; also for a target that the power does not allow, with its position.

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
    checked = arguments.number("power", power)
    if 0.0 < checked < 1.0:
        raise ValueError(f"power must not be between 0 and 1, got {power!r}")
    kernel = "tweedie" if 1.0 < checked < 2.0 else "tweedie_beyond"
    parameters: tuple[float, ...] = (checked,)
    if checked == 1.0:
        kernel, parameters = "poisson_log", ()
    elif checked == 2.0:
        kernel, parameters = "gamma", ()
    return elementwise(
        kernel,
        "input",
        input,
        target,
        parameters=parameters,
        weight=weight,
        check_domain=check_domain,
        reduction=reduction,
        return_grad=return_grad,
        return_hessian=return_hessian,
        grad_output=grad_output,
        out=out,
        accumulate=accumulate,
        num_threads=num_threads,
    )
