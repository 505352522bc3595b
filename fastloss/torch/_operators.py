"""The losses as operators of torch, for torch.compile, fake tensors and dispatch modes.

The operators serve all losses, which they select by name. One returns the value (and gradients, if wanted).
The others return one to four gradients alone. Options are passed as one string of their names (and
string values), and a list of their numbers. ``from __future__ import annotations`` is missing here, as torch
infers the schema from the types.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._functorch import autograd_function
from torch.autograd import forward_ad
from torch.utils import _pytree as pytree

from fastloss.torch._autograd import (
    LOSSES,
    PAIR,
    Loss,
    Tensors,
    comes_late,
    count_dtype,
    dtype_of,
    gradients_of,
    multiplied,
    run,
    value_of,
)

__all__ = ["evaluate", "gradients"]

# The largest number of tensors of a loss.
MOST = 8
Numbers = Sequence[int | float | bool]


def _encoded(options: dict[str, Any]) -> tuple[str, list[int | float | bool]]:
    """Return options as names (``name``, ``name=word``, or ``name=`` for None) and numbers (of ``name``)."""
    names, numbers = [], []
    for name, value in options.items():
        if value is None or isinstance(value, str):
            names.append(f"{name}={value or ''}")
        else:
            names.append(name)
            numbers.append(value)
    return " ".join(names), [*numbers, 0]  # torch takes an empty list for a list of tensors


def _decoded(names: str, numbers: Numbers) -> dict[str, Any]:
    left = iter(numbers)
    options: dict[str, Any] = {}
    for name in names.split():
        name, has_word, word = name.partition("=")
        options[name] = (word or None) if has_word else next(left)
    return options


def _loss(
    name: str,
    a: Tensor,
    b: Tensor | None,
    c: Tensor | None,
    d: Tensor | None,
    e: Tensor | None,
    f: Tensor | None,
    g: Tensor | None,
    h: Tensor | None,
    wanted: Sequence[bool],
    reduction: str,
    dtype: torch.dtype,
    names: str,
    numbers: Numbers,
) -> list[Tensor]:
    """Return the value, the wanted gradients, computed in the same pass, and the count of a pair."""
    loss = LOSSES[name]
    tensors = (a, b, c, d, e, f, g, h)[: len(loss.tensors)]
    value, gradients = run(loss, tensors, _decoded(names, numbers), reduction, wanted)
    result = value_of(value, dtype)
    return [result[0], *gradients, result[1]] if reduction == PAIR else [result, *gradients]


def _gradients(
    name: str,
    a: Tensor,
    b: Tensor | None,
    c: Tensor | None,
    d: Tensor | None,
    e: Tensor | None,
    f: Tensor | None,
    g: Tensor | None,
    h: Tensor | None,
    upstream: Tensor,
    wanted: Sequence[bool],
    reduction: str,
    names: str,
    numbers: Numbers,
) -> list[Tensor]:
    """Return the gradients that need the incoming gradient first."""
    loss = LOSSES[name]
    tensors = (a, b, c, d, e, f, g, h)[: len(loss.tensors)]
    return gradients_of(loss, tensors, _decoded(names, numbers), reduction, wanted, upstream)


def _like(tensors: Sequence[Tensor | None], wanted: Sequence[bool]) -> list[Tensor]:
    pairs = zip(tensors, wanted, strict=False)
    return [torch.empty_like(tensor) for tensor, is_wanted in pairs if is_wanted and tensor is not None]


def _fake_loss(name, a, b, c, d, e, f, g, h, wanted, reduction, dtype, names, numbers):  # type: ignore[no-untyped-def]
    loss, tensors = LOSSES[name], (a, b, c, d, e, f, g, h)
    shape = loss.shape(tensors[loss.shaped_by], _decoded(names, numbers)) if reduction == "none" else ()
    count = [a.new_empty((), dtype=count_dtype(dtype))] if reduction == PAIR else []
    return [a.new_empty(shape, dtype=dtype), *_like(tensors, wanted), *count]


def _fake_gradients(name, a, b, c, d, e, f, g, h, upstream, wanted, *_):  # type: ignore[no-untyped-def]
    return _like((a, b, c, d, e, f, g, h), wanted)


class _Derivative(torch.autograd.Function):
    """The derivatives of an operator. A derivative that it lacks is an error, never 0."""

    @staticmethod
    def backward(ctx: Any, *upstreams: Tensor) -> Any:
        raise NotImplementedError(f"the gradient of fastloss.torch.{ctx.loss} cannot be differentiated")

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError(f"fastloss.torch.{ctx.loss} has no forward derivative")


class _OfLoss(_Derivative):
    @staticmethod
    def forward(ctx: Any, operator: Callable[..., Any], *arguments: Any) -> Any:
        results = operator(*arguments)
        ctx.loss, *tensors, ctx.wanted, ctx.reduction, _, ctx.names, ctx.numbers = arguments
        ctx.count = len(arguments)
        ctx.set_materialize_grads(False)
        if ctx.reduction == PAIR:
            ctx.mark_non_differentiable(results[-1])
        gradients = results[1 : 1 + list(ctx.wanted).count(True)]
        ctx.save_for_backward(*(gradients or tensors))
        return results

    @staticmethod
    def backward(ctx: Any, *upstreams: Tensor | None) -> Any:
        if any(upstream is not None for upstream in upstreams[1:]):
            raise NotImplementedError(f"the gradient of fastloss.torch.{ctx.loss} cannot be differentiated")
        if upstreams[0] is None:
            return (None,) * (1 + ctx.count)
        needs = ctx.needs_input_grad[2 : 2 + MOST]
        loss = LOSSES[ctx.loss]
        for k, is_needed in enumerate(needs):
            if is_needed and k not in loss.gradients:
                raise ValueError(f"fastloss.torch.{ctx.loss} has no gradient for {loss.tensors[k]}")
        results = _found(ctx, needs, upstreams[0])
        return None, None, *results, *[None] * (ctx.count - 1 - MOST)


def _found(ctx: Any, needs: Sequence[bool], upstream: Tensor) -> list[Tensor | None]:
    """Return a gradient for each tensor, None where not needed."""
    if True in ctx.wanted:
        places = [k for k, is_wanted in enumerate(ctx.wanted) if is_wanted]
        gradients = [multiplied(gradient, upstream) for gradient in ctx.saved_tensors]
    else:
        wanted = list(needs[: len(LOSSES[ctx.loss].tensors)])
        places = [k for k, is_wanted in enumerate(wanted) if is_wanted]
        how = (wanted, ctx.reduction, ctx.names, ctx.numbers)
        gradients = _late(ctx.loss, *ctx.saved_tensors, upstream, *how)
    found: dict[int, Tensor] = dict(zip(places, gradients, strict=True))
    return [found[k] if is_needed else None for k, is_needed in enumerate(needs)]


class _OfGradients(_Derivative):
    @staticmethod
    def forward(ctx: Any, operator: Callable[..., Any], *arguments: Any) -> Any:
        ctx.loss = arguments[0]
        return operator(*arguments)


def _parts(arguments: Sequence[Any], axes: Sequence[Any], index: int | None) -> list[Any]:
    """Return the arguments for one element of a batch; for an `index` of None, zeros of their shapes."""

    def part(value: Any, axis: Any) -> Any:
        if axis is None or not isinstance(value, Tensor):
            return value
        if index is None:
            return value.new_zeros((*value.shape[:axis], *value.shape[axis + 1 :]))
        return value.select(axis, index)

    return [part(value, axis) for value, axis in zip(arguments, axes, strict=True)]


def _looped(operator: Callable[..., Any]) -> Callable[..., Any]:
    """Return the operator over a batch of `torch.vmap`, with one call for each element."""

    def one_by_one(info: Any, axes: Sequence[Any], *arguments: Any) -> Any:
        if info.batch_size == 0:
            one = operator(*_parts(arguments, axes, None))
            results = pytree.tree_map(lambda result: result.new_empty((0, *result.shape)), one)
        else:
            all_ = [operator(*_parts(arguments, axes, index)) for index in range(info.batch_size)]
            results = pytree.tree_map(lambda *same: torch.stack(same), *all_)
        return results, pytree.tree_map(lambda _: 0, results)

    return one_by_one


def _operator(
    name: str, function: Callable[..., Any], fake: Callable[..., Any], derivative: type[_Derivative]
) -> Callable[..., Any]:
    """Register and return an operator of CPU tensors.

    `torch.library.custom_op` is not used, as it drops forward derivatives and lacks ``torch.func``.
    """
    schema = torch.library.infer_schema(function, mutates_args=())
    _library.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
    operator = getattr(torch.ops.fastloss, name).default
    _library.impl(name, function, "CPU")
    torch.library.register_fake(f"fastloss::{name}", fake, lib=_library)
    torch.library.register_vmap(f"fastloss::{name}", _looped(operator), lib=_library)
    is_list = schema.endswith("[]")

    def differentiable(keys: Any, *arguments: Any) -> Any:
        is_reverse, is_forward = torch.is_grad_enabled(), torch._C._is_fwd_grad_enabled()

        def below(*arguments: Any) -> Any:
            # Restore the modes: the function has disabled them, but an outer transform still needs them.
            with (
                torch.set_grad_enabled(is_reverse),
                forward_ad._set_fwd_grad_enabled(is_forward),
                torch._C._AutoDispatchBelowAutograd(),
            ):
                results = operator.redispatch(keys & torch._C._after_autograd_keyset, *arguments)
            return tuple(results) if is_list else results

        with autograd_function.enable_single_level_autograd_function():  # type: ignore[attr-defined]
            results = super(torch.autograd.Function, derivative).apply(below, *arguments)  # type: ignore[misc]
        return list(results) if is_list else results

    untraced: Any = torch.compiler.disable(differentiable)  # type: ignore[no-untyped-call]
    _library.impl(name, untraced, "Autograd", with_keyset=True)
    returned: Callable[..., Any] = operator
    return returned


_library: Any = torch.library.Library("fastloss", "FRAGMENT")  # type: ignore[no-untyped-call]
# Change this name if the operators of the backward change: torch caches compiled graphs on disk by this name.
loss_operator = _operator("loss_with_gradients", _loss, _fake_loss, _OfLoss)


def _returning(count: int) -> Callable[..., Any]:
    """Return the operator of `count` gradients.

    There is one operator for each count, as torch's older vmap (``is_grads_batched=True``) does not support
    lists of tensors.
    """

    def packed(function: Callable[..., list[Tensor]]) -> Callable[..., Any]:
        def of_count(*arguments: Any) -> Any:
            results = function(*arguments)
            return results[0] if count == 1 else tuple(results)

        return of_count

    function = packed(_gradients)
    returned = Tensor if count == 1 else tuple[(Tensor,) * count]  # type: ignore[misc]
    function.__signature__ = inspect.signature(_gradients).replace(return_annotation=returned)  # type: ignore[attr-defined]
    return _operator(f"gradients_{count}", function, packed(_fake_gradients), _OfGradients)


gradients_operators = {count: _returning(count) for count in (1, 2, 3, 4)}


def _late(name: str, *arguments: Any) -> list[Tensor]:
    """Return the gradients that need the incoming gradient first, from their operator."""
    wanted = arguments[MOST + 1]
    results = gradients_operators[wanted.count(True)](name, *arguments)
    return [results] if isinstance(results, Tensor) else list(results)


def gradients(
    loss: Loss,
    tensors: Tensors,
    options: dict[str, Any],
    reduction: str,
    wanted: Sequence[bool],
    upstream: Tensor,
) -> list[Tensor]:
    """Return the result of `gradients_of` from the operators, which support batches and graphs."""
    given = (*tensors, *[None] * (MOST - len(tensors)))
    return _late(loss.name, *given, upstream, list(wanted), reduction, *_encoded(options))


def evaluate(
    loss: Loss,
    tensors: Sequence[Tensor | None],
    options: dict[str, Any],
    reduction: str,
    wanted: Sequence[bool],
) -> Any:
    """Return a loss of tensors from the operators; `wanted` has a bool for each tensor, or is empty."""
    if loss.name not in LOSSES:
        raise NotImplementedError(f"fastloss.torch.{loss.name} runs only eagerly, on plain CPU tensors")
    input = tensors[0]
    assert input is not None
    if not wanted or comes_late(input, reduction):
        wanted = [False] * len(tensors)
    given = (*tensors, *[None] * (MOST - len(tensors)))
    names, numbers = _encoded(options)
    results = loss_operator(loss.name, *given, wanted, reduction, dtype_of(loss, input), names, numbers)
    return (results[0], results[-1]) if reduction == PAIR else results[0]
