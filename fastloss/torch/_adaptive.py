"""The adaptive softmax of torch, whose logits never exist all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import adaptive

from fastloss._engine.adaptive import divided
from fastloss.torch._bridge import FLOATING, are_of_processor, as_array
from fastloss.torch._foreign import Foreign
from fastloss.torch._functional import leave_to_torch, linear_cross_entropy

__all__ = ["AdaptiveLogSoftmaxWithLoss"]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _is_plain(module: Any, dtype: torch.dtype) -> bool:
    """Return whether a module is a linear layer of which nobody but its weights decides what it returns."""
    return (
        type(module) is nn.Linear
        and module.weight.dtype is dtype
        and are_of_processor((module.weight, module.bias))
        and "forward" not in vars(module)
        and not any(getattr(module, hooks) for hooks in _HOOKS)
    )


def _are_ours(module: nn.AdaptiveLogSoftmaxWithLoss, input: Any, target: Any) -> bool:
    """Return whether the arguments are right, and the layers are those that torch's constructor makes."""
    return (
        isinstance(input, Tensor)
        and isinstance(target, Tensor)
        and input.dtype in FLOATING
        and target.dtype is torch.int64
        and are_of_processor((input, target))
        and target.dim() in (0, 1)
        and input.shape == (*target.shape, module.in_features)
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and _is_plain(module.head, input.dtype)
        and all(
            type(cluster) is nn.Sequential
            and len(cluster) == 2
            and not any(getattr(cluster, hooks) for hooks in _HOOKS)
            and all(_is_plain(layer, input.dtype) and layer.in_features for layer in cluster)
            for cluster in module.tail
        )
        and bool(((target >= 0) & (target < module.n_classes)).all())
    )


def _log_probs(layer: Any, input: Tensor, target: Tensor) -> Tensor:
    """Return the log-probability of each target; torch's own function computes what ours does not."""
    losses = linear_cross_entropy(input, layer.weight, target, linear_bias=layer.bias, reduction="none")
    return -losses.to(input.dtype)


def _forward(own: Callable[..., Any]) -> Callable[..., Any]:
    """Return the forward of the module, from torch's own.

    The head has the classes of the first cluster, and an entry for each other cluster. A target of another
    cluster has the log-probability of that entry plus its log-probability within the cluster.
    """

    def forward(self: Any, input_: Tensor, target_: Tensor) -> Any:
        if not _are_ours(self, input_, target_):
            leave_to_torch()
            return own(self, input_, target_)
        input, target = input_.reshape(-1, self.in_features), target_.reshape(-1)
        entries, clusters = divided(as_array(target), self.cutoffs)
        output = _log_probs(self.head, input, torch.from_numpy(entries))
        for (projection, layer), found in zip(self.tail, clusters, strict=True):
            rows, within = map(torch.from_numpy, found)
            if not len(rows):
                continue
            hidden = projection(input.index_select(0, rows))
            output = output.index_add(0, rows, _log_probs(layer, hidden, within))
        output = output.reshape(target_.shape)
        return adaptive._ASMoutput(output, -output.mean())

    return forward


class AdaptiveLogSoftmaxWithLoss(nn.AdaptiveLogSoftmaxWithLoss):
    r"""``torch.nn.AdaptiveLogSoftmaxWithLoss``, whose logits are computed in chunks.

    .. math::
        \mathrm{output}_i = \log p_{\mathrm{head}}(c_i) + \log p_{c_i}(y_i), \qquad
        \mathrm{loss} = -\frac{1}{N} \sum_i \mathrm{output}_i

    for class :math:`y_i` in cluster :math:`c_i`. The second term is missing for the classes of the head.

    It has the constructor, the parameters and the other methods of torch's module. A call returns torch's
    named tuple ``(output, loss)``: the log-probability of each target, and the negative of their mean. Both
    have autograd, for the input and all weights. The logits of the head and of the clusters never exist all
    at once. Backward computes them again.

    Torch's own forward runs under autocast and in compiled programs, for layers that have been replaced or
    have hooks, and for arguments that it refuses.

    Examples
    --------
    >>> import torch
    >>> import fastloss.torch as ft
    >>> module = ft.AdaptiveLogSoftmaxWithLoss(8, 100, cutoffs=[10, 40], div_value=2.0)
    >>> output, loss = module(torch.randn(5, 8), torch.tensor([3, 50, 12, 0, 99]))
    >>> output.shape, loss.shape
    (torch.Size([5]), torch.Size([]))
    """

    forward = _forward(nn.AdaptiveLogSoftmaxWithLoss.forward)


_NAME = "AdaptiveLogSoftmaxWithLoss"
FOREIGN: tuple[Foreign, ...] = (
    Foreign(
        adaptive.__name__,
        f"{_NAME}.forward",
        _forward,
        {
            _NAME: (
                "(in_features, n_classes, cutoffs, div_value=4.0, head_bias=False, device=None, dtype=None)",
            ),
            f"{_NAME}.forward": ("(self, input_, target_)",),
        },
    ),
)
