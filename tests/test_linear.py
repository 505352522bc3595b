"""linear_cross_entropy and linear_token_log_probs, against the reference and without it."""

import math
import tracemalloc
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from cases import DTYPES, REDUCTIONS, Array, Shape, assert_within, dtype_named
from linear_cases import (
    FIELDS,
    KIND_IDS,
    KINDS,
    LOG_PROBS,
    LOSS,
    Linear,
    all_options,
    central_difference,
    empty_buffers,
    legal_options,
    linear,
)

import fastloss
from fastloss import reference
from fastloss._engine import chunks, workspace

on_every_isa = pytest.mark.usefixtures("isa")
over_dtypes = pytest.mark.parametrize("dtype", DTYPES)
over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_IDS)
over_names = pytest.mark.parametrize("name", [LOSS, LOG_PROBS])
over_reductions = pytest.mark.parametrize("reduction", REDUCTIONS)

INF, NAN = math.inf, math.nan
Kind = tuple[str, str]

# Every number of rows with every vocabulary, and widths in turn; batches of sequences.
SHAPES: list[tuple[Shape, int, int]] = [
    *(
        ((rows,), (1, 3, 64)[(i + j) % 3], vocabulary)
        for i, rows in enumerate((0, 1, 2, 7))
        for j, vocabulary in enumerate((1, 2, 10, 65, 3000))
    ),
    *(((300,), width, vocabulary) for width, vocabulary in ((3, 1), (64, 10), (1, 65), (64, 3000))),
    ((), 5, 10),
    ((2, 3), 64, 65),
    ((3, 0), 4, 6),
    ((2, 3, 2), 3, 70),
]


def bits(result: tuple[Any, Any]) -> list[bytes]:
    return [np.asarray(a).tobytes() for a in (result[0], *result[1]) if a is not None]


# Values


@over_dtypes
@over_kinds
def test_every_shape(kind: Kind, dtype: str) -> None:
    for rows, width, vocabulary in SHAPES:
        linear(kind, rows, width, vocabulary, dtype, "mean", bias=False).check()
        linear(kind, rows, width, vocabulary, dtype, "none", all_options(*kind, "none")).check()


@on_every_isa
@over_dtypes
@over_kinds
def test_every_instruction_set(kind: Kind, dtype: str) -> None:
    for rows, width, vocabulary in (((20,), 3, 10), ((20,), 64, 65), ((2, 3), 5, 3000)):
        for reduction in REDUCTIONS:
            for options in ((), all_options(*kind, reduction)):
                linear(kind, rows, width, vocabulary, dtype, reduction, options).check()


@over_reductions
@over_dtypes
@over_kinds
def test_every_option(kind: Kind, dtype: str, reduction: str) -> None:
    # Alone, in pairs (the first of all with all that follow), and all of them.
    labels = [(o.name, o.label) for o in legal_options(*kind, reduction)]
    sets = [
        (),
        *((a,) for _, a in labels),
        *((a, b) for i, (first, a) in enumerate(labels) for second, b in labels[i + 1 :] if first != second),
        all_options(*kind, reduction),
    ]
    for number, options in enumerate(sets):
        linear(kind, (9,), 5, 12, dtype, reduction, options, bias=number % 2 == 0).check()
        linear(kind, (2, 3), 17, 70, dtype, reduction, options, bias=number % 2 == 1).check()


@over_names
def test_default_reduction(name: str) -> None:
    p = linear((name, "indices"), (2, 3), 4, 6, "float64", "mean" if name == LOSS else "none")
    loss = getattr(fastloss, name)(p.input, p.linear_weight, p.target, linear_bias=p.linear_bias)
    p.check_loss(loss)
    assert np.shape(loss) == (() if name == LOSS else (2, 3))


def test_log_probs_are_minus_the_cross_entropy() -> None:
    """Of logits made by hand, without the code that the two linear references share."""
    for dtype in DTYPES:
        p = linear(KINDS[2], (2, 5), 8, 30, dtype, "none", ("ignore_index", "softcap", "temperature"))
        x, w, b = (np.asarray(a, np.float64) for a in (p.input, p.linear_weight, p.linear_bias))
        counts = p.target != p.options["ignore_index"]
        logits = np.einsum("btd,vd->btv", np.where(counts[..., np.newaxis], x, 0.0), w) + b
        exact = -np.asarray(reference.cross_entropy(logits, p.target, reduction="none", **p.options))
        found = p.loss()
        assert (np.asarray(found)[~counts] == 0.0).all()
        assert not np.signbit(np.asarray(p.expected[0])[~counts]).any()
        assert_within(found, exact, 2e-6 * np.maximum(np.abs(exact), 1.0), p.title)
        mean = p.with_(reduction="mean").loss()
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


@on_every_isa
@over_reductions
@over_kinds
def test_nothing_counts(kind: Kind, reduction: str) -> None:
    for dtype in DTYPES:
        for rows, ignored in (((0,), False), ((3, 0), False), ((5,), True)):
            p = linear(kind, rows, 4, 70, dtype, reduction)
            if ignored and kind[1] == "probabilities":
                continue
            if ignored:
                p = p.with_(input=np.full_like(p.input, NAN), target=np.full(rows, -100))
            loss, gradients = p.run()
            for value in (loss, p.loss()):
                if reduction == "none":
                    assert value.shape == rows and not value.any()
                else:
                    assert math.isnan(value) if reduction == "mean" else value == 0.0
            for grad, like in zip(gradients, (p.input, p.linear_weight, p.linear_bias), strict=True):
                assert grad.dtype == like.dtype
                assert_within(grad, np.zeros(like.shape), 0.0, p.title)


@over_names
def test_ignored_rows_see_no_weights(name: str) -> None:
    """Their gradient is 0 even where the weights are not finite."""
    p = linear((name, "indices"), (6,), 3, 10, "float32", "sum", ("ignore_index",), seed=9)
    for bad in (NAN, INF):
        w = p.linear_weight.copy()
        w[4, 1] = bad
        q = p.with_(linear_weight=w)
        ignored = p.target == p.options["ignore_index"]
        for gradients in (q.run()[1], q.run(memory_budget=1)[1], q.expected[1]):
            assert not np.asarray(gradients.input)[ignored].any()
            assert np.isnan(np.asarray(gradients.input)[~ignored]).any()


@on_every_isa
def test_nan_and_masked_classes() -> None:
    for vocabulary in (6, 70):
        p = linear(KINDS[0], (5,), 4, vocabulary, "float32", "none")
        # A bias of -inf takes a class out of the vocabulary.
        b = p.linear_bias.copy()
        b[[1, 3]] = -INF
        q = np.array([0, 2, 4, 5, 0])
        masked = p.with_(linear_bias=b, target=q)
        masked.check()
        _, gradients = masked.run()
        for grad in gradients[1:]:
            assert not grad[[1, 3]].any()
        # A NaN is a NaN of its row, and of all that is a sum over the rows.
        x = p.input.copy()
        x[2, 1] = NAN
        bad = p.with_(input=x, target=q)
        bad.check()
        loss, gradients = bad.run()
        assert np.isnan(loss).tolist() == [False, False, True, False, False]
        assert np.isnan(gradients.input).all(axis=1).tolist() == np.isnan(loss).tolist()
        assert np.isnan(gradients.linear_weight).all() and np.isnan(gradients.linear_bias).all()


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
@over_kinds
def test_memory_budget(
    kind: Kind, dtype: str, memory_budget: int, rows: Shape, width: int, vocabulary: int
) -> None:
    for reduction, options in (("mean", ()), ("none", all_options(*kind, "none"))):
        p = linear(kind, rows, width, vocabulary, dtype, reduction, options, seed=1)
        p.check(memory_budget=memory_budget)


def test_memory_is_that_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside inputs and gradients, the logits of a chunk and little more."""
    monkeypatch.setattr(workspace, "_can_keep", False)  # what is kept is not traced
    p = linear(KINDS[0], (2000,), 4, 20_000)
    buffers = empty_buffers(p)
    p.run(out=buffers, memory_budget=2**20)
    tracemalloc.start()
    try:
        for budget, most in ((2**22, 2**22), (None, 2**26)):
            tracemalloc.reset_peak()
            p.run(out=buffers, memory_budget=budget)
            assert 0.7 * most < tracemalloc.get_traced_memory()[1] < 1.1 * most + 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("has_gradients", [True, False])
def test_shape_of_chunks(has_gradients: bool) -> None:
    """Within the budget, and no more chunks or bands than that takes."""
    for rows, classes, budget in product(
        (1, 7, 300, 5000), (100, 129, 1000, 50_000), (1, 4000, 10**5, 10**7)
    ):
        at_once, bands = chunks._shape_of_chunk(rows, classes, 4, budget, has_gradients)
        widest = -(-classes // bands)
        assert 1 <= at_once <= rows and (bands == 1 or classes // bands > 64)
        assert at_once * widest * 4 <= max(budget, 2 * 128 * 4)
        assert bands == 1 or classes * 4 * min(rows, 80 if has_gradients else 512) > budget


def test_default_budget() -> None:
    assert chunks._shape_of_chunk(1000, 2**15, 4, None, True) == (1000, 1)
    assert chunks._shape_of_chunk(8192, 50_000, 4, None, True) == (328, 1)
    assert chunks._shape_of_chunk(1024, 10**6, 4, None, True) == (128, 1)
    rows, bands = chunks._shape_of_chunk(1024, 2 * 10**6, 4, None, True)
    assert rows == 512 and rows * -(-2 * 10**6 // bands) * 4 <= 2**29


def in_bands(p: Linear, **more: Any) -> tuple[Any, Any]:
    """A call whose classes are cut into bands of at most 128."""
    return p.run(memory_budget=1, **more)


@on_every_isa
@over_dtypes
@over_kinds
def test_every_option_in_bands(kind: Kind, dtype: str) -> None:
    for name in (None, *dict.fromkeys(o.name for o in legal_options(*kind, "none"))):
        labels = [o.label for o in legal_options(*kind, "none") if o.name == name]
        for label in labels or [None]:
            p = linear(kind, (2, 4), 6, 400, dtype, "none", () if label is None else (label,), seed=11)
            p.check(memory_budget=1)


@on_every_isa
def test_masked_classes_in_bands() -> None:
    """A bias of -inf, over whole bands and over all classes of a row's chunk; targets there."""
    for options in ((), ("z_loss", "softcap"), ("label_smoothing",)):
        p = linear(KINDS[0], (6,), 4, 520, "float32", "none", options)
        b = p.linear_bias.copy()
        b[130:400] = b[[1, 519]] = -INF
        target = np.array([0, 129, 400, 518, 5, 6])
        masked = p.with_(linear_bias=b, target=target)
        if not options or options[0] != "label_smoothing":
            masked.check(memory_budget=1)
            for grad in in_bands(masked)[1][1:]:
                assert not grad[130:400].any() and not grad[[1, 519]].any()
        loss, _ = in_bands(masked.with_(target=np.array([0, 130, 200, 399, 519, 6])))
        whole, _ = masked.with_(target=np.array([0, 130, 200, 399, 519, 6])).run()
        assert (np.isinf(loss) == np.isinf(whole)).all() and np.isinf(loss[1:5]).all()
        loss, gradients = in_bands(p.with_(linear_bias=np.full_like(b, -INF)))
        assert np.isnan(loss).all() and np.isnan(gradients.linear_bias).all()


@pytest.mark.parametrize("options", [(), ("weight", "sample_weight"), ("label_smoothing",), ("temperature",)])
@pytest.mark.parametrize("name", [LOSS, LOG_PROBS])
def test_targets_in_masked_bands(name: str, options: tuple[str, ...]) -> None:
    """Their gradients are those of rows that are not cut up."""
    options = tuple(o for o in options if name == LOSS or o == "temperature")
    p = linear((name, "indices"), (6,), 4, 900, "float64", "none", options)
    b = p.linear_bias.copy()
    b[:300] = -INF
    p = p.with_(linear_bias=b, target=np.array([5, 150, 299, 300, 600, 899]))
    whole, banded = p.run(), in_bands(p)
    np.testing.assert_array_equal(np.isinf(whole[0]), np.isinf(banded[0]))
    for one, other in zip(whole[1], banded[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)


def test_nan_in_bands() -> None:
    p = linear(KINDS[0], (5,), 4, 300, "float32", "none", seed=3)
    for bad in (NAN, INF):
        x = p.input.copy()
        x[2, 1] = bad
        loss, gradients = in_bands(p.with_(input=x))
        assert np.isnan(loss).tolist() == [False, False, True, False, False]
        assert np.isnan(gradients.input).all(axis=1).tolist() == np.isnan(loss).tolist()
    w = p.linear_weight.copy()
    w[200, 0] = NAN
    loss, gradients = in_bands(p.with_(linear_weight=w))
    assert np.isnan(loss).all() and np.isnan(gradients.linear_bias).all()


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
    p = linear(KINDS[0], (3,), 2, 500_000)
    buffers = empty_buffers(p)
    p.run(out=buffers, memory_budget=2**18)
    tracemalloc.start()
    try:
        p.run(out=buffers, memory_budget=2**18)
        # The sum of the bias's gradient is kept in float64.
        assert tracemalloc.get_traced_memory()[1] < 2**18 + 8 * 500_000 + 2**18
    finally:
        tracemalloc.stop()


@over_dtypes
@over_kinds
def test_any_number_of_threads(kind: Kind, dtype: str) -> None:
    for rows, vocabulary in (((150,), 1000), ((2, 40), 70)):
        p = linear(kind, rows, 64, vocabulary, dtype, "none", all_options(*kind, "none"), seed=2)
        for budget in (1000, 50_000, 2**26):
            one = bits(p.run(num_threads=1, memory_budget=budget))
            for threads in (2, 5):
                assert bits(p.run(num_threads=threads, memory_budget=budget)) == one, p.title


# In memory: each makes, of an array, one that lies in another way with the same values
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "Fortran order": np.asfortranarray,
    "every second column": lambda a: a.repeat(2, axis=-1)[..., ::2],
    "every third row": lambda a: a.repeat(3, axis=0)[::3],
    "sliced": lambda a: np.concatenate([a, a], axis=-1)[..., : a.shape[-1]],
    "rows reversed": lambda a: a[::-1].copy()[::-1],
    "all reversed": lambda a: np.flip(np.flip(a).copy()),
    "unaligned": lambda a: np.frombuffer(b"0" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@over_dtypes
@over_kinds
def test_strides_of_inputs(kind: Kind, dtype: str, layout: Callable[[Array], Array]) -> None:
    for rows, vocabulary in (((4, 3), 12), ((9,), 70)):
        p = linear(kind, rows, 6, vocabulary, dtype, "none", all_options(*kind, "none"), seed=3)
        for field in (*FIELDS, "target"):
            moved = layout(getattr(p, field))
            assert moved.shape == getattr(p, field).shape
            p.with_(**{field: moved}).check()


@over_names
def test_kinds_of_arrays(name: str) -> None:
    """Lists and integers are float64; bytes in another order, and any integer as a target, will do."""
    p = linear((name, "indices"), (4,), 3, 6, "float64", "sum")
    p.with_(input=p.input.tolist(), linear_weight=p.linear_weight.tolist()).check()
    p.with_(linear_bias=p.linear_bias.tolist(), target=p.target.tolist()).check()
    whole = [np.rint(2 * a).astype(int) for a in (p.input, p.linear_weight, p.linear_bias)]
    p.with_(input=whole[0], linear_weight=whole[1], linear_bias=whole[2]).check()
    for dtype in ("float32", "float64"):
        p = linear((name, "indices"), (4,), 3, 6, dtype, "sum")
        p.with_(input=p.input.astype(p.input.dtype.newbyteorder())).check()
        for integer in ("int8", "uint8", "int32", "uint64"):
            p.with_(target=p.target.astype(integer)).check()
    single = linear((name, "indices"), (4,), 3, 6, "float32", "sum")
    mixed = [a.tolist() for a in (single.input, single.linear_weight)]
    with pytest.raises(TypeError):
        getattr(fastloss, name)(mixed[0], single.linear_weight, single.target)
    with pytest.raises(TypeError):
        getattr(fastloss, name)(single.input, mixed[1], single.target)


def test_options_of_another_float_type() -> None:
    p = linear(KINDS[0], (6,), 4, 8, "float32", "none", ("weight", "sample_weight", "array grad_output"))
    options = {k: v.astype(np.float32) for k, v in p.options.items()}
    p.with_(options=options).check()


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
    p = linear(KINDS[0], (rows,), width, vocabulary, dtype, "sum", ("z_loss",), seed=5)
    for x in of_length_1(p.input):
        for w in of_length_1(p.linear_weight):
            p.with_(input=x, linear_weight=w).check(memory_budget=budget)
    for layout in range(3):
        rooms = [np.full((5, *a.shape, 5), 77.0).astype(a.dtype) for a in empty_buffers(p)]
        some = [room[2, ..., 2] for room in rooms]
        if layout == 1:
            some = [np.full(a.shape, 77.0).astype(a.dtype)[None][0] for a in some]
        if layout == 2:
            some = [np.full(a.shape[::-1], 77.0).astype(a.dtype).T for a in some]
        for accumulate in (False, True):
            for a in some:
                a[...] = 0.0
            p.check_gradients(p.run(out=tuple(some), memory_budget=budget, accumulate=accumulate)[1])
        if layout == 0:
            for room, a in zip(rooms, some, strict=True):
                a[...] = 77.0
                assert (room == 77.0).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_are_rounded_once(dtype: str) -> None:
    """Wherever the gradient of the input is added to, by rows or not."""
    p = linear(KINDS[0], (40,), 6, 12, dtype, "sum")
    start = np.random.default_rng(0).standard_normal((40, 6)).astype(dtype_named(dtype))
    straight, wide = start.copy(), np.repeat(start, 2, axis=1)
    p.run(out=(straight, None, None), accumulate=True)
    p.run(out=(wide[:, ::2], None, None), accumulate=True)
    assert wide[:, ::2].tobytes() == straight.tobytes()


@over_dtypes
@over_kinds
def test_out(kind: Kind, dtype: str) -> None:
    for rows, vocabulary in (((2, 5), 12), ((9,), 70)):
        p = linear(kind, rows, 6, vocabulary, dtype, "none", all_options(*kind, "none"), seed=4)
        loss, gradients = p.run()
        expected = bits((loss, gradients))
        out = empty_buffers(p)
        result = p.run(out=out)
        assert bits(result) == expected, p.title
        assert all(a is b for a, b in zip(result[1], out, strict=True))
        # What was returned can be passed back.
        assert bits(p.run(out=result[1])) == expected
        # Strided buffers, with nothing written between, and transposed ones.
        wide = [np.full((*a.shape[:-1], 2 * a.shape[-1]), 77.0).astype(a.dtype) for a in out]
        _, views = p.run(out=tuple(a[..., ::2] for a in wide))
        p.check_gradients(views)
        assert all((a[..., 1::2].astype(np.float64) == 77.0).all() for a in wide)
        _, views = p.run(out=tuple(np.empty_like(a.T).T for a in out))
        p.check_gradients(views)
        for number in range(8):
            wanted = tuple(bool(number & 1 << i) for i in range(3))
            out = tuple(a if want else None for a, want in zip(empty_buffers(p), wanted, strict=True))
            found, part = p.run(out=out)
            p.check_loss(found)
            p.check_gradients(part, wanted)
            assert all(a is b for a, b in zip(part, out, strict=True))
    p = linear(kind, (9,), 6, 12, dtype, bias=False)
    x, w = np.empty_like(p.input), np.empty_like(p.linear_weight)
    _, part = p.run(out=(x, w, None))
    p.check_gradients(part)
    assert part.input is x and part.linear_weight is w
    p.check_gradients(p.run(out=part)[1])


@pytest.mark.parametrize("memory_budget", [1000, 2**26])
@over_dtypes
@over_kinds
def test_accumulate(kind: Kind, dtype: str, memory_budget: int) -> None:
    rng = np.random.default_rng(5)
    for rows, vocabulary in (((2, 5), 12), ((40,), 70), ((9,), 300)):
        p = linear(kind, rows, 6, vocabulary, dtype, "none", all_options(*kind, "none"), seed=5)
        before = [rng.standard_normal(a.shape).astype(a.dtype) for a in empty_buffers(p)]
        for wanted in ((True, True, True), (False, True, True), (True, False, False)):
            out = tuple(a.copy() if want else None for a, want in zip(before, wanted, strict=True))
            loss, gradients = p.run(out=out, accumulate=True, memory_budget=memory_budget)
            p.check_loss(loss)
            for field, start, exact, buffer in zip(FIELDS, before, p.expected[1], out, strict=True):
                grad = getattr(gradients, field)
                assert grad is buffer
                if grad is None:
                    continue
                total = start.astype(np.float64) + exact
                # The sum is rounded once more, in the type computed in.
                rounding = np.abs(total) * (2.0**-53 if dtype == "float64" else 2.0**-24)
                assert_within(grad, total, p.tolerance(field, exact, total) + rounding, p.title)
            if out[0] is not None and "ignore_index" in p.options:
                ignored = p.target == p.options["ignore_index"]
                assert out[0][ignored].tobytes() == before[0][ignored].tobytes()


# Without the reference


@over_reductions
@over_kinds
def test_central_differences(kind: Kind, reduction: str) -> None:
    sets = [(), *((o.label,) for o in legal_options(*kind, reduction)), all_options(*kind, reduction)]
    for options in sets:
        p = linear(kind, (4,), 2, 5, "float64", reduction, options, seed=6)
        upstream = np.asarray(p.options.get("grad_output", 1.0))
        _, gradients = p.run()
        for field, grad in zip(FIELDS, gradients, strict=True):
            for index in np.ndindex(grad.shape):
                if not np.isfinite(getattr(p, field)[index]):
                    continue
                quotient = central_difference(
                    p, field, index, 2.0**-8, lambda q, u=upstream: float(np.sum(q.loss() * u))
                )
                assert grad[index] == pytest.approx(quotient, rel=1e-7, abs=2e-8), (
                    f"{p.title} {field} {index}"
                )


@over_reductions
@pytest.mark.parametrize("target", ["indices", "probabilities"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_as_torch(dtype: str, target: str, reduction: str) -> None:
    torch = pytest.importorskip("torch")
    function = getattr(torch.nn.functional, "linear_cross_entropy", None)
    if function is None:
        pytest.skip("this torch has no linear_cross_entropy")
    for rows in ((), (8,)):
        for labels in ((), ("weight",), ("ignore_index",), ("label_smoothing",), ("weight", "ignore_index")):
            if target == "probabilities" and "ignore_index" in labels:
                continue
            for bias in (False, True):
                p = linear((LOSS, target), (8,), 6, 20, dtype, reduction, labels, bias, seed=7)
                # torch reads ignored rows, and multiplies them by 0.
                x = np.nan_to_num(p.input, nan=0.5, posinf=0.5)
                p = p.with_(input=x) if rows else p.with_(input=x[0], target=p.target[0])
                arrays = [torch.tensor(a) for a in (p.input, p.linear_weight)]
                arrays += [torch.tensor(p.linear_bias)] if bias else []
                for tensor in arrays:
                    tensor.requires_grad_()
                options = {k: torch.tensor(v) if np.ndim(v) else v for k, v in p.options.items()}
                if "weight" in options:
                    options["weight"] = options["weight"].to(arrays[0].dtype)
                theirs = function(
                    arrays[0],
                    arrays[1],
                    torch.tensor(p.target),
                    linear_bias=arrays[2] if bias else None,
                    reduction=reduction,
                    **options,
                )
                theirs.sum().backward()
                loss, gradients = p.run()
                rel = 1e-11 if dtype == "float64" else 5e-6
                np.testing.assert_allclose(loss, theirs.detach().numpy(), rtol=rel, atol=rel, err_msg=p.title)
                for grad, tensor in zip(gradients, arrays, strict=False):
                    exact = tensor.grad.numpy().astype(np.float64)
                    bound = rel * np.abs(exact).max()
                    assert_within(grad, exact, bound, p.title)


# filter_eps


def filter_bounds(p: Linear, eps: float) -> list[Array]:
    """How much the classes whose probabilities are all under eps can add to each gradient."""
    # The gradient of a logit is s * (w + 2 * z_loss * lse) / temperature times its probability; lse < 100.
    factor = float(np.max(p.options.get("weight", 1.0))) * (1.0 + 200.0 * p.options.get("z_loss", 0.0))
    factor /= p.options.get("temperature", 1.0)
    n, v = p.input.size // p.input.shape[-1], p.linear_weight.shape[0]
    largest = float(np.abs(p.input).max()), float(np.abs(p.linear_weight).max())
    return [np.float64(factor * eps * size) for size in (v * largest[1], n * largest[0], n)]


@pytest.mark.parametrize("options", [(), ("label_smoothing",), ("weight", "z_loss", "temperature")], ids=str)
@over_dtypes
@pytest.mark.parametrize("kind", KINDS[:2], ids=KIND_IDS[:2])
def test_filter_eps(kind: Kind, dtype: str, options: tuple[str, ...]) -> None:
    base = linear(kind, (12,), 8, 3000, dtype, "sum", options, seed=8)
    # Classes from 50 on have probabilities of 1e-11, the targets of some rows among them.
    bias = np.where(np.arange(3000) < 50, 0.0, -25.0).astype(base.input.dtype)
    target = (
        np.where(np.arange(12) % 4, base.target % 50, base.target) if kind[1] == "indices" else base.target
    )
    p = base.with_(linear_bias=bias, target=target)
    loss, gradients = p.run()
    assert bits(p.run(filter_eps=0.0)) == bits((loss, gradients)), p.title
    for eps, budget in ((1e-6, 5000), (1e-6, 30_000), (1e-6, 2**26), (1e-3, 2**26)):
        found, filtered = p.run(filter_eps=eps, memory_budget=budget)
        assert found == p.run(memory_budget=budget)[0], p.title
        assert p.loss(filter_eps=eps) == p.loss(), p.title
        for field, bound in zip(FIELDS, filter_bounds(p, eps), strict=True):
            grad, exact = getattr(filtered, field), getattr(p.expected[1], field)
            assert_within(grad, exact, p.tolerance(field, exact, exact) + bound, f"{p.title} {eps}")
        if kind[1] == "indices" and "label_smoothing" not in options and budget == 2**26:
            # Something was left out, but no class that is a target.
            left = (np.asarray(filtered.linear_weight, np.float64) == 0.0).all(axis=1)
            assert left.sum() > 2000 and not left[target].any()
