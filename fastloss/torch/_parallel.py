"""Cross-entropy over a vocabulary that is divided among processes.

Each process holds a slice of the classes. From the other processes it receives the four numbers of each row
that `fastloss._engine.bands` needs: log-sum-exp, loss, mass and class weight of the target.
"""

from __future__ import annotations

import math
from typing import Any, Unpack

import numpy as np
import torch
import torch.distributed
from torch import Tensor

from fastloss import _kernels
from fastloss._engine import arguments, results
from fastloss._engine.bands import OF_A_BAND, Merged, clear_masked, look, target_slope
from fastloss._engine.chunks import LinearGradients
from fastloss._engine.conversion import cast, widened
from fastloss._engine.documentation import documented
from fastloss._engine.linear import linear_loss
from fastloss._engine.options import MapOptions, softmax_options
from fastloss._engine.rows import run_family
from fastloss._engine.types import Array
from fastloss.torch._autograd import Loss
from fastloss.torch._bridge import autocast, like
from fastloss.torch._documentation import PARALLEL
from fastloss.torch._evaluate import evaluate
from fastloss.torch._functional import further, row_shape
from fastloss.torch._processes import gathered, rank_in

__all__ = ["vocab_parallel_cross_entropy", "vocab_parallel_linear_cross_entropy"]

# Indices that mark a target on another process, and an ignored target, for the kernels.
_ELSEWHERE, _IGNORED = -1, -2


class _Ranks:
    """The processes of a group, and the slices of a vocabulary that they hold."""

    def __init__(self, classes_here: int, group: Any) -> None:
        self.group = group
        self.rank = rank_in(group)
        sizes = self.gather(np.array([classes_here]))[:, 0]
        self.first, self.classes = int(sizes[: self.rank].sum()), int(sizes.sum())
        self.most = int(sizes.max())

    def gather(self, values: Array) -> Array:
        """Return the values of all processes, stacked in order of rank."""
        return gathered(values, self.group)

    def add(self, values: Array) -> Array:
        """Return the sum of the values of all processes, in the type of the values."""
        total = torch.from_numpy(widened(values, np.float64 if values.dtype == np.float64 else np.float32))
        torch.distributed.all_reduce(total, group=self.group)
        return cast(total.numpy(), values.dtype)


def _target_here(
    target: Array, x: Array, weight: Array | None, ignore_index: int, ranks: _Ranks
) -> tuple[dict[str, Any], Array]:
    """Return the target as the kernels take it, and the rows that count."""
    rows = x.shape[:-1]
    if arguments.is_probabilities(target):
        probabilities = arguments.probabilities(target, x.shape, x.ndim - 1, x.dtype, ignore_index)
        return {"probabilities": probabilities, "weight": weight}, np.ones(rows, np.bool_)
    indices, ignored = arguments.class_indices(target, x.shape, x.ndim - 1, ignore_index)
    counted = np.ones(rows, np.bool_) if ignored is None else indices != ignored
    arguments.require_classes(target, indices, ranks.classes, counted)
    local = np.asarray(indices - ranks.first)
    local[(local < 0) | (local >= x.shape[-1])] = _ELSEWHERE
    local[~counted] = _IGNORED
    return {"indices": local, "weight": weight, "ignored": _IGNORED}, counted


@np.errstate(all="ignore")
def _sliced_cross_entropy(
    logits: Array,
    target: Array,
    weight: Array | None = None,
    *,
    group: Any,
    ignore_index: int,
    reduction: str,
    return_grad: bool = False,
    grad_output: Any = None,
    **options: Any,
) -> Any:
    """Compute `vocab_parallel_cross_entropy` of arrays."""
    results.check_reduction(reduction)
    checked: dict[str, Any] = softmax_options(options)[0]
    class_weight = None if weight is None else arguments.class_weight(weight, logits.shape[-1])
    ranks = _Ranks(logits.shape[-1], group)
    here, counted = _target_here(target, logits, class_weight, ignore_index, ranks)
    seen = ranks.gather(look(logits, here, checked, ranks.classes, None))
    merged = Merged(seen, checked, has_indices="indices" in here)
    losses = np.where(counted, merged.losses, 0.0)
    denominator = float(merged.weight[counted].sum())
    loss = results.reduced(reduction, losses, math.fsum(losses.flat), denominator, logits)
    if not return_grad:
        return loss
    scale, upstream = results.upstream(grad_output, losses.shape if reduction == "none" else (), True)
    if reduction == "mean":
        scale = scale / denominator if denominator else 0.0
    gradient = np.empty_like(logits)
    run_family(
        _kernels.CROSS_ENTROPY, logits, logits.ndim - 1, output=gradient, grad_output=upstream,
        grad_scale=scale, elsewhere=(*merged.elsewhere(ranks.rank), ranks.classes), **here,
        **{**checked, **OF_A_BAND},
    )  # fmt: skip
    is_masked = merged.is_masked(ranks.rank) & counted
    if is_masked.any():
        factor = np.full(losses.shape, scale) if upstream is None else upstream * scale
        clear_masked(gradient, is_masked, here, factor * target_slope(checked, ranks.classes))
    return loss, gradient


def _sliced_linear(
    input: Array,
    linear_weight: Array,
    target: Array,
    *,
    group: Any,
    linear_bias: Array | None = None,
    weight: Array | None = None,
    ignore_index: int,
    memory_budget: int | None,
    reduction: str,
    return_grad: bool = False,
    out: Any = None,
    **options: Any,
) -> Any:
    """Compute `vocab_parallel_linear_cross_entropy` of arrays."""
    ranks = _Ranks(linear_weight.shape[0], group)
    result = linear_loss(
        input, linear_weight, target, reduction, return_grad, out, options, linear_bias=linear_bias,
        weight=weight, ignore_index=ignore_index, memory_budget=memory_budget, share=ranks,
    )  # fmt: skip
    if not return_grad:
        return result
    loss, gradients = result
    whole = None if gradients.input is None else ranks.add(gradients.input)
    return loss, LinearGradients(whole, gradients.linear_weight, gradients.linear_bias)


_SLICED = Loss(
    "vocab_parallel_cross_entropy", _sliced_cross_entropy, ("logits", "target", "weight"), row_shape
)
_SLICED_LINEAR = Loss(
    "vocab_parallel_linear_cross_entropy",
    _sliced_linear,
    ("input", "linear_weight", "target", "linear_bias", "weight"),
    row_shape,
    gradients=(0, 1, 3),
    is_linear=True,
)


@torch.compiler.disable  # type: ignore[untyped-decorator]
@documented(PARALLEL, size="V_r", input="Logits of this rank's slice of the classes.")
def vocab_parallel_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    group: Any = None,
    **extras: Unpack[MapOptions],
) -> Tensor:
    r"""Cross-entropy of logits whose classes are divided among the processes of a group.

    ``loss = log(sum(exp(input))) - input[y]`` over the classes of all ranks, for a row of class ``y``

    .. math:: \log \sum_r \sum_{j \in V_r} e^{x_j} - x_y

    for a row `x` with class `y`. Rank `r` holds the classes :math:`V_r`; the slices are consecutive, in order
    of rank, and of any sizes. Each rank sends four numbers for each row; logits and gradients are not sent.

    Returns
    -------
    loss : Tensor with shape (), or (...); or two tensors with shape ()
        The same on each rank, and the value that one process computes from all logits. It has a gradient for
        `input`.

    References
    ----------
    ``megatron.core.tensor_parallel.vocab_parallel_cross_entropy``.

    Examples
    --------
    In each process, with `head` its rows of the output layer's weight::

        logits = hidden @ head.T
        loss = fastloss.torch.vocab_parallel_cross_entropy(logits, target)
    """
    is_one = input.dim() == 1
    if is_one:
        input, target = input.unsqueeze(0), target.unsqueeze(0)
    options = {
        "group": group, "ignore_index": ignore_index, "label_smoothing": label_smoothing,
        **further("vocab_parallel_cross_entropy", extras),
    }  # fmt: skip
    loss = evaluate(_SLICED, (input, target, weight), options, reduction)
    return loss.squeeze(0) if is_one and reduction == "none" else loss


@torch.compiler.disable  # type: ignore[untyped-decorator]
@documented(PARALLEL, size="D", input="Vectors of the tokens, the same on each rank.")
def vocab_parallel_linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    group: Any = None,
    memory_budget: int | None = None,
    **extras: Unpack[MapOptions],
) -> Tensor:
    r"""Cross-entropy of a linear layer whose classes are divided among the processes of a group.

    ``loss = cross_entropy(input @ linear_weight.T + linear_bias, target)`` over the classes of all ranks

    .. math:: \log \sum_r \sum_{j \in V_r} e^{W_j x + b_j} - (W_y x + b_y)

    Large logits are never held all at once: see `fastloss.linear_cross_entropy`. The slices of classes are
    those of `vocab_parallel_cross_entropy`.

    Returns
    -------
    loss : Tensor with shape (), or (...); or two tensors with shape ()
        The same on each rank. The gradient for `input` is summed over the ranks, and the same on each. The
        gradients for `linear_weight` and `linear_bias` are this rank's own.

    References
    ----------
    Wijmans et al., "Cut your losses in large-vocabulary language models", 2025.

    Examples
    --------
    In each process, with `head` its rows of the output layer's weight::

        loss = fastloss.torch.vocab_parallel_linear_cross_entropy(hidden, head, target)
    """
    options = {
        "group": group, "ignore_index": ignore_index, "label_smoothing": label_smoothing,
        "memory_budget": memory_budget, **further("vocab_parallel_linear_cross_entropy", extras),
    }  # fmt: skip
    input = autocast(input)
    tensors = (input, autocast(linear_weight), like(input, target), autocast(linear_bias), weight)
    return evaluate(_SLICED_LINEAR, tensors, options, reduction)
