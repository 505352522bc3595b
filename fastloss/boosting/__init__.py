r"""Objectives for gradient boosting: the losses in the form that LightGBM and XGBoost require.

`lightgbm_objective` and `xgboost_objective` return callable objects that replace a built-in objective, in
the native interface and in that of scikit-learn. They return the gradient and the second derivative with
respect to the raw scores, on the scale of the library. If the library has the objective built in, a model
trained with the one of this module equals a model trained with its own.

Every objective has `init_score`, the constant score of least loss, at which boosting should start, and
`transform`, which turns raw scores into predictions; the libraries do neither for custom objectives.
`LGBMClassifier`, `LGBMRegressor`, `LGBMRanker`, `XGBClassifier` and `XGBRegressor` of this module are the
libraries' own estimators for scikit-learn, which do both for these objectives::

    model = LGBMClassifier(objective=lightgbm_objective("sigmoid_focal_loss")).fit(X, y)
    model.predict_proba(X)

In the native interfaces the caller does both::

    objective = lightgbm_objective("huber_loss", delta=2.0)
    start = objective.init_score(y)
    data = lightgbm.Dataset(X, y, init_score=np.full(len(y), start))
    booster = lightgbm.train({"objective": objective}, data)
    prediction = objective.transform(start + booster.predict(X))

    objective = xgboost_objective("poisson_nll_loss")
    params = {"objective": "count:poisson", "base_score": objective.transform(objective.init_score(y))}
    booster = xgboost.train(params, xgboost.DMatrix(X, y), 100, obj=objective)

The start of `cross_entropy` is a score for each class: ``np.full((len(y), len(start)), start)`` for LightGBM,
and ``"base_score": objective.init_score(y).tolist()`` for XGBoost, from version 3.1 on.

A library is imported when one of its estimators is first used. The data set of the native interfaces is any
object with `get_label` and `get_weight`. (The gradient boosting of scikit-learn itself,
``HistGradientBoostingClassifier`` and ``HistGradientBoostingRegressor``, accepts custom objectives only
through private modules, so this module does not support it.)

The derivatives
---------------
With the raw score `s`, the label `y`, :math:`p = \sigma(s)` or the softmax, `K` classes, and each row times
the weight of its sample, the two libraries use:

================================  =========================  =====================  ======================
name                              gradient                   second, LightGBM       second, XGBoost
================================  =========================  =====================  ======================
mse_loss                          s - y                      1                      1
l1_loss                           sign(s - y)                1                      1
huber_loss                        s - y, within +-delta      1                      1
quantile_loss                     1 - q if s >= y, else -q   1                      1
log_cosh_loss                     tanh(s - y)                tanh(s - y) / (s - y)  the same
poisson_nll_loss                  e^s - y                    e^(s+max_delta_step)   the same
gamma_nll_loss                    1 - y e^-s                 y e^-s                 the same
tweedie_nll_loss, v = power       e^(2-v)s - y e^(1-v)s      its derivative         the same
binary_cross_entropy_with_logits  p - y                      p (1 - p)              max(p (1 - p), 1e-16)
sigmoid_focal_loss                the loss's own             its derivative, held   the same, from 1e-16
cross_entropy                     p - (y == k)               K / (K-1) p (1 - p)    max(2 p (1 - p), 1e-16)
gaussian_nll_loss,                the loss's own, by each    the diagonal of the    the same
negative_binomial_nll_loss,       score                      Fisher information,
student_t_nll_loss                                           or near it
softmax_focal_loss                F (p - (y == k))           K / (K-1) F p (1 - p)  max(2 F p (1 - p),
                                                                                    1e-16)
cox_ph_loss                       the loss's own             its diagonal           the same
aft_loss                          the loss's own             its derivative, held   the same
lambda_rank_loss                  the loss's own             the loss's own         the same
================================  =========================  =====================  ======================

The step of a leaf is divided by the second derivative, and losses that are linear far away have none there.
So both libraries use 1 for the Huber, quantile and absolute losses. The other two losses are built into
neither:

- log-cosh has :math:`\tanh(r) / r`, the curvature of the parabola that touches the loss at :math:`\pm r`
  and is above it elsewhere, so that no step increases the loss. The second derivative itself,
  :math:`1 - \tanh^2 r`, is 8e-9 at an error of 10 and 0 at 60: a leaf of such errors would take an
  arbitrary step, or never be split, as its sum of second derivatives is too small.
- The focal loss is not convex: its second derivative is negative where the model is certain and wrong. It
  is bounded below by :math:`p_t |g|`, where :math:`p_t` is the probability of the label and `g` the
  gradient. So no element has a longer step than in logistic regression, which is :math:`1 / p_t`.

`softmax_focal_loss` has the factor :math:`F = \alpha_y (u^\gamma + \gamma u^{\gamma-1} p_y \,(-\log p_y))`,
with :math:`u = 1 - p_y`, for the gradient of a row beside that of `cross_entropy`. In the second derivative
it is held constant, as a weight of the row: that is positive, the same as `cross_entropy` for ``gamma=0``,
and needed fewer rounds than the exact diagonal, which must be held to a positive number and is larger near a
probability of 1.

Several scores for each row
---------------------------
`quantile_loss` with an array of quantiles has a score for each of them. The likelihoods of distributions have
one for each parameter, in the order of the arguments of the loss: the mean, or its logarithm for the negative
binomial distribution, or the location; then the logarithms of the variance, of the dispersion, or of scale
and degrees of freedom. `transform` returns the parameters themselves (of the negative binomial distribution
the mean). Labels are one for each row. In the native interfaces, set ``num_class`` of LightGBM, or
``num_target`` and ``disable_default_eval_metric`` of XGBoost (several quantiles need only its own parameters,
``reg:quantileerror`` and ``quantile_alpha``); the estimators do so.

The Fisher information is the expected second derivative by a score, which is positive everywhere. Those of
the dispersion and of the degrees of freedom have no closed form. The first is replaced by a formula that is
from 1 to 3.5 times as large (measured for means from 0.1 to 100 and dispersions from 0.01 to 10), the second
by one within 40 % of it; steps are shorter at worst. Where the data say nothing of a parameter, its
information goes to 0 and a step would be arbitrary: that of the dispersion, of the t-distribution's scale
and of the degrees of freedom is at least 0.01.

Where an exponential exceeds float32, in Poisson from scores of about 88 on, the derivatives are the largest
float32, and steps stay finite. The libraries' own objectives give infinity there, and NaN for the step.

Times until an event
--------------------
A label of `cox_ph_loss` is the time of an event, or, if it is negative, minus the time up to which a row was
seen without one: the labels of XGBoost's ``survival:cox``. Weights are those of cases, also in the risk sets;
for XGBoost they multiply the derivatives of each row, as in its own objective, whose models equal those of
this one if no two times are the same. `init_score` is 0.

`aft_loss` takes the bounds of XGBoost's ``DMatrix``, ``label_lower_bound`` and ``label_upper_bound``. Without
them, and in LightGBM, whose data sets have none, labels are times with that same sign: exact, or
right-censored. `init_score`, and a call with labels and scores, also take bounds as labels of shape (n, 2).
In both `transform` is the exponential: a hazard or a time. LightGBM's estimators have no metric by name for
them.

Lists
-----
`lambda_rank_loss` needs groups: ``group`` of LightGBM's ``Dataset``, or of `LGBMRanker` and LightGBM's own
``LGBMRanker``; ``qid`` or ``group`` of XGBoost's ``DMatrix``. (``XGBRanker`` refuses objectives from outside,
and other estimators of XGBoost have no groups.) Derivatives are those of LightGBM's ``lambdarank`` for both
libraries, with its weights: they multiply the derivatives of their documents, after those of a group have
been normalised. XGBoost's data sets with groups have a weight for each group. `init_score` is 0, and
`transform` returns the scores.

Models that are equal
---------------------
A built-in objective provides three things that a custom objective cannot:

- The start of the scores, for instance the mean of the labels. Without an ``init_score`` LightGBM starts at
  0; without a ``base_score`` XGBoost starts at 0.5. Huber with a start of 0 and labels near 150 learns
  nothing. (LightGBM's own start for Huber is the mean, for quantiles an interpolated quantile; `init_score`
  is the minimum.)
- The meaning of the scores. XGBoost transforms them by the parameter ``objective``, which
  ``xgboost.train(params, data, obj=...)`` reads beside the custom objective: set it to the name of the
  built-in one. It also determines settings of the trees: ``max_delta_step`` 0.7 of ``"count:poisson"``, and
  the leaves of the next point. LightGBM, its own ``LGBMClassifier`` included, predicts the raw scores.
- Leaves that are renewed when the tree is complete, as a quantile of their residuals: ``regression_l1`` and
  ``quantile`` of LightGBM, ``reg:absoluteerror`` and ``reg:quantileerror`` of XGBoost. XGBoost also does so
  for custom objectives if ``objective`` has that name. In LightGBM custom objectives take the Newton step,
  -sum(gradients) / sum(weights) times the learning rate, which is at most the learning rate for any errors.
  A callback cannot correct that: ``Booster.set_leaf_output`` changes the tree, but not the scores that
  LightGBM keeps of training and validation data. So do not use `l1_loss` and `quantile_loss` in
  ``lightgbm.train``, or in LightGBM's own estimators, unless the scale of the labels is 1 and there are
  many trees; `LGBMRegressor` of this module passes both to LightGBM's own objectives. Huber has no such
  leaves.

LightGBM also draws otherwise for any objective from outside: with ``boosting="dart"``, and with a
``feature_fraction`` below 1, the same seed gives other dropped trees and other features than for its own
objective. With bagging the models are equal. (Measured with LightGBM 4.7, ``mse_loss`` beside
``regression`` without ``boost_from_average``, which it ignores for objectives from outside.)
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from fastloss.boosting._derivatives import LIGHTGBM, XGBOOST
from fastloss.boosting._objective import Objective

if TYPE_CHECKING:
    from fastloss.boosting._lightgbm import LGBMClassifier as LGBMClassifier
    from fastloss.boosting._lightgbm import LGBMRanker as LGBMRanker
    from fastloss.boosting._lightgbm import LGBMRegressor as LGBMRegressor
    from fastloss.boosting._xgboost import XGBClassifier as XGBClassifier
    from fastloss.boosting._xgboost import XGBRegressor as XGBRegressor

__all__ = ["Objective", "lightgbm_objective", "xgboost_objective"]

# Classes derived from those of a library, and the module that imports it.
_ESTIMATORS = {
    "LGBMClassifier": LIGHTGBM,
    "LGBMRanker": LIGHTGBM,
    "LGBMRegressor": LIGHTGBM,
    "XGBClassifier": XGBOOST,
    "XGBRegressor": XGBOOST,
}


def __getattr__(name: str) -> Any:
    """Import an estimator, and with it its library, on first use."""
    if name not in _ESTIMATORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}._{_ESTIMATORS[name]}"), name)


def __dir__() -> list[str]:
    """List also the estimators of the installed libraries."""
    there = [name for name, library in _ESTIMATORS.items() if importlib.util.find_spec(library)]
    return sorted([*globals(), *there])


def lightgbm_objective(name: str, **options: Any) -> Objective:
    r"""Return a loss as an objective of LightGBM, with LightGBM's own scale and second derivatives.

    Its derivatives with respect to the raw score are in the table of `fastloss.boosting`; they are those of
    LightGBM's ``regression``, ``regression_l1``, ``huber``, ``quantile``, ``poisson``, ``gamma``,
    ``tweedie``, ``binary``, ``multiclass`` and ``lambdarank``:

    .. math::

        g = s - y,\; h = 1 \quad \text{(squared error)} \qquad
        g = p_k - [y = k],\; h = \tfrac{K}{K - 1}\, p_k (1 - p_k) \quad \text{(softmax)}

    Parameters
    ----------
    name : str
        One of ``"mse_loss"``, ``"l1_loss"``, ``"huber_loss"``, ``"quantile_loss"``, ``"log_cosh_loss"``,
        ``"poisson_nll_loss"``, ``"gamma_nll_loss"``, ``"tweedie_nll_loss"``,
        ``"binary_cross_entropy_with_logits"``, ``"sigmoid_focal_loss"``, ``"cross_entropy"``,
        ``"gaussian_nll_loss"``, ``"negative_binomial_nll_loss"``, ``"student_t_nll_loss"``,
        ``"softmax_focal_loss"``, ``"cox_ph_loss"``, ``"aft_loss"`` and ``"lambda_rank_loss"``.
    **options
        The options of the loss, by the names in the function of `fastloss`:

        - `delta` (1.0) of `huber_loss`: LightGBM's ``alpha``; greater than 0.
        - `quantile` (0.5) of `quantile_loss`: LightGBM's ``alpha``; between 0 and 1. Several in an array have
          a score each.
        - `max_delta_step` (0.7) of `poisson_nll_loss`, whose second derivative is :math:`e^{s + m}`:
          LightGBM's ``poisson_max_delta_step``; from 0 to 80.
        - `power` (1.5) of `tweedie_nll_loss`: LightGBM's ``tweedie_variance_power``; from 1 to 2.
        - `pos_weight` (1.0) of `binary_cross_entropy_with_logits`: LightGBM's ``scale_pos_weight``; greater
          than 0.
        - `alpha` (0.25, None for none) and `gamma` (2.0) of `sigmoid_focal_loss`.
        - `alpha` (None, a number, or a number for each class, at least 0) and `gamma` (2.0) of
          `softmax_focal_loss`.
        - `ties` ("breslow") of `cox_ph_loss`.
        - `scale` (1.0) and `distribution` ("normal") of `aft_loss`.
        - `sigmoid` (1.0), `truncation_level` (30), `label_gain` (None) and `normalize` (True) of
          `lambda_rank_loss`: LightGBM's ``sigmoid``, ``lambdarank_truncation_level``, ``label_gain`` and
          ``lambdarank_norm``.

    Returns
    -------
    objective : Objective
        For ``params["objective"]`` of ``lightgbm.train``, with ``init_score`` from `Objective.init_score`,
        or for ``objective`` of `LGBMClassifier` and `LGBMRegressor`, which set it. For losses of classes
        their number, at least 2, is ``num_class`` in the parameters; `LGBMClassifier` sets it. Called
        with float64 scores of shape (n,) or (n, k), in any memory order, it returns two float32 arrays of
        that shape and order.

    Raises
    ------
    ValueError
        If the name or an option is unknown, or an option has a bad value. The object raises it for the
        first invalid label: negative (Poisson, Tweedie, gamma), neither 0 nor 1 (binary, focal), not a
        class, without a gain; for lists without groups; and for shapes that do not match.
    TypeError
        If an option is not a number.

    See Also
    --------
    xgboost_objective : the same for XGBoost.

    References
    ----------
    Ke et al., "LightGBM", 2017; its ``src/objective``. Lin et al., "Focal loss for dense object detection",
    2017.

    Examples
    --------
    >>> import numpy as np
    >>> from fastloss.boosting import lightgbm_objective
    >>> objective = lightgbm_objective("huber_loss", delta=2.0)
    >>> objective
    lightgbm_objective('huber_loss', delta=2.0)

    LightGBM calls it with labels, scores and optional weights, as here, or with scores and a data set:

    >>> gradient, hessian = objective(np.array([1.0, 2.0, 9.0]), np.zeros(3), np.array([1.0, 1.0, 3.0]))
    >>> gradient
    array([-1., -2., -6.], dtype=float32)
    >>> hessian
    array([1., 1., 3.], dtype=float32)

    The start of the scores, and the predictions for scores:

    >>> objective.init_score([1.0, 2.0, 9.0])
    2.5
    >>> lightgbm_objective("binary_cross_entropy_with_logits").transform([-1.0, 0.0, 1.0]).round(3)
    array([0.269, 0.5  , 0.731])
    """
    return Objective(LIGHTGBM, name, options)


def xgboost_objective(name: str, **options: Any) -> Objective:
    r"""Return a loss as an objective of XGBoost, with XGBoost's own scale and second derivatives.

    Its derivatives with respect to the raw score are in the table of `fastloss.boosting`; they are those of
    XGBoost's ``reg:squarederror``, ``reg:absoluteerror``, ``reg:quantileerror``, ``count:poisson``,
    ``reg:gamma``, ``reg:tweedie``, ``binary:logistic``, ``multi:softprob``, ``survival:cox`` and
    ``survival:aft``:

    .. math::

        g = s - y,\; h = 1 \quad \text{(squared error)} \qquad
        g = p_k - [y = k],\; h = \max\big(2\, p_k (1 - p_k),\, 10^{-16}\big) \quad \text{(softmax)}

    ``reg:pseudohubererror`` is a different loss from `huber_loss`, whose second derivative is 1, as in
    LightGBM.

    Parameters
    ----------
    name : str
        As for `lightgbm_objective`.
    **options
        As for `lightgbm_objective`. `quantile` is XGBoost's ``quantile_alpha``,
        `max_delta_step` the parameter of that name, `power` ``tweedie_variance_power``, `pos_weight`
        ``scale_pos_weight``, `scale` ``aft_loss_distribution_scale``, `distribution`
        ``aft_loss_distribution``.

    Returns
    -------
    objective : Objective
        For ``obj`` of ``xgboost.train``, with ``base_score`` from `Objective.init_score`, or for
        ``objective`` of `XGBClassifier` and `XGBRegressor`, which set it. Called with float32 scores of
        shape (n,) or (n, k), it returns two float32 arrays of that shape. It supports several targets:
        except for losses of classes and of lists, scores (n, k) may have labels (n, k).

    Raises
    ------
    ValueError, TypeError
        As for `lightgbm_objective`. As in XGBoost, labels of gamma must be greater than 0, and those of
        `binary_cross_entropy_with_logits` may be any number in [0, 1].

    See Also
    --------
    lightgbm_objective : the same for LightGBM.

    References
    ----------
    Chen and Guestrin, "XGBoost", 2016; its ``src/objective``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastloss.boosting import xgboost_objective
    >>> objective = xgboost_objective("cross_entropy")
    >>> scores = np.log(np.array([[1.0, 2.0, 5.0], [2.0, 1.0, 1.0]], dtype=np.float32))
    >>> gradient, hessian = objective(np.array([2, 0]), scores)
    >>> gradient.round(3)
    array([[ 0.125,  0.25 , -0.375],
           [-0.5  ,  0.25 ,  0.25 ]], dtype=float32)
    >>> hessian.round(3)
    array([[0.219, 0.375, 0.469],
           [0.5  , 0.375, 0.375]], dtype=float32)
    """
    return Objective(XGBOOST, name, options)
