"""What all tests share: types, comparisons, arrays that lie in memory in many ways, refusals."""

import inspect
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import fastloss
from fastloss import reference

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
Options = dict[str, Any]

INF, NAN = math.inf, math.nan
DTYPES = ["float32", "float64", "float16"] + (["bfloat16"] if find_spec("ml_dtypes") else [])
HALF = DTYPES[-1]
REDUCTIONS = ["mean", "sum", "none"]
NONE: Options = {"reduction": "none", "return_grad": True}
# Public functions without arrays.
SETTINGS = {"get_num_threads", "num_threads", "set_num_threads", "show_config"}

on_every_isa = pytest.mark.usefixtures("isa")
# On the best instruction set that the machine has; on the others in the full matrix.
on_one_isa = pytest.mark.usefixtures("one_isa")
over_dtypes = pytest.mark.parametrize("dtype", DTYPES)
over_wide = pytest.mark.parametrize("dtype", ["float32", "float64"])
over_modules = pytest.mark.parametrize("module", [reference, fastloss], ids=["reference", "fastloss"])


def full_if(condition: bool, *values: Any) -> Any:
    """Values of parameters; under the condition they are in the full matrix only."""
    return pytest.param(*values, marks=[pytest.mark.full] * condition)


# Whether a test goes through the pairs of what it combines or, in the full matrix, through their product.
over_product = pytest.mark.parametrize("product", [False, full_if(True, True)])
over_reductions = pytest.mark.parametrize("reduction", REDUCTIONS)


def sigmoid(x: float) -> float:
    small = math.exp(-abs(x))
    return (1.0 if x >= 0.0 else small) / (1.0 + small)


# Types

# Stored bits of the fraction, and the exponent of the smallest (subnormal) and the smallest normal
# number: all that is needed to round to a type, and NumPy does not know those of bfloat16.
FORMATS = {
    "float16": (10, -24, -14),
    "bfloat16": (7, -133, -126),
    "float32": (23, -149, -126),
    "float64": (52, -1074, -1022),
}


def dtype_named(name: str) -> np.dtype[Any]:
    """The dtype; bfloat16 is that of ml_dtypes."""
    if name != "bfloat16":
        return np.dtype(name)
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def is_half(dtype: str) -> bool:
    return dtype in ("float16", "bfloat16")


def loss_dtype(dtype: str) -> str:
    """The type of unreduced losses, and the precision that all of them are computed with."""
    return "float32" if is_half(dtype) else dtype


def ulp(value: npt.ArrayLike, dtype: str) -> Array:
    """One unit in the last place of `dtype` at a float64 value."""
    bits, smallest, _ = FORMATS[dtype]
    size = np.asarray(value, dtype=np.float64)
    exponent = np.where(size == 0.0, smallest, np.frexp(size)[1] - 1)
    return np.ldexp(1.0, np.maximum(exponent - bits, smallest))


def smallest_normal(dtype: str) -> float:
    """The smallest normal number of the type computed in: below it there are no relative errors."""
    return float(2.0 ** FORMATS[loss_dtype(dtype)][2])


def unit_roundoff(dtype: str) -> float:
    """The largest relative error of rounding once to the type computed in."""
    return float(2.0 ** -(FORMATS[loss_dtype(dtype)][0] + 1))


def rounded(values: Any, dtype: str) -> Array:
    """In a type (integers and bools stay as they are), and nobody can write to it."""
    array = np.array(values)
    if array.dtype.kind not in "biu":
        array = array.astype(dtype_named(dtype))
    array.flags.writeable = False
    return array


# Comparisons


@contextmanager
def case(name: Any) -> Iterator[None]:
    """Name the case of a test that goes through many: the error says in which it is."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the case of {name}")
        raise


def each(name: str, values: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Go through the values of an argument in one test.

    `pytest.mark.parametrize` makes a test of each, which alone costs 2.5 ms.
    """

    choices = tuple(values)

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @wraps(test)
        def through(**given: Any) -> None:
            for value in choices:
                with case(f"{name} {value}"):
                    test(**given, **{name: value})

        signature = inspect.signature(test)
        others = [p for p in signature.parameters.values() if p.name != name]
        through.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
        return through

    return decorate


def assert_within(value: Any, expected: Any, tolerance: Any, title: str) -> None:
    """Assert that |value - expected| <= tolerance everywhere (NaN only where it is expected)."""
    actual, expected = np.asarray(value, dtype=np.float64), np.asarray(expected)
    with np.errstate(invalid="ignore"):
        good = np.abs(actual - expected) <= tolerance if actual.shape == expected.shape else np.False_
    _assert_good(actual, expected, good, tolerance, title)


def assert_near(value: Any, expected: Any, tolerance: Any, dtype: str, title: str) -> None:
    """The same in a type: as rounding keeps the order, the bounds are rounded to it (and may overflow)."""
    actual, expected = np.asarray(value, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    low, high = bounds(expected, np.asarray(tolerance), dtype)
    good = (actual >= low) & (actual <= high) if actual.shape == expected.shape else np.False_
    _assert_good(actual, expected, good, tolerance, title)


def bounds(expected: Array, tolerance: Array, dtype: str) -> tuple[Array, Array]:
    """The least and the largest number of a type that are within a tolerance."""
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = expected - tolerance, expected + tolerance
        if dtype == "float64":
            return low, high
        if dtype == "float32":
            largest = float(np.finfo(np.float32).max)
            return np.where(low < -largest, -INF, low), np.where(high > largest, INF, high)
        kind = dtype_named(dtype)
        return low.astype(kind).astype(np.float64), high.astype(kind).astype(np.float64)


def _assert_good(actual: Array, expected: Array, good: Any, tolerance: Any, title: str) -> None:
    assert actual.shape == expected.shape, f"{title} {actual.shape}, not {expected.shape}"
    # Infinities of one sign are equal, though their difference is not a number.
    good = good | (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    if good.all():
        return
    where = np.unravel_index(int(np.argmin(good)), good.shape)
    raise AssertionError(
        f"{title} {int((~good).sum())} of {good.size} out of bounds, first at {tuple(map(int, where))}: "
        f"{actual[where]!r}, expected {expected[where]!r} "
        f"within {np.broadcast_to(tolerance, good.shape)[where]:.3g}"
    )


def bits(*values: Any) -> list[bytes]:
    """What is compared bit for bit, tuples and lists item by item, without what is None.

    NaN is NaN, whatever its sign and payload (large arrays have none).
    """
    found = []
    for value in values:
        if isinstance(value, tuple | list):
            found += bits(*value)
        elif value is not None:
            array = np.asarray(value)
            if array.dtype.kind not in "biu" and array.size < 100_000:
                array = np.where(array != array, np.asarray(NAN).astype(array.dtype), array)
            found.append(array.tobytes())
    return found


def nearly(actual: float, expected: float) -> bool:
    """Whether sums are the same but for the order of their terms."""
    return abs(actual - expected) <= 1e-15 * abs(expected) or (math.isnan(actual) and math.isnan(expected))


def largest(values: Any) -> float:
    """The largest of the finite values."""
    size = np.abs(np.asarray(values, np.float64))
    return float(size[np.isfinite(size)].max(initial=0.0))


# Arrays that lie in memory in many ways


@dataclass(frozen=True)
class Layout:
    """The shape of the array around one of shape (B, T, C), and the view of it that has it."""

    around: Callable[[int, int, int], Shape]
    view: Callable[[Array], Array]

    def place(self, values: Array) -> tuple[Array, Array]:
        """Return the array around, with 77 where nobody may write, and the view with the values.

        Fewer axes are the first of three.
        """
        shape = values.shape + (1,) * (3 - values.ndim)
        around = np.full(self.around(*shape), 77).astype(values.dtype)
        view = self.view(around).reshape(shape) if around.ndim == 1 else self.view(around)
        view[...] = values.reshape(shape)
        return around, view[(..., *(0,) * (3 - values.ndim))]

    def is_untouched(self, around: Array) -> bool:
        """Whether nothing but the view was written."""
        copy = around.copy()
        self.view(copy)[...] = 77.0
        return bool((np.asarray(copy, np.float64) == 77.0).all())


LAYOUTS = {
    "contiguous": Layout(lambda b, t, c: (b, t, c), lambda a: a),
    "one element on": Layout(lambda b, t, c: (b * t * c + 1,), lambda a: a[1:]),
    "last position sliced off": Layout(lambda b, t, c: (b, t + 1, c), lambda a: a[:, :-1]),
    "first position sliced off": Layout(lambda b, t, c: (b, t + 1, c), lambda a: a[:, 1:]),
    "middle sliced": Layout(lambda b, t, c: (b, t + 2, c), lambda a: a[:, 1:-1]),
    "classes sliced": Layout(lambda b, t, c: (b, t, c + 3), lambda a: a[..., 1:-2]),
    "every second class": Layout(lambda b, t, c: (b, t, 2 * c), lambda a: a[..., ::2]),
    "every third row": Layout(lambda b, t, c: (b, 3 * t, c), lambda a: a[:, ::3]),
    "every third in front": Layout(lambda b, t, c: (3 * b, t, c), lambda a: a[1::3]),
    "rows reversed": Layout(lambda b, t, c: (b, t, c), lambda a: a[::-1, ::-1]),
    "all reversed": Layout(lambda b, t, c: (b, t, c), lambda a: a[::-1, ::-1, ::-1]),
    "classes reversed": Layout(lambda b, t, c: (b, t, c), lambda a: a[..., ::-1]),
    "every second class, reversed": Layout(lambda b, t, c: (b, t, 2 * c), lambda a: a[..., ::-2]),
    "every second row and class, reversed": Layout(
        lambda b, t, c: (b, 2 * t, 2 * c), lambda a: a[:, ::-2, ::-2]
    ),
    "Fortran order": Layout(lambda b, t, c: (c, t, b), lambda a: a.T),
    "rows transposed": Layout(lambda b, t, c: (t, b, c), lambda a: a.swapaxes(0, 1)),
    "classes in the middle": Layout(lambda b, t, c: (b, c, t), lambda a: a.swapaxes(1, 2)),
    "classes first, sliced": Layout(lambda b, t, c: (c, b, t + 1), lambda a: np.moveaxis(a, 0, 2)[:, :-1]),
}


def unaligned(array: Array) -> Array:
    """The same values at an odd address."""
    buffer = np.empty(array.nbytes + 2, np.uint8)
    start = 1 - buffer.ctypes.data % 2
    view = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def shifted(array: Array, offset: int) -> Array:
    """A copy that starts `offset` elements into its memory."""
    room = np.zeros(array.size + offset, array.dtype)
    room[offset:] = array.reshape(-1)
    return room[offset:].reshape(array.shape)


def every_second(array: Array) -> Array:
    """The same values, not next to each other."""
    return np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array


def other_byte_order(array: Array) -> Array:
    """The same values in the other byte order, which bfloat16 does not have."""
    return array if array.dtype.kind == "V" else array.astype(array.dtype.newbyteorder())


# Refusals

Kind = type[Exception] | tuple[type[Exception], ...]
EITHER = (TypeError, ValueError)
ROWS, CLASSES = 4, 6


@dataclass(frozen=True)
class Bad:
    """An argument that must be refused, and how."""

    argument: str
    value: Any
    error: Kind
    with_options: tuple[tuple[str, Any], ...] = ()

    @property
    def given(self) -> Options:
        return {**dict(self.with_options), self.argument: self.value}


def bad(argument: str, error: Kind, *values: Any, **options: Any) -> list[Bad]:
    return [Bad(argument, value, error, tuple(options.items())) for value in values]


# Values that are no numbers, and none that are finite.
NO_NUMBERS = (True, False, np.True_, "1", 1j, [1.0], np.ones(2))
NOT_FINITE = (NAN, INF, -INF)


def bad_numbers(argument: str, *values: Any, **options: Any) -> list[Bad]:
    """Out of range, not finite, no numbers."""
    return [
        *bad(argument, ValueError, *values, *NOT_FINITE, **options),
        *bad(argument, TypeError, *NO_NUMBERS, **options),
    ]


def refused(call: Callable[[], Any], error: Kind, name: str) -> str:
    """Assert that a call is refused with an error of this very kind that names the argument."""
    with pytest.raises((TypeError, ValueError, IndexError)) as info:
        call()
    message = str(info.value)
    assert isinstance(info.value, error), f"{type(info.value).__name__}: {message}"
    assert re.search(rf"\b({name})\b", message), f"{name} is not in: {message}"
    return message


def read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def full_of_55(dtype: Any = np.float32, shape: Shape = (ROWS, CLASSES)) -> Array:
    return np.full(shape, 55.0).astype(dtype)


def with_strides(*strides: int) -> Array:
    room = full_of_55(shape=(99,))
    return np.lib.stride_tricks.as_strided(room, (ROWS, CLASSES), strides, writeable=True)


# Buffers that cannot take a float32 gradient of shape (ROWS, CLASSES).
BUFFERS: dict[str, tuple[Kind, Callable[[], Any]]] = {
    "a list": (TypeError, lambda: full_of_55().tolist()),
    "bytes": (TypeError, lambda: bytearray(96)),
    "True": (TypeError, lambda: True),
    "float64": (TypeError, lambda: full_of_55("float64")),
    "float16": (TypeError, lambda: full_of_55("float16")),
    "int32": (TypeError, lambda: full_of_55("int32")),
    "one class less": (ValueError, lambda: full_of_55(shape=(ROWS, CLASSES - 1))),
    "transposed": (ValueError, lambda: full_of_55(shape=(CLASSES, ROWS))),
    "flat": (ValueError, lambda: full_of_55(shape=(ROWS * CLASSES,))),
    "one axis more": (ValueError, lambda: full_of_55(shape=(1, ROWS, CLASSES))),
    "read-only": (ValueError, lambda: read_only(full_of_55())),
    "byte order": (EITHER, lambda: full_of_55(">f4" if sys.byteorder == "little" else "<f4")),
    "unaligned": (ValueError, lambda: unaligned(full_of_55())),
    "rows on each other": (ValueError, lambda: with_strides(4, 4)),
    "one row many times": (ValueError, lambda: with_strides(0, 4)),
}


def over_input(room: Array) -> dict[str, tuple[Array, Array]]:
    """Inputs and buffers that share some memory of `room`, each in a way of its own."""
    wide, flat, size = room.reshape(2 * ROWS, CLASSES), room.reshape(-1), ROWS * CLASSES
    return {
        "one row on": (wide[:ROWS], wide[1 : ROWS + 1]),
        "one row back": (wide[1 : ROWS + 1], wide[:ROWS]),
        "one element on": (flat[:size].reshape(ROWS, CLASSES), flat[1 : size + 1].reshape(ROWS, CLASSES)),
        "reversed rows": (wide[:ROWS], wide[:ROWS][::-1]),
        "reversed classes": (wide[:ROWS], wide[:ROWS, ::-1]),
        "every second row": (wide[:ROWS], wide[::2]),
    }


INPUTS_OF_WRONG_TYPE = (
    "text",
    len,
    np.ones((ROWS, CLASSES), complex),
    np.array([[None] * CLASSES] * ROWS),
    np.zeros((ROWS, CLASSES), "M8[s]"),
    np.zeros((ROWS, CLASSES), np.longdouble),
)
RAGGED = [[1.0, 2.0], [3.0]]

# Targets that are no class indices.
TARGETS = [
    *bad("target", TypeError, np.zeros(ROWS, bool), np.zeros(ROWS, complex)),
    *bad("target", TypeError, np.array([None] * ROWS), np.array(["0"] * ROWS)),
    # Wrong in type and in shape: either error will do.
    *bad("target", EITHER, None, "text", len, np.zeros(ROWS, np.float32)),
    *bad("target", ValueError, np.zeros((ROWS, 1), int), np.zeros(ROWS + 1, int), np.zeros((), int)),
    *bad("target", ValueError, 0, np.zeros((1, ROWS), int), np.zeros((ROWS, CLASSES), int)),
    *bad("target", ValueError, [[0, 1], [2]]),
]

# Values, the type that holds them, and where the first bad one stands.
OUT_OF_RANGE = [
    ([0, 6, 2, 9], "int64", 1, "6"),
    ([0, 1, 2, 6], "uint8", 3, "6"),
    ([-1, 0, 0, 0], "int32", 0, "-1"),
    ([0, 0, -99, -101], "int8", 2, "-99"),
    ([0, 0, -101, 0], "int16", 2, "-101"),
    # 156 is what -100 would be if it wrapped around; neither it nor its wider sisters are ignored.
    ([0, 156, 0, 0], "uint8", 1, "156"),
    ([0, 0, 2**16 - 100, 0], "uint16", 2, str(2**16 - 100)),
    ([0, 0, 0, 2**32 - 100], "uint32", 3, str(2**32 - 100)),
    ([0, 0, 2**64 - 100, 0], "uint64", 2, str(2**64 - 100)),
    ([0, 2**63, 0, 0], "uint64", 1, str(2**63)),
    ([-(2**63), 0, 0, 0], "int64", 0, str(-(2**63))),
    ([0, 2**63 - 1, 0, 0], "int64", 1, str(2**63 - 1)),
    ([0, 0, 0, 2**32 + 1], "int64", 3, str(2**32 + 1)),
]
