"""What is timed of linear_cross_entropy: the bare products, fastloss and PyTorch, each checked.

The limit is the three matrix products as NumPy runs them, into buffers that are kept (of the value alone, the
first of them). In chunks, each overwrites the weight's gradient of the one before: to add is not in it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import fastloss
from benchmarks import contenders
from benchmarks.cases import LIMIT, OURS, TORCH
from benchmarks.contenders import (
    OUR_TOLERANCE,
    PEER_TOLERANCE,
    Contender,
    UnavailableError,
    imported,
    require_equal,
    torch_compiled,
    torch_tensor,
)
from benchmarks.linear_cases import AGREEMENT, CHUNKED, FILTERED, STEPS, Problem

__all__ = ["build"]

Array = npt.NDArray[Any]

COMPILED = "torch.compile"
TOLERANCE = OUR_TOLERANCE | {"float32": AGREEMENT}


def _limit(problem: Problem, name: str) -> Contender:
    x, w, z = problem.x, problem.w, problem.logits
    gx, gw, _ = problem.out

    def call() -> None:
        for chunk in problem.chunks():
            np.matmul(x[chunk], w.T, out=z)
            if not problem.case.is_value:
                np.matmul(z, w, out=gx[chunk])
                np.matmul(z.T, x[chunk], out=gw)

    def check(_: Any) -> None:
        """One row of each product, of the last chunk."""
        pairs = [(z[-1], w @ x[-1])]
        if not problem.case.is_value:
            pairs += [(gx[-1], z[-1] @ w), (gw[-1], z[:, -1] @ x[-len(z) :])]
        for got, right in pairs:
            require_equal(np.allclose(got, right, rtol=0.0, atol=1e-3 * np.abs(right).max()), True)

    return Contender(name, call, check)


def _fastloss(problem: Problem, name: str, tolerance: float | None = None, **options: Any) -> Contender:
    """Ours, through the public function; the gradients into buffers that are kept."""
    case = problem.case
    if problem.bias is not None:
        options["linear_bias"] = problem.bias
    if not case.is_value:
        options |= {"return_grad": True, "out": problem.out}

    def check(result: Any) -> None:
        loss, gradients = (result, ()) if case.is_value else result
        # The loss is a Python float, whatever the type of the input.
        problem.check(name, loss, gradients, tolerance or TOLERANCE[case.dtype], AGREEMENT)

    call = partial(fastloss.linear_cross_entropy, problem.x, problem.w, problem.target, **options)
    return Contender(name, call, check)


def _filtered(problem: Problem, name: str) -> Contender:
    case = problem.case
    return _fastloss(problem, name, case.filter_tolerance, filter_eps=case.filter_eps)


def _in_steps(problem: Problem, name: str) -> Contender:
    """The limit's products with cross_entropy, in place, after the first: all logits at once."""
    x, w, z = problem.x, problem.w, problem.logits
    gx, gw, _ = problem.out

    def call() -> float:
        np.matmul(x, w.T, out=z)
        loss, _ = fastloss.cross_entropy(z, problem.target, return_grad=True, out=z)
        np.matmul(z, w, out=gx)
        np.matmul(z.T, x, out=gw)
        return float(loss)

    return Contender(name, call, lambda loss: problem.check(name, loss, (gx, gw, None), AGREEMENT, AGREEMENT))


def _torch(problem: Problem, name: str) -> Contender:
    """Forward and backward to leaves whose gradients start as None; or the forward alone."""
    torch = imported("torch")
    case = problem.case
    torch.set_num_threads(problem.threads)
    try:
        function = torch.nn.functional.linear_cross_entropy
        options = torch.nn.LinearCrossEntropyOptions() if name == CHUNKED else None
    except AttributeError as error:
        raise UnavailableError(f"this PyTorch has none: {error}") from error
    if name == COMPILED:
        function = torch_compiled(torch, function)
    x, w = (torch_tensor(torch, a).detach().requires_grad_(not case.is_value) for a in (problem.x, problem.w))
    target = torch_tensor(torch, problem.target)

    def call() -> Any:
        x.grad = w.grad = None
        loss = function(x, w, target, options=options)
        if not case.is_value:
            loss.backward()
        return loss.detach()

    def check(loss: Any) -> None:
        gradients = () if case.is_value else (x.grad.float().numpy(), w.grad.float().numpy(), None)
        problem.check(name, float(loss), gradients, *[PEER_TOLERANCE[case.dtype]] * 2)

    return Contender(name, call, check)


BUILDERS: dict[str, Callable[[Problem, str], Contender]] = {
    LIMIT: _limit,
    OURS: _fastloss,
    STEPS: _in_steps,
    FILTERED: _filtered,
    TORCH: _torch,
    CHUNKED: _torch,
    COMPILED: _torch,
}


def build(name: str, problem: Problem) -> Contender:
    """The contender of that name, ready to run; `UnavailableError` says why there is none."""
    return contenders.build(name, problem, BUILDERS)
