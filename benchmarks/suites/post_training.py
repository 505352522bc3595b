"""The losses of post-training beside the memory limit and PyTorch: log-probabilities, divergences, DPO."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np

import fastloss
from fastloss import reference
from fastloss.sequence import TokenStatistics

from ..case import LIMIT, OURS, TORCH, Case, Suite, at_least, at_most, bound
from ..contenders import Contender, contender, ours
from ..problem import Array, Problem, class_indices, in_blocks, logits_of, sample_of
from .softmax import SoftmaxProblem

__all__ = ["SUITE"]

CROSS_ENTROPY = "fastloss cross_entropy"
STATISTICS = "fastloss token_statistics"


def _case(name: str, function: str, **others: Any) -> Case:
    attributes: dict[str, Any] = {
        "shape": (2048, 32000),
        "small": (8, 3000),
        "limit": "subtract",
        "contenders": (LIMIT, OURS, TORCH),
        **others,
    }
    what = "value" if attributes.get("mode") == "value" else "value and gradient"
    return Case("post-training", name, f"{function} {attributes['shape']}, {what}", function, **attributes)


CASES = (
    _case(
        "token-log-probs",
        "token_log_probs",
        limit="read",
        contenders=(LIMIT, OURS, STATISTICS, TORCH),
        targets=(at_most(2.2, LIMIT), at_least(5, TORCH), at_most(1.35, OURS, STATISTICS)),
        mode="value",
    ),
    _case(
        "token-log-probs-gradient",
        "token_log_probs",
        limit=None,
        contenders=(OURS, CROSS_ENTROPY, TORCH),
        targets=(at_most(1.25, CROSS_ENTROPY),),
    ),
    _case("kl", "kl_div_with_logits", targets=(at_most(1.6, LIMIT), at_least(8, TORCH))),
    _case("kl-value", "kl_div_with_logits", limit=None, contenders=(OURS, TORCH), mode="value"),
    _case("js", "js_div_with_logits", targets=(at_most(2.2, LIMIT), at_least(8, TORCH))),
    _case("tv", "tv_distance_with_logits"),
    _case(
        "dpo",
        "dpo_loss",
        shape=(1000,),
        small=(1000,),
        limit=None,
        contenders=(OURS, TORCH),
        targets=(at_least(10, TORCH), bound(20e-6)),
        reused=False,
    ),
)


# The last one, for consecutive rows.
@lru_cache(maxsize=1)
def _teacher(shape: tuple[int, ...]) -> Array:
    """Return logits close to the student's."""
    # With this seed no two probabilities in the sampled rows are within a relative 4e-6 of each other: at a
    # kink of the total variation any slope between the two sides is correct.
    noise = np.random.default_rng(9).standard_normal(shape, dtype=np.float32)
    return np.add(logits_of(shape, "float32"), noise, out=noise)


def _arguments(function: str, shape: tuple[int, ...]) -> tuple[Array, ...]:
    if function == "dpo_loss":
        # Sums over some hundred tokens of two similar models.
        rng = np.random.default_rng(0)
        policy = rng.normal(-150.0, 30.0, (2, *shape))
        near = policy + rng.normal(0.0, 5.0, policy.shape)
        return tuple(np.concatenate([policy, near]).astype(np.float32))
    student = logits_of(shape, "float32")
    return student, class_indices(shape) if function == "token_log_probs" else _teacher(shape)


# Float64 takes seconds on the large rows.
@lru_cache(maxsize=2)
def _values(function: str, shape: tuple[int, ...]) -> Array:
    """Return the reference's value of each row."""
    arguments = _arguments(function, shape)
    return np.concatenate(in_blocks(getattr(reference, function), arguments, reduction="none"))


class PostTrainingProblem(Problem):
    """The reference has the value of every row, and the gradients of a sample of rows."""

    def __init__(self, case: Case, is_small: bool = False) -> None:
        super().__init__(case, is_small)
        self.leaves = 2 if case.function == "dpo_loss" else 1
        # The result is an array, that of the others the mean.
        self.is_per_token = case.function == "token_log_probs"
        if self.is_per_token and case.has_gradient:
            self.upstream = np.random.default_rng(3).uniform(0.5, 1.5, self.shape[0]).astype(np.float32)

    @cached_property
    def arguments(self) -> tuple[Array, ...]:
        return _arguments(self.case.function, self.shape)

    @cached_property
    def expected_loss(self) -> float | Array:
        values = _values(self.case.function, self.shape)
        return values if self.is_per_token else float(values.mean())

    @cached_property
    def expected_values(self) -> tuple[Array, ...]:
        sample, rows = sample_of(self.shape[0]), self.shape[0]
        function: Any = getattr(reference, self.case.function)
        arguments = (array[sample] for array in self.arguments)
        _, slopes = function(*arguments, reduction="none", return_grad=True)
        scale = np.asarray(self.upstream)[sample, np.newaxis] if self.is_per_token else 1.0 / rows
        return (self._stacked(slopes) * scale,)

    def sampled(self, values: tuple[Array, ...]) -> tuple[Array, ...]:
        return (self._stacked(tuple(array[sample_of(self.shape[0])] for array in values)),)

    def _stacked(self, gradients: Any) -> Array:
        """Return a gradient, or those of several arguments, with the values of a row on the last axis."""
        parts = gradients if isinstance(gradients, tuple) else (gradients,)
        return np.stack(parts, axis=-1) if len(parts) > 1 else np.asarray(parts[0])


@contender(CROSS_ENTROPY, suite="post-training")
def _cross_entropy(problem: PostTrainingProblem, name: str) -> Contender:
    """Build the mean of cross_entropy and its gradient, for the same logits and classes."""
    case = replace(problem.case, function="cross_entropy")
    return ours(SoftmaxProblem(case, problem.is_small), name)


@contender(STATISTICS, suite="post-training")
def _statistics(problem: PostTrainingProblem, name: str) -> Contender:
    """Build token_statistics with every output, of which the log-probabilities are returned."""
    run = partial(fastloss.token_statistics, *problem.arguments, outputs=TokenStatistics._fields)
    return Contender(name, lambda: run().log_probs, lambda found: problem.check(name, found, None))


SUITE = Suite(
    name="post-training",
    title="log-probabilities, divergences and DPO (several minutes)",
    cases=CASES,
    problem=PostTrainingProblem,
    columns={LIMIT: "memory limit", OURS: OURS, TORCH: "PyTorch"},
)
