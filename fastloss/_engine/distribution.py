"""Run the likelihoods of distributions with several parameters: checks, and one call of the kernel.

`src/distribution.h` has the formulas. A parameter is an array with the shape of the input, whose gradient is
an array, or a number, whose gradient is the derivative of the reduced loss, a number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine import arguments, results
from fastloss._engine.elementwise import (
    Operand,
    computed_in,
    factors,
    operand,
    outside,
    require_numbers_inside,
)
from fastloss._engine.results import request
from fastloss._engine.types import Array
from fastloss._engine.workspace import empty

__all__ = ["NegativeBinomialNLLGradients", "StudentTNLLGradients", "negative_binomial", "student_t"]


class NegativeBinomialNLLGradients(NamedTuple):
    """The gradients of `negative_binomial_nll_loss`; None for an array not wanted."""

    input: Array | None
    dispersion: Array | float | None


class StudentTNLLGradients(NamedTuple):
    """The gradients of `student_t_nll_loss`; None for an array not wanted."""

    input: Array | None
    scale: Array | float | None
    df: Array | float | None


def _check(x: Array, operands: list[Operand], threads: int) -> None:
    """Raise for the first value outside of its domain, in the order of `x` in memory."""
    require_numbers_inside(operands)
    checked = [one for one in operands if one.array is not None and one.domain]
    if not checked:
        return
    # The kernel takes three arrays.
    first, second = [*checked, Operand("", None, 0.0, _kernels.ANY)][:2]
    domains = (_kernels.ANY, first.domain, second.domain)
    bad, position = _kernels.first_outside((x, first.array, second.array), domains, threads)
    if bad >= 0:
        one = checked[bad - 1]
        assert one.array is not None
        raise outside(one.name, one.array, position, one.domain)


def _run(
    kind: int,
    kinds: type[Any],
    values: npt.ArrayLike,
    target: npt.ArrayLike,
    parameters: dict[str, npt.ArrayLike],
    target_domain: int,
    weight: npt.ArrayLike | None,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    full: Any,
    check_domain: Any,
) -> Any:
    seen = [arguments.as_array("input", values)]
    seen += [arguments.as_array(name, value) for name, value in parameters.items()]
    x = arguments.floating("input", seen[0])
    target = arguments.as_array("target", target)
    weight = arguments.given("weight", weight)
    is_full, checks = arguments.flag("full", full), arguments.flag("check_domain", check_domain)
    domains = (target_domain, *(_kernels.STRICTLY_POSITIVE for _ in parameters))
    given = zip(("target", *parameters), (target, *seen[1:]), domains, strict=True)
    operands = [Operand(name, *operand(name, value, x), domain) for name, value, domain in given]
    own = operands[1:]
    call = request(
        kinds._fields, (x, *(one.array for one in own)), (target, weight), x.shape, reduction, return_grad,
        out, options, given=seen,
    )  # fmt: skip
    weights, upstream = (
        factors("weight", weight, x.shape, x),
        factors("grad_output", call.upstream, x.shape, x),
    )
    if checks:
        _check(x, operands, call.num_threads)
    losses = empty(x.shape, computed_in(x), is_beside=call.return_grad) if call.reduction == "none" else None
    fourth = own[1] if len(own) > 1 else Operand("", None, 1.0, 0)
    last = call.buffers[2] if len(own) > 1 else None
    arrays = (
        x, operands[0].array, own[0].array, weights, upstream, call.buffers[0], call.buffers[1], losses,
        fourth.array, last,
    )  # fmt: skip
    total, denominator, sums = _kernels.distribution(
        kind, arrays, operands[0].value, own[0].value, fourth.value, is_full, call.scale,
        call.reduction == "mean", call.reduction == "sum_and_count",
        call.return_grad and any(one.array is None for one in own),
        sum(adds << k for k, adds in enumerate(call.accumulate)), call.num_threads,
    )  # fmt: skip
    loss: Any = losses
    if losses is None:
        loss = results.reduced(call.reduction, None, total, denominator, x)
    if not return_grad:
        return loss
    gradients = (sums[k] if one.array is None else call.buffers[k + 1] for k, one in enumerate(own))
    return loss, kinds(call.buffers[0], *gradients)


def negative_binomial(
    values: npt.ArrayLike,
    target: npt.ArrayLike,
    dispersion: npt.ArrayLike,
    weight: npt.ArrayLike | None,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    full: Any,
    check_domain: Any,
) -> Any:
    """Run `negative_binomial_nll_loss`."""
    return _run(
        _kernels.NEGATIVE_BINOMIAL, NegativeBinomialNLLGradients, values, target, {"dispersion": dispersion},
        _kernels.NONNEGATIVE, weight, reduction, return_grad, out, options, full=full,
        check_domain=check_domain,
    )  # fmt: skip


def student_t(
    values: npt.ArrayLike,
    target: npt.ArrayLike,
    scale: npt.ArrayLike,
    df: npt.ArrayLike,
    weight: npt.ArrayLike | None,
    reduction: Any,
    return_grad: Any,
    out: Any,
    options: Any,
    *,
    full: Any,
    check_domain: Any,
) -> Any:
    """Run `student_t_nll_loss`."""
    return _run(
        _kernels.STUDENT_T, StudentTNLLGradients, values, target, {"scale": scale, "df": df}, _kernels.ANY,
        weight, reduction, return_grad, out, options, full=full, check_domain=check_domain,
    )  # fmt: skip
