"""The losses as operators of torch: what torch.compile, fake tensors and dispatch modes see of them.

Two operators serve all losses, told by name. Options travel as their names (and words) in one string, and
their numbers. (No ``from __future__ import annotations`` here: torch reads the schema from the types.)
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastloss.torch._autograd import (
    LOSSES,
    Loss,
    comes_late,
    dtype_of,
    gradients_of,
    multiplied,
    run,
    value_of,
)

__all__ = ["evaluate"]

# The most tensors that a loss has.
MOST = 6
Numbers = Sequence[int | float | bool]


def _encoded(options: dict[str, Any]) -> tuple[str, list[int | float | bool]]:
    """Options as names (``name``, ``name=word``, or ``name=`` for None) and the numbers of the first sort."""
    names, numbers = [], []
    for name, value in options.items():
        if value is None or isinstance(value, str):
            names.append(f"{name}={value or ''}")
        else:
            names.append(name)
            numbers.append(value)
    return " ".join(names), [*numbers, 0]  # torch takes an empty list for one of tensors


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
    wanted: Sequence[bool],
    reduction: str,
    dtype: torch.dtype,
    names: str,
    numbers: Numbers,
) -> list[Tensor]:
    """Value, and the gradients that are wanted and can come with it."""
    loss = LOSSES[name]
    tensors = (a, b, c, d, e, f)[: len(loss.tensors)]
    value, gradients = run(loss, tensors, _decoded(names, numbers), reduction, wanted)
    return [value_of(value, dtype), *gradients]


loss_operator = torch.library.custom_op("fastloss::loss", _loss, mutates_args=(), device_types="cpu")


def _gradients(
    name: str,
    a: Tensor,
    b: Tensor | None,
    c: Tensor | None,
    d: Tensor | None,
    e: Tensor | None,
    f: Tensor | None,
    upstream: Tensor,
    wanted: Sequence[bool],
    reduction: str,
    names: str,
    numbers: Numbers,
) -> list[Tensor]:
    """The gradients that had to wait."""
    loss = LOSSES[name]
    tensors = (a, b, c, d, e, f)[: len(loss.tensors)]
    return gradients_of(loss, tensors, _decoded(names, numbers), reduction, wanted, upstream)


gradients_operator = torch.library.custom_op(
    "fastloss::gradients", _gradients, mutates_args=(), device_types="cpu"
)


def _like(tensors: Sequence[Tensor | None], wanted: Sequence[bool]) -> list[Tensor]:
    pairs = zip(tensors, wanted, strict=False)
    return [torch.empty_like(tensor) for tensor, is_wanted in pairs if is_wanted and tensor is not None]


@loss_operator.register_fake
def _(name, a, b, c, d, e, f, wanted, reduction, dtype, names, numbers):  # type: ignore[no-untyped-def]
    shape = LOSSES[name].shape(a, _decoded(names, numbers)) if reduction == "none" else ()
    return [a.new_empty(shape, dtype=dtype), *_like((a, b, c, d, e, f), wanted)]


@gradients_operator.register_fake
def _(name, a, b, c, d, e, f, upstream, wanted, reduction, names, numbers):  # type: ignore[no-untyped-def]
    return _like((a, b, c, d, e, f), wanted)


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    name, *tensors, ctx.wanted, ctx.reduction, _, ctx.names, ctx.numbers = inputs
    ctx.name, ctx.inputs = name, len(inputs)
    ctx.set_materialize_grads(False)
    ctx.is_late = comes_late(tensors[0], ctx.reduction)
    ctx.save_for_backward(*(tensors if ctx.is_late else output[1:]))


def _backward(ctx: Any, upstreams: Sequence[Tensor]) -> Any:
    needs = ctx.needs_input_grad[1 : MOST + 1]
    if any(upstream is not None for upstream in upstreams[1:]):
        raise RuntimeError(
            f"the gradient of fastloss.torch.{ctx.name} cannot be differentiated as an operator"
        )
    if upstreams[0] is None:
        return (None,) * ctx.inputs
    if ctx.is_late:
        wanted = list(needs[: len(LOSSES[ctx.name].tensors)])
        gradients = gradients_operator(
            ctx.name, *ctx.saved_tensors, upstreams[0], wanted, ctx.reduction, ctx.names, ctx.numbers
        )
        found = iter(gradients)
    else:
        found = iter([multiplied(gradient, upstreams[0]) for gradient in ctx.saved_tensors])
    results = [next(found) if is_needed else None for is_needed in needs]
    return None, *results, *[None] * (ctx.inputs - 1 - MOST)


loss_operator.register_autograd(_backward, setup_context=_setup)


def evaluate(
    loss: Loss,
    tensors: Sequence[Tensor | None],
    options: dict[str, Any],
    reduction: str,
    wanted: Sequence[bool],
) -> Tensor:
    """A loss of tensors, by the operators; `wanted` says whose gradients (none where it is empty)."""
    if loss.name not in LOSSES:
        raise NotImplementedError(
            f"fastloss.torch.{loss.name} runs eagerly, on plain tensors of the processor"
        )
    input = tensors[0]
    assert input is not None
    if not wanted or comes_late(input, reduction):
        wanted = [False] * len(tensors)
    given = (*tensors, *[None] * (MOST - len(tensors)))
    names, numbers = _encoded(options)
    results = loss_operator(loss.name, *given, wanted, reduction, dtype_of(loss, input), names, numbers)
    value: Tensor = results[0]
    return value
