"""What a row of the registry is: a function of `fastloss`, how to call it, and how near it has to be.

A `Row` says how to make arguments, which of them have gradients, which options there are, and how far from
the float64 reference a result may be. A `Call` is one call made from a row: it runs the function and its twin
in `fastloss.reference`, and checks what comes back. The rows themselves are in the package `rows`.
"""

import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pytest
from helpers import (
    REDUCTIONS,
    Array,
    Bad,
    Options,
    Shape,
    assert_near,
    bits,
    case,
    dtype_named,
    loss_dtype,
    rounded,
    unit_roundoff,
)
from levels import LEVELS, using

import fastloss
from fastloss import _kernels, reference

# Of difference quotients.
STEP = 2.0**-9

Make = Callable[[np.random.Generator, Shape, Options], dict[str, Array]]


@dataclass(frozen=True)
class Option:
    """Data that goes with the arguments: weights, masks, the index to ignore.

    `make` gets a generator and the arguments, which it may change (to put NaN where nobody may read). Of
    several options of one argument, or in its place, a call has one.
    """

    argument: str
    make: Callable[[np.random.Generator, dict[str, Array]], Any]
    label: str = ""
    instead_of: str = ""

    @property
    def name(self) -> str:
        return self.label or self.argument


def anywhere(call: "Call", name: str) -> Array:
    """The room of an argument that may be anything."""
    return np.ones(np.shape(call.arguments[name]))


@dataclass(frozen=True, eq=False)
class Row:
    """A function, with options that all its calls have."""

    # In `fastloss` and in `fastloss.reference`.
    name: str
    # Arguments (float64, or integers) by name, from a generator, a shape and the options.
    make: Make
    # The arguments that have gradients; more than one come back in a NamedTuple.
    gradients: tuple[str, ...] = ()
    # The last fields of that NamedTuple, the derivatives with respect to options; see test_contrastive.py.
    numbers: tuple[str, ...] = ()
    # How many of the last axes of the first argument are missing from the loss.
    loss_axes: int = 0
    # Options that every call has.
    fixed: Options = field(default_factory=dict)
    # Sets of options to go through, the first being none. A value may be a function of a generator and a
    # shape that makes an array.
    sets: tuple[Options, ...] = ({},)
    # Data to go with the arguments, in any combination; of those with one argument a call has one.
    extras: tuple[Option, ...] = ()
    # Empty where there is no such argument.
    reductions: tuple[str, ...] = tuple(REDUCTIONS)
    # Whether there is return_hessian.
    hessian: bool = False
    # "loss", "array" (a transform: an array like the input, which `out` takes), "number", or "arrays" (a
    # NamedTuple of arrays and numbers).
    returns: str = "loss"
    # How far the result and a derivative may be off, before rounding to a half type.
    bound: Callable[["Call"], Array] = lambda call: np.zeros(())
    derivative_bound: Callable[["Call", str], Array] = lambda call, name: np.zeros(())
    # What "mean" divides by, from a call; None where it is no single number.
    divisor: Callable[["Call"], float] | None = lambda call: float(max(call.expected_losses.size, 1))
    # Of three axes where the function takes them: the ways of the kernels, one each.
    shapes: tuple[Shape, ...] = ((7, 5, 3), (19, 3, 50))
    # Further shapes, up to large ones and down to one element.
    sizes: tuple[Shape, ...] = ((), (1,), (7,), (1000,), (41, 61))
    # Worth several threads.
    large: tuple[Shape, ...] = ((300, 1003),)
    # Without a row.
    empty: tuple[Shape, ...] = ((0,), (0, 3), (3, 0, 2))
    # How far each element of an argument can be moved either way before the loss is another function.
    room: Callable[["Call", str], Array] = anywhere
    # Whether an element of the loss depends on its own part of the arguments alone.
    local: bool = True
    # Arguments that all rows have in common.
    shared: tuple[str, ...] = ()
    # Whether results do not depend on how arrays lie.
    same_bits: bool = True
    # Arguments that are integers or bools.
    integers: tuple[str, ...] = ()
    # Values of its own options and arguments that must be refused.
    bad: tuple[Bad, ...] = ()
    # Values outside of the domain by argument, from the options.
    checked: Callable[[Options], dict[str, tuple[float, ...]]] = lambda options: {}
    # The losses, from torch, tensors by name, options and reduction; None for what torch does not have.
    torch: Callable[..., Any] | None = None
    # What tells rows of one function apart.
    label: str = ""
    # How far, relative and absolute, difference quotients may be off.
    quotients: tuple[float, float] = (1e-7, 5e-9)
    # Changes what a derivative is and should be where no comparison can.
    settle: Callable[["Call", str, Array, Array], None] = lambda call, name, actual, expected: None
    # What the bounds of the family need.
    info: Any = None

    def __str__(self) -> str:
        fixed = (name if value is True else str(value) for name, value in self.fixed.items())
        return "-".join([self.name, *([self.label] if self.label else []), *fixed])

    def with_(self, **options: Any) -> "Row":
        """The same with further fixed options."""
        return replace(self, fixed={**self.fixed, **options})

    @cached_property
    def parameters(self) -> dict[str, inspect.Parameter]:
        return dict(inspect.signature(getattr(fastloss, self.name)).parameters)

    @cached_property
    def arrays(self) -> tuple[str, ...]:
        """The names of the arguments, the first of which decides type and shape."""
        return tuple(self.make(np.random.default_rng(0), self.shapes[0], {}))

    @property
    def first(self) -> str:
        return self.arrays[0]

    @property
    def floats(self) -> tuple[str, ...]:
        return tuple(name for name in self.arrays if name not in self.integers)

    @property
    def derivatives(self) -> tuple[str, ...]:
        return (*self.gradients, "hessian") if self.hessian else self.gradients

    def loss_shape(self, shape: Shape) -> Shape:
        return shape[: len(shape) - self.loss_axes]

    def companies(self) -> list[tuple[str, ...]]:
        """Every combination of the extras."""
        choices: dict[str, list[tuple[str, ...]]] = {}
        for option in self.extras:
            choices.setdefault(option.instead_of or option.argument, [()]).append((option.name,))
        return [tuple(itertools.chain(*chosen)) for chosen in itertools.product(*choices.values())]

    def company(self) -> tuple[str, ...]:
        """The first of each extra at once."""
        return tuple(
            {option.instead_of or option.argument: option.name for option in reversed(self.extras)}.values()
        )


def over(rows: Sequence[Row]) -> pytest.MarkDecorator:
    """Go through rows, in a test each."""
    return pytest.mark.parametrize("row", rows, ids=str)


def every_one_with_every_other(**values: Any) -> tuple[Options, ...]:
    """All sets of some options, one value each: none of them first, all of them last."""
    chosen = itertools.product((False, True), repeat=len(values))
    return tuple({k: v for (k, v), take in zip(values.items(), some, strict=True) if take} for some in chosen)


@dataclass(frozen=True, eq=False)
class Call:
    """One call: its arguments (which nobody can write to), options, and what it should answer."""

    row: Row
    dtype: str
    reduction: str
    arguments: dict[str, Any]
    options: Options = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        """An argument, or an option."""
        return self.arguments[name] if name in self.arguments else self.options[name]

    def get(self, name: str, default: Any) -> Any:
        """An option, of the call or of the row."""
        return self.options.get(name, self.row.fixed.get(name, default))

    def with_(self, **given: Any) -> "Call":
        """The same call with other arguments, options, reduction or dtype (an option of None is left out)."""
        more = {name: given.pop(name) for name in ("reduction", "dtype") if name in given}
        arguments = {name: given.pop(name, array) for name, array in self.arguments.items()}
        options = {k: v for k, v in {**self.options, **given}.items() if v is not None}
        return replace(self, arguments=arguments, options=options, **more)

    def plain(self, reduction: str | None = None) -> "Call":
        """The same arguments without options."""
        return replace(self, options={}, reduction=reduction or self.reduction)

    def moved(self, change: Callable[[Any], Any]) -> "Call":
        """The same call with every array changed in the way it lies in memory."""
        arguments, options = (
            {k: change(v) if isinstance(v, np.ndarray) else v for k, v in some.items()}
            for some in (self.arguments, self.options)
        )
        return replace(self, arguments=arguments, options=options)

    @property
    def first(self) -> Any:
        return self.arguments[self.row.first]

    @property
    def shape(self) -> Shape:
        return np.shape(self.first)

    @property
    def loss_shape(self) -> Shape:
        return self.row.loss_shape(self.shape)

    @property
    def own_arrays(self) -> list[Array]:
        return [a for a in (*self.arguments.values(), *self.options.values()) if isinstance(a, np.ndarray)]

    # Running

    def _call(self, module: Any, given: Options) -> Any:
        if self.row.reductions:
            given.setdefault("reduction", self.reduction)
        arrays = {name: given.pop(name, array) for name, array in self.arguments.items()}
        named = {
            k: a for k, a in arrays.items() if self.row.parameters[k].kind == inspect.Parameter.KEYWORD_ONLY
        }
        positional = [array for name, array in arrays.items() if name not in named]
        named = {name: array for name, array in named.items() if array is not None}
        return getattr(module, self.row.name)(*positional, **named, **given)

    def value(self, *, module: Any = fastloss, **more: Any) -> Any:
        """Run a call without gradient."""
        given = {**self.row.fixed, **self.options, **more}
        for name in ("grad_output", "teacher_grad"):
            if name not in more:
                given.pop(name, None)
        return self._call(module, given)

    def run(self, *, module: Any = fastloss, **more: Any) -> tuple[Any, tuple[Any, ...]]:
        """Run a call with all derivatives: the loss, and a tuple of these."""
        given = {**self.row.fixed, **self.options, **more}
        if self.row.returns == "array":
            return None, (self._call(module, given),)
        if not self.row.gradients:
            return self._call(module, given), ()
        given.setdefault("return_grad", True)
        if self.row.hessian:
            given.setdefault("return_hessian", True)
        loss, first, *hessian = self._call(module, given)
        if len(self.row.gradients) == 1:
            return loss, (first, *hessian)
        assert first._fields == (*self.row.gradients, *self.row.numbers), self.title
        return loss, (*first[: len(self.row.gradients)], *hessian)

    def out(self, *buffers: Any) -> Any:
        """`out` for buffers, one for each gradient that is an array."""
        return (*buffers, *[None] * len(self.row.numbers)) if len(self.row.gradients) > 1 else buffers[0]

    def buffers(self, fill: float = 55.0) -> tuple[Array, ...]:
        """A buffer for each gradient."""
        kind = dtype_named(self.dtype)
        return tuple(np.full(np.shape(self[name]), fill).astype(kind) for name in self.row.gradients)

    # What it should answer

    @cached_property
    def expected(self) -> tuple[Any, tuple[Any, ...]]:
        with np.errstate(all="ignore"):
            return self.run(module=reference)

    @cached_property
    def expected_losses(self) -> Array:
        """Unreduced losses of the reference."""
        with np.errstate(all="ignore"):
            return np.asarray(
                self.value(module=reference, **({"reduction": "none"} if self.row.reductions else {}))
            )

    @cached_property
    def counts(self) -> Array:
        """Which elements under the mask, tokens within the lengths, rows that are not ignored."""
        if "lengths" in self.options:
            most = np.shape(self["target"])[-1]
            return np.arange(most) < np.asarray(self["lengths"])[..., np.newaxis]
        if "ignore_index" in self.options:
            return np.asarray(self["target"] != self["ignore_index"])
        if self.get("mask", None) is not None:
            return np.asarray(self["mask"]).astype(bool)
        target = self.arguments.get("target")
        if (
            target is not None
            and "ignore_index" in self.row.parameters
            and np.asarray(target).dtype.kind in "iu"
        ):
            return np.asarray(target) != -100
        return np.ones(self.loss_shape, bool)

    @cached_property
    def denominator(self) -> float:
        """What the mean divides by; 1 for the other reductions."""
        assert self.row.divisor is not None
        return self.row.divisor(self) if self.reduction in ("mean", "batchmean") else 1.0

    @cached_property
    def upstream(self) -> Array:
        """The size of the upstream gradient, 0 where nothing counts."""
        size = np.abs(np.asarray(self.options.get("grad_output", 1.0), np.float64))
        return np.where(np.isnan(size), 0.0, size)

    # How near it has to be: computed once, for all instruction sets.

    @cached_property
    def bound(self) -> Array:
        return self.row.bound(self)

    @cached_property
    def _derivative_bounds(self) -> dict[str, Array]:
        return {}

    def derivative_bound(self, name: str) -> Array:
        if name not in self._derivative_bounds:
            self._derivative_bounds[name] = self.row.derivative_bound(self, name)
        return self._derivative_bounds[name]

    @property
    def has_equal_classes(self) -> bool:
        """Whether the classes of a linear loss are one: the rounding of the product says which is first."""
        weight = self.arguments.get("linear_weight")
        return weight is not None and bool((weight == weight[:1]).all())

    # Checking

    def check_loss(self, loss: Any) -> None:
        """Assert that a loss is of the right type and near enough."""
        if self.row.returns == "array":
            assert loss is None
            return
        if self.row.returns == "arrays":
            for mine, exact, bound in zip(loss, self.expected[0], self.bound, strict=True):
                assert type(mine) is type(exact), self.title
                if exact is None:
                    continue
                if isinstance(exact, np.ndarray) and exact.dtype == np.bool_:
                    assert mine.dtype == np.bool_, self.title
                    assert self.has_equal_classes or np.array_equal(mine, exact), self.title
                    continue
                kind = "float64" if isinstance(exact, float) else loss_dtype(self.dtype)
                assert kind == "float64" or mine.dtype == kind, self.title
                assert_near(mine, exact, bound, kind, self.title)
            return
        kind = loss_dtype(self.dtype) if np.ndim(loss) or isinstance(loss, np.ndarray) else "float64"
        if self.reduction == "none" and self.row.returns == "loss":
            assert isinstance(loss, np.ndarray), self.title
            assert loss.dtype == loss_dtype(self.dtype), self.title
            assert loss.shape == self.loss_shape, self.title
        else:
            assert type(loss) is float, self.title
        assert_near(loss, self.expected[0], self.bound, kind, self.title + " loss")

    def check_derivative(self, name: str, actual: Any) -> None:
        """Assert that a derivative is of the right type and near enough, and 0 where nothing counts."""
        expected, title = self.expected[1][self.row.derivatives.index(name)], f"{self.title} {name}"
        if expected is None:
            assert actual is None, title
            return
        assert isinstance(actual, np.ndarray), title
        assert actual.dtype == dtype_named(self.dtype), title
        found, wanted = actual.astype(np.float64), np.array(expected, np.float64)
        assert found.shape == wanted.shape, title
        self.row.settle(self, name, found, wanted)
        assert_near(found, wanted, self.derivative_bound(name), self.dtype, title)
        if name not in self.row.shared:
            assert not found[self.unread(found.shape)].any(), f"{title} where nothing counts"

    def unread(self, shape: Shape) -> Array:
        """Which elements of an array, with rows in front, do not count."""
        if self.counts.ndim > len(shape) or self.counts.shape != shape[: self.counts.ndim]:
            return np.zeros(shape, bool)
        return ~self.counts

    def check_derivatives(self, derivatives: tuple[Any, ...]) -> None:
        for name, array in zip(self.row.derivatives, derivatives, strict=True):
            self.check_derivative(name, array)

    def check_result(self, result: tuple[Any, tuple[Any, ...]]) -> None:
        self.check_loss(result[0])
        self.check_derivatives(result[1])

    def check(self, **more: Any) -> tuple[Any, tuple[Any, ...]]:
        """Check a call with derivatives, and that one without has the same bits."""
        result = self.run(**more)
        self.check_result(result)
        if self.row.gradients and self.row.returns != "array":
            value = self.value(**more)
            if self.row.same_bits:
                assert bits(value) == bits(result[0]), self.title
            if not (self.row.same_bits and are_alike(value, result[0])):
                self.check_loss(value)
            if self.row.hessian:
                without = self.run(return_hessian=False, **more)
                assert bits(without) == bits(result[0], result[1][:-1]), self.title
        return result

    def check_on_every_isa(self) -> None:
        """Check a call with the kernels of each instruction set; the reference runs once."""
        for level in LEVELS:
            with using(level), case(_kernels.LEVELS[level]):
                self.check()

    def check_added(self, name: str, after: Array, before: Array) -> None:
        """Assert that a gradient was added to what was there, where anything counts.

        The sum is rounded once more, in the type computed in.
        """
        start, exact = before.astype(np.float64), self.expected[1][self.row.derivatives.index(name)]
        total = start + exact
        bound = self.derivative_bound(name) + 2.0 * unit_roundoff(self.dtype) * np.abs(total)
        bound = np.where(np.isfinite(bound), bound, 0.0)
        assert_near(after, total, bound, self.dtype, f"{self.title} {name} accumulated")
        unread = self.unread(start.shape)
        if name not in self.row.shared:
            assert bits(after[unread]) == bits(before[unread]), f"{self.title} {name} where nothing counts"

    def bits(self, **more: Any) -> list[bytes]:
        return bits(self.run(**more))

    def assert_same(self, result: Any, expected: tuple[Any, tuple[Any, ...]]) -> None:
        """Assert that a result is the same to the bit, a sum but for the order of its terms."""
        if not self.row.same_bits:
            self.check_result(result)
            return
        assert bits(result[1]) == bits(expected[1]), self.title
        assert bits(result[0]) == bits(expected[0]) or (
            type(result[0]) is float and abs(result[0] - expected[0]) <= 1e-15 * self._size_of_terms()
        ), self.title

    def _size_of_terms(self) -> float:
        """The sum of the sizes of the terms of a reduced loss, which may cancel."""
        return float(np.abs(self.expected_losses).sum() / (self.denominator or 1.0))

    @cached_property
    def title(self) -> str:
        given = {k: v if np.ndim(v) == 0 else f"array{np.shape(v)}" for k, v in self.options.items()}
        return f"{self.row} {self.dtype} {self.shape} {self.reduction} {given}:"


def are_alike(value: Any, other: Any) -> bool:
    """Whether two losses are of one kind: then one with the bits of the other is as near."""
    if type(value) is not type(other):
        return False
    is_array = isinstance(value, np.ndarray)
    return type(value) is float or (is_array and (value.dtype, value.shape) == (other.dtype, other.shape))


@lru_cache(maxsize=2048)
def call(
    row: Row,
    shape: Shape,
    dtype: str = "float32",
    reduction: str = "mean",
    options: int = 0,
    company: tuple[str, ...] = (),
    grad_output: str | None = None,
    seed: int = 0,
) -> Call:
    """Make a call of a row; the same arguments give the same object, so its answer is kept.

    All arguments hold numbers of the type, so that nobody's conversion is part of the comparison.
    """
    rng = np.random.default_rng(seed)
    given = dict(row.sets[options])
    arguments = {
        name: np.array(rounded(array, dtype)) if name in row.arrays else array
        for name, array in row.make(rng, shape, {**row.fixed, **given}).items()
    }
    given = {k: rounded(v(rng, shape), dtype) if callable(v) else v for k, v in given.items()}
    by_name = {option.name: option for option in row.extras}
    for name in company:
        given[by_name[name].argument] = by_name[name].make(rng, arguments)
    made = Call(row, dtype, reduction, arguments, given)
    if grad_output == "scalar":
        given["grad_output"] = -2.5
    elif grad_output == "array":
        size = row.loss_shape(shape)
        upstream = rng.uniform(0.5, 2.0, size) * rng.choice([-1.0, 1.0], size)
        if made.counts.shape == size:  # nobody reads the others
            upstream = np.where(made.counts, upstream, np.nan)
        given["grad_output"] = rounded(upstream, dtype)
    for array in made.own_arrays:
        array.flags.writeable = False
    return Call(row, dtype, reduction, arguments, given)


def with_all(row: Row, shape: Shape, dtype: str = "float32", reduction: str = "none", seed: int = 0) -> Call:
    """A call with the last set of options, all extras and upstream gradients."""
    kind = ("array" if reduction == "none" else "scalar") if row.gradients and row.returns == "loss" else None
    return call(row, shape, dtype, reduction, len(row.sets) - 1, row.company(), kind, seed)


def plain_and_all(row: Row, shape: Shape, dtype: str = "float32", seed: int = 0) -> Iterator[Call]:
    """A plain call, which has a path of its own, and one with all options."""
    reduction = "mean" if "mean" in row.reductions else "none"
    yield call(row, shape, dtype, reduction, seed=seed)
    if row.reductions:
        yield with_all(row, shape, dtype, seed=seed)


def of_values(
    row: Row, *arrays: Any, dtype: str = "float64", reduction: str = "none", **options: Any
) -> Call:
    """A call with these values."""
    arguments = dict(zip(row.arrays, (rounded(a, dtype) for a in arrays), strict=True))
    return Call(row, dtype, reduction, arguments, options)


def upstreams(row: Row, reduction: str) -> tuple[str | None, ...]:
    """Kinds of upstream gradient that are legal."""
    if not row.gradients or row.returns != "loss":
        return (None,)
    return (None, "scalar", "array") if reduction == "none" else (None, "scalar")
