"""Losses of sentence-transformers that `install` replaces.

``MultipleNegativesRankingLoss``, its cached form, and the symmetric forms that inherit from both, choose the
document of each query, and where they have both directions the query of each document. `info_nce_loss` is the
same without the matrix of similarities. Their other options are left to them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastloss.torch._beyond import info_nce_loss
from fastloss.torch._bridge import FLOATING, are_plain, is_undisturbed
from fastloss.torch._foreign import Foreign, find
from fastloss.torch._functional import leave_to_torch

__all__ = ["FOREIGN"]

_FOLDER = "sentence_transformers.sentence_transformer.losses"
_DOCUMENT, _BOTH = {"query_to_doc"}, {"query_to_doc", "doc_to_query"}


def _directions(loss: Any) -> int:
    """Return the number of directions of a loss module; 0 if it has an option that is not ours."""
    if loss.gather_across_devices or (loss.hardness_mode is not None and loss.hardness_strength > 0.0):
        return 0
    if set(loss.directions) == _DOCUMENT:
        return 1
    return 2 if set(loss.directions) == _BOTH and loss.partition_mode == "per_direction" else 0


def _is_normalized(loss: Any) -> bool | None:
    """Return whether the similarity is that of unit vectors or the plain product; None if it is another."""
    for name, normalize in (("cos_sim", True), ("dot_score", False)):
        if loss.similarity_fct is find("sentence_transformers.util.similarity", name):
            return normalize
    return None


def _are_ours(embeddings: Sequence[Tensor]) -> bool:
    query = embeddings[0]
    return (
        is_undisturbed()
        and not torch.compiler.is_compiling()
        and all(isinstance(one, Tensor) and one.dim() == 2 for one in embeddings)
        and are_plain([one.detach() for one in embeddings])
        and query.dtype in FLOATING
        and len(query) > 0
        and all(one.dtype is query.dtype and one.shape == query.shape for one in embeddings)
    )


def _loss(loss: Any, embeddings: Sequence[Tensor]) -> Tensor | None:
    """Return the loss of the embeddings of queries and of documents, or None if it is not ours."""
    directions, normalize = _directions(loss), _is_normalized(loss)
    if not directions or normalize is None or len(embeddings) < 2 or not _are_ours(embeddings):
        return None
    query, *documents = embeddings
    options = {"temperature": 1.0 / loss.scale, "normalize": normalize}
    if directions == 2 and len(documents) == 1:
        return info_nce_loss(query, documents[0], symmetric=True, **options)
    value = info_nce_loss(query, torch.cat(documents) if len(documents) > 1 else documents[0], **options)
    if directions == 2:  # hard negatives are no keys of the second direction
        value = 0.5 * (value + info_nce_loss(documents[0], query, **options))
    return value


def _plain(own: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the method of ``MultipleNegativesRankingLoss``."""

    def compute_loss_from_embeddings(self: Any, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        value = _loss(self, embeddings)
        if value is not None:
            return value
        leave_to_torch()
        return own(self, embeddings, labels)

    return compute_loss_from_embeddings


def _cached(own: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the method of ``CachedMultipleNegativesRankingLoss``, whose embeddings come in parts."""

    def calculate_loss(
        self: Any, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        value = _loss(self, [torch.cat(parts) for parts in reps])
        if value is None:
            leave_to_torch()
            return own(self, reps, labels, with_backward=with_backward)
        if with_backward:
            value.backward()  # type: ignore[no-untyped-call]
            value = value.detach()
        return value

    return calculate_loss


_SHARED = (
    "gather_across_devices=False, directions=('query_to_doc',), partition_mode='joint', {}"
    "hardness_mode=None, hardness_strength=0.0)"
)
_PLAIN, _CACHED = "MultipleNegativesRankingLoss", "CachedMultipleNegativesRankingLoss"
FOREIGN: tuple[Foreign, ...] = (
    Foreign(
        f"{_FOLDER}.multiple_negatives_ranking",
        f"{_PLAIN}.compute_loss_from_embeddings",
        _plain,
        {
            _PLAIN: ("(model, scale=20.0, similarity_fct=cos_sim, " + _SHARED.format(""),),
            f"{_PLAIN}.compute_loss_from_embeddings": ("(self, embeddings, labels)",),
        },
    ),
    Foreign(
        f"{_FOLDER}.cached_multiple_negatives_ranking",
        f"{_CACHED}.calculate_loss",
        _cached,
        {
            _CACHED: (
                "(model, scale=20.0, similarity_fct=cos_sim, mini_batch_size=32, mini_batch_num_tokens=None, "
                + _SHARED.format("show_progress_bar=False, "),
            ),
            f"{_CACHED}.calculate_loss": ("(self, reps, labels=None, *, with_backward=False)",),
        },
    ),
)
