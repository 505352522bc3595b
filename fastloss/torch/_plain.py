"""Plain cross-entropies: a short way from tensors to the kernel.

A step of a tiny model takes a millisecond or two, and Python runs in it with cold caches: each function on
the way costs several times its time in a loop. Calls without weights and further options come this way.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastloss import _kernels
from fastloss.torch import _factors
from fastloss.torch._autograd import Call, Loss, TorchLoss, applied, early_gradients, factor_of
from fastloss.torch._bridge import are_plain, is_undisturbed
from fastloss.torch._evaluate import divided

__all__ = ["plain_cross_entropy"]

# Half types need conversions, and the gradient of float16 needs the incoming one.
_WIDE = frozenset((torch.float32, torch.float64))
# The loss, torch's cross-entropy, ignore_index, reduction and divisor. A named tuple takes 0.3 us.
_How = tuple[Loss, TorchLoss, Any, str, float]


def plain_cross_entropy(logits: Any, target: Any, how: _How) -> Tensor | None:
    """Return the cross-entropy of contiguous (N, C) or (C,) logits and class indices, divided by a number.

    The result is None if the call needs the general way. That one raises the errors, too.
    """
    *_, reduction, divisor = how
    if (
        torch.compiler.is_compiling()
        or not (isinstance(logits, Tensor) and isinstance(target, Tensor))
        or logits.dtype not in _WIDE
        or target.dtype is not torch.int64
        or logits.dim() > 2
        or not (reduction == "mean" or reduction == "sum")
        or not (is_undisturbed() and are_plain((logits, target)))
    ):
        return None
    if logits.requires_grad and torch.is_grad_enabled():
        loss: Tensor | None = applied(_Plain, how, logits, target)
        return loss
    found = _run(logits, target, how)
    return None if found is None else _as_loss(found / divisor, logits)


def _run(logits: Tensor, target: Tensor, how: _How, *grad_output: float) -> Any:
    """Return the loss, and the gradient times `grad_output` if given; None if the kernel refuses the call."""
    _, _, ignore_index, reduction, _ = how
    return _kernels.plain_cross_entropy(
        logits.detach().numpy(), target.numpy(), -1, ignore_index, reduction, bool(grad_output), None,
        torch.get_num_threads, *grad_output,
    )  # fmt: skip


def _as_loss(value: float, logits: Tensor) -> Tensor:
    return torch.scalar_tensor(value, dtype=logits.dtype, device="cpu")


class _Plain(torch.autograd.Function):
    """Compute the gradient in the forward pass, as that of other losses."""

    @staticmethod
    def forward(ctx: Any, how: _How, logits: Tensor, target: Tensor) -> Tensor | None:
        loss, _, _, reduction, divisor = how
        kind = _factors.kind(loss.name, reduction, logits.dtype)
        assumed = _factors.assumed(kind, of_any=True)
        found = _run(logits, target, how, assumed / divisor)
        if found is None:
            return None
        ctx.how, ctx.kind, ctx.count = how, kind, 1
        ctx.save_for_backward(torch.from_numpy(found[1]), factor_of(assumed), logits, target)
        return _as_loss(found[0] / divisor, logits)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        return None, early_gradients(ctx, upstream, partial(_call, ctx.how, upstream))[0], None


def _call(how: _How, upstream: Tensor) -> Call:
    """Return the call that runs or differentiates the loss again."""
    loss, torch_loss, ignore_index, reduction, divisor = how
    loss = loss._replace(tensors=loss.tensors[:2])
    options = {"ignore_index": ignore_index}
    own = partial(_divided, torch_loss, reduction=reduction, divisor=divisor, **options)
    # The incoming gradient stands for the logits, which have its type.
    call = Call(loss, (upstream,), options, reduction, own, (True, False), False, divisor)
    call.take()
    return call


def _divided(
    torch_loss: TorchLoss, logits: Tensor, target: Tensor, *, divisor: float, **options: Any
) -> Tensor:
    return divided(torch_loss(logits, target, **options), divisor)
