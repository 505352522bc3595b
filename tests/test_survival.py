"""Of the losses of survival times alone: the order, risk sets, ties, strata, and XGBoost's own objectives."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import test_contract as contract
import test_contract_errors as errors
import test_contract_memory as memory
import test_counts as counts
from helpers import (
    NAN,
    Array,
    assert_within,
    bits,
    on_every_isa,
    on_one_isa,
    over_dtypes,
    refused,
    unaligned,
)
from registry import Call, call, upstreams, with_all
from rows.survival import AFT, COX

import fastloss
from fastloss import _kernels, reference

BOTH = pytest.mark.parametrize("module", [fastloss, reference], ids=["fastloss", "reference"])


def cox(*arguments: Any, module: Any = fastloss, **options: Any) -> Any:
    """Loss, gradient and second derivative of a sum."""
    given = {"reduction": "sum", "return_grad": True, "return_hessian": True, **options}
    return module.cox_ph_loss(*arguments, **given)


def cases() -> list[Call]:
    """Reductions, options, weights and strata, with every kind of upstream gradient."""
    found = []
    for reduction in COX.reductions:
        for number, company in ((n, c) for n in range(len(COX.sets)) for c in COX.companies()):
            kind = upstreams(COX, reduction)[-1]
            found.append(call(COX, (41,), "float64", reduction, number, company, kind))
    return found


# The order of times

SPREADS = {
    "even": lambda rng, n: rng.random(n),
    "few": lambda rng, n: rng.integers(0, 7, n).astype(float),
    "one": lambda rng, n: np.full(n, 3.0),
    "heavy": lambda rng, n: np.exp(40.0 * rng.standard_normal(n)),
    "infinite": lambda rng, n: np.where(rng.random(n) < 0.3, np.inf, rng.random(n)),
    "tiny": lambda rng, n: rng.integers(0, 50, n) * 5e-324,
    "wide": lambda rng, n: rng.choice([0.0, 5e-324, 1.0, 1.0 + 2.0**-52, 1.7e308], n),
    "falling": lambda rng, n: np.arange(n)[::-1] / 7.0,
    "clusters": lambda rng, n: rng.integers(0, 3, n) * 1e6 + rng.random(n) * 1e-6,
}


@on_every_isa
@pytest.mark.parametrize("spread", SPREADS)
def test_order(spread: str) -> None:
    """As a stable sort: equal times keep the order of the rows."""
    rng = np.random.default_rng(1)
    for rows in (0, 1, 2, 17, 300, 5000, 70_000, 140_000):
        time = SPREADS[spread](rng, rows)
        expected = np.argsort(time, kind="stable")
        for threads in (1, 3):
            order, found = np.empty(rows, np.uint32), np.empty(rows)
            assert _kernels.order_by_time(time, np.empty(4 * rows), found, order, threads) == -1
            assert np.array_equal(order, expected) and bits(found) == bits(time[expected]), rows


@over_dtypes
def test_as_the_reference(dtype: str) -> None:
    contract.test_every_option_with_every_other(row=COX, dtype=dtype)
    for shape in COX.sizes:
        call(COX, shape, dtype).check_on_every_isa()
        c = with_all(COX, shape, dtype)
        c.check_on_every_isa()
        assert not c.value()[~c["event"]].any()


# What the registry's tests ask of all losses.
PROMISES = (
    contract.test_mean_divides,
    contract.test_sums_are_of_the_unreduced_losses,
    errors.test_gradient_arguments_without_gradient,
    memory.test_strides,
    memory.test_buffers,
    memory.test_accumulate,
)


@on_one_isa
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_promises_of_all_losses(promise: Any) -> None:
    promise(row=COX)


@BOTH
def test_by_hand(module: Any) -> None:
    # Hazards 1, 2, 3, 4; both events of time 2 are tied, the last row is censored.
    x, time, event = np.log([1.0, 2.0, 3.0, 4.0]), [1, 2, 2, 5], [1, 1, 1, 0]
    loss, grad, hessian = cox(x, time, event, module=module)
    assert loss == pytest.approx(math.log(10 / 1) + math.log(9 / 2) + math.log(9 / 3), rel=1e-14)
    sets = np.array([[0.1, 0.2, 0.3, 0.4], [0, 2 / 9, 3 / 9, 4 / 9], [0, 2 / 9, 3 / 9, 4 / 9]])
    np.testing.assert_allclose(grad, sets.sum(0) - [1, 1, 1, 0], rtol=1e-13)
    np.testing.assert_allclose(hessian, (sets * (1 - sets)).sum(0), rtol=1e-13)
    # Efron: the second of the tied events has half of both in its risk set.
    loss, grad, hessian = cox(x, time, event, ties="efron", module=module)
    assert loss == pytest.approx(math.log(10) + math.log(9) + math.log(6.5) - math.log(6), rel=1e-14)
    sets[2] = np.array([0, 1, 1.5, 4]) / 6.5
    np.testing.assert_allclose(grad, sets.sum(0) - [1, 1, 1, 0], rtol=1e-13)
    np.testing.assert_allclose(hessian, (sets * (1 - sets)).sum(0), rtol=1e-13)
    # Weights, as R's coxph: each tied event has the mean of the weights of both.
    w = np.array([1.0, 2.0, 4.0, 0.5])
    loss, _, _ = cox(x, time, event, ties="efron", weight=w, module=module)
    total, events = 2 * 2 + 4 * 3 + 0.5 * 4, 2 * 2 + 4 * 3
    tied = 3 * (math.log(total) + math.log(total - events / 2)) - 2 * math.log(2) - 4 * math.log(3)
    assert loss == pytest.approx(math.log(total + 1) + tied, rel=1e-14)
    loss, _, _ = cox(x, time, event, weight=w, module=module)
    tied = 6 * math.log(total) - 2 * math.log(2) - 4 * math.log(3)
    assert loss == pytest.approx(math.log(total + 1) + tied, rel=1e-14)


def test_central_differences() -> None:
    """The times and events are those of one row; hazards stay within a few orders of magnitude."""
    for c in cases():
        near = c.with_(log_hazard=np.random.default_rng(2).standard_normal(41))
        assert contract.check_differences(near) == 41


# What counts


@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_order_of_rows_and_shift_of_hazards(ties: str) -> None:
    c = call(COX, (40,), "float64", "none", 0, COX.company())
    given = {"weight": c["weight"], "strata": c["strata"], "ties": ties, "reduction": "none"}
    x, time, event = c.arguments.values()
    expected = cox(x, time, event, **given)
    turn = np.random.default_rng(3).permutation(len(x))
    moved = {**given, "weight": c["weight"][turn], "strata": c["strata"][turn]}
    for one, other in zip(cox(x[turn], time[turn], event[turn], **moved), expected, strict=True):
        np.testing.assert_allclose(one, other[turn], rtol=1e-12, atol=1e-14)
    for one, other in zip(cox(x + 2.0**14, 3.0 * time**2 + 1.0, event, **given), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_strata_and_rows_of_weight_0(ties: str) -> None:
    c = call(COX, (40,), "float64", "none", 0, COX.company())
    x, time, event = c.arguments.values()
    w, strata = c["weight"], c["strata"]
    expected = cox(x, time, event, weight=w, strata=strata, ties=ties, reduction="none")
    for integers in (strata.astype(np.int8), strata * 2**40, (strata + 5).astype(np.uint64) * 2**61):
        found = cox(x, time, event, weight=w, strata=integers, ties=ties, reduction="none")
        assert bits(found) == bits(expected)
    for stratum in np.unique(strata):
        part = (strata == stratum) & (w > 0.0)
        found = cox(x[part], time[part], event[part], weight=w[part], ties=ties, reduction="none")
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other[part], rtol=1e-13, atol=1e-15)
    assert not any(a[w == 0.0].any() for a in expected)


def test_no_event() -> None:
    for rows in (0, 1, 5):
        x, out = np.ones(rows, np.float32), np.full(rows, 3.0, np.float32)
        for event, weight in ((np.zeros(rows, bool), None), (np.ones(rows, bool), np.zeros(rows))):
            given = {"weight": weight, "return_grad": True}
            loss, grad = fastloss.cox_ph_loss(x, np.arange(rows), event, **given)
            assert math.isnan(loss) and not grad.any()
            loss, _, hessian = cox(x, np.arange(rows), event, weight=weight)
            assert loss == 0.0 and not hessian.any()
            fastloss.cox_ph_loss(x, np.arange(rows), event, **given, out=out, accumulate=True)
            assert (out == 3.0).all()


@on_every_isa
def test_any_range_of_hazards() -> None:
    """Risk sets of hazards far below those of others keep their digits, in whatever order they come."""
    time, event, ones = np.arange(6.0), np.ones(6, bool), np.ones(6)
    for size in (10.0, 300.0, 800.0, 1e5, 1e300):
        downwards = np.array([size, 0.0, 1.0, -size, 1.0 - size, -size])
        for x in (downwards, size * np.array([-1, 0, 1, 0, -1, 1.0])):
            for weight in (ones, np.array([1.0, 1e-100, 1e100, 2.0, 1e-60, 3.0])):
                found, exact = (
                    cox(x, time, event, weight=weight, reduction="none", module=module)
                    for module in (fastloss, reference)
                )
                for one, other in zip(found, exact, strict=True):
                    assert_within(one, other, 1e-11 * np.maximum(np.abs(other), weight), f"{size}")


@on_every_isa
def test_segments_of_many_rows() -> None:
    """A single stratum is scanned all at once, else in segments, which a group of equal times may span."""
    rng, rows = np.random.default_rng(3), 150_000
    x, event, weight = rng.standard_normal(rows), rng.random(rows) < 0.3, rng.integers(0, 3, rows) / 2
    for time in (
        rng.random(rows),
        rng.integers(0, 40_000, rows),
        np.minimum(rng.integers(0, rows, rows), rows // 3),
    ):
        for ties in ("breslow", "efron"):
            found, exact = (
                cox(x, time, event, weight=weight, ties=ties, reduction="none", strata=strata)
                for strata in (None, np.zeros(rows, int))
            )
            for one, other in zip(found, exact, strict=True):
                assert_within(one, other, 1e-12 * np.maximum(np.abs(other), weight), ties)


def test_values_that_are_none() -> None:
    """A NaN is in the risk sets of the events up to its time alone; a hazard of 0 in none."""
    x, time, event = np.array([0.5, 1.0, NAN, 0.0]), np.array([3.0, 1.0, 2.0, 4.0]), np.ones(4, bool)
    losses, grad, _ = cox(x, time, event, reduction="none")
    assert np.isnan(losses).tolist() == [False, True, True, False] and np.isnan(grad).all()
    x[2] = -math.inf
    losses, grad, _ = cox(x, time, event, reduction="none")
    assert losses[2] == math.inf and np.isfinite(np.delete(losses, 2)).all()
    assert grad[2] == -1.0 and np.isfinite(grad).all()


# Memory, types, threads


def test_types() -> None:
    """Of times and events every type with the same numbers; a large time of 64 bits is not rounded."""
    c = call(COX, (41,), "float64")
    x, time, event = c["log_hazard"], np.floor(c["time"]), c["event"]
    expected = cox(x, time, event)
    for kind in ("i1", "u2", ">i4", "i8", "u8", "f2", "f4", ">f8"):
        for events in (event, event.astype(kind), event.tolist()):
            assert bits(cox(x, unaligned(time.astype(kind)), events)) == bits(expected)
    assert bits(cox(x.tolist(), time.tolist(), event)) == bits(expected)
    for base in (np.int64(2**62), np.uint64(2**63)):
        large = base + time.astype(type(base))
        assert np.unique(large.astype(float)).size == 1
        assert bits(cox(x, large, event)) == bits(expected)


@on_one_isa
@over_dtypes
def test_threads_and_counts(dtype: str) -> None:
    contract.test_any_number_of_threads_of_every_type(row=COX, dtype=dtype)
    counts.test_sum_and_count(row=COX, product=True)


# Errors


def small() -> Call:
    return call(COX, (6,), "float32")


@pytest.mark.parametrize("bad", COX.bad, ids=lambda bad: f"{bad.argument}")
def test_bad_arguments(bad: Any) -> None:
    errors.refused_and_unwritten(small(), bad.error, bad.argument, **bad.given)


def test_positions_are_named() -> None:
    rows = 150_000
    x, time, event = np.zeros(rows, np.float32), np.ones(rows), np.ones(rows, bool)
    time[140_000] = NAN
    time[100_001:] *= -1.0
    run = partial(fastloss.cox_ph_loss, x, time, event, return_grad=True, out=x)
    message = refused(run, ValueError, "time")
    assert "time[100001] is -1.0" in message
    weight: Array = np.ones(6)
    weight[3] = -0.5
    assert "weight[3] is -0.5" in refused(partial(small().run, weight=weight), ValueError, "weight")


# Intervals of times

DISTRIBUTIONS = ("normal", "logistic", "extreme")
over_distributions = pytest.mark.parametrize("distribution", DISTRIBUTIONS)


@np.errstate(divide="ignore")
@BOTH
def test_intervals_by_scipy(module: Any) -> None:
    stats = pytest.importorskip("scipy.stats")
    theirs = {"normal": stats.norm, "logistic": stats.logistic, "extreme": stats.gumbel_l}
    x = np.linspace(-6.0, 6.0, 41)
    for name, law in theirs.items():
        for scale in (0.8, 1.0, 3.0):
            for lower, upper in ((2.0, 2.0), (2.0, math.inf), (0.0, 2.0), (1.5, 4.0), (0.0, math.inf)):
                z_lower, z_upper = (
                    (np.log(t) - x) / scale if t else np.full(41, -math.inf) for t in (lower, upper)
                )
                near = np.minimum(np.abs(z_lower), np.abs(z_upper)) < 6.0
                if lower == upper:
                    exact = math.log(scale * lower) - law.logpdf(z_lower)
                elif lower == 0.0:
                    exact = -law.logcdf(z_upper)
                elif upper == math.inf:
                    exact = -law.logsf(z_lower)
                else:
                    above, below = law.sf(z_lower) - law.sf(z_upper), law.cdf(z_upper) - law.cdf(z_lower)
                    exact = -np.log(np.where(z_lower > 0.0, above, below))
                found = module.aft_loss(x, lower, upper, scale=scale, distribution=name, reduction="none")
                exact = np.minimum(exact, -math.log(1e-12))[near]
                assert_within(found[near], exact, 1e-11 * np.abs(exact) + 1e-15, f"{name} {scale}")


@on_every_isa
@over_distributions
def test_narrow_intervals_keep_their_digits(distribution: str) -> None:
    """Their likelihood is that of the exact time, times their width."""
    x = np.linspace(-2.0, 4.0, 13)
    for width in (2.0**-40, 2.0**-20):
        lower, middle = np.full(13, 2.0), 2.0 + 0.5 * width
        loss = fastloss.aft_loss(x, lower, lower + width, distribution=distribution, reduction="none")
        at = fastloss.aft_loss(x, middle, middle, distribution=distribution, reduction="none")
        np.testing.assert_allclose(loss, np.minimum(at - math.log(width), -math.log(1e-12)), rtol=1e-11)


@on_every_isa
@over_distributions
def test_far_away_derivatives_are_limits(distribution: str) -> None:
    x = np.array([-1e30, -1e4, -800.0, 800.0, 1e4, 1e30])
    lower, upper = (np.array(t) for t in ([1.0, 1.0, 0.0, 1.0], [1.0, math.inf, 1.0, 3.0]))
    for scale in (0.5, 1.0, 20.0):
        for low, high in zip(lower, upper, strict=True):
            given: Any = {"scale": scale, "distribution": distribution, "reduction": "none"}
            given |= {"return_grad": True, "return_hessian": True}
            both = (module.aft_loss(x, low, high, **given) for module in (fastloss, reference))
            for one, exact in zip(*both, strict=True):
                assert np.isfinite(one).all()
                assert_within(one, exact, 1e-12 * np.abs(exact) + 1e-100, f"{scale} {low} {high}")


@over_distributions
def test_intervals_as_xgboost(distribution: str) -> None:
    """The value is its metric; gradient and second derivative are those that make its first leaf."""
    xgboost = pytest.importorskip("xgboost")
    x, lower, upper = call(AFT, (60,), "float32").arguments.values()
    for scale in (0.7, 1.0, 2.0):
        data = xgboost.DMatrix(
            np.zeros((60, 1)), label_lower_bound=lower, label_upper_bound=upper, base_margin=x
        )
        params = {
            "objective": "survival:aft", "aft_loss_distribution": distribution, "lambda": 0.5, "eta": 1.0,
            "aft_loss_distribution_scale": scale, "eval_metric": "aft-nloglik", "base_score": 0.5,
        }  # fmt: skip
        booster = xgboost.Booster(params, [data])
        given: Any = {"scale": scale, "distribution": distribution}
        loss, gradient, hessian = fastloss.aft_loss(
            x, lower, upper, **given, return_grad=True, return_hessian=True, grad_output=60.0
        )
        assert loss == pytest.approx(float(booster.eval(data).split(":")[-1]), rel=1e-6)
        booster.update(data, 0)
        leaf = booster.predict(data, output_margin=True) - x
        expected = -gradient.sum(dtype=np.float64) / (hessian.sum(dtype=np.float64) + 0.5)
        np.testing.assert_allclose(leaf, expected, rtol=2e-5, atol=2e-6)
