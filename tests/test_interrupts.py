"""Signals during long calls: Ctrl+C ends them within a tenth of a second, and other handlers run meanwhile.

The inputs are views that repeat little memory, so that a call of seconds needs none.
"""

from __future__ import annotations

import importlib.util
import os

import pytest
from processes import run_python

from fastloss import _kernels

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
THREADS = [1, 2] if _kernels.OPENMP else [1]

SETUP = """
import os, signal, sys, threading, time
import numpy as np
import fastloss

rng = np.random.default_rng(0)
threads = int(os.environ["THREADS"])

def of(value, *shape, dtype=np.float32):
    return np.broadcast_to(np.array(value, dtype), shape)

def rows(count, classes):
    "Rows that overlap."
    memory = rng.standard_normal(count + classes).astype(np.float32)
    return np.lib.stride_tricks.sliding_window_view(memory, classes)[:count]

def delay(call, number=signal.SIGINT, after=0.12):
    "Return how long after the signal a call ended by KeyboardInterrupt, or None."
    sent = []
    def send():
        time.sleep(after)
        sent.append(time.monotonic())
        os.kill(os.getpid(), number)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        try:
            call()
            sender.join()
        except KeyboardInterrupt:
            return time.monotonic() - sent[0]
    finally:
        sender.join()
"""

KINDS = """
many, long = rows(60_000, 40_000), of(0.5, 1, 1_500_000_000)
labels = np.zeros(60_000, int)
kinds = dict(
    pieces=lambda: fastloss.cross_entropy(many, labels, num_threads=threads),
    short_rows=lambda: fastloss.cross_entropy(
        of(0.5, 3_000_000, 33, dtype=np.float64), np.ones(3_000_000, int), softcap=3.0, num_threads=threads),
    one_row=lambda: fastloss.cross_entropy(long, [5], num_threads=threads),
    rows_in_turns=lambda: fastloss.entropy(of(0.5, 2, 500_000_000, dtype=np.float64), num_threads=threads),
    statistics=lambda: fastloss.token_statistics(of(0.5, 1, 500_000_000), [5], num_threads=threads),
    divergence=lambda: fastloss.js_div_with_logits(
        of(0.5, 1, 40_000_000), of(1, 1, 40_000_000), num_threads=threads),
    elements=lambda: fastloss.mse_loss(of(0.5, 4_000_000_000), of(1, 4_000_000_000), num_threads=threads),
    distribution=lambda: fastloss.student_t_nll_loss(
        of(0.5, 500_000_000), of(1, 500_000_000), 1.0, 3.0, num_threads=threads),
    margin=lambda: fastloss.multi_margin_loss(long, [5], num_threads=threads),
    sparsemax=lambda: fastloss.sparsemax_loss(long, [5], num_threads=threads),
    labels=lambda: fastloss.multilabel_margin_loss(
        np.zeros((1, 60_000), np.float32), np.arange(60_000)[None], num_threads=threads),
    cosine=lambda: fastloss.cosine_embedding_loss(*[of(0.5, 1, 2_000_000_000)] * 2, [1], num_threads=threads),
    triplet=lambda: fastloss.triplet_margin_loss(
        of(1, 1, 400_000_000), of(2, 1, 400_000_000), of(3, 1, 400_000_000), p=3.0, num_threads=threads),
    lists=lambda: fastloss.lambda_rank_loss(
        rng.standard_normal(100_000), rng.integers(0, 3, 100_000), [100, 99_900], truncation_level=100_000,
        num_threads=threads),
    survival=lambda: fastloss.cox_ph_loss(
        np.zeros(5_000_000), 1.0 + np.arange(5_000_000) % 4_999_999, of(1, 5_000_000, dtype=bool),
        num_threads=threads),
    alignment=lambda: fastloss.ctc_loss(
        of(-3.0, 9000, 2, 20), rng.integers(1, 20, (2, 3000)), [9000, 300], [3000, 20],
        num_threads=threads),
    linear=lambda: fastloss.linear_cross_entropy(
        rows(20_000, 128), rows(50_000, 128), np.zeros(20_000, int), num_threads=threads),
    contrastive=lambda: fastloss.info_nce_loss(rows(40_000, 64), rows(40_000, 64), num_threads=threads),
)
if os.environ["TORCH"]:
    import torch, fastloss.torch
    tensor = torch.zeros(1).expand(60_000, 40_000)
    kinds["torch"] = lambda: fastloss.torch.cross_entropy(tensor, torch.zeros(60_000, dtype=torch.long))
late = {}

def limit():
    "A tenth of a second, or more where others use the processors, or with the checks of a sanitizer."
    checks = 3.0 if "libasan" in os.environ.get("LD_PRELOAD", "") else 1.0
    return 0.1 * max(checks, os.getloadavg()[0] / os.cpu_count())

for name, call in kinds.items():
    found = []
    while len(found) < 5 and (not found or min(found) >= 0.1):
        taken = delay(call)
        found.append(9.9 if taken is None else taken)
    print(f"{name}: {1e3 * min(found):.0f} ms")
    if min(found) >= limit():
        late[name] = found
assert not late, late
x, target = rng.standard_normal((300, 700)).astype(np.float32), rng.integers(0, 700, 300)
found = fastloss.cross_entropy(x, target, num_threads=threads)
assert found == fastloss.cross_entropy(x, target, num_threads=1)
"""


HANDLERS = """
import pytest
x, y = of(0.5, 2_000_000_000), of(1, 2_000_000_000)
small = rng.standard_normal((300, 700)).astype(np.float32)
target = rng.integers(0, 700, 300)
expected = fastloss.mse_loss(x, y, num_threads=threads), fastloss.cross_entropy(small, target)
ran = []

def computes(number, frame):
    "Another call in the handler, also a small one."
    ran.append((time.monotonic(), fastloss.cross_entropy(small, target, num_threads=threads),
        fastloss.mse_loss([1.0], [0.0])))

signal.signal(signal.SIGUSR1, computes)
def whole():
    assert fastloss.mse_loss(x, y, num_threads=threads) == expected[0]
    ran.append(time.monotonic())
assert delay(whole, signal.SIGUSR1) is None
assert len(ran) == 2 and ran[0][1:] == (expected[1], 1.0)
assert ran[1] - ran[0][0] > 0.05, "the handler ran only after the call"

def forks(number, frame):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if whole_in_child() else 1)
    ran.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

def whole_in_child():
    return fastloss.cross_entropy(small, target, num_threads=threads) == expected[1]

ran.clear()
signal.signal(signal.SIGUSR1, forks)
assert delay(whole, signal.SIGUSR1) is None
assert ran[0] == 0

class Own(Exception):
    pass

def raises(number, frame):
    raise Own("by the handler")

signal.signal(signal.SIGUSR1, raises)
with pytest.raises(Own, match="by the handler"):
    delay(lambda: fastloss.mse_loss(x, y, num_threads=threads), signal.SIGUSR1)
assert fastloss.cross_entropy(small, target, num_threads=threads) == expected[1]

# While other threads compute, with and without the interpreter lock; a call in another thread goes on.
stop, found = threading.Event(), []
def busy():
    while not stop.is_set():
        sum(range(1000))
def beside():
    found.append(fastloss.mse_loss(x, y, num_threads=threads))
others = [threading.Thread(target=busy), threading.Thread(target=beside)]
for other in others:
    other.start()
taken = delay(lambda: fastloss.mse_loss(of(0.5, 20_000_000_000), of(1, 20_000_000_000), num_threads=threads))
stop.set()
for other in others:
    other.join()
assert taken is not None and taken < 1.0, taken
assert found == [expected[0]]
"""


@pytest.mark.parametrize("threads", THREADS)
def test_ctrl_c_ends_any_long_call(threads: int) -> None:
    has_torch = threads == 1 and importlib.util.find_spec("torch") is not None  # whose import takes seconds
    run_python(SETUP + KINDS, THREADS=str(threads), TORCH=has_torch * "1")


@pytest.mark.parametrize("threads", THREADS[-1:])
def test_handlers_run_during_a_call(threads: int) -> None:
    run_python(SETUP + HANDLERS, THREADS=str(threads))
