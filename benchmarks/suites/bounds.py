"""What bounds a kernel, and what it reaches.

"memory" moves the bytes of the row and computes nothing: it reads as many arrays, and writes as many, past
the caches or through them, with the threads of fastloss (`limits.c`). "compute" does the whole arithmetic of
the row without memory: one thread calls the function again and again, for its share of the row, on a part
that stays in its second-level cache. (Two threads of Python would wait for each other between the calls.)
"calls" are as many calls on no row at all. The difference of the two is the arithmetic. The larger of memory
and arithmetic bounds the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

import fastloss

from ..case import OURS, Case, Suite
from ..contenders import Contender, contender, moving
from ..problem import Array, Problem, dtype_of
from . import elementwise, post_training, softmax

__all__ = ["CALLS", "COMPUTE", "OF", "SUITE"]

MEMORY, COMPUTE, CALLS = "memory", "compute", "calls"
# Elements of a part: with its gradient half a megabyte of float32.
PART = 65536
OF: dict[str, Suite] = {module.SUITE.name: module.SUITE for module in (softmax, elementwise, post_training)}


def _case(suite: str, name: str, reads: int, writes: int, **changes: Any) -> Case:
    """Return the row of another suite with its two bounds; it reads and writes so many arrays."""
    of = next(case for case in OF[suite].cases if case.name == name)
    details = {**of.details, "suite": suite, "reads": reads, "writes": writes}
    contenders = (MEMORY, COMPUTE, CALLS, OURS)
    return replace(of, suite="bounds", contenders=contenders, targets=(), details=details, **changes)


CASES = (
    _case("softmax", "32k", 1, 1),
    _case("softmax", "32k-loss", 1, 0),
    _case("softmax", "bfloat16", 1, 1),
    _case("softmax", "probabilities", 2, 1),
    _case(
        "softmax",
        "10-classes",
        1,
        1,
        title="cross entropy (2097152, 10)",
        shape=(2_097_152, 10),
        small=(100, 10),
    ),
    _case("post-training", "kl", 2, 1),
    _case("elementwise", "mse", 2, 1),
    _case("elementwise", "mse-value", 2, 0),
    _case("elementwise", "logits", 2, 1),
    _case("elementwise", "log-cosh", 2, 1),
    _case("elementwise", "poisson", 2, 1),
)


def bytes_per_element(case: Case) -> int:
    return int(case.details["reads"] + case.details["writes"]) * dtype_of(case.dtype).itemsize


@contender(MEMORY, suite="bounds")
def _memory(problem: Problem, name: str) -> Contender:
    details, size = problem.case.details, problem.arguments[0].nbytes
    return Contender(name, moving([size] * details["reads"], [size] * details["writes"], problem.threads))


def _rows_of_part(first: Array) -> int:
    return min(max(PART * len(first) // first.size, 1), len(first))


def _repeated(problem: Problem, name: str, rows: int) -> Contender:
    """Call the function on so many rows, as often as parts make up the share of a thread."""
    case, threads = problem.case, problem.threads
    first = problem.arguments[0]
    count = max(len(first) // (_rows_of_part(first) * threads), 1)
    function, options = getattr(fastloss, case.function), {**case.options, "num_threads": 1}

    arrays = tuple(array[:rows].copy() for array in problem.arguments)
    if case.has_gradient:
        options |= {"return_grad": True, "out": np.empty_like(arrays[0])}

    def repeated() -> None:
        for _ in range(count):
            function(*arrays, **options)

    return Contender(name, repeated)


@contender(COMPUTE)
def _compute(problem: Problem, name: str) -> Contender:
    return _repeated(problem, name, _rows_of_part(problem.arguments[0]))


@contender(CALLS)
def _calls(problem: Problem, name: str) -> Contender:
    return _repeated(problem, name, 0)


# Columns of the table that follow from a row of the results


def _median(row: Mapping[str, Any], name: str) -> float:
    return float(row["contenders"][name]["median"])


def _arithmetic(row: Mapping[str, Any]) -> float | None:
    """Return the seconds of the arithmetic; None if it was not measured."""
    if not row["contenders"].keys() >= {COMPUTE, CALLS}:
        return None
    return _median(row, COMPUTE) - _median(row, CALLS)


def _bytes(row: Mapping[str, Any]) -> str:
    return str(bytes_per_element(next(case for case in CASES if case.name == row["name"])))


def _nanoseconds(row: Mapping[str, Any]) -> str:
    seconds = _arithmetic(row)
    return "" if seconds is None else f"{1e9 * seconds / float(np.prod(row['shape'])):.3f}"


def _over_bound(row: Mapping[str, Any]) -> str:
    seconds = _arithmetic(row)
    if seconds is None or not row["contenders"].keys() >= {MEMORY, OURS}:
        return ""
    return f"{_median(row, OURS) / max(_median(row, MEMORY), seconds):.2f}"


SUITE = Suite(
    name="bounds",
    title="what bounds the kernels, memory or arithmetic, and what they reach",
    cases=CASES,
    problem=lambda case, is_small: OF[case.details["suite"]].problem(case, is_small),
    columns={MEMORY: "memory", COMPUTE: "compute", CALLS: "calls", OURS: OURS},
    derived={
        "over the larger": _over_bound,
        "bytes per element": _bytes,
        "arithmetic, ns per element": _nanoseconds,
    },
)
