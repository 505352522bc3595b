"""Distributions: negative log-likelihoods with a gradient for every parameter, element by element.

In the formulas `x` is the input, `t` the target, and `w` the weight.
"""

from __future__ import annotations

from typing import Any, Unpack

import numpy.typing as npt

from fastloss._engine.distribution import (
    NegativeBinomialNLLGradients,
    StudentTNLLGradients,
    negative_binomial,
    student_t,
)
from fastloss._engine.documentation import documented
from fastloss._engine.fragments import DISTRIBUTIONS
from fastloss._engine.options import CommonOfSeveral
from fastloss._engine.types import Array, Reduction

__all__ = [
    "NegativeBinomialNLLGradients",
    "StudentTNLLGradients",
    "negative_binomial_nll_loss",
    "student_t_nll_loss",
]


@documented(
    DISTRIBUTIONS,
    gradients=NegativeBinomialNLLGradients,
    domain="in its domain, which is at least 0 for a target and greater than 0 for a dispersion",
    checked="value",
)
def negative_binomial_nll_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    dispersion: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    full: bool = False,
    check_domain: bool = True,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: tuple[Array | None, Array | None] | None = None,
    **common: Unpack[CommonOfSeveral],
) -> Any:
    r"""Negative log-likelihood of counts that vary more than those of a Poisson distribution.

    ``loss = weight * -log(p)``, `p` the negative binomial probability of the target, whose mean is
    ``exp(input)``; with input `x`, target `t`, dispersion `a`, mean :math:`m = e^x` and weight `w`:

    .. math::
        w \left( \tfrac{1}{a} \log(1 + a m) + t \big(\log(1 + a m) - x\big)
        - \log \frac{\Gamma(t + 1/a)}{\Gamma(1/a)} - t \log a \right)

    Choose it for counts whose variance, :math:`m + a m^2`, exceeds their mean: sales, visits, reads of genes.
    `poisson_nll_loss` is its limit for a dispersion of 0. The gradient by the input is
    ``weight * (m - target) / (1 + dispersion * m)``. The gradient by the dispersion is for `dispersion`
    itself, not for its logarithm.

    Parameters
    ----------
    input : array_like of any shape
        Logarithms of the predicted means; |types|
    target : scalar or array_like with the shape of `input`
        Counts, at least 0; they need not be integers. Only a scalar broadcasts.
    dispersion : scalar or array_like with the shape of `input`
        Predicted dispersions, greater than 0; the reciprocal of the number of failures. A scalar is kept in
        float64, and its gradient is the sum over all elements.
    full : bool, default False
        Add the only term without a parameter, ``log(target!)``.

    See Also
    --------
    poisson_nll_loss : with variances equal to the means.

    Notes
    -----
    Everything is computed in float64. The difference of the logarithms of the gamma function has no
    cancellation for small dispersions.

    References
    ----------
    Hilbe, "Negative binomial regression", 2011 (NB2). ``scipy.stats.nbinom``,
    ``torch.distributions.NegativeBinomial``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> x = np.log([1.0, 2.0, 4.0])
    >>> loss, grads = fastloss.negative_binomial_nll_loss(x, [0.0, 2.0, 9.0], 0.5, return_grad=True)
    >>> round(loss, 4), round(grads.dispersion, 4)
    (-2.4887, 0.0868)
    >>> grads.input.round(4)
    array([ 0.2222,  0.    , -0.5556])
    """
    return negative_binomial(
        input, target, dispersion, weight, reduction, return_grad, out, common, full=full,
        check_domain=check_domain,
    )  # fmt: skip


@documented(
    DISTRIBUTIONS,
    gradients=StudentTNLLGradients,
    domain="in its domain, which is greater than 0 for `scale` and `df`",
    checked="value",
)
def student_t_nll_loss(
    input: npt.ArrayLike,
    target: npt.ArrayLike,
    scale: npt.ArrayLike,
    df: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    full: bool = False,
    check_domain: bool = True,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
    **common: Unpack[CommonOfSeveral],
) -> Any:
    r"""Negative log-likelihood of Student's t-distribution with location, scale and degrees of freedom.

    ``loss = weight * -log(p)``, `p` the density of the target; with ``z = (input - target) / scale``, degrees
    of freedom :math:`\nu`, scale `s` and weight `w`:

    .. math::
        w \left( \tfrac{\nu + 1}{2} \log\big(1 + \tfrac{z^2}{\nu}\big) + \log s + \tfrac{1}{2} \log \nu
        - \log \frac{\Gamma((\nu + 1) / 2)}{\Gamma(\nu / 2)} \right)

    Choose it where `gaussian_nll_loss` is upset by outliers: its tails are heavy, so that the gradient of a
    large error falls as ``(df + 1) / error``. For large `df` it is the normal distribution, whose standard
    deviation is `scale`.

    Parameters
    ----------
    input : array_like of any shape
        Predicted locations; |types|
    scale : scalar or array_like with the shape of `input`
        Predicted scales, greater than 0. A scalar is kept in float64, and its gradient is the sum over all
        elements.
    df : scalar or array_like with the shape of `input`
        Predicted degrees of freedom, greater than 0; infinity is the normal distribution. A scalar as for
        `scale`.
    full : bool, default False
        Add the only term without a parameter, ``0.5 * log(pi)``.

    See Also
    --------
    gaussian_nll_loss : the limit for many degrees of freedom.

    Notes
    -----
    Everything is computed in float64. Neither large degrees of freedom nor far tails lose digits.

    References
    ----------
    Lange, Little and Taylor, "Robust statistical modeling using the t distribution", 1989.
    ``scipy.stats.t``, ``torch.distributions.StudentT``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> x = np.array([1.0, 2.0, 4.0])
    >>> loss, grads = fastloss.student_t_nll_loss(x, [1.5, 2.0, 1.0], 1.0, 4.0, return_grad=True)
    >>> round(loss, 4)
    1.4412
    >>> grads.input.round(4)
    array([-0.1961,  0.    ,  0.3846])
    >>> round(grads.scale, 4), round(grads.df, 4)
    (-0.2519, 0.0349)
    """
    return student_t(
        input, target, scale, df, weight, reduction, return_grad, out, common, full=full,
        check_domain=check_domain,
    )  # fmt: skip
