"""The objectives for LightGBM and XGBoost: their formulas, and models equal to those of the built-in ones."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import pickle
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import boosting_cases as table
import numpy as np
import pytest
from boosting_cases import LIBRARIES, ROWS, N, Row, estimator, labels, over_libraries, over_weights, problem
from helpers import Array, Options, bits, on_every_isa, over_product, over_wide, refused
from numpy.testing import assert_allclose, assert_array_equal

import fastloss
from fastloss.boosting import Objective, _derivatives, lightgbm_objective, xgboost_objective

# The table


def test_every_objective_has_a_row() -> None:
    assert not table.missing_rows(ROWS)


@pytest.mark.parametrize("row", [row for row in ROWS if not row.options], ids=str)
def test_a_missing_row_is_found(row: Row) -> None:
    assert table.missing_rows([other for other in ROWS if other != row]) == {row.name}


# Without the libraries


@on_every_isa
@table.over_all
def test_formulas(objective: Objective) -> None:
    for n, seed in ((1, 0), (257, 1), (3000, 2)):
        s, y, weight = table.drawn(objective, n, seed)
        weight[::9] = 0.0
        for w in (None, weight, weight.astype(np.float64)):
            bound = 2e-6 if objective.name == "sigmoid_focal_loss" else None  # out of parts that are float32
            table.check(objective.library, objective(y, s, w), table.expected(objective, s, y, w), bound)


@over_libraries
def test_by_hand(library: str) -> None:
    make = LIBRARIES[library]
    y, s, w = np.array([1.0, 2.0, 9.0]), np.array([1.0, 4.0, 4.0]), np.array([1.0, 1.0, 3.0])
    for name, options, gradient, hessian in (
        ("mse_loss", {}, [0, 2, -15], [1, 1, 3]),
        ("l1_loss", {}, [0, 1, -3], [1, 1, 3]),
        ("huber_loss", {"delta": 1.5}, [0, 1.5, -4.5], [1, 1, 3]),
        # At the kink both libraries take the slope above.
        ("quantile_loss", {"quantile": 0.75}, [0.25, 0.25, -2.25], [1, 1, 3]),
        ("poisson_nll_loss", {"max_delta_step": 0}, (np.exp(s) - y) * w, np.exp(s) * w),
        ("log_cosh_loss", {}, np.tanh(s - y) * w, [1, np.tanh(2) / 2, 3 * np.tanh(5) / 5]),
    ):
        found = make(name, **options)(y, s, w)
        assert_allclose(found[0], gradient, rtol=3e-7)
        assert_allclose(found[1], hessian, rtol=3e-7)
    # Probabilities 1/8, 2/8, 5/8.
    gradient, hessian = make("cross_entropy")(np.array([2]), np.log([[1.0, 2.0, 5.0]]))
    assert_allclose(gradient, [[1 / 8, 2 / 8, -3 / 8]], rtol=1e-6)
    factor = 3 / 2 if library == "lightgbm" else 2
    assert_allclose(hessian, factor / 64 * np.array([[7, 12, 15]]), rtol=1e-6)


@pytest.mark.parametrize("name", table.KINDS)
def test_central_differences(name: str) -> None:
    """The gradient is that of our loss (squared error: half of it), the second derivative the gradient's."""
    loss, options = getattr(fastloss, name), {"delta": 0.6} if name == "huber_loss" else {}
    objective = lightgbm_objective(name, **options)
    s, y, _ = table.drawn(objective, 200, 3)
    gradient, hessian = (a.astype(np.float64) for a in objective(y, s))
    is_softmax = table.is_of_classes(name)
    target = y.astype(np.int64) if is_softmax else y
    half = 0.5 if name == "mse_loss" else 1.0
    step = 1e-5

    def values(moved: Array) -> Array:
        return half * np.asarray(loss(moved, target, reduction="none", **options))

    def gradients(moved: Array) -> Array:
        # Not those of the objective, which are float32.
        return half * np.asarray(loss(moved, target, reduction="sum", return_grad=True, **options)[1])

    def difference(f: Callable[[Array], Array], moved: Any) -> Array:
        return (f(s + moved) - f(s - moved)) / (2 * step)

    for k, moved in enumerate(step * np.eye(table.CLASSES) if is_softmax else [step]):
        at = (slice(None), k) if is_softmax else slice(None)
        slope, bend = difference(values, moved), difference(gradients, moved)[at]
        g, h = gradient[at], hessian[at]
        is_smooth = np.ones(len(g), bool) if is_softmax else np.abs(s - y) > 1e-3
        assert_allclose(g[is_smooth], slope[is_smooth], rtol=1e-5, atol=1e-6)
        if name in ("l1_loss", "quantile_loss", "huber_loss", "log_cosh_loss"):
            assert (h[is_smooth] >= bend[is_smooth] - 1e-6).all()  # a bound
        elif name == "sigmoid_focal_loss":
            p = table.sigmoid((2 * y - 1) * s)
            assert_allclose(h, np.maximum(bend, p * np.abs(g)), rtol=1e-4, atol=1e-7)
        elif name == "softmax_focal_loss":
            assert_allclose(h, table.expected(objective, s, y)[1][:, k], rtol=1e-5)
        else:
            factor = {"poisson_nll_loss": np.exp(0.7), "cross_entropy": 5 / 4}.get(name, 1.0)
            assert_allclose(h, factor * bend, rtol=1e-5, atol=1e-6)


@on_every_isa
@over_wide
@table.over_plain
def test_extreme_scores(objective: Objective, dtype: str) -> None:
    name = objective.name
    s = np.array([-1e4, -800.0, -100.0, -50.0, -1.0, 0.0, 1.0, 50.0, 88.0, 100.0, 800.0, 1e4], dtype)
    for y in (np.ones(len(s)), np.zeros(len(s))) if name != "gamma_nll_loss" else (np.ones(len(s)),):
        x = np.stack([s, -s, 0 * s], axis=1) if table.is_of_classes(name) else s
        for weight in (None, np.full(len(s), 2.0)):
            gradient, hessian = objective(y, x, weight)
            assert np.isfinite(gradient).all() and np.isfinite(hessian).all()
            assert (hessian >= 0).all()
            if objective.library == "xgboost" and table.KINDS[name].labels in ("binary", "classes"):
                # The smallest one applies before the weight, in a softmax after it.
                smallest = 1e-16 * (1.0 if weight is None or table.is_of_classes(name) else 2.0)
                assert_allclose(hessian[np.abs(s) >= 50.0], smallest, rtol=1e-6)
            inner = np.abs(s) <= 50.0
            want = table.expected(objective, x[inner], y[inner], None if weight is None else weight[inner])
            if table.KINDS[name].link is not np.exp:
                table.check("xgboost", (gradient[inner], hessian[inner]), want)


def test_where_an_exponential_exceeds_float32() -> None:
    largest = np.finfo(np.float32).max
    for make in LIBRARIES.values():
        gradient, hessian = make("poisson_nll_loss")([1.0, 1.0, 1.0], np.array([88.0, 88.5, 800.0]))
        assert_allclose(gradient, [np.exp(88.0), np.exp(88.5), largest], rtol=1e-6)
        assert_allclose(hessian, [np.exp(88.7), largest, largest], rtol=1e-6)
        gradient, hessian = make("gamma_nll_loss")([1.0, 1.0], np.array([-88.0, -800.0]))
        assert_allclose(gradient, [-np.exp(88.0), -largest], rtol=1e-6)
        assert_allclose(hessian, [np.exp(88.0), largest], rtol=1e-6)


@over_wide
@over_libraries
def test_sure_classes_keep_their_digits(library: str, dtype: str) -> None:
    """Where the model is right and where it is wrong."""
    y, s = np.zeros(2, int), np.array([[20.0, 0.0, 0.0], [0.0, 20.0, 0.0]], dtype)
    gradient, hessian = LIBRARIES[library]("cross_entropy")(y, s)
    small, factor = np.exp(-20.0), 1.5 if library == "lightgbm" else 2.0
    assert_allclose(gradient, [[-2 * small, small, small], [-1, 1, small]], rtol=3e-7)
    want = factor * small * np.array([[2, 1, 1], [1, 2, 1]])
    assert_allclose(hessian, want, rtol=3e-7)


# (n, k) in any order, and the interfaces


ORDERS: dict[str, Callable[[Array], Array]] = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "every second row": lambda x: x.repeat(2, axis=0)[::2],
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": lambda x: np.broadcast_to(x[:1], x.shape),
}


@over_libraries
@pytest.mark.parametrize("order", ORDERS)
def test_orders(order: str, library: str) -> None:
    objective = LIBRARIES[library]("cross_entropy")
    for classes in (2, table.CLASSES, 40):
        x, y, weight = table.drawn(objective, 70, 4, classes)
        x = ORDERS[order](x)
        before = x.copy()
        for w in (None, weight):
            found = objective(y, x, w)
            table.check(library, found, table.expected(objective, x, y, w))
            # What comes out needs no copy where what went in needed none.
            for array in found:
                assert array.flags.forc
                assert order not in ("C", "Fortran") or array.flags.f_contiguous == (order == "Fortran")
        assert (x == before).all()


@over_libraries
def test_blocks_of_rows(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = LIBRARIES[library]("cross_entropy")
    x, y, weight = table.drawn(objective, 1000, 5)
    for order in (np.ascontiguousarray, np.asfortranarray):
        for w in (None, weight):
            monkeypatch.undo()
            whole = objective(y, order(x), w)
            monkeypatch.setattr(_derivatives, "BLOCK", 37 * table.CLASSES)
            assert bits(whole) == bits(objective(y, order(x), w))


@table.over_plain
def test_interfaces(objective: Objective) -> None:
    s, y, w = table.drawn(objective, 50, 6)
    plain, weighted = objective(y, s), objective(y, s, w)
    assert not np.array_equal(plain[0], weighted[0])
    none = np.empty(0, np.float32)  # XGBoost
    for found, want in (
        (objective(s, table.labelled(y)), plain),
        (objective(s, table.labelled(y, none)), plain),
        (objective(s, table.labelled(y, w)), weighted),
        (objective(y, s, None), plain),
        (objective(y, s, sample_weight=w), weighted),
        (objective(y.tolist(), s, w.tolist()), weighted),
        (objective(y.astype(np.float64), s), plain),
    ):
        assert bits(found) == bits(want)
    # LightGBM counts the parameters, XGBoost looks for the name.
    assert list(inspect.signature(objective).parameters) == ["y_true", "y_pred", "sample_weight", "group"]


@table.over_plain
def test_kinds_of_labels(objective: Objective) -> None:
    s, _, w = table.drawn(objective, 40, 10)
    y = table.whole_labels(objective.name, 40, np.random.default_rng(10))
    want = objective(y, s, w)
    kinds: list[Any] = [y.astype(kind) for kind in ("f8", ">f4", "i8", "u8", "i1", "f2")]
    kinds += [y.astype(kind).repeat(3)[::3] for kind in ("f4", "f8", "i8", "i4")]
    for label in kinds:
        for weight in (w, w.astype(">f8"), w.repeat(2)[::2]):
            assert bits(objective(label, s, weight)) == bits(want)
    for label in (y.astype(str), y.astype(object)):
        refused(partial(objective, label, s), TypeError, "labels")


@pytest.mark.parametrize("name", [name for name in table.KINDS if not table.is_of_classes(name)])
def test_several_targets(name: str) -> None:
    """As XGBoost has them: (n, k) scores, and the labels in one row."""
    objective = xgboost_objective(name)
    s, y, w = table.drawn(objective, 60, 7)
    w = w[:20]
    want = objective(y, s, np.repeat(w, 3))
    for label in (y, y.reshape(20, 3)):
        found = objective(s.reshape(20, 3), table.labelled(label, w))
        assert found[0].shape == (20, 3) and bits(found) == bits(want)


@table.over_plain
def test_results_stay(objective: Objective) -> None:
    """A later call, or one of another thread, does not touch what an earlier one has returned."""
    n = 120_000 if table.is_of_classes(objective.name) else 3000  # large enough for memory that is kept
    y = table.drawn(objective, n, 8)[1]
    inputs = [np.asfortranarray(table.drawn(objective, n, seed)[0]) for seed in range(3)]
    first = [objective(y, s) for s in inputs]
    kept = [tuple(a.copy() for a in pair) for pair in first]
    with ThreadPoolExecutor(3) as pool:
        second = list(pool.map(lambda s: objective(y, s), inputs * 2))
    assert bits(first + second) == bits(kept * 3)


@over_libraries
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_an_object_of_its_own(row: Row, library: str) -> None:
    objective, name, options = row.objective(library), row.name, row.options
    for twin in (pickle.loads(pickle.dumps(objective)), copy.deepcopy(objective), eval(repr(objective))):
        assert type(twin) is Objective
        assert twin == objective and hash(twin) == hash(objective) and twin is not objective
        assert repr(twin) == repr(objective)
    assert sum(other == objective for other in table.OBJECTIVES) == 1
    assert objective != name
    assert objective.__name__ == objective.name == name
    assert (objective.library, objective.options | options) == (library, objective.options)


@table.over_plain
def test_no_rows(objective: Objective) -> None:
    s = np.empty((0, 3) if table.is_of_classes(objective.name) else 0)
    for w in (None, np.empty(0)):
        for array in objective(np.empty(0), s, w):
            assert array.shape == s.shape and array.dtype == np.float32


# Errors

BAD: list[tuple[str, Options, str]] = [
    ("huber", {}, "'huber_loss'"),
    ("", {}, "'cross_entropy'"),
    ("huber_loss", {"beta": 1.0}, "beta .* takes delta"),
    ("mse_loss", {"delta": 1.0}, "delta .* takes no options"),
    ("poisson_nll_loss", {"full": True}, "full .* takes max_delta_step"),
    ("sigmoid_focal_loss", {"power": 1.5}, "power .* takes alpha, gamma"),
    ("huber_loss", {"delta": 0.0}, "delta"),
    ("huber_loss", {"delta": np.nan}, "delta"),
    ("quantile_loss", {"quantile": 0.0}, "quantile"),
    ("quantile_loss", {"quantile": 1}, "quantile"),
    ("quantile_loss", {"quantile": -0.1}, "quantile"),
    ("poisson_nll_loss", {"max_delta_step": -0.1}, "max_delta_step"),
    ("poisson_nll_loss", {"max_delta_step": 81.0}, "max_delta_step"),
    ("tweedie_nll_loss", {"power": 0.9}, "power"),
    ("tweedie_nll_loss", {"power": 2.1}, "power"),
    ("binary_cross_entropy_with_logits", {"pos_weight": 0.0}, "pos_weight"),
    ("sigmoid_focal_loss", {"alpha": 1.5}, "alpha"),
    ("sigmoid_focal_loss", {"gamma": -1.0}, "gamma"),
]


@over_libraries
@pytest.mark.parametrize(("name", "options", "match"), BAD, ids=str)
def test_bad_options(library: str, name: str, options: Options, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        LIBRARIES[library](name, **options)


@over_libraries
def test_options_of_bad_types(library: str) -> None:
    for name in (None, 3, ["mse_loss"]):
        refused(partial(LIBRARIES[library], name), ValueError, "name must be one of")
    for value in ("1", None, True, [1.0]):
        refused(partial(LIBRARIES[library], "huber_loss", delta=value), TypeError, "delta must be a number")


BAD_LABELS: list[tuple[str, list[float], str]] = [
    ("poisson_nll_loss", [0.0, 3.0, -1.0, -2.0], r"label\[2\] is -1.0"),
    ("gamma_nll_loss", [1.0, -0.5], r"label\[1\] is -0.5"),
    ("tweedie_nll_loss", [0.0, -0.5], r"label\[1\] is -0.5"),
    ("binary_cross_entropy_with_logits", [0.0, 1.0, 2.0, -1.0], r"label\[2\] is 2.0"),
    ("binary_cross_entropy_with_logits", [-1.0, 1.0], r"label\[0\] is -1.0"),
    ("sigmoid_focal_loss", [0.0, 0.5], r"label\[1\] is 0.5"),
    ("cross_entropy", [0.0, 3.0], r"label\[1\] is 3.0.* from 0 to 2"),
    ("cross_entropy", [0.0, 1.0, -1.0], r"label\[2\] is -1.0"),
    ("cross_entropy", [0.0, 0.5], r"label\[1\] is 0.5"),
    ("cross_entropy", [0.0, np.nan], r"label\[1\] is nan"),
    ("cross_entropy", [np.inf, 0.0], r"label\[0\] is inf"),
]


@over_libraries
@pytest.mark.parametrize(("name", "values", "match"), BAD_LABELS, ids=str)
def test_bad_labels(library: str, name: str, values: list[float], match: str) -> None:
    objective = LIBRARIES[library](name)
    for dtype in ("float32", "float64"):
        y = np.array(values, dtype)
        s = np.zeros((len(y), 3) if table.is_of_classes(name) else len(y), dtype)
        refused(partial(objective, y, s), ValueError, match)
        refused(partial(objective, s, table.labelled(y)), ValueError, match)


def test_labels_that_one_library_takes() -> None:
    for name, takes, refuses, label, want in (
        ("gamma_nll_loss", "lightgbm", "xgboost", [0.0, 1.0], ([1.0, 0.0], [0.0, 1.0])),
        ("binary_cross_entropy_with_logits", "xgboost", "lightgbm", [0.5, 0.25], ([0.0, 0.25], [0.25, 0.25])),
    ):
        gradient, hessian = LIBRARIES[takes](name)(label, np.zeros(2))
        assert (gradient.tolist(), hessian.tolist()) == want
        call = partial(LIBRARIES[refuses](name), label, np.zeros(2))
        refused(call, ValueError, rf"label\[0\] is {label[0]}")


@over_libraries
def test_bad_shapes(library: str) -> None:
    regression, softmax_objective = LIBRARIES[library]("mse_loss"), LIBRARIES[library]("cross_entropy")
    y = np.zeros(6)
    for s, label in ((np.zeros(5), y), (np.zeros((6, 1)), y[:5]), (np.zeros(6), y.reshape(6, 1))):
        refused(partial(regression, label, s), ValueError, "labels must have shape")
    for s in (np.zeros(6), np.zeros(18), np.zeros((6, 1)), np.zeros((6, 2, 3))):
        refused(partial(softmax_objective, y, s), ValueError, "num_class")
    wide = np.zeros((6, 3))
    refused(partial(softmax_objective, wide, wide), ValueError, "labels must have shape")
    for weight in (np.ones(5), np.ones((6, 1)), 2.0):
        for objective, s in ((regression, y), (softmax_objective, wide)):
            refused(partial(objective, y, s, weight), ValueError, "weight must have shape")


# Where the scores start, and what they stand for


def smooth_labels(name: str, n: int, rng: np.random.Generator) -> Array:
    """Labels of a loss, for regression of any scale."""
    y = labels(name, n, rng).astype(np.float64)
    is_error = table.KINDS[name].labels == "errors"
    return 10.0 ** rng.uniform(-3, 4) * rng.standard_t(1.5, n) if is_error else y


@over_product
@table.over_all
def test_no_constant_has_less_loss(objective: Objective, product: bool) -> None:
    name = objective.name
    of_loss = {k: v for k, v in objective.options.items() if k != "max_delta_step"}
    loss = partial(getattr(fastloss, name), reduction="none", **of_loss)
    for seed in range(12 if product else 6):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(30, 300))
        y = smooth_labels(name, n, rng)
        w = rng.uniform(0.0, 2.0, n) * (rng.random(n) < 0.8) if seed % 2 else np.ones(n)
        start = np.asarray(objective.init_score(y, w if seed % 2 else None))
        target = y.astype(np.int64) if table.is_of_classes(name) else y

        def total(score: Array) -> float:
            s = np.full((n, *start.shape), score)  # noqa: B023
            return float(np.sum(w * loss(s, target)))  # noqa: B023

        spread = max(float(np.ptp(y)), 1.0)
        shifts = [sign * spread * 10.0**k for k in range(-6, 1) for sign in (-1, 1)]
        others = [start + shift * axis for shift in shifts for axis in np.eye(max(start.size, 1))]
        others += list(np.unique(y)) if name in ("l1_loss", "quantile_loss") else []
        least = min(total(other if start.ndim else np.sum(other)) for other in others)
        assert total(start) <= least + 1e-13 * abs(least)


def test_starts_by_hand() -> None:
    y, w = [1.0, 2.0, 9.0], [1.0, 1.0, 2.0]
    for make in LIBRARIES.values():
        assert make("mse_loss").init_score(y, w) == 5.25
        assert make("l1_loss").init_score(y) == 2.0
        assert make("l1_loss").init_score(y, w) == 2.0
        assert make("quantile_loss", quantile=0.9).init_score(y) == 9.0
        assert make("huber_loss", delta=2.0).init_score(y) == 2.5
        assert make("huber_loss", delta=1e9).init_score(y) == pytest.approx(4.0, rel=1e-15)
        # Two plateaus, and nothing between the labels to choose by.
        assert 1.0 <= make("huber_loss").init_score([0.0, 100.0]) <= 99.0
        assert make("log_cosh_loss").init_score([-3.0, 1.0]) == pytest.approx(-1.0, abs=1e-15)
        for name in ("poisson_nll_loss", "gamma_nll_loss", "tweedie_nll_loss"):
            assert make(name).init_score(y, w) == math.log(5.25)
        binary = [0, 1, 1, 1]
        assert make("binary_cross_entropy_with_logits").init_score(binary) == math.log(3)
        weighted = make("binary_cross_entropy_with_logits", pos_weight=2.0).init_score(binary, [6, 1, 1, 1])
        assert weighted == pytest.approx(0.0, abs=1e-15)
        plain = make("sigmoid_focal_loss", alpha=None, gamma=0.0).init_score(binary)
        assert plain == pytest.approx(math.log(3), rel=1e-14)
        balanced = make("sigmoid_focal_loss", alpha=0.25).init_score(binary)  # 3/4 of one, 1/4 of three
        assert balanced == pytest.approx(0.0, abs=1e-14)
        assert_allclose(make("cross_entropy").init_score([0, 2, 2, 1]), np.log([0.25, 0.25, 0.5]), rtol=1e-15)
        weighted_classes = make("cross_entropy").init_score([0, 1], [1.0, 3.0])
        assert_allclose(weighted_classes, np.log([0.25, 0.75]), rtol=1e-15)
    soft = xgboost_objective("binary_cross_entropy_with_logits").init_score([0.5, 0.0, 1.0, 0.9])
    assert soft == pytest.approx(math.log(2.4 / 1.6), rel=1e-15)


@pytest.mark.parametrize("level", [0.01, 0.25, 0.5, 0.83, 0.99])
def test_quantiles_are_those_of_numpy(level: float) -> None:
    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        pytest.skip("weights came with NumPy 2.0")
    objective = lightgbm_objective("quantile_loss", quantile=level)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        y = np.round(rng.normal(size=1 + seed * 3), seed % 4)
        w = rng.integers(0, 4, len(y)) + (np.arange(len(y)) == 0)
        assert objective.init_score(y) == np.quantile(y, level, method="inverted_cdf")
        assert objective.init_score(y, w) == np.quantile(y, level, method="inverted_cdf", weights=w)


def test_starts_of_labels_that_say_little() -> None:
    """All of one class, no counts, no weights: finite, and where LightGBM has them."""
    log = math.log(1e-15)
    for make in LIBRARIES.values():
        for name in ("binary_cross_entropy_with_logits", "sigmoid_focal_loss"):
            assert make(name).init_score([0, 0, 0]) == pytest.approx(log)
            assert make(name).init_score([1, 1, 1]) == pytest.approx(-log)
            assert make(name).init_score([1, 0], [0.0, 1.0]) == pytest.approx(log)
        for name in ("poisson_nll_loss", "tweedie_nll_loss"):
            assert make(name).init_score([0.0, 0.0]) == pytest.approx(log)
        classes = make("cross_entropy")
        assert_allclose(classes.init_score([0, 2]), [math.log(0.5), log, math.log(0.5)])
        assert_allclose(classes.init_score([0, 0]), [0.0, log], atol=1e-15)
        assert_allclose(classes.init_score([1], num_class=3), [log, 0.0, log], atol=1e-15)
        for name in table.KINDS:
            y = [1.0, 1.0, 0.0] if name != "gamma_nll_loss" else [1.0, 1.0, 3.0]
            assert_array_equal(make(name).init_score(y, np.zeros(3)), make(name).init_score(y))
        for name in ("mse_loss", "l1_loss", "huber_loss", "log_cosh_loss", "quantile_loss"):
            assert make(name).init_score([7.25]) == make(name).init_score([7.25, 7.25]) == 7.25


@over_product
@table.over_all
def test_kinds_of_starts(objective: Objective, product: bool) -> None:
    rng, name = np.random.default_rng(11), objective.name
    y, w = table.whole_labels(name, 60, rng), rng.uniform(size=60).astype(np.float32)
    want = objective.init_score(y, w)
    assert type(want) is float or table.is_of_classes(name)
    weights = (w, w.tolist(), w.astype(np.float64))
    kinds = (y.astype(np.int64), y.astype(np.float32), y.tolist(), y.repeat(2)[::2], y.astype(">f8"))
    pairs = zip(kinds, itertools.cycle(weights), strict=False)
    for label, weight in itertools.product(kinds, weights) if product else pairs:
        assert_array_equal(objective.init_score(label, weight), want)
    none = objective.init_score(y)
    assert_array_equal(objective.init_score(y, np.empty(0)), none)  # XGBoost's for none
    if not table.is_of_classes(name):
        both = np.stack([y, y[::-1]], axis=1)
        assert_array_equal(objective.init_score(both), [none, objective.init_score(y[::-1])])


@over_libraries
@pytest.mark.parametrize(("name", "values", "match"), BAD_LABELS, ids=str)
def test_bad_labels_of_starts(library: str, name: str, values: list[float], match: str) -> None:
    match = match.partition(".*")[0] if table.is_of_classes(name) else match
    for classes in ({}, {"num_class": 3}) if table.is_of_classes(name) else ({},):
        if values == [0.0, 3.0] and not classes:
            continue  # four classes, then
        refused(partial(LIBRARIES[library](name).init_score, values, **classes), ValueError, match)


@over_libraries
def test_bad_arguments_of_starts(library: str) -> None:
    start, of_classes = (LIBRARIES[library](name).init_score for name in ("mse_loss", "cross_entropy"))
    for bad in ([np.nan, 1.0], [1.0, np.inf]):
        refused(partial(start, bad), ValueError, r"label\[\d\] is .*finite")
    for shape in ((0,), (), (2, 2, 2)):
        refused(partial(start, np.zeros(shape)), ValueError, "labels must have shape")
    refused(partial(of_classes, np.zeros((2, 2))), ValueError, "labels must have shape")
    for weight in ([1.0], np.ones((2, 1))):
        refused(partial(start, [0.0, 1.0], weight), ValueError, r"weight must have shape \(2,\), one")
    for weight in ([1.0, -1.0], [1.0, np.nan], [1.0, np.inf]):
        refused(partial(start, [0.0, 1.0], weight), ValueError, r"weight\[1\] is")
    refused(partial(start, [0.0], num_class=2), ValueError, "num_class is for")
    refused(partial(of_classes, [0], num_class=1), ValueError, "num_class must be at least 2")
    for one in (start, of_classes):
        refused(partial(one, ["a", "b"]), TypeError, "labels")


@over_wide
@table.over_plain
def test_transform(objective: Objective, dtype: str) -> None:
    name = objective.name
    rng = np.random.default_rng(12)
    s = (5.0 * rng.normal(size=(40, 3))).astype(dtype)
    link = table.KINDS[name].link
    found = objective.transform(s)
    assert isinstance(found, np.ndarray) and found.dtype == dtype
    assert_allclose(found, link(s.astype(np.float64)), rtol=2e-6 if dtype == "float32" else 1e-14)
    assert objective.has_link == (link is not np.positive)
    assert_allclose(objective.transform(s.tolist()), link(s.astype(np.float64)), rtol=1e-14)
    if not table.is_of_classes(name):
        assert objective.transform(1.5) == pytest.approx(float(link(np.array(1.5))), rel=1e-15)
        assert type(objective.transform(np.float64(1.5))) is float
        far = objective.transform(np.array([-1e4, -800.0, 800.0, 1e4], dtype))
        assert isinstance(far, np.ndarray) and not np.isnan(far).any()
    else:
        assert_allclose(objective.transform(s[0]), found[0])
        for shape in ((), (3, 1)):
            refused(partial(objective.transform, np.zeros(shape)), ValueError, "two classes")


# With the libraries

LIGHTGBM: Options = {
    "learning_rate": 0.2, "num_leaves": 12, "min_data_in_leaf": 10, "boost_from_average": False,
    "num_threads": 1, "deterministic": True, "force_row_wise": True, "verbose": -1,
}  # fmt: skip
XGBOOST: Options = {"eta": 0.2, "max_depth": 4, "base_score": 0.5, "nthread": 1}


def lightgbm_model(
    params: Options, p: table.Problem, weight: Array | None, rounds: int = table.ROUNDS
) -> Any:
    lightgbm = pytest.importorskip("lightgbm")
    data = lightgbm.Dataset(p.features, p.labels, weight=weight, params={"verbose": -1})
    return lightgbm.train({**LIGHTGBM, **params}, data, rounds)


def xgboost_model(
    params: Options, p: table.Problem, weight: Array | None, obj: Any, rounds: int = table.ROUNDS
) -> tuple[Any, Any]:
    xgboost = pytest.importorskip("xgboost")
    data = xgboost.DMatrix(p.features, p.labels, weight=weight)
    return xgboost.train({**XGBOOST, **params}, data, rounds, obj=obj), data


def splits(model: Any) -> list[tuple[str, ...]]:
    """Feature, threshold and count of each split of the first tree of a LightGBM model."""
    tree = dict(re.findall("^(.+)=(.+)$", model.model_to_string(num_iteration=1), re.MULTILINE))
    names = ("split_feature", "threshold", "internal_count")
    return sorted(zip(*(tree[name].split() for name in names), strict=True))


@over_weights
@pytest.mark.parametrize("row", [row for row in ROWS if row.lightgbm], ids=str)
def test_lightgbm_models_are_equal(row: Row, is_weighted: bool) -> None:
    """Where leaves are renewed, trees before they are."""
    p = problem(row.name)
    weight = p.weight if is_weighted else None
    rounds = 1 if row.name in table.RENEWED else table.ROUNDS
    built_in = lightgbm_model(row.lightgbm, p, weight, rounds)
    ours = {k: v for k, v in row.lightgbm.items() if k == "num_class"}
    model = lightgbm_model({**ours, "objective": row.objective("lightgbm")}, p, weight, rounds)
    assert len(splits(built_in)) > 3
    assert splits(model) == splits(built_in)
    if row.name in table.RENEWED:
        return
    want = built_in.predict(p.features, raw_score=True)
    assert np.std(want) > 0.1
    assert_allclose(model.predict(p.features), want, rtol=1e-5, atol=1e-5)


@over_weights
@pytest.mark.parametrize("row", [row for row in ROWS if row.xgboost], ids=str)
def test_xgboost_models_are_equal(row: Row, is_weighted: bool) -> None:
    p = problem(row.name)
    weight = p.weight if is_weighted else None
    built_in, data = xgboost_model(row.xgboost, p, weight, None)
    model, _ = xgboost_model(row.xgboost, p, weight, row.objective("xgboost"))
    want = built_in.predict(data, output_margin=True)
    assert np.std(want) > 0.1
    assert_allclose(model.predict(data, output_margin=True), want, rtol=1e-5, atol=1e-5)
    # Through the link that `objective` names.
    assert_allclose(model.predict(data), built_in.predict(data), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["log_cosh_loss", "sigmoid_focal_loss", "huber_loss", *table.RENEWED])
@over_libraries
def test_what_has_no_equal_learns(library: str, name: str) -> None:
    p = problem(name)
    far = p._replace(labels=p.labels + 20.0) if name == "log_cosh_loss" else p  # far from the start
    objective = LIBRARIES[library](name)
    if library == "lightgbm":
        s = lightgbm_model({"objective": objective}, far, None, 60).predict(p.features)
    else:
        model, data = xgboost_model({"objective": "reg:squarederror"}, far, None, objective, 60)
        s = model.predict(data)
    loss = getattr(fastloss, name)
    best_constant = min(loss(np.full(N, c), far.labels) for c in np.linspace(-3.0, 25.0, 200))
    assert loss(s.astype(np.float64), far.labels) < 0.8 * best_constant


def estimator_of(library: str, kind: str, objective: Any) -> Any:
    """The library's own estimator, of few trees."""
    few: Options = {"n_estimators": 10, "max_depth": 3}
    if library == "lightgbm":
        few |= {k: v for k, v in LIGHTGBM.items() if k not in ("min_data_in_leaf", "num_threads")}
    else:
        few["base_score"] = 0.5
    return estimator(library, kind, objective, pytest.importorskip(library), **few)


@over_weights
@over_libraries
@pytest.mark.parametrize("name", ["mse_loss", "binary_cross_entropy_with_logits", "cross_entropy"])
def test_estimators(name: str, library: str, is_weighted: bool) -> None:
    """The library's own take our objectives."""
    p = problem(name)
    (row,) = (row for row in ROWS if row.name == name and not row.options)
    raw = {"raw_score" if library == "lightgbm" else "output_margin": True}
    found = []
    for objective in (row.built_in(library)["objective"], row.objective(library)):
        kind = "Regressor" if name == "mse_loss" else "Classifier"
        model = estimator_of(library, kind, objective)
        model.fit(p.features, p.labels, sample_weight=p.weight if is_weighted else None)
        found.append(model.predict(p.features, **raw))
    assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["huber_loss", "poisson_nll_loss"])
def test_several_targets_in_xgboost(name: str) -> None:
    p = problem(name)
    both = np.stack([p.labels, p.labels[::-1]], axis=1)
    params = {"objective": "reg:squarederror", "base_score": 0.0}

    def predicted(y: Array) -> Any:
        model, data = xgboost_model(params, p._replace(labels=y), p.weight, xgboost_objective(name), 5)
        return model.predict(data)

    joint = predicted(both)
    for k in range(2):
        assert_allclose(joint[:, k], predicted(both[:, k]), rtol=1e-5, atol=1e-5)


@over_libraries
def test_inside_scikit_learn(library: str) -> None:
    """Cloned, pickled and sent to other processes."""
    objective = LIBRARIES[library]("huber_loss", delta=0.5)
    model = estimator_of(library, "Regressor", objective)
    from sklearn.model_selection import cross_val_score

    p = problem("huber_loss")
    features = p.features.astype(np.float32)
    runs = [cross_val_score(model, features, p.labels, cv=3, n_jobs=n, error_score="raise") for n in (1, 2)]
    assert_array_equal(runs[0], runs[1])
    fitted = model.fit(features, p.labels)
    again = pickle.loads(pickle.dumps(fitted))
    assert again.objective == objective
    assert_array_equal(again.predict(features), fitted.predict(features))


# The example


@over_libraries
def test_example(library: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip(library)
    pytest.importorskip("sklearn")
    from fastloss._examples import boosting as example

    few = ["--rounds", "3", "--leaves", "5", "--threads", "1"]
    assert example.main([*few, "--libraries", library]) == 0
    output = capsys.readouterr().out
    rows = re.findall(r"^(\w.*?)  +(\w+) +([-\d.]+) +([\d.]+) +[-\d.]+ +[\d.]+$", output, re.M)
    assert [(row[0], row[1]) for row in rows] == [(task.data, task.loss) for task in example.TASKS]
    for _, loss, built_in, ours in rows:
        assert built_in in ("-", ours) or (library, loss) == ("lightgbm", "quantile_loss")


def test_example_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    from fastloss._examples import boosting as example

    monkeypatch.setitem(sys.modules, "lightgbm", None)
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(SystemExit, match="2"):
        example.main([])
    output = capsys.readouterr()
    assert "LightGBM is left out" in output.out and "needs LightGBM or XGBoost" in output.err
