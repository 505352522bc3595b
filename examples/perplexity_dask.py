"""Perplexity of a corpus on a Dask cluster of processes, with the bits of one process.

The cluster is one of this machine, which the example starts. For another, pass its address to
``dask.distributed.Client``. Each worker computes the perplexity of partitions, and pairs are added as a tree.

Run it with ``python examples/perplexity_dask.py``; ``--help`` lists the options. It needs Dask
(``pip install distributed``).
"""

from __future__ import annotations

import operator
import sys
import time
from typing import TYPE_CHECKING, Any

import fastloss

if TYPE_CHECKING:
    from examples import perplexity_corpus as shared
else:  # the same folder, by its name in an installed fastloss
    from fastloss._examples import perplexity_corpus as shared


def on_a_cluster(plan: shared.Plan, parameters: Any, processes: int) -> tuple[fastloss.Perplexity, float]:
    """Return the perplexity of all partitions, and the seconds."""
    import dask
    from dask.distributed import Client, LocalCluster

    settings = {
        # In place of Dask's own, which also change how workers give memory back to the system.
        "distributed.nanny.pre-spawn-environ": shared.ONE_THREAD,
        # It stops the computation a hundred times a second.
        "distributed.worker.profile.enabled": False,
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=processes, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(shared.warm_up, plan.vocabulary)
        begin = time.perf_counter()
        everywhere = client.scatter(parameters, broadcast=True, direct=False)
        parts = client.map(shared.evaluate, range(plan.partitions), parameters=everywhere, plan=plan)
        while len(parts) > 1:
            pairs = [
                client.submit(operator.add, *pair) for pair in zip(parts[::2], parts[1::2], strict=False)
            ]
            parts = pairs + parts[2 * len(pairs) :]
        total: fastloss.Perplexity = parts[0].result()
        return total, time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(shared.main(on_a_cluster, "Dask workers", __doc__))
