"""The losses of lists, for groups of 100 documents, beside PyTorch, NumPy and LightGBM's own objective.

All groups have one size, so that the peers need no loop over groups: PyTorch has a matrix of them, and NumPy
takes the pairs of one position with all later ones at a time. The row "round-lambda-rank" is a round of
LightGBM, as in the suite "boosting". The reference has a part of the groups of `lambda_rank_loss`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from fastloss import reference

from ..case import LIMIT, NUMPY, OURS, TORCH, Case, Suite, at_least, at_most
from ..contenders import Contender, contender, imported, ours
from ..peers import torch_peer
from ..problem import Array, Problem
from .boosting import BUILT_IN, READY, BoostingProblem, Pair, built_in, objective_of, ready

__all__ = ["SUITE"]

DOCUMENTS, LABELS = 100, 5
ROWS, SMALL = 1_000_000, 2000
# Groups of lambda_rank_loss that the reference computes.
GROUPS = 20
TRUNCATION = 30


def _case(name: str, function: str, what: str, **others: Any) -> Case:
    title = f"{function}, {ROWS:,} documents in groups of {DOCUMENTS}, {what}"
    return Case("lists", name, title, function, (ROWS,), (SMALL,), **others)


CASES = (
    _case(
        "list-net",
        "list_net_loss",
        "value and gradient",
        contenders=(LIMIT, OURS, TORCH),
        targets=(at_least(1, TORCH),),
        limit="move",
    ),
    _case(
        "lambda-rank",
        "lambda_rank_loss",
        "value and gradient",
        contenders=(OURS, NUMPY),
        targets=(at_least(1, NUMPY),),
        options={"reduction": "none"},
    ),
    _case(
        "round-lambda-rank",
        "lambda_rank_loss",
        "a round of LightGBM",
        contenders=(BUILT_IN, OURS, READY),
        targets=(at_most(1, BUILT_IN),),
        details={"library": "lightgbm", "own": "lambdarank"},
    ),
)


# --- lambda_rank_loss in NumPy ---


def _discounted_best(gains: Array, discounts: Array) -> Array:
    """Return the largest DCG of each group."""
    best = -np.sort(-gains, axis=1)[:, :TRUNCATION]
    return np.asarray((best * discounts[:TRUNCATION]).sum(axis=1))


def pairwise(scores: Array, relevance: Array) -> tuple[Array, Array]:
    """Return the losses of groups in rows and their gradient, for scores without ties."""
    order = np.argsort(-scores, axis=1)
    s, y = (np.take_along_axis(a, order, axis=1).astype(np.float64) for a in (scores, relevance))
    gains, discounts = 2.0**y - 1.0, 1.0 / np.log2(2.0 + np.arange(s.shape[1]))
    scale = 1.0 / np.maximum(_discounted_best(gains, discounts), 1e-300)
    losses, force, slopes = np.zeros(len(s)), np.zeros(len(s)), np.zeros(s.shape)
    for i in range(min(TRUNCATION, s.shape[1])):
        later = np.s_[:, i + 1 :]
        gain = gains[:, i, None] - gains[later]
        sign, difference = np.sign(gain), s[:, i, None] - s[later]
        w = np.abs(gain) * (discounts[i] - discounts[i + 1 :]) * scale[:, None] / (0.01 + difference)
        e = np.exp(-sign * difference)
        slope = sign * w * (e / (1.0 + e))
        losses += (w * np.log1p(e)).sum(axis=1)
        slopes[:, i] -= slope.sum(axis=1)
        slopes[later] += slope
        force += 2.0 * np.abs(slope).sum(axis=1)
    factor = np.divide(np.log2(1.0 + force), force, out=np.ones(len(s)), where=force > 0.0)
    gradient = np.empty(s.shape)
    np.put_along_axis(gradient, order, slopes * factor[:, None], axis=1)
    return losses * factor, gradient.astype(scores.dtype)


# --- the contenders ---


class ListsProblem(Problem):
    """Errors are relative to the largest entry of the gradient."""

    largest_axis = None

    @cached_property
    def arguments(self) -> tuple[Array, ...]:
        """Return scores, relevance and the sizes of the groups."""
        rng, (rows,) = np.random.default_rng(0), self.shape
        scores = rng.standard_normal(rows, dtype=np.float32)
        relevance = rng.integers(LABELS, size=rows).astype(np.float32)
        return scores, relevance, np.full(rows // DOCUMENTS, DOCUMENTS)

    @cached_property
    def answer(self) -> tuple[float, Array]:
        options = {**self.case.options, "return_grad": True}
        loss, gradient = getattr(reference, self.case.function)(*self.arguments, **options)
        return loss, gradient

    @property
    def expected_loss(self) -> float:
        return self.answer[0]

    @property
    def expected_values(self) -> tuple[Array, ...]:
        return (self.answer[1],)


class LambdaRankProblem(ListsProblem):
    """The reference has loops over pairs: it computes the first groups only."""

    @cached_property
    def answer(self) -> tuple[Any, Array]:
        scores, relevance, sizes = self.arguments
        some = self.sampled((scores, relevance))
        options: Any = {**self.case.options, "return_grad": True}
        found: Any = reference.lambda_rank_loss(some[0], some[1], sizes[:GROUPS], **options)
        loss, gradient = found
        return loss, gradient

    def sampled(self, values: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(array[: GROUPS * DOCUMENTS] for array in values)

    def check(self, name: str, loss: Any, values: Any, scale: float = 1.0) -> None:
        super().check(name, loss[:GROUPS], values, scale)


class RoundProblem(BoostingProblem):
    """The derivatives of the first groups are compared."""

    documents = DOCUMENTS

    @cached_property
    def expected_values(self) -> Pair:
        assert self.sizes is not None
        scores, label = self._first((self.scores, self.data.label))
        options: Any = {"reduction": "sum", "return_grad": True, "return_hessian": True}
        found: Any = reference.lambda_rank_loss(scores, label, self.sizes[:GROUPS], **options)
        _, gradient, hessian = found
        return gradient, hessian

    def _first(self, arrays: Pair) -> Pair:
        first, second = (array[: GROUPS * DOCUMENTS] for array in arrays)
        return first, second

    def require_near(self, found: Pair, name: str = OURS) -> None:
        super().require_near(self._first(found), name)


def _problem(case: Case, is_small: bool) -> Problem:
    if case.name.startswith("round-"):
        return RoundProblem(case, is_small)
    return (LambdaRankProblem if case.function == "lambda_rank_loss" else ListsProblem)(case, is_small)


contender(BUILT_IN, suite="lists")(built_in)
contender(READY, suite="lists")(ready)


@contender(OURS, suite="lists")
def _ours(problem: Problem, name: str) -> Contender:
    return objective_of(problem, name) if isinstance(problem, RoundProblem) else ours(problem, name)


@contender(NUMPY, suite="lists")
def _numpy(problem: ListsProblem, name: str) -> Contender:
    scores, relevance = (array.reshape(-1, DOCUMENTS) for array in problem.arguments[:2])

    def check(result: tuple[Array, Array]) -> None:
        problem.check(name, result[0], result[1].reshape(-1))

    return Contender(name, lambda: pairwise(scores, relevance), check)


@contender(TORCH, suite="lists")
def _torch(problem: ListsProblem, name: str) -> Contender:
    torch = imported("torch")

    def list_net_loss(scores: Any, relevance: Any, sizes: Any) -> Any:
        s, y = (array.view(len(sizes), -1) for array in (scores, relevance))
        return -(torch.softmax(y, 1) * torch.log_softmax(s, 1)).sum(1).mean()

    return torch_peer(problem, name, list_net_loss)


SUITE = Suite(
    name="lists",
    title="losses of lists beside PyTorch, NumPy and LightGBM (a minute)",
    cases=CASES,
    problem=_problem,
    columns={
        LIMIT: "memory limit",
        BUILT_IN: BUILT_IN,
        OURS: OURS,
        TORCH: "PyTorch",
        NUMPY: NUMPY,
        READY: READY,
    },
    repeats=9,
)
