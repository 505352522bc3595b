"""The elementwise losses: the mean and its gradient, or the mean alone.

The limit of value and gradient is a subtraction of the two arrays into a third by all threads (two reads
and a write), that of the value alone `numpy.dot` of the two. In float16 the gradient of a mean of many
elements would vanish, so an upstream gradient scales it, as in mixed-precision training.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fastloss import reference

from ..case import (
    COMPILED,
    JAX,
    LIMIT,
    NUMPY,
    OURS,
    SERIAL,
    SKLEARN,
    TORCH,
    Case,
    Suite,
    Target,
    at_least,
    at_most,
)
from ..peers import SKLEARN_LOSSES
from ..problem import Array, Problem, dtype_of

__all__ = ["DTYPES", "SUITE"]

SIZE, SHORT, SMALL = 10_000_000, 1000, 5000
DTYPES = ("float32", "float64", "float16", "bfloat16")
UNCHECKED = "fastloss unchecked"
# The largest error of a peer's gradient, by type: it has no sums, but PyTorch rounds every step.
SLOPE_TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 1e-2, "bfloat16": 3e-2}


class Loss(NamedTuple):
    """A loss and its arguments; with a domain it is also timed without the check of the target."""

    name: str
    function: str
    target: str = "normal"
    has_exponentials: bool = False
    has_domain: bool = False


LOSSES = (
    Loss("mse", "mse_loss"),
    Loss("l1", "l1_loss"),
    Loss("huber", "huber_loss"),
    Loss("smooth-l1", "smooth_l1_loss"),
    Loss("quantile", "quantile_loss"),
    Loss("logits", "binary_cross_entropy_with_logits", "unit", has_exponentials=True, has_domain=True),
    Loss("soft-margin", "soft_margin_loss", "sign", has_exponentials=True),
    Loss("log-cosh", "log_cosh_loss", has_exponentials=True),
    Loss("poisson", "poisson_nll_loss", "counts", has_exponentials=True, has_domain=True),
)
TARGETS: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "unit": lambda rng, n: rng.integers(0, 2, n),
    "sign": lambda rng, n: rng.choice([-1.0, 1.0], n),
    "counts": lambda rng, n: rng.poisson(2.0, n),
}


def contenders_of(loss: Loss, dtype: str) -> tuple[str, ...]:
    """Return the contenders of a loss."""
    unchecked = (UNCHECKED,) if loss.has_domain else ()
    has_sklearn = loss.function in SKLEARN_LOSSES and dtype in ("float32", "float64")
    return (LIMIT, OURS, *unchecked, NUMPY, TORCH, JAX, *((SKLEARN,) if has_sklearn else ()))


def targets_of(loss: Loss, size: int, dtype: str, is_value: bool) -> tuple[Target, ...]:
    """Return the targets of a loss."""
    checks = (at_most(1.1, UNCHECKED),) if loss.has_domain else ()
    has_sklearn = SKLEARN in contenders_of(loss, dtype)
    if size < SERIAL:
        return (*checks, at_most(1.0, SKLEARN)) if has_sklearn else checks
    if is_value:
        return checks if loss.has_exponentials else (at_most(1.15, LIMIT), *checks)
    if loss.has_exponentials:
        return (at_most(1.6, LIMIT), at_least(8, TORCH), *checks)
    peers = (*((SKLEARN,) if has_sklearn else ()), JAX, COMPILED)
    faster = (at_least(1.0, peer) for peer in peers)
    return (at_most(1.15, LIMIT), at_least(3, TORCH), *checks, *faster)


def case_of(
    loss: Loss, size: int = SIZE, dtype: str = "float32", *, is_value: bool, suffix: str = ""
) -> Case:
    """Return the row of a loss at a size, in a type."""
    return Case(
        "elementwise",
        loss.name + ("-value" if is_value else "") + suffix,
        f"{loss.function}, {size:,} {dtype}, {'value' if is_value else 'value and gradient'}",
        loss.function,
        shape=(size,),
        small=(min(size, SMALL),),
        contenders=contenders_of(loss, dtype),
        targets=targets_of(loss, size, dtype, is_value),
        mode="value" if is_value else "gradient",
        limit="dot" if is_value else "subtract",
        dtype=dtype,
        options={"quantile": 0.3} if loss.name == "quantile" else {},
        details={"target": loss.target},
    )


def cases(size: int | None = None, dtype: str = "float32") -> tuple[Case, ...]:
    """Return all rows; without a size, at two sizes."""
    found = [case_of(loss, size or SIZE, dtype, is_value=v) for v in (False, True) for loss in LOSSES]
    if size is None:
        found += [case_of(loss, SHORT, dtype, is_value=False, suffix=f"-{SHORT}") for loss in LOSSES]
    return tuple(found)


class ElementwiseProblem(Problem):
    """The reference has the whole gradient; errors of slopes are relative to the largest slope."""

    largest_axis = None

    def __init__(self, case: Case, is_small: bool = False) -> None:
        super().__init__(case, is_small)
        (size,) = self.shape
        # As in mixed-precision training: if 1 / size is below the normal numbers of float16, the gradient
        # of a mean loses its digits.
        if case.dtype == "float16" and size > 2**14:
            self.upstream = 2.0 ** min(15, size.bit_length() - 1)

    @cached_property
    def arguments(self) -> tuple[Array, ...]:
        rng = np.random.default_rng(0)
        (size,), dtype, kind = self.shape, dtype_of(self.case.dtype), self.case.details["target"]
        x = rng.standard_normal(size).astype(dtype, copy=False)
        target = TARGETS[kind](rng, size).astype(dtype, copy=False)
        if kind == "normal":
            # No ties: at a kink any slope between the two sides is correct.
            target[target == x] += dtype.type(1)
        return x, target

    @cached_property
    def _answer(self) -> tuple[float, Array]:
        function: Any = getattr(reference, self.case.function)
        loss, grad = function(*self.arguments, return_grad=True, **self.case.options)
        return loss, np.multiply(grad, 1.0 if self.upstream is None else self.upstream, out=grad)

    @property
    def expected_loss(self) -> float:
        return self._answer[0]

    @property
    def expected_values(self) -> tuple[Array, ...]:
        return (self._answer[1],)

    def tolerance(self, name: str) -> tuple[float, float]:
        of_loss, of_slopes = super().tolerance(name)
        return of_loss, of_slopes if name.startswith(OURS) else SLOPE_TOLERANCE[self.case.dtype]


SUITE = Suite(
    name="elementwise",
    title="elementwise losses, 10 million elements; --size, --dtype",
    cases=cases(),
    problem=ElementwiseProblem,
    columns={
        LIMIT: LIMIT,
        OURS: OURS,
        NUMPY: "NumPy",
        TORCH: "PyTorch",
        JAX: "JAX",
        SKLEARN: "scikit-learn",
    },
    variant=cases,
    also_checked=tuple(
        case_of(loss, dtype=dtype, is_value=is_value, suffix=f"-{dtype}")
        for dtype in DTYPES[1:]
        for is_value in (False, True)
        for loss in LOSSES
    ),
)
