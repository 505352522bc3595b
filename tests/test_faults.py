"""Faults that people met in real use: the right value of each, which must stay.

The numbers are those of the formulas, worked out here or by hand.
"""

import ctypes
import itertools
import math
from functools import partial
from typing import Any

import numpy as np
import pytest

import fastloss
from fastloss import _kernels, reference
from fastloss._engine.conversion import cast

INF = math.inf


def of_names(*names: str) -> Any:
    return pytest.mark.parametrize("name", names)


# What a row without weight comes to


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 200])
def test_an_infinite_row_without_weight_is_not_there(classes: int, dtype: type) -> None:
    x = np.full((2, classes), -60.0, dtype)
    x[:, :2] = [[-INF, 0.0], [1.0, 2.0]]
    loss, grad = fastloss.cross_entropy(x, [0, 1], sample_weight=[0, 1], return_grad=True)
    assert abs(loss - 0.31326168751822286) < 1e-7
    assert (grad[0] == 0.0).all() and abs(grad[1, 0] - 0.26894142) < 1e-7
    losses = fastloss.cross_entropy(x, [0, 1], sample_weight=[0, 1], reduction="none")
    assert losses[0] == 0.0
    # As the other losses have it, and NaN stays what it is.
    assert fastloss.nll_loss([[-INF], [-1.0]], [0, 0], sample_weight=[0, 1]) == 1.0
    x[0, 1] = np.nan
    assert math.isnan(fastloss.cross_entropy(x, [0, 1], sample_weight=[0, 1]))


@pytest.mark.parametrize("weight", [[0.0, 0.0], 0.0])
@pytest.mark.parametrize("classes", [2, 200])
def test_no_weight_at_all_is_no_gradient(classes: int, weight: Any) -> None:
    x = np.full((2, classes), -60.0)
    x[:, :2] = [[-INF, 0.0], [1.0, 2.0]]
    for smoothing in (0.0, 0.1):
        options = {"sample_weight": weight, "label_smoothing": smoothing, "return_grad": True}
        x[0, 0] = -INF if smoothing == 0.0 else -1.0
        loss, grad = fastloss.cross_entropy(x, [0, 1], **options)
        assert math.isnan(loss) and (grad == 0.0).all()
        assert (reference.cross_entropy(x, [0, 1], **options)[1] == 0.0).all()
    given: dict[str, Any] = {"sample_weight": [0, 1], "reduction": "sum", "return_grad": True}
    for upstream in (INF, math.nan):
        _, grad = fastloss.cross_entropy(x, [0, 1], **given, grad_output=upstream)
        assert (grad[0] == 0.0).all() and not np.isfinite(grad[1, :2]).any()
    zero = np.zeros(classes)
    _, grad, hessian = fastloss.cross_entropy(x, [0, 1], weight=zero, return_grad=True, return_hessian=True)
    assert (grad == 0.0).all() and (hessian == 0.0).all()


@pytest.mark.parametrize("budget", [None, 1])
def test_an_infinite_token_without_weight_is_not_there(budget: int | None) -> None:
    """Of a linear layer, also in bands of classes."""
    hidden = np.array([[3e38, 0.0], [0.0, 1.0]], np.float32)
    layer = np.zeros((300, 2), np.float32)
    layer[0, 0], layer[1, 1] = -3.0, 1.0  # logits of -9e38 and 1
    options = {"sample_weight": [0.0, 1.0], "memory_budget": budget, "return_grad": True}
    loss, grad = fastloss.linear_cross_entropy(hidden, layer, [0, 1], **options)
    expected = math.log(299 + math.e) - 1.0
    assert abs(loss - expected) < 1e-6
    assert (grad.input[0] == 0.0).all() and np.isfinite(grad.linear_weight).all()
    options["sample_weight"] = [0.0, 0.0]
    loss, grad = fastloss.linear_cross_entropy(hidden, layer, [0, 1], **options)
    assert math.isnan(loss) and not grad.input.any() and not grad.linear_weight.any()


def test_weights_that_add_up_to_nothing_divide_by_it() -> None:
    """As in torch: an infinity, where the sum is not 0."""
    x, weight = np.array([[1.0, 2.0], [3.0, 4.0]]), [1.0, -1.0]
    assert fastloss.cross_entropy(x, [0, 1], weight=weight) == INF
    assert fastloss.cross_entropy(x, [1, 0], weight=[-1.0, 1.0]) == -INF
    assert fastloss.nll_loss(-x, [0, 1], weight=weight) == -INF
    assert fastloss.mse_loss([1.0, 2.0], [0.0, 4.0], weight=weight) == -INF
    layer = np.eye(2)
    assert fastloss.linear_cross_entropy(x, layer, [0, 1], weight=weight) == INF
    loss, grad = fastloss.mse_loss([1.0, 2.0], [0.0, 4.0], weight=[0.0, 0.0], return_grad=True)
    assert math.isnan(loss) and not grad.any()


@of_names("mse_loss", "binary_cross_entropy_with_logits", "hinge_loss", "poisson_nll_loss")
def test_an_element_without_weight_has_no_gradient_whatever_comes_in(name: str) -> None:
    given = {"weight": [0.0, 1.0], "reduction": "none", "grad_output": [INF, INF], "return_grad": True}
    _, grad = getattr(fastloss, name)([0.5, 2.0], [1.0, 1.0], **given)
    assert grad[0] == 0.0


# Types


def test_the_bits_of_bfloat16_are_never_taken_for_numbers() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((4, 6)).astype(np.float32)
    bits = cast(values, _kernels.BFLOAT16_BITS)
    rounded = cast(bits, np.float32)
    assert abs(rounded - values).max() < 2**-8 * abs(values).max()
    for dtype in (np.float16, np.float32, np.float64):
        assert (cast(bits, dtype) == rounded.astype(dtype)).all()
        again = cast(cast(values.astype(dtype), bits.dtype), np.float32)
        assert abs(again - values).max() < 2**-8 * abs(values).max()
    assert (cast(np.array([True, False]), bits.dtype)["bfloat16"] == [0x3F80, 0]).all()
    assert (cast(np.array([1, 3]), bits.dtype)["bfloat16"] == [0x3F80, 0x4040]).all()
    other = rng.standard_normal((4, 6))
    labels = values > 0
    q = fastloss.softmax(other)

    def near(found: float, expected: float) -> None:
        assert abs(found - expected) < 0.02 * abs(expected)

    near(fastloss.sigmoid_focal_loss(bits, labels), fastloss.sigmoid_focal_loss(rounded, labels))
    near(fastloss.sigmoid_focal_loss(bits, labels.astype(int)), fastloss.sigmoid_focal_loss(rounded, labels))
    near(fastloss.kl_div_with_logits(bits, other), fastloss.kl_div_with_logits(rounded, other))
    near(fastloss.kl_div_with_logits(other, bits), fastloss.kl_div_with_logits(other, rounded))
    near(fastloss.cross_entropy(bits, q, z_loss=1e-4), fastloss.cross_entropy(rounded, q, z_loss=1e-4))
    q_bits = cast(q, bits.dtype)
    near(fastloss.cross_entropy(other, q_bits, z_loss=1e-4), fastloss.cross_entropy(other, q))
    layer, layer_bits = np.float32(np.eye(6)), cast(np.eye(6), bits.dtype)
    near(fastloss.linear_cross_entropy(bits, layer_bits, q), fastloss.linear_cross_entropy(rounded, layer, q))
    ones = np.ones((4, 6), np.uint16)
    near(fastloss.mse_loss(bits, other, weight=ones), fastloss.mse_loss(rounded, other))
    near(fastloss.dpo_loss(bits, other, bits, bits), fastloss.dpo_loss(rounded, other, rounded, rounded))
    _, grad = fastloss.simpo_loss(bits, other, return_grad=True)
    _, expected = fastloss.simpo_loss(rounded, other, return_grad=True)
    assert abs(cast(grad[0], np.float32) - expected[0]).max() < 0.01 * abs(expected[0]).max()
    mask = cast(np.ones(4), bits.dtype)
    near(fastloss.kl_div_with_logits(other, values, mask=mask), fastloss.kl_div_with_logits(other, values))


@pytest.mark.parametrize("as_given", [float, np.float64, np.float32, np.float16])
def test_options_are_not_rounded_to_half_types(as_given: type) -> None:
    x, option = np.array([1.5, -0.5], np.float16), as_given(0.3)
    exact = float(option) * np.log1p(np.exp(-np.float64(x))).mean()
    for given in (option, np.array(option), np.array([option] * 2)):
        found = fastloss.binary_cross_entropy_with_logits(x, np.float16([1, 1]), pos_weight=given)
        assert abs(found - exact) < 1e-7
    rewards = np.zeros(1, np.float16)
    for margin in (option, np.array([option])):
        found = fastloss.reward_model_loss(rewards, rewards, margin=margin)
        assert abs(found - math.log1p(math.exp(float(option)))) < 1e-9
    found = fastloss.huber_loss(np.float16([2.0]), np.float16([0.0]), delta=option)
    assert abs(found - float(option) * (2.0 - 0.5 * float(option))) < 1e-6


def test_masked_arrays_are_refused_or_whole() -> None:
    plain, masked = np.ma.array([[1.0, 2.0]]), np.ma.array([[1.0, 2.0]], mask=[[False, True]])
    target, hidden = np.array([1]), np.ma.array([1], mask=[True])
    assert fastloss.cross_entropy(plain, target) == fastloss.cross_entropy(plain.data, target)
    calls = [
        lambda: fastloss.cross_entropy(masked, target),
        lambda: fastloss.cross_entropy([masked[0]], target),
        lambda: fastloss.cross_entropy(plain, hidden),
        lambda: fastloss.cross_entropy(plain, target, weight=masked[0]),
        lambda: fastloss.cross_entropy(plain, target, sample_weight=hidden),
        lambda: fastloss.cross_entropy(plain, target, return_grad=True, grad_output=hidden, reduction="none"),
        lambda: fastloss.nll_loss(plain, hidden),
        lambda: fastloss.mse_loss(masked, plain),
        lambda: fastloss.mse_loss(plain, masked),
        lambda: fastloss.mse_loss(plain, plain, weight=masked),
        lambda: fastloss.l2_penalty(masked, 1.0),
        lambda: fastloss.ppo_loss(plain, plain, plain, mask=masked),
        lambda: fastloss.kl_div_with_logits(plain, plain, mask=hidden),
        lambda: fastloss.dpo_loss(plain, masked, plain, plain),
        lambda: fastloss.sequence_log_probs([plain], [[1]], lengths=hidden),
        lambda: fastloss.linear_cross_entropy(masked, np.eye(2), target),
        lambda: fastloss.perplexity(plain, hidden),
        lambda: fastloss.softmax(masked),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="must not have masked elements"):
            call()
    with pytest.raises(TypeError, match="out must be a NumPy array"):
        fastloss.mse_loss(np.ones(2), np.ones(2), return_grad=True, out=np.ma.zeros(2))


def test_conversions_are_silent() -> None:
    """Whatever the program has told NumPy to do about overflow."""
    huge = np.array([[1e300, 1.0], [1e-300, 2.0]])
    x, layer = np.array([[0.5, 1.0], [2.0, 3.0]], np.float32), np.eye(2, dtype=np.float32)
    with np.errstate(all="raise"):
        assert fastloss.mse_loss(x, huge) == INF
        fastloss.mse_loss(x, x, weight=huge, return_grad=True)
        fastloss.cross_entropy(x, huge, label_smoothing=0.1)
        fastloss.cross_entropy(x, [0, 1], weight=huge[0], sample_weight=huge[1], return_grad=True)
        fastloss.cross_entropy(x, [0, 1], reduction="none", return_grad=True, grad_output=huge[0])
        fastloss.linear_cross_entropy(x, layer, [0, 1], sample_weight=huge[0], return_grad=True)
        fastloss.linear_cross_entropy(x, layer, huge, return_grad=True)
        fastloss.kl_div_with_logits(x, huge, return_grad=True, teacher_grad=True)
        fastloss.binary_cross_entropy_with_logits(x, np.ones((2, 2)), pos_weight=huge, return_grad=True)
        fastloss.multilabel_soft_margin_loss(x, np.ones((2, 2)), weight=huge[0], return_grad=True)
        fastloss.gaussian_nll_loss(x, huge, huge, return_grad=True)
        fastloss.dpo_loss(x, huge, huge, x, return_grad=True)
        fastloss.kto_loss(x, huge, [[0, 1], [1, 0]], return_grad=True)
        fastloss.reward_model_loss(x, huge, margin=huge, return_grad=True)
        fastloss.ppo_loss(x, huge, huge, return_grad=True)
        fastloss.grpo_loss(x, huge, huge[0], return_grad=True)
        fastloss.value_loss(x, huge, huge, return_grad=True)
        fastloss.kl_penalty(x, huge, return_grad=True)
        fastloss.token_log_probs(huge * [[1e5, 1.0]], [0, 1], return_grad=True)
        fastloss.entropy(huge, return_grad=True)
        assert fastloss.softmax(np.float16([[6e4, 1.0]])).sum() == 1.0
        fastloss.l2_penalty(huge, 1e300, return_grad=True)


# Range


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("power", [-10.0, -1.0, 0.0, 2.5, 3.0, 10.0])
def test_tweedie_far_out(power: float) -> None:
    x = np.array([-800.0, -80.0, 0.0, 80.0, 800.0])
    for t in (0.5, 1e30, 1e-30):
        if t < 1.0 and power < 0:
            continue
        loss, grad, hessian = fastloss.tweedie_nll_loss(
            x, np.full(5, t), power=power, reduction="none", return_grad=True, return_hessian=True,
            grad_output=np.ones(5),
        )  # fmt: skip
        assert not np.isnan([loss, grad, hessian]).any()
        with np.errstate(over="ignore", under="ignore"):
            e = np.exp(np.longdouble(x))
            p, q = e ** (2 - power), t * e ** (1 - power)
            exact = [p / (2 - power) - q / (1 - power), p - q, (2 - power) * p - (1 - power) * q]
            for found, right in zip((loss, grad, hessian), exact, strict=True):
                np.testing.assert_allclose(found, right.astype(np.float64), rtol=1e-12, atol=1e-300)


@pytest.mark.usefixtures("isa")
def test_products_with_exponentials_that_overflow() -> None:
    """The product is finite, or not yet nothing."""
    for x, t in ((-89.0, 0.01), (-100.0, 1e-30), (-170.0, 2e-38), (95.0, 3e38), (120.0, 3e38)):
        loss, grad = fastloss.gamma_nll_loss(np.float32([x]), np.float32([t]), return_grad=True)
        exact = float(np.float32(t)) * math.exp(-x)
        assert loss == pytest.approx(x + exact, rel=1e-6)
        assert grad[0] == pytest.approx(1.0 - exact, rel=1e-6)
    loss = fastloss.gamma_nll_loss(np.float64([-750.0]), [1e-50])
    assert loss == pytest.approx(-750.0 + math.exp(750.0 - 50.0 * math.log(10.0)), rel=1e-12)
    # A clipped ratio of e^720 that an advantage makes small.
    loss = fastloss.ppo_loss([720.0], [0.0], [-1e-300])
    assert loss == pytest.approx(math.exp(720.0 - 300.0 * math.log(10.0)), rel=1e-12)


@pytest.mark.usefixtures("isa")
def test_poisson_of_huge_counts() -> None:
    for dtype, t in ((np.float32, 3e38), (np.float64, 1e308)):
        log_t = math.log(float(dtype(t)))
        for away in (-0.6, -0.1, 0.0, 0.1):
            x = dtype(log_t + away)
            loss = fastloss.poisson_nll_loss([x], dtype([t]), full=True)
            # e^x = t e^d, so that the loss is t (e^d - d - 1) + log(2 pi t) / 2, with d as it is rounded.
            d = float(x) - log_t
            exact = float(dtype(t)) * (math.expm1(d) - d) + 0.5 * (math.log(2.0 * math.pi) + log_t)
            if dtype is np.float64:
                assert loss == pytest.approx(exact, rel=1e-10, abs=2e-13 * t)
            else:
                loss = fastloss.poisson_nll_loss(np.array([x]), dtype([t]), full=True)
                assert loss == pytest.approx(exact, rel=1e-4, abs=2e-5 * t)
    x, t = np.float32([0.0, 3.0]), np.float32([0.7, 5.0])
    both = (m.poisson_nll_loss(x, t, full=True, reduction="none") for m in (fastloss, reference))
    np.testing.assert_allclose(*both, rtol=1e-6)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("temperature", [5e-324, 1e-310, 1e-308])
@pytest.mark.parametrize("classes", [3, 100])
def test_tiny_temperatures(classes: int, temperature: float) -> None:
    """The largest logit has all of the probability."""
    x = np.zeros((1, classes))
    x[0, 1] = 3.0
    for dtype in (np.float32, np.float64):
        logits = x.astype(dtype)
        for options in ({}, {"label_smoothing": 0.0, "softcap": 50.0}):
            given: Any = {"temperature": temperature, "return_grad": True, **options}
            loss, grad = fastloss.cross_entropy(logits, [1], **given)
            assert loss == 0.0 and not grad.any()
        assert fastloss.cross_entropy(logits, [0], temperature=temperature) == INF
        for function, arguments in (
            (fastloss.token_log_probs, (logits, [1])),
            (fastloss.sequence_log_probs, (logits[None], [[1]])),
            (fastloss.entropy, (logits,)),
        ):
            value, grad = function(*arguments, temperature=temperature, return_grad=True)
            assert value[0] == 0.0 and not grad.any()
        for name in ("kl_div_with_logits", "js_div_with_logits", "tv_distance_with_logits"):
            value, grad = getattr(fastloss, name)(logits, logits, temperature=temperature, return_grad=True)
            assert value == 0.0 and not grad.any()


# Buffers


def test_each_gradient_in_place_of_its_own_argument() -> None:
    x, var, t = np.array([1.0, 2.0, 3.0]), np.array([0.5, 3.0, 1.0]), np.zeros(3)
    expected = fastloss.gaussian_nll_loss(x, t, var, return_grad=True)
    for n in (3, 70_000):
        values, variances = np.resize(x, n), np.resize(var, n)
        given: Any = {"return_grad": True, "out": (values, variances), "reduction": "sum"}
        _, grad = fastloss.gaussian_nll_loss(values, np.zeros(n), variances, **given)
        assert grad.input is values and grad.var is variances
        np.testing.assert_allclose(values, np.resize(expected[1].input * 3, n), rtol=1e-15)
        np.testing.assert_allclose(variances, np.resize(expected[1].var * 3, n), rtol=1e-15)
    pairs = np.array([-1.0, -2.0]), np.array([-3.0, -0.5])
    expected = fastloss.simpo_loss(*pairs, return_grad=True)
    _, grad = fastloss.simpo_loss(*pairs, return_grad=True, out=pairs)
    assert grad[0] is pairs[0] and (pairs[1] == expected[1][1]).all()


def test_accumulate_for_each_buffer() -> None:
    rng = np.random.default_rng(0)
    hidden, layer = rng.standard_normal((6, 3)), rng.standard_normal((9, 3))
    bias, target = rng.standard_normal(9), np.arange(6)
    whole = fastloss.linear_cross_entropy(hidden, layer, target, linear_bias=bias, return_grad=True)[1]
    for budget in (None, 1):
        parts = np.full_like(hidden, 7.0), np.zeros_like(layer), np.zeros(9)
        for rows in (slice(0, 2), slice(2, 6)):
            fastloss.linear_cross_entropy(
                hidden[rows], layer, target[rows], linear_bias=bias, reduction="sum", return_grad=True,
                grad_output=1 / 6, out=(parts[0][rows], parts[1], parts[2]), memory_budget=budget,
                accumulate=(False, True, True),
            )  # fmt: skip
        for found, expected in zip(parts, whole, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)

    x, t = rng.standard_normal((2, 4, 5))
    both = {"teacher_grad": True}
    masked = {**both, "mask": [1, 0, 1, 1]}
    cases: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("kl_div_with_logits", (), both),
        ("kl_div_with_logits", (), masked),
        ("js_div_with_logits", (), both),
        ("js_div_with_logits", (), masked),
        ("js_div_with_logits", (), {**both, "beta": 1.0}),
        ("tv_distance_with_logits", (), both),
        ("tv_distance_with_logits", (), masked),
        ("gaussian_nll_loss", (np.exp(t),), {}),
        ("dpo_loss", (), {"reference_free": True}),
    ]
    for name, more, options in cases:
        run = partial(getattr(fastloss, name), x, t, *more, return_grad=True, **options)
        expected = run()[1]
        for flags in itertools.product((False, True), repeat=2):
            out = np.full_like(x, 2.0), np.full_like(t, 3.0)
            run(out=out, accumulate=flags)
            for found, exact, start, adds in zip(out, expected, (2.0, 3.0), flags, strict=True):
                title = f"{name} {options} {flags}"
                np.testing.assert_allclose(found, exact + start * adds, rtol=2.0**-52 * adds, err_msg=title)
    for bad in ((True,), (True, False, True), (True, 1)):
        with pytest.raises(TypeError, match="accumulate"):
            fastloss.simpo_loss(x, t, return_grad=True, out=(None, None), accumulate=bad)
    with pytest.raises(TypeError, match="accumulate"):
        fastloss.mse_loss(x, t, return_grad=True, out=x.copy(), accumulate=(True,))
    with pytest.raises(ValueError, match="accumulate=True needs out"):
        fastloss.simpo_loss(x, t, return_grad=True, accumulate=(False, True))


class ByBuffer:
    """An array by the buffer protocol alone."""

    def __init__(self, count: int) -> None:
        self.room = (ctypes.c_int64 * (count * 4))()
        self.target = (ctypes.c_int64 * count).from_buffer(self.room)
        self.out = np.frombuffer(self.room, np.float64).reshape(count, 4)


@of_names("cross_entropy", "nll_loss", "multi_margin_loss", "token_log_probs", "sequence_log_probs")
def test_out_over_a_target_that_is_no_array(name: str) -> None:
    lent = ByBuffer(3)
    x: Any = np.zeros((3, 4))
    target: Any = lent.target
    out = lent.out
    if name == "sequence_log_probs":
        x, out, target = x[None], out[None], np.frombuffer(lent.target, np.int64)[None].data
    with pytest.raises(ValueError, match="out must not overlap an input"):
        getattr(fastloss, name)(x, target, return_grad=True, out=out)
    assert not any(lent.room)


def test_out_over_other_arguments_that_are_no_arrays() -> None:
    room = (ctypes.c_double * 8)()
    out = np.frombuffer(room)[:4].reshape(2, 2)
    lent = (ctypes.c_double * 2).from_buffer(room)
    x = np.zeros((2, 2))
    for arguments in ({"weight": lent}, {"sample_weight": lent}, {"grad_output": lent, "reduction": "none"}):
        with pytest.raises(ValueError, match="overlap"):
            fastloss.cross_entropy(x, [0, 1], return_grad=True, out=out, **arguments)
    square = (ctypes.c_double * 2 * 2).from_buffer(room)
    for name, more in (("mse_loss", ()), ("kl_div_with_logits", ()), ("ppo_loss", (x,))):
        with pytest.raises(ValueError, match="overlap"):
            getattr(fastloss, name)(x, square, *more, return_grad=True, out=out)
    # In place of what comes so is in place.
    square[0][0] = 3.0
    _, grad = fastloss.mse_loss(square, x, return_grad=True, out=out, reduction="sum")
    assert grad is out and out[0, 0] == 6.0


class Changing:
    """An object that hands out other memory each time."""

    def __init__(self, *arrays: np.ndarray) -> None:
        self.arrays = list(arrays)
        self.asked = 0

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        self.asked += 1
        return self.arrays.pop(0) if len(self.arrays) > 1 else self.arrays[0]


def test_arguments_are_asked_for_once() -> None:
    room = np.zeros(12, np.int64)
    out = room.view(np.float64).reshape(3, 4)
    elsewhere = np.zeros(3, np.int64)
    target = Changing(room[:3], elsewhere)
    with pytest.raises(ValueError, match="overlap"):
        fastloss.cross_entropy(np.zeros((3, 4)), target, return_grad=True, out=out)
    assert target.asked == 1
    other = Changing(out, out.copy())
    with pytest.raises(ValueError, match="overlap"):
        fastloss.mse_loss(np.ones((3, 4)), other, return_grad=True, out=out)
    assert other.asked == 1
    for name, arguments in (
        ("dpo_loss", 4), ("simpo_loss", 2), ("ppo_loss", 3), ("kl_div_with_logits", 2), ("huber_loss", 2)
    ):  # fmt: skip
        given = [Changing(np.ones((2, 3))) for _ in range(arguments)]
        getattr(fastloss, name)(*given, return_grad=True)
        assert [one.asked for one in given] == [1] * arguments, name


# What errors say


def message(kind: type[Exception], call: Any) -> str:
    with pytest.raises(kind) as info:
        call()
    return str(info.value)


def test_errors_name_the_way() -> None:
    x, labels = np.zeros((2, 5, 4)), np.zeros((2, 4), int)
    ask = "classes on axis 1? pass axis=1"
    assert ask in message(ValueError, lambda: fastloss.cross_entropy(x, labels))
    assert ask in message(ValueError, lambda: fastloss.nll_loss(x, labels))
    assert ask in message(ValueError, lambda: fastloss.cross_entropy(x, labels.astype(float)))
    assert "axis=1" not in message(ValueError, lambda: fastloss.cross_entropy(x, labels[:1]))
    assert fastloss.cross_entropy(x, labels, axis=1) == pytest.approx(math.log(5))
    one_hot = np.eye(3, dtype=int)
    assert "astype" in message(ValueError, lambda: fastloss.cross_entropy(one_hot * 1.0, one_hot))
    line = message(ValueError, lambda: fastloss.cross_entropy(np.zeros(3), np.zeros(3, int)))
    assert "binary_cross_entropy_with_logits" in line
    assert "astype(np.int64)" in message(ValueError, lambda: fastloss.cross_entropy(one_hot, np.zeros(3)))
    assert "astype(np.int64)" in message(TypeError, lambda: fastloss.nll_loss(one_hot, np.zeros(3)))
    into = partial(fastloss.mse_loss, [1, 2], [1, 2], return_grad=True, out=np.zeros(2, int))
    text = message(TypeError, into)
    assert "dtype of the gradient, float64; got int64" in text
    text = message(ValueError, lambda: fastloss.tweedie_nll_loss([1.0], [1.0], power=math.nan))
    assert text == "power must be finite, got nan"
    for bad in (10**400, -(10**400)):
        text = message(ValueError, lambda bad=bad: fastloss.huber_loss([1.0], [1.0], delta=bad))
        assert text == "delta must be finite, got an integer beyond the range of float64"
    assert "reference_free=True" in message(ValueError, lambda: fastloss.dpo_loss([1.0], [1.0]))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "NoneType"),
        ({}, "dict"),
        ((i for i in range(3)), "generator"),
        ([None, 1.0], "list with elements that are no numbers"),
        (np.array([None, 1.0]), "an array of objects"),
        (object(), "object"),
    ],
)
def test_errors_name_the_type(value: Any, name: str) -> None:
    for call in (
        lambda: fastloss.cross_entropy(value, [0]),
        lambda: fastloss.cross_entropy([[1.0, 2.0]], value),
        lambda: fastloss.mse_loss([1.0, 2.0], value),
        lambda: fastloss.softmax(value),
        lambda: fastloss.Perplexity().update(value, [0]),
    ):
        assert f"must be an array of numbers, got {name}" in message(TypeError, call)


def test_errors_for_what_other_libraries_have() -> None:
    """Errors of their own, of any class, become ours, which names the argument."""

    class StrangeError(TypeError):
        def __init__(self, tracer: Any) -> None:
            super().__init__(tracer._repr())

    class Traced:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            raise StrangeError(self)

        def _repr(self) -> str:
            return "no values"

    class Tensor(Traced):
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            raise RuntimeError("requires grad")

    Tensor.__module__ = "torch"
    Traced.__module__ = "jax.interpreters"
    text = message(TypeError, lambda: fastloss.cross_entropy(Traced(), [0]))
    assert text.startswith("logits must be an array of numbers, got jax.interpreters.") and "jax.jit" in text
    text = message(TypeError, lambda: fastloss.mse_loss([1.0], Tensor()))
    assert text.startswith("target must be an array of numbers, got torch.") and "detach" in text

    class Full:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            raise MemoryError

    with pytest.raises(MemoryError):
        fastloss.softmax(Full())


def test_sequences_leave_out_what_is_ignored() -> None:
    x = np.random.default_rng(0).standard_normal((2, 4, 5))
    x[0, 3] = x[1, 0] = np.nan
    target = np.array([[1, 2, 3, -100], [-100, 0, 4, 2]])
    found, grad = fastloss.sequence_log_probs(x, target, return_grad=True, average=True)
    mask = target != -100
    held = np.where(mask, target, 0)
    expected, by_mask = fastloss.sequence_log_probs(x, held, mask=mask, return_grad=True, average=True)
    assert (found == expected).all() and (grad == by_mask).all()
    expected = fastloss.sequence_log_probs(x, target, ignore_index=-100, lengths=[3, 4], average=True)
    assert (found == expected).all()
    np.testing.assert_allclose(found, reference.sequence_log_probs(x, target, average=True), rtol=1e-14)


@of_names("label_smoothing", "z_loss", "softcap", "temperature")
def test_options_have_one_range(name: str) -> None:
    x = np.zeros((1, 2))
    bad = {"label_smoothing": 2.0, "z_loss": -1.0, "softcap": 0.0, "temperature": 0.0}[name]
    calls = [partial(fastloss.cross_entropy, x, [0]), partial(fastloss.linear_cross_entropy, x, x, [0])]
    if name in ("softcap", "temperature"):
        calls.append(partial(fastloss.linear_token_log_probs, x, x, [0]))
    if name == "temperature":
        calls.append(partial(fastloss.token_log_probs, x, [0]))
        calls.append(partial(fastloss.sequence_log_probs, x[None], [[0]]))
        calls.append(partial(fastloss.entropy, x))
        calls.append(partial(fastloss.kl_div_with_logits, x, x))
    texts = {message(ValueError, partial(call, **{name: bad})) for call in calls}
    assert len(texts) == 1 and texts.pop().startswith(f"{name} must be ")
