"""The peak memory of a call in place, above the array itself, in a process that does nothing else.

    python -m benchmarks.memory [rows classes]

prints the share of the array's size by which the process grew beyond that array.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import fastloss
from fastloss import reference

__all__ = ["ALLOWED", "SHAPE", "SMALL", "share_in_a_process_of_its_own"]

SHAPE = (4096, 64000)
SMALL = (64, 1000)
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


def share_in_a_process_of_its_own(shape: tuple[int, int]) -> float:
    """The same, in a fresh interpreter with the same import path."""
    command = [sys.executable, "-m", "benchmarks.memory", *map(str, shape)]
    root = str(Path(__file__).resolve().parent.parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), root])}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


if __name__ == "__main__":
    rows, classes = (int(n) for n in sys.argv[1:]) if len(sys.argv) > 1 else SHAPE
    print(share_above_the_array((rows, classes)))
