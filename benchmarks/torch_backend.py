"""fastloss.torch beside PyTorch, eager and compiled, taken in turn, as ratios.

    python -m benchmarks.torch_backend                       every row (some minutes)
    python -m benchmarks.torch_backend --rows '32k*' memory  some; the memory is a row, too
    python -m benchmarks.torch_backend --only fastloss,torch without what takes long to compile
    python -m benchmarks.torch_backend --small --repeats 2   to try it out

Everyone computes the mean loss and its gradient, forward and backward, in freshly allocated memory if not in
place; the gradient of the call before is dropped within the timed call, as in a training loop.

In the rows `32k...` the logits are no leaf, as behind a layer (a leaf cannot be overwritten), and the layer
takes their gradient. Before each call, for everyone and untimed, the logits are written anew. In the others
they are a leaf, whose gradient starts as None. The row `step` is a step of training of the model in
examples/finetune_torch.py. How it measures: see `benchmarks.runner`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import fastloss
import fastloss.torch as ft
from benchmarks import memory, runner
from benchmarks.cases import OURS, TORCH, Target, at_least, at_most
from benchmarks.contenders import (
    OUR_TOLERANCE,
    PEER_TOLERANCE,
    Contender,
    UnavailableError,
    torch_compiled,
    torch_tensor,
)
from benchmarks.elementwise import unit_of
from benchmarks.elementwise_cases import COMPILED
from benchmarks.problem import BLOCK, class_indices, logits_of, require, sample_of
from benchmarks.runner import FAIL, PASS, UNKNOWN, Result, Verdict
from examples import finetune_torch as example
from fastloss import reference

__all__ = [
    "FLOAT32",
    "IN_PLACE",
    "ROWS",
    "Case",
    "Problem",
    "StepCase",
    "StepProblem",
    "build",
    "main",
    "problem_of",
    "share_in_a_process_of_its_own",
]

Array = npt.NDArray[Any]
LossFunction = Callable[[Tensor, Tensor], Tensor]

IN_PLACE = "fastloss in place"
NO_LOGITS = "fastloss no logits"
COLUMNS = {TORCH: "PyTorch", COMPILED: COMPILED, OURS: OURS, IN_PLACE: "in place", NO_LOGITS: "no logits"}


# --- the rows ---


@dataclass(frozen=True)
class Case:
    """One row: a function, forward and backward.

    `behind_layer` says where the logits come from. `threads` are those of everyone: where nothing is said,
    those of the command. `small` is the shape in a smoke test.
    """

    name: str
    function: str
    shape: tuple[int, int]
    small: tuple[int, int] = (8, 3000)
    dtype: str = "float32"
    contenders: tuple[str, ...] = (TORCH, COMPILED, OURS)
    targets: tuple[Target, ...] = (at_least(1, TORCH),)
    behind_layer: bool = False
    threads: int | None = None
    ceiling: None = None

    @property
    def title(self) -> str:
        threads = "" if self.threads is None else f", {self.threads} thread"
        return f"{self.function} {self.shape} {self.dtype}{threads}"


@dataclass(frozen=True)
class StepCase:
    """A step of training."""

    name: str = "step"
    contenders: tuple[str, ...] = (TORCH, OURS, IN_PLACE, NO_LOGITS)
    targets: tuple[Target, ...] = (at_least(1.5, TORCH),)
    ceiling: None = None

    @property
    def shape(self) -> tuple[int, int]:
        options = step_options(False)
        return options.batch, options.length

    @property
    def small(self) -> tuple[int, int]:
        options = step_options(True)
        return options.batch, options.length

    @property
    def title(self) -> str:
        options = step_options(False)
        return f"a training step, vocabulary {options.vocabulary}, width {options.width}, batch {self.shape}"


def step_options(is_small: bool) -> argparse.Namespace:
    """Those of the example."""
    small = "--vocabulary=500 --width=32 --layers=1 --batch=2 --length=16"
    found: argparse.Namespace = example.make_parser().parse_args(small.split() if is_small else [])
    return found


STEP = StepCase()

_32K: dict[str, Any] = {
    "function": "cross_entropy",
    "shape": (2048, 32000),
    "contenders": (TORCH, COMPILED, OURS, IN_PLACE),
    "behind_layer": True,
}
FLOAT32 = Case(
    name="32k",
    targets=(
        at_least(4, TORCH),
        at_least(2.5, COMPILED),
        at_least(12, TORCH, of=IN_PLACE),
        at_least(8, COMPILED, of=IN_PLACE),
    ),
    **_32K,
)
BFLOAT16 = Case(name="32k-bfloat16", dtype="bfloat16", targets=(at_least(6, TORCH),), **_32K)
# Ten million elements.
_LARGE = (10_000, 1000)
CASES = (
    FLOAT32,
    BFLOAT16,
    Case("small", "cross_entropy", (32, 1000), targets=(at_most(0.6, TORCH),)),
    Case("small-1-thread", "cross_entropy", (32, 1000), targets=(at_most(0.6, TORCH),), threads=1),
    Case("1000-classes", "cross_entropy", (4096, 1000)),
    Case("mse", "mse_loss", _LARGE),
    Case("huber", "huber_loss", _LARGE),
    Case("logits", "binary_cross_entropy_with_logits", _LARGE),
    Case("kl", "kl_div", _LARGE),
)
ROWS: tuple[Case | StepCase, ...] = (*CASES, STEP)


# --- a loss ---


def _pair(function: str, shape: tuple[int, int], dtype: str) -> tuple[Array, Array]:
    """Input and target."""
    x = logits_of(shape, dtype)
    if function == "cross_entropy":
        return x, class_indices(shape)
    rng = np.random.default_rng(2)
    if function == "binary_cross_entropy_with_logits":
        return x, rng.integers(0, 2, shape).astype(x.dtype)
    other = rng.standard_normal(shape, dtype=np.float32)
    if function == "kl_div":
        return fastloss.log_softmax(x), fastloss.softmax(other)
    return x, other


class Problem:
    """Input and target of a row at the size that is run, and its right answer.

    Nobody writes to `input`; `work` is a copy for those that are behind a layer, written anew for each call.
    The reference has every row's loss, and the gradient of a sample of rows.
    """

    def __init__(self, case: Case, is_small: bool = False) -> None:
        self.case, self.shape = case, case.small if is_small else case.shape
        self.input, self.target = _pair(case.function, self.shape, case.dtype)
        self.threads = case.threads or fastloss.get_num_threads()
        # What the sum over elements is divided by.
        per_row = case.function in ("cross_entropy", "kl_div")
        self.count = self.shape[0] if per_row else self.input.size

    @cached_property
    def work(self) -> Array:
        return self.input.copy()

    @cached_property
    def loss(self) -> float:
        of: Any = getattr(reference, self.case.function)
        step = max(1, BLOCK // self.shape[1])
        blocks = (slice(start, start + step) for start in range(0, self.shape[0], step))
        total = sum(of(self.input[rows], self.target[rows], reduction="sum") for rows in blocks)
        return float(total) / self.count

    @cached_property
    def slopes(self) -> Array:
        rows = sample_of(self.shape[0])
        of: Any = getattr(reference, self.case.function)
        _, grad = of(self.input[rows], self.target[rows], reduction="sum", return_grad=True)
        return np.asarray(grad) / self.count

    def check(self, loss: Tensor, grad: Tensor, tolerance: float) -> None:
        """Compare: relative to the loss (or 1, where it is less), and to the largest slope of each row."""
        error = abs(loss.item() - self.loss) / max(1.0, abs(self.loss))
        require(error, tolerance, "the loss")
        got = grad[torch.from_numpy(sample_of(self.shape[0]))].double().numpy()
        largest = np.abs(self.slopes).max(axis=-1, keepdims=True)
        require(np.abs(got - self.slopes) / largest, tolerance, "an element")


class Layer(torch.autograd.Function):
    """What is before a loss: its logits are no leaf, and it takes their gradient."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, logits: Tensor, gradients: list[Tensor]) -> Tensor:
        ctx.gradients = gradients
        return logits.data  # a tensor of its own, on the same memory

    @staticmethod
    def backward(ctx: Any, *upstreams: Tensor) -> Any:
        ctx.gradients.append(upstreams[0])
        return torch.zeros(()), None, None


def behind_layer(
    function: LossFunction, logits: Tensor, target: Tensor, gradients: list[Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Loss and gradient."""
    gradients = [] if gradients is None else gradients
    gradients.clear()
    x = Layer.apply(torch.zeros((), requires_grad=True), logits, gradients)
    loss = function(x, target)
    torch.autograd.backward(loss)
    return loss.detach(), gradients[0]


def of_leaf(function: LossFunction, leaf: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and gradient."""
    leaf.grad = None
    loss = function(leaf, target)
    torch.autograd.backward(loss)
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def function_of(name: str, case: Case) -> LossFunction:
    """The loss as a function of tensors."""
    function: Any = getattr(ft if name.startswith(OURS) else torch.nn.functional, case.function)
    if case.function == "kl_div":
        function = partial(function, reduction="batchmean")
    if name == IN_PLACE:
        function = partial(function, inplace=True)
    return torch_compiled(torch, function) if name == COMPILED else function  # type: ignore[no-any-return]


def tolerance_of(name: str, case: Case) -> float:
    return (OUR_TOLERANCE if name.startswith(OURS) else PEER_TOLERANCE)[case.dtype]


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def loss_contender(name: str, problem: Problem) -> Contender:
    case = problem.case
    function, target = function_of(name, case), torch.from_numpy(problem.target)
    if case.behind_layer:
        gradients: list[Tensor] = []
        logits = torch_tensor(torch, problem.work)
        call = partial(behind_layer, function, logits, target, gradients)
        before = partial(np.copyto, problem.work, problem.input)
    else:
        leaf = torch_tensor(torch, problem.input).detach().requires_grad_()
        call, before = partial(of_leaf, function, leaf, target), None

    def check(result: Any) -> None:
        loss, grad = result
        problem.check(loss, grad, tolerance_of(name, case))

    return Contender(name, call, check, before, partial(torch_threads, problem.threads))


# --- a step of training ---

WAYS = {TORCH: example.TORCH, OURS: example.INSTALLED, IN_PLACE: "inplace", NO_LOGITS: "no logits"}


class StepProblem:
    """The text that models learn from, and how they have done so far.

    Nobody knows what a model learns but the others: all must have the same losses.
    """

    def __init__(self, case: StepCase, is_small: bool = False) -> None:
        self.case, self.shape = case, case.small if is_small else case.shape
        self.options = step_options(is_small)
        self.threads = fastloss.get_num_threads()
        self.curves: dict[str, list[float]] = {}

    @cached_property
    def data(self) -> Any:
        return example.load(self.options)

    def check(self, name: str) -> None:
        """Compare a curve with the others, as far as both go."""
        curve = np.array(self.curves[name])
        for other in self.curves.values():
            steps = min(len(curve), len(other))
            require(np.abs(curve[:steps] - other[:steps]), example.TOLERANCE, "the loss of a step")


def step_contender(name: str, problem: StepProblem) -> Contender:
    way = example.WAYS[WAYS[name]]
    training = example.Training(problem.data, problem.options, way)
    curve = problem.curves[name] = []

    @contextmanager
    def setting() -> Iterator[None]:
        with torch_threads(problem.threads), way.setting():
            yield

    return Contender(
        name, lambda: curve.append(training.step()), lambda _: problem.check(name), None, setting
    )


# --- all of them ---


def problem_of(case: Case | StepCase, is_small: bool) -> Problem | StepProblem:
    return Problem(case, is_small) if isinstance(case, Case) else StepProblem(case, is_small)


def build(name: str, problem: Problem | StepProblem) -> Contender:
    """The contender of that name, ready to run; `UnavailableError` says why there is none."""
    if isinstance(problem, Problem):
        return loss_contender(name, problem)
    if name not in WAYS:
        raise UnavailableError("not for a step")
    return step_contender(name, problem)


def measure(case: Case | StepCase, options: argparse.Namespace) -> Result:
    problem = problem_of(case, options.small)
    names = runner.contenders_of(case, options)
    return runner.measure(case, problem.shape, names, partial(build, problem=problem), options)


# --- memory ---


def forget_peak() -> None:
    """Count the peak of this process anew, where Linux lets one."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def share_beyond_logits(name: str, case: Case, is_small: bool) -> float:
    """The growth of this process by a forward and a backward pass, as a share of the logits.

    The first call of anyone takes memory that has nothing to do with the logits: it comes before, on a small
    shape; where a function is compiled for a shape, on the same.
    """
    function, problem = function_of(name, case), Problem(case, is_small)
    first = problem if name == COMPILED else Problem(case, is_small=True)
    behind_layer(function, torch_tensor(torch, first.work), torch.from_numpy(first.target))
    logits, target = torch_tensor(torch, problem.work), torch.from_numpy(problem.target)
    np.copyto(problem.work, problem.input)
    forget_peak()
    before = memory.peak_bytes()
    loss, grad = behind_layer(function, logits, target)
    share = (memory.peak_bytes() - before) / problem.work.nbytes
    problem.check(loss, grad, tolerance_of(name, case))
    return float(share)


def share_in_a_process_of_its_own(name: str, case: Case, is_small: bool) -> float:
    """The same, in a fresh interpreter with the same import path."""
    command = [sys.executable, "-m", "benchmarks.torch_backend", "--rows", case.name, "--share", name]
    command += ["--small"] if is_small else []
    command += ["--threads", str(fastloss.get_num_threads())]
    root = str(Path(__file__).resolve().parent.parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), root])}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def bounded(text: str, value: float, bound: float, options: argparse.Namespace) -> Verdict:
    """A bound from above; small shapes tell nothing."""
    return Verdict(text, value, None, UNKNOWN if options.small else PASS if value <= bound else FAIL)


def loss_memory(case: Case, options: argparse.Namespace) -> list[Verdict]:
    """The peak of each contender beyond the logits; print all, and judge ours."""
    names = runner.contenders_of(case, options)
    shares = {name: share_in_a_process_of_its_own(name, case, options.small) for name in names}
    print(f"\n{case.title}: peak memory beyond the logits, in their size")
    for name, share in shares.items():
        print(f"  {name:24}{share:9.2f}")
    bounds = {OURS: (1.0, "one gradient"), IN_PLACE: (0.0, "nothing")}
    return [
        bounded(
            f"{name}: {what} beyond the logits, {case.dtype}", shares[name], bound + memory.ALLOWED, options
        )
        for name, (bound, what) in bounds.items()
        if name in shares
    ]


def step_memory(options: argparse.Namespace) -> list[Verdict]:
    """The peak of a process that trains, for each way."""
    names = runner.contenders_of(STEP, options)
    steps = step_options(options.small)
    steps.threads = fastloss.get_num_threads()
    peaks: dict[str, int] = {}
    print(f"\n{STEP.title}: peak memory of the process in three steps, MB")
    for name in names:
        run = example.start(WAYS[name], steps)
        for _ in range(3):
            run.step()
        run.end()
        peaks[name] = run.peak
        print(f"  {name:24}{run.peak / 1e6:9.0f}")
    if TORCH not in peaks or OURS not in peaks:
        return []
    return [bounded(f"{OURS}: less memory than {TORCH} in a step", peaks[OURS] / peaks[TORCH], 1.0, options)]


def memory_verdicts(options: argparse.Namespace) -> list[Verdict]:
    return [*loss_memory(FLOAT32, options), *loss_memory(BFLOAT16, options), *step_memory(options)]


MEMORY = "memory"


# --- the command ---


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = runner.parser("python -m benchmarks.torch_backend", __doc__, repeats=11, others=f", or {MEMORY}")
    parser.add_argument("--small", action="store_true", help="small shapes, to try out the instrument itself")
    # For a process of its own: print the memory that this contender takes of the first of the rows, and stop.
    parser.add_argument("--share", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    runner.require_rows(parser, options, [*(case.name for case in ROWS), MEMORY])
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; 1 where a result was wrong."""
    options = arguments(argv)
    cases = runner.wanted(ROWS, options)
    if options.list:
        runner.list_names(cases)
        return 0
    if options.share is not None:
        torch.set_num_threads(options.threads)
        (row,) = (case for case in CASES if case.name == options.rows[0])
        print(share_beyond_logits(options.share, row, options.small))
        return 0
    machine = runner.start(options)
    results: list[Result] = []
    for case in cases:
        results.append(measure(case, options))
        runner.print_result(results[-1], unit_of(results[-1:]))
    others = memory_verdicts(options) if runner.is_wanted(MEMORY, options.rows) else []
    if others:
        print()
        runner.print_verdicts(others)
    if options.markdown:
        runner.print_markdown(results, COLUMNS)
    if options.json:
        runner.write_json(options.json, results, machine, others)
    return 1 if any(result.wrong for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
