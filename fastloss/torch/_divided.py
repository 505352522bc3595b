"""Cross-entropies whose sum is divided by a number of items, as the trainers of Hugging Face divide it.

The loss of half types is float32, as there: the logits are converted to float32 first. Here the kernel reads
half types, and divides the gradient while it makes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import fastloss
from fastloss.torch._bridge import HALF, autocast
from fastloss.torch._evaluate import evaluate
from fastloss.torch._functional import (
    declare,
    has_classes,
    has_few_logits,
    is_layer,
    row_shape,
    sum_over,
    torchs,
)
from fastloss.torch._plain import plain_cross_entropy

__all__ = ["cross_entropy_over", "divisor_of", "linear_cross_entropy_over"]


def _divided(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of arrays with the further option `divisor`, of a sum."""

    def divided(*, divisor: float | None = None, **options: Any) -> Any:
        return function(**options) if divisor is None else sum_over(function, divisor, options)

    return divided


_OVER = declare(
    "divided_cross_entropy",
    "logits",
    "target",
    shape=row_shape,
    function=_divided(fastloss.cross_entropy),
    is_wide=True,
)
_LINEAR_OVER = declare(
    "divided_linear_cross_entropy",
    "input",
    "linear_weight",
    "target",
    "linear_bias",
    shape=row_shape,
    function=_divided(fastloss.linear_cross_entropy),
    gradients=(0, 1, 3),
    is_linear=True,
    is_wide=True,
)


def divisor_of(items: Any) -> float | None:
    """Return a number of items by which a kernel can divide, or None if torch has to divide."""
    if isinstance(items, Tensor):
        if items.dim() or items.requires_grad or not items.is_cpu or torch.compiler.is_compiling():
            return None
        items = items.item()
    is_number = type(items) in (int, float) and math.isfinite(items) and items != 0
    return float(items) if is_number else None


def _torchs(logits: Tensor, target: Tensor, divisor: float | None, ignore_index: int) -> Tensor:
    """Compute the same by torch's own function."""
    reduction = "mean" if divisor is None else "sum"
    logits = logits.float() if logits.dtype in HALF else logits
    loss = torchs.cross_entropy(logits, target, ignore_index=ignore_index, reduction=reduction)
    return loss if divisor is None else loss / divisor


def cross_entropy_over(logits: Tensor, target: Tensor, divisor: float | None, *, ignore_index: int) -> Tensor:
    """Return the sum of the cross-entropies of (N, V) logits, divided by a number; their mean for None."""
    reduction = "mean" if divisor is None else "sum"
    how = (_OVER, torchs.cross_entropy, ignore_index, reduction, 1.0 if divisor is None else divisor)
    if (loss := plain_cross_entropy(logits, target, how)) is not None:
        return loss
    own = partial(_torchs, divisor=divisor, ignore_index=ignore_index)
    if not has_classes(logits, target, None):
        return own(logits, target)
    options = {"axis": 1, "ignore_index": ignore_index, "divisor": divisor}
    return evaluate(_OVER, (logits, target), options, reduction, own)


def mapped(logits: Tensor, logit_scale: float, softcap: float | None) -> Tensor:
    """Return logits times a scale, then with a softcap, by torch."""
    if logit_scale != 1.0:
        logits = logits * logit_scale
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def linear_cross_entropy_over(
    input: Tensor,
    linear_weight: Tensor,
    linear_bias: Tensor | None,
    target: Tensor,
    divisor: float | None,
    *,
    ignore_index: int,
    logit_scale: float,
    softcap: float | None,
) -> Tensor:
    """Return `cross_entropy_over` of the mapped logits of a linear layer, which are made in chunks.

    Few logits are made at once, including those of ignored rows.
    """

    def made(input: Tensor, linear_weight: Tensor, linear_bias: Tensor | None) -> Tensor:
        return mapped(functional.linear(input, linear_weight, linear_bias), logit_scale, softcap)

    def own(input: Tensor, linear_weight: Tensor, target: Tensor, linear_bias: Tensor | None) -> Tensor:
        return _torchs(made(input, linear_weight, linear_bias), target, divisor, ignore_index)

    tensors = (autocast(input), autocast(linear_weight), target, autocast(linear_bias))
    is_ours = is_layer(tensors[0], tensors[1], tensors[3]) and target.shape == input.shape[:-1]
    if not (is_ours and target.dtype is torch.int64):
        return own(*tensors)
    if has_few_logits(tensors[0], tensors[1], tensors[3], target):
        logits = made(tensors[0], tensors[1], tensors[3])
        return cross_entropy_over(logits, target, divisor, ignore_index=ignore_index)
    options = {
        "ignore_index": ignore_index, "logit_scale": logit_scale, "softcap": softcap, "divisor": divisor,
    }  # fmt: skip
    return evaluate(_LINEAR_OVER, tensors, options, "mean" if divisor is None else "sum", own)
