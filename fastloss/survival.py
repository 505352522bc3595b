"""Losses of survival times, of which some are known only in part."""

from __future__ import annotations

from typing import Any, Literal, Unpack

import numpy.typing as npt

from fastloss._engine.documentation import documented
from fastloss._engine.fragments import ELEMENTWISE, SURVIVAL
from fastloss._engine.options import Common
from fastloss._engine.survival import aft, cox
from fastloss._engine.types import Array, Reduction

__all__ = ["aft_loss", "cox_ph_loss"]


@documented(ELEMENTWISE, domain="an interval of times")
def aft_loss(
    input: npt.ArrayLike,
    lower: npt.ArrayLike,
    upper: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    scale: float = 1.0,
    distribution: Literal["normal", "logistic", "extreme"] = "normal",
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Negative log-likelihood of a time that is known exactly, or to be in an interval.

    ``loss = weight * -log(cdf(z(upper)) - cdf(z(lower)))`` with ``z(t) = (log(t) - input) / scale``, and for
    an exact time, where both bounds are equal, ``weight * -log(pdf(z(lower)) / (scale * lower))``:

    .. math::

        -\log\big(F(z_u) - F(z_l)\big) \quad\text{or}\quad -\log \frac{f(z)}{s\, t}, \qquad
        z = \frac{\log t - x}{s}

    with the input `x`, a time `t` and the scale `s`. This is the accelerated failure time model, in which the
    logarithm of the time is `x` plus noise. Choose it to predict times themselves, where some are censored;
    for a risk score alone see `cox_ph_loss`. The likelihood is held from 1e-12 on, so that the loss of an
    element is at most 27.6 times its weight.

    Parameters
    ----------
    input : array_like of any shape
        Predictions of the logarithm of the time; |types| Everything is computed in float64.
    lower : scalar or array_like with the shape of `input`
        The time up to which the event had not happened, at least 0; 0 if that is not known (left-censored).
    upper : scalar or array_like with the shape of `input`
        The time at which it had happened, at least that of `lower`; infinity if it had not (right-censored).
        Where both are equal that is the time of the event.
    scale : float, default 1.0
        Scale of the noise, greater than 0.
    distribution : {"normal", "logistic", "extreme"}, default "normal"
        Distribution of the noise: times are then log-normal, log-logistic or Weibull. ``"extreme"`` is that
        of the least of many (Gumbel), :math:`F(z) = 1 - e^{-e^z}`.

    See Also
    --------
    cox_ph_loss : only the order of the times counts.

    Notes
    -----
    Derivatives are those of XGBoost, held to [-15, 15] and [1e-16, 15], before the weights. Far away, where
    the difference of `F` rounds to 0, they are XGBoost's limits, which are no derivatives of the loss: -15
    for a normal distribution with `input` too small, for instance.

    References
    ----------
    Barnwal, Cho and Hocking, "Survival regression with accelerated failure time model in XGBoost", 2020. The
    objective ``survival:aft`` of XGBoost, with `scale` as ``aft_loss_distribution_scale``, and its metric
    ``aft-nloglik``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> x, lower, upper = np.array([0.0, 1.0, 1.0]), [2.0, 0.0, 3.0], [2.0, 2.0, np.inf]
    >>> loss, grad = fastloss.aft_loss(x, lower, upper, reduction="none", return_grad=True)
    >>> loss.round(4)
    array([1.8523, 0.969 , 0.775 ])
    >>> grad.round(4)
    array([-0.6931,  1.0029, -0.8617])
    """
    return aft(
        input, lower, upper, weight, scale, distribution, reduction, return_grad, return_hessian, out, common
    )


@documented(SURVIVAL)
def cox_ph_loss(
    log_hazard: npt.ArrayLike,
    time: npt.ArrayLike,
    event: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    strata: npt.ArrayLike | None = None,
    ties: Literal["breslow", "efron"] = "breslow",
    reduction: Reduction = "mean",
    return_grad: bool = False,
    return_hessian: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Negative log partial likelihood of Cox's proportional hazards.

    ``loss[i] = weight[i] * (log((weight * exp(x))[time >= time[i]].sum()) - x[i])`` for an event `i`, else 0;
    with the log hazards `x`, times `t` and weights `w`:

    .. math:: w_i \Big(\log \sum_{j : t_j \ge t_i} w_j e^{x_j} - x_i\Big)

    The sum is over the risk set of the event: the rows that had not had theirs before. Choose it to learn who
    has the event earlier, from data in which some had none while they were watched. A constant added to all
    log hazards changes nothing, and of the times only their order counts. For times as such see `aft_loss`.

    Parameters
    ----------
    strata : array_like of int with shape (n,), optional
        The group of each row, any integers. A risk set has only rows of the event's own group, so that each
        group has a baseline of its own.
    ties : {"breslow", "efron"}, default "breslow"
        What happens to events at the same time. ``"breslow"``: all are in the risk set of each. ``"efron"``:
        they leave it one after the other, in the mean over all orders: for `d` events the logarithm is the
        mean of those of `d` sums, in which these events have the weights :math:`1 - l / d`, `l` from 0 to
        ``d - 1``. Without ties both are the same.

    See Also
    --------
    aft_loss : the distribution of times, also with intervals.

    Notes
    -----
    Rows are sorted once, and all risk sets are summed in one scan. The scan rescales its sum where hazards
    grow, so that none overflows, and a risk set of small hazards keeps its digits beside much larger ones.
    Results do not depend on the order of the rows, but for the order of sums.

    References
    ----------
    Cox, "Regression models and life-tables", 1972; Breslow, "Covariance analysis of censored survival data",
    1974; Efron, "The efficiency of Cox's likelihood function for censored data", 1977. ``coxph`` of R's
    package ``survival``, with the weights of cases as there; ``survival:cox`` of XGBoost for data without
    ties and weights.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> x, time, event = np.array([0.0, 1.0, 0.5]), [5.0, 2.0, 4.0], [True, True, False]
    >>> loss, grad = fastloss.cox_ph_loss(x, time, event, return_grad=True)
    >>> round(loss, 4)
    0.3401
    >>> grad.round(4)
    array([ 0.0932, -0.2468,  0.1536])
    """
    return cox(
        log_hazard, time, event, weight, strata, ties, reduction, return_grad, return_hessian, out, common
    )
