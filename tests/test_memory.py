"""Memory that the system refuses: a MemoryError, `out` as it was, the next call right, and nothing lost."""

import sys

import pytest
from processes import run_python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")

CODE = """
import gc, resource, tracemalloc
import numpy as np
import fastloss

rng = np.random.default_rng(0)
f4 = np.float32

def of(value, *shape, dtype=f4):
    "An array of little memory."
    return np.broadcast_to(np.array(value, dtype), shape)

def wide(count, classes):
    return rng.standard_normal((count, classes)).astype(f4)

def size():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

class Limit:
    "No more address space than there is, but for a little."
    def __enter__(self):
        gc.collect()
        resource.setrlimit(resource.RLIMIT_AS, (size() + 2**21, resource.RLIM_INFINITY))
    def __exit__(self, *error):
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

n = 2_000_000
long, ones = of(0.5, 1, 2**31), np.zeros(n, int)
scores, x, target, times = wide(1, n)[0].astype(float), wide(1000, 4000), np.arange(1000), rng.random(n)
layer, hidden = wide(50_000, 8), wide(1000, 8)
kept = np.full_like(x, 55.0)
calls = dict(
    gradient=lambda: fastloss.cross_entropy(x, target, return_grad=True),
    losses=lambda: fastloss.mse_loss(of(1, n), of(0, n), reduction="none"),
    softmax=lambda: fastloss.softmax(x),
    targets=lambda: fastloss.cross_entropy(of(0.5, n, 10), of(1, n, dtype=np.int8)),
    conversion=lambda: fastloss.mse_loss(x, of(1, 1000, 4000, dtype=float), return_grad=True, out=kept),
    weight=lambda: fastloss.mse_loss(x, x, weight=of(1, 1000, 4000, dtype=int), return_grad=True, out=kept),
    row=lambda: fastloss.cross_entropy(long, [5]),
    shared_row=lambda: fastloss.cross_entropy(long, [5], num_threads=2),
    statistics_row=lambda: fastloss.token_statistics(long, [5]),
    shared_statistics=lambda: fastloss.token_statistics(long, [5], num_threads=2),
    statistics=lambda: fastloss.token_statistics(of(0.5, n, 10), ones),
    divergence_row=lambda: fastloss.js_div_with_logits(long, long),
    shared_divergence=lambda: fastloss.js_div_with_logits(long, long, num_threads=2),
    divergence=lambda: fastloss.kl_div_with_logits(x, x, return_grad=True),
    labels=lambda: fastloss.multilabel_margin_loss(of(0.5, 1, n), of(0, 1, n, dtype=int)),
    pairs=lambda: fastloss.cosine_embedding_loss(of(0.5, n, 4), of(0.5, n, 4), of(1, n)),
    list_net=lambda: fastloss.list_net_loss(scores, scores, [n]),
    lambda_rank=lambda: fastloss.lambda_rank_loss(scores, ones, [n]),
    survival=lambda: fastloss.cox_ph_loss(scores, times, of(1, n, dtype=bool)),
    alignment=lambda: fastloss.ctc_loss(of(-3, 5000, 1, 20), of(1, 1, 2000, dtype=int), [5000], [2000]),
    linear=lambda: fastloss.linear_cross_entropy(hidden, layer, target),
    linear_statistics=lambda: fastloss.linear_token_statistics(hidden, layer, target),
    contrastive=lambda: fastloss.info_nce_loss(wide_query, wide_query),
    perplexity=lambda: fastloss.perplexity(of(0.5, n, 10), of(1, n, dtype=np.int16)),
    preference=lambda: fastloss.dpo_loss(*[of(-1, n)] * 4, return_grad=True),
    reward=lambda: fastloss.ppo_loss(*[of(-1, n)] * 3, return_grad=True),
)
wide_query = wide(20_000, 16)
small, labels = wide(300, 700), rng.integers(0, 700, 300)
def right():
    return fastloss.cross_entropy(small, labels, return_grad=True)
expected = right()

def refused(name, call):
    with Limit():
        try:
            call()
        except MemoryError:
            return
    raise AssertionError(f"{name} needed no memory")

def known():
    gc.collect()
    return tracemalloc.get_traced_memory()[0]

fastloss.cross_entropy(x, target, num_threads=2)  # starts the threads
for name, call in calls.items():
    refused(name, call)
    before = size()
    tracemalloc.start()
    refused(name, call)  # NumPy reports what it did not get, once
    traced = known()
    for _ in range(5):
        refused(name, call)
    assert known() - traced < 20_000, (name, known() - traced)
    tracemalloc.stop()
    assert size() - before < 2**20, (name, size() - before)
    assert (kept == 55.0).all(), name
    found = right()
    assert found[0] == expected[0] and (found[1] == expected[1]).all(), name
print(len(calls), "calls")
"""


def test_refused_memory() -> None:
    assert run_python(CODE, OPENBLAS_NUM_THREADS="1").endswith(" calls\n")
