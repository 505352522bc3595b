"""Losses of survival times, of which some are known only in part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from fastloss._engine.documentation import documented
from fastloss._engine.fragments import SURVIVAL
from fastloss._engine.options import Common
from fastloss._engine.survival import cox
from fastloss._engine.types import Array, Reduction

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["cox_ph_loss"]


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
