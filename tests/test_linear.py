"""Of the losses of a linear layer alone: widths, bands of the vocabulary, memory, bad arguments."""

import math
import re
import tracemalloc
from dataclasses import replace
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from helpers import (
    DTYPES,
    EITHER,
    INF,
    NAN,
    Array,
    Kind,
    Shape,
    assert_near,
    assert_within,
    bits,
    dtype_named,
    on_every_isa,
    over_dtypes,
    over_wide,
    refused,
)
from registry import Call, Row, call, over
from rows.linear import CROSS_ENTROPY, FIELDS, LOG_PROBS, OF_PROBABILITIES, ROWS, set_up

import fastloss
from fastloss import reference
from fastloss._engine import chunks, workspace

over_rows = over([row for row in ROWS if row.reductions])
over_names = over([CROSS_ENTROPY, LOG_PROBS])


@cache
def of_width(row: Row, width: int) -> Row:
    is_soft = row is OF_PROBABILITIES
    return replace(row, make=lambda rng, shape, options: set_up(rng, shape[:-1], width, shape[-1], is_soft))


def most_options(row: Row) -> dict[str, Any]:
    """All options but `logit_scale`, which the last set has."""
    return row.sets[-2]


def linear(
    row: Row = CROSS_ENTROPY,
    rows: Shape = (7,),
    width: int = 3,
    vocabulary: int = 10,
    dtype: str = "float32",
    reduction: str = "mean",
    options: tuple[str, ...] = (),
    bias: bool = True,
    seed: int = 0,
) -> Call:
    """A call with inputs of this width, and options by name ("all" of them, upstream gradients included)."""
    names = {name for given in row.sets for name in given}
    extras = row.company() if "all" in options else tuple(o for o in options if o in row.company())
    chosen = most_options(row).keys() if "all" in options else names & set(options)
    number = next(i for i, given in enumerate(row.sets) if given.keys() == chosen)
    kind = ("array" if reduction == "none" else "scalar") if {"all", "grad_output"} & set(options) else None
    made = call(of_width(row, width), (*rows, vocabulary), dtype, reduction, number, extras, kind, seed)
    return made if bias else without_bias(made)


def without_bias(c: Call) -> Call:
    return replace(c, arguments={**c.arguments, "linear_bias": None})


def option_names(row: Row) -> list[str]:
    return [*most_options(row), *row.company(), "grad_output"]


# What the registry's sizes do not have: rows, width, vocabulary.
SHAPES: list[tuple[Shape, int, int]] = [
    *(((rows,), width, 3000) for rows, width in ((0, 3), (1, 64), (2, 1))),
    *(((rows,), 1, vocabulary) for rows, vocabulary in ((0, 1), (2, 2), (7, 65), (300, 65))),
    *(((rows,), 64, vocabulary) for rows, vocabulary in ((1, 2), (2, 10), (7, 1), (300, 10), (300, 3000))),
    ((2, 3), 64, 65),
]


# Values


@over_dtypes
@over_rows
def test_every_shape(row: Row, dtype: str) -> None:
    for rows, width, vocabulary in SHAPES:
        linear(row, rows, width, vocabulary, dtype, "mean", bias=False).check()
        linear(row, rows, width, vocabulary, dtype, "none", ("all",)).check()


def test_log_probs_are_minus_the_cross_entropy() -> None:
    """Of logits made by hand, without the code that the two linear references share."""
    for dtype in DTYPES:
        p = linear(LOG_PROBS, (2, 5), 8, 30, dtype, "none", ("ignore_index", "softcap", "temperature"))
        x, w, b = (np.asarray(a, np.float64) for a in (p["input"], p["linear_weight"], p["linear_bias"]))
        counts = p["target"] != p.options["ignore_index"]
        logits = np.einsum("btd,vd->btv", np.where(counts[..., np.newaxis], x, 0.0), w) + b
        exact = -np.asarray(reference.cross_entropy(logits, p["target"], reduction="none", **p.options))
        found = p.value()
        assert (np.asarray(found)[~counts] == 0.0).all()
        assert not np.signbit(np.asarray(p.expected[0])[~counts]).any()
        assert_within(found, exact, 2e-6 * np.maximum(np.abs(exact), 1.0), p.title)
        mean = p.with_(reduction="mean").value()
        assert mean == pytest.approx(exact.sum() / counts.sum(), rel=2e-6)


def test_by_hand() -> None:
    # Logits log(1), log(2), log(5): probabilities 1/8, 2/8, 5/8.
    w, b = np.log([[1.0], [1.0], [5.0]]), np.log([1.0, 2.0, 1.0])
    for module in (reference, fastloss):
        given: dict[str, Any] = {"linear_bias": b, "return_grad": True}
        loss, grads = module.linear_cross_entropy([[1.0]], w, [1], **given)  # type: ignore[attr-defined]
        g = np.array([1, -6, 5]) / 8
        assert loss == pytest.approx(math.log(4.0), rel=1e-14)
        np.testing.assert_allclose(grads.input, [[math.log(5.0) * 5 / 8]], rtol=1e-13)
        np.testing.assert_allclose(grads.linear_weight, g[:, np.newaxis], rtol=1e-13)
        np.testing.assert_allclose(grads.linear_bias, g, rtol=1e-13)
        loss, grads = module.linear_token_log_probs([[1.0]], w, [1], **given)  # type: ignore[attr-defined]
        np.testing.assert_allclose(loss, [-math.log(4.0)], rtol=1e-13)
        np.testing.assert_allclose(grads.linear_bias, -g, rtol=1e-13)


@over_names
def test_ignored_rows_see_no_weights(row: Row) -> None:
    """Their gradient is 0 even where the weights are not finite."""
    p = linear(row, (6,), 3, 10, "float32", "sum", ("ignore_index",), seed=9)
    for bad in (NAN, INF):
        w = p["linear_weight"].copy()
        w[4, 1] = bad
        q = p.with_(linear_weight=w)
        ignored = p["target"] == p.options["ignore_index"]
        for gradients in (q.run()[1], q.run(memory_budget=1)[1], q.expected[1]):
            assert not np.asarray(gradients[0])[ignored].any()
            assert np.isnan(np.asarray(gradients[0])[~ignored]).any()


@on_every_isa
@pytest.mark.parametrize(("vocabulary", "budget"), [(6, None), (70, None), (300, 1)])
def test_nan_and_masked_classes(vocabulary: int, budget: int | None) -> None:
    """Also in bands of classes."""
    p = linear(CROSS_ENTROPY, (5,), 4, vocabulary, "float32", "none")
    p = p.with_(target=np.array([0, 2, 4, 5, 0]))
    # A bias of -inf takes a class out of the vocabulary.
    b = p["linear_bias"].copy()
    b[[1, 3]] = -INF
    _, gradients = p.with_(linear_bias=b).check(memory_budget=budget)
    for grad in gradients[1:]:
        assert not grad[[1, 3]].any()
    # A NaN is a NaN of its row, and of all that is a sum over the rows.
    for bad in (NAN, INF):
        x = p["input"].copy()
        x[2, 1] = bad
        loss, gradients = p.with_(input=x).check(memory_budget=budget)
        assert np.isnan(loss).tolist() == [False, False, True, False, False]
        assert np.isnan(gradients[0]).all(axis=1).tolist() == np.isnan(loss).tolist()
        assert np.isnan(gradients[1]).all() and np.isnan(gradients[2]).all()
    w = p["linear_weight"].copy()
    w[2 * vocabulary // 3, 0] = NAN
    loss, gradients = p.with_(linear_weight=w).run(memory_budget=budget)
    assert np.isnan(loss).all() and np.isnan(gradients[2]).all()


# How the work is cut up


# Chunks of rows and of the vocabulary, down to the smallest.
BUDGETS: list[tuple[int, Shape, int, int]] = [
    (1, (7,), 5, 40),
    (1000, (40,), 8, 65),
    (5000, (4, 5), 3, 3000),
    (1, (3,), 5, 500),
    (3000, (), 5, 1500),
    (200_000, (250,), 8, 700),
    (50_000, (300,), 8, 65),
    (50_000, (40,), 64, 700),
    (2**40, (7,), 5, 40),
]


@pytest.mark.parametrize(("memory_budget", "rows", "width", "vocabulary"), BUDGETS)
@over_dtypes
@over_rows
def test_memory_budget(
    row: Row, dtype: str, memory_budget: int, rows: Shape, width: int, vocabulary: int
) -> None:
    for reduction, options in (("mean", ()), ("none", ("all",))):
        p = linear(row, rows, width, vocabulary, dtype, reduction, options, seed=1)
        p.check(memory_budget=memory_budget)


def traced_peak(p: Call, memory_budget: int | None) -> int:
    """The most memory that a call with gradients takes beside them, when another has been before."""
    buffers = p.buffers()
    p.run(out=buffers, memory_budget=memory_budget)
    tracemalloc.start()
    try:
        p.run(out=buffers, memory_budget=memory_budget)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_that_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside inputs and gradients, the logits of a chunk and little more."""
    monkeypatch.setattr(workspace, "_can_keep", False)  # what is kept is not traced
    p = linear(CROSS_ENTROPY, (3300,), 4, 20_000)
    for budget, most in ((2**22, 2**22), (None, 2**27)):
        assert 0.7 * most < traced_peak(p, budget) < 1.1 * most + 2**20


@pytest.mark.parametrize("has_gradients", [True, False])
def test_shape_of_chunks(has_gradients: bool) -> None:
    """Within the budget, and no more chunks or bands than that takes."""
    for rows, classes, budget in product(
        (1, 7, 300, 5000), (100, 129, 1000, 50_000), (1, 4000, 10**5, 10**7)
    ):
        at_once, bands = chunks._shape_of_chunk(rows, classes, 4, budget, has_gradients)
        widest = -(-classes // bands)
        assert 1 <= at_once <= rows and (bands == 1 or classes // bands > 64)
        assert at_once * chunks.pitch(widest, 4) * 4 <= max(budget, 2 * 128 * 4)
        assert bands == 1 or chunks.pitch(classes, 4) * 4 * min(rows, 80 if has_gradients else 512) > budget


@over_wide
def test_rows_begin_at_a_cache_line(dtype: str) -> None:
    room = np.arange(5000, dtype=dtype)
    for rows, classes in ((0, 5), (1, 127), (3, 128), (7, 600), (1, 4987)):
        z = chunks.matrix_in(room, rows, classes)
        assert z.shape == (rows, classes) and (rows == 0 or z[0, 0] == 0.0)
        assert classes < 128 or z.strides[0] % 64 == 0


def test_default_budget() -> None:
    assert chunks._shape_of_chunk(1000, 2**15, 4, None, True) == (1000, 1)
    assert chunks._shape_of_chunk(8192, 50_000, 4, None, True) == (631, 1)
    assert chunks._shape_of_chunk(1024, 10**6, 4, None, True) == (128, 1)
    rows, bands = chunks._shape_of_chunk(1024, 2 * 10**6, 4, None, True)
    assert rows == 512 and rows * -(-2 * 10**6 // bands) * 4 <= 2**29


def in_bands(p: Call) -> tuple[Any, Any]:
    """A call whose classes are cut into bands of at most 128."""
    return p.run(memory_budget=1)


@on_every_isa
@over_dtypes
@over_rows
def test_every_option_in_bands(row: Row, dtype: str) -> None:
    for options in ((), *((name,) for name in option_names(row)), ("all",), tuple(row.sets[-1])):
        linear(row, (2, 4), 6, 400, dtype, "none", options, seed=11).check(memory_budget=1)


@on_every_isa
def test_masked_classes_in_bands() -> None:
    """A bias of -inf, over whole bands and over all classes of a row's chunk; targets there."""
    for options in ((), ("z_loss", "softcap"), ("label_smoothing",)):
        p = linear(CROSS_ENTROPY, (6,), 4, 520, "float32", "none", options)
        b = p["linear_bias"].copy()
        b[130:400] = b[[1, 519]] = -INF
        target = np.array([0, 129, 400, 518, 5, 6])
        masked = p.with_(linear_bias=b, target=target)
        if not options or options[0] != "label_smoothing":
            masked.check(memory_budget=1)
            for grad in in_bands(masked)[1][1:]:
                assert not grad[130:400].any() and not grad[[1, 519]].any()
        aside = masked.with_(target=np.array([0, 130, 200, 399, 519, 6]))
        loss, _ = in_bands(aside)
        assert (np.isinf(loss) == np.isinf(aside.value())).all() and np.isinf(loss[1:5]).all()
        loss, gradients = in_bands(p.with_(linear_bias=np.full_like(b, -INF)))
        assert np.isnan(loss).all() and np.isnan(gradients[2]).all()


@pytest.mark.parametrize("options", [(), ("weight", "sample_weight"), ("label_smoothing",), ("temperature",)])
@over_names
def test_targets_in_masked_bands(row: Row, options: tuple[str, ...]) -> None:
    """Their gradients are those of rows that are not cut up."""
    options = tuple(o for o in options if row is CROSS_ENTROPY or o == "temperature")
    p = linear(row, (6,), 4, 900, "float64", "none", options)
    b = p["linear_bias"].copy()
    b[:300] = -INF
    p = p.with_(linear_bias=b, target=np.array([5, 150, 299, 300, 600, 899]))
    whole, banded = p.run(), in_bands(p)
    np.testing.assert_array_equal(np.isinf(whole[0]), np.isinf(banded[0]))
    for one, other in zip(whole[1], banded[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("at", [0, 150, 299])
def test_confident_rows_keep_their_digits_in_bands(at: int) -> None:
    for margin in (30.0, 80.0):
        bias = np.zeros(300)
        bias[at] = margin
        for dtype in ("float32", "float64"):
            x, w = np.zeros((1, 2), dtype), np.zeros((300, 2), dtype)
            loss, grad = fastloss.linear_cross_entropy(
                x, w, [at], linear_bias=bias.astype(dtype), memory_budget=1, return_grad=True
            )
            rel = 1e-12 if dtype == "float64" else 1e-6
            assert loss == pytest.approx(299 * math.exp(-margin), rel=rel)
            assert grad.linear_bias[at] == pytest.approx(-299 * math.exp(-margin), rel=rel)


def test_bands_take_the_memory_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget under a row of logits is kept."""
    monkeypatch.setattr(workspace, "_can_keep", False)
    p = linear(CROSS_ENTROPY, (3,), 2, 500_000)
    # The sum of the bias's gradient is kept in float64.
    assert traced_peak(p, 2**18) < 2**18 + 8 * 500_000 + 2**18


@over_dtypes
@over_rows
def test_any_number_of_threads(row: Row, dtype: str) -> None:
    for rows, vocabulary in (((150,), 400), ((2, 40), 70)):
        p = linear(row, rows, 24, vocabulary, dtype, "none", ("all",), seed=2)
        for budget in (1000, 20_000, 2**26):
            one = bits(p.run(num_threads=1, memory_budget=budget))
            for threads in (2, 5):
                assert bits(p.run(num_threads=threads, memory_budget=budget)) == one, p.title


# Of an array, others with the same values and with strides that mean nothing where an axis has length 1.
def of_length_1(a: Array) -> list[Array]:
    room = np.full((3, *a.shape, 3), 55.0).astype(a.dtype)
    found = [room[1, ..., 1]]
    for axis, length in enumerate(a.shape):
        if length == 1:
            found.append(np.expand_dims(np.squeeze(a.copy(), axis), axis))
            strides = [*a.strides[:axis], 7 * a.itemsize, *a.strides[axis + 1 :]]
            wide = np.empty(a.size, a.dtype)
            found.append(np.lib.stride_tricks.as_strided(wide, a.shape, strides))
    for view in found:
        view[...] = a
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 4), (1, 4, 1), (4, 1, 1), (1, 3, 5), (4, 1, 5), (4, 3, 1), (2, 1, 8)]
)
@pytest.mark.parametrize("budget", [1, None])
def test_axes_of_length_1(shape: Shape, dtype: str, budget: int | None) -> None:
    """Products with strides that mean nothing; buffers stand in guarded memory."""
    rows, width, vocabulary = shape
    p = linear(CROSS_ENTROPY, (rows,), width, vocabulary, dtype, "sum", ("z_loss",), seed=5)
    for x in of_length_1(p["input"]):
        for w in of_length_1(p["linear_weight"]):
            p.with_(input=x, linear_weight=w).check(memory_budget=budget)
    rooms = [np.full((5, *a.shape, 5), 77.0).astype(a.dtype) for a in p.buffers()]
    guarded = [room[2, ..., 2] for room in rooms]
    transposed = [np.empty(a.shape[::-1], a.dtype).T for a in guarded]
    for some in (guarded, p.buffers(), transposed):
        for accumulate in (False, True):
            for a in some:
                a[...] = 0.0
            p.check_derivatives(p.run(out=tuple(some), memory_budget=budget, accumulate=accumulate)[1])
    for room, a in zip(rooms, guarded, strict=True):
        a[...] = 77.0
        assert (room == 77.0).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_are_rounded_once(dtype: str) -> None:
    """Wherever the gradient of the input is added to, by rows or not."""
    p = linear(CROSS_ENTROPY, (40,), 6, 12, dtype, "sum")
    start = np.random.default_rng(0).standard_normal((40, 6)).astype(dtype_named(dtype))
    straight, wide = start.copy(), np.repeat(start, 2, axis=1)
    p.run(out=(straight, None, None), accumulate=True)
    p.run(out=(wide[:, ::2], None, None), accumulate=True)
    assert wide[:, ::2].tobytes() == straight.tobytes()


@pytest.mark.parametrize("memory_budget", [1000, 2**26])
@over_dtypes
@over_rows
def test_accumulate(row: Row, dtype: str, memory_budget: int) -> None:
    rng = np.random.default_rng(5)
    for rows, vocabulary in (((2, 5), 12), ((40,), 70), ((9,), 300)):
        p = linear(row, rows, 6, vocabulary, dtype, "none", ("all",), seed=5)
        before = [rng.standard_normal(a.shape).astype(a.dtype) for a in p.buffers()]
        for wanted in ((True, True, True), (False, True, True), (True, False, False)):
            out = tuple(a.copy() if want else None for a, want in zip(before, wanted, strict=True))
            loss, gradients = p.run(out=out, accumulate=True, memory_budget=memory_budget)
            p.check_loss(loss)
            for name, start, grad, buffer in zip(FIELDS, before, gradients, out, strict=True):
                assert grad is buffer
                if grad is not None:
                    p.check_added(name, grad, start)


# filter_eps


def filter_bounds(p: Call, eps: float) -> list[float]:
    """How much the classes whose probabilities are all under eps can add to each gradient."""
    # The gradient of a logit is s * (w + 2 * z_loss * lse) / temperature times its probability; lse < 100.
    factor = float(np.max(p.get("weight", 1.0))) * (1.0 + 200.0 * p.get("z_loss", 0.0))
    factor /= p.get("temperature", 1.0)
    n, v = p["input"].size // p["input"].shape[-1], p["linear_weight"].shape[0]
    largest = float(np.abs(p["input"]).max()), float(np.abs(p["linear_weight"]).max())
    return [factor * eps * size for size in (v * largest[1], n * largest[0], n)]


@pytest.mark.parametrize("options", [(), ("label_smoothing",), ("weight", "z_loss", "temperature")], ids=str)
@over_dtypes
@over(ROWS[:2])
def test_filter_eps(row: Row, dtype: str, options: tuple[str, ...]) -> None:
    base = linear(row, (12,), 8, 3000, dtype, "sum", options, seed=8)
    # Classes from 50 on have probabilities of 1e-11, the targets of some rows among them.
    bias = np.where(np.arange(3000) < 50, 0.0, -25.0).astype(base["input"].dtype)
    target = base["target"]
    if row.integers:
        target = np.where(np.arange(12) % 4, target % 50, target)
    p = base.with_(linear_bias=bias, target=target)
    loss, gradients = p.run()
    assert bits(p.run(filter_eps=0.0)) == bits(loss, gradients), p.title
    for eps, budget in ((1e-6, 5000), (1e-6, 30_000), (1e-6, 2**26), (1e-3, 2**26)):
        found, filtered = p.run(filter_eps=eps, memory_budget=budget)
        assert found == p.run(memory_budget=budget)[0], p.title
        assert p.value(filter_eps=eps) == p.value(), p.title
        for name, grad, exact, more in zip(
            FIELDS, filtered, p.expected[1], filter_bounds(p, eps), strict=True
        ):
            assert_near(grad, exact, row.derivative_bound(p, name) + more, dtype, f"{p.title} {eps}")
        if row.integers and "label_smoothing" not in options and budget == 2**26:
            # Something was left out, but no class that is a target.
            left = (np.asarray(filtered[1], np.float64) == 0.0).all(axis=1)
            assert left.sum() > 2000 and not left[target].any()


# Bad arguments


def refused_and_unwritten(p: Call, error: Kind, name: str, **more: Any) -> str:
    """With every kind of call, and nothing written to any buffer."""
    if "grad_output" not in more:
        refused(partial(p.value, **more), error, name)
    message = refused(partial(p.run, **more), error, name)
    for accumulate in (False, True):
        out = p.buffers()
        message = refused(partial(p.run, out=out, accumulate=accumulate, **more), error, name)
        assert all((np.asarray(a, np.float64) == 55.0).all() for a in out), message
    return message


def test_budget_of_another_integer_type() -> None:
    p = linear(CROSS_ENTROPY, (40,), 3, 1000)
    assert p.value(memory_budget=np.int8(100)) == p.value(memory_budget=100)


def test_what_becomes_an_array_overlaps_too() -> None:
    p = linear(CROSS_ENTROPY, (4,), 3, 6, "float64", "none")
    room = np.ones((4, 3))
    upstream = memoryview(room.reshape(-1)[:4])
    with pytest.raises(ValueError, match="must not overlap"):
        p.run(out=(room, None, None), grad_output=upstream)


@over_names
def test_bad_types(row: Row) -> None:
    p = linear(row, (4,), 3, 6, "float32", "sum")
    w = p["linear_weight"]
    for value in ("text", None, *(w.astype(other) for other in (complex, "float64", "float16"))):
        refused_and_unwritten(p.with_(linear_weight=value), TypeError, "linear_weight")
    if row is LOG_PROBS:
        q = np.full((4, 6), 1 / 6, np.float32)
        refused_and_unwritten(p.with_(target=q), EITHER, "target")


@over_names
def test_bad_shapes(row: Row) -> None:
    p = linear(row, (4,), 3, 6, "float32", "sum")
    x, w = p["input"], p["linear_weight"]
    for bad in (x[:, :2], np.ones((4, 4), "f4"), x[..., np.newaxis], np.float32(1.0)):
        refused_and_unwritten(p.with_(input=bad), ValueError, "input|linear_weight|target")
    for bad in (w[:, :2], w[0], w[np.newaxis], w[:0], np.float32(1.0)):
        refused_and_unwritten(p.with_(linear_weight=bad), ValueError, "linear_weight|input|linear_bias")
    refused_and_unwritten(p.with_(target=np.zeros((4, 3), int)), ValueError, "target")
    if row is CROSS_ENTROPY:
        for q in (np.ones((4, 5), "f4"), np.ones(6, "f4"), np.ones((6, 4), "f4"), np.ones(4, "f4")):
            refused_and_unwritten(p.with_(target=q), ValueError, "target")
        q = np.full((4, 6), 1 / 6, np.float32)
        refused_and_unwritten(p.with_(target=q), ValueError, "ignore_index", ignore_index=3)


@pytest.mark.parametrize("most", [1, 60, 500])
def test_products_in_bands(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """As those of large layers, which are cut so that signals do not wait for long."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(chunks, "MULTIPLICATIONS", most)
    for shape in ((5, 3, 17), (17, 3, 5), (1, 100, 1), (4, 0, 3), (0, 3, 4)):
        a, b = rng.standard_normal(shape[:2]), rng.standard_normal(shape[1:])
        out, before = np.full((shape[0], shape[2]), NAN), rng.standard_normal((shape[0], shape[2]))
        added = before.copy()
        chunks.product(a, b, out, add=False)
        chunks.product(a, b, added, add=True)
        np.testing.assert_allclose(out, a @ b, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(added, before + a @ b, rtol=1e-13, atol=1e-13)


@over_names
def test_bad_class_index(row: Row) -> None:
    """The first of many is named, however the work is cut up."""
    p = linear(row, (30, 20), 3, 60, "float32", "mean")
    for wrong, memory_budget in product((60, -1, -99, 2**40), (1, 2**26)):
        target = p["target"].copy()
        target[28, 13] = target[-1] = wrong
        bad = p.with_(target=target)
        message = refused_and_unwritten(bad, IndexError, "target", memory_budget=memory_budget)
        assert re.search(r"\b28, 13\b", message), message
        assert str(wrong) in message


@over_names
def test_bad_out(row: Row) -> None:
    p = linear(row, (4,), 3, 6, "float32", "sum")
    x, w, b = p.buffers()
    locked, double = np.full_like(x, 55.0), np.full_like(x, 55.0, dtype=np.float64)
    locked.flags.writeable = False
    for out in ((x[:3], w, b), (x, w.T, b), (x, w, b[:, np.newaxis]), (locked, w, b)):
        refused(partial(p.run, out=out), ValueError, "out")
    for out in ((double, w, b), (x, w.astype(np.float64), b)):
        refused(partial(p.run, out=out), TypeError, "out")
    refused(partial(p.run, out=(w, x, b)), EITHER, "out")
    # A bias that is not there has no gradient.
    refused(partial(without_bias(p).run, out=(x, w, b)), EITHER, "out")
    assert all((a == 55.0).all() for a in (x, w, b, double))


@over_names
def test_out_that_overlaps(row: Row) -> None:
    """No input, not even exactly, and no other buffer."""
    square = linear(row, (6,), 6, 6, "float32", "none", ("grad_output",))
    x, w, b, upstream = (np.array(square[name], np.float32) for name in (*FIELDS, "grad_output"))
    options: dict[str, Any] = {"grad_output": upstream}
    others = [upstream]
    if row is CROSS_ENTROPY:
        options |= {"weight": np.ones(6, np.float32), "sample_weight": np.ones(6, np.float32)}
        others += [options["weight"], options["sample_weight"]]
    p = square.with_(input=x, linear_weight=w, linear_bias=b, **options)
    before = [a.copy() for a in (x, w, b, *others)]
    free = np.zeros((6, 6), np.float32), np.zeros((6, 6), np.float32), np.zeros(6, np.float32)
    shared = np.zeros((7, 6), np.float32)
    bad = [
        *((a, None, None) for a in (x, w, x[::-1], x.T)),
        *((None, a, None) for a in (x, w, w[:, ::-1])),
        *((None, None, a) for a in (b, b[::-1], x[0], w[:, 0], *others)),
        (free[0], free[0], None),
        (free[0], free[0].T, free[2]),
        (shared[1:], shared[:-1], None),
        (free[0], None, free[0][2]),
    ]
    for out in bad:
        for accumulate in (False, True):
            refused(partial(p.run, out=out, accumulate=accumulate), ValueError, "out")
    assert all(a.tobytes() == c.tobytes() for a, c in zip((x, w, b, *others), before, strict=True))
    assert not any(a.any() for a in (*free, shared))
    # Neighbours in one array are no overlap.
    around = np.zeros((13, 6), np.float32)
    p.check_derivatives(p.run(out=(around[:6], around[6:12], around[12]))[1])


def test_a_layer_of_no_class_or_of_one() -> None:
    x, y = np.ones((3, 4), np.float32), np.zeros(3, int)
    for name in ("linear_cross_entropy", "linear_token_log_probs", "linear_token_statistics"):
        empty = partial(getattr(fastloss, name), x, np.ones((0, 4), np.float32), y)
        refused(empty, ValueError, "linear_weight")
    # The logarithm of 1 is 0, not -0.
    certain = fastloss.linear_token_log_probs(x, np.ones((1, 4), np.float32), y)
    assert not certain.any() and not np.signbit(certain).any()
