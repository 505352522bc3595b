"""Where inputs and gradients lie in memory: strides, out, in place, accumulation, types."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cases import (
    CASE_AND_TARGET_IDS,
    CASE_IDS,
    CASES,
    CASES_AND_TARGETS,
    DTYPES,
    REDUCTIONS,
    TRANSFORM_IDS,
    TRANSFORMS,
    Array,
    Case,
    Problem,
    Shape,
    Transform,
    assert_within,
    dtype_named,
    problem,
    transform_input,
)

import fastloss

pytestmark = pytest.mark.usefixtures("isa")

over_cases = pytest.mark.parametrize(("case", "target"), CASES_AND_TARGETS, ids=CASE_AND_TARGET_IDS)
over_losses = pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
over_dtypes = pytest.mark.parametrize("dtype", DTYPES)

# Two paths: short rows, 16 of them at a time, and rows one by one.
SHAPES = [(4, 6, 5), (2, 3, 70)]
over_shapes = pytest.mark.parametrize("shape", SHAPES, ids=["short", "long"])


# Layouts: how an array of a shape lies in a larger one


@dataclass(frozen=True)
class Layout:
    """The shape of the array around one of shape (B, T, C), and the view of it that has it."""

    around: Callable[[int, int, int], Shape]
    view: Callable[[Array], Array]

    def place(self, values: Array) -> tuple[Array, Array]:
        """Return the array around, with 77 where nobody may write, and the view with the values."""
        b, t, c = values.shape
        around = np.full(self.around(b, t, c), 77.0).astype(values.dtype)
        view = self.view(around)
        assert view.shape == values.shape
        view[...] = values
        return around, view

    def check_untouched(self, around: Array) -> None:
        """Assert that nothing outside the view was written."""
        copy = around.copy()
        self.view(copy)[...] = 77.0
        assert (np.asarray(copy, dtype=np.float64) == 77.0).all()


LAYOUTS = {
    "contiguous": Layout(lambda b, t, c: (b, t, c), lambda a: a),
    "last position sliced off": Layout(lambda b, t, c: (b, t + 1, c), lambda a: a[:, :-1]),
    "first position sliced off": Layout(lambda b, t, c: (b, t + 1, c), lambda a: a[:, 1:]),
    "classes sliced": Layout(lambda b, t, c: (b, t, c + 3), lambda a: a[..., 1:-2]),
    "every second class": Layout(lambda b, t, c: (b, t, 2 * c), lambda a: a[..., ::2]),
    "every third row": Layout(lambda b, t, c: (b, 3 * t, c), lambda a: a[:, ::3]),
    "rows reversed": Layout(lambda b, t, c: (b, t, c), lambda a: a[::-1, ::-1]),
    "classes reversed": Layout(lambda b, t, c: (b, t, c), lambda a: a[..., ::-1]),
    "every second class, reversed": Layout(lambda b, t, c: (b, t, 2 * c), lambda a: a[..., ::-2]),
    "Fortran order": Layout(lambda b, t, c: (c, t, b), lambda a: a.T),
    "rows transposed": Layout(lambda b, t, c: (t, b, c), lambda a: a.swapaxes(0, 1)),
    "classes in the middle": Layout(lambda b, t, c: (b, c, t), lambda a: a.swapaxes(1, 2)),
    "classes first, sliced": Layout(lambda b, t, c: (c, b, t + 1), lambda a: np.moveaxis(a, 0, 2)[:, :-1]),
}
over_layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def with_input(p: Problem, x: Array) -> Problem:
    """The same call with an input that lies elsewhere."""
    return Problem(p.case, p.dtype, p.reduction, x, p.target, p.options)


def prepared(case: Case, target: str, shape: Shape, dtype: str) -> list[Problem]:
    """A plain call, which has a path of its own, and one with all options."""
    options = case.all_options(target, "none")
    return [
        problem(case, target, shape, dtype, "mean"),
        problem(case, target, shape, dtype, "none", options),
    ]


@over_layouts
@over_shapes
@over_dtypes
@over_cases
def test_strides_of_the_input(case: Case, target: str, dtype: str, shape: Shape, layout: Layout) -> None:
    for p in prepared(case, target, shape, dtype):
        _, x = layout.place(p.input)
        x.flags.writeable = False
        loss, grad = p.loss_and_gradient(input=x)
        p.check_loss(loss)
        p.check_gradient(grad)
        p.check_loss(with_input(p, x).loss())


@over_layouts
@over_shapes
@over_dtypes
@over_cases
def test_strides_of_out(case: Case, target: str, dtype: str, shape: Shape, layout: Layout) -> None:
    for p in prepared(case, target, shape, dtype):
        around, out = layout.place(np.full_like(p.input, 55.0))
        loss, grad = p.loss_and_gradient(out=out)
        assert grad is out
        p.check_loss(loss)
        p.check_gradient(out)
        layout.check_untouched(around)


@over_layouts
@over_shapes
@over_dtypes
@over_cases
def test_in_place(case: Case, target: str, dtype: str, shape: Shape, layout: Layout) -> None:
    for p in prepared(case, target, shape, dtype):
        around, x = layout.place(p.input)
        loss, grad = p.loss_and_gradient(input=x, out=x)
        assert grad is x
        p.check_loss(loss)
        p.check_gradient(x)
        layout.check_untouched(around)


def check_accumulated(p: Problem, before: Array, after: Array) -> None:
    start = before.astype(np.float64)
    expected = start + p.expected[1]
    # The sum is rounded once more, in the type computed in; half types round to theirs at the end.
    tolerance = p.tolerance_of(expected) + np.abs(expected) * (2.0**-53 if p.dtype == "float64" else 2.0**-24)
    assert_within(after, expected, tolerance, p.title + " accumulated")


@over_layouts
@over_shapes
@over_dtypes
@over_cases
def test_accumulate(case: Case, target: str, dtype: str, shape: Shape, layout: Layout) -> None:
    for p in prepared(case, target, shape, dtype):
        before = np.random.default_rng(5).normal(size=shape).astype(dtype_named(dtype))
        around, out = layout.place(before)
        loss, grad = p.loss_and_gradient(out=out, accumulate=True)
        assert grad is out
        p.check_loss(loss)
        check_accumulated(p, before, out)
        layout.check_untouched(around)


@over_dtypes
@over_losses
def test_ignored_rows_of_out(case: Case, dtype: str) -> None:
    # Written over with 0 (whatever was there), but left as they are where the gradient is added.
    for shape in SHAPES:
        p = problem(case, "indices", shape, dtype, "sum", ("ignore_index",))
        ignored = p.target == -7
        out = np.full(shape, np.nan).astype(dtype_named(dtype))
        p.check_gradient(p.loss_and_gradient(out=out)[1])
        before = np.full(shape, 3.25).astype(dtype_named(dtype))
        out = before.copy()
        p.loss_and_gradient(out=out, accumulate=True)
        assert (out[ignored] == 3.25).all()
        check_accumulated(p, before, out)


@over_losses
def test_several_losses_in_one_buffer(case: Case) -> None:
    parts = [problem(case, "indices", (5, 70), "float64", "sum", seed=seed) for seed in range(3)]
    out = np.zeros((5, 70))
    for p in parts:
        p.loss_and_gradient(out=out, accumulate=True)
    expected = sum(p.expected[1] for p in parts)
    scale = sum(p.gradient_scale for p in parts)
    assert_within(out, expected, 3e-14 * scale, case.name)


@over_dtypes
@over_cases
def test_out_may_be_another_view_of_the_input(case: Case, target: str, dtype: str) -> None:
    # Not the same object, but exactly the same memory.
    p = problem(case, target, (7, 9), dtype)
    x = p.input.copy()
    out = x[:]
    _, grad = p.loss_and_gradient(input=x, out=out)
    assert grad is out
    p.check_gradient(x)


@over_cases
def test_out_beside_the_input(case: Case, target: str) -> None:
    # Two halves of one array: interleaved, but apart.
    p = problem(case, target, (7, 9), "float32")
    both = np.full((7, 18), 77.0, np.float32)
    both[:, ::2] = p.input
    _, grad = p.loss_and_gradient(input=both[:, ::2], out=both[:, 1::2])
    p.check_gradient(grad)
    assert (both[:, ::2] == p.input).all()


# Inputs stay as they are


@over_dtypes
@over_cases
def test_inputs_are_not_modified(case: Case, target: str, dtype: str) -> None:
    for reduction in REDUCTIONS:
        for shape in SHAPES:
            base = problem(case, target, shape, dtype, reduction, case.all_options(target, reduction))
            given = {k: np.copy(v) if np.ndim(v) else v for k, v in base.options.items()}
            x, y = base.input.copy(), base.target.copy()
            p = Problem(case, dtype, reduction, x, y, given)
            arrays = [x, y, *(v for v in given.values() if isinstance(v, np.ndarray))]
            before = [a.tobytes() for a in arrays]
            p.loss()
            p.loss_and_gradient()
            p.loss_and_gradient(out=np.empty_like(x))
            assert [a.tobytes() for a in arrays] == before


@over_cases
def test_read_only_memory_maps(case: Case, target: str, tmp_path: Path) -> None:
    # Writing to one would end the process.
    for number, p in enumerate(prepared(case, target, (4, 6, 5), "float32")):
        maps = []
        for name, array in (("x", p.input), ("y", p.target)):
            path = tmp_path / f"{name}{number}.npy"
            np.save(path, array)
            maps.append(np.load(path, mmap_mode="r"))
        call = Problem(case, p.dtype, p.reduction, maps[0], maps[1], p.options)
        loss, grad = call.loss_and_gradient()
        p.check_loss(loss)
        assert type(grad) is np.ndarray or not isinstance(grad.base, np.memmap)
        p.check_gradient(np.asarray(grad))
        p.check_loss(call.loss())


@over_cases
def test_memory_map_in_place(case: Case, target: str, tmp_path: Path) -> None:
    p = problem(case, target, (4, 6, 5), "float32")
    np.save(tmp_path / "x.npy", p.input)
    x = np.load(tmp_path / "x.npy", mmap_mode="r+")
    _, grad = p.loss_and_gradient(input=x, out=x)
    assert grad is x
    x.flush()
    p.check_gradient(np.load(tmp_path / "x.npy"))


# One value many times


@over_dtypes
@pytest.mark.parametrize("classes", [5, 70])
@over_losses
def test_inputs_of_stride_0(case: Case, classes: int, dtype: str) -> None:
    base = problem(case, "indices", (6, classes), dtype)
    same_rows = np.broadcast_to(base.input[:1], base.input.shape)
    same_classes = np.broadcast_to(base.input[:, :1], base.input.shape)
    same_everywhere = np.broadcast_to(base.input[0, 0], base.input.shape)
    for x in (same_rows, same_classes, same_everywhere):
        assert 0 in x.strides
        for reduction in REDUCTIONS:
            p = Problem(case, dtype, reduction, x, base.target, {})
            loss, grad = p.loss_and_gradient()
            p.check_loss(loss)
            p.check_gradient(grad)
            # What comes back is an array of its own, every element written once.
            assert 0 not in grad.strides
            p.check_loss(p.loss())


def test_targets_and_weights_of_stride_0() -> None:
    case = CASES[0]
    base = problem(case, "indices", (6, 9), "float32")
    given = {
        "weight": np.broadcast_to(0.5, 9),
        "sample_weight": np.broadcast_to(np.float32(2.0), 6),
        "grad_output": np.broadcast_to(3.0, 6),
    }
    for y in (np.broadcast_to(4, 6), np.broadcast_to(np.float32(1 / 9), (6, 9))):
        p = Problem(case, "float32", "none", base.input, y, given)
        loss, grad = p.loss_and_gradient()
        p.check_loss(loss)
        p.check_gradient(grad)


# The class axis


@pytest.mark.parametrize("axis", [-4, -3, -2, -1, 0, 1, 2, 3])
@over_dtypes
@over_cases
def test_any_class_axis(case: Case, target: str, dtype: str, axis: int) -> None:
    for classes in (5, 70):
        for p in prepared(case, target, (2, 3, 4, classes), dtype):
            # As an array in C order with its classes at `axis`, and as a view without a copy.
            moved = np.moveaxis(p.input, -1, axis)
            y = p.target if target == "indices" else np.moveaxis(p.target, -1, axis)
            for x in (np.ascontiguousarray(moved), moved):
                for out in (None, np.empty(x.shape, x.dtype), np.asfortranarray(x)):
                    given = {"reduction": p.reduction, **p.options, "axis": axis, "out": out}
                    loss, grad = p.function(x, y, return_grad=True, **given)
                    assert out is None or grad is out
                    p.check_loss(loss)
                    p.check_gradient(np.moveaxis(grad, axis, -1))
            p.check_loss(p.function(moved, y, axis=axis, **p.forward_options))


@over_dtypes
@over_losses
def test_images_in_place(case: Case, dtype: str) -> None:
    # Classes are axis 1, as in a segmentation network.
    base = problem(case, "indices", (2, 4, 5, 21), dtype)
    x = np.ascontiguousarray(np.moveaxis(base.input, -1, 1))
    loss, grad = base.function(x, base.target, axis=1, return_grad=True, out=x)
    assert grad is x
    base.check_loss(loss)
    base.check_gradient(np.moveaxis(x, 1, -1))


# Types of targets and options

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "intp", "longlong"]


@pytest.mark.parametrize("integer", INTEGERS)
@over_losses
def test_integer_targets_of_any_width(case: Case, integer: str) -> None:
    for classes in (5, 100):
        p = problem(case, "indices", (4, 6, classes), "float32", "none")
        target = p.target.astype(integer)
        spread = np.repeat(target, 2, axis=-1)
        wide = target.dtype.newbyteorder()
        unaligned = np.frombuffer(b"\0" + target.tobytes(), target.dtype, offset=1).reshape(4, 6)
        others = [
            target,
            spread[:, ::2],
            target[::-1][::-1],
            np.asfortranarray(target),
            target.astype(wide),
            unaligned,
            target.tolist(),
        ]
        for y in others:
            loss, grad = p.function(p.input, y, reduction="none", return_grad=True)
            p.check_loss(loss)
            p.check_gradient(grad)


@pytest.mark.parametrize("integer", INTEGERS)
@over_losses
def test_ignored_targets_of_any_width(case: Case, integer: str) -> None:
    # The ignored index is compared as a number, in any type that can hold it.
    limits = np.iinfo(integer)
    base = problem(case, "indices", (4, 6, 5), "float32", "sum")
    for ignore_index in {limits.min, limits.max, 100, 2}:
        target = base.target.astype(integer)
        target[1:3, 1::2] = ignore_index
        p = Problem(case, "float32", "sum", base.input, target, {"ignore_index": int(ignore_index)})
        loss, grad = p.loss_and_gradient()
        p.check_loss(loss)
        p.check_gradient(grad)
        p.check_loss(p.loss())


@over_losses
def test_one_row_and_its_target(case: Case) -> None:
    p = problem(case, "indices", (3, 9), "float32", "sum")
    row, y = p.input[0], int(p.target[0])
    one = Problem(case, "float32", "sum", p.input[:1], p.target[:1], {})
    for target in (y, np.int8(y), np.array(y), np.array(y, np.uint16)):
        loss, grad = p.function(row, target, reduction="sum", return_grad=True)
        one.check_loss(loss)
        one.check_gradient(grad[np.newaxis])


@over_cases
def test_lists_are_float64(case: Case, target: str) -> None:
    for p in prepared(case, target, (2, 3, 5), "float64"):
        given = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in p.options.items()}
        call = {"reduction": p.reduction, "return_grad": True, **given}
        for x in (p.input.tolist(), tuple(p.input.tolist())):
            loss, grad = p.function(x, p.target.tolist(), **call)
            p.check_loss(loss)
            p.check_gradient(grad)


@over_losses
def test_integer_inputs_are_float64(case: Case) -> None:
    x = np.arange(12).reshape(4, 3) % 7
    y = np.array([0, 2, 1, 1])
    p = Problem(case, "float64", "sum", x.astype(np.float64), y, {})
    for integers in (x, x.astype(np.int8), x.tolist()):
        loss, grad = p.function(integers, y, reduction="sum", return_grad=True)
        p.check_loss(loss)
        p.check_gradient(grad)


@pytest.mark.parametrize("other", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", ["weight", "sample_weight", "grad_output", "target"])
@over_dtypes
def test_the_first_argument_decides_the_type(dtype: str, name: str, other: str) -> None:
    # Numbers that every type has, so that converting them loses nothing.
    case = CASES[0]
    base = problem(case, "indices", (4, 8), dtype, "none")
    eighths = np.array([1, 2, 3, 5, 8, 13, 21, 34]) / 8.0
    y, given = base.target, {}
    if name == "target":
        y = np.tile(np.array([0, 1, 0, 2, 4, 1, 0, 0]) / 8.0, (4, 1)).astype(other)
    else:
        given = {name: (eighths if name == "weight" else eighths[:4]).astype(other)}
    p = Problem(case, dtype, "none", base.input, y, given)
    loss, grad = p.loss_and_gradient()
    p.check_loss(loss)
    p.check_gradient(grad)


@over_cases
def test_other_byte_order(case: Case, target: str) -> None:
    for dtype in ("float16", "float32", "float64"):
        for p in prepared(case, target, (2, 3, 5), dtype):
            swapped = {
                k: v.astype(v.dtype.newbyteorder()) if isinstance(v, np.ndarray) else v
                for k, v in p.options.items()
            }
            x, y = (a.astype(a.dtype.newbyteorder()) for a in (p.input, p.target))
            call = {"reduction": p.reduction, "return_grad": True, **swapped}
            loss, grad = p.function(x, y, **call)
            p.check_loss(loss)
            p.check_gradient(grad)


def unaligned(array: Array) -> Array:
    """The same values at an odd address."""
    buffer = np.empty(array.nbytes + 2, np.uint8)
    start = 1 - buffer.ctypes.data % 2
    view = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    assert not view.flags.aligned
    view[...] = array
    return view


@over_dtypes
@over_cases
def test_unaligned_inputs(case: Case, target: str, dtype: str) -> None:
    for p in prepared(case, target, (2, 3, 5), dtype):
        given = {k: unaligned(v) if isinstance(v, np.ndarray) else v for k, v in p.options.items()}
        call = {"reduction": p.reduction, "return_grad": True, **given}
        loss, grad = p.function(unaligned(p.input), unaligned(p.target), **call)
        p.check_loss(loss)
        p.check_gradient(grad)


@over_cases
def test_strides_of_probabilities_and_options(case: Case, target: str) -> None:
    for p in prepared(case, target, (2, 3, 70), "float32"):
        doubled = {
            k: np.repeat(v, 2, axis=-1)[..., ::2] if isinstance(v, np.ndarray) else v
            for k, v in p.options.items()
        }
        y = np.repeat(p.target, 2, axis=0)[::2]
        backwards = np.ascontiguousarray(p.target[..., ::-1])[..., ::-1]
        for targets in (y, backwards, np.asfortranarray(p.target)):
            call = {"reduction": p.reduction, "return_grad": True, **doubled}
            loss, grad = p.function(p.input, targets, **call)
            p.check_loss(loss)
            p.check_gradient(grad)


# The transforms

with_out = [t for t in TRANSFORMS if t.keeps_classes]
over_transforms = pytest.mark.parametrize("transform", TRANSFORMS, ids=TRANSFORM_IDS)
over_transforms_with_out = pytest.mark.parametrize("transform", with_out, ids=[t.name for t in with_out])


@over_layouts
@over_shapes
@over_dtypes
@over_transforms
def test_strides_of_a_transform(transform: Transform, dtype: str, shape: Shape, layout: Layout) -> None:
    _, x = layout.place(transform_input(shape, dtype))
    x.flags.writeable = False
    transform.check(x, getattr(fastloss, transform.name)(x), dtype)


@over_layouts
@over_shapes
@over_dtypes
@over_transforms_with_out
def test_out_of_a_transform(transform: Transform, dtype: str, shape: Shape, layout: Layout) -> None:
    function = getattr(fastloss, transform.name)
    x = transform_input(shape, dtype)
    around, out = layout.place(np.full_like(x, 55.0))
    assert function(x, out=out) is out
    transform.check(x, out, dtype)
    layout.check_untouched(around)

    around, inside = layout.place(x)
    assert function(inside, out=inside) is inside
    transform.check(x, inside, dtype)
    layout.check_untouched(around)


@over_transforms
def test_lists_and_byte_order_of_a_transform(transform: Transform) -> None:
    function = getattr(fastloss, transform.name)
    x = transform_input((5, 9), "float64")
    for given in (x.tolist(), x.astype(">f8"), x.astype("<f8"), unaligned(x)):
        transform.check(x, function(given), "float64")
