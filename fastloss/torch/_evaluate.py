"""Evaluate a loss of tensors: eagerly, as an operator, or by torch's own function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from fastloss.torch import _operators
from fastloss.torch._autograd import (
    PAIR,
    Call,
    Loss,
    Tensors,
    TorchLoss,
    differentiable,
    dtype_of,
    run,
    value_of,
)
from fastloss.torch._bridge import FLOATING, are_of_processor, are_plain, is_transformed, is_undisturbed

__all__ = ["divided", "evaluate", "require_types"]


def _strange(loss: Loss, requiring: Sequence[bool]) -> str:
    """Return the name of a tensor that requires a gradient but cannot have one, or an empty string."""
    for k, requires in enumerate(requiring):
        if requires and k not in loss.gradients:
            return loss.tensors[k]
    return ""


def _require_one_type(loss: Loss, tensors: Tensors) -> None:
    """Check that the tensors of a matrix product have the same dtype."""
    input = tensors[0]
    for k in loss.gradients[1:]:
        tensor = None if loss.tensors[k] in loss.numbers else tensors[k]
        if input is not None and tensor is not None and tensor.dtype is not input.dtype:
            raise TypeError(
                f"{loss.tensors[k]} must be {input.dtype} like {loss.tensors[0]}, got {tensor.dtype}"
            )


def _elsewhere(loss: Loss, tensors: Tensors, torch_loss: TorchLoss | None) -> Tensor:
    """Return a loss of tensors that are not strided CPU tensors."""
    if torch_loss is None:
        raise NotImplementedError(f"fastloss.torch.{loss.name} takes only strided CPU tensors")
    return torch_loss(*tensors)


def divided(value: Any, divisor: float) -> Tensor:
    """Return a loss over a number; 1 costs nothing."""
    return cast(Tensor, value if divisor == 1.0 else value / divisor)


def _transformed(
    loss: Loss,
    tensors: Tensors,
    options: dict[str, Any],
    reduction: str,
    torch_loss: TorchLoss | None,
    divisor: float,
) -> Tensor:
    """Return a loss under a transform of ``torch.func`` or forward-mode differentiation."""
    if torch_loss is not None:
        return torch_loss(*tensors)
    # With several levels of transforms, this level does not see which tensors want a gradient; backward does.
    return divided(_operators.evaluate(loss, tensors, options, reduction, ()), divisor)


def require_types(loss: Loss, tensors: Tensors) -> None:
    """Check the dtypes of tensors that no function of torch's takes instead."""
    input = tensors[0]
    assert input is not None
    if input.dtype not in FLOATING:
        raise TypeError(f"{loss.tensors[0]} must be float16, bfloat16, float32 or float64, got {input.dtype}")
    if loss.is_linear:
        _require_one_type(loss, tensors)


def evaluate(
    loss: Loss,
    tensors: Tensors,
    options: dict[str, Any],
    reduction: str,
    torch_loss: TorchLoss | None = None,
    *,
    inplace: bool = False,
    divisor: float = 1.0,
) -> Tensor:
    """Return a loss of tensors, divided by `divisor`, a number other than 0, without a pass for its gradient.

    `torch_loss` is torch's own function of the same tensors, if there is one, and divides by itself. It is
    called for tensors that our function does not support. It is also called if our function raises an error
    for its arguments, and then returns its own result or raises its own error.

    The pair of "sum_and_count" is a tuple, as the types of the public functions say. Torch has none: its
    function only differentiates the sum again, with its own argument `reduction`.
    """
    again = torch_loss
    if reduction == PAIR:
        torch_loss = None
    input = tensors[0]
    assert input is not None
    if torch_loss is None:
        require_types(loss, tensors)
    wanted: Sequence[bool] = ()
    if torch.is_grad_enabled():
        wanted = [tensor is not None and tensor.requires_grad for tensor in tensors]
        if True in wanted and (name := _strange(loss, wanted)):
            if torch_loss is not None:
                return torch_loss(*tensors)
            raise ValueError(
                f"{name} must not require a gradient: fastloss.torch.{loss.name} has no gradient for it"
            )
    if torch.compiler.is_compiling():
        if not are_of_processor(tensors):
            return _elsewhere(loss, tensors, torch_loss)
        if is_transformed():
            return _transformed(loss, tensors, options, reduction, torch_loss, divisor)
        return divided(_operators.evaluate(loss, tensors, options, reduction, wanted), divisor)
    if not (is_undisturbed() and are_plain(tensors)):
        if torch_loss is not None:
            return torch_loss(*tensors)
        if is_transformed():
            return _transformed(loss, tensors, options, reduction, torch_loss, divisor)
        return divided(_operators.evaluate(loss, tensors, options, reduction, wanted), divisor)
    try:
        if True in wanted:
            call = Call(loss, tensors, options, reduction, again, wanted, inplace, divisor)
            return cast(Tensor, differentiable(call))
        value, _ = run(loss, tensors, options, reduction)
        return cast(Tensor, value_of(value if divisor == 1.0 else value / divisor, dtype_of(loss, input)))
    except (TypeError, ValueError):
        if torch_loss is None:
            raise
    return torch_loss(*tensors)
