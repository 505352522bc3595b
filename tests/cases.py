"""The table: one row for each loss, and how near its float64 reference it has to be.

A row says how to make inputs, which options there are and which go together, and the bounds. The
tests go through the table, so a new loss is tested by adding its row here. A `Problem` is one call
made from a row: arguments, options, and the answer of `fastloss.reference` to compare with.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

import fastloss
from fastloss import reference

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

DTYPES = ["float32", "float64", "float16"] + (["bfloat16"] if find_spec("ml_dtypes") else [])
REDUCTIONS = ["mean", "sum", "none"]

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


# The rows of the table


@dataclass(frozen=True)
class Option:
    """One value of one argument, and where it is legal.

    `make` gets the input and the target, and may change both (to ignore rows, say). Labels differ;
    of several options of one argument a call has at most one.
    """

    label: str
    make: Callable[[np.random.Generator, Array, Array], Any]
    argument: str = ""
    targets: tuple[str, ...] = ("indices", "probabilities")
    reductions: tuple[str, ...] = ("mean", "sum", "none")

    @property
    def name(self) -> str:
        return self.argument or self.label


@dataclass(frozen=True)
class Bounds:
    """How far from the float64 reference: what the README promises.

    A loss may be `loss_ulps` units in the last place of float32 off, or `loss_absolute` where it is
    near 0; a gradient `grad` of the largest of its row. `exact` is for float64, in both places.
    """

    loss_ulps: float = 2.0
    loss_absolute: float = 1e-6
    grad: float = 4e-7
    exact: float = 1e-14


@dataclass(frozen=True)
class Case:
    """A loss.

    Attributes
    ----------
    name : str
        In `fastloss` and in `fastloss.reference`.
    input_name : str
        Of the first argument, as errors call it.
    targets : tuple of str
        Kinds of target: "indices", "probabilities", or "values" for elementwise losses.
    make : callable
        Input (float64) and target from a generator, a shape and a kind of target.
    divisor : callable
        What "mean" divides by, from a problem.
    small_difference : callable
        For each row, the size of the terms whose difference its gradient may be (0 where it never
        is one): see `Problem.gradient_scale`.
    by_rows : bool
        Whether the last axis of the input (the classes) is missing from the loss.
    """

    name: str
    input_name: str
    targets: tuple[str, ...]
    make: Callable[[np.random.Generator, Shape, str], tuple[Array, Array]]
    divisor: Callable[["Problem"], float]
    small_difference: Callable[["Problem"], Array]
    options: tuple[Option, ...]
    bounds: Bounds = field(default_factory=Bounds)
    by_rows: bool = True

    def legal_options(self, target: str, reduction: str) -> list[Option]:
        return [o for o in self.options if target in o.targets and reduction in o.reductions]

    def combinations(self, target: str, reduction: str) -> Iterator[tuple[str, ...]]:
        """Every option with every other: all sets of labels that make a legal call."""
        choices: dict[str, list[tuple[str, ...]]] = {}
        for option in self.legal_options(target, reduction):
            choices.setdefault(option.name, [()]).append((option.label,))
        for chosen in itertools.product(*choices.values()):
            yield tuple(itertools.chain(*chosen))

    def all_options(self, target: str, reduction: str) -> tuple[str, ...]:
        """One option of every argument at once."""
        return max(self.combinations(target, reduction), key=len)


@dataclass(frozen=True, eq=False)
class Problem:
    """One call: its arguments (which nobody can write to), and what it should answer."""

    case: Case
    dtype: str
    reduction: str
    input: Array
    target: Array
    options: dict[str, Any]

    @property
    def function(self) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(fastloss, self.case.name)
        return function

    @property
    def forward_options(self) -> dict[str, Any]:
        """The options of a call without gradient."""
        given = {name: value for name, value in self.options.items() if name != "grad_output"}
        return {"reduction": self.reduction, **given}

    def loss(self, **more: Any) -> Any:
        """Run a call without gradient."""
        return self.function(self.input, self.target, **self.forward_options, **more)

    def loss_and_gradient(self, **more: Any) -> Any:
        """Run a call with gradient."""
        given = {"reduction": self.reduction, "return_grad": True, **self.options, **more}
        return self.function(given.pop("input", self.input), self.target, **given)

    @cached_property
    def expected(self) -> tuple[Any, Array]:
        """Loss and gradient of the reference."""
        function = getattr(reference, self.case.name)
        loss, grad = function(
            self.input, self.target, reduction=self.reduction, return_grad=True, **self.options
        )
        return loss, grad

    @cached_property
    def expected_rows(self) -> Array:
        """Unreduced losses of the reference."""
        function = getattr(reference, self.case.name)
        options = self.forward_options | {"reduction": "none"}
        return np.asarray(function(self.input, self.target, **options))

    @cached_property
    def loss_tolerance(self) -> Array:
        """How far the loss may be off. Row errors add up, and nothing is lost in adding rows."""
        bounds, size = self.case.bounds, np.abs(self.expected_rows)
        if self.dtype == "float64":
            rows = bounds.exact * np.maximum(size, 1.0)
        else:
            rows = np.maximum(bounds.loss_ulps * ulp(size, "float32"), bounds.loss_absolute)
        if self.reduction == "none":
            return np.asarray(rows)
        return np.asarray(rows.sum() / (self.case.divisor(self) if self.reduction == "mean" else 1))

    @cached_property
    def gradient_scale(self) -> Array:
        """What the error of a gradient is relative to: the largest of its row.

        Where a gradient is the difference of two numbers that both carry a rounding error of their
        own (p - q for probabilities or smoothing: neither is small near the optimum, where the
        difference is), no way of computing it can do better than the size of these. A class index
        without smoothing is not such a case: there it is p and minus the sum of the other p.
        """
        size = np.abs(self.expected[1])
        if not self.case.by_rows:
            return size
        largest = size.max(axis=-1, keepdims=True)
        return np.maximum(largest, self.case.small_difference(self)[..., np.newaxis])

    @cached_property
    def gradient_tolerance(self) -> Array:
        return self.tolerance_of(self.expected[1])

    def tolerance_of(self, stored: Array) -> Array:
        """How far a number of the size of `stored`, made of a gradient, may be off.

        Below the smallest normal number there are no relative errors in any type. Half types add
        one rounding: half a unit in the last place.
        """
        bounds = self.case.bounds
        if self.dtype == "float64":
            return bounds.exact * self.gradient_scale + 2.0 ** FORMATS["float64"][2]
        tolerance = bounds.grad * self.gradient_scale + 2.0 ** FORMATS["float32"][2]
        if is_half(self.dtype):
            tolerance = tolerance + 0.5 * ulp(np.abs(stored) + tolerance, self.dtype)
        return tolerance

    def check_loss(self, loss: Any) -> None:
        """Assert that a loss is of the right type and near enough."""
        if self.reduction == "none":
            assert isinstance(loss, np.ndarray)
            assert loss.dtype == loss_dtype(self.dtype)
            assert loss.shape == self.expected_rows.shape
        else:
            assert type(loss) is float
        assert_within(loss, self.expected[0], self.loss_tolerance, self.title + " loss")

    def check_gradient(self, grad: Any) -> None:
        """Assert that a gradient is of the right type and near enough, and 0 where it must be."""
        assert isinstance(grad, np.ndarray)
        assert grad.dtype == dtype_named(self.dtype)
        expected, title = self.expected[1], self.title + " gradient"
        assert_within(grad, expected, self.gradient_tolerance, title)
        if "ignore_index" in self.options:
            rows = np.asarray(grad[self.target == self.options["ignore_index"]], dtype=np.float64)
            assert rows.size > 0
            assert not rows.any(), title

    @property
    def title(self) -> str:
        given = {k: v if np.ndim(v) == 0 else "array" for k, v in self.options.items()}
        return f"{self.case.name} {self.dtype} {self.input.shape} {self.reduction} {given}:"


def assert_within(value: Any, expected: Any, tolerance: Any, title: str) -> None:
    """Assert that |value - expected| <= tolerance everywhere (NaN only where it is expected)."""
    actual = np.asarray(value, dtype=np.float64)
    assert actual.shape == np.shape(expected), f"{title} {actual.shape}, not {np.shape(expected)}"
    with np.errstate(invalid="ignore"):
        good = np.abs(actual - expected) <= tolerance
    # Infinities of one sign are equal, though their difference is not a number.
    good |= (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    if good.all():
        return
    where = np.unravel_index(int(np.argmin(good)), good.shape)
    bad, of = int((~good).sum()), good.size
    raise AssertionError(
        f"{title} {bad} of {of} out of bounds, first at {tuple(map(int, where))}: "
        f"{actual[where]!r}, expected {np.asarray(expected)[where]!r} "
        f"within {np.broadcast_to(tolerance, good.shape)[where]:.3g}"
    )


@lru_cache(maxsize=4096)
def problem(
    case: Case,
    target: str,
    shape: Shape,
    dtype: str = "float32",
    reduction: str = "mean",
    options: tuple[str, ...] = (),
    seed: int = 0,
) -> Problem:
    """Make a call of a loss; the same arguments give the same object, so its answer is kept."""
    rng = np.random.default_rng(seed)
    wide, targets = case.make(rng, shape, target)
    x = wide.astype(dtype_named(dtype))
    if targets.dtype.kind == "f":
        targets = targets.astype(x.dtype)
    by_label = {option.label: option for option in case.legal_options(target, reduction)}
    # Real spread: neither a constant input nor a single target says anything.
    if len(x) > 1:
        assert np.ptp(x.astype(np.float64)) > 1.0
    if len(x) > 1 and shape[-1] > 1:
        assert np.unique(targets.astype(np.float64)).size > 1
    given = {by_label[o].name: by_label[o].make(rng, x, targets) for o in options}
    assert len(given) == len(options)
    for array in (x, targets, *given.values()):
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    return Problem(case, dtype, reduction, x, targets, given)


# Inputs of the softmax losses


def logits_and_target(rng: np.random.Generator, shape: Shape, kind: str) -> tuple[Array, Array]:
    """Rows of four kinds in turn.

    Two are narrow, with any class as the target; one is wide, so that most of its probabilities are
    nearly 0; one is shifted by 1e4. Where the target is an index, the last two are rows that the
    model gets wrong, so that losses reach far and gradients do not vanish. (Rows that it gets right
    beyond doubt have tests of their own, in test_gradients.py.)
    """
    classes = shape[-1]
    x = np.clip(1.2 * rng.standard_normal(shape), -2.5, 2.5).reshape(-1, classes)
    x += rng.uniform(-3.0, 3.0, (len(x), 1))
    x[2::4] *= 6.0
    x[3::4] += 1e4
    if kind == "probabilities":
        # Far from even, with zeros among them, and one row that is certain.
        q = rng.exponential(size=x.shape) ** 2
        q[q < 0.02] = 0.0
        q[:, 0] += 0.01
        q /= q.sum(axis=-1, keepdims=True)
        q[0] = np.arange(classes) == classes - 1
        return x.reshape(shape), q.reshape(shape)
    y = rng.integers(0, classes, len(x))
    y[0], y[1:2] = classes - 1, 0
    y[2::4] = x[2::4].argmin(axis=-1)
    y[3::4] = x[3::4].argmin(axis=-1)
    return x.reshape(shape), y.reshape(shape[:-1])


def log_probs_and_target(rng: np.random.Generator, shape: Shape, kind: str) -> tuple[Array, Array]:
    """Log-probabilities of such logits (a single class, where all are 0, keeps its scores)."""
    x, y = logits_and_target(rng, shape, kind)
    return (x - 10.0 if shape[-1] == 1 else reference.log_softmax(x)), y


# Options


def class_weights(rng: np.random.Generator, x: Array, target: Array) -> Array:
    return rng.uniform(0.2, 3.0, x.shape[-1])


def row_weights(rng: np.random.Generator, x: Array, target: Array) -> Array:
    return rng.uniform(0.1, 2.0, x.shape[:-1])


def row_gradients(rng: np.random.Generator, x: Array, target: Array) -> Array:
    """Of both signs."""
    return rng.uniform(0.5, 2.0, x.shape[:-1]) * rng.choice([-1.0, 1.0], x.shape[:-1])


def ignore_rows(rng: np.random.Generator, x: Array, target: Array) -> int:
    """Ignore every third row, whose values nobody may look at."""
    target.reshape(-1)[1::3] = -7
    x.reshape(-1, x.shape[-1])[1::3] = np.nan
    return -7


def constant(value: float) -> Callable[[np.random.Generator, Array, Array], float]:
    return lambda rng, x, target: value


COMMON_ROW_OPTIONS = (
    Option("ignore_index", ignore_rows, targets=("indices",)),
    Option("weight", class_weights),
    Option("sample_weight", row_weights),
    Option("scalar grad_output", constant(-2.5), "grad_output"),
    Option("array grad_output", row_gradients, "grad_output", reductions=("none",)),
)


# What the mean divides by, and what a gradient can be a small difference of


def _row_options(p: Problem) -> tuple[Array, Array, Array]:
    """Class weights, weights of samples and which rows count, spelt out."""
    rows = p.input.shape[:-1]
    weight = np.asarray(p.options.get("weight", np.ones(p.input.shape[-1])), dtype=np.float64)
    sample = np.broadcast_to(np.float64(p.options.get("sample_weight", 1.0)), rows)
    counted = np.ones(rows, dtype=bool)
    if "ignore_index" in p.options:
        counted = p.target != p.options["ignore_index"]
    return weight, sample, counted


def _is_index(p: Problem) -> bool:
    return p.target.dtype.kind in "iu"


def sum_of_weights(p: Problem) -> float:
    """Over the rows that count, class weight (for class indices) times sample weight."""
    weight, sample, counted = _row_options(p)
    share = weight[np.where(counted, p.target, 0)] if _is_index(p) else np.float64(1.0)
    return float(np.where(counted, share * sample, 0.0).sum())


def largest_target_mass(p: Problem) -> Array:
    """The largest w_c q'_c of each row, as it enters the gradient."""
    weight, sample, counted = _row_options(p)
    smoothing = p.options.get("label_smoothing", 0.0)
    if _is_index(p) and smoothing == 0.0:
        return np.zeros(sample.shape)
    q = np.asarray(p.target, dtype=np.float64)
    if _is_index(p):
        q = (np.arange(weight.size) == p.target[..., np.newaxis]).astype(np.float64)
    mass = (weight * ((1.0 - smoothing) * q + smoothing / weight.size)).max(axis=-1)
    upstream = np.abs(p.options.get("grad_output", 1.0)) / p.options.get("temperature", 1.0)
    divisor = sum_of_weights(p) if p.reduction == "mean" else 1.0
    return np.where(counted, sample * mass * upstream / divisor, 0.0)


def nowhere(p: Problem) -> Array:
    return np.zeros(p.input.shape[:-1] if p.case.by_rows else p.input.shape)


CASES = [
    Case(
        name="cross_entropy",
        input_name="logits",
        targets=("indices", "probabilities"),
        make=logits_and_target,
        divisor=sum_of_weights,
        small_difference=largest_target_mass,
        options=(
            *COMMON_ROW_OPTIONS,
            Option("label_smoothing", constant(0.1)),
            Option("z_loss", constant(0.05)),
            # Both act on the rows made above: the wide ones are well into the bend of the cap.
            Option("softcap", constant(8.0)),
            Option("temperature", constant(1.7)),
        ),
    ),
    Case(
        name="nll_loss",
        input_name="log_probs",
        targets=("indices",),
        make=log_probs_and_target,
        divisor=sum_of_weights,
        small_difference=nowhere,
        options=COMMON_ROW_OPTIONS,
        # A product in float64, rounded once: nothing is lost near 0 either.
        bounds=Bounds(loss_ulps=0.5, loss_absolute=0.0, grad=1.2e-7),
    ),
]

# A loss and a kind of target, for parametrize.
CASES_AND_TARGETS = [(case, target) for case in CASES for target in case.targets]
CASE_IDS = [case.name for case in CASES]
CASE_AND_TARGET_IDS = [f"{case.name}-{target}" for case, target in CASES_AND_TARGETS]


# The transforms: no target, no options, no gradient


@dataclass(frozen=True)
class Transform:
    """A function of the input alone, and its bounds.

    `of_row` is relative to the largest of the row; the others are as for a loss.
    """

    name: str
    keeps_classes: bool = True
    of_row: float = 0.0
    ulps: float = 0.0
    absolute: float = 0.0
    exact: float = 1e-14

    def tolerance(self, expected: Array, dtype: str, axis: int = -1) -> Array:
        size = np.abs(expected)
        half = is_half(dtype) and self.keeps_classes
        if self.of_row:
            size = np.broadcast_to(size.max(axis=axis, keepdims=True), size.shape)
        if dtype == "float64":
            tolerance = self.exact * (size if self.of_row else np.maximum(size, 1.0))
        else:
            tolerance = np.maximum(self.ulps * ulp(size, "float32"), self.absolute)
            tolerance = np.maximum(tolerance, self.of_row * size) + 2.0 ** FORMATS["float32"][2]
        if half:
            tolerance = tolerance + 0.5 * ulp(np.abs(expected) + tolerance, dtype)
        return tolerance

    def check(self, x: Array, result: Any, dtype: str, axis: int = -1) -> None:
        """Assert that a result is of the right type and near enough the reference."""
        expected = getattr(reference, self.name)(x, axis=axis)
        name = dtype if self.keeps_classes else loss_dtype(dtype)
        assert isinstance(result, np.ndarray)
        assert result.dtype == dtype_named(name)
        tolerance = self.tolerance(expected, dtype, axis)
        assert_within(result, expected, tolerance, f"{self.name} {dtype} {x.shape}:")


TRANSFORMS = [
    Transform("softmax", of_row=4e-7),
    Transform("log_softmax", ulps=2.0, absolute=1e-6),
    Transform("logsumexp", keeps_classes=False, ulps=2.0, absolute=1e-6),
]
TRANSFORM_IDS = [transform.name for transform in TRANSFORMS]


@lru_cache(maxsize=4096)
def transform_input(shape: Shape, dtype: str, seed: int = 0) -> Array:
    """Rows like the logits of a loss, which nobody can write to."""
    x, _ = logits_and_target(np.random.default_rng(seed), shape, "indices")
    assert np.ptp(x) > 1.0
    x = x.astype(dtype_named(dtype))
    x.flags.writeable = False
    return x
