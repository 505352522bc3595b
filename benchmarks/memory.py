"""The peak memory of a call above its arrays, in a process that does nothing else.

    python -m benchmarks.memory [rows classes]            cross_entropy, in place
    python -m benchmarks.memory tokens features classes   linear_cross_entropy

prints by how much the process grew beyond the arrays, as a share of the logits' size.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import fastloss
from fastloss import reference

__all__ = ["ALLOWED", "LINEAR", "SHAPE", "SMALL", "SMALL_LINEAR", "share_in_a_process_of_its_own"]

SHAPE = (4096, 64000)
SMALL = (64, 1000)
LINEAR = (8192, 256, 50000)
SMALL_LINEAR = (64, 16, 1000)
ALLOWED = 0.05
# Rows that are compared with the reference.
SAMPLE = slice(None, None, 512)


def peak_bytes() -> int:
    """The most memory that this process ever had at once.

    From Linux itself where possible: there `getrusage` also counts what the parent had at the moment when it
    started this process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def share_above_the_array(shape: tuple[int, int]) -> float:
    """Value and gradient in place; the growth of this process beyond the logits, as a share of them."""
    target = np.random.default_rng(1).integers(0, shape[1], size=shape[0])
    before = peak_bytes()
    logits = np.empty(shape, dtype=np.float32)
    np.random.default_rng(0).standard_normal(out=logits, dtype=np.float32)
    sample, sample_target = logits[SAMPLE].copy(), target[SAMPLE]
    loss, grad = fastloss.cross_entropy(logits, target, return_grad=True, out=logits)
    share = (peak_bytes() - before) / logits.nbytes - 1.0

    _, expected = reference.cross_entropy(sample, sample_target, reduction="sum", return_grad=True)
    assert grad is logits
    assert np.isfinite(loss)
    np.testing.assert_allclose(grad[SAMPLE] * float(shape[0]), expected, rtol=1e-5, atol=1e-7)
    return float(share)


def share_above_inputs_and_gradients(shape: tuple[int, int, int]) -> float:
    """All gradients of a linear layer; the growth of this process, as a share of logits that never exist.

    Beyond inputs, gradients and the buffers of BLAS: np.matmul alone takes those for the weight's gradient.
    """
    tokens, features, classes = shape
    rng = np.random.default_rng(0)
    x = np.empty((tokens, features), dtype=np.float32)
    weight = np.empty((classes, features), dtype=np.float32)
    for array in (x, weight):
        rng.standard_normal(out=array, dtype=np.float32)
    weight *= np.float32(0.05)
    target = rng.integers(0, classes, size=tokens)
    out = (np.ones_like(x), np.ones_like(weight), None)
    # BLAS keeps what it copies an operand to, tens of megabytes, from the first product that needs it.
    np.matmul(weight, x[:4].T)
    before = peak_bytes()
    loss, grad = fastloss.linear_cross_entropy(x, weight, target, return_grad=True, out=out)
    share = (peak_bytes() - before) / (tokens * classes * x.itemsize)

    function: Any = reference.linear_cross_entropy
    _, expected = function(x[SAMPLE], weight, target[SAMPLE], reduction="sum", return_grad=True)
    assert np.isfinite(loss)
    error = np.abs(grad.input[SAMPLE] * float(tokens) - expected.input).max()
    assert error <= 1e-5 * np.abs(expected.input).max()
    return float(share)


def share_in_a_process_of_its_own(shape: tuple[int, ...]) -> float:
    """The same of a shape of two or three numbers, in a fresh interpreter with the same import path."""
    command = [sys.executable, "-m", "benchmarks.memory", *map(str, shape)]
    root = str(Path(__file__).resolve().parent.parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), root])}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


if __name__ == "__main__":
    given = tuple(int(n) for n in sys.argv[1:]) or SHAPE
    if len(given) == 3:
        print(share_above_inputs_and_gradients(given))
    else:
        rows, classes = given
        print(share_above_the_array((rows, classes)))
