"""What processes of a group tell each other: arrays, and the perplexity of the whole corpus."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
import torch.distributed

from fastloss._engine.types import Array
from fastloss.perplexity import Perplexity

__all__ = ["all_reduce"]

# Bytes of a message. A state without documents takes 700 at most, as long as its numbers of tokens are below
# 2**64.
_MESSAGE = 1024


def rank_in(group: Any) -> int:
    """Return the rank of this process."""
    rank = torch.distributed.get_rank(group)
    if rank < 0:
        raise ValueError("group must be one that this process belongs to")
    return rank


def gathered(values: Array, group: Any) -> Array:
    """Return the values of all processes, stacked in order of rank."""
    own = torch.from_numpy(np.ascontiguousarray(values))
    all_ = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size(group))]
    torch.distributed.all_gather(all_, own, group=group)
    return np.stack([one.numpy() for one in all_])


def _of_every_rank(perplexity: Perplexity, group: Any) -> list[Perplexity]:
    """Return the objects of all ranks: from short messages, or as they are if one does not fit into these."""
    message = b"" if perplexity.documents else json.dumps(perplexity.state_dict()).encode()
    if len(message) > _MESSAGE:
        message = b""
    padded = np.frombuffer(message.ljust(_MESSAGE), np.uint8).copy()
    messages = [one.tobytes().strip() for one in gathered(padded, group)]
    if all(messages):
        return [Perplexity().load_state_dict(json.loads(one)) for one in messages]
    objects: list[Any] = [None] * len(messages)
    torch.distributed.all_gather_object(objects, perplexity, group=group)
    return objects


def all_reduce(perplexity: Perplexity, group: Any = None) -> Perplexity:
    """Add up the perplexities of all processes of a group, in place on each of them.

    Afterwards every rank holds the batches of all ranks. The sums are exact: the result has the bits that one
    process computes from the whole corpus, however that was divided. Without documents the ranks exchange one
    message of 1,024 bytes; documents are sent by ``torch.distributed.all_gather_object``, which pickles.

    Parameters
    ----------
    perplexity : fastloss.Perplexity
        The share of this rank, with or without documents. It is replaced by the sum.
    group : ProcessGroup, optional
        Processes that take part, by default all. The backend must send CPU tensors, as gloo does.

    Returns
    -------
    fastloss.Perplexity
        The object itself.

    Raises
    ------
    TypeError
        If `perplexity` is not a `fastloss.Perplexity`.
    ValueError
        If the ranks differ in `ignore_index`: on every rank, and nothing has changed. If there is no group,
        or this process is not in it.

    Examples
    --------
    In each process, with its share of the batches::

        corpus = fastloss.Perplexity()
        for logits, target in batches:
            corpus.update(logits.numpy(), target.numpy())
        print(fastloss.torch.all_reduce(corpus).compute())
    """
    if not isinstance(perplexity, Perplexity):
        raise TypeError(f"perplexity must be a fastloss.Perplexity, got {type(perplexity).__name__}")
    rank_in(group)
    shares = _of_every_rank(perplexity, group)
    indices = [one.ignore_index for one in shares]
    if len(set(indices)) > 1:
        raise ValueError(f"perplexity must have the same ignore_index on every rank, got {indices}")
    total = sum(shares, Perplexity(ignore_index=perplexity.ignore_index))
    perplexity.reset()
    return perplexity.merge(total)
