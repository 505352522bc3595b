"""TRL's divergence of two models, which `install` replaces."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

import fastloss
from fastloss._engine.workspace import empty_like
from fastloss.torch._bridge import (
    FLOATING,
    are_plain,
    as_array,
    as_tensor,
    for_product,
    is_undisturbed,
    with_torchs_products,
)
from fastloss.torch._foreign import Foreign
from fastloss.torch._functional import leave_to_torch

__all__ = ["DIVERGENCE"]

_SIDES = ("input", "weight", "bias")
_NAMES = tuple(f"{side}_{name}" for side in ("student", "teacher") for name in _SIDES)


def _run(
    tensors: list[Tensor | None], options: dict[str, Any], wanted: tuple[bool, ...], upstream: Any
) -> Any:
    """Return the divergences, the student's wanted gradients (None for the others), and its entropy."""
    arrays = {name: as_array(t) for name, t in zip(_NAMES, tensors, strict=True) if t is not None}
    beta = options["beta"]
    function = fastloss.linear_kl_div if beta == 0.0 else functools.partial(fastloss.linear_js_div, beta=beta)
    given = {name: value for name, value in options.items() if name != "beta"}
    arguments = {**arrays, **given, "reduction": "none", "return_entropy": True}
    if not any(wanted):
        value, entropy = with_torchs_products(function, arguments)
        return value, [None] * len(_SIDES), entropy
    out = tuple(
        empty_like(arrays[name]) if is_wanted else None
        for name, is_wanted in zip(_NAMES, wanted, strict=False)
    )
    arguments |= {"return_grad": True, "out": out}
    if upstream is not None:
        arguments["grad_output"] = upstream
    value, gradients, entropy = with_torchs_products(function, arguments)
    pairs = zip(gradients, tensors, strict=False)
    return value, [None if g is None or t is None else as_tensor(g, t.dtype) for g, t in pairs], entropy


class _Divergence(torch.autograd.Function):
    """Compute the gradients of the sum together with the values, as TRL's trainer adds them up.

    If the incoming gradient differs among tokens, backward computes them again.
    """

    @staticmethod
    def forward(ctx: Any, options: dict[str, Any], *tensors: Tensor | None) -> tuple[Tensor, Tensor]:
        ctx.options, ctx.wanted = options, ctx.needs_input_grad[1 : 1 + len(_SIDES)]
        value, gradients, entropy = _run(list(tensors), options, ctx.wanted, None)
        ctx.save_for_backward(*tensors, *gradients)
        ctx.set_materialize_grads(False)
        results = torch.from_numpy(value).float(), torch.from_numpy(np.asarray(entropy)).float()
        ctx.mark_non_differentiable(results[1])
        return results

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, _: Any) -> Any:
        nothing = (None,) * (1 + len(_NAMES))
        if upstream is None:
            return nothing
        if torch.is_grad_enabled():
            raise RuntimeError("the gradient of this divergence cannot be differentiated")
        tensors, gradients = ctx.saved_tensors[: len(_NAMES)], ctx.saved_tensors[len(_NAMES) :]
        first = upstream.flatten()[:1]
        if bool((upstream == first).all()):  # False for NaN
            gradients = [None if g is None else (g * first).to(g.dtype) for g in gradients]
        else:
            weights = as_array(upstream.to(torch.float64))
            gradients = _run(list(tensors), ctx.options, ctx.wanted, weights)[1]
        return None, *gradients, *nothing[1 + len(_SIDES) :]


def _chunked_divergence(own: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``ChunkedDivergenceFunction.apply``, by the linear divergences."""

    def apply(
        student_hidden: Tensor,
        student_weight: Tensor,
        student_bias: Tensor | None,
        teacher_hidden: Tensor,
        teacher_weight: Tensor,
        teacher_bias: Tensor | None,
        beta: float,
        temperature: float = 1.0,
        student_logit_scale: float = 1.0,
        student_final_logit_softcapping: float | None = None,
        teacher_logit_scale: float = 1.0,
        teacher_final_logit_softcapping: float | None = None,
    ) -> Any:
        given = (student_hidden, student_weight, student_bias, teacher_hidden, teacher_weight, teacher_bias)
        # The teacher has no gradient, even where its weight is a parameter.
        of_teacher = (None if one is None else one.detach() for one in given[3:])
        tensors = for_product(*given[:3], *of_teacher)
        options = {
            "beta": float(beta), "temperature": float(temperature),
            "student_logit_scale": float(student_logit_scale),
            "student_softcap": student_final_logit_softcapping,
            "teacher_logit_scale": float(teacher_logit_scale),
            "teacher_softcap": teacher_final_logit_softcapping,
        }  # fmt: skip
        is_ours = (
            is_undisturbed() and not torch.compiler.is_compiling() and are_plain(tensors)
            and student_hidden.dtype in FLOATING
        )  # fmt: skip
        if is_ours:
            try:
                return _Divergence.apply(options, *tensors)  # type: ignore[no-untyped-call]
            except (TypeError, ValueError):  # another range of an option
                pass
        leave_to_torch()
        return own(
            *given, beta, temperature, student_logit_scale, student_final_logit_softcapping,
            teacher_logit_scale, teacher_final_logit_softcapping,
        )  # fmt: skip

    return apply


_FORWARD = (
    "(ctx, student_hidden, student_weight, student_bias, teacher_hidden, teacher_weight, teacher_bias, beta, "
    "temperature=1.0, student_logit_scale=1.0, student_final_logit_softcapping=None, "
    "teacher_logit_scale=1.0, teacher_final_logit_softcapping=None)"
)
DIVERGENCE = Foreign(
    "trl.kernels.chunked_divergence",
    "ChunkedDivergenceFunction.apply",
    _chunked_divergence,
    {"ChunkedDivergenceFunction.forward": (_FORWARD,)},
)
