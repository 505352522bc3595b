"""Losses of transformers that `install` replaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastloss.torch._bridge import HALF, are_of_processor
from fastloss.torch._divided import cross_entropy_over, divisor_of
from fastloss.torch._foreign import Foreign

__all__ = ["CAUSAL", "FOREIGN", "shifted"]

_WIDE = (torch.float32, torch.float64)


def shifted(labels: Tensor, shift_labels: Tensor | None, ignore_index: int) -> Tensor:
    """Return the target of each place: the next label, and none for the last place."""
    if shift_labels is None:
        shift_labels = functional.pad(labels[..., 1:], (0, 1), value=ignore_index)
    return shift_labels.reshape(-1)


def _fixed_cross_entropy(own: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the cross-entropy whose kernel divides the gradient by the number of items."""

    def fixed_cross_entropy(
        source: Tensor,
        target: Tensor,
        num_items_in_batch: Tensor | int | None = None,
        ignore_index: int = -100,
        **kwargs: Any,
    ) -> Tensor:
        divisor = divisor_of(num_items_in_batch)
        if (
            divisor is None
            or not (isinstance(source, Tensor) and source.dim() == 2)
            or source.dtype not in _WIDE
        ):
            # It calls torch's cross_entropy, which is ours.
            return own(source, target, num_items_in_batch, ignore_index, **kwargs)
        return cross_entropy_over(source, target, divisor, ignore_index=ignore_index)

    return fixed_cross_entropy


def _causal(own: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the loss of a language model that reads half types without a copy in float32."""

    def causal(
        logits: Tensor,
        labels: Tensor,
        vocab_size: int,
        num_items_in_batch: Tensor | int | None = None,
        ignore_index: int = -100,
        shift_labels: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        is_half = isinstance(logits, Tensor) and logits.dtype in HALF
        divisor = divisor_of(num_items_in_batch) if is_half else None
        is_ours = (
            is_half
            and are_of_processor((logits, labels, shift_labels))
            and (divisor is not None or num_items_in_batch is None)
        )
        if not is_ours:
            return own(logits, labels, vocab_size, num_items_in_batch, ignore_index, shift_labels, **kwargs)
        target = shifted(labels, shift_labels, ignore_index)
        return cross_entropy_over(logits.view(-1, vocab_size), target, divisor, ignore_index=ignore_index)

    causal.__name__ = "ForCausalLMLoss"
    return causal


# Where the loss of a causal language model is, and its signature.
CAUSAL = Foreign(
    "transformers.loss.loss_utils",
    "ForCausalLMLoss",
    _causal,
    {
        "ForCausalLMLoss": (
            "(logits, labels, vocab_size, num_items_in_batch=None, ignore_index=-100, shift_labels=None, "
            "**kwargs)",
        )
    },
)
FOREIGN: tuple[Foreign, ...] = (
    Foreign(
        CAUSAL.module,
        "fixed_cross_entropy",
        _fixed_cross_entropy,
        {"fixed_cross_entropy": ("(source, target, num_items_in_batch=None, ignore_index=-100, **kwargs)",)},
    ),
    CAUSAL,
)
