"""The losses of pairs and of several labels beside the memory limit and PyTorch.

The limit reads all arguments and writes the gradients past the caches. The value is that of the reference
for all rows; gradients are compared in a sample of rows, because float32 may put a few of very many rows on
the other side of a kink.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from fastloss import reference

from ..case import LIMIT, OURS, TORCH, Case, Suite, at_least, at_most
from ..problem import Array, Problem, in_blocks, sample_of

__all__ = ["SUITE"]

LEAVES = {"triplet_margin_loss": 3, "multilabel_margin_loss": 1}
LABELS = 5  # of a row, of several labels


def _pairs(name: str, function: str) -> Case:
    return Case(
        "pairs",
        name,
        f"{function}, 100,000 x 128, value and gradients",
        function,
        shape=(100_000, 128),
        small=(200, 16),
        contenders=(LIMIT, OURS, TORCH),
        targets=(at_most(1.2, LIMIT), at_least(5, TORCH)),
        limit="move",
    )


CASES = (
    _pairs("margin-ranking", "margin_ranking_loss"),
    _pairs("cosine-embedding", "cosine_embedding_loss"),
    _pairs("triplet-margin", "triplet_margin_loss"),
    Case(
        "pairs",
        "multilabel-margin",
        f"multilabel_margin_loss, 10,000 x 100, {LABELS} labels, value and gradient",
        "multilabel_margin_loss",
        shape=(10_000, 100),
        small=(200, 20),
        contenders=(OURS, TORCH),
        targets=(at_least(10, TORCH),),
    ),
)


class PairsProblem(Problem):
    """The reference has the loss of all rows, and the gradients of a sample of them."""

    largest_axis = None

    def __init__(self, case: Case, is_small: bool = False) -> None:
        super().__init__(case, is_small)
        self.leaves = LEAVES.get(case.function, 2)

    @cached_property
    def arguments(self) -> tuple[Array, ...]:
        rng, rows = np.random.default_rng(0), self.shape[0]
        arrays = [rng.standard_normal(self.shape, dtype=np.float32) for _ in range(self.leaves)]
        return (*arrays, *self._target(rng, rows))

    def _target(self, rng: np.random.Generator, rows: int) -> tuple[Array, ...]:
        """Return the signs, or the labels, that a loss has as its last argument."""
        if self.case.function == "triplet_margin_loss":
            return ()
        if self.case.function == "multilabel_margin_loss":
            target = np.full(self.shape, -1)
            target[:, :LABELS] = rng.random(self.shape).argsort(axis=1)[:, :LABELS]
            return (target,)
        shape = self.shape if self.case.function == "margin_ranking_loss" else (rows,)
        return (rng.choice(np.array([-1, 1], np.float32), shape),)

    @cached_property
    def out(self) -> Any:
        buffers = tuple(map(np.ones_like, self.arguments[: self.leaves]))
        return buffers[0] if self.leaves == 1 else buffers

    @property
    def _losses(self) -> int:
        return self.arguments[0].size if self.case.function == "margin_ranking_loss" else self.shape[0]

    @cached_property
    def expected_loss(self) -> float:
        function = getattr(reference, self.case.function)
        return float(sum(in_blocks(function, self.arguments, reduction="sum"))) / self._losses

    @cached_property
    def expected_values(self) -> tuple[Array, ...]:
        _, found = getattr(reference, self.case.function)(
            *self.sampled(self.arguments), reduction="sum", return_grad=True, grad_output=1.0 / self._losses
        )
        return found if isinstance(found, tuple) else (found,)

    def sampled(self, values: tuple[Array, ...]) -> tuple[Array, ...]:
        rows = sample_of(self.shape[0])
        return tuple(array[rows] for array in values)


SUITE = Suite(
    name="pairs",
    title="losses of pairs, and of several labels, beside the memory limit and PyTorch (half a minute)",
    cases=CASES,
    problem=PairsProblem,
    columns={LIMIT: "memory limit", OURS: OURS, TORCH: "PyTorch"},
    repeats=15,
)
