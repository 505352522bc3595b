"""Of losses of preferences alone: by hand, far out, tails, certain answers, sorting."""

import itertools
import math
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import (
    DTYPES,
    EITHER,
    INF,
    NAN,
    NONE,
    Shape,
    assert_near,
    bits,
    dtype_named,
    is_half,
    loss_dtype,
    over_dtypes,
    over_modules,
    refused,
    sigmoid,
    ulp,
)
from registry import Call, Row, call, of_values, over
from rows.preferences import (
    DPO,
    DPO_TYPES,
    FOUR,
    OF_DIFFERENCE,
    OF_DPO,
    OF_SORTED,
    ORPO,
    POLICY,
    REWARD,
    SMOOTHED,
    dpo,
)

import fastloss
from fastloss import reference

# Without the reference


def ls(x: float) -> float:
    return min(x, 0.0) - math.log1p(math.exp(-abs(x)))


def by_hand(loss_type: str, rc: float, rr: float, b: float, e: float, tau: float, d: float) -> float:
    """The formulas of TRL, in plain Python, d the difference of the scores."""
    x = b * d
    m = sigmoid(x / tau)
    return {
        "sigmoid": lambda: -(1 - e) * ls(x) - e * ls(-x),
        "hinge": lambda: max(0.0, 1 - x),
        "ipo": lambda: (d - 1 / (2 * b)) ** 2,
        "exo_pair": lambda: sigmoid(x) * (ls(x) - math.log(1 - e)) + sigmoid(-x) * (ls(-x) - math.log(e)),
        "nca_pair": lambda: -ls(b * rc) - 0.5 * ls(-b * rc) - 0.5 * ls(-b * rr),
        "robust": lambda: (-(1 - e) * ls(x) + e * ls(-x)) / (1 - 2 * e),
        "bco_pair": lambda: -ls(b * rc) - ls(-b * rr),
        "sppo_hard": lambda: (rc - 0.5 / b) ** 2 + (rr + 0.5 / b) ** 2,
        "aot": lambda: -(1 - e) * ls(x) - e * ls(-x),
        "aot_unpaired": lambda: -(1 - e) * ls(x) - e * ls(-x),
        "apo_zero": lambda: 1 - sigmoid(b * rc) + sigmoid(b * rr),
        "apo_down": lambda: sigmoid(b * rc) + 1 - sigmoid(b * (rc - rr)),
        "discopop": lambda: -(1 - m) * ls(x) + math.exp(ls(x / tau) - x),
    }[loss_type]()


SCORES: dict[str, Callable[[float], float]] = {
    "reverse_kl": lambda r: r,
    "forward_kl": lambda r: 1 - math.exp(-r),
    "js_divergence": lambda r: math.log(2) + ls(r),
    "alpha_divergence": lambda r: (math.exp(-0.5 * r) - 1) / -0.5,
}
POINTS = [(-3.0, -5.0, -4.5, -4.75), (-8.0, -2.5, -6.0, -5.0), (-1.0,) * 4, (-2.0, -9.0, 0.0, -1.0)]


@over_modules
@pytest.mark.parametrize("loss_type", DPO_TYPES)
def test_dpo_by_hand(module: Any, loss_type: str) -> None:
    for c, r, c0, r0 in POINTS:
        for b, e, f in itertools.product((0.1, 0.5), (0.0, 0.2), SCORES):
            if (e and loss_type not in SMOOTHED) or (not e and loss_type == "exo_pair"):
                continue
            if f != "reverse_kl" and loss_type not in OF_DIFFERENCE:
                continue
            given = {"beta": b, "label_smoothing": e, "loss_type": loss_type, "f_divergence_type": f}
            score, tau = SCORES[f], 0.5 if loss_type == "discopop" else 0.05
            for free in (False, True):
                rc, rr = (c, r) if free else (c - c0, r - r0)
                exact = by_hand(loss_type, rc, rr, b, e, tau, score(rc) - score(rr))
                options = {**given, "discopop_tau": tau, "reference_free": free}
                value = module.dpo_loss(c, r, c0, r0, **options)
                assert value == pytest.approx(exact, rel=1e-12, abs=1e-13), (options, c, r)
                if free:
                    assert module.dpo_loss(c, r, **options) == value
                    assert module.dpo_loss(c, r, NAN, None, **options) == value


@over_modules
def test_kinks(module: Any) -> None:
    """At the end of a hinge the gradient is 0, as that of hinge_loss."""
    for f in (partial(module.dpo_loss, reference_free=True), module.cpo_loss):
        value, grads = f([-1.0], [-3.0], beta=0.5, loss_type="hinge", return_grad=True)
        assert value == 0.0 and not grads[0].any() and not grads[1].any()


@over_modules
def test_preference_rewards(module: Any) -> None:
    arrays = list(zip(*POINTS, strict=True))
    found = module.preference_rewards(*arrays, beta=0.5)
    assert found._fields == ("chosen", "rejected", "margins", "accuracy")
    np.testing.assert_allclose(found.chosen, [0.75, -1.0, 0.0, -1.0], rtol=1e-15)
    np.testing.assert_allclose(found.rejected, [-0.125, 1.25, 0.0, -4.0], rtol=1e-15)
    np.testing.assert_allclose(found.margins, [0.875, -2.25, 0.0, 3.0], rtol=1e-15)
    assert type(found.accuracy) is float and found.accuracy == 0.5  # a tie is no win
    free = module.preference_rewards(*arrays[:2])
    np.testing.assert_allclose(free.chosen, 0.1 * np.array(arrays[0]), rtol=1e-15)
    np.testing.assert_allclose(free.rejected, 0.1 * np.array(arrays[1]), rtol=1e-15)
    assert free.accuracy == 0.5
    nothing = module.preference_rewards([], [])
    assert nothing.chosen.shape == (0,) and math.isnan(nothing.accuracy)


def test_preference_rewards_refuses() -> None:
    x = np.zeros((4, 6))
    f = fastloss.preference_rewards
    refused(partial(f, x, x, x), ValueError, FOUR[3])
    refused(partial(f, x, x, None, x), ValueError, FOUR[2])
    for i, name in enumerate(FOUR[1:], 1):
        for wrong in (x[:, :1], x[0], 1.0, x.T):
            arrays: list[Any] = [x] * 4
            arrays[i] = wrong
            refused(partial(f, *arrays), ValueError, name)


# Far out

LOW = -1e4
# Chosen, rejected, and the same under the reference model: the differences are 0, 1e4 and -1e4, and each
# log-ratio is one of these.
FAR = np.array(
    [
        (LOW, LOW, LOW, LOW),
        (0.0, LOW, 0.0, 0.0),
        (LOW, 0.0, 0.0, 0.0),
        (0.0, 0.0, LOW, 0.0),
        (0.0, 0.0, 0.0, LOW),
        (LOW, 0.0, LOW, 0.0),
        (LOW, LOW, LOW + 1.0, LOW - 1.0),
        (LOW, LOW, LOW - 8.0, LOW + 8.0),
        (LOW, LOW, 0.0, 0.0),
        (0.0, 0.0, LOW, LOW),
    ]
).T


@over_dtypes
@over([*OF_DPO, *OF_SORTED])
def test_dpo_far_out(row: Row, dtype: str) -> None:
    for options in row.sets:
        c = of_values(row, *FAR, dtype=dtype, **options)
        c.check()
        # Exponentials are held at exp(80), and their squares are finite in float64.
        if dtype == "float64" and options.get("discopop_tau", 0.05) <= 1.0:
            for module in (reference, fastloss):
                value, grads = c.run(module=module)
                assert np.isfinite([value, *grads]).all(), c.title


# Losses with beta 0.1 (x = 0.1 * D = 1000, -1000) and their derivatives by the two policies, by hand.
FAR_BY_HAND: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "sigmoid": ((0.0, 0.0, 0.0), (1000.0, -0.1, 0.1)),
    "hinge": ((0.0, 0.0, 0.0), (1001.0, -0.1, 0.1)),
    "ipo": ((9995.0**2, 19990.0, -19990.0), (10005.0**2, -20010.0, 20010.0)),
    "exo_pair": ((-math.log(0.8), 0.0, 0.0), (-math.log(0.2), 0.0, 0.0)),
    "robust": ((0.0, 0.0, 0.0), (1000.0, -0.1, 0.1)),
    "discopop": ((0.0, 0.0, 0.0), (1000.0, -0.1, 0.1)),
    "aot": ((0.0, 0.0, 0.0), (1000.0, -0.1, 0.1)),
    "aot_unpaired": ((0.0, 0.0, 0.0), (1000.0, -0.1, 0.1)),
    # rc = 0, rr = -1e4, and rc = -1e4, rr = 0.
    "nca_pair": ((1.5 * math.log(2), -0.025, 0.0), (1000.0 + 0.5 * math.log(2), -0.1, 0.025)),
    "bco_pair": ((math.log(2), -0.05, 0.0), (1000.0 + math.log(2), -0.1, 0.05)),
    "sppo_hard": ((25.0 + 9995.0**2, -10.0, -19990.0), (10005.0**2 + 25.0, -20010.0, 10.0)),
    "apo_zero": ((0.5, -0.025, 0.0), (1.5, 0.0, 0.025)),
    "apo_down": ((0.5, 0.025, 0.0), (1.0, 0.0, 0.0)),
}


@over_modules
@pytest.mark.parametrize("loss_type", DPO_TYPES)
def test_dpo_far_out_by_hand(module: Any, loss_type: str) -> None:
    for exact, pair in zip(FAR_BY_HAND[loss_type], ((0.0, LOW), (LOW, 0.0)), strict=True):
        p = of_values(dpo(loss_type), *([v] for v in (*pair, 0.0, 0.0)))
        value, grads = p.run(module=module)
        assert value[0] == pytest.approx(exact[0], rel=1e-13, abs=1e-300), pair
        for grad, slope in zip(grads, exact[1:], strict=True):
            assert grad[0] == pytest.approx(slope, rel=1e-13, abs=1e-300), pair


@over_modules
def test_smoothing_far_out_by_hand(module: Any) -> None:
    chosen, rejected = [0.0, LOW], [LOW, 0.0]
    for name, e, value, slopes in (
        ("sigmoid", 0.1, [100.0, 900.0], [0.01, -0.09]),
        ("sigmoid", 1.0, [1000.0, 0.0], [0.1, 0.0]),
        ("robust", 0.25, [-500.0, 1500.0], [-0.05, -0.15]),
    ):
        p = of_values(dpo(name, label_smoothing=e), chosen, rejected, [0.0, 0.0], [0.0, 0.0])
        found, grads = p.run(module=module)
        np.testing.assert_allclose(found, value, rtol=1e-13)
        np.testing.assert_allclose(grads[0], slopes, rtol=1e-13)
        np.testing.assert_allclose(grads[1], np.negative(slopes), rtol=1e-13)


@over_modules
def test_exponents_of_scores_are_held(module: Any) -> None:
    """exp(80) instead of what would overflow, and no gradient there."""
    top = math.exp(80.0)
    # The chosen ratio is far below: its score is -exp(80), that of the other is -1.
    for name, value in (
        ("sigmoid", 0.1 * (top - 1.0)),
        ("hinge", 1.0 + 0.1 * (top - 1.0)),
        ("ipo", (top + 4.0) ** 2),
    ):
        for ratio in (LOW, -81.0, -79.0):
            f = dpo(name, f_divergence_type="forward_kl")
            found, grads = of_values(f, [ratio], [0.0], [0.0], [0.0]).run(module=module)
            size = math.exp(min(-ratio, 80.0))
            slope = -2.0 * size if name == "ipo" else -0.1
            assert grads[1][0] == pytest.approx(-slope, rel=1e-12)
            if ratio > -80.0:
                assert grads[0][0] == pytest.approx(slope * size, rel=1e-12)
            else:
                assert found[0] == pytest.approx(value, rel=1e-12)
                assert grads[0][0] == 0.0
    for a, ratio in ((0.5, LOW), (3.0, 1e4)):
        given = {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": a}
        found, grads = of_values(DPO, [0.0], [ratio], [0.0], [0.0], **given).run(module=module)
        # D = (1 - exp(80)) / (a - 1).
        x = 0.1 * (1.0 - top) / (a - 1.0)
        assert found[0] == (0.0 if x > 0.0 else pytest.approx(-x, rel=1e-12))
        assert grads[1][0] == 0.0
        assert grads[0][0] == (0.0 if x > 0.0 else pytest.approx(-0.1, rel=1e-12))


TAILS = np.array([0.0, 2.0**-30, 0.5, 1.0, 20.0, 40.0, 100.0, 300.0, 650.0])
TAILS = np.concatenate([-TAILS[::-1], TAILS]) / 0.5


@over_modules
def test_tails_keep_their_digits(module: Any) -> None:
    """1 - sigmoid(x) is sigmoid(-x), and so on: relative to each value, however small it is."""
    zero = np.zeros(TAILS.shape)
    x = 0.5 * TAILS
    with np.errstate(over="ignore"):
        below = np.where(x > -30.0, np.log1p(np.exp(-np.abs(x))) + np.maximum(-x, 0.0), -x)
        s, of_minus = 1.0 / (1.0 + np.exp(-x)), 1.0 / (1.0 + np.exp(x))
    close = partial(np.testing.assert_allclose, rtol=1e-13, atol=0.0)
    value, grads = module.dpo_loss(TAILS, zero, zero, zero, beta=0.5, **NONE)
    close(value, below)
    close(grads[0], -0.5 * of_minus)
    close(grads[1], 0.5 * of_minus)
    value, grads = module.simpo_loss(TAILS, zero, beta=0.5, gamma=0.0, **NONE)
    close(value, below)
    close(grads[0], -0.5 * of_minus)
    close(module.cpo_loss(TAILS, zero, beta=0.5, **NONE)[1][1], 0.5 * of_minus)
    value, grads = module.reward_model_loss(x, zero, **NONE)
    close(value, below)
    close(grads[1], of_minus)
    for label, exact in ((1, of_minus), (0, s)):
        value, grad = module.kto_loss(TAILS, zero, np.full(len(x), label), beta=0.5, **NONE)
        close(value, exact)
        close(grad, (0.5 - label) * s * of_minus)
    options = {"beta": 0.5, "loss_type": "apo_zero", **NONE}
    value, grads = module.dpo_loss(TAILS, -TAILS, zero, zero, **options)
    close(value, 2.0 * of_minus)
    close(grads[0], -0.5 * s * of_minus)
    close(grads[1], 0.5 * s * of_minus)
    value, grads = module.dpo_loss(TAILS, -TAILS, zero, zero, **{**options, "loss_type": "bco_pair"})
    close(value, 2.0 * below)
    close(grads[0], -0.5 * of_minus)
    far = np.full(len(x), -1e4)
    value, grads = module.dpo_loss(far, far - TAILS, zero, zero, **{**options, "loss_type": "apo_down"})
    close(value, of_minus)
    close(grads[1], 0.5 * s * of_minus)
    for tau in (0.05, 0.5):
        options |= {"loss_type": "discopop", "discopop_tau": tau}
        value, _ = module.dpo_loss(TAILS, zero, zero, zero, **options)
        with np.errstate(over="ignore"):
            m, rest = 1.0 / (1.0 + np.exp(-x / tau)), 1.0 / (1.0 + np.exp(x / tau))
            last = np.where(x > 0.0, m * np.exp(-x), np.exp((1.0 / tau - 1.0) * np.minimum(x, 0.0)) * rest)
        np.testing.assert_allclose(value, rest * below + last, rtol=1e-12, atol=1e-300)


# The odds ratio

CERTAIN = np.array([0.0, -1e-300, -1e-12, -1e-5, -0.25, -math.log(2.0), -0.7, -3.0, -40.0, -700.0, -1e4])
GRID = np.array(list(itertools.product(CERTAIN, CERTAIN)))[1:].T  # (0, 0) has its own test


@over_dtypes
def test_orpo_from_certain_to_impossible(dtype: str) -> None:
    lc, lr = (a.astype(dtype_named(dtype)).astype(np.float64) for a in GRID)
    is_both = (lc == 0.0) & (lr == 0.0)
    c = of_values(ORPO, *(np.where(is_both, -1.0, a) for a in (lc, lr)), dtype=dtype)
    lc, lr = (a.astype(np.float64) for a in c.arguments.values())
    value, grads = c.run()
    assert bits(value) == bits(c.value())
    assert not np.isnan(value).any() and not any(np.isnan(g.astype(np.float64)).any() for g in grads)
    assert (value[lc == 0.0] == 0.0).all() and (value[(lr == 0.0) & (lc < 0.0)] == INF).all()
    relative = 1e-11 if dtype == "float64" else 3e-7
    subnormal = np.finfo(np.float64).tiny  # exponentials under it are 0
    kind = loss_dtype(dtype)
    bound = relative * np.abs(c.expected[0]) + ulp(0.0, kind) + subnormal
    assert_near(value, c.expected[0], np.nan_to_num(bound, posinf=0.0), kind, c.title)
    for grad, exact in zip(grads, c.expected[1], strict=True):
        bound = relative * np.abs(exact) + ulp(0.0, dtype) + subnormal
        assert_near(grad, exact, np.nan_to_num(bound, posinf=0.0), dtype, c.title)


@over_modules
def test_orpo_by_hand_at_the_ends(module: Any) -> None:
    given = {**NONE, "beta": 1.0}
    odds = math.exp(-2.0) / (1.0 - math.exp(-2.0))
    value, grads = module.orpo_loss([0.0, -0.0], [-2.0, -1e4], **given)
    assert value.tolist() == [0.0, 0.0] and grads[1].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(grads[0], [-odds, 0.0], rtol=1e-14)
    value, grads = module.orpo_loss([-2.0], [0.0], **given)
    assert value[0] == INF and grads[1][0] == INF
    np.testing.assert_allclose(grads[0], [-1.0 / (1.0 - math.exp(-2.0))], rtol=1e-14)
    value, grads = module.orpo_loss([0.0], [0.0], **given)
    assert (value[0], grads[0][0], grads[1][0]) == (0.0, 0.0, 0.0)
    # Odds of all but impossible answers are their probabilities.
    value, grads = module.orpo_loss([-1e4, -9999.0, -1e4], [-9999.0, -1e4, 0.0 - 1e4], **given)
    np.testing.assert_allclose(value, [-ls(-1.0), -ls(1.0), math.log(2)], rtol=1e-13)
    s = np.array([sigmoid(1.0), sigmoid(-1.0), 0.5])
    np.testing.assert_allclose(grads[0], -s, rtol=1e-13)
    np.testing.assert_allclose(grads[1], s, rtol=1e-13)
    # And of all but certain ones 1 over what is missing.
    value, grads = module.orpo_loss([-1e-12], [-2e-12], **given)
    np.testing.assert_allclose(value, math.log1p(0.5), rtol=1e-11)
    np.testing.assert_allclose(grads[0], -1e12 / 3, rtol=1e-11)
    np.testing.assert_allclose(grads[1], 0.5e12 / 3, rtol=1e-11)


def sorted_calls(dtype: str) -> Iterator[Call]:
    rng = np.random.default_rng(4)
    for row, shape, whole in itertools.product(OF_SORTED, ((7,), (3, 4), (50,)), (False, True)):
        arrays = row.make(rng, shape, {}).values()
        if whole:  # ties, many
            arrays = [np.rint(a / 20.0) for a in arrays]
        upstream = rng.uniform(0.5, 2.0, shape) * rng.choice([-1.0, 1.0], shape)
        yield of_values(row, *arrays, dtype=dtype, beta=0.5, label_smoothing=0.1, grad_output=upstream)


@over_dtypes
def test_sorting(dtype: str) -> None:
    """Losses of sorted rows, gradients where the log-probabilities stand; ties in the order they stand in."""
    for p in sorted_calls(dtype):
        p.check()
        for reduction in ("mean", "sum"):
            p.with_(reduction=reduction, grad_output=2.0).check()
        # Step by step, with the pairs as Python sorts them.
        c, r, c0, r0 = (a.astype(np.float64).reshape(-1).tolist() for a in p.arguments.values())
        n = range(len(c))
        is_paired = p.row.fixed["loss_type"] == "aot"
        if is_paired:
            up, down = [c[i] - r[i] for i in n], [c0[i] - r0[i] for i in n]
        else:
            up, down = [c[i] - c0[i] for i in n], [r[i] - r0[i] for i in n]
        first, second = sorted(n, key=up.__getitem__), sorted(n, key=down.__getitem__)
        values, of_c, of_r = [0.0] * len(c), [0.0] * len(c), [0.0] * len(c)
        for k in n:
            x = 0.5 * (up[first[k]] - down[second[k]])
            values[k] = -0.9 * ls(x) - 0.1 * ls(-x)
            slope = 0.5 * (-0.9 * sigmoid(-x) + 0.1 * sigmoid(x)) * p["grad_output"].reshape(-1)[k]
            of_c[first[k]] = slope
            of_r[first[k] if is_paired else second[k]] = -slope
        value, grads = p.run()
        rough = 0.01 if is_half(dtype) else 1e-6
        np.testing.assert_allclose(value.reshape(-1), values, rtol=1e-6)
        for grad, exact in zip(grads, (of_c, of_r), strict=True):
            np.testing.assert_allclose(
                grad.astype(np.float64).reshape(-1), exact, rtol=rough, atol=rough * 0.1
            )


def test_sorting_is_of_all_elements() -> None:
    for row in OF_SORTED:
        c = call(row, (12,), "float64", "none", grad_output="array")
        value, grads = c.moved(lambda a: a.reshape(3, 4)).run()
        assert value.shape == grads[0].shape == (3, 4)
        assert bits(value, grads) == c.bits()
        # A permutation of the pairs permutes the gradients.
        turn = np.random.default_rng(0).permutation(12)
        plain = c.with_(grad_output=None)
        value, grads = plain.run()
        other, moved = plain.moved(lambda a, turn=turn: a[turn]).run()
        assert bits(value) == bits(other)
        assert bits([g[turn] for g in grads]) == bits(moved)


@over([*OF_SORTED])
def test_nan_among_sorted_rows(row: Row) -> None:
    """It is the last of them, and its gradient stands where it does."""
    c = call(row, (9,), "float64", "none")
    for field, name in enumerate(POLICY):
        wrong = np.array(c[name])
        wrong[3] = NAN
        value, grads = c.run(**{name: wrong})
        assert np.isnan(value).tolist() == [False] * 8 + [True]
        assert np.flatnonzero(np.isnan(grads[field])).tolist() == [3]
        assert all(np.isnan(g).sum() == 1 for g in grads)


# Arguments


def test_kinds_of_margins() -> None:
    for dtype in DTYPES:
        p = call(REWARD, (6, 7), dtype, "none")
        for same in (0.5, np.float32(0.5), np.full((6, 7), 0.5), np.full((6, 7), 0.5).tolist()):
            assert p.bits(margin=same) == p.bits(margin=np.full((6, 7), 0.5, dtype_named(dtype)))
        assert p.bits(margin=2) == p.bits(margin=2.0)
        assert p.bits(margin=0.0) == p.bits()


def test_bad_arguments_together() -> None:
    f = partial(fastloss.dpo_loss, [-1.0], [-2.0], [-1.0], [-2.0], loss_type="exo_pair")
    assert "exo_pair" in refused(f, ValueError, "label_smoothing")
    for missing in ("ref_chosen_logps", "ref_rejected_logps"):
        refused(partial(call(DPO, (4, 6)).run, **{missing: None}), EITHER, missing)
    refused(partial(fastloss.dpo_loss, [-1.0], [-2.0]), EITHER, "ref_chosen_logps")


def test_a_bad_log_probability_is_shown() -> None:
    lc = -np.ones((3, 4))
    lr = lc.copy()
    lr[1, 2] = 0.25
    message = refused(partial(fastloss.orpo_loss, lc, lr), ValueError, POLICY[1])
    assert "0.25" in message
    # NaN is no error, and is let through beside others.
    lr[1, 2] = NAN
    assert math.isnan(fastloss.orpo_loss(lc, lr))


def test_options_are_checked_in_every_call() -> None:
    """Also where those of the same value, but of another kind, have been seen before."""
    arrays = call(DPO, (5,)).arguments.values()
    fastloss.dpo_loss(*arrays, beta=1.0, label_smoothing=0.0)
    for bad in ({"beta": True}, {"beta": [0.1]}, {"label_smoothing": False}, {"beta": np.ones(2)}):
        with pytest.raises(TypeError, match=next(iter(bad))):
            fastloss.dpo_loss(*arrays, **bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="loss_type"):
        fastloss.dpo_loss(*arrays, loss_type=["sigmoid"])  # type: ignore[arg-type]


@pytest.mark.parametrize("shapes", [((), (2,)), ((2,), ()), ((2, 1), (2,)), ((2,), (2, 1)), ((2,), (3,))])
def test_plain_calls_refuse_other_shapes(shapes: tuple[Shape, Shape]) -> None:
    first, second = (np.full(shape, -1.0) for shape in shapes)
    for function in (fastloss.simpo_loss, fastloss.cpo_loss):
        with pytest.raises(ValueError, match="policy_rejected_logps must have the shape"):
            function(first, second)
    for place in range(1, 4):
        arrays = [first] * 4
        arrays[place] = second
        with pytest.raises(ValueError, match="must have the shape"):
            fastloss.dpo_loss(*arrays)


def test_plain_calls_need_a_small_stack_only() -> None:
    """Threads may have 128 KiB, as those of musl do."""
    arrays = tuple(call(DPO, (2000,)).arguments.values())
    before = threading.stack_size(128 * 1024)
    try:
        thread = threading.Thread(target=fastloss.dpo_loss, args=arrays, kwargs={"return_grad": True})
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
