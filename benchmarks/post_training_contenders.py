"""What is timed of the post-training losses: the memory limit, fastloss and PyTorch, each checked.

The limit of reading is that of the loss alone in `benchmarks.contenders`, that of two arrays and a gradient
the subtraction in `benchmarks.elementwise_contenders`. PyTorch computes as its users write it: the
divergences from two log-softmax, the generalised Jensen-Shannon divergence as TRL does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import fastloss
from benchmarks import contenders
from benchmarks.cases import LIMIT, OURS, TORCH
from benchmarks.contenders import (
    OUR_TOLERANCE,
    PEER_TOLERANCE,
    Contender,
    UnavailableError,
    imported,
    reading,
    torch_compiled,
    torch_tensor,
)
from benchmarks.elementwise_cases import COMPILED
from benchmarks.elementwise_contenders import subtraction
from benchmarks.post_training_cases import CROSS_ENTROPY, Problem

__all__ = ["build"]

# As of dpo_loss, and the teacher's share of js_div_with_logits.
DPO_BETA = 0.1
JS_BETA = 0.5


def _limit(problem: Problem, name: str) -> Contender:
    if problem.case.limit == "read":
        return reading(name, problem.threads, problem.arguments[0])
    if problem.case.limit == "subtract":
        return subtraction(name, problem.threads, *problem.arguments, problem.out)
    raise UnavailableError("memory is no limit to this row")


# --- fastloss ---


def _fastloss(problem: Problem, name: str) -> Contender:
    """Ours, through the public function; the gradient of logits into a buffer that is kept."""
    case = problem.case
    options: dict[str, Any] = {}
    if not case.is_value:
        options["return_grad"] = True
        if not case.is_short:
            options["out"] = problem.out
        if case.is_per_token:
            options["grad_output"] = problem.upstream

    def check(result: Any) -> None:
        value, gradients = (result, ()) if case.is_value else result
        problem.check(value, gradients, OUR_TOLERANCE["float32"])

    return Contender(name, partial(getattr(fastloss, case.function), *problem.arguments, **options), check)


def _cross_entropy(problem: Problem, name: str) -> Contender:
    """Of the same logits and classes, the mean and its gradient."""
    call = partial(fastloss.cross_entropy, *problem.arguments, return_grad=True, out=problem.out)

    def check(result: Any) -> None:
        loss, grad = result
        problem.check(loss, grad, OUR_TOLERANCE["float32"], is_negative_mean=True)

    return Contender(name, call, check)


# --- PyTorch ---


def _torch_function(torch: Any, problem: Problem) -> Callable[..., Any]:
    """The loss as a function of tensors."""
    functional = torch.nn.functional
    log_softmax, kl_div = partial(torch.log_softmax, dim=-1), partial(functional.kl_div, log_target=True)

    def token_log_probs(logits: Any, target: Any) -> Any:
        return log_softmax(logits).gather(-1, target.unsqueeze(-1)).squeeze(-1)

    def kl(student: Any, teacher: Any) -> Any:
        return kl_div(log_softmax(student), log_softmax(teacher), reduction="batchmean")

    def js(student: Any, teacher: Any) -> Any:
        log_q, log_p = log_softmax(student), log_softmax(teacher)
        shares = [log_q + math.log(1.0 - JS_BETA), log_p + math.log(JS_BETA)]
        log_m = torch.logsumexp(torch.stack(shares), dim=0)
        of_p, of_q = (kl_div(log_m, log_of, reduction="none") for log_of in (log_p, log_q))
        return (JS_BETA * of_p + (1.0 - JS_BETA) * of_q).sum() / len(student)

    def tv(student: Any, teacher: Any) -> Any:
        difference = torch.softmax(student, -1) - torch.softmax(teacher, -1)
        return 0.5 * difference.abs().sum(-1).mean()

    def dpo(chosen: Any, rejected: Any, ref_chosen: Any, ref_rejected: Any) -> Any:
        difference = (chosen - rejected) - (ref_chosen - ref_rejected)
        return -functional.logsigmoid(DPO_BETA * difference).mean()

    functions: dict[str, Callable[..., Any]] = {
        "token_log_probs": token_log_probs,
        "kl_div_with_logits": kl,
        "js_div_with_logits": js,
        "tv_distance_with_logits": tv,
        "dpo_loss": dpo,
    }
    return functions[problem.case.function]


def _torch(problem: Problem, name: str) -> Contender:
    """Forward and backward to leaves whose gradients start as None; or the forward alone, without a graph."""
    torch = imported("torch")
    case = problem.case
    torch.set_num_threads(problem.threads)
    function = _torch_function(torch, problem)
    if name == COMPILED:
        function = torch_compiled(torch, function)
    tensors = [torch_tensor(torch, array) for array in problem.arguments]
    # Of the policy's two log-probabilities, or of the student.
    leaves = tensors[:2] if case.function == "dpo_loss" else tensors[:1]
    upstream = torch_tensor(torch, problem.upstream) if case.is_per_token else None

    def forward() -> Any:
        with torch.no_grad():
            return function(*tensors)

    def forward_and_backward() -> Any:
        for leaf in leaves:
            leaf.grad = None
        value = function(*tensors)
        value.backward(upstream)
        return value.detach()

    def check(value: Any) -> None:
        gradients = () if case.is_value else tuple(leaf.grad.numpy() for leaf in leaves)
        problem.check(value.double().numpy(), gradients, PEER_TOLERANCE["float32"])

    for leaf in leaves:
        leaf.requires_grad_(not case.is_value)
    return Contender(name, forward if case.is_value else forward_and_backward, check)


# --- all of them ---

BUILDERS: dict[str, Callable[[Problem, str], Contender]] = {
    LIMIT: _limit,
    OURS: _fastloss,
    CROSS_ENTROPY: _cross_entropy,
    TORCH: _torch,
    COMPILED: _torch,
}


def build(name: str, problem: Problem) -> Contender:
    """The contender of that name, ready to run; `UnavailableError` says why there is none."""
    return contenders.build(name, problem, BUILDERS)
