"""Run and differentiate a loss of tensors in eager mode.

For a mean or a sum, one pass computes the value and the gradient. Backward then has nothing to do if the
incoming gradient is 1. Some gradients need the incoming one first: those of unreduced losses, and of float16,
where a scaled loss keeps the gradient in range. Backward computes these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastloss._engine.workspace import empty_like
from fastloss.torch._bridge import HALF, as_array, as_tensor, on_torchs_threads, with_torchs_products

__all__ = [
    "LOSSES",
    "Call",
    "Loss",
    "Tensors",
    "TorchLoss",
    "comes_late",
    "differentiable",
    "dtype_of",
    "gradients_of",
    "multiplied",
    "run",
    "value_of",
]

Tensors = Sequence[Tensor | None]
TorchLoss = Callable[..., Tensor]


class Loss(NamedTuple):
    """The description of a function of the package that is needed to call it with tensors."""

    name: str
    function: Callable[..., Any]
    tensors: tuple[str, ...]  # the arguments that may be tensors
    shape: Callable[[Tensor, dict[str, Any]], Sequence[int]]  # the shape of the unreduced loss
    gradients: tuple[int, ...] = (0,)  # the tensors with a gradient, in the order of the results
    is_small: bool = False  # whether NumPy converts its arrays to float64, except bfloat16
    is_linear: bool = False  # whether it consists of products, computed only if wanted
    is_autocast: bool = True  # whether the loss of half types is float32 under autocast
    nullable: frozenset[str] = frozenset()  # the arguments for which None is a value
    operands: tuple[int, ...] = ()  # further tensors of its products, without gradients
    second_wanted: str = ""  # the option that requests the second gradient, if one is needed


# Arguments that NumPy converts, so they cannot be bfloat16.
_CONVERTED = frozenset(("weight", "sample_weight", "mask"))
LOSSES: dict[str, Loss] = {}


class Call:
    """One call of a loss."""

    __slots__ = ("dtype", "inplace", "loss", "options", "reduction", "tensors", "torch_loss", "wanted")

    def __init__(
        self,
        loss: Loss,
        tensors: Tensors,
        options: dict[str, Any],
        reduction: str,
        torch_loss: TorchLoss | None,
        wanted: Sequence[bool],
        inplace: bool,
    ) -> None:
        input = tensors[0]
        assert input is not None
        self.loss, self.options, self.reduction, self.torch_loss = loss, options, reduction, torch_loss
        self.dtype, self.inplace = dtype_of(loss, input), inplace
        self.tensors: Tensors | None = tensors
        self.wanted = wanted

    def take(self) -> Tensors:
        """Remove and return the tensors, as a graph may keep them only as saved tensors."""
        tensors, self.tensors = self.tensors, None
        assert tensors is not None
        return tensors

    def differentiable(self) -> list[Tensor | None]:
        """Return the tensors that may have a gradient, in the order of the loss."""
        assert self.tensors is not None
        return [self.tensors[k] for k in self.loss.gradients]

    def in_order(self, gradients: Sequence[Tensor]) -> Any:
        """Return the results of a backward: None for the call, and the gradient of each tensor or None."""
        if len(self.loss.gradients) == 1:
            return None, gradients[0]
        found = iter(gradients)
        return None, *[next(found) if self.wanted[k] else None for k in self.loss.gradients]


def dtype_of(loss: Loss, input: Tensor) -> torch.dtype:
    """Return the dtype of a loss: that of its input, or float32 for half types under autocast."""
    is_cast = loss.is_autocast and input.dtype in HALF and torch.is_autocast_enabled("cpu")
    return torch.float32 if is_cast else input.dtype


def comes_late(input: Tensor, reduction: str) -> bool:
    """Return whether the gradient needs the incoming gradient first."""
    return reduction == "none" or input.dtype is torch.float16


def run(
    loss: Loss,
    tensors: Tensors,
    options: dict[str, Any],
    reduction: str,
    wanted: Sequence[bool] = (),
    *,
    grad_output: Any = None,
    inplace: bool = False,
) -> tuple[Any, list[Tensor]]:
    """Return the value and the wanted gradients, in order, from the function of the package.

    `wanted` has a bool for each tensor; without any, no gradient is wanted.
    """
    arguments: dict[str, Any] = {"reduction": reduction, **options}
    for name, tensor in zip(loss.tensors, tensors, strict=True):
        if tensor is not None:
            if tensor.dtype is torch.bfloat16 and (loss.is_small or name in _CONVERTED):
                tensor = tensor.float()
            arguments[name] = as_array(tensor)
    call = with_torchs_products if loss.is_linear else on_torchs_threads
    if True not in wanted:
        return call(loss.function, arguments), []
    arguments["return_grad"] = True
    if grad_output is not None:
        arguments["grad_output"] = grad_output
    if loss.second_wanted and wanted[loss.gradients[1]]:
        arguments[loss.second_wanted] = True
    if inplace:
        arguments["out"] = arguments[loss.tensors[0]]
    elif loss.is_linear:
        names = [loss.tensors[k] if wanted[k] else None for k in loss.gradients]
        arguments["out"] = tuple(None if name is None else empty_like(arguments[name]) for name in names)
    value, found = call(loss.function, arguments)
    gradients = [found] if isinstance(found, np.ndarray) else found
    results = []
    for k, gradient in zip(loss.gradients, gradients, strict=False):
        tensor = tensors[k]
        if tensor is not None and wanted[k]:
            result = as_tensor(gradient, tensor.dtype)
            # For an expanded tensor NumPy returns an array with other strides.
            results.append(torch.empty_like(tensor).copy_(result) if 0 in tensor.stride() else result)
    return value, results


def value_of(value: Any, dtype: torch.dtype) -> Tensor:
    """Return a loss as a tensor."""
    if type(value) is float:
        return torch.scalar_tensor(value, dtype=dtype, device="cpu")
    return as_tensor(np.asarray(value), dtype)


def gradients_of(
    loss: Loss,
    tensors: Tensors,
    options: dict[str, Any],
    reduction: str,
    wanted: Sequence[bool],
    upstream: Tensor,
    *,
    inplace: bool = False,
) -> list[Tensor]:
    """Return the gradients that need the incoming gradient first."""
    grad_output = upstream.item() if upstream.dim() == 0 else as_array(upstream.to(torch.float64))
    return run(loss, tensors, options, reduction, wanted, grad_output=grad_output, inplace=inplace)[1]


def _differentiated_again(call: Call, tensors: Tensors, upstream: Tensor) -> Any:
    """Return the gradients of torch's own function, with a graph."""
    if call.torch_loss is None:
        raise RuntimeError(
            f"the gradient of fastloss.torch.{call.loss.name} cannot be differentiated: use it without "
            "create_graph=True"
        )
    pairs = list(zip(tensors, call.wanted, strict=True))
    with torch.enable_grad():
        # Use views: if one tensor was computed from another, that path must not be counted twice.
        views = [t.view_as(t) if is_wanted and t is not None else t for t, is_wanted in pairs]
        loss = call.torch_loss(*views).to(upstream.dtype)
    inputs = [t for t, is_wanted in zip(views, call.wanted, strict=True) if is_wanted and t is not None]
    return call.in_order(torch.autograd.grad(loss, inputs, upstream, create_graph=True))


def _by_operators(call: Call, tensors: Tensors, upstream: Tensor) -> Any:
    """Return the gradients that need the incoming one first, for a batch or as part of a graph."""
    from fastloss.torch import _operators  # here, as it imports this module

    if call.loss.name not in LOSSES:
        raise NotImplementedError(f"fastloss.torch.{call.loss.name} runs only eagerly, on plain CPU tensors")
    how = (call.loss, tensors, call.options, call.reduction, call.wanted, upstream)
    return call.in_order(_operators.gradients(*how))


def _is_batched(upstream: Tensor) -> bool:
    """Return whether this is a batch of incoming gradients, whose memory cannot be read."""
    is_legacy = torch._C._functorch.is_legacy_batchedtensor(upstream)
    return is_legacy or torch._C._are_functorch_transforms_active()


def _graph_is_kept() -> bool:
    """Return whether another backward pass may use the same graph (retain_graph)."""
    return bool(torch._C._autograd._get_current_graph_task_keep_graph())


def multiplied(gradient: Tensor, upstream: Tensor | float) -> Tensor:
    """Return a gradient times the incoming one; zeros stay 0 even if that one is infinite or NaN.

    Rows that are ignored, masked or of weight 0 have a gradient of exactly 0 for every incoming gradient.
    Only their zeros identify them here, as the tensors may be deleted or overwritten. So a zero gradient of
    an element that counts (l1_loss at its target, or a probability that underflows) also stays 0, where torch
    returns NaN. All other elements become infinite or NaN, so such a step is still detected.
    """
    return torch.where(gradient == 0, gradient, (gradient * upstream).to(gradient.dtype))


def _handed_out(gradient: Tensor, factor: float) -> Tensor:
    """Return a gradient times the incoming one; if the graph is kept, a copy, as callers may write to it."""
    if not math.isfinite(factor):
        return multiplied(gradient, factor)
    if _graph_is_kept():
        return gradient.clone() if factor == 1.0 else gradient * factor
    return gradient if factor == 1.0 else gradient.mul_(factor)


# The context of a backward. Compiled autograd passes another object, which has only the saved tensors.
_Node: Any = torch.autograd.function.BackwardCFunction


class _Early(torch.autograd.Function):
    """Compute the gradients in the forward pass."""

    @staticmethod
    def forward(ctx: Any, call: Call, *_: Tensor | None) -> Tensor:
        tensors = call.take()
        value, gradients = run(call.loss, tensors, call.options, call.reduction, call.wanted)
        ctx.call, ctx.count = call, len(gradients)
        # The tensors are saved for a second derivative.
        ctx.save_for_backward(*gradients, *(tensors if call.torch_loss else ()))
        return value_of(value, call.dtype)

    @staticmethod
    def backward(ctx: Any, *upstreams: Tensor) -> Any:
        (upstream,), call = upstreams, ctx.call
        if torch.is_grad_enabled():
            return _differentiated_again(call, ctx.saved_tensors[ctx.count :], upstream)
        if not isinstance(ctx, _Node):
            return call.in_order(
                [multiplied(gradient, upstream) for gradient in ctx.saved_tensors[: ctx.count]]
            )
        # Unpack only the gradients: the tensors are not needed, and may have been modified since.
        saved = [one.unpack() for one in ctx._raw_saved_tensors[: ctx.count]]
        if _is_batched(upstream):
            return call.in_order([multiplied(gradient, upstream) for gradient in saved])
        factor = upstream.item()
        return call.in_order([_handed_out(gradient, factor) for gradient in saved])


class _Late(torch.autograd.Function):
    """Compute the gradients in the backward pass."""

    @staticmethod
    def forward(ctx: Any, call: Call, *_: Tensor | None) -> Tensor:
        ctx.call, tensors = call, call.take()
        ctx.save_for_backward(*tensors)
        return value_of(run(call.loss, tensors, call.options, call.reduction)[0], call.dtype)

    @staticmethod
    def backward(ctx: Any, *upstreams: Tensor) -> Any:
        (upstream,), call, tensors = upstreams, ctx.call, ctx.saved_tensors
        if torch.is_grad_enabled():
            return _differentiated_again(call, tensors, upstream)
        if not isinstance(ctx, _Node):
            return _by_operators(call, tensors, upstream)
        if _is_batched(upstream):
            again = _by_operators if call.torch_loss is None else _differentiated_again
            return again(call, tensors, upstream)
        how = (call.loss, tensors, call.options, call.reduction, call.wanted, upstream)
        if call.inplace and not _graph_is_kept():
            with suppress(ValueError):  # if the logits cannot be overwritten
                gradients = gradients_of(*how, inplace=True)
                torch.autograd.graph.increment_version(tensors[0])
                return call.in_order(gradients)
        return call.in_order(gradients_of(*how))


_TWICE = (
    "Trying to backward through the graph a second time: the gradient, which was written over the logits, "
    "is no longer available"
)
_WRITTEN = (
    "one of the variables needed for gradient computation has been modified by an inplace operation: the "
    "logits, which hold their gradient after fastloss.torch.cross_entropy(..., inplace=True)"
)
_USED = (
    "the logits were overwritten with their gradient by fastloss.torch.cross_entropy(..., inplace=True) "
    "and have been used again since"
)


class _InPlace(torch.autograd.Function):
    """Compute the gradient in the forward pass, and write it over the logits."""

    @staticmethod
    def forward(ctx: Any, call: Call, logits: Tensor) -> Tensor:
        tensors = call.take()
        value, _ = run(call.loss, tensors, call.options, call.reduction, call.wanted, inplace=True)
        ctx.gradient, ctx.version = logits.detach(), -1
        return value_of(value, call.dtype)

    @staticmethod
    def backward(ctx: Any, *upstreams: Tensor) -> Any:
        (upstream,), gradient = upstreams, ctx.gradient
        if not isinstance(ctx, _Node) and torch.compiler.is_compiling():
            return _untraced(ctx, upstream)
        if torch.is_grad_enabled():
            raise RuntimeError("a loss with inplace=True cannot be differentiated with create_graph=True")
        if gradient is None:
            raise RuntimeError(_TWICE)
        if gradient._version != ctx.version:
            raise RuntimeError(_WRITTEN)
        if not _graph_is_kept():
            ctx.gradient = None
        return None, _handed_out(gradient, upstream.item())


# A compiled graph does not see later writes to the logits.
_untraced = torch.compiler.disable(  # type: ignore[no-untyped-call]
    _InPlace.backward,
    reason="fastloss.torch.cross_entropy(..., inplace=True) under compiled autograd needs fullgraph=False",
)


class _Overwritten(torch.autograd.Function):
    """The overwritten logits, which cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        ctx.mark_dirty(logits)
        return logits

    @staticmethod
    def backward(ctx: Any, *upstreams: Tensor) -> Any:
        raise RuntimeError(_USED)


def _require_overwritable(logits: Tensor) -> None:
    """Raise torch's errors for in-place operations before anything is written."""
    base = logits._base if logits._is_view() else logits
    if base is not None and base.is_leaf and base.requires_grad:
        what = "a leaf" if base is logits else "a view of a leaf"
        raise RuntimeError(f"{what} Variable that requires grad is being used in an in-place operation.")
    if logits.retains_grad:
        raise RuntimeError("logits that retain their gradient cannot be overwritten")
    if logits._is_view():
        meta = torch._C._autograd._get_creation_meta(logits)
        if meta != torch._C._autograd.CreationMeta.DEFAULT:
            raise RuntimeError(f"logits cannot be overwritten: they are a view of kind {meta}")


def _applied(function: type[torch.autograd.Function], *args: Any) -> Any:
    """Call ``function.apply(*args)`` without its search for functional transforms, which takes 2 of 8 us."""
    return super(torch.autograd.Function, function).apply(*args)  # type: ignore[misc]


def _in_place(call: Call) -> Tensor:
    (logits,) = call.differentiable()
    assert logits is not None
    loss: Tensor = _applied(_InPlace, call, logits)
    node: Any = loss.grad_fn
    _applied(_Overwritten, logits)
    node.version = logits._version
    return loss


def differentiable(call: Call) -> Tensor:
    """Return the value of a loss with a graph."""
    differentiable = call.differentiable()
    input = differentiable[0]
    assert input is not None
    if call.inplace:
        _require_overwritable(input)
    if comes_late(input, call.reduction):
        loss: Tensor = _applied(_Late, call, *differentiable)
    elif call.inplace:
        loss = _in_place(call)
    else:
        loss = _applied(_Early, call, *differentiable)
    return loss
