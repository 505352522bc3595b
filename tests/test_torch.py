"""The softmax family of arrays against PyTorch, computed in float64 from the same (rounded) inputs."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastloss
from fastloss import reference

torch = pytest.importorskip("torch")
functional = torch.nn.functional

Array = npt.NDArray[Any]
DTYPES = [np.dtype(kind) for kind in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)]
# Shape of the logits and class axis; 7 classes run a row to a vector lane, 150 a row at a time.
SHAPES = [((7,), 0), ((13, 7), 1), ((5, 150), 1), ((3, 5, 7), 2), ((2, 3, 150), 2), ((3, 7, 2, 9), 1),
          ((2, 150, 5), 1)]  # fmt: skip
IGNORED = -100
over_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
over_shapes = pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
over_reductions = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
# Whether an upstream gradient is multiplied in.
over_scales = pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
over_weights = pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])


def as_torch(array: Any) -> Any:
    """A float64 tensor of the same values, or int64 for indices; None stays."""
    if array is None:
        return None
    array = np.asarray(array)
    return torch.from_numpy(array.astype(np.int64 if array.dtype.kind in "iu" else np.float64))


def assert_loss(actual: Any, expected: Any, dtype: np.dtype[Any]) -> None:
    """What the README promises: float64 1e-14; else 2 ulp of float32, or 1e-6 near 0."""
    actual, expected = (np.asarray(x, dtype=np.float64) for x in (actual, expected))
    assert actual.shape == expected.shape
    assert_array_equal(np.isnan(actual), np.isnan(expected))
    if dtype == np.float64:
        assert_allclose(actual, expected, rtol=1e-14, atol=1e-14)
    else:
        ulp = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
        bound = np.maximum(2.0 * ulp, 1e-6)
        assert np.all((np.abs(actual - expected) <= bound) | np.isnan(expected))


def assert_grad(
    actual: Array, expected: Array, axis: int, dtype: np.dtype[Any], probability: Any = 0.0
) -> None:
    """Within 4e-7 (float64: 1e-14) of the row's largest, and half types rounded once beside it.

    With smoothing or probabilities as targets a gradient may be a small difference: `probability` is the
    largest of the row, times its factor. Of a confident row torch has no more than the absolute precision of
    p - 1.
    """
    assert actual.dtype == dtype
    assert actual.shape == expected.shape
    largest = np.maximum(np.abs(expected).max(axis=axis, keepdims=True, initial=0.0), probability)
    bound = (1e-14 if dtype == np.float64 else 4e-7) * largest + 1e-15 * np.abs(expected).max(initial=0.0)
    if dtype.itemsize == 2:
        info = ml_dtypes.finfo(dtype)
        half_ulp = np.maximum(np.abs(expected) * float(info.eps), float(info.smallest_subnormal))
        bound = bound + half_ulp / 2.0
    assert np.all(np.abs(actual.astype(np.float64) - expected) <= bound)


class Case(NamedTuple):
    """Logits with everything that belongs to them."""

    x: Array
    target: Array
    weight: Array | None
    rng: np.random.Generator
    axis: int

    @property
    def rows(self) -> tuple[int, ...]:
        return self.x.shape[: self.axis] + self.x.shape[self.axis + 1 :]

    def upstream(self, reduction: str, scaled: bool) -> Any:
        if not scaled:
            return None
        return self.rng.standard_normal(self.rows) if reduction == "none" and self.rows else 0.7

    def classes_second(self, x: Any) -> Any:
        """What torch wants: the classes in dimension 1 (or 0)."""
        is_of_classes = x.is_floating_point() and x.ndim == self.x.ndim > 1
        return torch.movedim(x, self.axis, 1) if is_of_classes else x


def make_case(
    shape: tuple[int, ...], axis: int, dtype: Any, kind: str = "indices", weighted: bool = False
) -> Case:
    rng = np.random.default_rng(7)
    classes = shape[axis]
    logits = (3.0 * rng.standard_normal(shape)).astype(dtype)
    if kind == "probabilities":
        positive = rng.random(shape)
        target = (positive / positive.sum(axis=axis, keepdims=True)).astype(dtype)
    else:
        target = rng.integers(0, classes, shape[:axis] + shape[axis + 1 :])
        if kind == "ignoring" and target.ndim:
            target.reshape(-1)[::3] = IGNORED
    return Case(logits, target, rng.uniform(0.2, 2.0, classes) if weighted else None, rng, axis)


def largest_probabilities(case: Case, upstream: Any, label_smoothing: float, reduction: str) -> Any:
    """The largest probability of each row of cross-entropy times the factor of the row in the gradient."""
    classes, by_index = case.x.shape[case.axis], case.target.shape != case.x.shape
    weight = np.ones(classes) if case.weight is None else case.weight
    if by_index:
        counts = case.target != IGNORED
        own = np.where(counts, weight[np.where(counts, case.target, 0)], 0.0)
        even = np.where(counts, weight.mean(), 0.0)
        divisor = own.sum()
    else:
        own = np.moveaxis(case.target.astype(np.float64), case.axis, -1) @ weight
        even, divisor = np.full(own.shape, weight.mean()), max(own.size, 1)
    factor = (1.0 - label_smoothing) * own + label_smoothing * even
    factor = factor * np.abs(1.0 if upstream is None else upstream)
    largest = reference.softmax(case.x.astype(np.float64), axis=case.axis).max(axis=case.axis)
    return np.expand_dims(largest * factor / (divisor if reduction == "mean" else 1.0), case.axis)


def check(
    name: str, case: Case, upstream: Any = None, theirs: Callable[..., Any] | None = None, **options: Any
) -> None:
    """Value and gradient of a function of ours, with its options, are those of torch's (or of another)."""
    leaf = as_torch(case.x).requires_grad_()
    if theirs is None:
        given = case.classes_second(leaf), case.classes_second(as_torch(case.target))
        expected = getattr(functional, name)(*given, weight=as_torch(case.weight), **options)
    else:
        expected = theirs(leaf)
    expected.backward(
        torch.ones_like(expected) if upstream is None else as_torch(upstream).expand(expected.shape)
    )

    def ours(**more: Any) -> Any:
        return getattr(fastloss, name)(
            case.x, case.target, axis=case.axis, weight=case.weight, **options, **more
        )

    actual, grad = ours(return_grad=True, **({} if upstream is None else {"grad_output": upstream}))
    alone, dtype = ours(), case.x.dtype
    assert_array_equal(actual, alone)
    if expected.ndim == 0 and isinstance(actual, float):
        assert isinstance(alone, float)
    else:
        assert actual.dtype == (np.float64 if dtype == np.float64 else np.float32)
    assert_loss(actual, expected.detach().numpy(), dtype)
    smoothing = options.get("label_smoothing", 0.0)
    is_difference = smoothing > 0.0 or case.target.shape == case.x.shape
    probability: Any = 0.0
    if name == "cross_entropy" and theirs is None and is_difference and case.x.shape[case.axis] > 0:
        probability = largest_probabilities(case, upstream, smoothing, options.get("reduction", "mean"))
    assert_grad(grad, leaf.grad.numpy(), case.axis, dtype, probability)


@pytest.mark.full
@over_dtypes
@over_shapes
@over_reductions
@over_scales
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@over_weights
@pytest.mark.parametrize("kind", ["indices", "ignoring", "probabilities"])
def test_cross_entropy(kind, weighted, label_smoothing, reduction, scaled, shape, axis, dtype) -> None:
    case = make_case(shape, axis, dtype, kind, weighted)
    options = {"label_smoothing": label_smoothing, "reduction": reduction}
    check("cross_entropy", case, case.upstream(reduction, scaled), **options)


@over_dtypes
@over_shapes
@over_reductions
@pytest.mark.parametrize("kind", ["ignoring", "probabilities"])
def test_cross_entropy_with_everything(kind, reduction, shape, axis, dtype) -> None:
    test_cross_entropy(kind, True, 0.1, reduction, True, shape, axis, dtype)


@over_dtypes
@over_shapes
@over_reductions
@pytest.mark.parametrize("scaled", [pytest.param(False, marks=pytest.mark.full), True])
@over_weights
@pytest.mark.parametrize("kind", ["indices", "ignoring"])
def test_nll_loss(kind, weighted, reduction, scaled, shape, axis, dtype) -> None:
    case = make_case(shape, axis, dtype, kind, weighted)
    case = case._replace(x=fastloss.log_softmax(case.x, axis=axis))
    check("nll_loss", case, case.upstream(reduction, scaled), reduction=reduction)


@over_dtypes
@pytest.mark.parametrize("ignore_index", [2, -1, 400])
@over_reductions
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_other_ignore_index(name, reduction, ignore_index, dtype) -> None:
    """A class of its own may be ignored, and so may an index outside of the classes."""
    case = make_case((20, 7), 1, dtype)
    case.target[::4] = ignore_index
    assert np.any(case.target != ignore_index)
    check(name, case, ignore_index=ignore_index, reduction=reduction)


@over_dtypes
@pytest.mark.parametrize("shape", [(6, 7), (6, 150), (0, 7)])
@over_reductions
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@over_weights
def test_nothing_counts(weighted, label_smoothing, reduction, shape, dtype) -> None:
    """All rows ignored, or an empty batch."""
    case = make_case(shape, 1, dtype, weighted=weighted)
    case.target[:] = IGNORED
    options = {"label_smoothing": label_smoothing, "reduction": reduction}
    expected = functional.cross_entropy(
        as_torch(case.x), as_torch(case.target), weight=as_torch(case.weight), **options
    )
    loss, grad = fastloss.cross_entropy(case.x, case.target, weight=case.weight, return_grad=True, **options)
    assert_array_equal(np.asarray(loss, dtype=np.float64), expected.numpy())
    assert math.isnan(np.sum(loss)) == (reduction == "mean")
    assert grad.dtype == dtype
    assert_array_equal(grad.astype(np.float64), np.zeros(shape))


@over_dtypes
@over_shapes
def test_transforms(shape, axis, dtype) -> None:
    x = make_case(shape, axis, dtype).x
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
def test_masked_classes(masked, classes) -> None:
    """-inf at classes that are not the target."""
    case = make_case((12, classes), 1, np.float64)
    if masked:
        case.x[case.rng.random(case.x.shape) < 0.3] = -np.inf
        case.x[np.arange(12), case.target] = 1.0
    check("cross_entropy", case)
    assert_allclose(fastloss.softmax(case.x), torch.softmax(as_torch(case.x), 1).numpy(), rtol=1e-14)


def written_out(x: Any, case: Case, options: dict[str, Any]) -> Any:
    """The loss in torch; the classes stay where they are."""
    classes, smoothing, softcap = x.shape[case.axis], options["label_smoothing"], options["softcap"]
    z = x if softcap is None else softcap * torch.tanh(x / softcap)
    z = torch.movedim(z / options["temperature"], case.axis, -1)
    w = torch.ones(classes, dtype=x.dtype) if case.weight is None else as_torch(case.weight)
    s = torch.tensor(1.0) if options["sample_weight"] is None else as_torch(options["sample_weight"])
    if case.target.dtype.kind == "i":
        counted = as_torch(case.target != IGNORED).bool()
        y = as_torch(np.where(case.target == IGNORED, 0, case.target))
        q = functional.one_hot(y, classes).to(x.dtype)
        share = torch.where(counted, w[y], 0.0)
    else:
        counted = torch.tensor(True)
        q = torch.movedim(as_torch(case.target), case.axis, -1)
        share = torch.ones(q.shape[:-1], dtype=x.dtype)
    q = (1.0 - smoothing) * q + smoothing / classes
    lse = torch.logsumexp(z, -1)
    ce = (w * q * (lse[..., None] - z)).sum(-1)
    # Liger: the log-sum-exp of what the loss sees, squared, times the factor, added to each row.
    rows = s * torch.where(counted, ce + share * options["z_loss"] * lse * lse, 0.0)
    if options["reduction"] == "none":
        return rows
    return rows.sum() / ((share * s).sum() if options["reduction"] == "mean" else 1.0)


@pytest.mark.full
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@pytest.mark.parametrize(
    ("shape", "axis"), [((9, 7), 1), ((5, 150), 1), ((2, 4, 150), 2), ((3, 7, 5), 1), ((2, 150, 5), 1)]
)
@over_reductions
@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("temperature", [1.0, 0.5, 1.7])
@pytest.mark.parametrize("kind", ["plain", "ignoring", "everything", "probabilities"])
def test_autograd(kind, temperature, softcap, z_loss, reduction, shape, axis, dtype) -> None:
    """z-loss, softcap and temperature written out in torch, alone and with all other options."""
    more = kind in ("everything", "probabilities")
    case = make_case(shape, axis, dtype, "ignoring" if kind == "everything" else kind, more)
    options = {
        "z_loss": z_loss, "softcap": softcap, "temperature": temperature, "reduction": reduction,
        "sample_weight": case.rng.uniform(0.1, 3.0, case.rows) if more else None,
        "label_smoothing": 0.1 if more else 0.0,
    }  # fmt: skip
    check(
        "cross_entropy",
        case,
        case.upstream(reduction, more),
        lambda x: written_out(x, case, options),
        **options,
    )


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@over_reductions
@pytest.mark.parametrize("kind", ["plain", "everything", "probabilities"])
def test_autograd_with_everything(kind, reduction, dtype) -> None:
    for shape, axis in (((9, 7), 1), ((2, 4, 150), 2), ((2, 150, 5), 1)):
        test_autograd(kind, 1.7, 5.0, 1e-2, reduction, shape, axis, dtype)


@pytest.mark.parametrize("classes", [7, 150])
@pytest.mark.parametrize("kind", ["indices", "ignoring"])
def test_perplexity(kind, classes) -> None:
    case = make_case((4, 6, classes), 2, np.float64, kind)
    logits, target = as_torch(case.x).reshape(-1, classes), as_torch(case.target).reshape(-1)
    mean = functional.cross_entropy(logits, target)
    assert_allclose(fastloss.perplexity(case.x, case.target), math.exp(mean), rtol=1e-13)
