"""Functions of TRL that `install` replaces."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastloss.torch._autograd import LOSSES
from fastloss.torch._bridge import FLOATING, HALF, for_product
from fastloss.torch._evaluate import evaluate
from fastloss.torch._foreign import Foreign
from fastloss.torch._functional import has_few_logits, is_layer, leave_to_torch
from fastloss.torch._statistics import linear_token_statistics, token_statistics
from fastloss.torch._trl_divergence import DIVERGENCE

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


# What TRL's head computes besides the log-probabilities, in the order of its results.
_OUTPUTS = ("entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


def _chunked_log_probs(own: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``ChunkedLogProbFunction.apply``, by `linear_token_statistics`."""

    def apply(
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        chunk_size: int,
        final_logit_softcapping: float | None = None,
        logit_scale: float = 1.0,
        outputs: tuple[str, ...] = _OUTPUTS,
    ) -> Any:
        wanted = ("log_probs", *(name for name in _OUTPUTS if name in outputs))
        try:
            x, layer, offset = for_product(hidden, weight, bias)
            # Under autocast the results of half types are in float32, as TRL's always are.
            is_half = hidden.dtype in HALF
            options: dict[str, Any] = {
                "outputs": wanted, "temperature": float(temperature), "softcap": final_logit_softcapping,
                "logit_scale": float(logit_scale),
            }  # fmt: skip
            assert x is not None and layer is not None
            if is_layer(x, layer, offset) and has_few_logits(x, layer, offset, targets):
                found = token_statistics(functional.linear(x, layer, offset), targets, **options)
            else:
                with torch.autocast("cpu", hidden.dtype) if is_half else contextlib.nullcontext():
                    found = linear_token_statistics(x, layer, targets, linear_bias=offset, **options)
        except (IndexError, NotImplementedError, TypeError, ValueError):
            leave_to_torch()
            return own(
                hidden, weight, bias, targets, temperature, chunk_size, final_logit_softcapping, logit_scale,
                outputs,
            )  # fmt: skip
        results = (getattr(found, name) for name in ("log_probs", *_OUTPUTS))
        return tuple(one.float() if one is not None and one.is_floating_point() else one for one in results)

    return apply


def _compact(own: Callable[[torch.device], bool]) -> Callable[[torch.device], bool]:
    """Return the function by which TRL's head decides to leave out the masked tokens before its products."""

    def use_triton(device: torch.device) -> bool:
        return device.type == "cpu" or own(device)

    return use_triton


_HEAD = (
    "(ctx, hidden, weight, bias, targets, temperature, chunk_size, final_logit_softcapping=None, "
    f"logit_scale=1.0, outputs={_OUTPUTS})"
)
FOREIGN: tuple[Foreign, ...] = (
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
    Foreign(
        "trl.kernels.chunked_logprob",
        "ChunkedLogProbFunction.apply",
        _chunked_log_probs,
        {"ChunkedLogProbFunction.forward": (_HEAD,)},
    ),
    Foreign(
        "trl.trainer.utils",
        "_use_triton",
        _compact,
        {"_use_triton": ("(device)",), "_ChunkedLogProbFunction.forward": (_HEAD,)},
        is_local=True,
    ),
    DIVERGENCE,
    Foreign(
        "trl.trainer.distillation_trainer",
        "_use_triton",
        _compact,
        {
            "_use_triton": ("(device)",),
            "ChunkedDivergenceFunction.forward": DIVERGENCE.known["ChunkedDivergenceFunction.forward"],
        },
        is_local=True,
    ),
)
