"""Perplexity of a corpus in processes of ``torch.distributed``, with the bits of one process.

The example starts the processes on this machine; on several, start them with ``torchrun``. Rank `r` takes
partitions r, r + n, r + 2n and so on, and ``fastloss.torch.all_reduce`` adds up the results of all ranks.

Run it with ``python examples/perplexity_torch.py``; ``--help`` lists the options. It needs PyTorch.
"""

from __future__ import annotations

import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

import fastloss

if TYPE_CHECKING:
    from examples import perplexity_corpus as shared
else:  # the same folder, by its name in an installed fastloss
    from fastloss._examples import perplexity_corpus as shared


def of_rank(rank: int, size: int, folder: str, plan: shared.Plan, parameters: Any, results: Any) -> None:
    """Compute the share of a rank, and add up those of all."""
    from torch import distributed

    import fastloss.torch

    shared.warm_up(plan.vocabulary)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
    distributed.barrier()
    begin = time.perf_counter()
    found = fastloss.Perplexity()
    for partition in range(rank, plan.partitions, size):
        found.merge(shared.evaluate(partition, parameters, plan))
    fastloss.torch.all_reduce(found)
    results.put((found, time.perf_counter() - begin))
    distributed.destroy_process_group()


def in_processes(plan: shared.Plan, parameters: Any, processes: int) -> tuple[fastloss.Perplexity, float]:
    """Return the perplexity of all partitions, the same on each rank, and the seconds."""
    from torch import multiprocessing

    results = multiprocessing.get_context("spawn").SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        arguments = (processes, folder, plan, parameters, results)
        ranks = multiprocessing.start_processes(
            of_rank, arguments, processes, join=False, start_method="spawn"
        )
        found = []
        while not ranks.join(timeout=0.1):
            while not results.empty():
                found.append(results.get())
        while not results.empty():
            found.append(results.get())
    if any(one != found[0][0] for one, _ in found):
        raise RuntimeError("the ranks have different results")
    return found[0][0], max(seconds for _, seconds in found)


if __name__ == "__main__":
    sys.exit(shared.main(in_processes, "ranks", __doc__))
