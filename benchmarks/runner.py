"""How a row is measured.

In each repeat every contender of a row runs once, in an order that moves on by one place from
repeat to repeat, so that a slow minute of the machine hits all alike and nobody always follows the
same neighbour. Slow contenders run in a few of the repeats, spread over all of them. Before each
timed call, the same for everyone, the process sleeps for `--settle` milliseconds: the worker
threads of PyTorch, JAX and NumPy's OpenBLAS go on spinning after their work (OpenBLAS for up to
120 ms), and would take a core from whoever comes next; so it sleeps again until the process has
used no processor while it slept. A call shorter than 20 ms is then made once untimed, so that its
own threads are awake, and repeated until 2 ms have passed; not so where something has to be done
just before each call (logits restored, a matrix product), which is never part of the time. Freeing
the last result is not timed either. PyTorch is set to the number of threads that fastloss uses;
XLA's thread pool cannot be set, and takes every core.

Every contender's first and last results are checked against the float64 reference. One that is
wrong has no time. Memory and errors are measured once.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.case import COMPILED, PEERS, Case
from benchmarks.contenders import Contender, UnavailableError, build
from benchmarks.problem import Problem, WrongResultError

__all__ = ["SETTLE", "SLOW_REPEATS", "Figures", "Result", "measure"]

# Seconds: of quiet before each timed call, to wait for it at most, that a sample takes at least, up to which
# a call is made once before, and from which it is slow.
SETTLE = 0.04
PATIENCE = 0.5
SAMPLE = 0.002
SHORT = 0.02
SLOW = 0.1
SLOW_REPEATS = 5


@dataclass
class Figures:
    """What was measured, by repeat: seconds, or another quantity of the row."""

    values: dict[int, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.values.values())

    @property
    def least(self) -> float:
        return min(self.values.values())

    @property
    def quartiles(self) -> tuple[float, float]:
        values = list(self.values.values())
        if len(values) == 1:
            return values[0], values[0]
        first, _, third = statistics.quantiles(values, n=4, method="inclusive")
        return first, third


@dataclass
class Result:
    """A row after its run: the figures, and what has none, with the reason. It holds no arrays."""

    case: Case
    shape: tuple[int, ...]
    figures: dict[str, Figures] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def fastest_peer(self) -> str | None:
        peers = [name for name in (*PEERS, COMPILED) if name in self.figures]
        return min(peers, key=lambda name: self.figures[name].median, default=None)

    def ratios(self, of: str, against: str) -> tuple[float, float] | None:
        """Return one over the other: the ratio of the medians, the median of the ratios in one repeat."""
        a, b = self.figures.get(of), self.figures.get(against)
        # No memory at all is no measure of others.
        if a is None or b is None or not b.median:
            return None
        shared = a.values.keys() & b.values.keys()
        within = statistics.median(a.values[i] / b.values[i] for i in shared)
        return a.median / b.median, within


@dataclass
class Entry:
    """A contender at work, and how often its call fits into a sample."""

    contender: Contender
    number: int = 1
    warm: bool = False
    slow: bool = False


def _settled(settle: float) -> None:
    """Sleep until no thread of this process has worked while it slept."""
    deadline = time.perf_counter() + PATIENCE
    while True:
        used = time.process_time()
        time.sleep(settle)
        if time.process_time() - used <= settle / 10 or time.perf_counter() > deadline:
            return


def _timed(entry: Entry, settle: float, is_checked: bool = False) -> float:
    """Return the seconds of one call, after a quiet; the last result may be checked, outside of the time."""
    contender, number = entry.contender, entry.number
    with contender.setting():
        _settled(settle)
        if contender.before is not None:
            contender.before()
        elif entry.warm:
            contender.call()
        result = None
        start = time.perf_counter()
        for _ in range(number):
            result = contender.call()
        stop = time.perf_counter()
        if is_checked:
            contender.check(result)
        del result
    return (stop - start) / number


def _prepared(contender: Contender) -> Entry:
    """Check the contender's result, then find out how long it takes."""
    entry = Entry(contender)
    with contender.setting():
        if contender.before is not None:
            contender.before()
        contender.check(contender.call())
    estimate = min(_timed(entry, 0.0) for _ in range(2))
    entry.slow = estimate > SLOW
    if contender.before is None and estimate < SHORT:
        entry.warm = True
        entry.number = max(1, int(SAMPLE / estimate))
    return entry


def _is_due(entry: Entry, repeat: int, repeats: int) -> bool:
    """Everyone in every repeat, the slow ones in a few of them, at equal distances, the last included."""
    stride = max(1, repeats // SLOW_REPEATS) if entry.slow else 1
    return (repeats - 1 - repeat) % stride == 0


def _built(problem: Problem, names: Sequence[str], result: Result) -> list[Entry]:
    """Build, check and prepare the contenders; where nothing is timed, take their figures."""
    entries: list[Entry] = []
    for name in names:
        try:
            contender = build(name, problem)
            if problem.case.quantity == "seconds":
                entries.append(_prepared(contender))
                result.figures[name] = Figures()
            else:
                result.figures[name] = Figures({0: float(contender.call())})
        except (UnavailableError, ImportError) as reason:
            result.missing[name] = str(reason)
        except WrongResultError as reason:
            result.wrong[name] = str(reason)
    return entries


def measure(problem: Any, names: Sequence[str], repeats: int, settle: float = SETTLE) -> Result:
    """Build and check the contenders of a row, time them in turn, and check their last results."""
    result = Result(problem.case, problem.shape)
    entries = _built(problem, names, result)
    for repeat in range(repeats):
        first = repeat % len(entries) if entries else 0
        for entry in entries[first:] + entries[:first]:
            if not _is_due(entry, repeat, repeats):
                continue
            name = entry.contender.name
            try:
                seconds = _timed(entry, settle, is_checked=repeat == repeats - 1)
                result.figures[name].values[repeat] = seconds
            except WrongResultError as reason:
                result.wrong[name] = str(reason)
    for name in result.wrong:
        result.figures.pop(name, None)
    result.notes = problem.notes({name: figures.median for name, figures in result.figures.items()})
    return result
