"""Time for an element as rows, classes, elements and threads grow: drawn by `python -m benchmarks pictures`.

Each shape is measured with the gradient in a buffer that is kept, in a new array, in place, and with arrays
that begin four bytes after a line of the cache. In place the logits of a call are the gradient of the one
before: restoring them would leave them in the cache. The check begins anew.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import fastloss

from ..case import LIMIT, OURS, Case, Suite
from ..contenders import LINE, Contender, contender, ours
from ..problem import Array, Problem
from . import elementwise, softmax

__all__ = ["IN_PLACE", "NEW", "SUITE", "UNALIGNED", "threads_of"]

IN_PLACE, NEW, UNALIGNED = "fastloss in place", "fastloss new array", "fastloss unaligned"
WAYS = (OURS, NEW, IN_PLACE, UNALIGNED)
CLASSES = 1000
ELEMENTS = 1 << 22
# Of smaller arrays the limit would be the cost of the call that measures it.
LARGE = 1_000_000


def _thread_counts() -> list[int]:
    """Return 1, 2, 4 and so on, and the number of processors."""
    cores = os.cpu_count() or 1
    return sorted({cores, *(1 << k for k in range(cores.bit_length()) if 1 << k < cores)})


def _name_of(threads: int) -> str:
    return f"fastloss {threads} thread" + ("s" if threads > 1 else "")


def threads_of(name: str) -> int:
    """Return the number of threads of a contender of the rows of threads."""
    return int(name.split()[1])


THREADS = tuple(map(_name_of, _thread_counts()))


def _cross_entropy(kind: str, rows: int, classes: int) -> Case:
    number = rows if kind == "rows" else classes
    return Case(
        "growth",
        f"{kind}-{number}",
        f"cross entropy ({rows}, {classes})",
        "cross_entropy",
        shape=(rows, classes),
        small=(min(rows, 10), min(classes, 100)),
        contenders=(*((LIMIT,) if rows * classes >= LARGE else ()), *WAYS),
        limit="move",
    )


def _squares(size: int) -> Case:
    case = elementwise.case_of(elementwise.LOSSES[0], size, is_value=False)
    ways = (*((LIMIT,) if size >= LARGE else ()), *WAYS)
    return replace(case, suite="growth", name=f"elements-{size}", contenders=ways, targets=(), limit="move")


CASES = (
    *(_cross_entropy("rows", 4**k, CLASSES) for k in range(8)),
    *(_cross_entropy("classes", ELEMENTS // 2**k, 2**k) for k in range(1, 20, 3)),
    *(_squares(10**k) for k in range(2, 8)),
    *(
        replace(case, name=f"threads-{name}", contenders=THREADS)
        for name, case in {
            "long": _cross_entropy("rows", 512, 32000),
            "short": _cross_entropy("rows", ELEMENTS // 10, 10),
            "mse": _squares(10**7),
        }.items()
    ),
)


def _problem(case: Case, is_small: bool) -> Problem:
    kind = softmax.SoftmaxProblem if case.function == "cross_entropy" else elementwise.ElementwiseProblem
    return kind(case, is_small)


def _unaligned(array: Array) -> Array:
    """Return a copy that begins four bytes after a line of the cache."""
    room = np.empty(array.nbytes + 2 * LINE, np.uint8)
    start = -room.ctypes.data % LINE + 4
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    np.copyto(copy, array)
    return copy


@contender(UNALIGNED, suite="growth")
def _at_odd_addresses(problem: Problem, name: str) -> Contender:
    first, *others = problem.arguments
    function, options = getattr(fastloss, problem.case.function), {"out": _unaligned(problem.out)}
    call = partial(function, _unaligned(first), *others, return_grad=True, **options)
    return Contender(name, call, lambda result: problem.check(name, *result))


@contender(IN_PLACE, suite="growth")
def _in_place(problem: Problem, name: str) -> Contender:
    first, *others = problem.arguments
    work = first.copy()
    call = partial(getattr(fastloss, problem.case.function), work, *others, return_grad=True, out=work)

    def check(_: Any) -> None:
        np.copyto(work, first)
        problem.check(name, *call())

    return Contender(name, call, check)


@contender(*THREADS, suite="growth")
def _on_threads(problem: Problem, name: str) -> Contender:
    return replace(ours(problem, name), setting=partial(fastloss.num_threads, threads_of(name)))


SUITE = Suite(
    name="growth",
    title="time for an element as rows, classes, elements and threads grow (two minutes; drawn)",
    cases=CASES,
    problem=_problem,
    columns={},
    repeats=9,
)
