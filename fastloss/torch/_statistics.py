"""Statistics of tokens for tensors: several outputs, of which log_probs and entropy have gradients.

They run eagerly; ``torch.compile`` breaks its graph at them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

import fastloss
from fastloss._engine.chunks import Held
from fastloss._engine.statistics import DIFFERENTIABLE
from fastloss.torch._autograd import (
    NO_REDUCTION,
    Loss,
    Tensors,
    dtype_of,
    is_readable,
    logits_of,
    run,
    taken,
    value_of,
)
from fastloss.torch._beyond import OTHERWISE, arranged, bound
from fastloss.torch._bridge import are_plain, as_array, holding, is_undisturbed
from fastloss.torch._documentation import of_tensors as documentation
from fastloss.torch._evaluate import require_types
from fastloss.torch._functional import row_shape

__all__ = ["linear_token_statistics", "token_statistics"]


class TokenStatistics(NamedTuple):
    """What `token_statistics` returns for each token, as tensors; None for what was not asked for."""

    log_probs: Tensor | None
    entropy: Tensor | None
    logsumexp: Tensor | None
    log_sum_sq_probs: Tensor | None
    mean_logits: Tensor | None
    is_top1: Tensor | None


class _Call:
    """One call: the function, its options without `outputs`, and the tensors that want a gradient."""

    __slots__ = ("dtype", "loss", "options", "outputs", "tensors", "wanted")

    def __init__(self, loss: Loss, tensors: Tensors, options: dict[str, Any], wanted: Sequence[bool]) -> None:
        assert tensors[0] is not None
        self.loss, self.tensors, self.wanted = loss, tensors, wanted
        self.options, self.dtype = dict(options), dtype_of(loss, tensors[0])
        self.outputs = self.options.pop("outputs", DIFFERENTIABLE)

    def values(self, tensors: Tensors) -> list[Tensor]:
        """Return the outputs that were asked for, in the order of the fields."""
        found, _ = run(self.loss, tensors, {**self.options, "outputs": self.outputs}, NO_REDUCTION)
        return [
            torch.from_numpy(one) if one.dtype == bool else value_of(one, self.dtype)
            for one in found
            if one is not None
        ]

    def names(self) -> list[str]:
        """Return the names of the outputs, in the order of the fields."""
        return [name for name in TokenStatistics._fields if name in self.outputs]


class _Statistics(torch.autograd.Function):
    """Compute the gradients in the backward pass, as they need the incoming ones; see `_autograd._Late`."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *_: Tensor | None) -> tuple[Tensor, ...]:
        tensors, call.tensors = call.tensors, ()  # a graph may keep them only as saved tensors
        ctx.call = call
        held = Held() if call.loss.is_linear else None
        with holding(held):
            values = call.values(tensors)
        ctx.save_for_backward(*tensors, logits_of(held))
        ctx.set_materialize_grads(False)
        others = [v for name, v in zip(call.names(), values, strict=True) if name not in DIFFERENTIABLE]
        ctx.mark_non_differentiable(*others)
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *upstreams: Tensor | None) -> Any:
        call = ctx.call
        *tensors, logits = ctx.saved_tensors
        if torch.is_grad_enabled():
            raise RuntimeError(
                f"the gradient of fastloss.torch.{call.loss.name} cannot be differentiated: use it without "
                "create_graph=True"
            )
        if not is_readable(ctx, upstreams):
            raise NotImplementedError(_only_eagerly(call.loss))
        given = dict(zip(call.names(), upstreams, strict=True))
        arrays = tuple(
            None if (one := given.get(name)) is None else as_array(one.to(torch.float64))
            for name in DIFFERENTIABLE
        )
        options = {**call.options, "outputs": [name for name in DIFFERENTIABLE if name in call.outputs]}
        with holding(taken(logits)):
            _, found = run(call.loss, tensors, options, NO_REDUCTION, call.wanted, grad_output=arrays)
        gradients = iter(found)
        return None, *[next(gradients) if call.wanted[k] else None for k in call.loss.gradients]


def _only_eagerly(loss: Loss) -> str:
    return f"fastloss.torch.{loss.name} runs only eagerly, on plain CPU tensors"


@torch.compiler.disable(reason="statistics have no operator")  # type: ignore[untyped-decorator, no-untyped-call]
def _evaluate(loss: Loss, arguments: dict[str, Any]) -> TokenStatistics:
    tensors, options = arranged(loss, arguments)
    require_types(loss, tensors)
    if not (is_undisturbed() and are_plain(tensors)):
        raise NotImplementedError(_only_eagerly(loss))
    wanted = [tensor is not None and tensor.requires_grad for tensor in tensors]
    call = _Call(loss, tensors, options, wanted)
    has_graph = torch.is_grad_enabled() and True in wanted and set(DIFFERENTIABLE) & set(call.outputs)
    if has_graph:
        values = list(_Statistics.apply(call, *(tensors[k] for k in loss.gradients)))  # type: ignore[no-untyped-call]
    else:
        values = call.values(tensors)
    return TokenStatistics(**{**_NONE, **dict(zip(call.names(), values, strict=True))})


_NONE = dict.fromkeys(TokenStatistics._fields)


def _of_tensors(name: str, *tensors: str, **fields: Any) -> Callable[..., TokenStatistics]:
    """Make a function of tensors from the function of arrays."""
    function = getattr(fastloss, name)
    signature = inspect.signature(function)
    kept = [p for p in signature.parameters.values() if p.name not in OTHERWISE]
    nullable = frozenset(p.name for p in kept if p.default is None)
    loss = Loss(name, function, tensors, row_shape, nullable=nullable, **fields)
    positions = tuple(p.name for p in kept if p.kind is p.POSITIONAL_OR_KEYWORD)
    required = frozenset(p.name for p in kept if p.default is p.empty)
    names = frozenset(p.name for p in kept)

    def of_tensors(*args: Any, **options: Any) -> TokenStatistics:
        found: TokenStatistics = _evaluate(loss, bound(name, positions, names, required, args, options))
        return found

    of_tensors.__name__ = of_tensors.__qualname__ = name
    of_tensors.__module__ = "fastloss.torch"
    of_tensors.__doc__ = documentation(name, names, tensors[0], [tensors[k] for k in loss.gradients])
    of_tensors.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[p.replace(annotation=p.empty) for p in kept], return_annotation=signature.empty
    )
    return of_tensors


token_statistics: Callable[..., TokenStatistics] = _of_tensors("token_statistics", "logits", "target")
linear_token_statistics: Callable[..., TokenStatistics] = _of_tensors(
    "linear_token_statistics",
    "input",
    "linear_weight",
    "target",
    "linear_bias",
    gradients=(0, 1, 3),
    is_linear=True,
)
