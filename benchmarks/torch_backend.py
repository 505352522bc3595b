"""fastloss.torch beside torch's own functions, eager and compiled: forward and backward, as ratios.

    python -m benchmarks.torch_backend                          every row (several minutes)
    python -m benchmarks.torch_backend --rows 'cross*' step     some
    python -m benchmarks.torch_backend --small --repeats 2      to try it out
    python -m benchmarks.torch_backend --memory                 the peak memory of cross-entropy instead

Each contender is given logits that are a leaf, computes its loss, and calls `backward`; the gradient goes to
the leaf. In place the logits are a tensor of their own over the memory of the leaf, which is filled anew
before each call, outside of the time. The row `step` is a whole training step of the transformer of
``examples/finetune_torch.py``. How it measures: see `benchmarks.runner`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import fastloss
from benchmarks import runner
from benchmarks.cases import OURS, TORCH, Target, at_least
from benchmarks.contenders import Contender, imported
from benchmarks.memory import peak_bytes
from benchmarks.problem import WrongResultError
from benchmarks.runner import Result

__all__ = ["CASES", "Case", "build", "main"]

COMPILED, IN_PLACE = "torch.compile", "in place"
COLUMNS = {TORCH: "PyTorch", COMPILED: "torch.compile", OURS: OURS, IN_PLACE: IN_PLACE}
# Relative to the largest gradient; and of the loss, which has the type of the logits.
TOLERANCE = {"float32": 2e-6, "bfloat16": 2e-2}
ALLOWED = {OURS: 1.05, IN_PLACE: 0.05}


@dataclass(frozen=True)
class Case:
    """A row: a function of torch.nn.functional, and what it is given."""

    name: str
    function: str
    shape: tuple[int, ...]
    small: tuple[int, ...]
    dtype: str = "float32"
    targets: tuple[Target, ...] = (at_least(1, TORCH),)
    has_in_place: bool = False
    ceiling: float | None = None

    @property
    def title(self) -> str:
        return f"{self.function}, {self.shape} {self.dtype}, forward and backward"

    @property
    def contenders(self) -> tuple[str, ...]:
        if self.name == "step":
            return (TORCH, OURS)
        return (TORCH, COMPILED, OURS, *((IN_PLACE,) if self.has_in_place else ()))


WELL_AHEAD = (
    at_least(4, TORCH),
    at_least(2.5, COMPILED),
    at_least(12, TORCH, of=IN_PLACE),
    at_least(8, COMPILED, of=IN_PLACE),
)
CE = "cross_entropy"
CASES = (
    Case("cross-entropy", CE, (2048, 32000), (64, 1000), targets=WELL_AHEAD, has_in_place=True),
    Case("cross-entropy-bfloat16", CE, (2048, 32000), (64, 1000), "bfloat16", (at_least(6, TORCH),), True),
    Case("cross-entropy-4096", CE, (4096, 1000), (64, 1000)),
    Case("cross-entropy-32", CE, (32, 1000), (32, 1000), targets=(at_least(1 / 0.6, TORCH),)),
    Case("mse", "mse_loss", (10_000_000,), (1000,), targets=(at_least(3, TORCH),)),
    Case("huber", "huber_loss", (10_000_000,), (1000,), targets=(at_least(3, TORCH),)),
    Case("bce", "binary_cross_entropy_with_logits", (10_000_000,), (1000,), targets=(at_least(3, TORCH),)),
    Case("kl", "kl_div", (2048, 32000), (64, 1000), targets=(at_least(2, TORCH),)),
    Case("step", "training step", (1024, 50257), (64, 1000), targets=(at_least(1.5, TORCH),)),
)  # fmt: skip


# --- the contenders ---


def inputs_of(torch: Any, case: Case, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Logits (or whatever the function takes) and target."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).mul_(2.0)
    if case.function == CE:
        return x.to(getattr(torch, case.dtype)), torch.randint(shape[1], shape[:1], generator=generator)
    if case.function == "kl_div":
        return x.log_softmax(1), torch.randn(shape, generator=generator).softmax(1)
    target = torch.randn(shape, generator=generator)
    return x, target.sigmoid() if case.function.startswith("binary") else target


def require_near(torch: Any, found: Any, expected: Any, dtype: str) -> None:
    """Check loss and gradient against those of the same function in float64."""
    for name, one, exact in zip(("loss", "gradient"), found, expected, strict=True):
        # In float64 by pieces: whole, it would be the largest array of all.
        pieces = zip(one.flatten().split(2**22), exact.flatten().split(2**22), strict=True)
        error = max(float((a.double() - b).abs().max()) for a, b in pieces)
        if not error <= TOLERANCE[dtype] * float(exact.abs().max()):
            raise WrongResultError(f"the {name} is off by {error:.2g}")


def function_of(torch: Any, case: Case, name: str) -> Callable[[Any, Any], Any]:
    if name in (OURS, IN_PLACE):
        function = getattr(imported("fastloss.torch"), case.function)
        return partial(function, inplace=True) if name == IN_PLACE else function
    own = getattr(torch.nn.functional, case.function)
    return torch.compile(own, dynamic=False) if name == COMPILED else own


def loss_of(case: Case, name: str, shape: tuple[int, ...]) -> Contender:
    torch = imported("torch")
    torch.set_num_threads(fastloss.get_num_threads())
    given, target = inputs_of(torch, case, shape)
    exact = given.double().requires_grad_()
    wide = target if case.function == CE else target.double()
    exact_loss = getattr(torch.nn.functional, case.function)(exact, wide, reduction="sum")
    exact_loss.backward()
    count = shape[0] if case.function == CE else given.numel()
    expected = (exact_loss.detach() / count, exact.grad / count)
    leaf, function = given.clone().requires_grad_(), function_of(torch, case, name)

    class Logits(torch.autograd.Function):  # type: ignore[misc]
        """A tensor of its own over the same memory."""

        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x.detach()

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            return gradient

    def call() -> tuple[Any, Any]:
        leaf.grad = None
        loss = function(Logits.apply(leaf) if name == IN_PLACE else leaf, target)
        loss.backward()
        return loss.detach(), leaf.grad

    def refill() -> None:
        leaf.grad = None
        leaf.data.copy_(given)

    def check(found: Any) -> None:
        require_near(torch, found, expected, case.dtype)

    return Contender(name, call, check, before=refill if name == IN_PLACE else None)


def step_of(case: Case, name: str, is_small: bool) -> Contender:
    """A training step, by the functions of torch or by ours in their place."""
    torch = imported("torch")
    torch.set_num_threads(fastloss.get_num_threads())
    example = imported("fastloss._examples.finetune_torch")
    vocabulary, width, batch, length = (2000, 32, 2, 32) if is_small else (50257, 128, 8, 128)
    torch.manual_seed(0)
    model = example.Transformer(vocabulary, length, width, 2)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    words = torch.randint(vocabulary, (batch, length + 1))

    def call() -> Any:
        loss = example.loss_of_logits(model, words[:, :-1], words[:, 1:].flatten())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        return loss.detach()

    def check(loss: Any) -> None:
        if not bool(torch.isfinite(loss)):
            raise WrongResultError("the loss is not finite")

    def setting() -> AbstractContextManager[object]:
        installed: AbstractContextManager[object] = imported("fastloss.torch").install()
        return installed

    return Contender(name, call, check, setting=setting if name == OURS else nullcontext)


def build(name: str, case: Case, is_small: bool) -> Contender:
    if case.name == "step":
        return step_of(case, name, is_small)
    return loss_of(case, name, case.small if is_small else case.shape)


# --- memory ---


def share_beyond_logits(case: Case, name: str, shape: tuple[int, ...]) -> float:
    """The growth of this process in one call, as a share of the logits."""
    torch = imported("torch")
    build(name, case, True).call()
    given, target = inputs_of(torch, case, shape)
    function = function_of(torch, case, name)
    leaf = torch.zeros((), requires_grad=True)
    # In place the logits must not be a leaf; adding nothing takes no memory.
    logits = given.add_(leaf) if name == IN_PLACE else given.requires_grad_()
    before = peak_bytes()
    function(logits, target).backward()
    return (peak_bytes() - before) / (logits.numel() * logits.element_size())


def print_memory(case: Case, is_small: bool) -> int:
    """Print the shares of all contenders, each in a process of its own; 1 where ours takes too much."""
    failed = False
    for name in (TORCH, OURS, IN_PLACE):
        command = [sys.executable, "-m", "benchmarks.torch_backend", "--memory", "--only", name]
        command += ["--small"] if is_small else []
        share = float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        too_much = not is_small and share > ALLOWED.get(name, share)
        failed |= too_much
        print(f"{name:14}{share:6.2f} x the logits beyond them{'   FAIL' if too_much else ''}")
    return int(failed)


# --- the command ---


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = runner.parser("python -m benchmarks.torch_backend", __doc__, repeats=11)
    parser.add_argument("--small", action="store_true", help="small shapes, to try out the instrument itself")
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    options = parser.parse_args(argv)
    runner.require_rows(parser, options, [case.name for case in CASES])
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; 1 where a result was wrong."""
    options = arguments(argv)
    cases = runner.wanted(CASES, options)
    if options.list:
        runner.list_names(cases)
        return 0
    if options.memory:
        case = CASES[0]
        if options.only:
            print(share_beyond_logits(case, options.only, case.small if options.small else case.shape))
            return 0
        return print_memory(case, options.small)
    machine = runner.start(options)
    results: list[Result] = []
    for case in cases:
        names = runner.contenders_of(case, options)
        make = partial(build, case=case, is_small=options.small)
        shape = case.small if options.small else case.shape
        results.append(runner.measure(case, shape, names, make, options))
        runner.print_result(results[-1])
    if options.markdown:
        runner.print_markdown(results, COLUMNS)
    if options.json:
        runner.write_json(options.json, results, machine)
    return 1 if any(result.wrong for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
