"""Where arguments and gradients lie in memory, over the registry: strides, types, out, in place, adding."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import (
    DTYPES,
    HALF,
    LAYOUTS,
    NAN,
    Array,
    Layout,
    bits,
    case,
    dtype_named,
    every_second,
    is_half,
    on_one_isa,
    other_byte_order,
    over_dtypes,
    over_product,
    unaligned,
)
from registry import Call, Row, call, over, plain_and_all, with_all
from rows import ROWS

full = pytest.mark.full


over_rows = over(ROWS)
WITH_OUT = [row for row in ROWS if row.gradients]
# In the losses with matrix products no buffer may be an input.
IN_PLACE = [row for row in WITH_OUT if row.same_bits]
ACCUMULATING = [row for row in WITH_OUT if "accumulate" in row.parameters]


def both_paths(row: Row, dtype: str) -> Iterator[Call]:
    for shape in row.shapes:
        yield from plain_and_all(row, shape, dtype)


# Strides


def check_layout(c: Call, layout: Layout) -> None:
    """Inputs that lie so, one alone and all; buffers; in place; adding: the bits of contiguous arrays."""
    row, expected = c.row, c.run()
    moved = c.moved(lambda a: layout.place(a)[1])
    for array in moved.own_arrays:
        array.flags.writeable = False
    before = bits(moved.own_arrays)
    c.assert_same(moved.run(), expected)
    if row.returns != "array":
        c.check_loss(moved.value())
    assert bits(moved.own_arrays) == before, c.title
    for name in row.arrays:
        c.assert_same(c.run(**{name: moved[name]}), expected)
    if row.gradients:
        check_layout_of_buffers(c, moved, layout, expected)


def check_layout_of_buffers(c: Call, moved: Call, layout: Layout, expected: tuple[Any, Any]) -> None:
    row = c.row
    cases: dict[str, Any] = {"fresh": c.buffers()}
    if row.same_bits:
        cases["in place"] = [c[name] for name in row.gradients]
    if "accumulate" in row.parameters:
        cases["added"] = starts(c)
    for how, values in cases.items():
        rooms, out = zip(*map(layout.place, values), strict=True)
        given = dict(zip(row.gradients, out, strict=True)) if how == "in place" else {}
        if how == "added":
            result = moved.run(out=c.out(*out), accumulate=True)
            check_added(c, result, out, values)
        else:
            result = moved.run(**given, out=c.out(*out))
            assert all(a is b for a, b in zip(result[1], out, strict=False)), how
            c.assert_same(result, expected)
        assert all(map(layout.is_untouched, rooms)), how


@on_one_isa
@over_rows
def test_strides(row: Row) -> None:
    """In turn with one shape or the other, plain or with all options; and with those of a half type."""
    calls, last = list(both_paths(row, "float32")), list(both_paths(row, HALF))[-1]
    for place, (name, layout) in enumerate(LAYOUTS.items()):
        with case(name):
            check_layout(calls[(0, 1, -1, -2)[place % 4]], layout)
            check_layout(last, layout)


@full
@on_one_isa
@over_dtypes
@over_rows
def test_strides_of_every_type(row: Row, dtype: str) -> None:
    for (name, layout), c in itertools.product(LAYOUTS.items(), both_paths(row, dtype)):
        with case(name):
            check_layout(c, layout)


@on_one_isa
@pytest.mark.parametrize("axis", [-4, -3, -2, -1, 0, 1, 2, 3])
@over([row for row in ROWS if "axis" in row.parameters])
def test_any_class_axis(row: Row, axis: int) -> None:
    """As an array in C order with its classes at `axis`, and as a view without a copy; into any buffer."""
    for dtype, classes in itertools.product(DTYPES, (5, 70)):
        for c in plain_and_all(row, (2, 3, 4, classes), dtype):
            expected = c.run()
            for lay in (np.ascontiguousarray, np.asarray):
                of_classes = {k: a for k, a in c.arguments.items() if a.shape == c.shape}
                moved = {k: lay(np.moveaxis(a, -1, axis)) for k, a in of_classes.items()}
                back = c.run(**moved, axis=axis)
                c.assert_same((back[0], tuple(np.moveaxis(a, axis, -1) for a in back[1])), expected)
                if row.returns != "array":
                    assert bits(c.value(**moved, axis=axis)) == bits(back[0]), c.title
                if not row.gradients:
                    continue
                fresh = tuple(np.asfortranarray(moved[name]) for name in row.gradients)
                assert c.bits(**moved, axis=axis, out=c.out(*fresh)) == bits(back), c.title
                mine = {name: np.array(moved[name], order="K") for name in row.gradients}
                given = {**moved, **mine, "axis": axis, "out": c.out(*mine.values())}
                assert c.bits(**given) == bits(back), c.title


@on_one_isa
@over_product
@over_rows
def test_broadcast_arrays(row: Row, product: bool) -> None:
    """One value many times, in every argument; what comes back has memory of its own.

    Each with one reduction: each reduction meets each type, shape and stretched axis.
    """
    reductions = row.reductions or ("none",)
    read = tuple(o.name for o in row.extras if o.argument in ("weight", "sample_weight") and not o.label)
    cases = itertools.product(DTYPES, row.shapes, (np.s_[:1], np.s_[..., :1], np.s_[:1, :1]))
    for number, (dtype, shape, pick) in enumerate(cases):

        def stretch(a: Array, pick: Any = pick) -> Array:
            return np.broadcast_to(a[pick], a.shape) if a.ndim >= 2 else np.broadcast_to(a[:1], a.shape)

        turn = (number + number // 3) % len(reductions)
        some = reductions if product else reductions[turn : turn + 1]
        for reduction, company in itertools.product(some, {(), read}):
            stretched = call(row, shape, dtype, reduction, len(row.sets) - 1, company).moved(stretch)
            result = stretched.run()
            stretched.assert_same(result, stretched.moved(np.array).run())
            assert all(0 not in array.strides for array in result[1]), stretched.title


# Kinds of arrays


@on_one_isa
@over_rows
def test_kinds_of_arrays(row: Row) -> None:
    """Odd addresses, the other byte order, lists and tuples, other types that hold the same numbers."""
    for dtype in DTYPES:
        for c in plain_and_all(row, row.shapes[0], dtype):
            expected = c.run()
            c.assert_same(c.moved(unaligned).run(), expected)
            if dtype != "bfloat16":
                c.assert_same(c.moved(other_byte_order).run(), expected)
            # float64 holds all of them; the first argument decides.
            if row.same_bits:
                wide = c.moved(lambda a: a.astype(np.float64) if a.dtype.kind not in "biu" else a)
                result = wide.run(**{row.first: c.first})
                assert bits(result) == bits(expected), c.title
    for c in plain_and_all(row, row.shapes[0], "float64"):
        expected = c.run()
        lists = c.moved(lambda a: a.tolist())
        c.assert_same(lists.run(), expected)
        c.assert_same(lists.run(**{row.first: tuple(c.first.tolist())}), expected)


@over_rows
def test_the_first_argument_decides_the_type(row: Row) -> None:
    """Other arguments of another type are converted to it."""
    if not row.same_bits:
        return
    for dtype, other in itertools.product(DTYPES, DTYPES):
        c = call(row, row.shapes[0], dtype)
        with np.errstate(over="ignore"):
            given = {k: c[k].astype(dtype_named(other)) for k in row.floats[1:]}
            narrow = {k: a.astype(dtype_named(dtype)) for k, a in given.items()}
        if is_half(dtype) and not is_half(other) and any(not np.array_equal(given[k], c[k]) for k in given):
            continue
        assert c.bits(**given) == c.bits(**narrow), f"{c.title} {other}"


@over_rows
def test_integers_are_float64(row: Row) -> None:
    whole = {"mean_squared_log_loss": 2, "binary_cross_entropy": 0, "orpo_loss": -20, "aft_loss": 1}
    c = call(row, row.shapes[0], "float64", (row.reductions or ("none",))[-1])
    rng = np.random.default_rng(0)
    if row.checked({}) or row.name in whole:
        shift = whole.get(row.name, 1)
        given = {k: rng.integers(0, 2, np.shape(c[k])) + shift for k in row.floats}
        if "target" in given:
            given["target"] = np.ones_like(given["target"])
        if "upper" in given:
            given["upper"] += 1
    else:
        # (A target of integers is one of indices.)
        floats = row.floats[:1] if row.label == "probabilities" else row.floats
        given = {k: rng.integers(-3, 4, np.shape(c[k])) for k in floats}
        if "quantile" in given:
            given["quantile"] = np.sort(rng.integers(0, 2, given["quantile"].shape))
    wide = c.with_(**{k: a.astype(np.float64) for k, a in given.items()})
    expected = wide.check()
    for kind in (np.int64, np.int8, ">i4"):
        c.with_(**given).assert_same(wide.run(**{k: a.astype(kind) for k, a in given.items()}), expected)
    wide.assert_same(wide.run(**{k: a.tolist() for k, a in given.items()}), expected)


INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "longlong", ">i4"]


@on_one_isa
@over([row for row in ROWS if row.integers])
def test_integers_of_any_width(row: Row) -> None:
    """Also not next to each other, unaligned, as lists; the index to ignore is compared as a number."""
    name = row.integers[0]
    for shape in row.shapes:
        c = call(row, shape, "float32", (row.reductions or ("none",))[-1])
        expected = c.run()
        for integer in INTEGERS:
            target = c[name].astype(integer)
            if target.max() != c[name].max():
                continue
            others = [target, every_second(target), target[::-1].copy()[::-1], np.asfortranarray(target)]
            for given in (*others, unaligned(target), target.tolist()):
                c.assert_same(c.run(**{name: given}), expected)
            if "ignore_index" in row.parameters and name == "target" and integer != ">i4":
                limits = np.iinfo(integer)
                for ignored in {limits.min, limits.max, 2}:
                    y = np.array(target)
                    y[1:3, 1::2] = ignored
                    c.with_(target=y, ignore_index=int(ignored)).check()


KINDS_OF_MASKS = ["int8", "uint8", "int64", "uint64", ">i4", *map(dtype_named, DTYPES)]


@over([row for row in ROWS if "mask" in row.parameters])
def test_kinds_of_masks(row: Row) -> None:
    for shape in row.shapes:
        c = with_all(row, shape, "float32")
        mask, want = np.array(c["mask"]), c.bits()
        others = [mask.tolist(), np.asfortranarray(mask), every_second(mask), np.where(mask, 1.0, -0.0)]
        for other in (*map(mask.astype, KINDS_OF_MASKS), *others):
            assert c.bits(mask=other) == want, c.title


@over_rows
def test_read_only_memory_maps(row: Row, tmp_path: Path) -> None:
    """Writing to one would end the process."""
    for number, c in enumerate(plain_and_all(row, row.shapes[0], "float32")):
        maps = {}
        for name in row.arrays:
            np.save(tmp_path / f"{name}{number}.npy", c[name])
            maps[name] = np.load(tmp_path / f"{name}{number}.npy", mmap_mode="r")
        loss, derivatives = c.run(**maps)
        assert not any(isinstance(a, np.memmap) and isinstance(a.base, np.memmap) for a in derivatives)
        c.check_loss(loss)
        c.check_derivatives(tuple(map(np.asarray, derivatives)))
        c.check_loss(c.value(**maps) if row.returns != "array" else None)


@over(IN_PLACE)
def test_memory_map_in_place(row: Row, tmp_path: Path) -> None:
    c = call(row, row.shapes[0], "float32")
    maps = {}
    for name in row.gradients:
        np.save(tmp_path / f"{name}.npy", c[name])
        maps[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r+")
    _, derivatives = c.run(**maps, out=c.out(*maps.values()))
    for name, array in zip(row.gradients, derivatives, strict=False):
        assert array is maps[name]
        array.flush()
        c.check_derivative(name, np.load(tmp_path / f"{name}.npy"))


# Inputs stay as they are


@on_one_isa
@over_rows
def test_inputs_are_not_modified(row: Row) -> None:
    for dtype in DTYPES:
        for c in both_paths(row, dtype):
            mine = c.moved(np.array)
            before = bits(mine.own_arrays)
            mine.run()
            mine.value()
            if row.gradients:
                mine.run(out=mine.out(*mine.buffers()))
            assert bits(mine.own_arrays) == before, c.title


# Buffers


def choices(row: Row) -> list[tuple[bool, ...]]:
    """Which gradients are wanted: of one, it; of several any."""
    number = len(row.gradients)
    return list(itertools.product((True, False), repeat=number)) if number > 1 else [(True,)]


@on_one_isa
@over(WITH_OUT)
def test_buffers(row: Row) -> None:
    """Fresh and used, the memory of the argument itself, a view of it, what was returned before."""
    for dtype in DTYPES:
        for c in both_paths(row, dtype):
            expected, buffers = c.run(), c.buffers(NAN)
            for _ in range(2):
                result = c.run(out=c.out(*buffers))
                assert all(a is b for a, b in zip(result[1], buffers, strict=False))
                c.assert_same(result, expected)
            # What was returned can be passed back.
            c.assert_same(c.run(out=c.out(*result[1][: len(row.gradients)])), expected)
            if not row.same_bits:
                continue
            x = {name: np.array(c[name]) for name in row.gradients}
            # The same memory, not the same object.
            for views in (tuple(x.values()), tuple(a[:] if a.ndim else a for a in x.values())):
                for name, array in x.items():
                    array[...] = c[name]
                result = c.run(**x, out=c.out(*views))
                assert all(a is b for a, b in zip(result[1], views, strict=False))
                assert bits(result) == bits(expected), c.title


@over([row for row in WITH_OUT if len(row.gradients) > 1])
def test_gradients_that_are_not_wanted(row: Row) -> None:
    for dtype in DTYPES:
        for c in both_paths(row, dtype):
            loss, derivatives = c.run()
            for wanted, in_place in itertools.product(choices(row), (False, True)):
                if in_place and not row.same_bits:
                    continue
                mine = {name: np.array(c[name]) for name in row.gradients}
                some = tuple(mine.values()) if in_place else c.buffers()
                out = tuple(a if want else None for a, want in zip(some, wanted, strict=True))
                result = c.run(**(mine if in_place else {}), out=c.out(*out))
                assert all(a is b for a, b in zip(result[1], out, strict=True)), c.title
                expected = tuple(g if want else None for g, want in zip(derivatives, wanted, strict=True))
                if row.same_bits:
                    assert bits(result) == bits(loss, expected), c.title
                for name, array, want in zip(row.gradients, some, wanted, strict=True):
                    before = c[name] if in_place else np.full_like(array, 55.0)
                    if want:
                        c.check_derivative(name, array)
                    else:
                        assert bits(array) == bits(before), c.title


@over(IN_PLACE)
def test_out_beside_the_input(row: Row) -> None:
    """Two halves of one array: interleaved, but apart."""
    c = call(row, row.shapes[0], "float32")
    expected, name = c.run(), row.first
    both = np.full((*c.shape[:-1], 2 * c.shape[-1]), 77.0, np.float32)
    x, out = both[..., ::2], both[..., 1::2]
    x[...] = c[name]
    buffers = (out, *c.buffers()[1:])
    result = c.run(**{name: x}, out=c.out(*buffers))
    assert bits(result) == bits(expected)
    assert bits(x) == bits(c[name])


# Accumulation


def starts(c: Call) -> list[Array]:
    rng = np.random.default_rng(4)
    return [rng.standard_normal(a.shape).astype(a.dtype) for a in c.buffers()]


def check_added(c: Call, result: tuple[Any, Any], out: Any, before: list[Array]) -> None:
    """The loss does not see what was there, and a hessian goes to an array of its own."""
    c.check_loss(result[0])
    for name, array, buffer, start in zip(c.row.gradients, result[1], out, before, strict=False):
        assert array is buffer
        if buffer is not None:
            c.check_added(name, buffer, start)
    if c.row.hessian:
        assert not any(np.shares_memory(result[1][-1], a) for a in out)
        c.check_derivative("hessian", result[1][-1])


@on_one_isa
@over(ACCUMULATING)
def test_accumulate(row: Row) -> None:
    for dtype in DTYPES:
        for c in both_paths(row, dtype):
            before = starts(c)
            for wanted in choices(row):
                out = tuple(a.copy() if want else None for a, want in zip(before, wanted, strict=True))
                check_added(c, c.run(out=c.out(*out), accumulate=True), out, before)
            if row.same_bits:
                x = {name: np.array(c[name]) for name in row.gradients}
                result = c.run(**x, out=c.out(*x.values()), accumulate=True)
                numbers = [c[name] for name in row.gradients]
                if all(np.isfinite(np.asarray(a, np.float64)).all() for a in numbers):
                    check_added(c, result, tuple(x.values()), numbers)


@over(ACCUMULATING)
def test_several_losses_in_one_buffer(row: Row) -> None:
    """To what is there already the next is added."""
    parts = [call(row, row.shapes[0], "float64", "sum", seed=seed) for seed in range(3)]
    out = tuple(np.zeros_like(a) for a in parts[0].buffers())
    for c in parts:
        before = [a.copy() for a in out]
        check_added(c, c.run(out=c.out(*out), accumulate=True), out, before)


# Plain calls, which take a way of their own


@on_one_isa
@over_product
@over([row for row in ROWS if row.gradients and row.reductions])
def test_plain_calls(row: Row, product: bool) -> None:
    """A call without further options takes a shorter way, on which num_threads does not, to the same bits."""
    for turn, dtype in enumerate(DTYPES):
        small = [shape for shape in row.sizes if math.prod(shape) < 5000]
        for number, shape in (*enumerate(small), *enumerate(row.shapes)):
            place = (number + turn) % 2
            for reduction in ("mean", "sum") if product else ("mean", "sum")[place : place + 1]:
                check_plain(call(row, shape, dtype, reduction, number % len(row.sets)))


def check_plain(c: Call) -> None:
    expected = c.run(num_threads=2)
    if not c.row.same_bits:
        assert c.value() == c.value(num_threads=1)
        return
    assert c.bits() == bits(expected), c.title
    assert c.bits(grad_output=1.0, num_threads=1) == bits(expected), c.title
    assert c.bits(out=c.out(*c.buffers())) == bits(expected), c.title
    assert bits(c.value()) == bits(expected[0]), c.title


@over([row for row in ROWS if row.large and row.same_bits])
def test_shared_out_by_the_memory_of_another_order(row: Row) -> None:
    c = call(row, row.large[0], "float32", (row.reductions or ("none",))[-1])
    expected = c.run(num_threads=1)
    for change in (np.ascontiguousarray, np.asfortranarray):
        with case(change.__name__):
            c.assert_same(c.moved(change).run(num_threads=3), expected)
