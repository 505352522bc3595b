"""Against PyTorch, computed in float64 from the same (rounded) inputs."""

import math

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastloss

torch = pytest.importorskip("torch")
functional = torch.nn.functional

DTYPES = [
    pytest.param(np.dtype(kind), id=np.dtype(kind).name)
    for kind in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)
]
# Shape of the logits and class axis; 7 classes run a row to a vector lane, 150 a row at a time.
SHAPES = [
    pytest.param((7,), 0, id="1d"),
    pytest.param((13, 7), 1, id="2d"),
    pytest.param((5, 150), 1, id="2d-wide"),
    pytest.param((3, 5, 7), 2, id="BTV"),
    pytest.param((2, 3, 150), 2, id="BTV-wide"),
    pytest.param((3, 7, 2, 9), 1, id="axis1"),
    pytest.param((2, 150, 5), 1, id="axis1-wide"),
]
IGNORED = -100

# Reduction, and whether an upstream gradient is multiplied in.
REDUCTIONS = [
    pytest.param("mean", False, id="mean"),
    pytest.param("sum", False, id="sum"),
    pytest.param("none", False, id="none"),
    pytest.param("mean", True, id="mean-scaled"),
    pytest.param("sum", True, id="sum-scaled"),
    pytest.param("none", True, id="none-scaled"),
]


def as_torch(array):
    """A float64 tensor of the same values, or int64 for indices."""
    array = np.asarray(array)
    kind = np.int64 if array.dtype.kind in "iu" else np.float64
    return torch.from_numpy(np.array(array, dtype=kind))


def assert_loss(actual, expected, dtype):
    """What the README promises: float64 1e-14; else 2 ulp of float32, or 1e-6 near 0."""
    actual = np.asarray(actual, dtype=np.float64)
    expected = np.asarray(expected, dtype=np.float64)
    assert actual.shape == expected.shape
    assert_array_equal(np.isnan(actual), np.isnan(expected))
    if dtype == np.float64:
        assert_allclose(actual, expected, rtol=1e-14, atol=1e-14)
    else:
        ulp = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
        bound = np.maximum(2.0 * ulp, 1e-6)
        assert np.all((np.abs(actual - expected) <= bound) | np.isnan(expected))


def assert_grad(actual, expected, axis, dtype):
    """Within 4e-7 (float64: 1e-14) of the row's largest, and half types rounded once beside it.

    Of a confident row torch has no more than the absolute precision of p - 1.
    """
    assert actual.dtype == dtype
    assert actual.shape == expected.shape
    largest = np.abs(expected).max(axis=axis, keepdims=True)
    bound = (1e-14 if dtype == np.float64 else 4e-7) * largest + 1e-15 * np.abs(expected).max()
    if dtype.itemsize == 2:
        info = ml_dtypes.finfo(dtype)
        half_ulp = np.maximum(np.abs(expected) * float(info.eps), float(info.smallest_subnormal))
        bound = bound + half_ulp / 2.0
    assert np.all(np.abs(actual.astype(np.float64) - expected) <= bound)


def make_case(shape, axis, dtype, *, weighted=False, ignoring=False, probabilities=False):
    rng = np.random.default_rng(7)
    classes = shape[axis]
    rows = shape[:axis] + shape[axis + 1 :]
    logits = (3.0 * rng.standard_normal(shape)).astype(dtype)
    if probabilities:
        positive = rng.random(shape)
        target = (positive / positive.sum(axis=axis, keepdims=True)).astype(dtype)
    else:
        target = rng.integers(0, classes, rows)
        if ignoring and target.ndim:
            target.reshape(-1)[::3] = IGNORED
    weight = rng.uniform(0.2, 2.0, classes) if weighted else None
    return logits, target, weight, rng


def upstream_of(shape, rng, scaled):
    if not scaled:
        return None
    return 0.7 if shape == () else rng.standard_normal(shape)


def torch_loss_and_grad(loss_of, x, axis, upstream):
    """Value and gradient of a torch loss that wants the classes in dimension 1 (or 0)."""
    leaf = as_torch(x).requires_grad_()
    moved = leaf if leaf.ndim == 1 else torch.movedim(leaf, axis, 1)
    loss = loss_of(moved)
    seed = torch.ones_like(loss) if upstream is None else as_torch(upstream).expand(loss.shape)
    loss.backward(seed)
    return loss.detach().numpy(), leaf.grad.numpy()


def classes_second(target, axis):
    tensor = as_torch(target)
    return tensor if tensor.ndim == 1 else torch.movedim(tensor, axis, 1)


def check(ours, theirs, x, axis, dtype, upstream):
    expected, expected_grad = torch_loss_and_grad(theirs, x, axis, upstream)
    options = {} if upstream is None else {"grad_output": upstream}
    actual, grad = ours(return_grad=True, **options)
    alone = ours()
    assert_array_equal(actual, alone)
    if np.ndim(expected) == 0 and isinstance(actual, float):
        assert isinstance(alone, float)
    else:
        assert actual.dtype == (np.float64 if dtype == np.float64 else np.float32)
    assert_loss(actual, expected, dtype)
    assert_grad(grad, expected_grad, axis, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize(("reduction", "scaled"), REDUCTIONS)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("kind", ["indices", "ignoring", "probabilities"])
def test_cross_entropy(kind, weighted, label_smoothing, reduction, scaled, shape, axis, dtype):
    probabilities = kind == "probabilities"
    x, target, weight, rng = make_case(
        shape, axis, dtype, weighted=weighted, ignoring=kind == "ignoring",
        probabilities=probabilities,
    )  # fmt: skip
    rows = shape[:axis] + shape[axis + 1 :]
    upstream = upstream_of(rows if reduction == "none" else (), rng, scaled)

    def ours(**options):
        return fastloss.cross_entropy(
            x, target, axis=axis, weight=weight, label_smoothing=label_smoothing,
            reduction=reduction, **options,
        )  # fmt: skip

    def theirs(moved):
        return functional.cross_entropy(
            moved,
            classes_second(target, axis) if probabilities else as_torch(target),
            weight=None if weight is None else as_torch(weight),
            label_smoothing=label_smoothing,
            reduction=reduction,
        )

    check(ours, theirs, x, axis, dtype, upstream)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize(("reduction", "scaled"), REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("ignoring", [False, True], ids=["all", "ignoring"])
def test_nll_loss(ignoring, weighted, reduction, scaled, shape, axis, dtype):
    scores, target, weight, rng = make_case(shape, axis, dtype, weighted=weighted, ignoring=ignoring)
    x = fastloss.log_softmax(scores, axis=axis)
    rows = shape[:axis] + shape[axis + 1 :]
    upstream = upstream_of(rows if reduction == "none" else (), rng, scaled)

    def ours(**options):
        return fastloss.nll_loss(x, target, axis=axis, weight=weight, reduction=reduction, **options)

    def theirs(moved):
        return functional.nll_loss(
            moved,
            as_torch(target),
            weight=None if weight is None else as_torch(weight),
            reduction=reduction,
        )

    check(ours, theirs, x, axis, dtype, upstream)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ignore_index", [2, -1, 400])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_other_ignore_index(name, reduction, ignore_index, dtype):
    """A class of its own may be ignored, and so may an index outside of the classes."""
    x, target, _, _ = make_case((20, 7), 1, dtype)
    target[::4] = ignore_index
    assert np.any(target != ignore_index)

    def ours(**options):
        return getattr(fastloss, name)(x, target, ignore_index=ignore_index, reduction=reduction, **options)

    def theirs(moved):
        return getattr(functional, name)(
            moved, as_torch(target), ignore_index=ignore_index, reduction=reduction
        )

    check(ours, theirs, x, 1, dtype, None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [7, 150])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_all_ignored(weighted, label_smoothing, reduction, classes, dtype):
    x, target, weight, _ = make_case((6, classes), 1, dtype, weighted=weighted)
    target[:] = IGNORED
    options = {"label_smoothing": label_smoothing, "reduction": reduction}
    if weight is not None:
        options["weight"] = as_torch(weight)
    expected = functional.cross_entropy(as_torch(x), as_torch(target), **options).numpy()
    options["weight"] = weight
    loss, grad = fastloss.cross_entropy(x, target, return_grad=True, **options)
    assert_array_equal(np.asarray(loss, dtype=np.float64), expected)
    assert math.isnan(np.sum(loss)) == (reduction == "mean")
    assert grad.dtype == dtype
    assert_array_equal(grad.astype(np.float64), np.zeros(x.shape))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_empty_batch(reduction, dtype):
    x, target = np.zeros((0, 7), dtype), np.zeros(0, np.int64)
    expected = functional.cross_entropy(as_torch(x), as_torch(target), reduction=reduction)
    loss, grad = fastloss.cross_entropy(x, target, reduction=reduction, return_grad=True)
    assert_array_equal(np.asarray(loss, dtype=np.float64), expected.numpy())
    assert grad.shape == (0, 7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_transforms(shape, axis, dtype):
    x = make_case(shape, axis, dtype)[0]
    tensor = as_torch(x)
    assert_grad(fastloss.softmax(x, axis=axis), torch.softmax(tensor, axis).numpy(), axis, dtype)

    logs = fastloss.log_softmax(x, axis=axis)
    expected = torch.log_softmax(tensor, axis).numpy()
    assert logs.dtype == dtype
    if dtype.itemsize == 2:
        eps = float(ml_dtypes.finfo(dtype).eps)
        # One rounding to the half type, and what float32 brings before.
        assert_allclose(logs.astype(np.float64), expected, rtol=eps / 2.0 + 3e-7, atol=1e-6)
    else:
        assert_loss(logs, expected, dtype)

    lse = fastloss.logsumexp(x, axis=axis)
    assert lse.dtype == (np.float64 if dtype == np.float64 else np.float32)
    assert_loss(lse, torch.logsumexp(tensor, axis).numpy(), dtype)


@pytest.mark.parametrize("classes", [7, 150])
@pytest.mark.parametrize("masked", [False, True], ids=["finite", "masked"])
def test_masked_classes(masked, classes):
    """-inf at classes that are not the target."""
    x, target, _, rng = make_case((12, classes), 1, np.float64)
    if masked:
        x[rng.random(x.shape) < 0.3] = -np.inf
        x[np.arange(12), target] = 1.0
    check(
        lambda **options: fastloss.cross_entropy(x, target, **options),
        lambda moved: functional.cross_entropy(moved, as_torch(target)),
        x, 1, np.dtype(np.float64), None,
    )  # fmt: skip
    assert_allclose(fastloss.softmax(x), torch.softmax(as_torch(x), 1).numpy(), rtol=1e-14)


def written_out(x, target, *, axis, weight, sample_weight, smoothing, z_loss, softcap, temperature):
    """The row losses and their denominators, in torch; the classes stay where they are."""
    classes = x.shape[axis]
    z = x if softcap is None else softcap * torch.tanh(x / softcap)
    z = torch.movedim(z / temperature, axis, -1)
    w = torch.ones(classes, dtype=x.dtype) if weight is None else as_torch(weight)
    s = torch.tensor(1.0) if sample_weight is None else as_torch(sample_weight)
    if target.dtype.kind == "i":
        counted = as_torch(target != IGNORED).bool()
        y = as_torch(np.where(target == IGNORED, 0, target))
        q = functional.one_hot(y, classes).to(x.dtype)
        share = torch.where(counted, w[y], 0.0)
    else:
        counted = torch.tensor(True)
        q = torch.movedim(as_torch(target), axis, -1)
        share = torch.ones(q.shape[:-1], dtype=x.dtype)
    q = (1.0 - smoothing) * q + smoothing / classes
    lse = torch.logsumexp(z, -1)
    ce = (w * q * (lse[..., None] - z)).sum(-1)
    # Liger: the log-sum-exp of what the loss sees, squared, times the factor, added to each row.
    rows = s * torch.where(counted, ce + share * z_loss * lse * lse, 0.0)
    return rows, share * s


@pytest.mark.parametrize("dtype", [pytest.param(np.dtype(t), id=t) for t in ("float32", "float64")])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((9, 7), 1), ((5, 150), 1), ((2, 4, 150), 2), ((3, 7, 5), 1), ((2, 150, 5), 1)],
)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("temperature", [1.0, 0.5, 1.7])
@pytest.mark.parametrize("kind", ["plain", "ignoring", "everything", "probabilities"])
def test_autograd(kind, temperature, softcap, z_loss, reduction, shape, axis, dtype):
    """z-loss, softcap and temperature written out in torch, alone and with all other options."""
    more = kind in ("everything", "probabilities")
    x, target, weight, rng = make_case(
        shape, axis, dtype, weighted=more, ignoring=kind in ("ignoring", "everything"),
        probabilities=kind == "probabilities",
    )  # fmt: skip
    rows = shape[:axis] + shape[axis + 1 :]
    sample_weight = rng.uniform(0.1, 3.0, rows) if more else None
    upstream = upstream_of(rows if reduction == "none" else (), rng, more)
    smoothing = 0.1 if more else 0.0

    leaf = as_torch(x).requires_grad_()
    losses, shares = written_out(
        leaf, target, axis=axis, weight=weight, sample_weight=sample_weight, smoothing=smoothing,
        z_loss=z_loss, softcap=softcap, temperature=temperature,
    )  # fmt: skip
    expected = losses
    if reduction != "none":
        expected = losses.sum() / (shares.sum() if reduction == "mean" else 1.0)
    seed = torch.ones_like(expected) if upstream is None else as_torch(upstream)
    expected.backward(seed.expand(expected.shape))

    loss, grad = fastloss.cross_entropy(
        x, target, axis=axis, weight=weight, sample_weight=sample_weight,
        label_smoothing=smoothing, z_loss=z_loss, softcap=softcap, temperature=temperature,
        reduction=reduction, return_grad=True, grad_output=upstream,
    )  # fmt: skip
    assert_loss(loss, expected.detach().numpy(), dtype)
    assert_grad(grad, leaf.grad.numpy(), axis, dtype)


@pytest.mark.parametrize("classes", [7, 150])
@pytest.mark.parametrize("ignore", [False, True], ids=["all", "ignoring"])
def test_perplexity(ignore, classes):
    x, target, _, _ = make_case((4, 6, classes), 2, np.float64, ignoring=ignore)
    mean = functional.cross_entropy(as_torch(x).reshape(-1, classes), as_torch(target).reshape(-1))
    assert_allclose(fastloss.perplexity(x, target), math.exp(mean), rtol=1e-13)
