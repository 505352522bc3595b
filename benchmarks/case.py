"""The declaration of rows: `Case`, its `Target`s, and its `Suite`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

__all__ = [
    "BEST_PEER",
    "COLUMNS",
    "COMPILED",
    "JAX",
    "LIGER",
    "LIMIT",
    "NUMPY",
    "OURS",
    "PEERS",
    "SERIAL",
    "SKLEARN",
    "TORCH",
    "TRL",
    "UNITS",
    "Case",
    "Suite",
    "Target",
    "Unit",
    "at_least",
    "at_most",
    "bound",
]

LIMIT = "limit"
OURS = "fastloss"
NUMPY, TORCH, JAX, SKLEARN = PEERS = ("numpy", "torch", "jax", "scikit-learn")
COMPILED = "torch.compile"
# Libraries for training, with heads of their own for CPUs.
TRL, LIGER = "TRL", "Liger"
# Not a contender: the fastest of the peers in this run.
BEST_PEER = "best peer"
# The titles of the contenders that most rows have.
COLUMNS = {
    LIMIT: "memory limit",
    OURS: OURS,
    NUMPY: "NumPy",
    TORCH: "PyTorch",
    JAX: "JAX",
    SKLEARN: "scikit-learn",
}
# Below this number of elements the cost of a call counts, and the peers are fastest with one thread.
SERIAL = 100_000


class Unit(NamedTuple):
    """The unit in which a quantity is printed."""

    name: str
    factor: float = 1.0

    def text(self, value: float) -> str:
        """Return a number with three digits; only errors have an exponent."""
        if self.name == "error":
            return f"{value:.1e}"
        value *= self.factor
        digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3 if value >= 0.1 else 4
        return f"{value:.{digits}f}"


Quantity = Literal["seconds", "share", "bytes", "error"]
UNITS: dict[str, Unit] = {
    "seconds": Unit("milliseconds", 1e3),
    "share": Unit("times the logits"),
    "bytes": Unit("MB", 1e-6),
    "error": Unit("error"),
}


@dataclass(frozen=True)
class Target:
    """A bound on the figures of two contenders: `of` takes at most `factor` times as much as `against`.

    With `at_least`, `against` takes at least `factor` times as much as `of`. Without `against`, `factor` is
    a bound on the figure of `of` itself, in the unit in which it is measured.
    """

    factor: float
    against: str | None
    of: str = OURS
    at_least: bool = False

    def __str__(self) -> str:
        if self.against is None:
            return f"{self.of}: at most {self.factor:g}"
        if not self.at_least:
            return f"{self.of}: at most {self.factor:g} x {self.against}"
        how = "faster than" if self.factor == 1.0 else f"at least {self.factor:g} x as fast as"
        return f"{self.of}: {how} {self.against}"

    def ratio(self, of_over_against: float) -> float:
        """Return the ratio to compare with the bound, given the time of `of` over the time of `against`."""
        return 1.0 / of_over_against if self.at_least else of_over_against

    def is_met(self, ratio: float) -> bool:
        return ratio >= self.factor if self.at_least else ratio <= self.factor


def at_most(factor: float, against: str, of: str = OURS) -> Target:
    return Target(factor, against, of)


def at_least(factor: float, against: str, of: str = OURS) -> Target:
    return Target(factor, against, of, at_least=True)


def bound(value: float, of: str = OURS) -> Target:
    return Target(value, None, of)


# Compared by identity: options and details are dictionaries.
@dataclass(frozen=True, eq=False)
class Case:
    """One row: the function, its arguments, the contenders, and the targets.

    `contenders` are names in the registry. `mode` selects the result: "gradient" is the loss and its
    gradient, "in place" the same with the gradient written over the first argument, "value" the loss alone,
    "values" an array (softmax and related functions). `limit` is the least work of memory. `options` are
    those of the function and of its peers. With `reused`, contenders that can do so write the result into a
    buffer that the caller keeps. `threads` is the number for all contenders; None: that of the command.
    `quantity` is the measured quantity. `small` is the shape in a smoke test, and `details` has values that
    only the row's suite reads.
    """

    suite: str
    name: str
    title: str
    function: str
    shape: tuple[int, ...]
    small: tuple[int, ...]
    contenders: tuple[str, ...]
    targets: tuple[Target, ...] = ()
    mode: Literal["gradient", "in place", "value", "values"] = "gradient"
    limit: str | None = None
    dtype: str = "float32"
    axis: int = -1
    options: Mapping[str, Any] = field(default_factory=dict)
    reused: bool = True
    threads: int | None = None
    quantity: Quantity = "seconds"
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_gradient(self) -> bool:
        return self.mode in ("gradient", "in place")

    @property
    def has_values(self) -> bool:
        return self.mode != "value"

    @property
    def unit(self) -> Unit:
        return UNITS[self.quantity]


@dataclass(frozen=True)
class Suite:
    """Rows that are run together.

    `problem` makes the arrays and the expected result of a case, from the case and a flag for the small
    shape. `columns` has the contenders with a column in the table, and the titles of the columns; without any
    there is no table. `variant`
    makes the rows for a number of elements (None: as in `cases`) and a type. `also_checked` are rows that
    the tests run once, at the small shape. `derived` has further columns of the table, by title: the text of
    a row of the results.
    """

    name: str
    title: str
    cases: tuple[Case, ...]
    problem: Callable[[Case, bool], Any]
    columns: Mapping[str, str]
    repeats: int = 11
    variant: Callable[[int | None, str], tuple[Case, ...]] | None = None
    also_checked: tuple[Case, ...] = ()
    derived: Mapping[str, Callable[[Mapping[str, Any]], str]] = field(default_factory=dict)
