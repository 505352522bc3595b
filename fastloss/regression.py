"""Regression: losses of a prediction against a number, element by element.

In the formulas `x` is the input, `t` the target, :math:`r = x - t` the residual and `w` the weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from fastloss._engine.arguments import flag, number
from fastloss._engine.documentation import documented
from fastloss._engine.elementwise import GaussianNLLGradients, elementwise, gaussian
from fastloss._engine.fragments import ELEMENTWISE
from fastloss._engine.options import Common, CommonOfSeveral, option
from fastloss._engine.types import Array, Reduction

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "GaussianNLLGradients",
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


@documented(ELEMENTWISE)
def mse_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Squared error.

    ``loss = weight * (input - target)**2``

    .. math:: w\, (x - t)^2

    The usual loss for a number: its minimum is at the mean of the target. Large errors dominate it;
    `huber_loss` and `l1_loss` heed them less. There is no factor of one half: the gradient is
    :math:`2 w r`.

    Parameters
    ----------
    input : array_like
        Predictions, of any shape; float16, bfloat16 (of ml_dtypes), float32 or float64. Lists and
        integers become float64.

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
        weight,
        reduction,
        return_grad,
        out,
        common,
        return_hessian=return_hessian,
    )


@documented(ELEMENTWISE)
def l1_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Absolute error.

    ``loss = weight * abs(input - target)``

    .. math:: w\, |x - t|

    For targets with outliers: every error pulls equally hard, and the minimum is at the median of the
    target. At the kink, :math:`r = 0`, the gradient is 0. The second derivative is 0 everywhere.

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
        weight,
        reduction,
        return_grad,
        out,
        common,
        return_hessian=return_hessian,
    )


@documented(ELEMENTWISE, mean="the sum of the weights, where torch divides by the number of elements")
def huber_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    delta: float = 1.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Half the squared error up to `delta`, and a straight line beyond it.

    ``loss = weight * (0.5 * r**2 if abs(r) <= delta else delta * (abs(r) - 0.5 * delta))``, ``r =
    input - target``

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
    delta : float, default 1.0
        Where the parabola goes over into the line; greater than 0.

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
        weight,
        reduction,
        return_grad,
        out,
        common,
        parameters=(option("delta", delta),),
        return_hessian=return_hessian,
    )


@documented(ELEMENTWISE)
def smooth_l1_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    beta: float = 1.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Absolute error with a parabola in place of the kink.

    ``loss = weight * (0.5 * r**2 / beta if abs(r) < beta else abs(r) - 0.5 * beta)``, ``r = input -
    target``

    .. math::

        w \cdot \begin{cases}
        \dfrac{r^2}{2 \beta} & |r| < \beta \\
        |r| - \tfrac{1}{2} \beta & |r| \ge \beta
        \end{cases}

    The absolute error for gradients that must not jump, as in the regression of bounding boxes: far out
    the gradient is the sign of the error, whatever `beta` is. The second derivative is :math:`1 / \beta`
    where :math:`|r| < \beta` and 0 elsewhere. With ``beta=0`` it is `l1_loss`, with gradient 0 at the
    kink :math:`r = 0`.

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
    beta = number("beta", beta, low=0.0)
    kernel, parameters = ("smooth_l1", (beta,)) if beta > 0.0 else ("l1", ())
    return elementwise(
        kernel,
        "input",
        input,
        target,
        weight,
        reduction,
        return_grad,
        out,
        common,
        parameters=parameters,
        return_hessian=return_hessian,
    )


@documented(ELEMENTWISE)
def log_cosh_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Logarithm of the hyperbolic cosine of the error.

    ``loss = weight * log(cosh(input - target))``

    .. math:: w \log \cosh(x - t)

    A smooth relative of the Huber loss, for targets with outliers where second derivatives are wanted:
    :math:`r^2 / 2` near 0, :math:`|r| - \log 2` far out, the gradient :math:`\tanh r`, and a second
    derivative, :math:`1 / \cosh^2 r`, that nowhere jumps. Nothing overflows, however large the error.

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
        weight,
        reduction,
        return_grad,
        out,
        common,
        return_hessian=return_hessian,
    )


@documented(ELEMENTWISE)
def quantile_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    quantile: float = 0.5,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Quantile loss (pinball loss): an absolute error whose two sides weigh differently.

    ``loss = weight * max(quantile * (target - input), (quantile - 1) * (target - input))``

    .. math:: w \max\big(q\, (t - x),\ (q - 1)\, (t - x)\big)

    For predicting a quantile `q` of the target instead of its mean, as for the two ends of a prediction
    interval. The gradient is :math:`-q` where the prediction is too small, :math:`1 - q` where it is too
    large, and 0 at the kink :math:`x = t`. The second derivative is 0 everywhere.

    Parameters
    ----------
    quantile : float, default 0.5
        The quantile `q`, greater than 0 and less than 1. At 0.5 the loss is half of `l1_loss`.

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
    level = option("quantile", quantile)
    if level in (0.0, 1.0):
        raise ValueError(f"quantile must be between 0 and 1, and neither of them, got {quantile!r}")
    return elementwise(
        "quantile",
        "input",
        input,
        target,
        weight,
        reduction,
        return_grad,
        out,
        common,
        parameters=(level, 1.0 - level),
        return_hessian=return_hessian,
    )


@documented(ELEMENTWISE)
def epsilon_insensitive_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    epsilon: float = 0.1,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Absolute error beyond `epsilon`, and nothing up to it.

    ``loss = weight * max(0, abs(input - target) - epsilon)``

    .. math:: w \max(0,\ |x - t| - \varepsilon)

    The loss of support vector regression, for targets whose small errors do not matter: an element that is
    predicted to within `epsilon` is left alone. The gradient is the sign of the error beyond `epsilon`
    and 0 up to it, at the kinks :math:`|r| = \varepsilon` included.

    Parameters
    ----------
    epsilon : float, default 0.1
        The error that costs nothing; at least 0.

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
        weight,
        reduction,
        return_grad,
        out,
        common,
        parameters=(number("epsilon", epsilon, low=0.0),),
    )


@documented(ELEMENTWISE, domain="greater than -1", checked="input and target")
def mean_squared_log_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    check_domain: bool = True,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Squared difference of the logarithms of 1 plus each.

    ``loss = weight * (log(1 + input) - log(1 + target))**2``

    .. math:: w\, \big(\log(1 + x) - \log(1 + t)\big)^2

    For targets that are at least 0 and span orders of magnitude: it weighs ratios rather than
    differences. Near :math:`x = t` no digits are lost. Targets must be greater than -1; an input below
    -1 is not an error, but NaN, and one of exactly -1 costs infinitely much.

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
        weight,
        reduction,
        return_grad,
        out,
        common,
        check_domain=check_domain,
    )


@documented(ELEMENTWISE, domain="at least 0")
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
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Negative log-likelihood of counts under a Poisson distribution.

    ``loss = weight * (exp(input) - target * input)``, or ``weight * (input - target * log(input +
    eps))``

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
    log_input : bool, default True
        Whether `input` is the logarithm of the rate.
    full : bool, default False
        Add the term without the input. It changes no derivative.
    eps : float, default 1e-8
        Keeps the logarithm of a rate of 0 finite; at least 0. Not used with `log_input`.

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
    parameters = (option("eps", eps),)
    if flag("full", full):
        kernel += "_full"
    return elementwise(
        kernel,
        "input",
        input,
        target,
        weight,
        reduction,
        return_grad,
        out,
        common,
        parameters=() if log_input else parameters,
        check_domain=check_domain,
        return_hessian=return_hessian,
    )


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

    ``loss = 0.5 * weight * (log(v) + (input - target)**2 / v)``, ``v = max(var, eps)``

    .. math:: \tfrac{w}{2} \Big(\log v + \frac{(x - t)^2}{v}\Big), \qquad v = \max(\mathrm{var}, \varepsilon)

    and with `full` plus :math:`\tfrac{w}{2} \log 2 \pi`. For models that predict how uncertain they are
    along with the mean. Variances must not be negative. Where `var` is less than `eps` its gradient is
    that at `eps`, not 0, so that a variance can leave the ground again.

    Parameters
    ----------
    var : scalar or array_like with the shape of `input`
        Predicted variances; at least 0.
    full : bool, default False
        Add the constant. It changes no derivative.
    eps : float, default 1e-6
        The least variance; at least 0.

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
        weight,
        reduction,
        return_grad,
        out,
        common,
        full=full,
        eps=option("eps", eps),
        check_domain=check_domain,
    )


@documented(ELEMENTWISE, domain="greater than 0")
def gamma_nll_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    check_domain: bool = True,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Negative log-likelihood under a gamma distribution, from the logarithm of its mean.

    ``loss = weight * (input + target * exp(-input))``

    .. math:: w\, (x + t\, e^{-x})

    Terms without the input are left out. For positive targets whose spread is proportional to their
    mean, such as durations, claims and prices. Targets must be positive.

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
        weight,
        reduction,
        return_grad,
        out,
        common,
        check_domain=check_domain,
        return_hessian=return_hessian,
    )


@documented(ELEMENTWISE, domain="in the domain of the power")
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
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Half the Tweedie deviance, from the logarithm of the mean.

    ``loss = weight * (exp((2 - p) * input) / (2 - p) - target * exp((1 - p) * input) / (1 - p))``,
    ``p = power``

    .. math:: w \Big(\frac{e^{(2 - p)\, x}}{2 - p} - \frac{t\, e^{(1 - p)\, x}}{1 - p}\Big)

    Terms without the input are left out. For targets whose variance grows as the power `p` of their mean;
    between 1 and 2 they may be 0 with some probability and continuous above, such as rainfall or the
    claims of an insured in a year. Powers 1 and 2 are `poisson_nll_loss` and `gamma_nll_loss`, and a power
    of 0 is the squared error of a mean with a log link.

    Parameters
    ----------
    target : scalar or array_like with the shape of `input`
        What is to be predicted; at least 0 for :math:`1 \le p < 2`, greater than 0 for
        :math:`p \ge 2`, any finite number for :math:`p \le 0`.
    power : float, default 1.5
        The power `p`. No such distribution has a power between 0 and 1: that is an error.

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
        kernel,
        "input",
        input,
        target,
        weight,
        reduction,
        return_grad,
        out,
        common,
        parameters=parameters,
        check_domain=check_domain,
        return_hessian=return_hessian,
    )
