"""The elementwise losses beside the memory limit and their peers, taken in turn, as ratios.

    python -m benchmarks.elementwise                          every row, 10 million float32 elements
    python -m benchmarks.elementwise --rows mse huber --size 1000
    python -m benchmarks.elementwise --value                  the loss alone, beside a dot product

The limit is a subtraction of the two arrays into a third by all threads (two reads and a write), or, for the
loss alone, `numpy.dot` of the two. Everyone computes the mean and its gradient; fastloss writes into a buffer
that is kept, as does scikit-learn. How it measures: see `benchmarks.compare`.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import fastloss
from benchmarks.compare import SETTLE, Entry, environment, in_ms, prepared, timed
from benchmarks.contenders import Contender, UnavailableError, shared
from benchmarks.problem import WrongResultError
from fastloss import reference

__all__ = ["CONTENDERS", "ROWS", "Row", "build"]

Array = npt.NDArray[Any]
SIZE = 10_000_000


@dataclass(frozen=True, eq=False)
class Row:
    """A loss, and what it is called elsewhere.

    `at_most` is the ratio to the limit that it has to reach. `sklearn` is the class in scikit-learn's
    `_loss`, and how many of its losses make one of ours.
    """

    name: str
    loss: str
    at_most: float
    target: str = "normal"
    options: dict[str, Any] = field(default_factory=dict)
    torch: str | None = None
    sklearn: tuple[str, float] | None = None
    sklearn_options: dict[str, Any] = field(default_factory=dict)


ROWS = (
    Row("mse", "mse_loss", 1.15, torch="mse_loss", sklearn=("HalfSquaredError", 2.0)),
    Row("l1", "l1_loss", 1.15, torch="l1_loss", sklearn=("AbsoluteError", 1.0)),
    Row("huber", "huber_loss", 1.15, torch="huber_loss"),
    Row("smooth-l1", "smooth_l1_loss", 1.15, torch="smooth_l1_loss"),
    Row(
        "quantile",
        "quantile_loss",
        1.15,
        options={"quantile": 0.3},
        sklearn=("PinballLoss", 1.0),
        sklearn_options={"quantile": 0.3},
    ),
    Row(
        "logits",
        "binary_cross_entropy_with_logits",
        1.6,
        target="unit",
        torch="binary_cross_entropy_with_logits",
        sklearn=("HalfBinomialLoss", 1.0),
    ),
    Row("soft-margin", "soft_margin_loss", 1.6, target="sign", torch="soft_margin_loss"),
    Row("log-cosh", "log_cosh_loss", 1.6),
    Row(
        "poisson",
        "poisson_nll_loss",
        1.6,
        target="counts",
        torch="poisson_nll_loss",
        sklearn=("HalfPoissonLoss", 1.0),
    ),
)
TARGETS: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "unit": lambda rng, n: rng.integers(0, 2, n),
    "sign": lambda rng, n: rng.choice([-1.0, 1.0], n),
    "counts": lambda rng, n: rng.poisson(2.0, n),
}


class Problem:
    """The arrays of a row and the answer of the reference."""

    def __init__(self, row: Row, size: int, value_only: bool) -> None:
        rng = np.random.default_rng(0)
        self.row, self.value_only = row, value_only
        self.input = rng.standard_normal(size, dtype=np.float32)
        self.target = TARGETS[row.target](rng, size).astype(np.float32)
        self.out = np.ones_like(self.input)
        self.loss, self.grad = getattr(reference, row.loss)(
            self.input, self.target, return_grad=True, **row.options
        )

    def check(self, result: Any, factor: float = 1.0, tolerance: float = 1e-4) -> None:
        """A mean and its gradient (or the mean alone), times `factor`."""
        loss, grad = (result, None) if self.value_only else result
        if not abs(loss * factor - self.loss) <= tolerance * max(1.0, abs(self.loss)):
            raise WrongResultError(f"the loss is {loss * factor}, not {self.loss}")
        largest = np.abs(self.grad).max()
        if grad is not None and not np.abs(grad * factor - self.grad).max() <= tolerance * largest:
            raise WrongResultError("a gradient is wrong")


def _limit(problem: Problem) -> Contender:
    if problem.value_only:
        return Contender("limit", partial(np.dot, problem.input, problem.target), lambda _: None)
    call = shared(fastloss.get_num_threads(), np.subtract, problem.input, problem.target, problem.out)
    return Contender("limit", call, lambda _: None)


def _fastloss(problem: Problem) -> Contender:
    function = partial(
        getattr(fastloss, problem.row.loss), problem.input, problem.target, **problem.row.options
    )
    if not problem.value_only:
        function = partial(function, return_grad=True, out=problem.out)
    return Contender("fastloss", function, partial(problem.check, tolerance=1e-6))


def _torch(problem: Problem) -> Contender:
    import torch

    if problem.row.torch is None:
        raise UnavailableError("PyTorch has no such loss")
    torch.set_num_threads(fastloss.get_num_threads())
    function = getattr(torch.nn.functional, problem.row.torch)
    x = torch.from_numpy(problem.input).requires_grad_(not problem.value_only)
    t = torch.from_numpy(problem.target)

    def call() -> Any:
        if problem.value_only:
            return function(x, t, **problem.row.options).item()
        x.grad = None
        loss = function(x, t, **problem.row.options)
        loss.backward()
        assert x.grad is not None
        return loss.item(), x.grad.numpy()

    return Contender("torch", call, problem.check)


def _sklearn(problem: Problem) -> Contender:
    import sklearn._loss as losses

    if problem.row.sklearn is None:
        raise UnavailableError("scikit-learn has no such loss")
    name, factor = problem.row.sklearn
    loss = getattr(losses, name)(**problem.row.sklearn_options)
    size, threads = problem.input.size, fastloss.get_num_threads()
    values = np.empty_like(problem.input)

    def call() -> Any:
        arguments = {"y_true": problem.target, "raw_prediction": problem.input, "n_threads": threads}
        if problem.value_only:
            return float(loss.loss(**arguments, loss_out=values).mean(dtype=np.float64))
        loss.loss_gradient(**arguments, loss_out=values, gradient_out=problem.out)
        return float(values.mean(dtype=np.float64)), problem.out

    def check(result: Any) -> None:
        # Its gradient is that of the sum.
        problem.check(result if problem.value_only else (result[0], result[1] / size), factor)

    return Contender("scikit-learn", call, check)


CONTENDERS: dict[str, Callable[[Problem], Contender]] = {
    "limit": _limit,
    "fastloss": _fastloss,
    "torch": _torch,
    "scikit-learn": _sklearn,
}


def build(name: str, problem: Problem) -> Contender:
    """A contender by name; UnavailableError or ImportError where there is none."""
    return CONTENDERS[name](problem)


def measure(row: Row, options: argparse.Namespace) -> dict[str, Entry]:
    """Time the contenders of a row in turn, each checked before and after."""
    problem = Problem(row, options.size, options.value)
    entries: dict[str, Entry] = {}
    for name in CONTENDERS:
        try:
            entries[name] = prepared(build(name, problem))
        except (UnavailableError, ImportError):
            continue
    for repeat in range(options.repeats):
        for entry in entries.values():
            is_last = repeat == options.repeats - 1
            entry.seconds[repeat] = timed(entry, SETTLE, is_checked=is_last)
    return entries


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.elementwise")
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], metavar="NAME")
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--value", action="store_true", help="the loss alone")
    options = parser.parse_args()
    for what, value in environment().items():
        print(f"{what:14} {value}")
    names = list(CONTENDERS)
    print(f"\n{'milliseconds':14}" + "".join(f"{name:>14}" for name in names) + f"{'over limit':>14}")
    for row in ROWS:
        if options.rows and row.name not in options.rows:
            continue
        entries = measure(row, options)
        cells = [in_ms(entries[name].median) if name in entries else "" for name in names]
        ours, limit = entries["fastloss"].seconds, entries["limit"].seconds
        ratio = statistics.median(ours[i] / limit[i] for i in ours)
        verdict = "" if options.value else f"  (at most {row.at_most:g})"
        print(
            f"{row.name:14}" + "".join(f"{cell:>14}" for cell in cells) + f"{ratio:>14.2f}{verdict}",
            flush=True,
        )


if __name__ == "__main__":
    main()
