"""Run and differentiate a loss of tensors in eager mode.

For a mean or a sum, one pass computes the value and the gradient. Backward then has nothing to do if the
incoming gradient is the assumed one: 1, or that of earlier calls (see `_factors`). Some gradients need the
incoming one first: those of unreduced losses, and of float16, where a scaled loss keeps the gradient in
range. Backward computes these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastloss._engine.chunks import Held
from fastloss._engine.workspace import empty_like
from fastloss.torch import _factors
from fastloss.torch._bridge import (
    HALF,
    as_array,
    as_tensor,
    holding,
    on_torchs_threads,
    with_torchs_products,
)

__all__ = [
    "LOSSES",
    "NO_REDUCTION",
    "PAIR",
    "Call",
    "Loss",
    "Tensors",
    "TorchLoss",
    "applied",
    "comes_late",
    "count_dtype",
    "differentiable",
    "dtype_of",
    "early_gradients",
    "factor_of",
    "gradients_of",
    "is_readable",
    "logits_of",
    "multiplied",
    "run",
    "taken",
    "value_of",
]

# In the place of the reduction of a function that has none.
NO_REDUCTION: Any = object()
# The reduction that has two results: the sum, with a graph, and the count of the mean, without one.
PAIR = "sum_and_count"
Tensors = Sequence[Tensor | None]
TorchLoss = Callable[..., Tensor]


class Loss(NamedTuple):
    """The description of a function of the package that is needed to call it with tensors."""

    name: str
    function: Callable[..., Any]
    tensors: tuple[str, ...]  # the arguments that may be tensors
    shape: Callable[[Any, dict[str, Any]], Sequence[int]]  # the shape of the unreduced loss
    gradients: tuple[int, ...] = (0,)  # the tensors with a gradient, in the order of the results
    numbers: tuple[str, ...] = ()  # those that are numbers, in tensors of one element
    is_small: bool = False  # whether NumPy converts its arrays to float64, except bfloat16
    is_linear: bool = False  # whether it consists of products, computed only if wanted
    is_autocast: bool = True  # whether the loss of half types is float32 under autocast
    is_wide: bool = False  # whether the loss of half types is always float32
    nullable: frozenset[str] = frozenset()  # the arguments for which None is a value
    operands: tuple[int, ...] = ()  # further tensors of its products, without gradients
    second_wanted: str = ""  # the option that requests the second gradient, if one is needed
    shaped_by: int = 0  # the tensor that `shape` takes
    listed: tuple[str, ...] = ()  # the tensors that may be lists or arrays, too


# Arguments that NumPy converts, so they cannot be bfloat16.
_CONVERTED = frozenset(("weight", "sample_weight", "mask"))
LOSSES: dict[str, Loss] = {}


class Call:
    """One call of a loss.

    Its result, and so its gradient, is divided by `divisor`, which the kernel does. `torch_loss` includes it.
    """

    __slots__ = (
        "divisor", "dtype", "inplace", "loss", "options", "reduction", "tensors", "torch_loss", "wanted"
    )  # fmt: skip

    def __init__(
        self,
        loss: Loss,
        tensors: Tensors,
        options: dict[str, Any],
        reduction: str,
        torch_loss: TorchLoss | None,
        wanted: Sequence[bool],
        inplace: bool,
        divisor: float = 1.0,
    ) -> None:
        input = tensors[0]
        assert input is not None
        self.divisor = divisor
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

    def is_repeatable(self) -> bool:
        """Return whether backward can run the kernel again for the gradient, without matrix products."""
        return self.torch_loss is not None and not self.loss.is_linear and not self.inplace

    def kind(self) -> _factors.Key:
        """Return what calls have in common that receive the same incoming gradient."""
        return _factors.kind(self.loss.name, self.reduction, self.dtype)

    def run(self, tensors: Tensors, factor: float | None, **how: Any) -> tuple[Any, list[Tensor]]:
        """Return the value, and the wanted gradients times `factor`; no gradients if it is None."""
        wanted = () if factor is None else self.wanted
        # A number, even 1, takes the checks of the function 9 us.
        grad_output = None if factor is None or factor == self.divisor else factor / self.divisor
        value, gradients = run(
            self.loss, tensors, self.options, self.reduction, wanted, grad_output=grad_output, **how
        )
        return value / self.divisor if self.divisor != 1.0 else value, gradients

    def in_order(self, gradients: Sequence[Tensor]) -> Any:
        """Return the results of a backward: None for the call, and the gradient of each tensor or None."""
        if len(self.loss.gradients) == 1:
            return None, gradients[0]
        found = iter(gradients)
        return None, *[next(found) if self.wanted[k] else None for k in self.loss.gradients]


def dtype_of(loss: Loss, input: Tensor) -> torch.dtype:
    """Return the dtype of a loss: that of its input, or float32 for half types under autocast."""
    is_cast = loss.is_wide or (loss.is_autocast and torch.is_autocast_enabled("cpu"))
    return torch.float32 if is_cast and input.dtype in HALF else input.dtype


def comes_late(input: Tensor, reduction: str) -> bool:
    """Return whether the gradient needs the incoming gradient first."""
    return reduction == "none" or input.dtype is torch.float16


def run(
    loss: Loss,
    tensors: Tensors,
    options: dict[str, Any],
    reduction: str | None,
    wanted: Sequence[bool] = (),
    *,
    grad_output: Any = None,
    out: Tensor | None = None,
) -> tuple[Any, list[Tensor]]:
    """Return the value and the wanted gradients, in order, from the function of the package.

    `wanted` has a bool for each tensor; without any, no gradient is wanted. The gradient of a loss with only
    one is written to `out`, if given, which may be its own tensor. A function that has no reduction has
    NO_REDUCTION.
    """
    arguments = dict(options) if reduction is NO_REDUCTION else {"reduction": reduction, **options}
    for name, tensor in zip(loss.tensors, tensors, strict=True):
        if tensor is not None:
            if tensor.dtype is torch.bfloat16 and (loss.is_small or name in _CONVERTED):
                tensor = tensor.float()
            arguments[name] = tensor.item() if name in loss.numbers else as_array(tensor)
    call = with_torchs_products if loss.is_linear else on_torchs_threads
    if True not in wanted:
        return call(loss.function, arguments), []
    arguments["return_grad"] = True
    if grad_output is not None:
        arguments["grad_output"] = grad_output
    if loss.second_wanted and wanted[loss.gradients[1]]:
        arguments[loss.second_wanted] = True
    if out is not None:
        arguments["out"] = arguments[loss.tensors[0]] if out is tensors[0] else as_array(out)
    elif loss.is_linear:
        names = [loss.tensors[k] for k in loss.gradients]
        arguments["out"] = tuple(
            empty_like(arguments[name]) if wanted[k] and name not in loss.numbers else None
            for k, name in zip(loss.gradients, names, strict=True)
        )
    value, found = call(loss.function, arguments)
    gradients = [found] if isinstance(found, np.ndarray) else found
    results = []
    for k, gradient in zip(loss.gradients, gradients, strict=False):
        tensor = tensors[k]
        if tensor is not None and wanted[k] and isinstance(gradient, float):
            results.append(torch.full_like(tensor, gradient))
        elif tensor is not None and wanted[k]:
            result = as_tensor(gradient, tensor.dtype)
            # For an expanded tensor NumPy returns an array with other strides.
            results.append(torch.empty_like(tensor).copy_(result) if 0 in tensor.stride() else result)
    return value, results


def count_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the count beside a sum of this one. A half type would round it."""
    return torch.float32 if dtype in HALF else dtype


def value_of(value: Any, dtype: torch.dtype) -> Any:
    """Return a loss as a tensor, the pair of a sum and its count as two."""
    if isinstance(value, tuple):
        return value_of(value[0], dtype), value_of(value[1], count_dtype(dtype))
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
    divisor: float = 1.0,
    out: Tensor | None = None,
) -> list[Tensor]:
    """Return the gradients that need the incoming gradient first."""
    grad_output = upstream.item() if upstream.dim() == 0 else as_array(upstream.to(torch.float64))
    if divisor != 1.0:
        grad_output = grad_output / divisor
    return run(loss, tensors, options, reduction, wanted, grad_output=grad_output, out=out)[1]


def _differentiated_again(call: Call, tensors: Tensors, upstream: Tensor) -> Sequence[Tensor]:
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
        # Torch has no pair, whose gradient is that of the sum.
        how = {"reduction": "sum"} if call.reduction == PAIR else {}
        loss = call.torch_loss(*views, **how).to(upstream.dtype)
    inputs = [t for t, is_wanted in zip(views, call.wanted, strict=True) if is_wanted and t is not None]
    return torch.autograd.grad(loss, inputs, upstream, create_graph=True)


def _by_operators(call: Call, tensors: Tensors, upstream: Tensor) -> Sequence[Tensor]:
    """Return the gradients that need the incoming one first, for a batch or as part of a graph."""
    from fastloss.torch import _operators  # here, as it imports this module

    if call.loss.name not in LOSSES:
        raise NotImplementedError(f"fastloss.torch.{call.loss.name} runs only eagerly, on plain CPU tensors")
    how = (call.loss, tensors, call.options, call.reduction, call.wanted, upstream / call.divisor)
    return _operators.gradients(*how)


def _is_batched(upstream: Tensor) -> bool:
    """Return whether this is a batch of incoming gradients, whose memory cannot be read."""
    is_legacy = torch._C._functorch.is_legacy_batchedtensor(upstream)
    return is_legacy or torch._C._are_functorch_transforms_active()


def is_readable(ctx: Any, upstreams: Tensors) -> bool:
    """Return whether a backward can read its incoming gradients: not compiled ones, nor a batch of them."""
    return isinstance(ctx, _Node) and not any(one is not None and _is_batched(one) for one in upstreams)


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


def _handed_out(gradient: Tensor, factor: float, assumed: float) -> Tensor:
    """Return a gradient that was computed for the incoming gradient `assumed`, for another one, `factor`.

    If the graph is kept, this is a copy, as callers may write to it.
    """
    if not abs(factor) < 2.0**64:  # the quotient might be infinite, and so might this factor, or NaN
        return multiplied(gradient / assumed, factor)
    if _graph_is_kept():
        return gradient.clone() if factor == assumed else gradient * (factor / assumed)
    return gradient if factor == assumed else gradient.mul_(factor / assumed)


# The context of a backward. Compiled autograd passes another object, which has only the saved tensors.
_Node: Any = torch.autograd.function.BackwardCFunction


# The usual factor: a new tensor takes 3 us.
_ONE = torch.ones((), dtype=torch.float64, device="cpu")


def factor_of(assumed: float) -> Tensor:
    """Return an assumed factor as a tensor, which a graph can save."""
    return _ONE if assumed == 1.0 else torch.scalar_tensor(assumed, dtype=_ONE.dtype, device="cpu")


def _result(ctx: Any, value: Any, call: Call) -> Any:
    """Return the value of a call as a node returns it: the count of a pair has no gradient."""
    result = value_of(value, call.dtype)
    if call.reduction == PAIR:
        ctx.mark_non_differentiable(result[1])
    return result


class _Early(torch.autograd.Function):
    """Compute the gradients in the forward pass."""

    @staticmethod
    def forward(ctx: Any, call: Call, *_: Tensor | None) -> Any:
        tensors = call.take()
        ctx.call, ctx.kind = call, call.kind()
        assumed = _factors.assumed(ctx.kind, of_any=call.is_repeatable())
        value, gradients = call.run(tensors, assumed)
        ctx.count = len(gradients)
        # The factor belongs to its gradients: a checkpoint computes them again, with what is assumed then.
        # The tensors are saved for a second derivative, or for another factor.
        ctx.save_for_backward(*gradients, factor_of(assumed), *(tensors if call.torch_loss else ()))
        return _result(ctx, value, call)

    @staticmethod
    def backward(ctx: Any, *upstreams: Tensor) -> Any:
        call: Call = ctx.call
        return call.in_order(early_gradients(ctx, upstreams[0], lambda: call))


def early_gradients(ctx: Any, upstream: Tensor, call_of: Callable[[], Call]) -> Sequence[Tensor]:
    """Return the gradients that a forward pass computed, for the incoming one.

    The forward pass has saved `ctx.count` gradients, the factor that they assume, and the tensors of the
    call, which is made only if it is needed.
    """
    count = ctx.count
    if torch.is_grad_enabled():
        return _differentiated_again(call_of(), ctx.saved_tensors[count + 1 :], upstream)
    if isinstance(ctx, _Node):
        # Unpack only the gradients: the tensors are seldom needed, and may have been modified since.
        *gradients, assumed = [one.unpack() for one in ctx._raw_saved_tensors[: count + 1]]
    else:
        *gradients, assumed = ctx.saved_tensors[: count + 1]
    if not isinstance(ctx, _Node) or _is_batched(upstream):
        upstream = upstream / assumed.to(upstream.dtype)
        return [multiplied(gradient, upstream) for gradient in gradients]
    factor, assumed = upstream.item(), assumed.item()
    _factors.remember(ctx.kind, factor)
    if factor == assumed and not _graph_is_kept():
        return gradients
    again = None if factor == assumed else _computed_again(ctx, call_of(), gradients, factor, assumed)
    return again or [_handed_out(gradient, factor, assumed) for gradient in gradients]


def _computed_again(
    ctx: Any, call: Call, gradients: list[Tensor], factor: float, assumed: float
) -> list[Tensor] | None:
    """Return the gradients from the kernel, or None if a multiplication has the same bits or has to do."""
    if not math.isfinite(factor) or _factors.is_exact(factor, assumed):
        return None
    if not call.is_repeatable() or _factors.keeps_changing(ctx.kind):
        return None
    try:
        tensors = [one.unpack() for one in ctx._raw_saved_tensors[ctx.count + 1 :]]
    except RuntimeError:  # they have been modified since
        return None
    out = None if len(call.loss.gradients) > 1 or _graph_is_kept() else gradients[0]
    found: list[Tensor] = call.run(tensors, factor, out=out)[1]
    return found


class _Late(torch.autograd.Function):
    """Compute the gradients in the backward pass, of a linear loss from the logits while they fit."""

    @staticmethod
    def forward(ctx: Any, call: Call, *_: Tensor | None) -> Any:
        ctx.call, tensors = call, call.take()
        held = Held() if call.loss.is_linear else None
        with holding(held):
            value = call.run(tensors, None)[0]
        ctx.save_for_backward(*tensors, logits_of(held))
        return _result(ctx, value, call)

    @staticmethod
    def backward(ctx: Any, *upstreams: Tensor) -> Any:
        upstream, call = upstreams[0], ctx.call
        *tensors, logits = ctx.saved_tensors
        if torch.is_grad_enabled():
            return call.in_order(_differentiated_again(call, tensors, upstream))
        if not isinstance(ctx, _Node):
            return call.in_order(_by_operators(call, tensors, upstream))
        if _is_batched(upstream):
            again = _by_operators if call.torch_loss is None else _differentiated_again
            return call.in_order(again(call, tensors, upstream))
        how = (call.loss, tensors, call.options, call.reduction, call.wanted, upstream)
        if call.inplace and not _graph_is_kept():
            with suppress(ValueError):  # if the logits cannot be overwritten
                gradients = gradients_of(*how, divisor=call.divisor, out=tensors[0])
                torch.autograd.graph.increment_version(tensors[0])
                return call.in_order(gradients)
        with holding(taken(logits)):
            return call.in_order(gradients_of(*how, divisor=call.divisor))


def logits_of(held: Held | None) -> Tensor | None:
    """Return held logits as a tensor, which a graph can save."""
    return None if held is None or held.logits is None else torch.from_numpy(held.logits)


def taken(logits: Tensor | None) -> Held | None:
    """Return held logits, or a copy if the graph is kept, as their gradient is written over them."""
    if logits is None:
        return None
    if _graph_is_kept():
        logits = logits.clone()
    else:
        torch.autograd.graph.increment_version(logits)  # if the call fails, nobody can use them again
    return Held(logits.numpy())


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
    def forward(ctx: Any, call: Call, logits: Tensor) -> Any:
        tensors, ctx.kind = call.take(), call.kind()
        ctx.assumed = _factors.assumed(ctx.kind, of_any=False)
        value, _ = call.run(tensors, ctx.assumed, out=tensors[0])
        ctx.gradient, ctx.version = logits.detach(), -1
        return _result(ctx, value, call)

    @staticmethod
    def backward(ctx: Any, *upstreams: Tensor) -> Any:
        upstream, gradient = upstreams[0], ctx.gradient
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
        factor = upstream.item()
        _factors.remember(ctx.kind, factor)
        return None, _handed_out(gradient, factor, ctx.assumed)


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


def applied(function: type[torch.autograd.Function], *args: Any) -> Any:
    """Call ``function.apply(*args)`` without its search for functional transforms, which takes 2 of 8 us."""
    return super(torch.autograd.Function, function).apply(*args)  # type: ignore[misc]


def _in_place(call: Call) -> Any:
    (logits,) = call.differentiable()
    assert logits is not None
    loss = applied(_InPlace, call, logits)
    node = (loss[0] if call.reduction == PAIR else loss).grad_fn
    applied(_Overwritten, logits)
    node.version = logits._version
    return loss


def differentiable(call: Call) -> Any:
    """Return the value of a loss with a graph, of a pair that of the sum."""
    differentiable = call.differentiable()
    input = differentiable[0]
    assert input is not None
    if call.inplace:
        _require_overwritable(input)
    if comes_late(input, call.reduction):
        return applied(_Late, call, *differentiable)
    return _in_place(call) if call.inplace else applied(_Early, call, *differentiable)
