r"""Objectives for gradient boosting: our losses as LightGBM and XGBoost want them.

`lightgbm_objective` and `xgboost_objective` return callable objects for the place of a built-in objective, in
the native interface and in that of scikit-learn. They hand back the gradient and the second derivative by the
raw scores, each on the scale of the library that is served: where it has the objective built in, a model
trained with ours is the one that it would have trained itself.

Neither library is imported here. The data set of the native interfaces is anything with `get_label` and
`get_weight`. (The gradient boosting of scikit-learn itself, ``HistGradientBoostingClassifier`` and
``HistGradientBoostingRegressor``, takes no objective from outside but through private modules, so there is
nothing for it here.)

The derivatives
---------------
With the raw score `s`, the label `y`, :math:`p = \sigma(s)` or the softmax, `K` classes, and each row times
the weight of its sample, the two libraries take:

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
================================  =========================  =====================  ======================

The second derivative is what the step of a leaf is divided by, and losses that are straight far away have
none there. That is why both libraries take 1 for the Huber, quantile and absolute losses. The other two are
not built into either:

- log-cosh has :math:`\tanh(r) / r`, the curvature of the parabola that touches the loss at :math:`\pm r`
  and is above it elsewhere, so that no step makes the loss larger. The second derivative itself,
  :math:`1 - \tanh^2 r`, is 8e-9 at an error of 10 and nothing at 60: a leaf of such errors would be sent
  off to anywhere, or never be split, its sum of second derivatives being too small.
- The focal loss is not convex: its second derivative is negative where the model is sure and wrong. It is
  held to at least :math:`p_t |g|`, where :math:`p_t` is the probability of the label and `g` the gradient;
  so no element asks for a longer step than in logistic regression, which is :math:`1 / p_t`.

Where an exponential exceeds float32, in Poisson from scores of about 88 on, the derivatives are the largest
float32, and steps stay finite. The libraries have infinity there and NaN for the step.

Models that are equal
---------------------
Besides the objective a built-in one brings three things that an objective from outside cannot:

- Where the scores start: at the mean of the labels, say. LightGBM does without under
  ``boost_from_average=False``, and takes ``init_score`` for its data sets; XGBoost takes ``base_score``.
  With an objective from outside, and without these, LightGBM starts at 0 and XGBoost at a `base_score` of
  0.5.
- What the scores mean. XGBoost transforms them as the parameter ``objective`` says, which in
  ``xgboost.train(params, data, obj=...)`` stands beside ours: keep it at the name of the built-in one
  (``XGBClassifier`` does so itself). From there it also takes what belongs to the trees: ``max_delta_step``
  0.7 of ``"count:poisson"``, and the leaves of the next point. LightGBM, ``LGBMClassifier`` included,
  predicts the raw scores: they have to go through :math:`\sigma`, the softmax or the exponential.
- Leaves that are computed again once the tree stands, as a quantile of their residuals: ``regression_l1`` and
  ``quantile`` of LightGBM, ``reg:absoluteerror`` and ``reg:quantileerror`` of XGBoost. XGBoost does so for
  ours, too, where ``objective`` has that name. In LightGBM ours take the Newton step,
  -sum(gradients) / sum(weights) times the learning rate: models differ from the first tree's leaves on, and
  labels of a large scale should be scaled, or take more trees. Huber has no such leaves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastloss import _arguments, _kernels
from fastloss._elementwise import WIDE, outside, two
from fastloss._rows import run_family
from fastloss._settings import get_num_threads
from fastloss._types import Array
from fastloss.regression import quantile_loss

__all__ = ["Objective", "lightgbm_objective", "xgboost_objective"]

LIGHTGBM, XGBOOST = "lightgbm", "xgboost"
LARGEST = np.finfo(np.float32).max
# The least second derivative of a classifier in XGBoost.
LEAST = np.float32(1e-16)
# Elements of a softmax that are worked on at a time: in float64 a megabyte, which stays in the cache.
BLOCK = 2**17

_Pair = tuple[Array, Array]


class _Given(NamedTuple):
    """What a call is about: scores, labels and weights (or None) in one shape, the options, for whom."""

    scores: Array
    labels: Array
    weight: Array | None
    options: dict[str, Any]
    library: str


# --- derivatives, computed in the type of the scores and written as float32 ---


def _run(
    kernel: str,
    x: Array,
    y: Array | None,
    weight: Array | None,
    outputs: tuple[Array | None, Array | None, Array | None],
    *parameters: float,
    third: float = 1.0,
    scale: float = 1.0,
    is_checked: bool = False,
) -> None:
    """Run a line of ``src/losses.def``; `outputs` are first and second derivative and the loss, or None."""
    line, domain = _kernels.ELEMENTWISE[kernel]
    domains = (_kernels.ANY, domain if is_checked else _kernels.ANY, _kernels.ANY)
    a, b = two(parameters)
    bad, position, _, _ = _kernels.elementwise(
        line, x.dtype == np.float64 or kernel in WIDE, (x, y, None, weight, None, *outputs), domains, 0.0,
        third, a, b, scale, True, False, False, False, get_num_threads(),
    )  # fmt: skip
    if bad >= 0:
        assert y is not None
        raise outside("label", y, position, domain)


def _empty(given: _Given) -> Array:
    return np.empty_like(given.scores, np.float32)


def _ones(given: _Given) -> Array:
    """One for each element, times its weight."""
    ones = np.ones_like(given.scores, np.float32)
    if given.weight is not None:
        ones[...] = given.weight
    return ones


def _first(kernel: str, given: _Given, *parameters: float, scale: float = 1.0) -> _Pair:
    """The gradient of a loss, with 1 for the second derivative."""
    gradient = _empty(given)
    outputs = (gradient, None, None)
    _run(kernel, given.scores, given.labels, given.weight, outputs, *parameters, scale=scale)
    return gradient, _ones(given)


def _both(
    kernel: str, given: _Given, *parameters: float, third: float = 1.0, is_checked: bool = True
) -> _Pair:
    """The gradient and the second derivative of a loss."""
    gradient, hessian = _empty(given), _empty(given)
    outputs = (gradient, hessian, None)
    _run(
        kernel, given.scores, given.labels, given.weight, outputs, *parameters, third=third,
        is_checked=is_checked,
    )  # fmt: skip
    return gradient, hessian


def _mse(given: _Given) -> _Pair:
    return _first("mse", given, scale=0.5)


def _l1(given: _Given) -> _Pair:
    return _first("l1", given)


def _huber(given: _Given) -> _Pair:
    return _first("huber", given, given.options["delta"])


def _quantile(given: _Given) -> _Pair:
    # At the kink the libraries take the slope above, quantile_loss 0.
    above = np.float32(1.0) - np.float32(given.options["quantile"])
    below = -np.float32(given.options["quantile"])
    gradient = np.where(given.scores < given.labels, below, above)
    if given.weight is not None:
        gradient *= given.weight.astype(np.float32, copy=False)
    return gradient, _ones(given)


def _log_cosh(given: _Given) -> _Pair:
    gradient, hessian = _first("log_cosh", given)
    error = np.abs(given.scores - given.labels)
    # Up to there tanh(r) / r rounds to 1.
    np.divide(np.abs(gradient), error, out=hessian, where=~(error <= 1e-4), casting="same_kind")
    return gradient, hessian


def _poisson(given: _Given) -> _Pair:
    gradient, hessian = _both("poisson_log", given)
    with np.errstate(over="ignore"):
        hessian *= np.float32(math.exp(given.options["max_delta_step"]))
    return _bounded(gradient, hessian)


def _gamma(given: _Given) -> _Pair:
    if given.library == XGBOOST:
        return _bounded(*_both("gamma", given))
    _require_labels(~(given.labels < 0.0), given.labels, "at least 0")
    return _bounded(*_both("gamma", given, is_checked=False))


def _tweedie(given: _Given) -> _Pair:
    power = given.options["power"]
    if power == 2.0:
        return _bounded(*_both("gamma", given))
    _require_labels(~(given.labels < 0.0), given.labels, "at least 0")
    if power == 1.0:
        return _bounded(*_both("poisson_log", given))
    return _bounded(*_both("tweedie", given, power))


def _binary(given: _Given) -> _Pair:
    if given.library == LIGHTGBM:
        _require_classes(given.labels)
    return _floored(given, *_both("binary_logits", given, 1.0, third=given.options["pos_weight"]))


def _focal(given: _Given) -> _Pair:
    """With L the loss, g its derivative and p the probability of the label, all from the kernels.

    As L = f c and |g| = f (q + gamma p c), with q = 1 - p, c = -log p and f = alpha q^gamma, the derivative
    of g is p (|g| + gamma (2 |g| - (1 + gamma p) L)).
    """
    _require_classes(given.labels)
    alpha, gamma = given.options["alpha"], given.options["gamma"]
    x, y = given.scores, given.labels
    gradient, hessian, p = _empty(given), _empty(given), _empty(given)
    _run("focal", x, y, given.weight, (gradient, None, hessian), -1.0 if alpha is None else alpha, gamma)
    # The derivative of a cross-entropy is what the probability lacks: for the other label, all of this one's.
    _run("binary_logits", x, 1 - y, None, (p, None, None), 1.0)
    np.abs(p, out=p)
    size = np.abs(gradient)
    hessian *= 1.0 + gamma * p
    np.subtract(2.0 * size, hessian, out=hessian)
    np.maximum(hessian, 0.0, out=hessian)
    hessian *= gamma
    hessian += size
    hessian *= p
    return _floored(given, gradient, hessian)


def _softmax(given: _Given) -> _Pair:
    """Softmax cross-entropy, by blocks of rows in float64, the second derivative from the gradient.

    With g = p - (y == k), p (1 - p) is |g| (1 - |g|) for the label, too, and its |g|, the sum of the others,
    has more digits than 1 - p. As a |g| + b g^2 / 2 it is a penalty, for which there is a kernel. Float32
    would leave 1 - |g| without digits where the model is sure and wrong.
    """
    x = given.scores
    rows, classes = x.shape
    indices = _class_indices(given.labels, classes)
    factor = classes / (classes - 1) if given.library == LIGHTGBM else 2.0
    gradient, hessian = _empty(given), _empty(given)
    step = max(BLOCK // classes, 1)
    scratch = np.empty_like(x[:step], np.float64)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        logits, g = x[part], scratch[: rows - start]
        if x.dtype != np.float64:
            g[...] = logits
            logits = g  # in place
        first_bad, _, _ = run_family(_kernels.CROSS_ENTROPY, logits, 1, output=g, indices=indices[part])
        if first_bad >= 0:
            raise _no_class(given.labels, classes)
        weight = None if given.weight is None else np.broadcast_to(given.weight[part, None], g.shape)
        _run("elastic_net", g, None, weight, (None, None, hessian[part]), factor, -2.0 * factor)
        if weight is None:
            gradient[part] = g
        else:  # half the slope of g^2, times the weight
            _run("mse", g, None, weight, (gradient[part], None, None), scale=0.5)
    if given.library == XGBOOST:
        np.maximum(hessian, LEAST, out=hessian)
    return gradient, hessian


def _bounded(gradient: Array, hessian: Array) -> _Pair:
    """Hold what an exponential has made infinite within float32."""
    np.clip(gradient, -LARGEST, LARGEST, out=gradient)
    np.minimum(hessian, LARGEST, out=hessian)
    return gradient, hessian


def _floored(given: _Given, gradient: Array, hessian: Array) -> _Pair:
    """Hold a second derivative to the least one of XGBoost, which comes before the weight."""
    if given.library == XGBOOST:
        least = LEAST if given.weight is None else LEAST * given.weight.astype(np.float32, copy=False)
        np.maximum(hessian, least, out=hessian)
    return gradient, hessian


# --- labels ---


def _require_labels(is_good: npt.NDArray[np.bool_], labels: Array, expected: str) -> None:
    """Raise for the first label that is not what it must be."""
    if not is_good.all():
        raise _bad_label(labels, is_good, expected)


def _bad_label(labels: Array, is_good: npt.NDArray[np.bool_], expected: str) -> ValueError:
    where = np.unravel_index(int(np.argmin(is_good)), labels.shape)
    position = ", ".join(str(i) for i in where)
    return ValueError(f"label[{position}] is {labels[where]}: expected a value {expected}")


def _require_classes(labels: Array) -> None:
    _require_labels((labels == 0.0) | (labels == 1.0), labels, "of 0 or 1")


def _class_indices(labels: Array, classes: int) -> Array:
    """Return labels, of any type, as int64. That there are so many classes is for the kernel to check."""
    if labels.dtype.kind not in "fiub":
        raise TypeError(f"labels must be numbers, got {labels.dtype}")
    if labels.dtype.kind == "f" and (np.trunc(labels) != labels).any():
        raise _no_class(labels, classes)
    with np.errstate(invalid="ignore"):  # infinity, which becomes no class
        return np.ascontiguousarray(labels, np.int64)


def _no_class(labels: Array, classes: int) -> ValueError:
    """The error for the first label that is not a class."""
    is_good = (labels >= 0) & (labels < classes) & (labels == np.floor(labels))
    return _bad_label(labels, is_good, f"that is a class, an integer from 0 to {classes - 1}")


# --- names and options ---


def _delta(value: Any) -> float:
    return _arguments.number("delta", value, above=0.0)


def _quantile_level(value: Any) -> float:
    checked = _arguments.number("quantile", value, low=0.0, high=1.0)
    quantile_loss(0.0, 0.0, quantile=checked)  # its own rule: neither 0 nor 1
    return checked


def _max_delta_step(value: Any) -> float:
    return _arguments.number("max_delta_step", value, low=0.0, high=80.0)  # e^80 is within float32


def _power(value: Any) -> float:
    # Elsewhere the second derivative may be negative.
    return _arguments.number("power", value, low=1.0, high=2.0)


def _pos_weight(value: Any) -> float:
    return _arguments.number("pos_weight", value, above=0.0)


def _alpha(value: Any) -> float | None:
    return None if value is None else _arguments.number("alpha", value, high=1.0)


def _gamma_exponent(value: Any) -> float:
    return _arguments.number("gamma", value, low=0.0)


class _Loss(NamedTuple):
    """The derivatives of a loss; its options, each with the check that it has to pass; and their defaults."""

    derivatives: Callable[[_Given], _Pair]
    options: dict[str, tuple[Any, Callable[[Any], Any]]] = {}  # noqa: RUF012


_LOSSES: dict[str, _Loss] = {
    "mse_loss": _Loss(_mse),
    "l1_loss": _Loss(_l1),
    "huber_loss": _Loss(_huber, {"delta": (1.0, _delta)}),
    "quantile_loss": _Loss(_quantile, {"quantile": (0.5, _quantile_level)}),
    "log_cosh_loss": _Loss(_log_cosh),
    "poisson_nll_loss": _Loss(_poisson, {"max_delta_step": (0.7, _max_delta_step)}),
    "gamma_nll_loss": _Loss(_gamma),
    "tweedie_nll_loss": _Loss(_tweedie, {"power": (1.5, _power)}),
    "binary_cross_entropy_with_logits": _Loss(_binary, {"pos_weight": (1.0, _pos_weight)}),
    "sigmoid_focal_loss": _Loss(_focal, {"alpha": (0.25, _alpha), "gamma": (2.0, _gamma_exponent)}),
    "cross_entropy": _Loss(_softmax),
}


def _checked(name: Any, options: dict[str, Any]) -> dict[str, Any]:
    """All options of a loss, checked, or the error that says what there is."""
    if not isinstance(name, str) or name not in _LOSSES:
        raise ValueError(f"name must be one of {', '.join(map(repr, _LOSSES))}; got {name!r}")
    known = _LOSSES[name].options
    for option in options:
        if option not in known:
            allowed = f"takes {', '.join(known)}" if known else "takes no options"
            raise ValueError(f"{option} is no option of the objective {name!r}, which {allowed}")
    return {option: check(options.get(option, default)) for option, (default, check) in known.items()}


# --- the objects ---


def _beside(array: Array, x: Array) -> Array:
    """Return an array in a type that the kernels read beside the scores: any beside float64, none wider."""
    return array if x.dtype == np.float64 else array.astype(np.float32, copy=False)


class Objective:
    """A loss as the objective of LightGBM or XGBoost: what the functions of this module return.

    Called with the arguments of either interface it returns the gradient and the second derivative by the
    scores, float32 arrays of their shape and order in memory:

    - native, ``objective(scores, data)``, where `data` has `get_label` and `get_weight`;
    - that of scikit-learn, ``objective(y_true, y_pred)`` or ``objective(y_true, y_pred, sample_weight)``.

    It holds nothing but its options: it can be pickled, compared and used by several threads at once.

    Attributes
    ----------
    library : {"lightgbm", "xgboost"}
        Whose scales it has.
    name : str
        The loss.
    options : dict
        All options of the loss, with their values.
    """

    def __init__(self, library: str, name: str, options: dict[str, Any]) -> None:
        self.library = library
        self.options = _checked(name, options)
        self.name = self.__name__ = name

    def __repr__(self) -> str:
        options = "".join(f", {option}={value!r}" for option, value in self.options.items())
        return f"{self.library}_objective({self.name!r}{options})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Objective):
            return NotImplemented
        return repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Array, Array]:
        """Return gradient and second derivative; natively the arguments are scores and data."""
        scores, labels, weight = y_pred, y_true, sample_weight
        if hasattr(y_pred, "get_label"):
            scores, labels, weight = y_true, y_pred.get_label(), y_pred.get_weight()
        given = self._given(scores, labels, weight)
        return _LOSSES[self.name].derivatives(given)

    def _given(self, scores: Any, labels: Any, weight: Any) -> _Given:
        """Check the arguments and bring them into one shape."""
        x = _arguments.floating("scores", scores)
        if x.dtype not in (np.float32, np.float64):
            x = x.astype(np.float64)
        y = _arguments.as_array("labels", labels)
        is_softmax = self.name == "cross_entropy"
        if is_softmax and (x.ndim != 2 or x.shape[1] < 2):
            raise ValueError(
                f"scores must have shape (rows, classes), with two classes or more, got {x.shape}: "
                "set num_class"
            )
        shape = x.shape[:1] if is_softmax else x.shape
        # XGBoost hands out the labels of several targets in one row.
        if y.shape != shape and not (y.ndim == 1 and y.size == x.size and not is_softmax):
            raise ValueError(f"labels must have shape {shape}, as the scores have {x.shape}; got {y.shape}")
        if not is_softmax:
            y = _beside(_arguments.floating("labels", y), x)
        w = None if weight is None else _arguments.floating("weight", weight)
        if w is not None and w.size == 0 and x.size:  # what XGBoost has for no weights
            w = None
        if w is not None:
            w = self._spread(_beside(w, x), x, is_softmax)
        return _Given(x, y.reshape(shape), w, self.options, self.library)

    def _spread(self, weight: Array, x: Array, is_softmax: bool) -> Array:
        """Return weights of rows for each element of the scores; for a softmax, of rows."""
        if weight.ndim != 1 or len(weight) != len(x):
            raise ValueError(f"weight must have shape ({len(x)},), one for each row; got {weight.shape}")
        if is_softmax or x.ndim == 1:
            return weight
        return np.broadcast_to(weight[:, None], x.shape)


def lightgbm_objective(name: str, **options: Any) -> Objective:
    r"""Return a loss as an objective of LightGBM, with LightGBM's own scale and second derivatives.

    Its derivatives, by the raw score, are in the table of `fastloss.boosting`; they are those of LightGBM's
    ``regression``, ``regression_l1``, ``huber``, ``quantile``, ``poisson``, ``gamma``, ``tweedie``,
    ``binary`` and ``multiclass``:

    .. math::

        g = s - y,\; h = 1 \quad \text{(squared error)} \qquad
        g = p_k - [y = k],\; h = \tfrac{K}{K - 1}\, p_k (1 - p_k) \quad \text{(softmax)}

    Parameters
    ----------
    name : str
        One of ``"mse_loss"``, ``"l1_loss"``, ``"huber_loss"``, ``"quantile_loss"``, ``"log_cosh_loss"``,
        ``"poisson_nll_loss"``, ``"gamma_nll_loss"``, ``"tweedie_nll_loss"``,
        ``"binary_cross_entropy_with_logits"``, ``"sigmoid_focal_loss"`` and ``"cross_entropy"``.
    **options
        Those of the loss, by the names that they have in our function:

        - `delta` (1.0) of `huber_loss`: LightGBM's ``alpha``; greater than 0.
        - `quantile` (0.5) of `quantile_loss`: LightGBM's ``alpha``; between 0 and 1.
        - `max_delta_step` (0.7) of `poisson_nll_loss`, whose second derivative is :math:`e^{s + m}`:
          LightGBM's ``poisson_max_delta_step``; from 0 to 80.
        - `power` (1.5) of `tweedie_nll_loss`: LightGBM's ``tweedie_variance_power``; from 1 to 2.
        - `pos_weight` (1.0) of `binary_cross_entropy_with_logits`: LightGBM's ``scale_pos_weight``; greater
          than 0.
        - `alpha` (0.25, None for none) and `gamma` (2.0) of `sigmoid_focal_loss`.

    Returns
    -------
    objective : Objective
        For ``params["objective"]`` of ``lightgbm.train``, or ``objective`` of ``LGBMModel`` and its
        relatives. For `cross_entropy` the number of classes, at least 2, is ``num_class`` in the
        parameters; ``LGBMClassifier`` sets it. Called with float64 scores of shape (n,) or (n, k), in
        whatever order in memory, it returns two float32 arrays of that shape and order.

    Raises
    ------
    ValueError
        If there is no such name or option, or an option has a bad value. The object raises it for the first
        label that is out of place: negative (Poisson, Tweedie, gamma), neither 0 nor 1 (binary, focal), not
        a class; and for shapes that do not match.
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

    LightGBM calls it, as here, with labels, scores and perhaps weights, or with scores and a data set:

    >>> gradient, hessian = objective(np.array([1.0, 2.0, 9.0]), np.zeros(3), np.array([1.0, 1.0, 3.0]))
    >>> gradient
    array([-1., -2., -6.], dtype=float32)
    >>> hessian
    array([1., 1., 3.], dtype=float32)
    """
    return Objective(LIGHTGBM, name, options)


def xgboost_objective(name: str, **options: Any) -> Objective:
    r"""Return a loss as an objective of XGBoost, with XGBoost's own scale and second derivatives.

    Its derivatives, by the raw score, are in the table of `fastloss.boosting`; they are those of XGBoost's
    ``reg:squarederror``, ``reg:absoluteerror``, ``reg:quantileerror``, ``count:poisson``, ``reg:gamma``,
    ``reg:tweedie``, ``binary:logistic`` and ``multi:softprob``:

    .. math::

        g = s - y,\; h = 1 \quad \text{(squared error)} \qquad
        g = p_k - [y = k],\; h = \max\big(2\, p_k (1 - p_k),\, 10^{-16}\big) \quad \text{(softmax)}

    ``reg:pseudohubererror`` is another loss than `huber_loss`, which has 1 for the second derivative, as in
    LightGBM.

    Parameters
    ----------
    name : str
        As for `lightgbm_objective`.
    **options
        As for `lightgbm_objective`. `quantile` is XGBoost's ``quantile_alpha``, a single one,
        `max_delta_step` the parameter of that name, `power` ``tweedie_variance_power``, `pos_weight`
        ``scale_pos_weight``.

    Returns
    -------
    objective : Objective
        For ``obj`` of ``xgboost.train``, or ``objective`` of ``XGBModel`` and its relatives. Called with
        float32 scores of shape (n,) or (n, k), it returns two float32 arrays of that shape. For several
        targets, too: except for `cross_entropy` scores (n, k) may come with labels (n, k).

    Raises
    ------
    ValueError, TypeError
        As for `lightgbm_objective`. As in XGBoost, labels of gamma must be greater than 0, and those of
        `binary_cross_entropy_with_logits` may be anything in [0, 1].

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
