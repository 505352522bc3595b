"""Of losses of policies alone: by hand, what each type divides by, ratios that overflow, whole sequences."""

import itertools
import math
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import EITHER, INF, NAN, NONE, Shape, bits, over_dtypes, over_modules, refused, sigmoid
from registry import Call, Row, call, of_values, over, with_all
from rows.preferences import (
    BY_TOKEN,
    CLIPPED,
    ELEMENTS,
    LENGTH,
    OF_SEQUENCES,
    OF_WHOLE_SEQUENCES,
    POLICIES,
    PPO,
    TYPES,
    grpo,
)

import fastloss

OF_GRPO = [row for row in POLICIES if row.name == "grpo_loss"]


def with_ref(c: Call, beta: float = 0.5) -> Call:
    """With a penalty: another model's log-probabilities, NaN where the mask is 0."""
    rng = np.random.default_rng(8)
    x = np.where(c.counts, np.asarray(c["logps"], np.float64), 0.0)
    ref = np.where(c.counts, x + rng.normal(scale=0.5, size=c.shape), NAN)
    return c.with_(ref_logps=ref.astype(c["logps"].dtype), beta=beta)


# Without the reference


@over_modules
def test_value_by_hand(module: Any) -> None:
    v = [1.0, 1.0, 1.0, 1.0, 0.0]
    old = [0.5, 0.5, 1.125, 2.0, 0.0]
    returns = [2.0, 0.5, 2.0, 3.0, 0.0]
    # Held at 0.75, 0.75, itself, 1.75, itself.
    value = [0.5 * 1.25**2, 0.125, 0.5, 2.0, 0.0]
    slope = [0.0, 0.5, -1.0, -2.0, 0.0]
    found, grad = module.value_loss(v, old, returns, clip=0.25, **NONE)
    assert found.tolist() == value and grad.tolist() == slope
    found, grad = module.value_loss(v, old, returns, clip=None, **NONE)
    assert found.tolist() == [0.5, 0.125, 0.5, 2.0, 0.0] and grad.tolist() == [-1.0, 0.5, -1.0, -2.0, 0.0]
    for nothing in (None, old):
        assert module.value_loss(v, nothing, returns, clip=None) == 3.125 / 5
    mean = module.value_loss(v, old, returns, clip=0.25, mask=[1, 0, 0, 1, 1])
    assert mean == pytest.approx((0.5 * 1.25**2 + 2.0) / 3, rel=1e-14)


@over_modules
def test_a_value_inside_of_the_clip_is_itself(module: Any) -> None:
    """old + (v - old) would be another number, and its square might be the larger one."""
    rng = np.random.default_rng(0)
    old = rng.uniform(0.3, 3.0, 500)
    v = old * rng.uniform(0.0, 0.7, 500)
    assert (old + (v - old) != v).sum() > 20
    for sign in (1.0, -1.0):
        returns = v + sign * rng.uniform(0.1, 2.0, 500)
        value, grad = module.value_loss(v, old, returns, clip=4.0, reduction="none", return_grad=True)
        assert np.array_equal(value, 0.5 * (v - returns) ** 2)
        assert np.array_equal(grad, v - returns)


def exact_k3(value: float) -> float:
    """exp(-l) - 1 + l, to the last digit: its series in fractions."""
    u = -Fraction(value)
    term, total = u, Fraction(0)
    for k in range(2, 60):
        term = term * u / k
        total += term
    return float(total)


RATIOS = np.concatenate(
    [10.0 ** np.arange(-12.0, 0.25, 0.25), [0.45, 0.5, 0.55, 0.69, 0.7, 0.9999, 1.5, 2.0]]
)
RATIOS = np.concatenate([RATIOS, -RATIOS, 2.0 ** np.arange(-60.0, 1.0, 4.0)])


@over_modules
def test_k3_keeps_its_digits(module: Any) -> None:
    """In fractions, without a logarithm or an exponential."""
    exact = np.array([exact_k3(v) for v in RATIOS])
    slope = [float(-sum((-Fraction(v)) ** k / math.factorial(k) for k in range(1, 60))) for v in RATIOS]
    zero = np.zeros(len(RATIOS))
    value, grad = module.kl_penalty(RATIOS, zero, reduction="none", return_grad=True)
    assert (np.abs(value - exact) <= 1e-15 * exact).all(), np.max(np.abs(value / exact - 1.0))
    np.testing.assert_allclose(grad, slope, rtol=5e-16)
    x, options = RATIOS[np.newaxis], {"ref_logps": np.zeros((1, len(RATIOS))), "beta": 2.0}
    value, grad = module.grpo_loss(x, x, [0.0], **options, **NONE)
    assert (np.abs(value[0] - 2.0 * exact) <= 2e-15 * exact).all()
    np.testing.assert_allclose(grad[0], np.multiply(2.0, slope), rtol=5e-16)


@over_modules
def test_k3_is_never_negative(module: Any) -> None:
    x = -np.random.default_rng(0).exponential(size=20_000)
    for noise in (0.0, 1e-16, 1e-14, 1e-9, 1e-5, 1e-2, 1.0):
        ref = x + noise * np.random.default_rng(1).standard_normal(len(x))
        value = module.kl_penalty(x, ref, reduction="none")
        assert (value >= 0.0).all()
        assert ((value == 0.0) == (x == ref)).all()
    assert module.kl_penalty(x, x) == 0.0


@over_modules
def test_k3_is_held(module: Any) -> None:
    x = np.array([-1e4, -81.0, -79.0, 79.0, 1e4, 0.0])
    top = math.exp(80.0) - 81.0
    value, grad = module.kl_penalty(x, np.zeros(6), **NONE)
    np.testing.assert_allclose(value, [top, top, math.exp(79.0) - 80.0, 78.0, 9999.0, 0.0], rtol=1e-13)
    np.testing.assert_allclose(grad, [0.0, 0.0, 1.0 - math.exp(79.0), 1.0, 1.0, 0.0], rtol=1e-13)
    value, grad = module.grpo_loss([x], [x], [0.0], ref_logps=np.zeros((1, 6)), beta=1.0, **NONE)
    np.testing.assert_allclose(grad[0], [0.0, 0.0, 1.0 - math.exp(79.0), 1.0, 1.0, 0.0], rtol=1e-13)
    assert value[0, 0] == pytest.approx(top, rel=1e-13)
    # float16 holds -1e4, but not exp(80).
    value, grad = fastloss.kl_penalty(x.astype("f2"), np.zeros(6, "f2"), **NONE)
    assert value.dtype == np.float32 and value[0] == pytest.approx(top, rel=1e-6) and grad[0] == 0.0


# grpo_loss


@over_modules
def test_ends_of_ratios(module: Any) -> None:
    """Where each branch is taken, and its gradient, of a token with ratio r."""
    table: list[tuple[float, float, dict[str, Any], float, float]] = [
        # r, A, options, loss, gradient
        (1.5, 1.0, {}, -1.2, 0.0),
        (1.5, -1.0, {}, 1.5, 1.5),
        (0.5, 1.0, {}, -0.5, -0.5),
        (0.5, -1.0, {}, 0.8, 0.0),
        (1.1, -2.0, {}, 2.2, 2.2),
        (1.1, 2.0, {}, -2.2, -2.2),
        (1.35, 1.0, {"epsilon_high": 0.4}, -1.35, -1.35),
        (1.5, 1.0, {"epsilon_high": 0.4}, -1.4, 0.0),
        (0.7, -1.0, {"epsilon_high": 0.4}, 0.8, 0.0),
        # Held at delta, above and below the end of the clip.
        (3.0, -1.0, {"delta": 2.0}, 2.0, 0.0),
        (1.5, -1.0, {"delta": 2.0}, 1.5, 1.5),
        (3.0, 1.0, {"delta": 2.0}, -1.2, 0.0),
        (1.15, -1.0, {"delta": 1.1}, 1.15, 1.15),  # the other branch is not held, and is the smaller one
        (1.15, 1.0, {"delta": 1.1}, -1.1, 0.0),
        (1.5, -1.0, {"delta": 1.1}, 1.2, 0.0),
        (1.5, 0.0, {"delta": 1.1}, 0.0, 0.0),
    ]
    for r, a, options, value, slope in table:
        found, grad = module.grpo_loss([[math.log(r) - 2.0]], [[-2.0]], [a], **NONE, **options)
        assert found[0, 0] == pytest.approx(value, rel=1e-13), (r, a, options)
        assert grad[0, 0] == pytest.approx(slope, rel=1e-13), (r, a, options)
    for r, a, options, weight in (
        (0.5, 2.0, {"epsilon_high": 5.0}, 0.5),
        (9.0, 2.0, {"epsilon_high": 5.0}, 5.0),
        (9.0, -2.0, {"epsilon_high": 5.0}, 5.0),
        (9.0, -2.0, {"epsilon_low": 0.3}, 0.3),
        (9.0, 1.0, {}, 0.2),
    ):
        given = {"loss_type": "cispo", **NONE, **options}
        found, grad = module.grpo_loss([[math.log(r) - 2.5]], [[-2.5]], [a], **given)
        assert found[0, 0] == pytest.approx(-weight * a * (math.log(r) - 2.5), rel=1e-13)
        assert grad[0, 0] == pytest.approx(-weight * a, rel=1e-13)


@over_modules
def test_a_sequence_has_one_ratio(module: Any) -> None:
    """The gradient of each token goes through the mean, from all tokens."""
    x, old = np.array([[-1.0, -2.0, NAN, -1.5], [NAN, NAN, NAN, NAN]]), np.full((2, 4), -1.4)
    mask, a = [[1, 1, 0, 1], [0, 0, 0, 0]], np.array([[1.0, -2.0, NAN, 0.5], [NAN, NAN, NAN, NAN]])
    given = {"mask": mask, "importance_sampling_level": "sequence", **NONE}
    r = math.exp((0.4 - 0.6 - 0.1) / 3)
    upstream = np.array([[1.0, 2.0, NAN, -4.0], [NAN, NAN, NAN, NAN]])
    value, grad = module.grpo_loss(x, old, a, grad_output=upstream, **given)
    np.testing.assert_allclose(value, [[-r, 2 * r, 0.0, -r / 2], [0.0] * 4], rtol=1e-13)
    slope = -r * (1.0 * 1.0 - 2.0 * 2.0 - 4.0 * 0.5) / 3
    np.testing.assert_allclose(grad, [[slope, slope, 0.0, slope], [0.0] * 4], rtol=1e-13)
    mean, grad = module.grpo_loss(x, old, a, **{**given, "reduction": "mean"})
    assert mean == pytest.approx((-r + 2 * r - r / 2) / 3 / 2, rel=1e-13)
    slope = -r * (1.0 - 2.0 + 0.5) / 3 / 3 / 2
    np.testing.assert_allclose(grad, [[slope, slope, 0.0, slope], [0.0] * 4], rtol=1e-13)
    # Each token's own penalty stays its own, and so does cispo's gradient.
    ref = np.where(np.isnan(x), NAN, -1.0)
    _, grad = module.grpo_loss(x, old, np.zeros(2), ref_logps=ref, beta=2.0, **given)
    np.testing.assert_allclose(grad[0], [0.0, 2 * (1 - math.e), 0.0, 2 * (1 - math.exp(0.5))], rtol=1e-13)
    _, grad = module.grpo_loss(x, old, a, loss_type="cispo", epsilon_high=5.0, **given)
    np.testing.assert_allclose(grad[0], [-r, 2 * r, 0.0, -r / 2], rtol=1e-13)


@over_modules
def test_what_the_mean_divides_by(module: Any) -> None:
    """Ratios of 1 and advantages of -1: each token's loss is 1."""
    x, mask = np.full((4, 6), -2.0), np.zeros((4, 6), int)
    mask[0, :1], mask[1, 2:5], mask[2] = 1, 1, 1
    ones = partial(module.grpo_loss, x, x, -np.ones(4), mask=mask)
    table: list[tuple[dict[str, Any], float]] = [
        ({"loss_type": "grpo"}, 3 / 4),
        ({"loss_type": "bnpo"}, 1.0),
        ({"loss_type": "dr_grpo", "max_completion_length": 8}, 10 / 32),
        ({"loss_type": "dapo"}, 1.0),
        ({"loss_type": "dapo", "num_items": 40}, 0.25),
        ({"loss_type": "luspo"}, 10 / 4),
        ({"loss_type": "cispo", "epsilon_high": 1}, -2.0),
        ({"loss_type": "cispo", "epsilon_high": 1, "num_items": 5}, -4.0),
        ({"loss_type": "sapo"}, 3 / 4 * 2 / 1.05),
    ]
    for options, mean in table:
        assert ones(**options) == pytest.approx(mean, rel=1e-14), options
        total = {"cispo": -20.0, "sapo": 20 / 1.05}.get(options["loss_type"], 10.0)
        assert ones(reduction="sum", **options) == pytest.approx(total, rel=1e-14), options
        _, grad = ones(return_grad=True, grad_output=3.0, **options)
        assert grad[mask == 0].tolist() == [0.0] * 14
        _, of_sum = ones(return_grad=True, reduction="sum", **options)
        # The mean of tokens with weights that are those of its gradient.
        weights = {"grpo": mask / np.maximum(mask.sum(axis=1, keepdims=True), 1) / 4}
        weights["sapo"] = weights["grpo"]
        scale = weights.get(options["loss_type"], mean / total * mask)
        np.testing.assert_allclose(grad, 3.0 * of_sum * scale, rtol=1e-13)
    for sign, t in ((1.0, 1.0), (-1.0, 1.05)):
        value = module.grpo_loss(x, x, np.full(4, sign), loss_type="sapo")
        assert value == pytest.approx(-sign * 2 / t, rel=1e-14)
    # An advantage of 0 has the temperature of a negative one, and no loss.
    assert module.grpo_loss(x, x - 1.0, np.zeros(4), loss_type="sapo") == 0.0


def test_advantages_of_sequences_are_those_of_their_tokens() -> None:
    for row in OF_SEQUENCES:
        c = with_ref(call(row, (5, 8), "float32", "mean", 0, ("bool mask",), "scalar"))
        spread = np.repeat(c["advantages"][:, np.newaxis], 8, axis=1)
        assert c.bits(advantages=spread) == c.bits()
        assert c.bits(advantages=np.where(c.counts, spread, np.float32(NAN))) == c.bits()
        square = call(row, (4, 4), "float64", "none")
        spread = np.repeat(square["advantages"][:, np.newaxis], 4, axis=1)
        assert square.bits(advantages=spread) == square.bits()


def test_a_reference_model_without_weight_changes_nothing() -> None:
    for row in OF_SEQUENCES:
        c = call(row, (4, 5))
        assert c.bits(ref_logps=np.zeros((4, 5), "f4"), beta=0.0) == c.bits()


def test_cispo_holds_its_ratio_constant() -> None:
    """Its loss is linear in the log-probabilities where the ratio stays what it is."""
    for level in ("token", "sequence"):
        row = grpo("cispo", BY_TOKEN, beta=0.0, epsilon_high=1.0, importance_sampling_level=level)
        c = call(row, (3, 4), "float64", "none", 0, ("bool mask",), "array")
        _, (grad,) = c.run()
        step, upstream = 0.25, np.where(c.counts, c["grad_output"], 0.0)
        for index in zip(*np.nonzero(c.counts), strict=True):
            ends = []
            for sign in (-step, step):
                x, old = np.array(c["logps"]), np.array(c["old_logps"])
                x[index] += sign
                old[index] += sign
                ends.append(np.sum(np.where(c.counts, c.value(logps=x, old_logps=old) * upstream, 0.0)))
            assert grad[index] == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=1e-9, abs=1e-12)


# Ratios that overflow, or vanish

HUGE = (800.0, 1e4)


@over_modules
@over_dtypes
def test_ppo_beyond(module: Any, dtype: str) -> None:
    for far in HUGE:
        # A > 0: the clipped value. A = 0: nothing. A < 0: what grows without end.
        p = of_values(PPO, [0.0, 0.0, 0.0], [-far] * 3, [2.0, 0.0, -2.0], dtype=dtype)
        value, (grad,) = p.run(module=module)
        assert value.tolist() == pytest.approx([-2.4, 0.0, INF], rel=1e-6)
        assert grad.astype(np.float64).tolist() == [0.0, 0.0, INF]
        p = of_values(PPO, [-far] * 3, [0.0, 0.0, 0.0], [2.0, 0.0, -2.0], dtype=dtype)
        value, (grad,) = p.run(module=module)
        assert value.tolist() == pytest.approx([0.0, 0.0, 1.6], rel=1e-6)
        assert grad.astype(np.float64).tolist() == [0.0, 0.0, 0.0]
        # Each of them alone is a finite mean.
        assert module.ppo_loss([0.0, 0.0], [-far, -far], [2.0, 0.0]) == pytest.approx(-1.2, rel=1e-14)


@over_modules
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("loss_type", TYPES)
def test_grpo_beyond(module: Any, loss_type: str, level: str) -> None:
    base = {"importance_sampling_level": level, "loss_type": loss_type, **NONE, **LENGTH.get(loss_type, {})}
    for far, dtype in itertools.product(HUGE, ("float64", "float32", "float16")):
        up, zero = np.zeros((3, 1), dtype), np.full((3, 1), -far, dtype)
        a = np.array([2.0, 0.0, -2.0], dtype)
        value, grad = module.grpo_loss(up, zero, a, **base)
        down = module.grpo_loss(zero, up, a, **base)
        rough = partial(pytest.approx, rel=1e-3 if dtype == "float16" else 1e-6)
        if loss_type == "cispo":
            assert value.reshape(-1).tolist() == [0.0, 0.0, 0.0]
            assert grad.astype(float).reshape(-1).tolist() == rough([-0.4, 0.0, 0.4])
            value, grad = module.grpo_loss(up - 1, zero - 1, a, epsilon_high=5.0, **base)
            assert value.reshape(-1).tolist() == rough([10.0, 0.0, -10.0])
            assert grad.astype(float).reshape(-1).tolist() == rough([-10.0, 0.0, 10.0])
            assert not down[0].any() and not down[1].astype(float).any()
        elif loss_type == "sapo":
            assert value.reshape(-1).tolist() == rough([-8.0, 0.0, 8.0 / 1.05])
            assert not grad.astype(float).any()
            s = [sigmoid(-1.0), sigmoid(-1.05)]
            assert down[0].reshape(-1).tolist() == rough([-8.0 * s[0], 0.0, 8.0 / 1.05 * s[1]])
            assert not down[1].astype(float).any()
        else:
            assert value.reshape(-1).tolist() == rough([-2.4, 0.0, INF])
            assert grad.astype(float).reshape(-1).tolist() == [0.0, 0.0, INF]
            assert down[0].reshape(-1).tolist() == rough([0.0, 0.0, 1.6])
            assert not down[1].astype(float).any()
            # delta holds what grows without end.
            value, grad = module.grpo_loss(up, zero, a, delta=3.0, **base)
            assert value.reshape(-1).tolist() == rough([-2.4, 0.0, 6.0])
            assert not grad.astype(float).any()
        mean, _ = module.grpo_loss(up[:2], zero[:2], a[:2], **{**base, "reduction": "mean"})
        assert math.isfinite(mean)


@over_modules
def test_sapo_of_large_ratios(module: Any) -> None:
    """Between: sigmoid(-x) is all but 0, and the ratio all but infinite."""
    for ratio in (3.0, 6.0, 6.6, 7.0, 50.0, 300.0, 700.0, 709.0, 710.0):
        value, grad = module.grpo_loss([[0.0]], [[-ratio]], [1.5], loss_type="sapo", **NONE)
        r = math.exp(min(ratio, 50.0))
        tail = math.exp(-(r - 1.0)) if r < 700.0 else 0.0
        assert value[0, 0] == pytest.approx(-6.0 / (1.0 + tail), rel=1e-12)
        exact = -6.0 * tail / (1.0 + tail) ** 2 * r if r < 740.0 else 0.0
        assert grad[0, 0] == pytest.approx(exact, rel=1e-10, abs=1e-290)


@over_dtypes
@over([*ELEMENTS, *OF_SEQUENCES])
def test_log_probabilities_far_below(row: Row, dtype: str) -> None:
    x, y = np.full((2, 3, 4), -1e4)
    x[:, 1], y[:, 2] = -9999.0, -1e4 + 8.0
    third = np.array([1.0, -1.0, 0.5]) if row.name == "grpo_loss" else np.full((3, 4), -1.5)
    c = of_values(row, *(x, y, third)[: len(row.arrays)], dtype=dtype)
    value, (grad,) = c.check()
    assert np.isfinite(value).all() and np.isfinite(grad.astype(np.float64)).all()
    if row.name == "grpo_loss":
        with_ref(c).check()


@over_modules
def test_values_far_apart(module: Any) -> None:
    value, grad = module.value_loss([1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [0.0, 0.0, 1e4], **NONE)
    np.testing.assert_allclose(value, [0.5e8, 0.5e8, 0.5e8], rtol=1e-14)
    assert grad.tolist() == [1e4, -1e4, -1e4]
    value, grad = module.value_loss([1e4], [-1e4], [1e4], **NONE)
    np.testing.assert_allclose(value, [0.5 * (2e4 - 0.2) ** 2], rtol=1e-14)
    assert grad.tolist() == [0.0]


@over_dtypes
@over([*OF_WHOLE_SEQUENCES])
def test_nan_stays_in_its_sequence(row: Row, dtype: str) -> None:
    """All tokens of a sequence have one ratio; that of cispo leaves the losses of the others alone."""
    c = call(row, (3, 4), dtype, "none", grad_output="array")
    value, (grad,) = c.run()
    for name in row.arrays:
        wrong = np.array(c[name])
        wrong.reshape(-1)[1] = NAN
        hit = np.isnan(wrong.astype(np.float64))
        whole = hit if hit.ndim == 1 else hit.any(axis=1)
        found, (moved,) = c.run(**{name: wrong})
        assert np.isnan(found)[whole].any() and not np.isnan(found[~whole]).any(), c.title
        if "cispo" not in row.fixed.values():
            assert np.isnan(found[whole]).all(), c.title
        assert np.isnan(moved[whole].astype(np.float64)).any(), c.title
        assert not np.isnan(moved[~whole].astype(np.float64)).any(), c.title
        assert bits(found[~whole], moved[~whole]) == bits(value[~whole], grad[~whole]), c.title
        for reduction in ("mean", "sum"):
            assert math.isnan(c.value(reduction=reduction, **{name: wrong}))


@over_modules
def test_nan_beside_an_advantage_of_0(module: Any) -> None:
    value, grad = module.ppo_loss([NAN, -1.0], [-1.0, NAN], [0.0, 0.0], **NONE)
    assert np.isnan(value).all() and np.isnan(grad).all()
    for name in TYPES:
        options = {"loss_type": name, **NONE, **LENGTH.get(name, {})}
        value, grad = module.grpo_loss([[NAN, -1.0]], [[-1.0, -1.0]], [0.0], **options)
        assert np.isnan(value).tolist() == np.isnan(grad).tolist() == [[True, False]], name


@over([*OF_GRPO])
def test_any_batch_of_sequences(row: Row) -> None:
    c = with_all(row, (20, 9))
    value, (grad,) = c.run()
    for some in (slice(0, 8), slice(3, 4), slice(None, None, -1), slice(1, 20, 4)):
        part = c.moved(lambda a, some=some: a[some])
        assert part.bits() == bits(value[some], grad[some]), c.title


# Arguments


def test_bad_shapes_of_sequences() -> None:
    not_two: list[Shape] = [(6,), (), (2, 3, 4)]
    for shape in not_two:
        flat: list[Any] = [np.zeros(shape), np.zeros(shape), np.zeros(shape[:1])]
        refused(partial(fastloss.grpo_loss, *flat), ValueError, "logps")
    x = np.zeros((4, 6))
    wrong: list[Shape] = [(6,), (4, 1), (1, 6), (1,), (), (24,), (4, 6, 1)]
    for shape in wrong:
        refused(partial(fastloss.grpo_loss, x, x, np.zeros(shape)), ValueError, "advantages")
    refused(partial(fastloss.grpo_loss, x, x, 1.0), ValueError, "advantages")


def test_arguments_that_need_another() -> None:
    x = np.zeros((4, 6), np.float32)
    f = partial(fastloss.value_loss, x, None, x.copy())
    for clip in ({}, {"clip": 0.5}):
        refused(partial(f, **clip), EITHER, "old_values")
    f = partial(fastloss.grpo_loss, x, x.copy(), np.ones(4))
    refused(partial(f, loss_type="dr_grpo"), ValueError, "max_completion_length")
    refused(partial(f, beta=0.1), ValueError, "ref_logps")
    for name in CLIPPED:
        f(loss_type=name, delta=2.0, beta=0, ref_logps=x.copy(), **LENGTH.get(name, {}))
    for name in ("dapo", "cispo"):
        f(loss_type=name, num_items=np.int64(3))


@pytest.mark.parametrize("loss_type", TYPES)
def test_grpo_of_sequences_without_places(loss_type: str) -> None:
    x, a = np.zeros((3, 0)), np.zeros(3)
    options: Any = {"loss_type": loss_type, **LENGTH.get(loss_type, {})}
    assert math.isnan(fastloss.grpo_loss(x, x, a, **options))
    assert fastloss.grpo_loss(x, x, a, mask=x, **options) == 0.0


def test_cispo_of_an_impossible_token_is_nothing() -> None:
    x, old = np.array([[-INF, NAN, -1.0]]), np.zeros((1, 3))
    loss, grad = fastloss.grpo_loss(x, old, [1.0], loss_type="cispo", reduction="none", return_grad=True)
    assert loss[0, 0] == 0.0 and math.isnan(loss[0, 1]) and grad[0, 0] == 0.0


def test_old_values_are_not_read_without_a_clip_nor_written_to() -> None:
    v, old = np.ones(3), np.full(3, 5.0)
    assert fastloss.value_loss(v, np.full(3, NAN), np.zeros(3), clip=None) == 0.5
    with pytest.raises(ValueError, match="overlap"):
        fastloss.value_loss(v, old, np.zeros(3), clip=None, return_grad=True, out=old)
