"""Cross-entropy and the softmax functions beside the memory limit and every peer."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np

from fastloss import reference

from ..case import (
    BEST_PEER,
    COLUMNS,
    JAX,
    LIMIT,
    NUMPY,
    OURS,
    PEERS,
    SKLEARN,
    TORCH,
    Case,
    Suite,
    at_least,
    at_most,
    bound,
)
from ..contenders import Contender, contender, ours
from ..problem import Array, Problem, class_indices, in_blocks, logits_of, require, sample_of

__all__ = ["IN_PLACE", "SUITE", "SoftmaxProblem"]

ALL = (LIMIT, OURS, *PEERS)
WITHOUT_SKLEARN = (LIMIT, OURS, NUMPY, TORCH, JAX)
PLAIN = "fastloss cross_entropy"
SUM, PAIR = "fastloss sum", "fastloss sum and count"

_cross_entropy = partial(Case, "softmax", function="cross_entropy", limit="copy", contenders=ALL)
_32k = partial(_cross_entropy, shape=(2048, 32000), small=(8, 3000))
_32k_values = partial(_32k, mode="values", contenders=WITHOUT_SKLEARN)
_128k = partial(_cross_entropy, shape=(512, 128256), small=(4, 5000))
_in_place = {
    "mode": "in place",
    "limit": "scale",
    "contenders": (LIMIT, "memcpy", OURS, NUMPY),
    "targets": (at_most(2.0, LIMIT), at_least(1.0, "memcpy")),
}

_focal = partial(_cross_entropy, function="softmax_focal_loss")


def _beside(factor: float) -> dict[str, Any]:
    """Return the contenders and the target of a loss that is measured beside cross-entropy."""
    return {"contenders": (LIMIT, OURS, PLAIN), "targets": (at_most(factor, PLAIN),)}


IN_PLACE = _32k("32k-in-place", "cross entropy (2048, 32000), in place", **_in_place)
CASES = (
    _32k(
        "32k",
        "cross entropy (2048, 32000), value and gradient",
        contenders=(LIMIT, OURS, "fastloss new array", *PEERS),
        targets=(at_most(1.2, LIMIT), at_least(12, TORCH), at_least(6, JAX)),
    ),
    IN_PLACE,
    _32k(
        "32k-loss",
        "cross entropy (2048, 32000), loss alone",
        mode="value",
        limit="read",
        targets=(at_most(2.2, LIMIT),),
    ),
    _32k(
        "threads",
        "cross entropy (2048, 32000), all threads over one",
        contenders=(LIMIT, OURS, "fastloss 1 thread"),
        targets=(at_least(1.7, "fastloss 1 thread"),),
    ),
    _32k(
        "instruction-sets",
        "cross entropy (2048, 32000), instruction sets",
        contenders=(LIMIT, "fastloss avx512", "fastloss avx2", "fastloss baseline"),
        targets=(
            at_most(1.35, "fastloss avx512", of="fastloss avx2"),
            at_most(5.0, "fastloss avx512", of="fastloss baseline"),
        ),
    ),
    _32k(
        "sum-and-count",
        "cross entropy (2048, 32000), the sum, and what a mean divides by",
        contenders=(LIMIT, SUM, PAIR),
        targets=(at_most(1.02, SUM, of=PAIR),),
    ),
    _32k(
        "smoothing",
        "cross entropy (2048, 32000), label smoothing 0.1",
        options={"label_smoothing": 0.1},
        contenders=WITHOUT_SKLEARN,
    ),
    _32k_values("softmax", "softmax (2048, 32000)", function="softmax"),
    _32k_values("log-softmax", "log-softmax (2048, 32000)", function="log_softmax"),
    _32k_values("logsumexp", "log-sum-exp (2048, 32000)", function="logsumexp", limit="read", reused=False),
    _32k(
        "probabilities",
        "cross entropy (2048, 32000), probabilities as targets",
        details={"has_probabilities": True},
        limit="add",
        contenders=WITHOUT_SKLEARN,
    ),
    _32k(
        "bfloat16",
        "cross entropy (2048, 32000) in bfloat16",
        dtype="bfloat16",
        contenders=(LIMIT, OURS, "fastloss float32", NUMPY, TORCH, JAX),
        targets=(at_most(0.8, "fastloss float32"), at_least(10, TORCH)),
    ),
    _128k(
        "128k",
        "cross entropy (512, 128256), value and gradient",
        targets=(at_most(1.2, LIMIT), at_least(12, TORCH), at_least(6, JAX)),
    ),
    _128k("128k-in-place", "cross entropy (512, 128256), in place", **_in_place),
    _128k(
        "128k-loss",
        "cross entropy (512, 128256), loss alone",
        mode="value",
        limit="read",
        targets=(at_most(2.2, LIMIT),),
    ),
    _cross_entropy(
        "class-axis-1",
        "cross entropy (8, 21, 512, 512), class axis 1",
        shape=(8, 21, 512, 512),
        small=(2, 5, 8, 8),
        axis=1,
        contenders=WITHOUT_SKLEARN,
        targets=(at_least(1.0, TORCH), at_least(1.0, JAX)),
    ),
    _cross_entropy(
        "after-matmul",
        "cross entropy (2048, 8192), right after np.matmul (with the variables of docs/settings.md)",
        shape=(2048, 8192),
        small=(8, 1000),
        contenders=(LIMIT, OURS, "fastloss after matmul"),
        targets=(at_most(1.25, OURS, of="fastloss after matmul"),),
    ),
    _cross_entropy(
        "512-rows",
        "cross entropy (512, 32000)",
        shape=(512, 32000),
        small=(8, 3000),
        targets=(at_most(1.2, LIMIT),),
    ),
    _cross_entropy(
        "1000-classes",
        "cross entropy (4096, 1000)",
        shape=(4096, 1000),
        small=(32, 1000),
        targets=(at_most(1.55, LIMIT),),
    ),
    _cross_entropy(
        "10-classes",
        "cross entropy (65536, 10)",
        shape=(65536, 10),
        small=(100, 10),
        targets=(at_least(10, TORCH), at_least(3, BEST_PEER)),
    ),
    _focal(
        "focal-32k", "softmax focal loss (2048, 32000)", shape=(2048, 32000), small=(8, 3000), **_beside(1.3)
    ),
    _cross_entropy(
        "poly-10",
        "poly loss (65536, 10)",
        function="poly_loss",
        shape=(65536, 10),
        small=(100, 10),
        **_beside(1.5),
    ),
    _cross_entropy(
        "generalized-10",
        "generalized cross entropy (65536, 10)",
        function="generalized_cross_entropy",
        shape=(65536, 10),
        small=(100, 10),
        **_beside(1.5),
    ),
    _cross_entropy(
        "sparsemax-1000",
        "sparsemax loss (4096, 1000)",
        function="sparsemax_loss",
        shape=(4096, 1000),
        small=(32, 100),
        contenders=(LIMIT, OURS, TORCH),
        targets=(at_least(1.0, TORCH),),
    ),
    _focal("focal-10", "softmax focal loss (65536, 10)", shape=(65536, 10), small=(100, 10), **_beside(1.5)),
    _cross_entropy(
        "one-row",
        "cross entropy (1, 250000)",
        shape=(1, 250_000),
        small=(1, 40_000),
        contenders=(LIMIT, OURS, "fastloss 1 thread", *PEERS),
        targets=(at_least(1.6, "fastloss 1 thread"),),
    ),
    _cross_entropy(
        "one-call",
        "cross entropy (8, 10), the cost of a call",
        shape=(8, 10),
        small=(8, 10),
        limit=None,
        reused=False,
        contenders=(OURS, *PEERS),
        targets=(at_most(0.5, SKLEARN), bound(5e-6)),
    ),
)


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Return the shape of the rows along an axis."""
    axis %= len(shape)
    return shape[:axis] + shape[axis + 1 :]


@lru_cache(maxsize=1)
def _target(shape: tuple[int, ...], axis: int, has_probabilities: bool) -> Array:
    if has_probabilities:
        target: Array = np.random.default_rng(1).random(shape, dtype=np.float32)
        target /= target.sum(axis=axis, keepdims=True)
        return target
    return class_indices(shape, axis)


@lru_cache(maxsize=1)
def _class_weight(classes: int) -> dict[str, Array]:
    return {"weight": np.random.default_rng(2).uniform(0.5, 2.0, classes).astype(np.float32)}


# Float64 takes seconds for the large rows, which share their logits: the last results are kept.
@lru_cache(maxsize=8)
def _total_loss(
    function: str,
    shape: tuple[int, ...],
    dtype: str,
    axis: int,
    has_probabilities: bool,
    has_weight: bool,
    options: tuple[tuple[str, Any], ...],
) -> float:
    arguments = logits_of(shape, dtype), _target(shape, axis, has_probabilities)
    given = {**dict(options), **(_class_weight(shape[axis]) if has_weight else {})}
    return float(sum(in_blocks(getattr(reference, function), arguments, axis=axis, reduction="sum", **given)))


class SoftmaxProblem(Problem):
    """The reference has every row's loss, and the values (gradient, softmax) of a sample of rows.

    The details "has_probabilities" and "has_weight" select the targets and class weights.
    """

    @cached_property
    def arguments(self) -> tuple[Array, ...]:
        logits = logits_of(self.shape, self.case.dtype)
        if self.case.mode == "values":
            return (logits,)
        return logits, _target(self.shape, self.case.axis, self._has_probabilities)

    @property
    def _has_probabilities(self) -> bool:
        return bool(self.case.details.get("has_probabilities", False))

    @property
    def our_options(self) -> dict[str, Any]:
        return _class_weight(self.shape[self.case.axis]) if self.case.details.get("has_weight") else {}

    @cached_property
    def _divisor(self) -> float:
        """Return what a mean divides by: the number of rows, or the sum of the weights of their targets."""
        weight = self.our_options.get("weight")
        if weight is None:
            return self.arguments[0].size // self.shape[self.case.axis]
        return float(weight[self.arguments[1]].sum(dtype=np.float64))

    def sampled(self, values: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the sample of rows, with the classes (if any) last."""
        axis = self.case.axis
        rows = _without(self.shape, axis)
        index = np.unravel_index(sample_of(int(np.prod(rows))), rows)
        moved = (np.moveaxis(v, axis, -1) if v.ndim == len(self.shape) else v for v in values)
        return tuple(np.asarray(v[index]) for v in moved)

    @cached_property
    def expected_loss(self) -> float | None:
        if self.case.mode == "values":
            return None
        case, options = self.case, tuple(self.case.options.items())
        has_weight = bool(self.our_options)
        key = case.function, self.shape, case.dtype, case.axis, self._has_probabilities, has_weight, options
        return _total_loss(*key) / self._divisor

    @cached_property
    def expected_values(self) -> tuple[Array, ...]:
        function: Any = getattr(reference, self.case.function)
        sample = self.sampled(self.arguments)
        if self.case.mode == "values":
            return (np.asarray(function(*sample)),)
        options = {**self.case.options, **self.our_options}
        _, grad = function(*sample, reduction="sum", return_grad=True, **options)
        return (grad / self._divisor,)


@contender(SUM, PAIR, suite="softmax")
def _sum(problem: SoftmaxProblem, name: str) -> Contender:
    """Build the sum of the losses, alone or with the number of rows, and its gradient."""
    rows = problem.arguments[1].size

    def check(result: Any) -> None:
        loss, gradient = result
        if name == PAIR:
            loss, count = loss
            require(abs(count - rows), 0.0, "the count")
        problem.check(name, loss / rows, gradient, 1.0 / rows)

    return replace(ours(problem, name, reduction="sum" if name == SUM else "sum_and_count"), check=check)


SUITE = Suite(
    name="softmax",
    title="cross entropy and the softmax functions (some ten minutes)",
    cases=CASES,
    problem=SoftmaxProblem,
    columns=COLUMNS,
    repeats=20,
)
