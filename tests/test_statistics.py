"""Statistics of tokens: outputs, upstream gradients, bands of classes, odd rows; see also the registry."""

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import INF, NAN, Array, assert_near, refused

import fastloss
from fastloss import reference
from fastloss.sequence import TokenStatistics

NAMES = TokenStatistics._fields
ROWS, CLASSES = 9, 5000


def problem(dtype: Any = np.float32, classes: int = CLASSES, seed: int = 0) -> tuple[Array, Array]:
    """Rows of which some are confident, one is nearly certain, one has masked classes, and one is ignored."""
    rng = np.random.default_rng(seed)
    x = 2.0 * rng.standard_normal((ROWS, classes))
    x[1::3, classes // 2] += 12.0
    x[2, classes // 3] += 45.0
    x[3, rng.random(classes) < 0.5] = -INF
    x[3, 0] = 1.0
    y = rng.integers(0, classes, ROWS)
    y[:3], y[3], y[4] = x[:3].argmax(axis=-1), 0, -100
    x[4] = NAN
    return x.astype(dtype), y


def assert_statistics(found: Any, expected: Any, bound: float, title: str = "") -> None:
    for name, mine, exact in zip(NAMES, found, expected, strict=True):
        if exact is None or exact.dtype == np.bool_:
            assert (mine is None and exact is None) or np.array_equal(mine, exact), (title, name)
        else:
            assert_near(mine, exact, bound * np.maximum(np.abs(exact), 1.0), "float64", f"{title} {name}")


@pytest.mark.parametrize("names", [c for n in (1, 2, 6) for c in itertools.combinations(NAMES, n)])
def test_outputs_do_not_depend_on_each_other(names: tuple[str, ...], isa: None) -> None:
    x, y = problem()
    every = fastloss.token_statistics(x, y, outputs=NAMES)
    some = fastloss.token_statistics(x, y, outputs=names)
    for name in NAMES:
        mine, other = getattr(some, name), getattr(every, name)
        assert mine is None if name not in names else np.array_equal(mine, other, equal_nan=True)


@pytest.mark.parametrize("odd", [INF, NAN])
def test_an_odd_class_among_masked_ones(odd: float, isa: None) -> None:
    """At the ends of a row and of its blocks, too."""
    positions = [0, 1, 1023, 1024, 2047, 2048, 4095, 4096, CLASSES - 1]
    x, y = np.full((len(positions), CLASSES), -INF, np.float32), np.full(len(positions), 1500)
    x[:, 1500] = 1.0
    x[range(len(positions)), positions] = odd
    found = fastloss.token_statistics(x, y, outputs=NAMES)
    for name, mine, exact in zip(NAMES, found, reference.token_statistics(x, y, outputs=NAMES), strict=True):
        np.testing.assert_array_equal(mine, exact, err_msg=name)


def test_digits_of_a_certain_row(isa: None) -> None:
    """All of entropy, log-probability and squared probabilities are far below the rounding of 1."""
    x = np.zeros((1, 3000), np.float32)
    x[0, 7] = 60.0
    found = fastloss.token_statistics(x, [7], outputs=NAMES)
    exact = reference.token_statistics(x, [7], outputs=NAMES)
    for name in ("log_probs", "entropy", "log_sum_sq_probs"):
        np.testing.assert_allclose(getattr(found, name), getattr(exact, name), rtol=1e-6)
        assert abs(getattr(found, name)[0]) < 1e-20


GRADIENTS = [(1.5, None), (None, -0.5), (0.7, 2.0), ("array", -0.5), ("array", "array"), (None, None), None]


@pytest.mark.parametrize("classes", [3, 64, 300, CLASSES])
@pytest.mark.parametrize("given", GRADIENTS, ids=str)
def test_two_upstream_gradients(given: Any, classes: int, isa: None) -> None:
    for dtype, bound in ((np.float32, 5e-7), (np.float64, 1e-12), (np.float16, 6e-4)):
        x, y = problem(dtype, classes)
        arrays = np.linspace(-1.0, 2.0, ROWS), np.linspace(1.0, -1.0, ROWS)
        upstream = given and tuple(a if g == "array" else g for g, a in zip(given, arrays, strict=True))
        for options in ({}, {"softcap": 7.0, "temperature": 0.7, "logit_scale": 1.3}):
            more: dict[str, Any] = {"return_grad": True, "grad_output": upstream, **options}
            _, grad = fastloss.token_statistics(x, y, **more)
            _, exact = reference.token_statistics(x, y, **more)
            most = np.abs(exact).max(axis=-1, keepdims=True)
            entropy = 1.0 + np.nan_to_num(reference.token_statistics(x, y, **options).entropy)[:, np.newaxis]
            size = np.maximum(most, 0.05 * entropy * (given not in GRADIENTS[:2]) * (classes < 10))
            assert_near(grad, exact, bound * size + 6e-8 * (dtype is np.float16), "float64", str(options))
            buffer = x.copy()
            _, own = fastloss.token_statistics(buffer, y, out=buffer, **more)
            assert own is buffer and np.array_equal(own, grad)
            ones = np.ones_like(x)
            fastloss.token_statistics(x, y, out=ones, accumulate=True, **more)
            assert_near(ones, 1.0 + exact, bound * (size + 1.0), "float64", "accumulated")


def test_infinite_rows(isa: None) -> None:
    x = np.zeros((5, 300), np.float32)
    x[0, 3], x[1, 3], x[2] = NAN, INF, -INF
    x[3, :200] = -INF
    x[4] = 3e38
    for classes in (300, 5):
        y = [3, 3, 0, 3, 0]
        found, grad = fastloss.token_statistics(x[:, :classes], y, outputs=NAMES, return_grad=True)
        exact, expected = reference.token_statistics(x[:, :classes], y, outputs=NAMES, return_grad=True)
        assert_statistics(found, exact, 1e-6)
        assert np.isnan(grad[:3]).all() == np.isnan(expected[:3]).all()
        np.testing.assert_allclose(grad[3:], expected[3:], atol=1e-7)


def test_the_first_maximum_wins(isa: None) -> None:
    x = np.zeros((4, 5000), np.float32)
    x[:, [100, 101, 2500]] = 3.0
    found = fastloss.token_statistics(x, [100, 101, 2500, 0], outputs=("is_top1",))
    assert found.is_top1 is not None and found.is_top1.tolist() == [True, False, False, False]


@pytest.mark.parametrize("budget", [1, 3000, 100_000])
@pytest.mark.parametrize("options", [{}, {"softcap": 5.0, "temperature": 0.5, "logit_scale": 0.8}], ids=str)
def test_bands_of_classes(budget: int, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((11, 6)), 2.0 * rng.standard_normal((1000, 6)), rng.standard_normal(1000)
    x[2] *= 20.0
    x[5], b[128:300] = NAN, -INF
    y = rng.integers(0, 1000, 11)
    y[:5], y[5] = (x[:5] @ w.T + b).argmax(axis=-1), -100
    upstream = (rng.standard_normal(11), rng.standard_normal(11))
    more: dict[str, Any] = {
        "linear_bias": b, "outputs": NAMES, "return_grad": True, "grad_output": upstream, **options,
    }  # fmt: skip
    found, grads = fastloss.linear_token_statistics(x, w, y, memory_budget=budget, **more)
    with np.errstate(all="ignore"):
        exact, expected = reference.linear_token_statistics(x, w, y, **more)
    assert_statistics(found, exact, 1e-11)
    for mine, grad in zip(grads, expected, strict=True):
        assert_near(mine, grad, 1e-12 * np.abs(grad).max(), "float64", "bands")
    options = {"linear_bias": b, "outputs": NAMES, "memory_budget": budget, **options}
    assert_statistics(fastloss.linear_token_statistics(x, w, y, **options), exact, 1e-11)


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"return_grad": True, "outputs": ("logsumexp",)}, ValueError, "return_grad"),
    ({"return_grad": True, "grad_output": 1.0}, TypeError, "grad_output"),
    ({"return_grad": True, "grad_output": (1.0,)}, TypeError, "grad_output"),
    ({"return_grad": True, "grad_output": [1.0, 1.0]}, TypeError, "grad_output"),
    ({"return_grad": True, "grad_output": (np.ones(3), 1.0)}, ValueError, "grad_output.log_probs"),
    ({"return_grad": True, "grad_output": (1.0, True)}, TypeError, "grad_output.entropy"),
    ({"return_grad": True, "grad_output": (1.0, 1.0), "outputs": ("entropy",)}, ValueError, "log_probs"),
    ({"grad_output": (1.0, None)}, ValueError, "return_grad"),
    ({"accumulate": True, "return_grad": True}, ValueError, "out"),
]


@pytest.mark.parametrize(("options", "error", "name"), WRONG, ids=str)
def test_bad_calls(options: dict[str, Any], error: type[Exception], name: str) -> None:
    x, y = np.zeros((2, 4), np.float32), [0, 1]
    refused(partial(fastloss.token_statistics, x, y, **options), error, name)
    weight = np.zeros((4, 4), np.float32)
    refused(partial(fastloss.linear_token_statistics, x, weight, y, **options), error, name)
