"""Extremes: masked classes, NaN, infinities, offsets, the ends of the range, confident rows."""

import math

import ml_dtypes
import mpmath
import numpy as np
import pytest
from helpers import bits, each
from numpy.testing import assert_allclose, assert_array_equal

import fastloss
from fastloss import reference

pytestmark = pytest.mark.usefixtures("isa")

INF = math.inf
NAN = math.nan

DTYPES = [
    pytest.param(np.dtype(kind), id=np.dtype(kind).name)
    for kind in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)
]
FULL_DTYPES = DTYPES[:2]
# A row to a vector lane up to 64 classes, then in blocks of 2048.
CLASSES = [3, 64, 65, 2500]
OPTIONS = {
    "plain": {},
    "smoothing": {"label_smoothing": 0.1},
    "z_loss": {"z_loss": 1e-3},
    "softcap": {"softcap": 20.0},
    "temperature": {"temperature": 0.7},
    "all": {"label_smoothing": 0.1, "z_loss": 1e-3, "softcap": 20.0, "temperature": 0.7},
}
EACH_OPTION = [pytest.param(options, id=name) for name, options in OPTIONS.items()]


def loss_bound(expected, dtype):
    """What the README promises: float64 1e-14; else 2 ulp of float32, or 1e-6 near 0."""
    expected = np.abs(np.asarray(expected, dtype=np.float64))
    if dtype == np.float64:
        return 1e-14 * np.maximum(expected, 1.0)
    with np.errstate(over="ignore"):
        return np.maximum(2.0 * np.spacing(expected.astype(np.float32)).astype(np.float64), 1e-6)


def assert_loss(actual, expected, dtype):
    actual = np.asarray(actual, dtype=np.float64)
    expected = np.asarray(expected, dtype=np.float64)
    assert actual.shape == expected.shape
    special = ~np.isfinite(expected)
    assert_array_equal(actual[special], expected[special])
    difference = np.abs(actual[~special] - expected[~special])
    assert np.all(difference <= loss_bound(expected[~special], dtype)), difference.max()


def assert_grad(actual, expected, dtype, scale=0.0):
    """Within 4e-7 (float64: 1e-14) of the row's largest; half types are rounded once beside it.

    Of probabilities `scale` is the size of the terms whose difference the gradient is.
    """
    assert actual.dtype == dtype
    actual = actual.astype(np.float64)
    assert_array_equal(np.isnan(actual), np.isnan(expected))
    largest = np.abs(expected).max(axis=-1, keepdims=True)
    bound = (1e-14 if dtype == np.float64 else 4e-7) * largest + 1e-15 * scale
    if dtype.itemsize == 2:
        info = ml_dtypes.finfo(dtype)
        half_ulp = np.maximum(np.abs(expected) * float(info.eps), float(info.smallest_subnormal))
        bound = bound + half_ulp / 2.0
    bad = np.abs(actual - expected) > bound
    assert not np.any(bad), np.abs(actual - expected)[bad].max()


def random_rows(rows, classes, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x = (3.0 * rng.standard_normal((rows, classes))).astype(dtype)
    return x, rng.integers(0, classes, rows), rng


def both(x, target, **options):
    return fastloss.cross_entropy(x, target, reduction="none", return_grad=True, **options)


def expected_of(x, target, **options):
    return reference.cross_entropy(x, target, reduction="none", return_grad=True, **options)


# Masked classes


@pytest.mark.parametrize("dtype", DTYPES)
@each("classes", CLASSES)
@pytest.mark.parametrize(
    "options", [param for param in EACH_OPTION if "label_smoothing" not in param.values[0]]
)
def test_masked_classes(options, classes, dtype):
    x, target, rng = random_rows(20, classes, dtype)
    masked = rng.random(x.shape) < 0.4
    masked[np.arange(20), target] = False
    x[masked] = -INF
    loss, grad = both(x, target, **options)
    expected, expected_grad = expected_of(x, target, **options)
    assert np.all(np.isfinite(expected))
    assert_loss(loss, expected, dtype)
    assert_grad(grad, expected_grad, dtype)
    assert np.all(grad[masked] == 0)
    assert np.all(fastloss.softmax(x)[masked] == 0)
    assert np.all(fastloss.log_softmax(x)[masked] == -INF)
    assert_loss(fastloss.logsumexp(x), reference.logsumexp(x), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@each("classes", CLASSES)
def test_all_but_the_target_masked(classes, dtype):
    """Nothing is left to choose: loss and gradient are exactly 0."""
    x = np.full((5, classes), -INF, dtype)
    target = np.arange(5) % classes
    x[np.arange(5), target] = np.array([0.0, -3.0, 1e4, -1e4, 5.0], dtype)
    loss, grad = both(x, target)
    assert_array_equal(loss, np.zeros(5))
    assert np.all(grad == 0)
    assert_array_equal(fastloss.logsumexp(x), x[np.arange(5), target].astype(loss.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@each("classes", CLASSES)
@pytest.mark.parametrize("options", EACH_OPTION)
def test_masked_target(options, classes, dtype):
    """It cannot happen: infinite loss, and a gradient that would raise it again (-1 unscaled)."""
    x, target, _ = random_rows(6, classes, dtype)
    x[np.arange(6), target] = -INF
    loss, grad = both(x, target, **options)
    assert_array_equal(loss, np.full(6, INF))
    assert not np.any(np.isnan(grad.astype(np.float64)))
    if not options:
        assert_array_equal(grad[np.arange(6), target].astype(np.float64), np.full(6, -1.0))
        assert_grad(grad, expected_of(x, target)[1], dtype)
    assert fastloss.cross_entropy(x, target, **options) == INF


@pytest.mark.parametrize("dtype", DTYPES)
@each("classes", CLASSES)
@pytest.mark.parametrize("options", EACH_OPTION)
def test_smoothing_over_a_masked_class(options, classes, dtype):
    """Smoothing gives it probability, so the loss is infinite; weight 0 takes it away again."""
    x, target, _ = random_rows(8, classes, dtype)
    target[:] = 0
    x[:, 1] = -INF
    smooth = {**options, "label_smoothing": 0.1}
    loss, grad = both(x, target, **smooth)
    assert_array_equal(loss, np.full(8, INF))
    assert np.all(grad[:, 1] == 0)

    weight = np.ones(classes)
    weight[1] = 0.0
    loss, grad = both(x, target, weight=weight, **smooth)
    expected, expected_grad = expected_of(x, target, weight=weight, **smooth)
    assert np.all(np.isfinite(expected))
    assert_loss(loss, expected, dtype)
    assert_grad(grad, expected_grad, dtype)
    assert np.all(grad[:, 1] == 0)


@pytest.mark.parametrize("dtype", DTYPES)
@each("classes", CLASSES)
@pytest.mark.parametrize("options", [{}, {"z_loss": 1e-3}, {"softcap": 20.0}, {"weight": True}])
def test_no_probability_at_a_masked_class(options, classes, dtype):
    """0 * log 0 = 0: probability 0 at -inf adds nothing, and has gradient 0."""
    x, _, rng = random_rows(10, classes, dtype)
    q = rng.random(x.shape)
    masked = rng.random(x.shape) < 0.4
    masked[:, 0] = False
    q[masked] = 0.0
    q = (q / q.sum(axis=-1, keepdims=True)).astype(dtype)
    x[masked] = -INF
    if "weight" in options:
        options = {"weight": rng.uniform(0.5, 2.0, classes)}
    loss, grad = both(x, q, **options)
    expected, expected_grad = expected_of(x, q, **options)
    assert np.all(np.isfinite(expected))
    assert_loss(loss, expected, dtype)
    assert_grad(grad, expected_grad, dtype, scale=2.0)
    assert np.all(grad[masked] == 0)


@pytest.mark.parametrize("dtype", DTYPES)
@each("classes", CLASSES)
def test_probability_at_a_masked_class(classes, dtype):
    x, _, _ = random_rows(3, classes, dtype)
    x[:, 1] = -INF
    loss, grad = both(x, np.full(x.shape, 1.0 / classes).astype(dtype))
    assert_array_equal(loss, np.full(3, INF))
    assert np.all(grad[:, 1] == 0)


# Rows without an answer

# What is put into a row, and its log-sum-exp (as in torch and SciPy). Every loss is NaN, but that a
# softcap makes a number of +inf.
BROKEN_ROWS = {
    "nan": ([NAN], NAN),
    "nan-and-infinity": ([INF, NAN], NAN),
    "nan-and-minus-infinity": ([-INF, NAN], NAN),
    "infinity": ([INF], INF),
    "infinities": ([INF, INF], INF),
    "both-infinities": ([INF, -INF], INF),
    "all-masked": (None, -INF),
}


@pytest.mark.parametrize("dtype", DTYPES)
@each("classes", CLASSES)
@pytest.mark.parametrize("options", EACH_OPTION)
def test_broken_rows_alone_are_nan(options, classes, dtype):
    """Broken rows among whole ones, some in the same vector: these do not change in any bit."""
    x, target, _ = random_rows(4 * len(BROKEN_ROWS), classes, dtype)
    whole, whole_grad = both(x, target, **options)
    before = {name: getattr(fastloss, name)(x) for name in ("softmax", "log_softmax", "logsumexp")}
    broken = {name: 4 * i + 1 for i, name in enumerate(BROKEN_ROWS)}
    for name, (values, _) in BROKEN_ROWS.items():
        if values is None:
            x[broken[name]] = -INF
        else:
            where = np.linspace(0, classes - 1, len(values)).astype(int)
            x[broken[name], where] = np.array(values, dtype)
    others = np.ones(len(x), dtype=bool)
    others[list(broken.values())] = False

    loss, grad = both(x, target, **options)
    lse = fastloss.logsumexp(x)
    assert loss[others].tobytes() == whole[others].tobytes()
    assert grad[others].tobytes() == whole_grad[others].tobytes()
    assert lse[others].tobytes() == before.pop("logsumexp")[others].tobytes()
    transformed = {name: getattr(fastloss, name)(x) for name in before}
    for name, was in before.items():
        assert transformed[name][others].tobytes() == was[others].tobytes()
    for name, (_, expected_lse) in BROKEN_ROWS.items():
        row = broken[name]
        if not ("softcap" in options and expected_lse == INF):
            assert np.isnan(loss[row]), name
            assert np.all(np.isnan(grad[row].astype(np.float64))), name
            assert math.isnan(fastloss.cross_entropy(x[row], target[row], **options)), name
        assert_array_equal(lse[row], expected_lse, err_msg=name)
        for values in transformed.values():
            assert np.all(np.isnan(values[row].astype(np.float64))), name


@each("classes", CLASSES)
def test_infinite_logit_under_a_softcap(classes):
    """tanh(inf) = 1: a large logit like any other."""
    x, target, _ = random_rows(4, classes, np.float64)
    x[:, 0] = INF
    loss, grad = both(x, target, softcap=20.0)
    x[:, 0] = 1e300
    expected, expected_grad = both(x, target, softcap=20.0)
    assert np.all(np.isfinite(expected))
    assert_array_equal(loss, expected)
    assert_array_equal(grad, expected_grad)


# Offsets and the ends of the range


def assert_like_reference(x, target, dtype, **options):
    """Row losses, gradient and log-sum-exp against the reference."""
    expected, expected_grad = expected_of(x, target, **options)
    # A loss beyond float32 is infinite in it; as a sum in float64 it is the number it is.
    with np.errstate(over="ignore"):
        loss, grad = both(x, target, **options)
        rounded = expected.astype(loss.dtype).astype(np.float64)
    expected = np.where(np.isinf(rounded), rounded, expected)
    assert_loss(loss, expected, dtype)
    assert_grad(grad, expected_grad, dtype, scale=2.0 if np.ndim(target) == 2 else 0.0)
    total = fastloss.cross_entropy(x, target, reduction="sum", **options)
    exact = reference.cross_entropy(x, target, reduction="sum", **options)
    assert_allclose(total, exact, rtol=1e-14 if dtype == np.float64 else 5e-7)
    assert_loss(fastloss.logsumexp(x), reference.logsumexp(x), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@each("classes", CLASSES)
@pytest.mark.parametrize("options", EACH_OPTION)
def test_offset(options, classes, dtype):
    offset = np.repeat([1e4, -1e4, 1e8, -1e8], 3)[:, np.newaxis]
    if dtype == np.float16:
        offset = offset.clip(-6e4, 6e4)  # near the end of the type
    x, target, _ = random_rows(12, classes, np.float64)
    x = (x + offset).astype(dtype)
    assert_like_reference(x, target, dtype, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@each("classes", CLASSES)
def test_offset_changes_nothing(classes, dtype):
    """Whole numbers, exact with the offset too: only differences count. In double to the same bits; float has
    other exponentials for another offset, within the bounds."""
    rng = np.random.default_rng(2)
    scale = {2: 64.0}.get(dtype.itemsize, 1.0)  # the spacing of bfloat16 at 1e4
    x = scale * rng.integers(-2, 3, (9, classes)).astype(np.float64)
    offset = {2: 8192.0}.get(dtype.itemsize, 2.0**23 - 16.0)
    shifted = (x + offset).astype(dtype)
    assert_array_equal(shifted.astype(np.float64), x + offset)
    target = rng.integers(0, classes, 9)
    plain, shifted_result = both(x.astype(dtype), target), both(shifted, target)
    if dtype == np.float64:
        assert bits(*plain) == bits(*shifted_result)
        return
    expected, expected_grad = expected_of(x, target)
    for loss, grad in (plain, shifted_result):
        assert_loss(loss, expected, dtype)
        assert_grad(grad, expected_grad, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@each("classes", CLASSES)
@pytest.mark.parametrize("options", EACH_OPTION)
def test_ends_of_the_range(options, classes, dtype):
    """Logits whose difference is beyond the type (float64: just within it)."""
    largest = float(ml_dtypes.finfo(dtype).max)
    # In float64 the true loss may be beyond the type as well, for reference and kernel alike.
    end = 0.4 * largest if dtype == np.float64 else largest
    if dtype == np.float64 and options.get("z_loss"):
        end = 1e150  # whose square is still a number
    x, target, rng = random_rows(12, classes, np.float64)
    x[:, ::2] = end * rng.choice([-1.0, 1.0], x[:, ::2].shape)
    x[3] = end
    x[4] = -end
    x[5, 1:] = -end
    if "temperature" in options and dtype == np.float64:
        x *= 0.5
    assert_like_reference(x.astype(dtype), target, dtype, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@each("classes", CLASSES)
def test_ends_of_the_range_probabilities(classes, dtype):
    x, _, rng = random_rows(6, classes, np.float64)
    x[:, 0] = 0.4 * float(ml_dtypes.finfo(dtype).max)
    x[:, 1] = -x[:, 0]
    q = rng.random(x.shape)
    q = (q / q.sum(axis=-1, keepdims=True)).astype(dtype)
    assert_like_reference(x.astype(dtype), q, dtype)


@each("classes", CLASSES)
def test_loss_beyond_float32(classes):
    """6e38 is infinite as float32, without a warning, and itself as a Python float."""
    x = np.full((2, classes), 3e38, np.float32)
    x[0, 1] = -3e38
    difference = float(x[0, 0]) - float(x[0, 1])
    loss, _ = both(x, [1, 1])
    assert loss[0] == INF
    assert np.isfinite(loss[1])
    assert_allclose(fastloss.cross_entropy(x, [1, 1], reduction="sum"), difference, rtol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@each("classes", CLASSES)
def test_small_logits(classes, dtype):
    """Subnormal logits: as good as 0."""
    tiny = float(ml_dtypes.finfo(dtype).smallest_subnormal)
    x = np.full((3, classes), tiny).astype(dtype)
    x[:, ::2] = -x[:, ::2]
    assert np.all(x != 0)
    assert_like_reference(x, np.arange(3) % classes, dtype)


def test_subnormals_are_alive():
    """No library of ours turns on flushing to zero, whatever it was linked with."""
    fastloss.cross_entropy(np.zeros((64, 1000), np.float32), np.zeros(64, np.int64), num_threads=2)
    smallest = np.float64(5e-324)
    assert smallest != 0.0
    assert smallest * 2.0 == 1e-323
    assert np.float32(1e-38) * np.float32(0.01) != 0.0


def test_subnormal_gradients():
    """A gradient below the normal range is still a number, not 0."""
    x = np.array([[0.0, 80.0], [0.0, 80.0]], np.float32)
    grad = fastloss.cross_entropy(x, [1, 1], return_grad=True, grad_output=1e-5)[1]
    # exp(-80) = 1.8e-35, times 1e-5 / 2, is 9.0e-41: 64383 units of the smallest float32.
    assert_allclose(grad[0], [9.02425e-41, -9.02425e-41], rtol=3e-5)


# Confident rows, against 60 digits


def exact_row(x, target):
    """Loss and gradient of a row, to float64."""
    with mpmath.workdps(60):
        logits = [mpmath.mpf(float(value)) for value in x]
        exps = [mpmath.exp(value - logits[target]) for value in logits]
        total = mpmath.fsum(exps)
        grad = [value / total for value in exps]
        grad[target] = -mpmath.fsum(e for c, e in enumerate(exps) if c != target) / total
        return float(mpmath.log(total)), np.array([float(value) for value in grad])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [2, 10, 64, 65, 300])
@pytest.mark.parametrize("margin", [23.0, 25.0, 27.5, 30.0])
def test_confident_row(margin, classes, dtype):
    """Losses of 1e-10 down to 1e-13 keep their digits, and so does the target's gradient."""
    rng = np.random.default_rng(3)
    x = (rng.uniform(-3.0, 0.0, (4, classes)) - margin).astype(dtype)
    target = np.array([0, classes - 1, classes // 2, 1])
    x[np.arange(4), target] = 0
    loss, grad = both(x, target)
    for row in range(4):
        expected, expected_grad = exact_row(x[row], target[row])
        assert 0.0 < expected < 1e-7
        # Relative, not 1e-6 absolute: under that bound 0 would do.
        assert_allclose(loss[row], expected, rtol=1e-14 if dtype == np.float64 else 2e-6)
        assert_grad(grad[row : row + 1], expected_grad[np.newaxis], dtype)


@pytest.mark.parametrize("dtype", FULL_DTYPES)
@pytest.mark.parametrize("softcap", [None, 40.0])
@pytest.mark.parametrize("classes", [10, 300])
def test_confident_row_with_options(classes, softcap, dtype):
    x, target, _ = random_rows(8, classes, dtype)
    x[np.arange(8), target] += 31
    options = {"softcap": softcap, "temperature": 0.9}
    loss, grad = both(x, target, **options)
    expected, expected_grad = expected_of(x, target, **options)
    assert np.all((expected > 0.0) & (expected < 1e-4))
    assert_allclose(loss, expected, rtol=1e-12 if dtype == np.float64 else 2e-6)
    bound = 1e-12 if dtype == np.float64 else 2e-6
    assert_allclose(grad[np.arange(8), target], expected_grad[np.arange(8), target], rtol=bound)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", EACH_OPTION)
def test_one_class(options, dtype):
    """C = 1: no choice, loss 0 and gradient 0 (but for the z-loss)."""
    x = np.array([[0.0], [5.0], [-7.0], [60000.0]]).astype(dtype)
    target = np.zeros(4, np.int64)
    loss, grad = both(x, target, **options)
    expected, expected_grad = expected_of(x, target, **options)
    assert_loss(loss, expected, dtype)
    assert_grad(grad, expected_grad, dtype)
    if "z_loss" not in options:
        assert_array_equal(loss, np.zeros(4))
        assert np.all(grad == 0)
    assert np.all(fastloss.softmax(x) == 1)
    assert np.all(fastloss.log_softmax(x) == 0)


# Long rows on which every rounding falls the same way

LONG = 1_000_000


def exact_constant_row(margin):
    """The log-sum-exp of one 0 and a million -margin; the shares of these together and of the 0."""
    with mpmath.workdps(40):
        rest = (LONG - 1) * mpmath.exp(-mpmath.mpf(margin))
        return float(mpmath.log1p(rest)), float(rest / (1 + rest)), float(1 / (1 + rest))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("margin", "top"), [(8.0, 0.0), (11.3, 100.0), (13.8, 0.0), (14.0, 100.0)])
def test_million_identical_logits(margin, top, dtype):
    """C - 1 identical logits and one larger: the error of one exponential, a million times."""
    x = np.full((2, LONG), top).astype(dtype)
    x -= np.array(margin).astype(dtype)
    at = np.array([123_456, 0])
    x[np.arange(2), at] = np.array(top).astype(dtype)
    margin = float(x[0, at[0]]) - float(x[0, 1])  # after the rounding of the logits
    loss, others, own = exact_constant_row(margin)

    target = np.array([at[0], 1])  # the larger one, and one of the million
    value, grad = both(x, target)
    assert_loss(value, [loss, loss + margin], dtype)
    share = others / (LONG - 1)
    expected = np.full(x.shape, share)
    expected[0, at[0]] = -others
    expected[1, 1] = share - 1.0
    expected[1, at[1]] = own
    assert_grad(grad, expected, dtype)
    assert_loss(fastloss.logsumexp(x), np.full(2, loss + float(x[0, at[0]])), dtype)


@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_million_equal_logits(dtype):
    x = np.full((1, LONG), 3.7).astype(dtype)
    loss, grad = both(x, [7])
    assert_loss(loss, [math.log(LONG)], dtype)
    expected = np.full(x.shape, 1.0 / LONG)
    expected[0, 7] -= 1.0
    assert_grad(grad, expected, dtype)


@pytest.mark.parametrize("classes", [50, 3000])
@pytest.mark.parametrize("top", [0.3, 17.7, -175.3, 1234.567, -4095.9, 4096.5, 1e5, -3e6])
def test_small_probabilities_keep_their_digits_under_any_offset(top: float, classes: int) -> None:
    # The difference to the maximum is not rounded: at -80 that alone would be an error of 4e-6.
    x = np.linspace(top - 87.0, top, classes).astype(np.float32)
    wide = x.astype(np.float64)
    exact = np.exp(wide - wide.max())
    result = fastloss.softmax(x)
    assert np.ptp(x) > 80.0
    assert_allclose(result, exact / exact.sum(), rtol=5e-7, atol=2.0**-126)
    # Equal logits have equal probabilities, and the largest is 1 before they are scaled.
    assert np.unique(fastloss.softmax(np.full(classes, top, np.float32))).size == 1
