"""fastloss.torch beside PyTorch, eager and compiled.

All contenders compute the mean loss and its gradient, forward and backward, in freshly allocated memory or
in place. They drop the gradient of the previous call within the timed call, as a training loop does.

In the rows `32k...` the logits come from a layer, which takes their gradient: they are not a leaf, as a
leaf cannot be overwritten. They are rewritten before each call, untimed, for all contenders. One contender
has an eighth of the loss, like a micro-batch whose gradient is accumulated. In the other rows the logits are
a leaf, whose gradient starts as None. The row `step` is a training step of the model in
examples/finetune_torch.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np

import fastloss
from fastloss import reference

from ..case import COMPILED, OURS, TORCH, Case, Suite, at_least, at_most
from ..contenders import Contender, UnavailableError, contender, imported
from ..peers import torch_compiled, torch_peer, torch_tensor
from ..problem import Array, Problem, class_indices, in_blocks, logits_of, require, sample_of

__all__ = [
    "BFLOAT16",
    "FLOAT32",
    "IN_PLACE",
    "NO_LOGITS",
    "STEP",
    "SUITE",
    "example",
    "step_options",
    "way_of",
]

IN_PLACE, NO_LOGITS, EIGHTH = "fastloss in place", "fastloss no logits", "fastloss of loss / 8"
# Ten million elements.
LARGE = (10_000, 1000)


def _case(name: str, function: str, shape: tuple[int, int], **others: Any) -> Case:
    """Return a row: a function, forward and backward; "is_behind_layer": the logits come from a layer."""
    attributes: dict[str, Any] = {
        "small": (8, 3000),
        "contenders": (TORCH, COMPILED, OURS),
        "targets": (at_least(1, TORCH),),
        "dtype": "float32",
        **others,
    }
    threads = f", {attributes['threads']} thread" if "threads" in others else ""
    title = f"{function} {shape} {attributes['dtype']}{threads}"
    return Case("torch", name, title, function, shape, **attributes)


_32k = partial(
    _case,
    function="cross_entropy",
    shape=(2048, 32000),
    contenders=(TORCH, COMPILED, OURS, EIGHTH, IN_PLACE),
    details={"is_behind_layer": True},
)
FLOAT32 = _32k(
    "32k",
    targets=(
        at_least(4, TORCH),
        at_least(2.5, COMPILED),
        at_most(1.05, OURS, of=EIGHTH),
        at_least(12, TORCH, of=IN_PLACE),
        at_least(8, COMPILED, of=IN_PLACE),
    ),
)
BFLOAT16 = _32k("32k-bfloat16", dtype="bfloat16", targets=(at_least(6, TORCH),))
# The transformer: the width of its table, and in a smoke test all sizes.
VOCABULARY, WIDTH = 50257, 128
SMALL_MODEL = ["--vocabulary=500", "--width=32", "--layers=1"]
STEP = Case(
    "torch",
    "step",
    f"a training step, vocabulary {VOCABULARY}, width {WIDTH}, batch (8, 128)",
    "cross_entropy",
    shape=(8, 128),
    small=(2, 16),
    contenders=(TORCH, OURS, IN_PLACE, NO_LOGITS),
    targets=(at_least(1.5, TORCH),),
)
CASES = (
    FLOAT32,
    BFLOAT16,
    _case("small", "cross_entropy", (32, 1000), targets=(at_most(0.6, TORCH),)),
    _case("small-1-thread", "cross_entropy", (32, 1000), targets=(at_most(0.6, TORCH),), threads=1),
    _case("1000-classes", "cross_entropy", (4096, 1000)),
    _case("mse", "mse_loss", LARGE),
    _case("huber", "huber_loss", LARGE),
    _case("logits", "binary_cross_entropy_with_logits", LARGE),
    _case("kl", "kl_div", LARGE),
    STEP,
)


# --- a loss ---


class TorchProblem(Problem):
    """The reference has every row's loss, and the gradient of a sample of rows.

    `work` is a copy of the input for rows with a layer, rewritten for each call.
    """

    @property
    def threads(self) -> int:
        return self.case.threads or fastloss.get_num_threads()

    @cached_property
    def arguments(self) -> tuple[Array, Array]:
        """Input and target."""
        x = logits_of(self.shape, self.case.dtype)
        if self.case.function == "cross_entropy":
            return x, class_indices(self.shape)
        rng = np.random.default_rng(2)
        if self.case.function == "binary_cross_entropy_with_logits":
            return x, rng.integers(0, 2, self.shape).astype(x.dtype)
        other = rng.standard_normal(self.shape, dtype=np.float32)
        if self.case.function == "kl_div":
            return fastloss.log_softmax(x), fastloss.softmax(other)
        return x, other

    @cached_property
    def work(self) -> Array:
        return self.arguments[0].copy()

    @property
    def _count(self) -> int:
        """Return the divisor of the sum over elements."""
        is_per_row = self.case.function in ("cross_entropy", "kl_div")
        return self.shape[0] if is_per_row else int(np.prod(self.shape))

    @cached_property
    def expected_loss(self) -> float:
        of: Any = getattr(reference, self.case.function)
        return float(sum(in_blocks(of, self.arguments, reduction="sum"))) / self._count

    @cached_property
    def expected_values(self) -> tuple[Array, ...]:
        of: Any = getattr(reference, self.case.function)
        sample = self.sampled(self.arguments)
        return (np.asarray(of(*sample, reduction="sum", return_grad=True)[1]) / self._count,)

    def sampled(self, values: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(array[sample_of(self.shape[0])] for array in values)

    def tolerance(self, name: str) -> tuple[float, float]:
        # The loss also has the type of the logits.
        _, of_values = super().tolerance(name)
        return of_values, of_values


@lru_cache
def _layer() -> Any:
    torch = imported("torch")

    class Layer(torch.autograd.Function):  # type: ignore[misc, name-defined]
        """A layer before a loss: its logits are not a leaf, and it takes their gradient."""

        @staticmethod
        def forward(ctx: Any, parameter: Any, logits: Any, gradients: list[Any]) -> Any:
            ctx.gradients = gradients
            return logits.data  # a separate tensor on the same memory

        @staticmethod
        def backward(ctx: Any, *upstreams: Any) -> Any:
            ctx.gradients.append(upstreams[0])
            return torch.zeros(()), None, None

    return Layer


def _behind_layer(
    function: Callable[..., Any], logits: Any, target: Any, gradients: list[Any]
) -> tuple[Any, Any]:
    """Return loss and gradient."""
    torch = imported("torch")
    gradients.clear()
    x = _layer().apply(torch.zeros((), requires_grad=True), logits, gradients)
    loss = function(x, target)
    torch.autograd.backward(loss)
    return loss.detach(), gradients[0]


def _function(name: str, case: Case) -> Any:
    """Return the loss as a function of tensors."""
    torch = imported("torch")
    module = imported("fastloss.torch") if name.startswith(OURS) else torch.nn.functional
    function = getattr(module, case.function)
    if case.function == "kl_div":
        function = partial(function, reduction="batchmean")
    if name == IN_PLACE:
        function = partial(function, inplace=True)
    return _eighth(function) if name == EIGHTH else function


def _eighth(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *tensors: function(*tensors) / 8


@contextmanager
def _torch_threads(number: int) -> Iterator[None]:
    torch = imported("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _loss(problem: TorchProblem, name: str) -> Contender:
    torch = imported("torch")
    function, setting = _function(name, problem.case), partial(_torch_threads, problem.threads)
    if not problem.case.details.get("is_behind_layer"):
        return replace(torch_peer(problem, name, function), setting=setting)
    if name == COMPILED:
        function = torch_compiled(torch, function)
    logits, target = torch_tensor(torch, problem.work), torch_tensor(torch, problem.arguments[1])

    def check(result: Any) -> None:
        loss, grad = result
        scale = 8.0 if name == EIGHTH else 1.0
        problem.check(name, scale * loss.item(), grad.float().numpy(), scale)

    call = partial(_behind_layer, function, logits, target, [])
    before = partial(np.copyto, problem.work, problem.arguments[0])
    return Contender(name, call, check, before, setting)


# --- a training step ---

# The names of the example.
WAYS = {TORCH: "torch", OURS: "install()", IN_PLACE: "inplace", NO_LOGITS: "no logits"}


def example() -> Any:
    """Return the example that trains a transformer."""
    return imported("fastloss._examples.finetune_torch")


def step_options(shape: tuple[int, ...], is_small: bool) -> argparse.Namespace:
    """Return the options of the example."""
    model = SMALL_MODEL if is_small else [f"--vocabulary={VOCABULARY}", f"--width={WIDTH}"]
    batch, length = shape
    found: argparse.Namespace = (
        example().make_parser().parse_args([*model, f"--batch={batch}", f"--length={length}"])
    )
    return found


class StepProblem(TorchProblem):
    """The text of the models, and their curves so far.

    The expected losses are those of the other contenders: all must be equal.
    """

    def __init__(self, case: Case, is_small: bool = False) -> None:
        super().__init__(case, is_small)
        self.options = step_options(self.shape, is_small)
        self.curves: dict[str, list[float]] = {}

    @cached_property
    def data(self) -> Any:
        return example().load(self.options)

    def check_curve(self, name: str) -> None:
        """Compare a curve with the others, over their common steps."""
        curve = np.array(self.curves[name])
        for other in self.curves.values():
            steps = min(len(curve), len(other))
            require(np.abs(curve[:steps] - other[:steps]), example().TOLERANCE, "the loss of a step")


def way_of(name: str) -> str:
    """Return the example's name of a contender."""
    if name not in WAYS:
        raise UnavailableError("not for a step")
    return WAYS[name]


def _step(problem: StepProblem, name: str) -> Contender:
    way = example().WAYS[way_of(name)]
    training = example().Training(problem.data, problem.options, way)
    curve = problem.curves[name] = []

    @contextmanager
    def setting() -> Iterator[None]:
        with _torch_threads(problem.threads), way.setting():
            yield

    return Contender(
        name, lambda: curve.append(training.step()), lambda _: problem.check_curve(name), None, setting
    )


@contender(TORCH, COMPILED, OURS, EIGHTH, IN_PLACE, NO_LOGITS, suite="torch")
def _build(problem: TorchProblem, name: str) -> Contender:
    return _step(problem, name) if isinstance(problem, StepProblem) else _loss(problem, name)


def _problem(case: Case, is_small: bool) -> TorchProblem:
    return (StepProblem if case.name == STEP.name else TorchProblem)(case, is_small)


SUITE = Suite(
    name="torch",
    title="fastloss.torch beside PyTorch, forward and backward, and a training step (some minutes)",
    cases=CASES,
    problem=_problem,
    columns={
        TORCH: "PyTorch",
        COMPILED: COMPILED,
        OURS: OURS,
        EIGHTH: "loss / 8",
        IN_PLACE: "in place",
        NO_LOGITS: "no logits",
    },
)
