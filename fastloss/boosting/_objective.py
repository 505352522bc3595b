"""A loss as an objective of LightGBM or XGBoost: names, options and the class of the objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastloss._engine import arguments
from fastloss._engine.lists import bounds_of as group_bounds
from fastloss._engine.lists import checked_gains, checked_truncation
from fastloss._engine.survival import aft_parameters, distribution_kernel
from fastloss._engine.types import Array
from fastloss.boosting import _derivatives, _starts
from fastloss.boosting._derivatives import LIGHTGBM, XGBOOST, Given, Pair, bounds_of, require_labels
from fastloss.boosting._starts import Sample
from fastloss.regression import quantile_loss
from fastloss.survival import cox_ph_loss

# --- names and options ---


def _delta(value: Any) -> float:
    return arguments.number("delta", value, above=0.0)


def _quantile_level(value: Any) -> float | tuple[float, ...]:
    """Return a quantile, or several as a tuple."""
    if isinstance(value, (list, tuple)) or getattr(value, "ndim", False):
        levels = arguments.converted("quantile", value, np.float64)
        quantile_loss(np.zeros(levels.shape), 0.0, quantile=levels)  # its own rules
        return tuple(levels.tolist())
    checked = arguments.number("quantile", value, low=0.0, high=1.0)
    quantile_loss(0.0, 0.0, quantile=checked)  # its own rule: neither 0 nor 1
    return checked


def _max_delta_step(value: Any) -> float:
    return arguments.number("max_delta_step", value, low=0.0, high=80.0)  # e^80 is in the range of float32


def _power(value: Any) -> float:
    # Outside this range the second derivative may be negative.
    return arguments.number("power", value, low=1.0, high=2.0)


def _pos_weight(value: Any) -> float:
    return arguments.number("pos_weight", value, above=0.0)


def _alpha(value: Any) -> float | None:
    return None if value is None else arguments.number("alpha", value, high=1.0)


def _gamma_exponent(value: Any) -> float:
    return arguments.number("gamma", value, low=0.0)


def _class_alpha(value: Any) -> float | tuple[float, ...] | None:
    """Return the weight of each class as a tuple, or that of all."""
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) and not getattr(value, "ndim", False):
        return arguments.number("alpha", value, low=0.0)
    weights = arguments.converted("alpha", value, np.float64)
    if weights.ndim != 1 or len(weights) < 2:
        raise ValueError(f"alpha must be a number, or have shape (classes,); got {weights.shape}")
    is_bad = ~(np.isfinite(weights) & (weights >= 0.0))
    if is_bad.any():
        raise arguments.first_bad_value("alpha", weights, is_bad, "a finite value, at least 0")
    return tuple(weights.tolist())


def _ties(value: Any) -> str:
    cox_ph_loss([0.0], [0.0], [True], ties=value)  # its own rule
    return str(value)


def _scale(value: Any) -> float:
    return aft_parameters(value)[0]


def _distribution(value: Any) -> str:
    distribution_kernel(value)
    return str(value)


def _sigmoid(value: Any) -> float:
    return arguments.number("sigmoid", value, above=0.0)


def _label_gain(value: Any) -> tuple[float, ...] | None:
    return None if value is None else tuple(checked_gains(value).tolist())


def _normalize(value: Any) -> bool:
    return arguments.flag("normalize", value)


_Link = Callable[[Array], Array]


class _Loss(NamedTuple):
    """The derivatives of a loss, the constant that minimises it, the link, and its options.

    Each option has a default and a check.
    """

    derivatives: Callable[[Given], Pair]
    start: Callable[[Sample], float | Array] | None  # None: of bounds
    link: _Link = _starts.identity
    options: dict[str, tuple[Any, Callable[[Any], Any]]] = {}  # noqa: RUF012
    parameters: int = 0  # of a distribution, each with its own score
    has_classes: bool = False  # a score for each class
    has_groups: bool = False  # lists of documents


_LOSSES: dict[str, _Loss] = {
    "mse_loss": _Loss(_derivatives.mse, _starts.mean),
    "l1_loss": _Loss(_derivatives.l1, _starts.median),
    "huber_loss": _Loss(_derivatives.huber, _starts.huber, options={"delta": (1.0, _delta)}),
    "quantile_loss": _Loss(
        _derivatives.quantile, _starts.quantile, options={"quantile": (0.5, _quantile_level)}
    ),
    "log_cosh_loss": _Loss(_derivatives.log_cosh, _starts.log_cosh),
    "poisson_nll_loss": _Loss(
        _derivatives.poisson,
        _starts.log_mean,
        _starts.exponential,
        {"max_delta_step": (0.7, _max_delta_step)},
    ),
    "gamma_nll_loss": _Loss(_derivatives.gamma, _starts.log_mean, _starts.exponential),
    "tweedie_nll_loss": _Loss(
        _derivatives.tweedie, _starts.log_mean, _starts.exponential, {"power": (1.5, _power)}
    ),
    "binary_cross_entropy_with_logits": _Loss(
        _derivatives.binary, _starts.logit, _starts.sigmoid, {"pos_weight": (1.0, _pos_weight)}
    ),
    "sigmoid_focal_loss": _Loss(
        _derivatives.focal,
        _starts.focal,
        _starts.sigmoid,
        {"alpha": (0.25, _alpha), "gamma": (2.0, _gamma_exponent)},
    ),
    "cross_entropy": _Loss(_derivatives.softmax, _starts.log_shares, _starts.shares, has_classes=True),
    "softmax_focal_loss": _Loss(
        _derivatives.softmax_focal,
        _starts.focal_shares,
        _starts.shares,
        {"alpha": (None, _class_alpha), "gamma": (2.0, _gamma_exponent)},
        has_classes=True,
    ),
    "gaussian_nll_loss": _Loss(_derivatives.gaussian, _starts.gaussian, _starts.parameters, parameters=2),
    "negative_binomial_nll_loss": _Loss(
        _derivatives.negative_binomial, _starts.negative_binomial, _starts.exponential, parameters=2
    ),
    "student_t_nll_loss": _Loss(_derivatives.student_t, _starts.student_t, _starts.parameters, parameters=3),
    "cox_ph_loss": _Loss(_derivatives.cox, _starts.zero, _starts.exponential, {"ties": ("breslow", _ties)}),
    "aft_loss": _Loss(
        _derivatives.aft,
        None,
        _starts.exponential,
        {"scale": (1.0, _scale), "distribution": ("normal", _distribution)},
    ),
    "lambda_rank_loss": _Loss(
        _derivatives.lambda_rank,
        _starts.zero,
        options={
            "sigmoid": (1.0, _sigmoid),
            "truncation_level": (30, checked_truncation),
            "label_gain": (None, _label_gain),
            "normalize": (True, _normalize),
        },
        has_groups=True,
    ),
}


def _checked(name: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return all options of a loss, checked; raise an error that lists the valid ones."""
    if not isinstance(name, str) or name not in _LOSSES:
        raise ValueError(f"name must be one of {', '.join(map(repr, _LOSSES))}; got {name!r}")
    known = _LOSSES[name].options
    for option in options:
        if option not in known:
            allowed = f"takes {', '.join(known)}" if known else "takes no options"
            raise ValueError(f"{option} is no option of the objective {name!r}, which {allowed}")
    return {option: check(options.get(option, default)) for option, (default, check) in known.items()}


# --- the objects ---


def _scores(values: Any) -> Array:
    x = arguments.floating("scores", values)
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)


def _given_weight(weight: Any, x: Array) -> Array | None:
    """Return weights as numbers, or None for XGBoost's form of absent ones: an empty array."""
    if weight is None:
        return None
    w = arguments.floating("weight", weight)
    return None if w.size == 0 and x.size else w


def _beside(array: Array, x: Array) -> Array:
    """Return an array in a type that the kernels accept with the scores: any, but no wider one."""
    return array if x.dtype == np.float64 else array.astype(np.float32, copy=False)


def _weights(weight: Any, rows: int) -> Array:
    """Return weights of rows as float64: ones if absent, empty (XGBoost) or all 0."""
    if weight is None:
        return np.ones(rows)
    w = arguments.converted("weight", weight, np.float64)
    if w.size == 0:
        return np.ones(rows)
    if w.shape != (rows,):
        raise ValueError(f"weight must have shape ({rows},), one for each row; got {w.shape}")
    is_good = np.isfinite(w) & (w >= 0.0)
    if not is_good.all():
        position = int(np.argmin(is_good))
        raise ValueError(f"weight[{position}] is {w[position]}: expected a finite value, at least 0")
    return w if w.any() else np.ones(rows)


def _bounds(labels: Array) -> Array:
    """Return the bounds of labels (n,) or (n, 2)."""
    if labels.ndim not in (1, 2) or (labels.ndim == 2 and labels.shape[1] != 2):
        raise ValueError(f"labels must have shape (n,), or (n, 2) for bounds; got {labels.shape}")
    return bounds_of(labels)


def _groups_of(data: Any) -> Array | None:
    """Return the sizes of the groups of a data set, or None."""
    if not hasattr(data, "get_uint_info"):
        return data.get_group() if hasattr(data, "get_group") else None
    bounds = data.get_uint_info("group_ptr")
    return np.diff(bounds.astype(np.int64)) if len(bounds) else None


class Objective:
    """A loss as an objective of LightGBM or XGBoost, returned by the functions of this module.

    Called with the arguments of either interface, it returns the gradient and the second derivative with
    respect to the scores, float32 arrays of the shape and memory order of the scores:

    - native, ``objective(scores, data)``, where `data` has `get_label` and `get_weight`;
    - that of scikit-learn, ``objective(y_true, y_pred)``, and behind these optional weights and, as LightGBM
      has it, the sizes of groups, which `lambda_rank_loss` needs and no other loss depends on.

    The native data set of `lambda_rank_loss` has the groups.

    Its only state is its options: it can be pickled, compared and used by several threads at once.

    Attributes
    ----------
    library : {"lightgbm", "xgboost"}
        The library whose scales it has.
    name : str
        The loss.
    options : dict
        All options of the loss, with their values.
    """

    def __init__(self, library: str, name: str, options: dict[str, Any]) -> None:
        self.library = library
        self.options = _checked(name, options)
        self.name = self.__name__ = name

    @property
    def has_link(self) -> bool:
        """Whether `transform` changes the scores."""
        return _LOSSES[self.name].link is not _starts.identity

    @property
    def has_classes(self) -> bool:
        """Whether a row has a score for each class, and one label, the index of its class."""
        return _LOSSES[self.name].has_classes

    @property
    def has_groups(self) -> bool:
        """Whether the loss is of groups of rows."""
        return _LOSSES[self.name].has_groups

    @property
    def outputs(self) -> int:
        """The number of scores of a row: 0 for one score for each label, and for one for each class."""
        level = self.options.get("quantile")
        return len(level) if isinstance(level, tuple) else self.parameters

    @property
    def parameters(self) -> int:
        """The number of parameters of a distribution, else 0."""
        return _LOSSES[self.name].parameters

    def __repr__(self) -> str:
        options = "".join(f", {option}={value!r}" for option, value in self.options.items())
        return f"{self.library}_objective({self.name!r}{options})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Objective):
            return NotImplemented
        return repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __call__(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, group: Any = None
    ) -> tuple[Array, Array]:
        """Return gradient and second derivative; the native arguments are scores and data."""
        scores, labels, weight = y_pred, y_true, sample_weight
        if hasattr(y_pred, "get_label"):
            scores, labels, weight = y_true, self._labels_of(y_pred), y_pred.get_weight()
            group = _groups_of(y_pred) if self.has_groups else None
        if self.has_groups:
            given = self._given_lists(scores, labels, weight, group)
        else:
            given = self._given(scores, labels, weight)
        return _LOSSES[self.name].derivatives(given)

    def _labels_of(self, data: Any) -> Any:
        """Return the labels of a data set; of XGBoost's, the bounds that it may have in their place."""
        if self.name == "aft_loss" and hasattr(data, "get_float_info"):
            lower, upper = (data.get_float_info(f"label_{end}_bound") for end in ("lower", "upper"))
            if len(lower) or len(upper):
                return np.stack([lower, upper], axis=-1)
        return data.get_label()

    def init_score(self, labels: Any, weight: Any = None, *, num_class: int | None = None) -> float | Array:
        """Return the constant score of least loss, the start of boosting.

        ================================  =============================================================
        name                              score
        ================================  =============================================================
        mse_loss                          the mean
        l1_loss, quantile_loss            the least label with half of all weights, or the share
                                          `quantile` of them, up to it: ``numpy.quantile`` with
                                          ``method="inverted_cdf"``
        huber_loss, log_cosh_loss         the minimum, to float64's last digits
        poisson_nll_loss,                 the logarithm of the mean
        gamma_nll_loss, tweedie_nll_loss
        binary_cross_entropy_with_logits  the logit of class 1's share, `pos_weight` counted in
        sigmoid_focal_loss                the minimum, to float64's last digits
        cross_entropy                     the logarithm of each class's share
        softmax_focal_loss                the logarithms of the probabilities of least loss
        gaussian_nll_loss                 the mean, and the logarithm of the variance
        negative_binomial_nll_loss        the logarithms of the mean and of the dispersion of least loss
        student_t_nll_loss                the location, and the logarithms of scale and degrees of
                                          freedom (from e^-2 to e^7), of least loss
        cox_ph_loss                       0: a constant does not change the loss
        aft_loss                          the minimum, to float64's last digits
        lambda_rank_loss                  0: a constant does not change the loss
        ================================  =============================================================

        If the minimum is at infinity, the score is LightGBM's, for a share of 1e-15: without labels of a
        class the logarithm or logit of that share, -34.5 or 34.5; and with all counts 0, -34.5. Weights
        that are all 0 are ignored.

        Parameters
        ----------
        labels : array-like, shape (n,) or (n, k)
            The labels of the training data, finite, in the domain of the loss. Each column is a target with
            its own score.
        weight : array-like, shape (n,), optional
            The weight of each row, at least 0.
        num_class : int, optional
            The number of classes of `cross_entropy` and `softmax_focal_loss`, each with its own score. By
            default it is the length of `alpha`, or one more than the largest label, and at least 2.

        Returns
        -------
        score : float, or array of float64 of shape (num_class,) or (k,)
            With several scores for a row (quantiles, parameters), an array of all. On the scale of the raw
            scores, before `transform`.

        Raises
        ------
        ValueError
            If there are no labels, a label is invalid, or a shape does not match.
        TypeError
            If labels or weights are not numbers.
        """
        y = arguments.as_array("labels", labels)
        if self.name == "aft_loss":
            bounds = _bounds(arguments.converted("labels", y, np.float64))
            if not len(bounds) or num_class is not None:
                raise ValueError("labels must have at least one row, and num_class is for 'cross_entropy'")
            return _starts.aft(bounds, _weights(weight, len(bounds)), self.options)
        if not self.has_classes:
            y = arguments.converted("labels", y, np.float64)
        if y.ndim not in (1, 1 if self.has_classes or self.outputs else 2) or not y.size:
            raise ValueError(f"labels must have shape (n,), with at least one label; got {y.shape}")
        w = _weights(weight, len(y))
        if self.has_classes:
            if num_class is not None and arguments.index("num_class", num_class) < 2:
                raise ValueError(f"num_class must be at least 2, got {num_class}")
            if num_class is None and isinstance(alpha := self.options.get("alpha"), tuple):
                num_class = len(alpha)
            weights = _starts.class_weights(y, w, num_class)
            y, w = np.arange(float(len(weights))), weights
        elif num_class is not None:
            raise ValueError(f"num_class is for 'cross_entropy', not for {self.name!r}")
        require_labels(np.isfinite(y), y, "that is finite")
        start = _LOSSES[self.name].start
        assert start is not None
        if y.ndim == 2:
            return np.array([start(Sample(column, w, self.options, self.library)) for column in y.T])
        return start(Sample(y, w, self.options, self.library))

    def transform(self, scores: Any) -> float | Array:
        """Return the predictions of raw scores.

        The scores themselves; their exponential, for `poisson_nll_loss`, `gamma_nll_loss`,
        `tweedie_nll_loss`, `cox_ph_loss` (the hazard) and `aft_loss` (the time); the probability of class 1,
        for `binary_cross_entropy_with_logits` and `sigmoid_focal_loss`; the probabilities of all classes, by
        a softmax over the last axis, for `cross_entropy` and `softmax_focal_loss`; the parameters of a
        distribution in the order of the arguments of its loss: the location, or for
        `negative_binomial_nll_loss` the mean, and the exponentials of the others.

        Parameters
        ----------
        scores : float, or array-like
            Raw scores, of any shape; for losses of classes with the classes on the last axis.

        Returns
        -------
        predictions : float, or array
            Of the same shape and, where that is float32 or float64, the same type.
        """
        x = _scores(scores)
        if self.outputs and x.shape[-1:] != (self.outputs,):
            raise ValueError(f"scores must have shape (..., {self.outputs}), got {x.shape}")
        predictions = _LOSSES[self.name].link(x)
        return float(predictions) if x.ndim == 0 else predictions

    def _given(self, scores: Any, labels: Any, weight: Any) -> Given:
        """Check the arguments and bring them into one shape."""
        x = _scores(scores)
        y = arguments.as_array("labels", labels)
        if self.name in ("aft_loss", "cox_ph_loss"):
            return self._given_times(x, y, weight)
        if self.has_classes and (x.ndim != 2 or x.shape[1] < 2):
            raise ValueError(
                f"scores must have shape (rows, classes), with two classes or more, got {x.shape}: "
                "set num_class"
            )
        if self.outputs and (x.ndim != 2 or x.shape[1] != self.outputs):
            raise ValueError(
                f"scores must have shape (rows, {self.outputs}), got {x.shape}: {self._remedy()}"
            )
        has_one = self.has_classes or self.outputs > 0  # label for all scores of a row
        shape = x.shape[:1] if has_one else x.shape
        # XGBoost passes the labels of several targets as one row.
        if y.shape != shape and not (y.ndim == 1 and y.size == x.size and not has_one):
            raise ValueError(f"labels must have shape {shape}, as the scores have {x.shape}; got {y.shape}")
        if not self.has_classes:
            y = _beside(arguments.floating("labels", y), x)
        w = _given_weight(weight, x)
        if w is not None:
            w = self._spread(_beside(w, x), x, has_one)
        return Given(x, y.reshape(shape), w, self.options, self.library)

    def _remedy(self) -> str:
        parameter = "num_class" if self.library == "lightgbm" else "num_target"
        return f"set {parameter} to {self.outputs}"

    def _given_times(self, x: Array, labels: Array, weight: Any) -> Given:
        """Check scores (n,) and times, with the sign of their events or as bounds."""
        y = arguments.floating("labels", labels)
        if self.name == "aft_loss":
            y = _bounds(y)
        if x.ndim != 1 or len(y) != len(x) or y.ndim != (2 if self.name == "aft_loss" else 1):
            raise ValueError(f"labels must be times of {x.shape[0]} rows, as scores have; got {labels.shape}")
        w = _given_weight(weight, x)
        if w is not None:
            w = self._spread(w, x, False)
        return Given(x, y, w, self.options, self.library)

    def _given_lists(self, scores: Any, labels: Any, weight: Any, group: Any) -> Given:
        """Check scores and labels (n,) and the sizes of their groups.

        XGBoost's data sets have a weight for each group.
        """
        x, y = _scores(scores), arguments.as_array("labels", labels)
        if x.ndim != 1 or y.shape != x.shape:
            raise ValueError(
                f"scores and labels must have a value for each document, got {x.shape} and {y.shape}"
            )
        if group is None:
            where = "a Dataset with group" if self.library == LIGHTGBM else "a DMatrix with qid or group"
            raise ValueError(f"group must have the size of each group of documents, got None: pass {where}")
        groups = arguments.as_array("group", group)
        group_bounds(groups, len(x), "group")
        w = _given_weight(weight, x)
        if w is not None and self.library == XGBOOST and w.shape == groups.shape:
            w = np.repeat(w, groups)
        if w is not None:
            w = self._spread(w, x, False)
        return Given(x, y, w, self.options, self.library, groups)

    def _spread(self, weight: Array, x: Array, has_one: bool) -> Array:
        """Return weights of rows for each element of the scores; for one label of all, for each row."""
        if weight.ndim != 1 or len(weight) != len(x):
            raise ValueError(f"weight must have shape ({len(x)},), one for each row; got {weight.shape}")
        if has_one or x.ndim == 1:
            return weight
        return np.broadcast_to(weight[:, None], x.shape)


def require_ranker(objective: Objective) -> None:
    """Raise if the objective is not of groups."""
    if not objective.has_groups:
        raise ValueError(f"the objective {objective.name!r} is not for a ranker: use 'lambda_rank_loss'")


def require_classifier(objective: Objective, classes: int) -> None:
    """Raise if the predictions of the objective are not probabilities of this number of classes."""
    if _LOSSES[objective.name].link not in (_starts.sigmoid, _starts.shares):
        raise ValueError(f"the objective {objective.name!r} is not for a classifier")
    if not objective.has_classes and classes > 2:
        raise ValueError(
            f"the objective {objective.name!r} is for two classes, y has {classes}: "
            "'cross_entropy' is for more"
        )
