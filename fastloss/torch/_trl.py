"""Functions of TRL that `install` replaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastloss.torch._autograd import LOSSES
from fastloss.torch._bridge import FLOATING
from fastloss.torch._evaluate import evaluate
from fastloss.torch._foreign import Foreign
from fastloss.torch._functional import leave_to_torch

__all__ = ["FOREIGN"]

# Marks a masked row: a value that no one uses as a class.
_MASKED = torch.iinfo(torch.int64).min


def _selective_log_softmax(own: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return TRL's function of this name, with `token_log_probs` for calls with one index for each row."""
    loss = LOSSES["token_log_probs"]

    def trls(*args: Any, **options: Any) -> Tensor:
        leave_to_torch()
        return own(*args, **options)

    def selective_log_softmax(
        logits: Tensor, index: Tensor, temperature: float = 1.0, row_mask: Tensor | None = None
    ) -> Tensor:
        # Pass no defaults: earlier versions of TRL may lack these parameters.
        scaled = {} if temperature == 1.0 else {"temperature": temperature}
        masked = {} if row_mask is None else {"row_mask": row_mask}

        # The graph keeps this function, so it must not refer to tensors.
        def of_rows(logits: Tensor, rows: Tensor, is_masked: bool = row_mask is not None) -> Tensor:
            if not is_masked:
                return trls(logits, rows, **scaled)
            counted = rows != _MASKED
            return trls(logits, rows.masked_fill(~counted, 0), **scaled, row_mask=counted)

        if index.dtype is not torch.int64 or index.shape != logits.shape[:-1]:
            return trls(logits, index, **scaled, **masked)
        if logits.dtype not in FLOATING:
            return trls(logits, index, **scaled, **masked)
        rows = index if row_mask is None else index.masked_fill(row_mask == 0, _MASKED)
        options = {"temperature": float(temperature), "ignore_index": _MASKED}
        try:
            return evaluate(loss, (logits, rows), options, "none", of_rows)
        except IndexError:  # TRL's function has no ignored class, and raises its own error
            return trls(logits, index, **scaled, **masked)

    return selective_log_softmax


FOREIGN = (
    Foreign(
        "trl.trainer.utils",
        "selective_log_softmax",
        _selective_log_softmax,
        {
            "selective_log_softmax": (
                "(logits, index)",
                "(logits, index, temperature=1.0, row_mask=None)",
            )
        },
    ),
)
