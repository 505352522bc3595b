"""The rows of the post-training benchmarks: their arrays, right answers, and the ratios to reach."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import fastloss
from benchmarks.cases import LIMIT, OURS, TORCH, Target, at_least, at_most
from benchmarks.elementwise_cases import SERIAL
from benchmarks.problem import BLOCK, class_indices, logits_of, require, sample_of
from fastloss import reference

__all__ = ["CASES", "CROSS_ENTROPY", "Case", "Problem"]

Array = npt.NDArray[Any]

CROSS_ENTROPY = "fastloss cross_entropy"


@dataclass(frozen=True)
class Case:
    """One row: a function's value and gradient, or its value alone, in float32.

    `limit` is what memory has to do at least: read the logits, or subtract the two arrays into a third.
    `small` is the shape in a smoke test. `ceiling` bounds our time in seconds.
    """

    name: str
    function: Literal[
        "token_log_probs", "kl_div_with_logits", "js_div_with_logits", "tv_distance_with_logits", "dpo_loss"
    ]
    shape: tuple[int, ...] = (2048, 32000)
    small: tuple[int, ...] = (8, 3000)
    limit: Literal["read", "subtract"] | None = "subtract"
    contenders: tuple[str, ...] = (LIMIT, OURS, TORCH)
    targets: tuple[Target, ...] = ()
    is_value: bool = False
    ceiling: float | None = None

    @property
    def title(self) -> str:
        what = "value" if self.is_value else "value and gradient"
        return f"{self.function} {self.shape}, {what}"

    @property
    def is_per_token(self) -> bool:
        """Whether the result is an array, where the others take the mean."""
        return self.function == "token_log_probs"

    @property
    def is_short(self) -> bool:
        """Whether the cost of a call counts: gradients are new arrays."""
        return self.function == "dpo_loss"


CASES = (
    Case(
        name="token-log-probs",
        function="token_log_probs",
        limit="read",
        targets=(at_most(2.2, LIMIT), at_least(5, TORCH)),
        is_value=True,
    ),
    Case(
        name="token-log-probs-gradient",
        function="token_log_probs",
        limit=None,
        contenders=(OURS, CROSS_ENTROPY, TORCH),
        targets=(at_most(1.25, CROSS_ENTROPY),),
    ),
    Case("kl", "kl_div_with_logits", targets=(at_most(1.6, LIMIT), at_least(8, TORCH))),
    Case("kl-value", "kl_div_with_logits", limit=None, contenders=(OURS, TORCH), is_value=True),
    Case("js", "js_div_with_logits", targets=(at_most(2.2, LIMIT), at_least(8, TORCH))),
    Case("tv", "tv_distance_with_logits"),
    Case(
        name="dpo",
        function="dpo_loss",
        shape=(1000,),
        small=(1000,),
        limit=None,
        contenders=(OURS, TORCH),
        targets=(at_least(10, TORCH),),
        ceiling=20e-6,
    ),
)


# The last, for rows that follow each other.
@lru_cache(maxsize=1)
def _teacher(shape: tuple[int, ...]) -> Array:
    """Logits not far from the student's."""
    # Of this seed no two probabilities in the sampled rows are within 4e-6 of each other, relatively: at a
    # kink of the total variation any slope between the two sides is right.
    noise = np.random.default_rng(9).standard_normal(shape, dtype=np.float32)
    return np.add(logits_of(shape, "float32"), noise, out=noise)


def _arguments(function: str, shape: tuple[int, ...]) -> tuple[Array, ...]:
    if function == "dpo_loss":
        # Sums over some hundred tokens, of two models that are not far from each other.
        rng = np.random.default_rng(0)
        policy = rng.normal(-150.0, 30.0, (2, *shape))
        near = policy + rng.normal(0.0, 5.0, policy.shape)
        return tuple(np.concatenate([policy, near]).astype(np.float32))
    student = logits_of(shape, "float32")
    return student, class_indices(shape) if function == "token_log_probs" else _teacher(shape)


# Float64 takes seconds on the large rows.
@lru_cache(maxsize=2)
def _values(function: str, shape: tuple[int, ...]) -> Array:
    """The reference's value of each row, a block of rows at a time."""
    arguments = _arguments(function, shape)
    step = max(1, BLOCK * shape[0] // arguments[0].size)
    blocks = (slice(start, start + step) for start in range(0, shape[0], step))
    of: Any = getattr(reference, function)
    return np.concatenate([of(*(a[rows] for a in arguments), reduction="none") for rows in blocks])


def _stacked(gradients: Any) -> Array:
    """A gradient, or those by several arguments, with what belongs to one row on the last axis."""
    parts = gradients if isinstance(gradients, tuple) else (gradients,)
    return np.stack(parts, axis=-1) if len(parts) > 1 else np.asarray(parts[0])


class Problem:
    """The arrays of a row at the size that is run, and its right answer.

    `threads` are those of everyone who can be told. Nobody writes to `arguments`; `out` is the buffer of
    those that write a gradient into one. The reference has the value of every row, and the gradients of a
    sample of rows.
    """

    def __init__(self, case: Case, is_small: bool = False) -> None:
        self.case, self.shape = case, case.small if is_small else case.shape
        self.arguments = _arguments(case.function, self.shape)
        self.rows = self.shape[0]
        # For little to do one, as in the elementwise benchmarks: PyTorch's second costs more than it saves.
        self.threads = fastloss.get_num_threads() if self.arguments[0].size >= SERIAL else 1

    @cached_property
    def out(self) -> Array:
        """Written to once, so that nobody pays for its page faults."""
        return np.ones_like(self.arguments[0])

    @cached_property
    def upstream(self) -> Array:
        """The gradient by each token's log-probability."""
        return np.random.default_rng(3).uniform(0.5, 1.5, self.rows).astype(np.float32)

    @cached_property
    def slopes(self) -> Array:
        """The gradient of each sampled row's value."""
        sample = sample_of(self.rows)
        function: Any = getattr(reference, self.case.function)
        arguments = (array[sample] for array in self.arguments)
        return _stacked(function(*arguments, reduction="none", return_grad=True)[1])

    def check(
        self, value: float | Array, gradients: Any, tolerance: float, *, is_negative_mean: bool = False
    ) -> None:
        """Compare with the reference: the value or values, and the gradient of the sampled rows.

        Errors are relative: to the value (or 1, where it is less), to the largest slope of each row.
        `is_negative_mean` is for the contender that gives the mean of the values, and negated.
        """
        case = self.case
        expected, scale = _values(case.function, self.shape), self.upstream[:, np.newaxis].astype(np.float64)
        if is_negative_mean or not case.is_per_token:
            sign = -1.0 if is_negative_mean else 1.0
            expected, scale = sign * expected.mean(), np.full_like(scale, sign / self.rows)
        error = np.abs(value - expected) / np.maximum(1.0, np.abs(expected))
        require(error, tolerance, "the value")
        if not case.is_value:
            sample = sample_of(self.rows)
            right = scale[sample] * self.slopes
            error = np.abs(_stacked(gradients)[sample] - right) / np.abs(right).max(axis=-1, keepdims=True)
            require(error, tolerance, "an element")
