"""The peak memory of a call beyond its arguments and buffers, each in a separate process.

The process is a fresh interpreter, which runs one contender of a row of another suite (`main`), checks its
result, and prints its growth. The example measures a training step in its own processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fastloss

from .. import suites
from ..case import COMPILED, OURS, TORCH, Case, Suite, at_most, bound
from ..contenders import Contender, build, contender, imported
from ..problem import Problem, dtype_of
from . import linear, softmax
from . import torch_backend as backend

__all__ = ["SUITE"]

# In the size of the logits, beyond the least memory of an operation.
ALLOWED = 0.05


def _case(name: str, of: Case, title: str, **changes: Any) -> Case:
    """Return a row that measures the memory of a row of another suite."""
    details = {**of.details, "suite": of.suite}
    return replace(of, suite="memory", name=name, title=title, quantity="share", details=details, **changes)


_torch = partial(_case, targets=(bound(1.0 + ALLOWED), bound(ALLOWED, backend.IN_PLACE)))
_ours = partial(_case, contenders=(OURS,), targets=(bound(ALLOWED),))
CASES = (
    _ours(
        "in-place",
        softmax.IN_PLACE,
        "cross entropy (4096, 64000) in place, beyond the logits",
        shape=(4096, 64000),
    ),
    _ours("linear", linear.MANY_CHUNKS, f"{linear.MANY_CHUNKS.title}, beyond arrays and BLAS"),
    _torch("torch-32k", backend.FLOAT32, f"fastloss.torch, {backend.FLOAT32.title}, beyond the logits"),
    _torch(
        "torch-32k-bfloat16",
        backend.BFLOAT16,
        f"fastloss.torch, {backend.BFLOAT16.title}, beyond the logits",
    ),
    replace(
        backend.STEP,
        suite="memory",
        name="torch-step",
        title=f"{backend.STEP.title}, the whole process in three steps",
        targets=(at_most(1.0, TORCH),),
        quantity="bytes",
    ),
)


def peak_bytes() -> int:
    """Return the peak memory of this process.

    From Linux itself if possible: there `getrusage` also counts the memory of the parent at the moment when
    it started this process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _forget_peak() -> None:
    """Reset the peak of this process, if Linux permits it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _call_before(case: Case, name: str, problem: Problem) -> None:
    """Make a first call, which takes memory unrelated to the logits.

    At a small shape, or, if a function is compiled for a shape, at the same shape.
    """
    if case.suite == "linear":
        # BLAS keeps its copies of operands, tens of megabytes, from the first product that needs them.
        x, weight, _ = problem.arguments
        np.matmul(weight, x[:4].T)
    elif case.suite == "torch":
        first = problem if name == COMPILED else suites.problem_of(case, is_small=True)
        build(name, first).call()


def growth(case: Case, name: str, is_small: bool) -> float:
    """Return the growth of this process by a call, in the size of the logits."""
    of = replace(case, suite=case.details["suite"], quantity="seconds")
    problem = suites.problem_of(of, is_small)
    measured = build(name, problem)
    with measured.setting():
        _call_before(of, name, problem)
        if measured.before is not None:
            measured.before()
        _forget_peak()
        before = peak_bytes()
        result = measured.call()
        grown = peak_bytes() - before
        measured.check(result)
    logits: int = problem.shape[0] * problem.shape[-1] * dtype_of(case.dtype).itemsize
    return grown / logits


def main() -> None:
    """Print the growth for the row, contender and size of the command line."""
    row, name, *small = sys.argv[1:]
    print(growth(next(case for case in CASES if case.name == row), name, bool(small)))


def _in_a_process_of_its_own(case: Case, name: str, is_small: bool) -> float:
    """Return the growth of a fresh interpreter with the same import path."""
    start = f"from {__package__} import memory; memory.main()"
    command = [sys.executable, "-c", start, case.name, name, *(["small"] if is_small else [])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "FASTLOSS_NUM_THREADS": str(fastloss.get_num_threads()),
    }
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def _peak_of_steps(case: Case, name: str, is_small: bool) -> int:
    """Return the peak of a process with three training steps."""
    options = backend.step_options(case.small if is_small else case.shape, is_small)
    options.threads = fastloss.get_num_threads()
    run = backend.example().start(backend.way_of(name), options)
    for _ in range(3):
        run.step()
    run.end()
    return int(run.peak)


@contender(TORCH, COMPILED, OURS, backend.IN_PLACE, backend.NO_LOGITS, suite="memory")
def _peak(problem: Problem, name: str) -> Contender:
    if problem.case.name.startswith("torch"):
        imported("torch")
    measure = _peak_of_steps if problem.case.quantity == "bytes" else _in_a_process_of_its_own
    return Contender(name, partial(measure, problem.case, name, problem.is_small))


SUITE = Suite(
    name="memory",
    title="peak memory beyond the arguments, each contender in a process of its own",
    cases=CASES,
    problem=Problem,
    columns=backend.SUITE.columns,
    repeats=1,
)
