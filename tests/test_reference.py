"""The reference against what is known without it: hand-computed values, torch, mpmath."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastloss import reference

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

Array = npt.NDArray[np.float64]

INF = math.inf
NAN = math.nan
# Probabilities 1/8, 2/8, 5/8 and log-sum-exp log(8).
EIGHTHS = np.log([1.0, 2.0, 5.0])
LOG8 = math.log(8.0)


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture
def mp() -> Any:
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(300):
        yield mpmath


def both(loss: Callable[..., Any], *args: Any, grad_output: Any = None, **options: Any) -> Any:
    """Loss and gradient, after checking that the loss alone is the same."""
    value, grad = loss(*args, return_grad=True, grad_output=grad_output, **options)
    assert_array_equal(value, loss(*args, **options))
    assert grad.shape == np.shape(args[0])
    assert grad.dtype == np.float64
    if options.get("reduction", "mean") == "none":
        assert isinstance(value, np.ndarray)
        assert value.dtype == np.float64
    else:
        assert type(value) is float
    return value, grad


def cross_entropy(*args: Any, **options: Any) -> Any:
    return both(reference.cross_entropy, *args, **options)


def check(found: Any, loss: Any, grad: Any, grad_rtol: float = 1e-14) -> None:
    assert_allclose(found[0], loss, rtol=1e-14)
    assert_allclose(found[1], grad, rtol=grad_rtol)


def check_same(found: Any, expected: Any) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert_array_equal(ours, theirs)


# By hand


def test_softmax_by_hand() -> None:
    assert_allclose(reference.softmax(EIGHTHS), [1 / 8, 2 / 8, 5 / 8], rtol=1e-15)
    assert_allclose(reference.log_softmax(EIGHTHS), EIGHTHS - LOG8, rtol=1e-15)
    assert_allclose(reference.logsumexp(EIGHTHS), LOG8, rtol=1e-15)


def test_integer_targets_of_any_width() -> None:
    logits, target = np.random.default_rng(6).normal(size=(3, 200)), np.array([5, 0, 100])
    for kind in "bBhHiIqQ":
        check_same(cross_entropy(logits, target.astype(kind)), cross_entropy(logits, target))


def test_softmax_family_takes_any_axis() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    for axis in (0, 1, 2, -1, -2, -3):
        total = np.exp(x).sum(axis=axis, keepdims=True)
        assert_allclose(reference.softmax(x, axis=axis), np.exp(x) / total, rtol=1e-14)
        assert_allclose(reference.log_softmax(x, axis=axis), x - np.log(total), rtol=1e-13)
        expected = np.log(total).squeeze(axis)
        assert_allclose(reference.logsumexp(x, axis=axis), expected, rtol=1e-14)


def test_class_and_sample_weights_by_hand() -> None:
    # Rows weigh 3 * 0.5 and 4 * 2, which the mean divides by.
    logits = np.stack([EIGHTHS, EIGHTHS])
    found = cross_entropy(logits, [0, 2], weight=[3.0, 9.0, 4.0], sample_weight=[0.5, 2.0])
    grads = np.array([[-7 * 1.5, 2 * 1.5, 5 * 1.5], [8, 16, -24]]) / 8
    check(found, (1.5 * LOG8 + 8 * math.log(8 / 5)) / 9.5, grads / 9.5)


def test_label_smoothing_by_hand() -> None:
    # eps / C = 0.1, so q' = (0.1, 0.8, 0.1); with weights, every class brings its own.
    losses, p, q = LOG8 - EIGHTHS, np.array([1, 2, 5]) / 8, np.array([0.1, 0.8, 0.1])
    check(cross_entropy(EIGHTHS, 1, label_smoothing=0.3), q @ losses, p - q)
    a = np.array([0.2, 2.4, 0.5])
    found = cross_entropy(EIGHTHS, 1, label_smoothing=0.3, weight=[2.0, 3.0, 5.0])
    check(found, a @ losses / 3, (3.1 * p - a) / 3)


def test_probabilities_by_hand() -> None:
    losses = LOG8 - EIGHTHS
    target = np.array([0.5, 0.0, 0.5])
    found = cross_entropy(EIGHTHS, target)
    check(found, (losses[0] + losses[2]) / 2, [1 / 8 - 1 / 2, 2 / 8, 5 / 8 - 1 / 2])

    # The mean divides by the sample weights alone, or the number of rows.
    two_rows = np.stack([EIGHTHS, EIGHTHS]), np.stack([target, target])
    row = (2 * losses[0] + 5 * losses[2]) / 2
    loss, _ = cross_entropy(*two_rows, weight=[2.0, 3.0, 5.0])
    assert loss == pytest.approx(row, rel=1e-15)
    loss, _ = cross_entropy(*two_rows, weight=[2.0, 3.0, 5.0], sample_weight=[1.0, 7.0])
    assert loss == pytest.approx(row, rel=1e-15)
    loss, _ = cross_entropy(*two_rows, sample_weight=[1.0, 7.0], reduction="sum")
    assert loss == pytest.approx(4 * (losses[0] + losses[2]), rel=1e-15)


def test_z_loss_by_hand() -> None:
    p = np.array([1, 2, 5]) / 8
    row = math.log(4.0) + 0.5 * LOG8**2
    check(cross_entropy(EIGHTHS, 1, z_loss=0.5), row, p - [0, 1, 0] + LOG8 * p)

    # It takes the weight of a class index, and of probabilities the sample's alone.
    options: dict[str, Any] = {"z_loss": 0.5, "weight": [2.0, 3.0, 5.0], "reduction": "sum"}
    loss, _ = cross_entropy(EIGHTHS, 1, **options)
    assert loss == pytest.approx(3 * row, rel=1e-15)
    loss, _ = cross_entropy(EIGHTHS, [0.0, 1.0, 0.0], sample_weight=7.0, **options)
    assert loss == pytest.approx(7 * (3 * math.log(4.0) + 0.5 * LOG8**2), rel=1e-15)


def test_softcap_comes_before_temperature_by_hand() -> None:
    # 6 * tanh(x / 6) = 2 * EIGHTHS, and dividing by 2 gives the scores of the other tests.
    ratio = 2 * EIGHTHS / 6
    found = cross_entropy(6 * np.arctanh(ratio), 1, softcap=6.0, temperature=2.0)
    check(found, math.log(4.0), np.array([1, -6, 5]) / 8 * (1 - ratio**2) / 2, 1e-13)


def test_nll_loss_by_hand() -> None:
    log_probs = np.array([[-1.0, -2.0], [-3.0, -4.0], [NAN, NAN]])
    options: dict[str, Any] = {"weight": [2.0, 3.0], "sample_weight": [1.0, 5.0, NAN]}
    found = both(reference.nll_loss, log_probs, [1, 0, -100], **options)
    check(found, (3 * 2 + 10 * 3) / 13, np.array([[0, -3], [-10, 0], [0, 0]]) / 13, 1e-15)
    options |= {"reduction": "none", "grad_output": [2.0, 1.0, NAN]}
    found = both(reference.nll_loss, log_probs, [1, 0, -100], **options)
    check_same(found, ([6.0, 30.0, 0.0], [[0, -6], [-10, 0], [0, 0]]))


def test_perplexity_by_hand() -> None:
    assert reference.perplexity(np.zeros((5, 7)), [0, 1, 2, 3, 4]) == pytest.approx(7.0, rel=1e-15)
    logits = np.stack([EIGHTHS, EIGHTHS, np.full(3, NAN)])
    assert reference.perplexity(logits, [1, 1, -1], ignore_index=-1) == pytest.approx(4, rel=1e-15)
    assert reference.perplexity([[0.0, 1000.0]], [0]) == INF
    assert reference.perplexity([[0.0, -INF]], [1]) == INF
    assert math.isnan(reference.perplexity([[0.0, 1.0]], [-100]))


# Against torch


def assert_agrees(torch: Any, ours: Any, theirs: Any, x: Any, upstream: Array | None) -> None:
    theirs.backward(None if upstream is None else torch.tensor(upstream))
    assert_allclose(ours[0], theirs.detach().numpy(), rtol=1e-13, atol=1e-15)
    assert_allclose(ours[1], x.grad.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("kind", ["indices", "probabilities"])
@pytest.mark.parametrize(
    ("shape", "axis"), [((5,), 0), ((7, 5), 1), ((2, 5, 3, 2), 1)], ids=["vector", "matrix", "images"]
)
def test_cross_entropy_agrees_with_torch(
    torch: Any, shape: tuple[int, ...], axis: int, kind: str, reduction: str
) -> None:
    rng = np.random.default_rng(1)
    logits, rows = 3.0 * rng.normal(size=shape), shape[:axis] + shape[axis + 1 :]
    weight, upstream = rng.uniform(0.5, 2.0, size=5), rng.normal(size=rows)
    indices, probs = rng.integers(0, 5, size=rows), reference.softmax(rng.normal(size=shape), axis=axis)
    target = indices if kind == "indices" else probs
    # The default, a class, an index that is none and absent, one that is none and present.
    ignored = (-100, 2, -1, 77) if kind == "indices" else (-100,)
    for weighted, ignore_index, label_smoothing in itertools.product((False, True), ignored, (0.0, 0.1, 1.0)):
        labels = np.array(target)
        if ignore_index == 77 and labels.ndim > 0:
            labels.flat[::3] = 77
        given = {"ignore_index": ignore_index, "label_smoothing": label_smoothing, "reduction": reduction}
        x = torch.tensor(logits, requires_grad=True)
        theirs = torch.nn.functional.cross_entropy(
            x, torch.tensor(labels), weight=torch.tensor(weight) if weighted else None, **given
        )
        grad_output = upstream if reduction == "none" else None
        given |= {"weight": weight if weighted else None, "axis": axis, "grad_output": grad_output}
        ours = cross_entropy(logits, labels, **given)
        assert_agrees(torch, ours, theirs, x, grad_output)


@pytest.mark.parametrize("loss", ["cross_entropy", "nll_loss"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_nothing_agrees_with_torch(torch: Any, loss: str, reduction: str) -> None:
    for n in (0, 3):
        x = torch.ones((n, 4), dtype=torch.float64, requires_grad=True)
        target = np.full(n, -100)
        theirs = getattr(torch.nn.functional, loss)(x, torch.tensor(target), reduction=reduction)
        ours = both(getattr(reference, loss), np.ones((n, 4)), target, reduction=reduction)
        assert_agrees(torch, ours, theirs, x, np.ones(n) if reduction == "none" else None)
        assert_array_equal(ours[1], np.zeros((n, 4)))


def test_softmax_family_agrees_with_torch(torch: Any) -> None:
    x = 3.0 * np.random.default_rng(2).normal(size=(2, 3, 4))
    x[1, :, 2] = -INF
    x[0, 1, 3] = NAN
    x[1, 2, 0] = INF
    for axis in (0, 1, 2):
        t = torch.tensor(x)
        assert_allclose(reference.softmax(x, axis=axis), t.softmax(axis), rtol=1e-14)
        assert_allclose(reference.log_softmax(x, axis=axis), t.log_softmax(axis), rtol=1e-13)
        if axis != 1:  # where the row of -inf gives NaN here and -inf there
            assert_allclose(reference.logsumexp(x, axis=axis), t.logsumexp(axis), rtol=1e-14)


# Against mpmath


def exact_row(mp: Any, logits: Array, q: Array, *, share: float = 1.0, **options: Any) -> Any:
    """Loss and gradient of one row, to 300 digits and in the plainest form."""
    classes, softcap = range(len(logits)), options.get("softcap")
    eps, z_loss = (mp.mpf(options.get(name, 0.0)) for name in ("label_smoothing", "z_loss"))
    s, t = (mp.mpf(options.get(name, 1.0)) for name in ("sample_weight", "temperature"))
    x = [mp.mpf(float(value)) for value in logits]
    w = [mp.mpf(float(value)) for value in options.get("weight", np.ones(len(logits)))]
    tanh = [mp.mpf(0) if softcap is None else mp.tanh(x[c] / softcap) for c in classes]
    z = [(x[c] if softcap is None else softcap * tanh[c]) / t for c in classes]
    lse = mp.log(mp.fsum(mp.exp(value) for value in z))
    a = [w[c] * ((1 - eps) * mp.mpf(float(q[c])) + eps / len(logits)) for c in classes]
    b = mp.mpf(share) * z_loss
    loss = s * (mp.fsum(a[c] * (lse - z[c]) for c in classes) + b * lse**2)
    grad = []
    for k in classes:
        p = mp.exp(z[k] - lse)
        dz = s * (mp.fsum(a) * p - a[k] + 2 * b * lse * p)
        grad.append(float(dz * (1 - tanh[k] ** 2) / t))
    return float(loss), grad


@pytest.mark.parametrize("margin", [0.0, 1.0, 30.0, 40.0, 300.0])
def test_confident_row_keeps_its_digits(mp: Any, margin: float) -> None:
    logits = np.array([0.5, -1.0, 2.0, 2.0]) + np.array([0.0, 0.0, margin, 0.0])
    for y in (2, 3):
        check(cross_entropy(logits, y), *exact_row(mp, logits, np.eye(4)[y]))


def test_margin_of_thirty() -> None:
    loss, grad = cross_entropy(np.array([30.0, 0.0], dtype=np.float32), 0)
    assert loss == pytest.approx(math.exp(-30.0), rel=1e-13)
    assert f"{loss:.1e}" == "9.4e-14"
    assert grad[0] == -grad[1]


@pytest.mark.parametrize("shift", [1e4, 1e8, -1e8])
def test_shift_costs_nothing(mp: Any, shift: float) -> None:
    # Multiples of 1/64 stay exact beside 1e8.
    logits = np.round(3.0 * np.random.default_rng(4).normal(size=6) * 64) / 64
    for temperature in (1.0, 0.7):
        found = cross_entropy(logits, 2, temperature=temperature)
        check_same(cross_entropy(logits + shift, 2, temperature=temperature), found)
        check(found, *exact_row(mp, logits + shift, np.eye(6)[2], temperature=temperature), grad_rtol=1e-13)
    exact_lse = float(mp.log(mp.fsum(mp.exp(mp.mpf(v)) for v in logits + shift)))
    assert reference.logsumexp(logits + shift) == exact_lse


@pytest.mark.parametrize("kind", ["indices", "probabilities"])
def test_all_options_at_once_are_exact(mp: Any, kind: str) -> None:
    rng = np.random.default_rng(5)
    for scale in (1.0, 20.0):
        logits = scale * rng.normal(size=6)
        q = np.eye(6)[4] if kind == "indices" else rng.dirichlet(np.ones(6))
        options: dict[str, Any] = {"weight": rng.uniform(0.5, 2.0, size=6), "label_smoothing": 0.1}
        options |= {"sample_weight": 1.7, "z_loss": 0.01, "softcap": 15.0, "temperature": 0.8}
        share = options["weight"][4] if kind == "indices" else 1.0
        exact = exact_row(mp, logits, q, share=share, **options)
        loss, grad = cross_entropy(logits, 4 if kind == "indices" else q, reduction="sum", **options)
        assert loss == pytest.approx(exact[0], rel=1e-14)
        assert_allclose(grad, exact[1], rtol=1e-13, atol=1e-14 * np.abs(exact[1]).max())


def test_whole_range_of_the_type() -> None:
    found = cross_entropy([[1e300, -1e300], [-1e300, -1e300]], [0, 1], reduction="none")
    check(found, [0.0, math.log(2.0)], [[0.0, 0.0], [0.5, -0.5]], 1e-15)


# Masked classes, NaN, nothing

MASKED = np.array([EIGHTHS[0], -INF, EIGHTHS[1], EIGHTHS[2]])


def test_masked_class_is_not_there() -> None:
    assert_allclose(reference.softmax(MASKED), [1 / 8, 0, 2 / 8, 5 / 8], rtol=1e-15)
    assert reference.log_softmax(MASKED)[1] == -INF
    assert reference.logsumexp(MASKED) == pytest.approx(LOG8, rel=1e-15)
    full = {"z_loss": 0.2, "softcap": 3.0, "temperature": 0.5, "weight": [1.0, 2.0, 3.0, 4.0]}
    without = full | {"weight": [1.0, 3.0, 4.0]}
    for q in ([0, 0, 1, 0], [0.2, 0, 0.5, 0.3]):
        three = np.delete(q, 1)
        target, shorter = (2, 1) if max(q) == 1 else (q, three)
        for options, fewer in (({}, {}), (full, without)):
            loss, grad = cross_entropy(MASKED, target, **options)
            expected = cross_entropy(EIGHTHS, shorter, **fewer)
            assert loss == pytest.approx(expected[0], rel=1e-15)
            assert_allclose(np.delete(grad, 1), expected[1], rtol=1e-14)
            assert grad[1] == 0.0


def test_masked_class_that_counts_makes_the_loss_infinite() -> None:
    p = np.array([1, 0, 2, 5]) / 8
    # As the target: the gradient of the formula.
    check(cross_entropy(MASKED, 1), INF, p - [0, 1, 0, 0], 1e-15)
    # By smoothing, or by a probability: the gradient is 0 there.
    check(cross_entropy(MASKED, 2, label_smoothing=0.4), INF, p - [0.1, 0.0, 0.7, 0.1])
    check(cross_entropy(MASKED, [0.5, 0.5, 0.0, 0.0]), INF, p - [0.5, 0.0, 0.0, 0.0])
    # Both at once: the smoothing is part of the target's gradient.
    check(cross_entropy(MASKED, 1, label_smoothing=0.4), INF, p - [0.1, 0.7, 0.1, 0.1])


def test_coefficient_of_zero_silences_infinity() -> None:
    weight = [1.0, 0.0, 1.0, 1.0]
    silent: list[dict[str, Any]] = [{"weight": weight}, {"weight": weight, "z_loss": 0.1}]
    silent += [{"sample_weight": 0.0}, {"sample_weight": 0.0, "label_smoothing": 0.1}]
    for options in silent:
        check_same(cross_entropy(MASKED, 1, reduction="sum", **options), (0.0, np.zeros(4)))
    loss, grad = cross_entropy(MASKED, 2, label_smoothing=0.4, weight=weight)
    assert math.isfinite(loss)
    assert np.isfinite(grad).all()
    # The weight of a class that never comes up is not looked at.
    loss, _ = cross_entropy(EIGHTHS, 1, weight=[INF, 2.0, NAN])
    assert loss == pytest.approx(math.log(4.0), rel=1e-15)


@pytest.mark.parametrize("kind", ["indices", "probabilities"])
@pytest.mark.parametrize(
    "bad", [[NAN, 1.0, 2.0], [0.0, NAN, -INF], [NAN, INF, 0.0], [-INF] * 3, [INF, 0.0, 1.0]]
)
def test_bad_row_is_nan_and_alone(kind: str, bad: list[float]) -> None:
    logits = np.stack([EIGHTHS, bad, EIGHTHS])
    target: Any = [0, 1, 2] if kind == "indices" else np.full((3, 3), 1 / 3)
    good = np.stack([EIGHTHS, EIGHTHS, EIGHTHS])
    for options in (
        {},
        {"z_loss": 0.1, "temperature": 2.0},
        {"label_smoothing": 0.1, "sample_weight": [1.0, 0.0, 2.0]},
    ):
        loss, grad = cross_entropy(logits, target, reduction="none", **options)
        expected = cross_entropy(good, target, reduction="none", **options)
        for ours, theirs in zip((loss, grad), expected, strict=True):
            assert np.isnan(ours[1]).all()
            assert_array_equal(ours[[0, 2]], theirs[[0, 2]])
        for reduction in ("mean", "sum"):
            loss, _ = cross_entropy(logits, target, reduction=reduction, **options)
            assert math.isnan(loss)
    for function in (reference.softmax, reference.log_softmax):
        assert_array_equal(np.isnan(function(logits)), [[False] * 3, [True] * 3, [False] * 3])
    assert_array_equal(reference.logsumexp(logits)[1], np.max(bad))


def test_bad_rows_with_softcap() -> None:
    for bad in ([NAN, -INF, 0.0], [-INF] * 3):
        loss, grad = cross_entropy(bad, 2, softcap=30.0)
        assert math.isnan(loss)
        assert np.isnan(grad).all()
    # +inf is capped like any large value.
    loss, grad = cross_entropy([INF, 0.0], 0, softcap=30.0)
    assert loss == pytest.approx(math.exp(-30.0), rel=1e-13)
    assert grad[0] == 0.0


def test_values_of_ignored_rows_are_never_used() -> None:
    logits = np.stack([EIGHTHS, [NAN, INF, -INF], EIGHTHS])
    target = [2, -100, 0]
    loss, grad = cross_entropy(logits, target, sample_weight=[1.0, NAN, 1.0], z_loss=0.0)
    check_same((loss, grad[[0, 2]]), cross_entropy(logits[[0, 2]], [2, 0]))
    assert_array_equal(grad[1], np.zeros(3))
    for function in (reference.cross_entropy, reference.nll_loss):
        loss, grad = both(function, logits, target, reduction="none", grad_output=[1.0, NAN, 1.0])
        assert loss[1] == 0.0
        assert_array_equal(grad[1], np.zeros(3))
        assert np.isfinite(grad).all()


@pytest.mark.parametrize(
    "target",
    [np.zeros(0, np.int64), np.full(2, -100), np.zeros((0, 3))],
    ids=["indices", "ignored", "probabilities"],
)
def test_empty_batch(target: Array) -> None:
    n = len(target)
    for options in ({}, {"z_loss": 0.1, "label_smoothing": 0.1, "grad_output": NAN}):
        for reduction, expected in (("mean", NAN), ("sum", 0.0), ("none", np.zeros(n))):
            found = cross_entropy(np.full((n, 3), NAN), target, reduction=reduction, **options)
            check_same(found, (expected, np.zeros((n, 3))))


# What it takes, and what it refuses


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int32"])
def test_computes_in_float64_whatever_the_input(dtype: str) -> None:
    x = np.array([[30.0, 0.0, 1.0], [0.5, 1.5, -2.0]])
    name: Any = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype
    narrow = x.astype(name)
    check_same(cross_entropy(narrow, [0, 1]), cross_entropy(narrow.astype(np.float64), [0, 1]))
    for function in (reference.softmax, reference.log_softmax, reference.logsumexp):
        assert function(narrow).dtype == np.float64
    if dtype != "int32":
        probs = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
        found = cross_entropy(narrow, probs.astype(name))
        check_same(found, cross_entropy(narrow.astype(np.float64), probs))


def test_no_target_wraps_into_the_ignored_index() -> None:
    logits = np.zeros((1, 200))
    target = np.array([156], dtype=np.uint8)
    assert reference.cross_entropy(logits, target) == pytest.approx(math.log(200.0))
    with pytest.raises(IndexError, match="target 18446744073709551516 at row 0"):
        reference.cross_entropy(logits, np.array([2**64 - 100], dtype=np.uint64))


def test_rows_of_any_shape_and_stride() -> None:
    logits = np.random.default_rng(7).normal(size=(2, 6, 5))
    target = np.array([[0, 1, 2], [3, 4, -100]])
    loss, grad = cross_entropy(logits[:, ::2], target, reduction="none")
    flat = cross_entropy(logits[:, ::2].reshape(6, 5), target.ravel(), reduction="none")
    check_same((loss, grad), (flat[0].reshape(2, 3), flat[1].reshape(2, 3, 5)))
    moved = cross_entropy(np.moveaxis(logits[:, ::2], -1, 0), target, axis=0, reduction="none")
    check_same(moved, (loss, np.moveaxis(grad, -1, 0)))
    loss, _ = cross_entropy(EIGHTHS, 0, reduction="none")
    assert loss.shape == ()


@pytest.mark.parametrize(
    ("error", "match", "target", "options"),
    [
        (ValueError, "target must have shape", [0], {}),
        (ValueError, "target must have shape", [[0], [1]], {}),
        (ValueError, "target must have the shape of logits", [0.5, 0.5], {}),
        (ValueError, "target must have the shape of logits", np.ones((2, 1)), {}),
        (TypeError, "integer class indices", [True, False], {}),
        (IndexError, "target 3 at row 1", [0, 3], {}),
        (IndexError, "target -1 at row 0", [-1, 0], {}),
        (IndexError, "target -100 at row 1", [0, -100], {"ignore_index": 0}),
        (ValueError, "ignore_index", np.ones((2, 3)), {"ignore_index": 0}),
        (ValueError, "weight must have shape", [0, 1], {"weight": [1.0, 1.0]}),
        (ValueError, "weight must have shape", [0, 1], {"weight": 1.0}),
        (ValueError, "sample_weight", [0, 1], {"sample_weight": [1.0]}),
        (ValueError, "sample_weight", [0, 1], {"sample_weight": [[1.0], [1.0]]}),
        (ValueError, "label_smoothing", [0, 1], {"label_smoothing": -0.1}),
        (ValueError, "label_smoothing", [0, 1], {"label_smoothing": 1.1}),
        (ValueError, "label_smoothing", [0, 1], {"label_smoothing": NAN}),
        (ValueError, "z_loss", [0, 1], {"z_loss": NAN}),
        (ValueError, "softcap", [0, 1], {"softcap": 0.0}),
        (ValueError, "temperature", [0, 1], {"temperature": 0.0}),
        (ValueError, "temperature", [0, 1], {"temperature": NAN}),
        (ValueError, "reduction", [0, 1], {"reduction": "average"}),
        (ValueError, "grad_output", [0, 1], {"grad_output": 1.0}),
        (ValueError, "grad_output", [0, 1], {"grad_output": [1.0, 1.0], "return_grad": True}),
        (ValueError, "axis", [0, 1], {"axis": 2}),
    ],
)
def test_refuses(error: type[Exception], match: str, target: Any, options: Any) -> None:
    with pytest.raises(error, match=match):
        reference.cross_entropy(np.zeros((2, 3)), target, **options)


def test_nll_loss_and_softmax_refuse() -> None:
    with pytest.raises(TypeError, match="integer class indices"):
        reference.nll_loss(np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(IndexError, match="target 3 at row 1"):
        reference.nll_loss(np.zeros((2, 3)), [0, 3])
    with pytest.raises(ValueError, match="needs a class axis"):
        reference.softmax(1.0)
    with pytest.raises(ValueError, match="no classes"):
        reference.logsumexp(np.zeros((2, 0)))
