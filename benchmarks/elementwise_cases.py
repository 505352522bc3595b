"""The rows of the elementwise benchmarks: losses, the arrays they run on, and the ratios to reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

import fastloss
from benchmarks.cases import JAX, LIMIT, OURS, SKLEARN, TORCH, Target, at_least, at_most
from benchmarks.problem import dtype_of, require
from fastloss import reference

__all__ = ["COMPILED", "DTYPES", "ROWS", "SERIAL", "SIZE", "UNCHECKED", "Case", "Problem", "Row"]

Array = npt.NDArray[Any]

SIZE = 10_000_000
# Elements under which the cost of a call counts, and the others are at their best with one thread.
SERIAL = 100_000
DTYPES = ("float32", "float64", "float16", "bfloat16")
UNCHECKED = "fastloss unchecked"
COMPILED = "torch.compile"


@dataclass(frozen=True, eq=False)
class Row:
    """A loss, and what it takes.

    `sklearn` is the class in scikit-learn's `_loss`, and how many of its losses make one of ours. With
    `is_unchecked_too` it is also timed without the check of the target's domain.
    """

    name: str
    loss: str
    target: str = "normal"
    options: dict[str, Any] = field(default_factory=dict)
    has_exponentials: bool = False
    is_unchecked_too: bool = False
    sklearn: tuple[str, float] | None = None
    sklearn_options: dict[str, Any] = field(default_factory=dict)


ROWS = (
    Row("mse", "mse_loss", sklearn=("HalfSquaredError", 2.0)),
    Row("l1", "l1_loss", sklearn=("AbsoluteError", 1.0)),
    Row("huber", "huber_loss", sklearn=("HuberLoss", 1.0), sklearn_options={"delta": 1.0}),
    # With the parabola as wide as here it is the Huber loss.
    Row("smooth-l1", "smooth_l1_loss", sklearn=("HuberLoss", 1.0), sklearn_options={"delta": 1.0}),
    Row(
        "quantile",
        "quantile_loss",
        options={"quantile": 0.3},
        sklearn=("PinballLoss", 1.0),
        sklearn_options={"quantile": 0.3},
    ),
    Row(
        "logits",
        "binary_cross_entropy_with_logits",
        target="unit",
        has_exponentials=True,
        is_unchecked_too=True,
        sklearn=("HalfBinomialLoss", 1.0),
    ),
    Row("soft-margin", "soft_margin_loss", target="sign", has_exponentials=True),
    Row("log-cosh", "log_cosh_loss", has_exponentials=True),
    Row(
        "poisson",
        "poisson_nll_loss",
        target="counts",
        has_exponentials=True,
        is_unchecked_too=True,
        sklearn=("HalfPoissonLoss", 1.0),
    ),
)
TARGETS: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "unit": lambda rng, n: rng.integers(0, 2, n),
    "sign": lambda rng, n: rng.choice([-1.0, 1.0], n),
    "counts": lambda rng, n: rng.poisson(2.0, n),
}


@dataclass(frozen=True)
class Case:
    """A row at a size, in a type; the value and its gradient, or the value alone."""

    row: Row
    size: int = SIZE
    dtype: str = "float32"
    is_value: bool = False
    ceiling: None = None

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def title(self) -> str:
        what = "value" if self.is_value else "value and gradient"
        return f"{self.row.loss}, {self.size:,} {self.dtype}, {what}"

    @property
    def shape(self) -> tuple[int]:
        return (self.size,)

    @property
    def has_sklearn(self) -> bool:
        return self.row.sklearn is not None and self.dtype in ("float32", "float64")

    @property
    def contenders(self) -> tuple[str, ...]:
        unchecked = (UNCHECKED,) if self.row.is_unchecked_too else ()
        return (LIMIT, OURS, *unchecked, TORCH, JAX, SKLEARN)

    @property
    def targets(self) -> tuple[Target, ...]:
        checks = (at_most(1.1, UNCHECKED),) if self.row.is_unchecked_too else ()
        if self.size < SERIAL:
            return (*checks, at_most(1.0, SKLEARN)) if self.has_sklearn else checks
        if self.is_value:
            return checks if self.row.has_exponentials else (at_most(1.15, LIMIT), *checks)
        if self.row.has_exponentials:
            return (at_most(1.6, LIMIT), at_least(8, TORCH), *checks)
        peers = (*((SKLEARN,) if self.has_sklearn else ()), JAX, COMPILED)
        faster = (at_least(1.0, peer) for peer in peers)
        return (at_most(1.15, LIMIT), at_least(3, TORCH), *checks, *faster)

    @property
    def scale(self) -> float:
        """The upstream gradient, as mixed-precision training has it.

        Where 1 / size is less than the normal numbers of float16, the gradient of a mean loses its digits.
        """
        is_too_small = self.dtype == "float16" and self.size > 2**14
        return 2.0 ** min(15, self.size.bit_length() - 1) if is_too_small else 1.0


class Problem:
    """The arrays of a case, and the answer of the reference.

    Nobody writes to `input` or `target`; `out` is the buffer of those that write a gradient into one.
    """

    def __init__(self, case: Case) -> None:
        rng = np.random.default_rng(0)
        dtype = dtype_of(case.dtype)
        self.case, self.threads = case, fastloss.get_num_threads()
        self.input = rng.standard_normal(case.size).astype(dtype, copy=False)
        self.target = TARGETS[case.row.target](rng, case.size).astype(dtype, copy=False)
        if case.row.target == "normal":
            # No ties: at a kink any slope between the two sides is right.
            self.target[self.target == self.input] += dtype.type(1)
        self.out = np.ones_like(self.input)
        function = getattr(reference, case.row.loss)
        self.loss, grad = function(self.input, self.target, return_grad=True, **case.row.options)
        self.grad = np.multiply(grad, case.scale, out=grad)

    def check(
        self, loss: float, grad: Array | None, tolerance: float, *, loss_tolerance: float, scale: float = 1.0
    ) -> None:
        """Compare with the reference: the loss, and the gradient times `scale`.

        Errors are relative: to the loss (or 1, where it is less), and to the largest slope.
        """
        error = abs(loss - self.loss) / max(1.0, abs(self.loss))
        require(error, loss_tolerance, "the loss")
        if not self.case.is_value:
            assert grad is not None
            error = np.abs(grad.astype(np.float64) * scale - self.grad).max() / np.abs(self.grad).max()
            require(error, tolerance, "a slope")
