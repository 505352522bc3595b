"""Losses of policies: against the reference, and without it."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import cases
import numpy as np
import pytest
import test_errors as errors
import test_preferences as common
from cases import REDUCTIONS, Array, Shape, assert_within, dtype_named, is_half, loss_dtype, ulp
from test_preferences import Call, Loss, bits, call, of_values, over, over_dtypes, over_isa, over_modules

import fastloss
from fastloss import reference

INF, NAN = math.inf, math.nan

# Losses, with their options


def near_logps(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    """Log-probabilities of tokens, those of an older policy near them, advantages (0 among them)."""
    x = -3.0 * rng.exponential(size=shape)
    old = np.minimum(x + rng.normal(scale=0.4, size=shape), 0.0)
    a = np.where(rng.random(shape) < 0.1, 0.0, rng.standard_normal(shape))
    return np.asarray(x), np.asarray(old), np.asarray(a)


def two_logps(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    return near_logps(rng, shape)[:2]


def three_values(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    """Values, old ones at about the distance of the clip, returns."""
    v = rng.standard_normal(shape)
    old = v + rng.normal(scale=0.3, size=shape)
    return np.asarray(v), np.asarray(old), np.asarray(v + rng.normal(scale=0.6, size=shape))


def of_sequences(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    x, old, _ = near_logps(rng, shape)
    return x, old, np.asarray(rng.standard_normal(shape[0]))


LOGPS = ("logps", "old_logps", "advantages")
PPO = Loss("ppo_loss", LOGPS, 1, near_logps, (), True)
VALUE = Loss("value_loss", ("values", "old_values", "returns"), 1, three_values, (), True)
KL = Loss("kl_penalty", ("logps", "ref_logps"), 1, two_logps, (), True)
GRPO = Loss("grpo_loss", LOGPS, 1, of_sequences, (), True)
BY_TOKEN = replace(GRPO, make=near_logps)

CLIPPED = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
TYPES = (*CLIPPED, "cispo", "sapo")
LENGTH = {"dr_grpo": {"max_completion_length": 9}}


def grpo(loss_type: str, loss: Loss = GRPO, **options: Any) -> Loss:
    return loss.with_(loss_type=loss_type, **LENGTH.get(loss_type, {}), **options)


ELEMENTWISE = (PPO, VALUE, VALUE.with_(clip=None), KL, KL.with_(estimator="k1"), KL.with_(estimator="k2"))
OF_SEQUENCES = (GRPO, *(grpo(name) for name in TYPES[1:]))
PLAIN = (*ELEMENTWISE, *OF_SEQUENCES)
WITH_OPTIONS = (
    *(PPO.with_(clip=c) for c in (0.0, 0.5, 1, 2.5)),
    *(VALUE.with_(clip=c) for c in (0.0, 1, 0.1)),
    *(grpo(name, BY_TOKEN) for name in TYPES),
    *(grpo(name, importance_sampling_level="sequence") for name in TYPES),
    *(grpo(name, BY_TOKEN, importance_sampling_level="sequence", epsilon_high=0.5) for name in TYPES),
    *(grpo(name, BY_TOKEN, epsilon_low=0.1, epsilon_high=0.4, delta=1.3) for name in CLIPPED),
    *(grpo(name, delta=1.1) for name in CLIPPED),
    *(grpo(name, delta=0.6, importance_sampling_level="sequence") for name in CLIPPED),
    *(grpo(name, delta=2) for name in CLIPPED),
    *(grpo(name, num_items=17) for name in ("dapo", "cispo")),
    *(grpo(name, epsilon_low=0.0, epsilon_high=0) for name in TYPES),
    grpo("cispo", BY_TOKEN, epsilon_high=1.1),
    grpo("sapo", BY_TOKEN, sapo_temperature_pos=2, sapo_temperature_neg=0.5),
    grpo("sapo", sapo_temperature_neg=3.0, importance_sampling_level="sequence"),
)


def with_ref(p: Call, beta: float = 0.5) -> Call:
    """With a penalty: another model's log-probabilities, NaN where the mask is 0."""
    if p.loss.name != "grpo_loss":
        return p
    rng = np.random.default_rng(8)
    x = np.where(p.counts, np.asarray(p.arrays[0], np.float64), 0.0)
    ref = np.where(p.counts, x + rng.normal(scale=0.5, size=p.shape), NAN)
    options = {"ref_logps": common.rounded(p.dtype, ref)[0], "beta": beta}
    return replace(p, options={**p.options, **options})


def shapes_of(loss: Loss) -> tuple[Shape, ...]:
    return ((1, 1), (3, 4), (7, 5), (5, 200), (1, 300)) if loss.name == "grpo_loss" else common.SHAPES


# Against the reference


@over_isa
@over_dtypes
@over(*PLAIN)
def test_shapes(loss: Loss, dtype: str) -> None:
    for shape, reduction in itertools.product(shapes_of(loss), REDUCTIONS):
        call(loss, shape, dtype, reduction).check()
        if shape in ((), (7,), (3, 4), (7, 5)):
            for grad_output in common.upstreams(reduction)[1:]:
                call(loss, shape, dtype, reduction, grad_output).check()
    if loss.name != "grpo_loss":
        call(loss, (2, 3, 4, 5), dtype, "none").check()


@over_dtypes
@over(*PLAIN, *WITH_OPTIONS)
def test_options(loss: Loss, dtype: str) -> None:
    for reduction, mask in (
        *itertools.product(REDUCTIONS, (None, "bool")),
        ("mean", "int"),
        ("none", "float"),
    ):
        for grad_output in common.upstreams(reduction) if mask in (None, "bool") else [None]:
            p = call(loss, (6, 7), dtype, reduction, grad_output, mask)
            p.check()
            if mask != "int" and loss.name == "grpo_loss":
                with_ref(p).check()


@over(*ELEMENTWISE)
def test_masks_of_any_shape(loss: Loss) -> None:
    for shape, dtype, mask in itertools.product(((9,), (40,), (2, 3, 4)), cases.DTYPES, common.MASKS):
        for reduction in REDUCTIONS:
            call(loss, shape, dtype, reduction, None, mask).check()
    for shape in ((), (1,)):
        arrays = loss.make(np.random.default_rng(0), shape)
        p = of_values(loss, *arrays)
        for counts in (np.ones(shape, bool), np.zeros(shape, int)):
            for reduction in REDUCTIONS:
                replace(p, reduction=reduction, options={"mask": counts}).check()


@over(*PLAIN, *WITH_OPTIONS)
def test_every_kind_of_float32_number_is_rounded_once(loss: Loss) -> None:
    """Within 2 units in the last place of the float64 answer, whatever stands beside it."""
    p = with_ref(call(loss, (50, 40), "float32", "none", "array", "bool", 5))
    value, (grad,) = p.run()
    for found, exact in ((value, p.expected[0]), (grad, p.expected[1][0])):
        small = np.abs(exact) < 1e-6 * common.largest(exact)
        off = np.abs(found.astype(np.float64) - exact)
        allowed = np.where(small, 1e-14 * common.largest(exact), 0.0)
        assert (off <= 2.0 * ulp(exact, "float32") + allowed).all(), p.title
    assert np.unique(value).size > 10


# Without the reference


@over_modules
def test_ppo_by_hand(module: Any) -> None:
    ratio = np.array([0.5, 0.5, 1.5, 1.5, 1.1, 1.1, 0.9, 1.5])
    a = np.array([2.0, -2.0, 2.0, -2.0, 3.0, -3.0, 1.0, 0.0])
    value = np.array([-1.0, 1.6, -2.4, 3.0, -3.3, 3.3, -0.9, 0.0])
    slope = np.array([-1.0, 0.0, 0.0, 3.0, -3.3, 3.3, -0.9, 0.0])
    old = np.full(8, -3.0)
    given = {"reduction": "none", "return_grad": True}
    found, grad = module.ppo_loss(old + np.log(ratio), old, a, **given)
    np.testing.assert_allclose(found, value, rtol=1e-13)
    np.testing.assert_allclose(grad, slope, rtol=1e-13)
    mask = [1, 0, 1, 0, 1, 0, 1, 1]
    found, grad = module.ppo_loss(old + np.log(ratio), old, a, mask=mask, return_grad=True, grad_output=2.0)
    assert found == pytest.approx((value * mask).sum() / 5, rel=1e-13)
    np.testing.assert_allclose(grad, 2.0 * slope * mask / 5, rtol=1e-13)
    # Wider: nothing is clipped.
    assert module.ppo_loss(np.log(ratio), np.zeros(8), a, clip=0.6) == pytest.approx(
        (-a * ratio).mean(), rel=1e-13
    )


@over_modules
def test_value_by_hand(module: Any) -> None:
    v = [1.0, 1.0, 1.0, 1.0, 0.0]
    old = [0.5, 0.5, 1.125, 2.0, 0.0]
    returns = [2.0, 0.5, 2.0, 3.0, 0.0]
    # Held at 0.75, 0.75, itself, 1.75, itself.
    value = [0.5 * 1.25**2, 0.125, 0.5, 2.0, 0.0]
    slope = [0.0, 0.5, -1.0, -2.0, 0.0]
    given = {"reduction": "none", "return_grad": True, "clip": 0.25}
    found, grad = module.value_loss(v, old, returns, **given)
    assert found.tolist() == value and grad.tolist() == slope
    found, grad = module.value_loss(v, old, returns, **{**given, "clip": None})
    assert found.tolist() == [0.5, 0.125, 0.5, 2.0, 0.0] and grad.tolist() == [-1.0, 0.5, -1.0, -2.0, 0.0]
    for nothing in (None, old):
        assert module.value_loss(v, nothing, returns, clip=None) == 3.125 / 5
    assert module.value_loss(v, old, returns, clip=0.25, mask=[1, 0, 0, 1, 1]) == pytest.approx(
        (0.5 * 1.25**2 + 2.0) / 3, rel=1e-14
    )


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


@over_modules
def test_kl_by_hand(module: Any) -> None:
    x, ref = [-1.0, -2.0, -0.5, -3.0], [-2.0, -1.0, -0.5, -3.25]
    ratios = [1.0, -1.0, 0.0, 0.25]
    exact = {
        "k1": [(v, 1.0) for v in ratios],
        "k2": [(v * v / 2, v) for v in ratios],
        "k3": [(math.exp(-v) - 1 + v, 1 - math.exp(-v)) for v in ratios],
    }
    for name, pairs in exact.items():
        given = {"estimator": name, "reduction": "none", "return_grad": True}
        value, grad = module.kl_penalty(x, ref, **given)
        np.testing.assert_allclose(value, [v for v, _ in pairs], rtol=1e-14)
        np.testing.assert_allclose(grad, [g for _, g in pairs], rtol=1e-14)
        mean = module.kl_penalty(x, ref, estimator=name, mask=[True, True, False, False])
        assert mean == pytest.approx((pairs[0][0] + pairs[1][0]) / 2, rel=1e-14, abs=1e-16)
    assert module.kl_penalty(x, ref) == pytest.approx(sum(v for v, _ in exact["k3"]) / 4, rel=1e-14)


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
    slope = np.array(
        [float(-sum((-Fraction(v)) ** k / math.factorial(k) for k in range(1, 60))) for v in RATIOS]
    )
    zero = np.zeros(len(RATIOS))
    value, grad = module.kl_penalty(RATIOS, zero, reduction="none", return_grad=True)
    assert (np.abs(value - exact) <= 1e-15 * exact).all(), np.max(np.abs(value / exact - 1.0))
    np.testing.assert_allclose(grad, slope, rtol=5e-16)
    ones = np.ones((1, len(RATIOS)))
    given = {"ref_logps": 0.0 * ones, "beta": 2.0, "reduction": "none", "return_grad": True}
    value, grad = module.grpo_loss(RATIOS[np.newaxis], RATIOS[np.newaxis], [0.0], **given)
    assert (np.abs(value[0] - 2.0 * exact) <= 2e-15 * exact).all()
    np.testing.assert_allclose(grad[0], 2.0 * slope, rtol=5e-16)


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
    given = {"reduction": "none", "return_grad": True}
    x = np.array([-1e4, -81.0, -79.0, 79.0, 1e4, 0.0])
    top = math.exp(80.0) - 81.0
    value, grad = module.kl_penalty(x, np.zeros(6), **given)
    np.testing.assert_allclose(value, [top, top, math.exp(79.0) - 80.0, 78.0, 9999.0, 0.0], rtol=1e-13)
    np.testing.assert_allclose(grad, [0.0, 0.0, 1.0 - math.exp(79.0), 1.0, 1.0, 0.0], rtol=1e-13)
    value, grad = module.grpo_loss([x], [x], [0.0], ref_logps=np.zeros((1, 6)), beta=1.0, **given)
    np.testing.assert_allclose(grad[0], [0.0, 0.0, 1.0 - math.exp(79.0), 1.0, 1.0, 0.0], rtol=1e-13)
    assert value[0, 0] == pytest.approx(top, rel=1e-13)
    # float16 holds -1e4, but not exp(80).
    value, grad = fastloss.kl_penalty(x.astype("f2"), np.zeros(6, "f2"), **given)
    assert value.dtype == np.float32 and value[0] == pytest.approx(top, rel=1e-6) and grad[0] == 0.0


# grpo_loss by hand, a token at a time, in plain Python


def token_loss(loss_type: str, r: float, a: float, x: float, given: dict[str, Any]) -> Any:
    low = given.get("epsilon_low", 0.2)
    high = given.get("epsilon_high")
    high = low if high is None else high
    delta = given.get("delta")
    if loss_type == "cispo":
        return -min(r, high) * a * x
    if loss_type == "sapo":
        t = given.get("sapo_temperature_pos", 1.0) if a > 0 else given.get("sapo_temperature_neg", 1.05)
        return -a * 4 / t * common.sigmoid(t * (r - 1))
    capped = r if delta is None else min(r, delta)
    return -min(capped * a, min(max(r, 1 - low), 1 + high) * a)


def grpo_by_hand(p: Call) -> tuple[float, list[list[float]]]:
    """The mean as each type takes it, and the losses of the tokens."""
    given = {**dict(p.loss.options), **p.options}
    loss_type = given.get("loss_type", "grpo")
    x, old, a = (np.asarray(v, np.float64) for v in p.arrays)
    ref, beta = given.get("ref_logps"), given.get("beta", 0.0)
    rows = []
    for i in range(len(x)):
        tokens = np.flatnonzero(p.counts[i]).tolist()
        ratios = {t: x[i, t] - old[i, t] for t in tokens}
        if given.get("importance_sampling_level") == "sequence" and tokens:
            ratios = dict.fromkeys(tokens, math.fsum(ratios.values()) / len(tokens))
        row = [0.0] * x.shape[1]
        for t in tokens:
            row[t] = token_loss(
                loss_type, math.exp(ratios[t]), a[i] if a.ndim == 1 else a[i, t], x[i, t], given
            )
            if beta:
                d = float(ref[i, t]) - x[i, t]  # type: ignore[index]
                row[t] += beta * (math.exp(d) - d - 1)
        rows.append(row)
    sums, n = [math.fsum(row) for row in rows], p.counts.sum(axis=1)
    total, tokens_in_all = math.fsum(sums), max(int(n.sum()), 1)
    if loss_type in ("grpo", "sapo"):
        return math.fsum(s / max(int(k), 1) for s, k in zip(sums, n, strict=True)) / len(x), rows
    if loss_type == "luspo":
        return total / len(x), rows
    if loss_type == "dr_grpo":
        return total / (len(x) * given["max_completion_length"]), rows
    return total / (given.get("num_items") or tokens_in_all), rows


OF_GRPO = tuple(loss for loss in (*PLAIN, *WITH_OPTIONS) if loss.name == "grpo_loss")


@over(*OF_GRPO)
def test_grpo_by_hand(loss: Loss) -> None:
    for mask, beta in itertools.product((None, "bool"), (0.0, 0.3)):
        p = call(loss, (4, 6), "float64", "mean", None, mask, 2)
        p = with_ref(p, beta) if beta else p
        mean, rows = grpo_by_hand(p)
        for module in (reference, fastloss):
            assert p.value(module=module) == pytest.approx(mean, rel=1e-12, abs=1e-14)
            value = p.value(module=module, reduction="none")
            np.testing.assert_allclose(value, rows, rtol=1e-12, atol=1e-14)
            total = p.value(module=module, reduction="sum")
            assert total == pytest.approx(math.fsum(itertools.chain(*rows)), rel=1e-12, abs=1e-13)


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
        given = {"reduction": "none", "return_grad": True, **options}
        found, grad = module.grpo_loss([[math.log(r) - 2.0]], [[-2.0]], [a], **given)
        assert found[0, 0] == pytest.approx(value, rel=1e-13), (r, a, options)
        assert grad[0, 0] == pytest.approx(slope, rel=1e-13), (r, a, options)
    for r, a, options, weight in (
        (0.5, 2.0, {"epsilon_high": 5.0}, 0.5),
        (9.0, 2.0, {"epsilon_high": 5.0}, 5.0),
        (9.0, -2.0, {"epsilon_high": 5.0}, 5.0),
        (9.0, -2.0, {"epsilon_low": 0.3}, 0.3),
        (9.0, 1.0, {}, 0.2),
    ):
        given = {"reduction": "none", "return_grad": True, "loss_type": "cispo", **options}
        found, grad = module.grpo_loss([[math.log(r) - 2.5]], [[-2.5]], [a], **given)
        assert found[0, 0] == pytest.approx(-weight * a * (math.log(r) - 2.5), rel=1e-13)
        assert grad[0, 0] == pytest.approx(-weight * a, rel=1e-13)


@over_modules
def test_a_sequence_has_one_ratio(module: Any) -> None:
    """The gradient of each token goes through the mean, from all tokens."""
    x, old = np.array([[-1.0, -2.0, NAN, -1.5], [NAN, NAN, NAN, NAN]]), np.full((2, 4), -1.4)
    mask, a = [[1, 1, 0, 1], [0, 0, 0, 0]], np.array([[1.0, -2.0, NAN, 0.5], [NAN, NAN, NAN, NAN]])
    given = {"mask": mask, "importance_sampling_level": "sequence", "return_grad": True, "reduction": "none"}
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
    for loss in OF_SEQUENCES:
        p = with_ref(call(loss, (5, 8), "float32", "mean", "scalar", "bool"))
        spread = np.repeat(p.arrays[2][:, np.newaxis], 8, axis=1)
        assert p.bits(advantages=spread) == p.bits()
        assert p.bits(advantages=np.where(p.counts, spread, np.float32(NAN))) == p.bits()
        square = call(loss, (4, 4), "float64", "none")
        assert square.bits(advantages=np.repeat(square.arrays[2][:, np.newaxis], 4, axis=1)) == square.bits()


def test_a_reference_model_without_weight_changes_nothing() -> None:
    for loss in OF_SEQUENCES:
        p = call(loss, (4, 5), "float32", "mean")
        assert p.bits(ref_logps=np.zeros((4, 5), "f4"), beta=0.0) == p.bits()


# Central differences


# The ratio of cispo is a constant: see below.
@over(*(loss for loss in (*PLAIN, *WITH_OPTIONS) if dict(loss.options).get("loss_type") != "cispo"))
def test_central_differences(loss: Loss) -> None:
    for reduction, module, mask in (
        ("none", reference, "bool"),
        ("none", fastloss, "bool"),
        ("mean", fastloss, "bool"),
        ("mean", fastloss, None),
        ("sum", fastloss, None),
    ):
        grad_output = "array" if reduction == "none" else "scalar"
        for seed in itertools.count(3):
            p = call(loss, (3, 4), "float64", reduction, grad_output, mask, seed)
            if not near_a_kink(p):
                break
        common.check_central_differences(p, module, 2.0**-10)
        if loss.name == "grpo_loss":
            common.check_central_differences(with_ref(p), module, 2.0**-10)


def near_a_kink(p: Call) -> bool:
    """Whether a ratio or a value is near an end of a clip."""
    x, old, third = (np.asarray(a, np.float64) for a in (*p.arrays, 0.0)[:3])
    given = dict(p.loss.options)
    x, old = np.where(p.counts, x, 0.0), np.where(p.counts, old, 0.0)
    if p.loss.name == "value_loss":
        clip = given.get("clip", 0.2)
        if clip is None:
            return False
        off, r = np.abs(x - old), np.where(p.counts, x - third, 1.0)
        other = np.where(
            off > clip, np.abs(old + np.clip(x - old, -clip, clip) - np.where(p.counts, third, 0.0)), INF
        )
        kinks = np.concatenate([off - clip, np.abs(r) - other])[np.concatenate([p.counts, p.counts])]
        return bool((np.abs(kinks) < 0.01).any())
    if p.loss.name == "kl_penalty":
        return False
    ratio = x - old
    if given.get("importance_sampling_level") == "sequence":
        ratio = np.repeat(
            ratio.sum(axis=1, keepdims=True) / np.maximum(p.counts.sum(axis=1, keepdims=True), 1), 4, 1
        )
    low, high = given.get("epsilon_low", given.get("clip", 0.2)), given.get("epsilon_high")
    ends = (1 - low, 1 + (low if high is None else high), given.get("delta", 9.0))
    return any(bool((np.abs(np.exp(ratio) - end)[p.counts] < 0.01).any()) for end in ends)


def test_cispo_holds_its_ratio_constant() -> None:
    """Its loss is linear in the log-probabilities where the ratio stays what it is."""
    for level in ("token", "sequence"):
        loss = grpo("cispo", BY_TOKEN, epsilon_high=1.0, importance_sampling_level=level)
        p = call(loss, (3, 4), "float64", "none", "array", "bool")
        _, (grad,) = p.run()
        step = 0.25
        for index in zip(*np.nonzero(p.counts), strict=True):
            ends = []
            for sign in (-step, step):
                x, old = np.array(p.arrays[0]), np.array(p.arrays[1])
                x[index] += sign
                old[index] += sign
                value = p.value(logps=x, old_logps=old)
                ends.append(
                    np.sum(np.where(p.counts, value * np.where(p.counts, p.options["grad_output"], 0.0), 0.0))
                )
            assert grad[index] == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=1e-9, abs=1e-12)


# As torch, with the formulas of TRL


def masked_mean(values: Any, mask: Any) -> Any:
    return (values * mask).sum() / mask.sum()


def torch_grpo(torch: Any, arrays: list[Any], mask: Any, ref: Any, given: dict[str, Any]) -> Any:
    """The loss as TRL's trainer writes it; as one number, or of the tokens."""
    x, old, a = arrays
    a = a[:, None] if a.ndim == 1 else a
    loss_type, low = given.get("loss_type", "grpo"), given.get("epsilon_low", 0.2)
    high = low if given.get("epsilon_high") is None else given["epsilon_high"]
    n = mask.sum(-1, keepdim=True).clamp(min=1.0)
    log_ratio = x - old
    if given.get("importance_sampling_level") == "sequence":
        log_ratio = (log_ratio * mask).sum(-1, keepdim=True) / n
    r = torch.exp(log_ratio)
    if loss_type == "cispo":
        loss = -torch.clamp(r, max=high).detach() * a * x
    elif loss_type == "sapo":
        positive, negative = given.get("sapo_temperature_pos", 1.0), given.get("sapo_temperature_neg", 1.05)
        t = torch.where(a > 0, torch.full_like(a, positive), torch.full_like(a, negative))
        loss = -torch.sigmoid(t * (r - 1)) * 4 / t * a
    else:
        first, second = r, torch.clamp(r, 1 - low, 1 + high)
        if given.get("delta") is not None:
            first = torch.clamp(first, max=given["delta"])
        loss = -torch.min(first * a, second * a)
    loss = loss + torch.zeros_like(x)
    if ref is not None:
        loss = loss + given["beta"] * (torch.exp(ref - x) - (ref - x) - 1)
    if given["reduction"] == "none":
        return loss * mask
    if loss_type in ("grpo", "sapo"):
        return ((loss * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)).mean()
    if loss_type == "bnpo":
        return (loss * mask).sum() / mask.sum().clamp(min=1.0)
    if loss_type == "dr_grpo":
        return (loss * mask).sum() / (loss.size(0) * given["max_completion_length"])
    if loss_type == "luspo":
        return (loss * mask).sum(-1).mean()
    return (loss * mask).sum() / (given.get("num_items") or mask.sum())


def torch_elementwise(torch: Any, loss: Loss, arrays: list[Any]) -> Any:
    given = dict(loss.options)
    if loss.name == "ppo_loss":
        x, old, a = arrays
        r, clip = torch.exp(x - old), given.get("clip", 0.2)
        return torch.max(-a * r, -a * torch.clamp(r, 1.0 - clip, 1.0 + clip))
    if loss.name == "value_loss":
        v, old, returns = arrays
        clip = given.get("clip", 0.2)
        if clip is None:
            return 0.5 * (v - returns) ** 2
        near = old + torch.clamp(v - old, -clip, clip)
        return 0.5 * torch.max((v - returns) ** 2, (near - returns) ** 2)
    ratio = arrays[1] - arrays[0]  # TRL's is the other way round
    estimator = given.get("estimator", "k3")
    if estimator == "k1":
        return -ratio
    return 0.5 * ratio**2 if estimator == "k2" else torch.exp(ratio) - 1 - ratio


@over(*PLAIN, *WITH_OPTIONS)
def test_as_torch(loss: Loss) -> None:
    torch = pytest.importorskip("torch")
    for reduction, mask, seed in itertools.product(("none", "mean"), (None, "float"), (4, 5)):
        grad_output = "array" if reduction == "none" else "scalar"
        p = call(loss, (6, 9), "float64", reduction, grad_output, mask, seed)
        p = with_ref(p) if seed == 5 else p
        # torch multiplies with the mask: there must be numbers under it.
        tensors = [torch.tensor(np.nan_to_num(a, posinf=0.0, neginf=0.0)) for a in p.arrays]
        tensors[0].requires_grad_(True)
        counts = torch.tensor(p.counts.astype(float))
        given = {**dict(loss.options), **p.options, "reduction": reduction}
        upstream = torch.tensor(np.nan_to_num(p.options["grad_output"]))
        if loss.name == "grpo_loss":
            ref = torch.tensor(np.nan_to_num(p.options["ref_logps"])) if "ref_logps" in p.options else None
            theirs = torch_grpo(torch, tensors, counts, ref, given)
        else:
            theirs = torch_elementwise(torch, loss, tensors)
            theirs = theirs * counts if reduction == "none" else masked_mean(theirs, counts)
        (theirs * upstream).sum().backward()
        exact = tensors[0].grad.numpy()
        for module in (reference, fastloss):
            value, (grad,) = p.run(module=module)
            np.testing.assert_allclose(value, theirs.detach().numpy(), rtol=1e-11, atol=1e-12)
            np.testing.assert_allclose(grad, exact, rtol=1e-10, atol=1e-12)


# Ratios that overflow, or vanish

HUGE = (800.0, 1e4)


@over_modules
@over_dtypes
def test_ppo_beyond(module: Any, dtype: str) -> None:
    given = {"dtype": dtype}
    for far in HUGE:
        # A > 0: the clipped value. A = 0: nothing. A < 0: what grows without end.
        p = of_values(PPO, [0.0, 0.0, 0.0], [-far] * 3, [2.0, 0.0, -2.0], **given)
        value, (grad,) = p.run(module=module)
        assert value.tolist() == pytest.approx([-2.4, 0.0, INF], rel=1e-6)
        assert grad.astype(np.float64).tolist() == [0.0, 0.0, INF]
        p = of_values(PPO, [-far] * 3, [0.0, 0.0, 0.0], [2.0, 0.0, -2.0], **given)
        value, (grad,) = p.run(module=module)
        assert value.tolist() == pytest.approx([0.0, 0.0, 1.6], rel=1e-6)
        assert grad.astype(np.float64).tolist() == [0.0, 0.0, 0.0]
        # Each of them alone is a finite mean.
        assert module.ppo_loss([0.0, 0.0], [-far, -far], [2.0, 0.0]) == pytest.approx(-1.2, rel=1e-14)


@over_modules
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("loss_type", TYPES)
def test_grpo_beyond(module: Any, loss_type: str, level: str) -> None:
    base = {
        "importance_sampling_level": level,
        "loss_type": loss_type,
        "reduction": "none",
        "return_grad": True,
    }
    base |= LENGTH.get(loss_type, {})
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
            s = [common.sigmoid(-1.0), common.sigmoid(-1.05)]
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
        mean = module.grpo_loss(
            up[:2], zero[:2], a[:2], **{**base, "return_grad": False, "reduction": "mean"}
        )
        assert math.isfinite(mean)


@over_modules
def test_sapo_of_large_ratios(module: Any) -> None:
    """Between: sigmoid(-x) is all but 0, and the ratio all but infinite."""
    for ratio in (3.0, 6.0, 6.6, 7.0, 50.0, 300.0, 700.0, 709.0, 710.0):
        given = {"loss_type": "sapo", "reduction": "none", "return_grad": True}
        value, grad = module.grpo_loss([[0.0]], [[-ratio]], [1.5], **given)
        r = math.exp(min(ratio, 50.0))
        tail = math.exp(-(r - 1.0)) if r < 700.0 else 0.0
        assert value[0, 0] == pytest.approx(-6.0 / (1.0 + tail), rel=1e-12)
        exact = -6.0 * tail / (1.0 + tail) ** 2 * r if r < 740.0 else 0.0
        assert grad[0, 0] == pytest.approx(exact, rel=1e-10, abs=1e-290)


@over_dtypes
@over(*PLAIN)
def test_log_probabilities_far_below(loss: Loss, dtype: str) -> None:
    x, y = np.full((2, 3, 4), -1e4)
    x[:, 1], y[:, 2] = -9999.0, -1e4 + 8.0
    x[:, 3] = -1e4 + 0.0
    third = np.array([1.0, -1.0, 0.5]) if loss.name == "grpo_loss" else np.full((3, 4), -1.5)
    p = of_values(loss, *(x, y, third)[: len(loss.arrays)], dtype=dtype)
    p.check()
    value, (grad,) = p.run()
    assert np.isfinite(value).all() and np.isfinite(grad.astype(np.float64)).all()
    q = with_ref(p)
    q.check()


@over_modules
def test_values_far_apart(module: Any) -> None:
    given = {"reduction": "none", "return_grad": True}
    value, grad = module.value_loss([1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [0.0, 0.0, 1e4], **given)
    np.testing.assert_allclose(value, [0.5e8, 0.5e8, 0.5e8], rtol=1e-14)
    assert grad.tolist() == [1e4, -1e4, -1e4]
    value, grad = module.value_loss([1e4], [-1e4], [1e4], **given)
    np.testing.assert_allclose(value, [0.5 * (2e4 - 0.2) ** 2], rtol=1e-14)
    assert grad.tolist() == [0.0]


# NaN, nothing


@over_dtypes
@over(*PLAIN)
def test_nan_stays_where_it_is(loss: Loss, dtype: str) -> None:
    """In its own element; where all tokens of a sequence have one ratio, in its sequence."""
    shapes: tuple[Shape, ...] = ((3, 4),) if loss.name == "grpo_loss" else ((9,), (3, 4))
    levels = ("token", "sequence") if loss.name == "grpo_loss" else (None,)
    for shape, level in itertools.product(shapes, levels):
        mine = loss if level is None else loss.with_(importance_sampling_level=level)
        p = call(mine, shape, dtype, "none", "array")
        value, (grad,) = p.run()
        for field, name in enumerate(loss.arrays):
            if name == "old_values" and dict(loss.options).get("clip", 0.2) is None:
                continue
            bad = np.array(p.arrays[field])
            where = np.zeros(bad.shape, bool)
            where.reshape(-1)[1] = True
            bad[where] = NAN
            where = np.broadcast_to(where[:, np.newaxis] if where.ndim < len(shape) else where, shape)
            if level == "sequence" and name != "advantages" and "cispo" not in str(loss):
                where = np.broadcast_to(where.any(axis=1, keepdims=True), shape)
            found, (moved,) = p.run(**{name: bad})
            if level != "sequence":
                assert np.array_equal(np.isnan(found), where), p.title
                assert np.array_equal(np.isnan(moved.astype(np.float64)), where), p.title
            else:
                whole = np.broadcast_to(where.any(axis=1, keepdims=True), shape)
                assert np.isnan(found[where]).all() and not np.isnan(found[~whole]).any(), p.title
                where = whole
                assert not np.isnan(moved[~whole].astype(np.float64)).any(), p.title
                assert np.isnan(moved.astype(np.float64)).any(), p.title
            assert bits(found[~where]) == bits(value[~where]), p.title
            assert bits(moved[~where]) == bits(grad[~where]), p.title
            assert math.isnan(p.value(reduction="mean", **{name: bad}))
            assert math.isnan(p.value(reduction="sum", **{name: bad}))


@over_modules
def test_nan_beside_an_advantage_of_0(module: Any) -> None:
    given = {"reduction": "none", "return_grad": True}
    value, grad = module.ppo_loss([NAN, -1.0], [-1.0, NAN], [0.0, 0.0], **given)
    assert np.isnan(value).all() and np.isnan(grad).all()
    for name in TYPES:
        options = {"loss_type": name, **given, **LENGTH.get(name, {})}
        value, grad = module.grpo_loss([[NAN, -1.0]], [[-1.0, -1.0]], [0.0], **options)
        assert np.isnan(value).tolist() == np.isnan(grad).tolist() == [[True, False]], name


@over_dtypes
@over(*PLAIN, *(grpo(name, importance_sampling_level="sequence") for name in ("grpo", "cispo", "sapo")))
def test_nothing_under_the_mask(loss: Loss, dtype: str) -> None:
    shapes = [(3, 4), (0, 5)] if loss.name == "grpo_loss" else [(3, 4), (0, 5), (7,), (0,), ()]
    for shape, kind, reduction in itertools.product(shapes, (bool, int, np.float32), REDUCTIONS):
        arrays = [np.full(shape, NAN, dtype_named(dtype)) for _ in loss.arrays]
        p = Call(loss, dtype, reduction, tuple(arrays), {"mask": np.zeros(shape, kind)})
        value, (grad,) = p.run()
        assert grad.dtype == dtype_named(dtype)
        assert_within(grad, np.zeros(shape), 0.0, p.title)
        for v in (value, p.value(), p.expected[0]):
            assert np.shape(v) == (shape if reduction == "none" else ())
            assert not np.any(v), p.title
        if reduction != "none":
            assert type(value) is float
        start = np.ones(shape, dtype_named(dtype))
        p.run(out=start, accumulate=True)
        assert (start.astype(float) == 1.0).all()


@over(*PLAIN)
def test_no_elements(loss: Loss) -> None:
    """Without a mask the mean of nothing is NaN."""
    shapes = [(0, 4)] if loss.name == "grpo_loss" else [(0,), (0, 5), (3, 0)]
    for shape, dtype in itertools.product(shapes, cases.DTYPES):
        for reduction in REDUCTIONS:
            p = call(loss, shape, dtype, reduction)
            value, (grad,) = p.run()
            assert grad.shape == shape and grad.dtype == dtype_named(dtype)
            for v in (value, p.value(), p.expected[0]):
                if reduction == "none":
                    assert v.shape == shape
                else:
                    assert math.isnan(v) if reduction == "mean" else v == 0.0


@over(*PLAIN, *WITH_OPTIONS)
def test_what_is_under_the_mask_changes_nothing(loss: Loss) -> None:
    for dtype, reduction in itertools.product(("float32", "float64"), REDUCTIONS):
        p = with_ref(call(loss, (6, 7), dtype, reduction, None, "bool", 1))
        want, counts = p.bits(), p.counts
        for bad in (NAN, INF, -INF, 1e30, 0.0):
            names = dict(zip(loss.arrays, p.arrays, strict=True))
            given = {
                k: np.where(counts, a, a.dtype.type(bad)) for k, a in names.items() if a.shape == counts.shape
            }
            if "ref_logps" in p.options and loss.name == "grpo_loss":
                given["ref_logps"] = np.where(counts, p.options["ref_logps"], np.dtype(dtype).type(bad))
            assert p.bits(**given) == want, f"{p.title} {bad}"
        if loss.name == "grpo_loss" and p.arrays[2].ndim == 1:
            # A sequence without tokens has an advantage that nobody reads.
            a = np.where(counts.any(axis=1), p.arrays[2], p.arrays[2].dtype.type(NAN))
            assert np.isnan(a).any()
            assert p.bits(advantages=a) == want, p.title
    if loss.name != "grpo_loss":
        # As those that count would be alone.
        p = call(loss, (40,), "float64", "none", None, "bool")
        some = [a[p.counts] for a in p.arrays]
        value, (grad,) = p.run()
        alone = replace(p, arrays=tuple(some), options={})
        assert bits((value[p.counts], grad[p.counts])) == alone.bits()
        assert p.value(reduction="mean") == pytest.approx(alone.value(reduction="mean"), rel=1e-14)


@over(*PLAIN)
def test_a_full_mask_is_none(loss: Loss) -> None:
    for dtype, reduction in itertools.product(cases.DTYPES, REDUCTIONS):
        p = call(loss, (6, 7), dtype, reduction, None, None, 1)
        for kind in (bool, int, np.float32):
            value, grads = p.run(mask=np.ones((6, 7), kind))
            plain = p.run()
            if reduction == "none":
                assert bits(value) == bits(plain[0])
            else:
                assert value == pytest.approx(plain[0], rel=1e-14, abs=1e-300)
            np.testing.assert_allclose(
                grads[0].astype(float), plain[1][0].astype(float), rtol=1e-2 if is_half(dtype) else 1e-6
            )


def test_kinds_of_masks() -> None:
    kinds = ["int8", "uint8", "int64", "uint64", ">i4", *map(dtype_named, cases.DTYPES)]
    for loss in PLAIN:
        p = with_ref(call(loss, (5, 7), "float32", "none", "array", "bool"))
        mask, want = p.options["mask"], p.bits()
        for other in (*(mask.astype(kind) for kind in kinds), mask.tolist(), np.asfortranarray(mask)):
            assert p.bits(mask=other) == want, p.title
        assert p.bits(mask=common.spread(mask)) == want
        assert p.bits(mask=np.where(mask, 1.0, -0.0)) == want


# In memory


@pytest.mark.parametrize("view", common.VIEWS.values(), ids=common.VIEWS)
@over(*PLAIN)
def test_strides(loss: Loss, view: Any) -> None:
    for dtype, mask in (("float32", "bool"), ("float64", None), ("float16", "float")):
        common.check_views(loss, dtype, view, mask)


@over(*PLAIN)
def test_kinds_of_arrays(loss: Loss) -> None:
    common.check_kinds_of_arrays(loss, np.rint)


def test_kinds_of_reference_models() -> None:
    p = with_ref(call(BY_TOKEN, (5, 7), "float64", "none"))
    want, ref = p.bits(), p.options["ref_logps"]
    for other in (ref.tolist(), ref.astype(">f8"), common.spread(ref), np.asfortranarray(ref)):
        assert p.bits(ref_logps=other) == want
    narrow = with_ref(call(BY_TOKEN, (5, 7), "float32", "none"))
    assert narrow.bits(ref_logps=ref) == narrow.bits(ref_logps=ref.astype("f4"))


@over_dtypes
@over(*PLAIN)
def test_out(loss: Loss, dtype: str) -> None:
    for mask in (None, "bool"):
        common.check_out(loss, dtype, mask)


@over(*PLAIN, *(grpo(name, importance_sampling_level="sequence") for name in ("grpo", "cispo", "sapo")))
def test_any_number_of_threads(loss: Loss) -> None:
    common.check_threads(loss, (400, 500), "bool")
    if loss.name == "grpo_loss":
        common.check_threads(loss, (2, 100_000), "bool", brief=True)


@over(*ELEMENTWISE)
def test_any_batch(loss: Loss) -> None:
    for dtype in ("float32", "float64"):
        p = call(loss, (75,), dtype, "none")
        value, (grad,) = p.run()
        for some in (
            slice(0, 16),
            slice(1, 17),
            slice(5, 70),
            slice(None, None, -1),
            slice(0, 75, 7),
            slice(8, 9),
        ):
            given = {name: a[some] for name, a in zip(loss.arrays, p.arrays, strict=True)}
            assert p.bits(**given) == bits((value[some], grad[some])), p.title


@over(*OF_SEQUENCES, grpo("grpo", importance_sampling_level="sequence"))
def test_any_batch_of_sequences(loss: Loss) -> None:
    p = with_ref(call(loss, (20, 9), "float32", "none", "array", "bool"))
    value, (grad,) = p.run()
    for some in (slice(0, 8), slice(3, 4), slice(None, None, -1), slice(1, 20, 4)):
        given = {name: a[some] for name, a in zip(loss.arrays, p.arrays, strict=True)}
        given |= {k: v[some] for k, v in p.options.items() if np.ndim(v)}
        assert p.bits(**given) == bits((value[some], grad[some])), p.title


# Errors

EITHER = common.EITHER
M = np.ones((4, 6))
MASKS = [
    *errors.bad(
        "mask", ValueError, *(v * M for v in (2, -1, 0.5, NAN, INF, 256, 1e-300)), -np.ones((4, 6), int)
    ),
    *errors.bad(
        "mask", ValueError, True, 1, M[:3], M[0], M[:, 0], M[np.newaxis], M[:, :1], M.T, np.ones(24, bool), []
    ),
    *errors.bad("mask", EITHER, "text", M.astype(complex), [[None] * 6] * 4, [[1], [1, 0]]),
]
BETA_AND_REF = {"ref_logps": np.zeros((4, 6), np.float32)}
bad_numbers = common.bad_numbers
OWN: dict[str, list[common.Bad]] = {
    "ppo_loss": [*bad_numbers("clip", -0.1, -1), *errors.bad("clip", TypeError, None)],
    "value_loss": [*bad_numbers("clip", -0.1, -1)],
    "kl_penalty": [*errors.bad("estimator", EITHER, "", "k4", "K3", "abs", None, 3, ["k3"])],
    "grpo_loss": [
        *errors.bad("loss_type", EITHER, "", "GRPO", "gspo", "vespo", None, 1, ["grpo"]),
        *errors.bad("importance_sampling_level", EITHER, "", "tokens", "sequence_token", None, 1),
        *bad_numbers("epsilon_low", -0.1, -1),
        *errors.bad("epsilon_low", TypeError, None),
        *bad_numbers("epsilon_high", -0.1, -1),
        *bad_numbers("delta", 0.0, -0.1),
        *errors.bad("delta", ValueError, 2.0, loss_type="cispo"),
        *errors.bad("delta", ValueError, 2.0, loss_type="sapo"),
        *bad_numbers("beta", **BETA_AND_REF),
        *errors.bad("ref_logps", EITHER, None, beta=0.1),
        *errors.bad("ref_logps", TypeError, *common.ARRAYS_OF_WRONG_TYPE, beta=0.1),
        *errors.bad("ref_logps", ValueError, 1.0, *(np.zeros(s) for s in common.WRONG_SHAPES), beta=0.1),
        *errors.bad(
            "max_completion_length", EITHER, None, 0, -1, NAN, INF, "9", True, [9], loss_type="dr_grpo"
        ),
        *(
            common.Bad("max_completion_length", 9, ValueError, (("loss_type", name),))
            for name in TYPES
            if name != "dr_grpo"
        ),
        *errors.bad("num_items", EITHER, 0, -1, NAN, INF, "9", True, [9], loss_type="dapo"),
        *errors.bad("num_items", EITHER, 0, -1, NAN, INF, "9", True, [9], loss_type="cispo"),
        *(
            common.Bad("num_items", 9, ValueError, (("loss_type", name), *LENGTH.get(name, {}).items()))
            for name in TYPES
            if name not in ("dapo", "cispo")
        ),
        *bad_numbers("sapo_temperature_pos", 0.0, -1, loss_type="sapo"),
        *bad_numbers("sapo_temperature_neg", 0.0, -1, loss_type="sapo"),
    ],
}


def wrong_arrays(loss: Loss) -> list[common.Bad]:
    """(B,) is right for the advantages of sequences."""
    rows = common.bad_arrays(loss.arrays)
    return [
        r
        for r in rows
        if (r.argument, np.shape(r.value) if isinstance(r.value, np.ndarray) else 0)
        != ("advantages" if loss.name == "grpo_loss" else "", (4,))
    ]


@over(PPO, VALUE, KL, GRPO)
def test_bad_arguments(loss: Loss) -> None:
    for row in (*wrong_arrays(loss), *common.COMMON, *OWN[loss.name], *MASKS):
        given = {**dict(row.with_options), row.argument: row.value}
        common.refused(loss, row.error, row.argument, **given)
    for unknown in ("axis", "weight", "temperature", "label_smoothing"):
        common.refused(loss, TypeError, unknown, **{unknown: 1.0})
    with pytest.raises(TypeError):
        getattr(fastloss, loss.name)(*common.good(loss).values(), M)


def test_bad_shapes_of_sequences() -> None:
    not_two: list[Shape] = [(6,), (), (2, 3, 4)]
    for shape in not_two:
        flat: list[Any] = [np.zeros(shape), np.zeros(shape), np.zeros(shape[:1])]
        errors.refused(partial(fastloss.grpo_loss, *flat), ValueError, "logps")
    x = np.zeros((4, 6))
    wrong: list[Shape] = [(6,), (4, 1), (1, 6), (1,), (), (24,), (4, 6, 1)]
    for shape in wrong:
        errors.refused(partial(fastloss.grpo_loss, x, x, np.zeros(shape)), ValueError, "advantages")
    errors.refused(partial(fastloss.grpo_loss, x, x, 1.0), ValueError, "advantages")


def test_arguments_that_need_another() -> None:
    x = np.zeros((4, 6), np.float32)
    f = partial(fastloss.value_loss, x, None, x.copy())
    for clip in ({}, {"clip": 0.5}):
        errors.refused(partial(f, **clip), EITHER, "old_values")
    f = partial(fastloss.grpo_loss, x, x.copy(), np.ones(4))
    errors.refused(partial(f, loss_type="dr_grpo"), ValueError, "max_completion_length")
    errors.refused(partial(f, beta=0.1), ValueError, "ref_logps")
    for name in CLIPPED:
        f(loss_type=name, delta=2.0, beta=0, ref_logps=x.copy(), **LENGTH.get(name, {}))
    for name in ("dapo", "cispo"):
        f(loss_type=name, num_items=np.int64(3))


@over(*PLAIN)
def test_gradient_arguments_without_gradient(loss: Loss) -> None:
    arrays = common.good(loss)
    before = bits(list(arrays.values()))
    wrong: tuple[tuple[str, dict[str, Any]], ...] = (
        ("return_grad|grad_output", {"grad_output": 2.0}),
        ("return_grad|out", {"out": arrays[loss.arrays[0]]}),
        ("out|accumulate|return_grad", {"accumulate": True}),
        ("out|accumulate", {"accumulate": True, "return_grad": True}),
    )
    for name, given in wrong:
        f = partial(getattr(fastloss, loss.name), *arrays.values(), **dict(loss.options), **given)
        errors.refused(f, ValueError, name)
    assert bits(list(arrays.values())) == before


@over(PPO, VALUE, KL, GRPO, BY_TOKEN.with_(importance_sampling_level="sequence"))
def test_bad_out(loss: Loss) -> None:
    common.check_bad_out(loss)
    arrays = common.good(loss)
    overlapping = np.ones((4, 6), np.float32)
    given: dict[str, Any] = {"mask": overlapping}
    if loss.name == "grpo_loss":
        given |= {"ref_logps": overlapping, "beta": 0.1}
    for name, value in given.items():
        if name == "beta":
            continue
        more = {name: value, **({"beta": 0.1} if name == "ref_logps" else {})}
        f = partial(
            getattr(fastloss, loss.name), *arrays.values(), return_grad=True, **dict(loss.options), **more
        )
        errors.refused(partial(f, out=overlapping), ValueError, "out")
        assert (overlapping == 1.0).all()
    for wrong in ((np.zeros((4, 6), "f4"),), [np.zeros((4, 6), "f4")]):
        f = partial(getattr(fastloss, loss.name), *arrays.values(), return_grad=True, **dict(loss.options))
        errors.refused(partial(f, out=wrong), TypeError, "out")


def test_types_of_losses() -> None:
    for loss, dtype in itertools.product(PLAIN, cases.DTYPES):
        p = call(loss, (3, 4), dtype, "none")
        assert p.value().dtype == loss_dtype(dtype)
        assert type(p.value(reduction="mean")) is type(p.value(reduction="sum")) is float


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
