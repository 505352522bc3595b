"""Distributions: functions of gamma.h, SciPy's likelihoods, limits, tails, parameters that are numbers."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import Array, bits, on_every_isa, refused

import fastloss
from fastloss import _kernels

mp = pytest.importorskip("mpmath")
stats = pytest.importorskip("scipy.stats")
RNG = np.random.default_rng(0)


def rising(t: Any, a: Any) -> Any:
    return mp.loggamma(t + 1 / a) - mp.loggamma(1 / a) + t * mp.log(a)


def rising_slope(t: Any, a: Any) -> Any:
    return t / a - (mp.digamma(t + 1 / a) - mp.digamma(1 / a)) / a**2


def half_step(y: Any) -> Any:
    return mp.loggamma(1 / y + mp.mpf("0.5")) - mp.loggamma(1 / y) + mp.log(y) / 2


def half_step_slope(y: Any) -> Any:
    return mp.digamma(1 / y + mp.mpf("0.5")) - mp.digamma(1 / y) - y / 2


SMALL = np.array([1e-12, 1e-7, 0.1249, 0.125, 0.1251, 0.5, 1.0, 30.0, 1e6, *10 ** RNG.uniform(-12, 6, 60)])
COUNTS = np.array([*range(12), 1e3, *10.0 ** RNG.uniform(-3.0, 6.0, 60)])
AROUND_0 = np.concatenate([SMALL, -SMALL[SMALL < 0.5]])


# Name, exact function, arguments, units of the error, and of which least size they are.
FUNCTIONS: list[tuple[str, Callable[[Any], Any], Array, float, float]] = [
    ("deficit_f64", lambda x: x - mp.log1p(x), AROUND_0, 4.0, 0.0),
    ("log_factorial_f64", lambda t: mp.loggamma(t + 1), COUNTS, 32.0, 1.0),
    ("rising_of_3_f64", partial(rising, 3), SMALL, 16.0, 1.0),
    ("rising_of_1000_f64", partial(rising, 1000), SMALL, 16.0, 1.0),
    ("rising_slope_of_3_f64", partial(rising_slope, 3), SMALL, 16.0, 9.0),
    ("rising_slope_of_1000_f64", partial(rising_slope, 1000), SMALL, 16.0, 1e6),
    ("half_step_value_f64", half_step, SMALL[SMALL <= 0.125], 8.0, 0.0),
    ("half_step_value_f64", half_step, SMALL, 8.0, 1.0),
    ("half_step_slope_f64", half_step_slope, SMALL[SMALL <= 0.125], 8.0, 0.0),
    ("half_step_slope_f64", half_step_slope, SMALL, 8.0, 1.0),
]


@on_every_isa
@pytest.mark.parametrize(("name", "function", "x", "ulps", "least"), FUNCTIONS)
def test_functions(name: str, function: Callable[[Any], Any], x: Array, ulps: float, least: float) -> None:
    """The errors that gamma.h states, against 80 digits."""
    found = np.empty_like(x)
    _kernels.vecmath(name, x, found)
    with mp.workdps(80):
        exact = [function(mp.mpf(float(one))) for one in x]
        errors = [abs(f - e) / max(abs(e), least) for f, e in zip(found.tolist(), exact, strict=True)]
    assert max(errors) <= ulps * 2.0**-52, (name, x[int(np.argmax(errors))])


def test_as_scipy() -> None:
    x, a = RNG.uniform(-2.0, 4.0, 200), 10.0 ** RNG.uniform(-2.0, 1.0, 200)
    t, m = RNG.poisson(9.0, 200).astype(float), np.exp(x)
    loss = fastloss.negative_binomial_nll_loss(x, t, a, full=True, reduction="none")
    np.testing.assert_allclose(loss, -stats.nbinom.logpmf(t, 1.0 / a, 1.0 / (1.0 + a * m)), rtol=1e-9)
    y, s, n = RNG.normal(size=200), 10.0 ** RNG.uniform(-2.0, 1.0, 200), 10.0 ** RNG.uniform(-1.0, 3.0, 200)
    loss = fastloss.student_t_nll_loss(x, y, s, n, full=True, reduction="none")
    np.testing.assert_allclose(loss, -stats.t.logpdf(y, n, x, s), rtol=1e-9)


@on_every_isa
def test_limits() -> None:
    """No dispersion is Poisson's distribution, infinitely many degrees of freedom are the normal one."""
    x, t = RNG.uniform(-2.0, 4.0, 50), RNG.poisson(9.0, 50).astype(float)
    poisson = fastloss.poisson_nll_loss(x, t, reduction="none", return_grad=True)
    for a, check in ((0.0, False), (1e-300, True), (1e-14, True)):
        given: Any = {"reduction": "none", "return_grad": True, "check_domain": check}
        loss, grads = fastloss.negative_binomial_nll_loss(x, t, np.full(50, a), **given)
        np.testing.assert_allclose(loss, poisson[0], rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(grads.input, poisson[1], rtol=1e-10)
        np.testing.assert_allclose(grads.dispersion, -0.5 * ((t - np.exp(x)) ** 2 - t), rtol=1e-9, atol=1e-9)
    normal = fastloss.gaussian_nll_loss(x, t, 4.0, full=True)
    assert fastloss.student_t_nll_loss(x, t, 2.0, math.inf, full=True) == pytest.approx(normal, rel=1e-13)
    n, z = np.full(50, 1e9), (x - t) / 2.0
    slope = fastloss.student_t_nll_loss(x, t, 2.0, n, reduction="none", return_grad=True)[1].df
    np.testing.assert_allclose(slope * 4e18, z**4 - 2.0 * z**2 - 1.0, rtol=1e-5, atol=1e-5)


@on_every_isa
def test_extremes() -> None:
    """Means beyond the range of the type, tails whose square is: what is finite is right."""
    x, t, a = np.array([[800.0, 5000.0, -math.inf, 5.0], [3.0, 0.0, 0.0, math.nan], [0.5, 2.0, 0.5, 1.0]])
    loss, grads = fastloss.negative_binomial_nll_loss(x, t, a, reduction="none", return_grad=True)
    log_a = np.log(a)
    far = (x + log_a)[:2] / a[:2] + t[:2] * log_a[:2] - [math.log(1.5) + math.log(2.0), 0.0]
    np.testing.assert_allclose(loss[:3], [*far, 0.0], rtol=1e-12)
    np.testing.assert_allclose(grads.input[:3], [2.0, 0.5, 0.0], rtol=1e-12)
    assert np.isnan(loss[3]) and np.isnan(grads.input[3]) and np.isnan(grads.dispersion[3])
    x = np.array([1e200, -1e300, 1e160])
    loss, grads = fastloss.student_t_nll_loss(x, 0.0, 2.0, 3.0, reduction="none", return_grad=True)
    with mp.workdps(50):
        log = [mp.log1p((mp.mpf(float(one)) / 2) ** 2 / 3) for one in x]
        constant = mp.log(2) + mp.log(3) / 2 + mp.loggamma(mp.mpf("1.5")) - mp.loggamma(2)
        exact = [float(2 * one + constant) for one in log]
    np.testing.assert_allclose(loss, exact, rtol=1e-13)
    np.testing.assert_allclose(grads.input, 4.0 / x, rtol=1e-13)
    assert np.isfinite(fastloss.student_t_nll_loss(x, 0.0, 2.0, 3.0, return_grad=True)[1].df)


@pytest.mark.parametrize(
    ("name", "numbers"), [("negative_binomial_nll_loss", (0.7,)), ("student_t_nll_loss", (1.3, 4.0))]
)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_parameters_that_are_numbers(name: str, numbers: tuple[float, ...], reduction: str) -> None:
    """Their gradient is the sum of those of arrays, whatever the number of threads; no buffer takes it."""
    function = getattr(fastloss, name)
    x, t = RNG.normal(size=(300, 700)).astype("f4"), RNG.poisson(2.0, (300, 700)).astype("f4")
    arrays = [np.full(x.shape, one) for one in numbers]
    options = {"reduction": reduction, "return_grad": True, "grad_output": 2.0}
    options |= {"weight": RNG.uniform(0.0, 1.0, x.shape)}
    loss, grads = function(x, t, *numbers, **options)
    expected_loss, expected = function(x.astype("f8"), t, *arrays, **options)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    for mine, theirs in zip(grads[1:], expected[1:], strict=True):
        assert type(mine) is float and mine == pytest.approx(theirs.sum(), rel=1e-7)
    assert function(x, t, *numbers, **options, num_threads=5)[1][1:] == grads[1:]
    nothing = (None,) * len(numbers)
    again = function(x, t, *numbers, **options, out=(x, *nothing))[1]
    assert again[0] is x and bits(again) == bits(grads)
    out = (None, np.empty_like(t), *nothing[1:])
    refused(partial(function, t, t, *numbers, return_grad=True, out=out), ValueError, "out")
    refused(partial(function, t, t, *(-one for one in numbers)), ValueError, "dispersion|scale")


def test_numbers_of_nothing() -> None:
    loss, grads = fastloss.student_t_nll_loss(np.zeros(0), np.zeros(0), 1.0, 4.0, return_grad=True)
    assert math.isnan(loss) and grads.input.shape == (0,) and grads[1:] == (0.0, 0.0)


def test_learned_numbers_of_torch() -> None:
    """A tensor without axes gets the gradient of torch's distribution."""
    torch = pytest.importorskip("torch")
    import fastloss.torch as ft

    x, a = torch.randn(50, requires_grad=True), torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    t = torch.poisson(torch.full((50,), 3.0))
    theirs = -torch.distributions.NegativeBinomial(1.0 / a, logits=x + a.log()).log_prob(t).mean()
    ours = ft.negative_binomial_nll_loss(x, t, a, full=True)
    torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-6, atol=0.0)
    pairs = (torch.autograd.grad(one, (x, a)) for one in (ours, theirs))
    for mine, exact in zip(*pairs, strict=True):
        torch.testing.assert_close(mine, exact, rtol=1e-5, atol=1e-7)


# The score of quantiles


def crps_of_normal(target: Array) -> Array:
    """In closed form, of the standard normal distribution."""
    spread = target * (2.0 * stats.norm.cdf(target) - 1.0) + 2.0 * stats.norm.pdf(target)
    return np.asarray(spread - 1.0 / math.sqrt(math.pi))


@on_every_isa
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_targets_and_quantiles_of_rows_of_any_length(dtype: Any) -> None:
    """They are repeated for each prediction: more predictions change no bit of the others."""
    rng = np.random.default_rng(6)
    for count, rows in itertools.product(range(1, 18), (1, 2, 15, 300)):
        x, t = (rng.standard_normal(shape).astype(dtype) for shape in ((rows, count + 16), rows))
        quantile = rng.uniform(0.01, 0.99, count + 16)
        run = partial(fastloss.quantile_loss, target=t, reduction="none", return_grad=True)
        few, more = run(x[:, :count].copy(), quantile=quantile[:count]), run(x, quantile=quantile)
        assert bits(*few) == bits(*(array[:, :count] for array in more)), (count, rows)


def test_crps_of_many_quantiles_is_that_of_the_distribution() -> None:
    target = np.linspace(-3.0, 3.0, 41)
    exact, errors = crps_of_normal(target), []
    for count in (49, 99, 199):
        quantile = np.arange(1, count + 1) / (count + 1)
        x = np.broadcast_to(stats.norm.ppf(quantile), (41, count))
        found = fastloss.crps_loss(x, target, quantile=quantile, reduction="none")
        errors.append(np.abs(found - exact).mean())
    assert errors[2] < 4e-4 and errors[0] > 3.0 * errors[1] > 9.0 * errors[2]


def test_crps_of_equal_weights_is_twice_the_mean_of_the_quantile_loss() -> None:
    x, target, quantile = RNG.standard_normal((30, 4)), RNG.standard_normal(30), [0.9, 0.2, 0.5, 0.4]
    given: Any = {"quantile": quantile, "quantile_weight": np.full(4, 0.25), "return_grad": True}
    loss, grad = fastloss.crps_loss(x, target, **given)
    other, slope = fastloss.quantile_loss(x, target, quantile=quantile, grad_output=2.0, return_grad=True)
    assert loss == pytest.approx(2.0 * other, rel=1e-14)
    np.testing.assert_allclose(grad, slope, rtol=1e-14)


def test_crps_without_spread_is_the_absolute_error() -> None:
    x, target = np.repeat(RNG.standard_normal((30, 1)), 999, axis=1), RNG.standard_normal(30)
    found = fastloss.crps_loss(x, target, quantile=np.arange(1, 1000) / 1000, reduction="none")
    np.testing.assert_allclose(found, np.abs(x[:, 0] - target), rtol=2e-3)


def test_quantiles_of_a_score_are_in_order() -> None:
    x, equal = np.zeros((2, 3)), np.full(3, 1 / 3)
    quantile = [0.1, 0.9, 0.5]
    assert "quantile[2]" in refused(lambda: fastloss.crps_loss(x, 0.0, quantile), ValueError, "quantile")
    assert fastloss.crps_loss(x, 0.0, quantile, quantile_weight=equal) == 0.0


def test_rows_without_weight_have_no_score() -> None:
    x = np.array([[np.inf, np.inf], [1.0, 2.0]])
    loss, grad = fastloss.crps_loss(x, 0.0, quantile=[0.2, 0.7], sample_weight=[0.0, 1.0], return_grad=True)
    assert loss == fastloss.crps_loss(x[1:], 0.0, quantile=[0.2, 0.7])
    assert not grad[0].any() and grad[1].all()
    nothing = fastloss.crps_loss(x, 0.0, quantile=[0.2, 0.7], sample_weight=0.0, return_grad=True)
    assert math.isnan(nothing[0]) and not nothing[1].any()
