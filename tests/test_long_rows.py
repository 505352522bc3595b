"""Long rows of the cross-entropy: each way of src/fused.h, in whatever company and buffer."""

import math
from functools import partial

import ml_dtypes
import numpy as np
import pytest
from helpers import bits, over_product
from levels import LEVELS, streaming_from
from numpy.testing import assert_allclose, assert_array_equal
from registry import Row, call, over
from rows import ROWS

import fastloss
from fastloss import _kernels, reference

pytestmark = pytest.mark.usefixtures("isa")

KINDS = [np.dtype(kind) for kind in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)]
over_dtypes = pytest.mark.parametrize("dtype", KINDS, ids=str)
OPTIONS = {
    "plain": {},
    "temperature": {"temperature": 0.7},
    "smoothing": {"label_smoothing": 0.1},
    "weights": {"label_smoothing": 0.2, "weight": None},
    "both": {"label_smoothing": 0.1, "temperature": 3.0, "z_loss": 0.01},
    "softcap": {"softcap": 30.0},
    "low softcap": {"softcap": 0.5, "z_loss": 0.01},
    "high softcap": {"softcap": 3000.0, "temperature": 0.4},
    "probabilities": {"given": None},
    "all": {"given": None, "label_smoothing": 0.1, "weight": None, "temperature": 3.0, "z_loss": 0.01},
}
over_options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
# Around a strip of 64, the first elements (256) and blocks of 2048.
WIDTHS = (65, 127, 128, 255, 256, 257, 1000, 2047, 2048, 2049, 4160, 4161)


def odd_rows(classes, rng):
    """A plain row, and rows that take another way or end in another way."""
    row = rng.standard_normal(classes)
    late = classes - 2
    rows = {
        "plain": row,
        "ascending": np.linspace(-200.0, 200.0, classes),  # once more, with another shift
        "descending": np.linspace(200.0, -200.0, classes),
        "late maximum": np.where(np.arange(classes) == late, 90.0, row),
        "at the headroom": np.where(np.arange(classes) == late, row[:256].max() + 39.9, row),
        "late masked": np.where(np.arange(classes) > late // 2, -math.inf, row),
        "first masked": np.where(np.arange(classes) < min(256, classes - 3), -math.inf, row),
        "all masked": np.full(classes, -math.inf),
        "offset": row + 1e4,
        "below": row - 3e4,
        "confident": np.where(np.arange(classes) == 7, 30.0, row / 8),
        "far": np.where(np.arange(classes) == late, 6e4, row),
        "NaN": np.where(np.arange(classes) == late, math.nan, row),
        "NaN first": np.where(np.arange(classes) == 0, math.nan, row),
        "infinity": np.where(np.arange(classes) == late, math.inf, row),
        "infinity first": np.where(np.arange(classes) == 1, math.inf, row),
        "huge": np.where(np.arange(classes) == late, 3e38, row),
        "lowest": np.where(np.arange(classes) % 2 == 1, -3e38, row),
        "huge offset": row * 1e7 + 3e7,
        "equal": np.full(classes, 2.5),
    }
    return np.stack(list(rows.values()))


def with_weights(options, classes):
    """The options for the call: with weights of the classes, one of which is 0, in place of the word."""
    options = {name: value for name, value in options.items() if name != "given"}
    if "weight" not in options:
        return options
    weight = np.random.default_rng(5).uniform(0.5, 2.0, classes)
    weight[classes // 3] = 0.0
    return options | {"weight": weight}


def make_case(classes, dtype, options=None, seed=0):
    """Inputs and targets: a class of each row or, for the option "given", probabilities."""
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore"):
        x = odd_rows(classes, rng).astype(dtype)
    target = rng.integers(0, classes, len(x))
    target[:6] = classes - 2
    target[10] = 7
    if "given" not in (options or {}):
        return x, target
    q = np.exp(rng.standard_normal(x.shape))
    q[:, rng.integers(0, classes, classes // 2)] = 0.0
    # Of two rows with masked classes; the losses of the others are infinite.
    q[5:7][np.isneginf(x[5:7].astype(np.float64))] = 0.0
    q /= np.maximum(q.sum(axis=1, keepdims=True), 1e-30)
    certain = [1, 3, 5, 10, 11, 17]
    q[certain] = 0.0
    q[certain, target[certain]] = 1.0
    return x, q.astype(dtype)


def rounding(exact, dtype):
    """That of a half type; none of the others, whose bounds have it."""
    if dtype.itemsize != 2:
        return 0.0
    info = ml_dtypes.finfo(dtype)
    return np.maximum(np.abs(exact) * float(info.eps), float(info.smallest_subnormal))


def assert_rows(x, target, result, dtype, **options):
    """Each row as the reference says, within the bounds of the package."""
    loss, grad = result
    with np.errstate(all="ignore"):
        wide, q = x.astype(np.float64), target.astype(np.float64) if target.ndim == 2 else target
        given = {"reduction": "none", "return_grad": True, **options}
        expected, expected_grad = reference.cross_entropy(wide, q, **given)
        special = ~np.isfinite(expected.astype(loss.dtype))
        assert_array_equal(loss[special], expected[special].astype(loss.dtype))
    near = np.abs(loss[~special] - expected[~special])
    bound = 1e-14 if dtype == np.float64 else 2.5e-7
    # In float64 the errors of a capped logit, which may be 7500, count: 4 units in the last place.
    cap = 4.0 * np.spacing(options.get("softcap", 0.0) / options.get("temperature", 1.0))
    floor = max(1e-14, cap) if dtype == np.float64 else 1e-6
    assert np.all(near <= np.maximum(bound * np.abs(expected[~special]), floor)), near
    assert_array_equal(np.isnan(grad.astype(np.float64)), np.isnan(expected_grad))
    largest = np.nan_to_num(np.abs(expected_grad)).max(axis=1, keepdims=True)
    if target.ndim == 2:
        with np.errstate(all="ignore"):
            p = reference.softmax(wide / options.get("temperature", 1.0))
        largest = np.maximum(largest, np.nan_to_num(p).max(axis=1, keepdims=True))
    bound = (2e-14 + cap if dtype == np.float64 else 4.5e-7) * largest
    bound = bound + x.shape[1] * float(np.finfo(loss.dtype).tiny) + rounding(expected_grad, dtype)
    is_nan = np.isnan(expected_grad)
    error = np.where(is_nan, 0.0, np.abs(grad.astype(np.float64) - expected_grad))
    assert np.all(is_nan | (error <= bound)), np.nonzero(~is_nan & (error > bound))


@over_dtypes
@over_options
@over_product
def test_odd_rows(options, dtype, isa, product):
    """On lower instruction sets of every second width, others with other options."""
    turn = (isa + list(OPTIONS.values()).index(options)) % 2
    for classes in WIDTHS if product or isa == LEVELS[-1] else WIDTHS[turn::2]:
        x, target = make_case(classes, dtype, options)
        given = with_weights(options, classes)
        result = fastloss.cross_entropy(x, target, reduction="none", return_grad=True, **given)
        assert_rows(x, target, result, dtype, **given)


@over_dtypes
@over_options
def test_hessian(options, dtype):
    """As the reference says, and beside it the loss and the gradient of a call without."""
    for classes in (65, 1000, 2049):
        x, target = make_case(classes, dtype, options)
        given = with_weights(options, classes) | {"reduction": "none", "return_grad": True}
        loss, grad, hessian = fastloss.cross_entropy(x, target, return_hessian=True, **given)
        assert bits(loss, grad) == bits(*fastloss.cross_entropy(x, target, **given))
        q = target.astype(np.float64) if target.ndim == 2 else target
        with np.errstate(all="ignore"):
            exact = reference.cross_entropy(x.astype(np.float64), q, return_hessian=True, **given)[2]
        assert_array_equal(np.isnan(hessian.astype(np.float64)), np.isnan(exact))
        largest = np.nan_to_num(np.abs(exact)).max(axis=1, keepdims=True)
        bound = (1e-12 if dtype == np.float64 else 1e-6) * largest + 1e-30 + rounding(exact, dtype)
        error = np.abs(hessian.astype(np.float64) - exact)
        assert np.all(np.isnan(exact) | (error <= bound)), np.nonzero(error > bound)
        again = fastloss.cross_entropy(x, target, return_hessian=True, num_threads=2, **given)
        assert bits(*again) == bits(loss, grad, hessian)


@over_dtypes
@over_options
def test_in_any_company(options, dtype):
    """Alone, in any order, by any number of threads, without a gradient, in place: the same bits."""
    for classes in (257, 4161):
        x, target = make_case(classes, dtype, options)
        given = with_weights(options, classes)
        run = partial(fastloss.cross_entropy, reduction="none", return_grad=True, **given)
        together = run(x, target)
        for order in (np.arange(len(x))[::-1], np.random.default_rng(1).permutation(len(x))):
            loss, grad = run(x[order], target[order])
            assert bits(loss, grad) == bits(together[0][order], together[1][order])
        for i in range(len(x)):
            alone = run(x[i : i + 1], target[i : i + 1])
            assert bits(*alone) == bits(together[0][i : i + 1], together[1][i : i + 1]), i
        value = fastloss.cross_entropy(x, target, reduction="none", **given)
        assert bits(value) == bits(together[0])
        for threads in (2, 3):
            assert bits(*run(x, target, num_threads=threads)) == bits(*together)
        own = x.copy()
        assert bits(*run(own, target, out=own)) == bits(*together)
        if target.ndim == 2:
            continue
        ignored = target.copy()
        ignored[::3] = -100
        loss, grad = run(x, ignored)
        counts = ignored >= 0
        assert bits(loss[counts], grad[counts]) == bits(together[0][counts], together[1][counts])
        assert not np.any(loss[~counts]) and not np.any(grad[~counts].astype(np.float64))


@over_dtypes
@pytest.mark.parametrize("options", [{}, {"softcap": 30.0}, {"given": None}], ids=str)
def test_shared_rows(options, dtype):
    """Rows that all threads share take the same way as rows of one thread."""
    x, target = make_case(40_000, dtype, options)
    given = with_weights(options, 40_000) | {"return_grad": True, "return_hessian": True}
    for i in range(len(x)):
        one, two = (
            fastloss.cross_entropy(x[i : i + 1], target[i : i + 1], num_threads=threads, **given)
            for threads in (1, 2)
        )
        assert bits(*one) == bits(*two), i


OF_CLASSES = [
    row
    for row in ROWS
    if row.loss_axes == 1 and row.gradients and row.returns == "loss"
    if {"ignore_index", "mask"} & row.parameters.keys()
    if not row.name.startswith("linear_") and "target" not in row.floats
]


@over(OF_CLASSES)
def test_a_shared_row_that_does_not_count(row: Row) -> None:
    """It is not read: nothing but NaN in it changes nothing."""
    c = call(row, (1, 150_000), "float32", row.reductions[0])
    nothing = {"mask": [False]} if "mask" in row.parameters else {"ignore_index": int(c["target"][0])}
    arrays = {name: np.full_like(c[name], math.nan) for name in row.floats}
    for threads in (1, 2, 3):
        loss, grads = c.run(**arrays, **nothing, reduction="none", num_threads=threads)
        assert not loss.any() and not any(grad.any() for grad in grads)


@pytest.mark.parametrize("classes", [65, 130, 511, 512, 513])
@over_dtypes
def test_rows_of_middle_length(dtype, classes):
    """Rows that are settled eight at a time have the bits of a row alone, whatever their neighbours are."""
    rng = np.random.default_rng(4)
    rows = 29
    x = (4 * rng.standard_normal((rows, classes), dtype=np.float32)).astype(dtype)
    target = rng.integers(0, classes, rows)
    x[2, 5], x[9, classes - 1], x[10, 0], x[12] = math.nan, math.inf, -math.inf, -math.inf
    x[11] = np.linspace(-200.0, 200.0, classes).astype(dtype)
    x[20, target[20]] = 60.0
    target[::7] = -100
    upstream, weight = rng.standard_normal(rows), rng.random(rows).round()
    calls = [
        partial(fastloss.cross_entropy, sample_weight=weight),
        partial(fastloss.cross_entropy, label_smoothing=0.1),
        partial(fastloss.cross_entropy, z_loss=1e-3, temperature=0.7),
        fastloss.softmax_focal_loss,
    ]
    for function in calls:
        run = partial(function, reduction="none", return_grad=True)
        together = run(x, target, grad_output=upstream)
        for i in range(rows):
            one = slice(i, i + 1)
            given = {"sample_weight": weight[one]} if function is calls[0] else {}
            alone = run(x[one], target[one], grad_output=upstream[one], **given)
            assert bits(*(array[one] for array in together)) == bits(*alone), (function, i)


@pytest.mark.parametrize(
    "options", [{}, {"return_hessian": True}, {"label_smoothing": 0.1}, {"softcap": 20.0}], ids=str
)
@over_dtypes
def test_past_the_caches(dtype, options):
    """A gradient written past them, at every alignment of its rows, has the bits of one that is not.

    Nothing is written beside it, and ignored rows are 0.
    """
    rng = np.random.default_rng(3)
    rows, classes = 130, 16_001
    x = rng.standard_normal((rows, classes), dtype=np.float32).astype(dtype)
    x[5] = np.linspace(-200.0, 200.0, classes).astype(dtype)
    x[7, 3] = math.nan
    target = rng.integers(0, classes, rows)
    target[::50] = -100
    target[1:9] = [0, classes - 1, 15, 16, 31, 32, 63, 64]
    run = partial(fastloss.cross_entropy, reduction="sum", return_grad=True, **options)
    memory = np.full(x.size + 16, 7.0, dtype)
    out = memory[5 : 5 + x.size].reshape(x.shape)
    with streaming_from(0):
        loss, *derivatives = run(x, target)
        assert bits(*run(x, target, out=out)) == bits(loss, *derivatives)
    for i in range(rows):
        _, *expected = run(x[i : i + 1], target[i : i + 1])
        assert bits(*(array[i : i + 1] for array in derivatives)) == bits(*expected), i
    assert math.isnan(loss)
    assert not np.any(out[::50])
    assert (memory[:5] == 7.0).all() and (memory[5 + x.size :] == 7.0).all()


@pytest.mark.skipif(not _kernels.MACHINE_HAS_BFLOAT16, reason="no instruction that rounds to bfloat16")
@pytest.mark.parametrize("grad_output", [1.0, 1e-20, 1e-34])
@pytest.mark.parametrize("classes", [257, 1000, 4161])
def test_bfloat16_by_instruction_and_by_integers(classes, grad_output):
    """The same bits, for normal and for subnormal gradients."""
    x, target = make_case(classes, np.dtype(ml_dtypes.bfloat16))
    call = partial(fastloss.cross_entropy, x, target, grad_output=grad_output, return_grad=True)
    _, by_instruction = call()
    before = _kernels.use_bfloat16_instruction(False)
    try:
        _, by_integers = call()
    finally:
        _kernels.use_bfloat16_instruction(before)
    assert bits(by_instruction) == bits(by_integers)


TRANSFORMS = [fastloss.softmax, fastloss.log_softmax, fastloss.logsumexp]
over_transforms = pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda transform: transform.__name__)


def assert_transform(transform, x, result):
    """Probabilities to the largest, logarithms to 2 units in the last place or 1e-6."""
    with np.errstate(all="ignore"):
        expected = getattr(reference, transform.__name__)(x.astype(np.float64))
    is_double = x.dtype == np.float64
    finite = np.isfinite(expected)
    with np.errstate(over="ignore"):
        assert_array_equal(result[~finite].astype(np.float64), expected[~finite])
    largest = 1.0 if transform is fastloss.softmax else np.abs(expected[finite])
    bound = np.maximum((2e-14 if is_double else 4.5e-7) * largest, 1e-14 if is_double else 1e-6)
    bound = bound + rounding(expected[finite], x.dtype)
    beyond = np.abs(expected[finite]) > float(ml_dtypes.finfo(x.dtype).max)
    error = np.abs(result[finite].astype(np.float64) - expected[finite])
    assert np.all(beyond | (error <= bound)), (error - bound).max()


@over_dtypes
@over_transforms
def test_transforms_of_odd_rows(transform, dtype):
    """Against the reference; alone, in reverse, by any number of threads, in place: the same bits."""
    for classes in WIDTHS:
        x, _ = make_case(classes, dtype)
        result = transform(x)
        assert_transform(transform, x, result)
        assert bits(transform(x[::-1].copy())) == bits(result[::-1])
        for i in range(len(x)):
            assert bits(transform(x[i : i + 1])) == bits(result[i : i + 1]), i
        before = fastloss.get_num_threads()
        for threads in (1, 3):
            fastloss.set_num_threads(threads)
            assert bits(transform(x)) == bits(result)
        fastloss.set_num_threads(before)
        apart = np.empty((len(x), classes, 2), dtype)[:, :, 1]
        apart[:] = x
        assert bits(transform(apart)) == bits(result)
        if transform is not fastloss.logsumexp:
            own = x.copy()
            assert bits(transform(own, out=own)) == bits(result)
            assert bits(transform(x, out=apart)) == bits(result)


@pytest.mark.parametrize("transform", TRANSFORMS[:2])
@over_dtypes
def test_transforms_past_the_caches(dtype, transform):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((130, 16_001), dtype=np.float32).astype(dtype)
    x[5] = np.linspace(-200.0, 200.0, x.shape[1]).astype(dtype)
    x[7, 3] = math.nan
    x[9, 15] = 90.0
    with streaming_from(0):
        result = transform(x)
    for i in range(len(x)):
        assert bits(result[i : i + 1]) == bits(transform(x[i : i + 1])), i


@over_transforms
def test_transforms_of_confident_rows(transform):
    """The digits of probabilities and logarithms far below those of 1."""
    x = np.zeros((2, 3000), np.float32)
    x[0, 2500] = 40.0
    x[1, 1] = 35.0
    result, expected = transform(x), getattr(reference, transform.__name__)(x.astype(np.float64))
    assert_allclose(result.astype(np.float64), expected, rtol=3e-7)
