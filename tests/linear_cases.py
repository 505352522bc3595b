"""Calls of the losses of a linear layer, and how near their float64 reference they have to be.

The options are those of cross_entropy, made by the table of cases.py. A `Linear` is one call: arguments that
nobody can write to, options, the answer of `fastloss.reference`, and the bounds of the README.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from cases import (
    CASES,
    FORMATS,
    Array,
    Option,
    Shape,
    assert_within,
    dtype_named,
    is_half,
    loss_dtype,
    ulp,
)

import fastloss
from fastloss import reference

LOSS, LOG_PROBS = "linear_cross_entropy", "linear_token_log_probs"
# A function and a kind of target.
KINDS = [(LOSS, "indices"), (LOSS, "probabilities"), (LOG_PROBS, "indices")]
KIND_IDS = ["indices", "probabilities", "log_probs"]
FIELDS = ("input", "linear_weight", "linear_bias")

# Relative to the largest entry of a gradient (or term of it: a sum of two rows may be a small difference),
# and to a loss (or to 1, where it is less).
GRADIENT = {"float64": 1e-12, "float32": 2e-6}
VALUE = {"float64": 1e-12, "float32": 2e-6}

SOFTMAX = CASES[0]


@dataclass(frozen=True, eq=False)
class Linear:
    """One call: its arguments, and what it should answer."""

    name: str
    dtype: str
    reduction: str
    input: Any
    linear_weight: Any
    target: Any
    linear_bias: Any
    options: dict[str, Any]

    def arguments(self, more: dict[str, Any]) -> tuple[tuple[Any, Any, Any], dict[str, Any]]:
        given = {"reduction": self.reduction, **self.options, **more}
        if self.linear_bias is not None:
            given.setdefault("linear_bias", self.linear_bias)
        return (self.input, self.linear_weight, self.target), given

    def loss(self, **more: Any) -> Any:
        """Run a call without gradients."""
        arrays, given = self.arguments(more)
        given.pop("grad_output", None)
        return getattr(fastloss, self.name)(*arrays, **given)

    def run(self, **more: Any) -> tuple[Any, Any]:
        """Run a call with gradients."""
        arrays, given = self.arguments({"return_grad": True, **more})
        loss, gradients = getattr(fastloss, self.name)(*arrays, **given)
        return loss, gradients

    @cached_property
    def expected(self) -> tuple[Any, reference.LinearGradients]:
        arrays, given = self.arguments({"return_grad": True})
        loss, gradients = getattr(reference, self.name)(*arrays, **given)
        return loss, gradients

    def with_(self, **fields: Any) -> "Linear":
        """The same call with other arguments (of `options`, all are replaced)."""
        return replace(self, **fields)

    @property
    def title(self) -> str:
        given = {k: v if np.ndim(v) == 0 else "array" for k, v in self.options.items()}
        shape = (*np.shape(self.input), "V", np.shape(self.linear_weight)[0])
        bias = "" if self.linear_bias is None else " bias"
        return f"{self.name} {self.dtype} {shape}{bias} {self.reduction} {given}:"

    def check_loss(self, loss: Any) -> None:
        """Assert that a loss is of the right type and near enough."""
        expected = self.expected[0]
        if self.reduction == "none":
            assert isinstance(loss, np.ndarray), self.title
            assert loss.dtype == loss_dtype(self.dtype), self.title
        else:
            assert type(loss) is float, self.title
        bound = VALUE[loss_dtype(self.dtype)] * np.maximum(np.abs(expected), 1.0)
        assert_within(loss, expected, bound, self.title + " loss")

    @cached_property
    def largest_terms(self) -> tuple[float, float, float]:
        """The largest product that is a term of each gradient: it may be larger than the sum of a few."""
        x, w = np.asarray(self.input, np.float64), np.asarray(self.linear_weight, np.float64)
        if x.size > 100 * x.shape[-1]:  # not of many
            return 0.0, 0.0, 0.0
        counted = np.ones(x.shape[:-1], bool)
        if np.asarray(self.target).dtype.kind in "iu":
            counted = np.asarray(self.target) != self.options.get("ignore_index", -100)
        x = np.where(counted[..., np.newaxis], x, 0.0)
        logits = x @ w.T + (0.0 if self.linear_bias is None else np.asarray(self.linear_bias, np.float64))
        given: dict[str, Any] = {"reduction": self.reduction, "return_grad": True, **self.options}
        result: Any = reference.cross_entropy(logits, self.target, **given)
        g = np.abs(np.nan_to_num(result[1], posinf=0.0)).reshape(-1, len(w))
        rows = np.abs(np.nan_to_num(x, posinf=0.0)).reshape(-1, w.shape[1])
        of_input = g.max(axis=0, initial=0.0) * np.abs(w).max(axis=1)
        of_weight = g.max(axis=1) * rows.max(axis=1)
        return of_input.max(), of_weight.max(initial=0.0), g.max(initial=0.0)

    def tolerance(self, field: str, exact: Array, stored: Array) -> Array:
        """How far a gradient may be off where `stored` is what is written; a half type adds one rounding."""
        computed = loss_dtype(self.dtype)
        largest = np.abs(exact[np.isfinite(exact)]).max(initial=self.largest_terms[FIELDS.index(field)])
        bound = np.full(exact.shape, GRADIENT[computed] * largest + 2.0 ** FORMATS[computed][2])
        return bound + 0.5 * ulp(np.abs(stored) + bound, self.dtype) if is_half(self.dtype) else bound

    def check_gradients(self, gradients: Any, wanted: tuple[bool, ...] = (True, True, True)) -> None:
        """Assert that each gradient is of the right type and near enough, and 0 for ignored rows."""
        assert gradients._fields == FIELDS, self.title
        for name, grad, exact, want in zip(FIELDS, gradients, self.expected[1], wanted, strict=True):
            if exact is None or not want:
                assert grad is None, f"{self.title} {name}"
                continue
            assert isinstance(grad, np.ndarray), f"{self.title} {name}"
            assert grad.dtype == dtype_named(self.dtype), f"{self.title} {name}"
            assert_within(grad, exact, self.tolerance(name, exact, exact), f"{self.title} {name}")
        if gradients.input is not None and "ignore_index" in self.options:
            ignored = gradients.input[self.target == self.options["ignore_index"]]
            assert not np.asarray(ignored, np.float64).any(), self.title

    def check(self, **more: Any) -> None:
        """Check a call with gradients and one without."""
        loss, gradients = self.run(**more)
        self.check_loss(loss)
        self.check_gradients(gradients)
        self.check_loss(self.loss(**more))


def legal_options(name: str, target: str, reduction: str) -> list[Option]:
    """The options of cross_entropy that the function has."""
    log_probs = ("ignore_index", "grad_output", "softcap", "temperature")
    options = SOFTMAX.legal_options(target, reduction)
    return [o for o in options if name == LOSS or o.name in log_probs]


def all_options(name: str, target: str, reduction: str) -> tuple[str, ...]:
    """One of every argument at once."""
    return tuple({o.name: o.label for o in legal_options(name, target, reduction)}.values())


def set_up(rng: np.random.Generator, rows: Shape, width: int, vocabulary: int, kind: str) -> list[Array]:
    """Inputs of different sizes, weights that make logits between -10 and 10 of them, biases and targets."""
    x = rng.standard_normal((*rows, width)) * rng.choice([0.25, 1.0, 2.0], (*rows, 1))
    w = rng.standard_normal((vocabulary, width)) / np.sqrt(width)
    bias = 0.5 * rng.standard_normal(vocabulary)
    if kind == "indices":
        return [x, w, bias, rng.integers(0, vocabulary, rows)]
    q = rng.exponential(size=(*rows, vocabulary)) ** 2
    q[q < 0.02] = 0.0
    q[..., 0] += 0.01
    return [x, w, bias, q / q.sum(axis=-1, keepdims=True)]


@lru_cache(maxsize=4096)
def linear(
    kind: tuple[str, str] = KINDS[0],
    rows: Shape = (7,),
    width: int = 3,
    vocabulary: int = 10,
    dtype: str = "float32",
    reduction: str = "mean",
    options: tuple[str, ...] = (),
    bias: bool = True,
    seed: int = 0,
) -> Linear:
    """Make a call; the same arguments give the same object, so its answer is kept."""
    name, target_kind = kind
    rng = np.random.default_rng(seed)
    wide = set_up(rng, rows, width, vocabulary, target_kind)
    x, w, b, target = (a if a.dtype.kind == "i" else a.astype(dtype_named(dtype)) for a in wide)
    by_label = {o.label: o for o in legal_options(name, target_kind, reduction)}
    # The options of the table are made for logits, of which they look at the shape alone.
    logits = np.zeros((*rows, vocabulary))
    given = {by_label[o].name: by_label[o].make(rng, logits, target) for o in options}
    assert len(given) == len(options)
    if "ignore_index" in given:
        # Nobody may look at these.
        x[target == given["ignore_index"]] = dtype_named(dtype).type(rng.choice([np.nan, np.inf]))
    for array in (x, w, b, target, *given.values()):
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    return Linear(name, dtype, reduction, x, w, target, b if bias else None, given)


def empty_buffers(p: Linear, fill: float = 55.0) -> tuple[Array, ...]:
    """Buffers for the three gradients."""
    arrays = (p.input, p.linear_weight, p.linear_bias)
    return tuple(np.full(np.shape(a), fill, dtype_named(p.dtype)) for a in arrays)


def central_difference(
    p: Linear, field: str, index: tuple[int, ...], step: float, value: Callable[[Linear], float]
) -> float:
    """The derivative of what `value` makes of a call with respect to one element of an argument."""
    values = []
    for steps in (-2, -1, 1, 2):
        array = getattr(p, field).copy()
        array[index] += steps * step
        values.append(value(p.with_(**{field: array})))
    return (values[0] - 8.0 * values[1] + 8.0 * values[2] - values[3]) / (12.0 * step)
