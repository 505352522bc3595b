"""Several quantiles in one pass, and the distributions with several parameters, beside PyTorch.

PyTorch computes quantiles in a call for each, on predictions that are arrays of their own, which it reads
faster than the columns of one; "torch at once" is a single call for all columns. The distributions are those
of `torch.distributions`, without the check of the arguments, with gradients from automatic differentiation
for every parameter. The limit reads all arguments and writes the gradients past the caches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from fastloss import reference

from ..case import LIMIT, OURS, TORCH, Case, Suite, at_least, at_most
from ..contenders import Contender, contender, imported
from ..peers import torch_peer
from ..problem import Array, Problem

__all__ = ["SUITE"]

AT_ONCE = "torch at once"
QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
ROWS, SMALL = 1_000_000, 2000
NEGATIVE_BINOMIAL, STUDENT_T = "negative_binomial_nll_loss", "student_t_nll_loss"


def _distribution(name: str, function: str) -> Case:
    return Case(
        "distributions",
        name,
        f"{function}, {ROWS:,} rows, gradients for every parameter",
        function,
        shape=(ROWS,),
        small=(SMALL,),
        contenders=(LIMIT, OURS, TORCH),
        targets=(at_least(1, TORCH),),
        limit="move",
    )


CASES = (
    Case(
        "distributions",
        "quantiles",
        f"quantile_loss, {len(QUANTILES)} quantiles of {ROWS:,} rows",
        "quantile_loss",
        shape=(ROWS, len(QUANTILES)),
        small=(SMALL, len(QUANTILES)),
        contenders=(LIMIT, OURS, TORCH, AT_ONCE),
        targets=(at_most(1.2, LIMIT), at_least(5, TORCH)),
        limit="move",
        options={"quantile": QUANTILES},
    ),
    _distribution("negative-binomial", NEGATIVE_BINOMIAL),
    _distribution("student-t", STUDENT_T),
)


class DistributionsProblem(Problem):
    """The reference has all gradients; errors are relative to the largest entry of each."""

    largest_axis = None

    @cached_property
    def arguments(self) -> tuple[Array, ...]:
        rng, rows = np.random.default_rng(0), self.shape[0]
        x = rng.standard_normal(self.shape, dtype=np.float32)
        low, width = np.float32(0.5), np.float32(2.0)
        positive = [low + width * rng.random(rows, dtype=np.float32) for _ in range(2)]
        if self.case.function == NEGATIVE_BINOMIAL:
            return x, rng.poisson(2.0, rows).astype(np.float32), positive[0]
        target = rng.standard_normal(rows, dtype=np.float32)
        if self.case.function == STUDENT_T:
            return x, target, positive[0], np.float32(4.0) * positive[1]
        return x, target

    @property
    def differentiable(self) -> Sequence[int]:
        """Return the positions of all but the target."""
        return [k for k in range(len(self.arguments)) if k != 1]

    @cached_property
    def out(self) -> Any:
        buffers = tuple(np.ones_like(self.arguments[k]) for k in self.differentiable)
        return buffers[0] if len(buffers) == 1 else buffers

    @property
    def our_options(self) -> dict[str, Any]:
        """Return the option of distributions for the constants, which PyTorch always includes."""
        return {} if self.case.function == "quantile_loss" else {"full": True}

    @cached_property
    def answer(self) -> tuple[float, Any]:
        options = {**self.case.options, **self.our_options, "return_grad": True}
        loss, gradients = getattr(reference, self.case.function)(*self.arguments, **options)
        return loss, gradients

    @property
    def expected_loss(self) -> float:
        return self.answer[0]

    @property
    def expected_values(self) -> tuple[Array, ...]:
        found = self.answer[1]
        return found if isinstance(found, tuple) else (found,)


def _pinball(torch: Any, x: Any, target: Any, quantile: Any) -> Any:
    r = target - x
    return torch.maximum(quantile * r, (quantile - 1.0) * r).mean()


def _written(torch: Any) -> dict[str, Callable[..., Any]]:
    """Return the losses as PyTorch's users write them."""

    def negative_binomial_nll_loss(x: Any, target: Any, dispersion: Any) -> Any:
        of = torch.distributions.NegativeBinomial(
            1.0 / dispersion, logits=x + dispersion.log(), validate_args=False
        )
        return -of.log_prob(target).mean()

    def student_t_nll_loss(x: Any, target: Any, scale: Any, df: Any) -> Any:
        return -torch.distributions.StudentT(df, x, scale, validate_args=False).log_prob(target).mean()

    def quantile_loss(x: Any, target: Any, quantile: Any) -> Any:
        return _pinball(torch, x, target[:, None], torch.tensor(quantile))

    written = (negative_binomial_nll_loss, student_t_nll_loss, quantile_loss)
    return {function.__name__: function for function in written}


@contender(TORCH, AT_ONCE, suite="distributions")
def _torch(problem: DistributionsProblem, name: str) -> Contender:
    torch = imported("torch")
    if problem.case.function == "quantile_loss" and name == TORCH:
        return _torch_calls(problem, name, torch)
    return torch_peer(problem, name, _written(torch)[problem.case.function])


def _torch_calls(problem: DistributionsProblem, name: str, torch: Any) -> Contender:
    """Build a call for each quantile, on predictions in an array of their own."""
    x, target = problem.arguments
    torch.set_num_threads(problem.threads)
    columns = [torch.from_numpy(column.copy()).requires_grad_() for column in x.T]
    of_target = torch.from_numpy(target)

    def call() -> list[Any]:
        losses = []
        for column, quantile in zip(columns, QUANTILES, strict=True):
            column.grad = None
            loss = _pinball(torch, column, of_target, quantile)
            loss.backward()
            losses.append(loss.detach())
        return losses

    def check(losses: list[Any]) -> None:
        loss = float(np.mean([loss.double().numpy() for loss in losses]))
        gradient = np.stack([column.grad.numpy() for column in columns], axis=1)
        problem.check(name, loss, gradient, 1.0 / len(QUANTILES))

    return Contender(name, call, check)


SUITE = Suite(
    name="distributions",
    title="several quantiles, and distributions with several parameters, beside PyTorch (half a minute)",
    cases=CASES,
    problem=DistributionsProblem,
    columns={LIMIT: "memory limit", OURS: OURS, TORCH: "PyTorch", AT_ONCE: "PyTorch, one call"},
    repeats=15,
)
