"""ctc_loss and ctc_loss_with_logits, forward and backward, beside PyTorch's.

PyTorch's gradient of `ctc_loss` takes the log-probabilities for the output of `log_softmax`: it has their
softmax in it. That of fastloss is the derivative of the loss. The two differ by the softmax, times what a
sample's loss is divided by, and the comparison adds it. `ctc_loss_with_logits` stands beside `log_softmax`
and `ctc_loss`, where the two gradients are equal.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from fastloss import reference

from ..case import LIMIT, OURS, TORCH, Case, Suite, at_least
from ..contenders import Contender, contender, imported
from ..peers import torch_peer
from ..problem import Array, Problem

__all__ = ["SUITE"]

LABELS = 30
WITH_LOGITS = "ctc_loss_with_logits"


def _case(name: str, classes: int, function: str, factor: float) -> Case:
    has_logits = function == WITH_LOGITS
    shape = (150, 32, classes)
    return Case(
        "alignment",
        name,
        f"{function}, steps, samples, classes {shape}, {LABELS} labels, value and gradient",
        function,
        shape=shape,
        small=(70, 3, min(classes, 200)),
        contenders=(*((LIMIT,) if has_logits else ()), OURS, TORCH),
        targets=(at_least(factor, TORCH),),
        limit="move" if has_logits else None,
    )


CASES = (
    _case("ctc-5000", 5000, "ctc_loss", 5),
    _case("ctc-100", 100, "ctc_loss", 5),
    _case("ctc-logits-5000", 5000, WITH_LOGITS, 8),
    _case("ctc-logits-100", 100, WITH_LOGITS, 8),
)


class AlignmentProblem(Problem):
    """The reference has the whole gradient; errors are relative to the largest entry."""

    largest_axis = None

    @cached_property
    def arguments(self) -> tuple[Array, ...]:
        """Return log-probabilities or logits, the labels (0 is the blank), and the largest lengths."""
        rng, (steps, samples, classes) = np.random.default_rng(0), self.shape
        x = rng.standard_normal(self.shape, dtype=np.float32)
        if self.case.function != WITH_LOGITS:
            x -= np.log(np.exp(x).sum(axis=-1, keepdims=True))
        labels = rng.integers(1, classes, (samples, LABELS))
        return x, labels, np.full(samples, steps), np.full(samples, LABELS)

    @cached_property
    def answer(self) -> tuple[float, Array]:
        loss, gradient = getattr(reference, self.case.function)(*self.arguments, return_grad=True)
        return loss, gradient

    @property
    def expected_loss(self) -> float:
        return self.answer[0]

    @property
    def expected_values(self) -> tuple[Array, ...]:
        return (self.answer[1],)

    def check(self, name: str, loss: float | Array | None, values: Any, scale: float = 1.0) -> None:
        if name == TORCH and self.case.function != WITH_LOGITS:
            (gradient,) = values
            values = gradient - np.exp(self.arguments[0]) / (LABELS * self.shape[1])
        super().check(name, loss, values, scale)


@contender(TORCH, suite="alignment")
def _torch(problem: AlignmentProblem, name: str) -> Contender:
    function = imported("torch").nn.functional

    def with_logits(logits: Any, *others: Any) -> Any:
        return function.ctc_loss(function.log_softmax(logits, -1), *others)

    has_logits = problem.case.function == WITH_LOGITS
    return torch_peer(problem, name, with_logits if has_logits else function.ctc_loss)


SUITE = Suite(
    name="alignment",
    title="connectionist temporal classification beside PyTorch (a minute)",
    cases=CASES,
    problem=AlignmentProblem,
    columns={LIMIT: "memory limit", OURS: OURS, TORCH: "PyTorch"},
    repeats=11,
)
