"""Rows of few classes, which are computed in groups: each has the bits that it has alone."""

import math

import ml_dtypes
import numpy as np
import pytest
from helpers import bits, each, over_product
from levels import streaming_from

import fastloss

pytestmark = pytest.mark.usefixtures("isa")

ODD = {
    "nan": lambda x: x.fill(math.nan),
    "one nan": lambda x: x.__setitem__(0, math.nan),
    "inf": lambda x: x.__setitem__(-1, math.inf),
    "masked class": lambda x: x.__setitem__(0, -math.inf),
    "all masked": lambda x: x.fill(-math.inf),
    "huge": lambda x: x.__setitem__(0, 3e38),
    "tiny": lambda x: x.__setitem__(0, -3e38),
    "offset": lambda x: x.__iadd__(3e6),
    "confident": lambda x: x.__setitem__(0, 60.0),
    "over 32": lambda x: x.__setitem__(-1, 32.25),
    "under -32": lambda x: x.__setitem__(0, -32.25),
    "at 32": lambda x: x.__setitem__(0, 32.0),
}
FORMS = {
    "value": {},
    "gradient": {"return_grad": True},
    "in place": {"return_grad": True, "out": True},
    "z-loss": {"return_grad": True, "z_loss": 0.01},
    "temperature": {"return_grad": True, "temperature": 0.7},
    "softcap": {"return_grad": True, "softcap": 20.0},
    "smoothing": {"return_grad": True, "label_smoothing": 0.1},
    "probabilities": {"return_grad": True},
}


GRADIENT = {"reduction": "none", "return_grad": True}


def run(x, target, form):
    x = x.copy()
    options = {**FORMS[form], "out": x} if form == "in place" else FORMS[form]
    result = fastloss.cross_entropy(x, target, reduction="none", **options)
    return result if isinstance(result, tuple) else (result,)


def targets(form, rng, rows, classes, dtype):
    if form != "probabilities":
        return rng.integers(0, classes, rows)
    q = rng.exponential(size=(rows, classes))
    return (q / q.sum(axis=1, keepdims=True)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("form", FORMS)
@over_product
@each("classes", [2, 3, 5, 10, 16, 33, 64, 65, 130, 700])
def test_odd_rows_change_no_other(form, classes, dtype, product):
    """Odd rows at every place of a group of 64, several kinds at each, and the rows around them."""
    rng = np.random.default_rng(classes)
    rows = 64 + len(ODD)
    plain = (3.0 * rng.standard_normal((rows, classes))).astype(dtype)
    target = targets(form, rng, rows, classes, dtype)
    alone = [bits(*run(plain[i : i + 1], target[i : i + 1], form)) for i in range(rows)]
    for first in range(0, 64, 5) if product else range(5 * (classes % 2), 64, 10):
        x, expected = plain.copy(), list(alone)
        with np.errstate(over="ignore"):
            for place, change in enumerate(ODD.values(), start=first):
                change(x[place])
                if first % 20 < 10:
                    expected[place] = bits(*run(x[place : place + 1], target[place : place + 1], form))
        result = run(x, target, form)
        for i in range(rows):
            if first % 20 < 10 or not first <= i < first + len(ODD):
                assert bits(*(part[i] for part in result)) == expected[i], i


@pytest.mark.parametrize("form", ["value", "gradient", "in place", "temperature"])
def test_two_classes(form):
    """Groups without an odd row have a kernel of their own: the bits of rows alone, and of other layouts."""
    rng = np.random.default_rng(0)
    rows = 3 * 64 + 5
    x = (8.0 * rng.standard_normal((rows, 2))).astype(np.float32)
    x[::7] = x[::7, :1]
    x[3::9] = [80.0, -7.25]
    x[150] = [-math.inf, 1.0]
    target = rng.integers(0, 2, rows)
    target[5::11] = -100
    whole = run(x, target, form)
    for other in (np.asfortranarray(x), x[:, ::-1].copy()[:, ::-1]):
        assert bits(*run(other, target, form)) == bits(*whole)
    for i in range(rows):
        alone = run(x[i : i + 1], target[i : i + 1], form)
        assert bits(*(part[i] for part in whole)) == bits(*(part[0] for part in alone)), i
    temperature = FORMS[form].get("temperature", 1.0)
    expected = fastloss.reference.cross_entropy(x[:150], target[:150], temperature=temperature, **GRADIENT)
    for part, exact in zip(whole, expected, strict=False):
        np.testing.assert_allclose(part[:150], exact, rtol=3e-7, atol=1e-30)


@pytest.mark.parametrize("classes", [2, 3, 5, 10, 16, 33, 64, 65, 129, 272, 1000])
@pytest.mark.parametrize("form", ["class", "weighted", "probabilities", "both"])
def test_smoothing_and_probabilities(form, classes):
    """Near and far rows with any offset, against float64: the bounds of the README."""
    rng = np.random.default_rng(classes)
    rows = 600
    x = rng.standard_normal((rows, classes)) * rng.choice([0.1, 1.0, 6.0, 20.0], (rows, 1))
    x = (x + rng.choice([0.0, 1e4, -3e3], (rows, 1))).astype(np.float32)
    is_given = form in ("probabilities", "both")
    target = targets("probabilities" if is_given else form, rng, rows, classes, np.float32)
    weight = rng.uniform(0.2, 3.0, classes) if form in ("weighted", "both") else None
    wide = target.astype(np.float64) if is_given else target
    for smoothing in (0.0, 0.1, 1.0):
        options = {"label_smoothing": smoothing, "weight": weight, "temperature": 1.3, "reduction": "none"}
        loss, grad = fastloss.cross_entropy(x, target, return_grad=True, **options)
        exact, slope = fastloss.cross_entropy(x.astype(np.float64), wide, return_grad=True, **options)
        assert (np.abs(loss - exact) <= np.maximum(2.0 * np.spacing(exact.astype(np.float32)), 1e-6)).all()
        q = target if is_given else np.eye(classes)[target]
        mass = (1.0 if weight is None else weight) * ((1.0 - smoothing) * q + smoothing / classes) / 1.3
        largest = mass.max(axis=1) if smoothing or is_given else 0.0
        scale = np.maximum(np.abs(slope).max(axis=1), largest)
        assert (np.abs(grad - slope) <= 4e-7 * scale[:, np.newaxis]).all()


MIDDLE = {
    "plain": {},
    "class weights": {"weight": True},
    "smoothing": {"label_smoothing": 0.1},
    "smoothing and class weights": {"label_smoothing": 0.1, "weight": True},
    "z-loss": {"z_loss": 0.01},
    "temperature": {"temperature": 0.7},
    "hessian": {"return_hessian": True},
    "softcap": {"softcap": 20.0},
}


def middle(classes, rows=39):
    """Rows of middle length with odd ones between them, and targets of which one is ignored."""
    rng = np.random.default_rng(classes)
    x = (4.0 * rng.standard_normal((rows, classes))).astype(np.float32)
    x[3::7] *= 20.0
    x[5, :] = 0.0
    for place, change in enumerate(ODD.values(), start=rows - len(ODD)):
        change(x[place])
    target = rng.integers(0, classes, rows)
    target[::11] = x[::11].argmax(axis=1)
    target[2] = -100
    return x, target


@pytest.mark.parametrize("form", MIDDLE)
@pytest.mark.parametrize("classes", [65, 79, 80, 144, 160])
def test_layouts_of_middle_rows(form, classes):
    """Rows as they lie, spread, along another axis and in place have the same bits."""
    x, target = middle(min(classes, 80) if form == "softcap" else classes)
    classes = x.shape[1]
    options = dict(MIDDLE[form])
    if "weight" in options:
        options["weight"] = np.arange(classes) % 5 * 0.5
    spread = np.zeros((len(x), 2 * classes), np.float32)[:, ::2]
    spread[...] = x
    others = spread, np.asfortranarray(x)
    whole = bits(*fastloss.cross_entropy(x, target, **GRADIENT, **options))
    for other in others:
        assert bits(*fastloss.cross_entropy(other, target, **GRADIENT, **options)) == whole
    if form != "hessian":
        copy = x.copy()
        assert bits(*fastloss.cross_entropy(copy, target, **GRADIENT, out=copy, **options)) == whole
    for function in (fastloss.softmax, fastloss.log_softmax, fastloss.logsumexp):
        for other in others:
            assert bits(function(other)) == bits(function(x))


@pytest.mark.parametrize("classes", [65, 200, 384, 385, 640, 641, 1000, 1024, 1025])
def test_middle_rows(classes):
    """Softmax, log-softmax, log-sum-exp and second derivatives, against float64."""
    x, target = middle(classes)
    usual = np.isfinite(x).all(axis=1) & (np.abs(x).max(axis=1) < 1e5)
    x, target = x[usual], target[usual]
    wide = x.astype(np.float64)
    np.testing.assert_allclose(fastloss.softmax(x), fastloss.softmax(wide), rtol=4e-7, atol=1e-37)
    exact = fastloss.log_softmax(wide)
    scale = np.maximum(np.abs(exact), np.abs(wide).max(axis=1, keepdims=True))
    assert (np.abs(fastloss.log_softmax(x) - exact) <= 2e-7 * scale + 1e-6).all()
    exact = fastloss.logsumexp(wide)
    bound = np.maximum(2.0 * np.spacing(np.abs(exact, dtype=np.float32)), 1e-6)
    assert (np.abs(fastloss.logsumexp(x) - exact) <= bound).all()
    both = (fastloss.cross_entropy(z, target, return_hessian=True, **GRADIENT)[2] for z in (x, wide))
    np.testing.assert_allclose(*both, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize(
    ("dtype", "columns"), [(np.float32, 0), (np.float32, 1), (ml_dtypes.bfloat16, 3), (np.float16, 2)]
)
@pytest.mark.parametrize("form", ["plain", "smoothing", "softcap"])
def test_large_middle_rows(form, dtype, columns):
    """Gradients that are written past the caches, at any alignment and with gaps."""
    rng, rows = np.random.default_rng(2), 5003
    x = rng.standard_normal((rows, 130), dtype=np.float32).astype(dtype)
    target = rng.integers(0, 130, rows)
    width, offset = 130 + columns // 2 * 2, columns % 2
    room = np.zeros(rows * width + offset, dtype)[offset:].reshape(rows, width)
    out = room[:, :130]
    with streaming_from(2**20):
        loss, grad = fastloss.cross_entropy(x, target, **GRADIENT, out=out, **MIDDLE[form])
    assert grad is out
    assert not room[:, 130:].any()
    for some in (slice(0, 40), slice(rows // 2 + 3, rows // 2 + 50), slice(-17, None)):
        alone = fastloss.cross_entropy(x[some], target[some], **GRADIENT, **MIDDLE[form])
        assert bits(loss[some], np.ascontiguousarray(grad[some])) == bits(*alone)


def test_masked_classes_of_probabilities():
    """A masked class without probability is as none; with one the loss is infinite."""
    x = np.array([[1.0, -math.inf, 2.0], [1.0, -math.inf, 2.0]], np.float32)
    q = np.array([[0.5, 0.0, 0.5], [0.25, 0.5, 0.25]], np.float32)
    loss, grad = fastloss.cross_entropy(x, q, **GRADIENT)
    other, slope = fastloss.cross_entropy(x[:, ::2], q[:, ::2], **GRADIENT)
    assert loss[0] == pytest.approx(other[0], rel=1e-6)
    assert loss[1] == math.inf
    assert not grad[:, 1].any()
    np.testing.assert_allclose(grad[0, ::2], slope[0], atol=1e-7)


@pytest.mark.parametrize(("dtype", "planes"), [(np.float32, (71, 1009)), (ml_dtypes.bfloat16, (1501, 91))])
def test_large_planes(dtype, planes):
    """Gradients along another axis, large enough to be written past the caches, at any alignment."""
    rng = np.random.default_rng(1)
    shape = (2, 64, *planes)
    x = rng.standard_normal(shape, dtype=np.float32).astype(dtype)
    x[0, 3, 5, 7] = math.nan
    target = rng.integers(0, 64, (2, *planes))
    room = np.zeros(x.size + 3, dtype)
    out = room[3:].reshape(shape)
    loss, grad = fastloss.cross_entropy(x, target, axis=1, **GRADIENT, out=out)
    assert grad is out
    rows = np.moveaxis(x, 1, -1)
    for i, j in ((0, slice(0, 9)), (1, slice(-9, None))):
        some = np.ascontiguousarray(rows[i, j])
        alone = fastloss.cross_entropy(some, target[i, j], **GRADIENT)
        assert bits(loss[i, j], np.moveaxis(grad, 1, -1)[i, j]) == bits(*alone)
    in_place = x.copy()
    again, _ = fastloss.cross_entropy(in_place, target, axis=1, **GRADIENT, out=in_place, num_threads=1)
    assert bits(again) == bits(loss)
    assert in_place.tobytes() == grad.tobytes()
    assert not room[:3].any()
