"""Perplexity of a corpus in processes of Ray, with the bits of one process.

The example starts Ray on this machine; ``ray.init(address="auto")`` joins a cluster. Tasks compute the
perplexity of partitions, and are added in the order in which they end: any order gives the same bits.

Run it with ``python examples/perplexity_ray.py``; ``--help`` lists the options. It needs Ray.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import fastloss

if TYPE_CHECKING:
    from examples import perplexity_corpus as shared
else:  # the same folder, by its name in an installed fastloss
    from fastloss._examples import perplexity_corpus as shared


def in_tasks(plan: shared.Plan, parameters: Any, processes: int) -> tuple[fastloss.Perplexity, float]:
    """Return the perplexity of all partitions, and the seconds."""
    import ray

    ray.init(num_cpus=processes, include_dashboard=False, log_to_driver=False)
    evaluate, warm_up = ray.remote(shared.evaluate), ray.remote(shared.warm_up)
    ray.get([warm_up.remote(plan.vocabulary) for _ in range(4 * processes)])
    begin = time.perf_counter()
    everywhere = ray.put(parameters)
    waiting = [evaluate.remote(partition, everywhere, plan) for partition in range(plan.partitions)]
    found = fastloss.Perplexity()
    while waiting:
        (done,), waiting = ray.wait(waiting)
        found.merge(ray.get(done))
    seconds = time.perf_counter() - begin
    ray.shutdown()
    return found, seconds


if __name__ == "__main__":
    sys.exit(shared.main(in_tasks, "Ray tasks at once", __doc__))
