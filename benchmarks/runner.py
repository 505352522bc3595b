"""The measurement of a row.

In each repeat every contender of a row runs once. The order moves on by one place from repeat to repeat, so
a slow minute of the machine affects all contenders, and no contender always follows the same neighbour. Slow
contenders run in a few of the repeats, spread over all of them. Before each timed call the process sleeps for
`--settle` milliseconds, and again until it has used no processor time while it slept: the worker threads of
PyTorch, JAX and NumPy's OpenBLAS keep spinning after their work (OpenBLAS for up to 120 ms), and would take a
core from the next contender. A call shorter than 20 ms is then made once untimed, so that its own threads are
awake, and repeated until 2 ms have passed. If something runs just before each call (logits restored, a matrix
product), the call is made once, and that work is not timed. Freeing the last result is not timed either.
PyTorch is set to the number of threads of fastloss; XLA's thread pool cannot be set, and uses every core.

The first and the last result of every contender are compared with the float64 reference. A contender with a
wrong result has no time. Memory and errors are measured once.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .case import COMPILED, PEERS, Case
from .contenders import Contender, UnavailableError, build
from .problem import Problem, WrongResultError

__all__ = ["SETTLE", "SLOW_REPEATS", "Begins", "Figures", "Result", "measure"]

# Seconds: of pause before each timed call, the longest wait for it, the shortest sample, the time up to
# which a call is made once before, and from which it is slow.
SETTLE = 0.04
PATIENCE = 0.5
SAMPLE = 0.002
SHORT = 0.02
SLOW = 0.1
SLOW_REPEATS = 5


Begins = Callable[[str], None]


@dataclass
class Figures:
    """The measurements by repeat: seconds, or another quantity of the row."""

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
    """The result of a row, without arrays: the figures, or the reason why there are none."""

    case: Case
    shape: tuple[int, ...]
    figures: dict[str, Figures] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    # What the row has to read and write, if memory is its limit.
    moved: int | None = None

    def fastest_peer(self) -> str | None:
        peers = [name for name in (*PEERS, COMPILED) if name in self.figures]
        return min(peers, key=lambda name: self.figures[name].median, default=None)

    def ratios(self, of: str, against: str) -> tuple[float, float] | None:
        """Return two ratios of contenders: of the medians, and the median within the repeats."""
        a, b = self.figures.get(of), self.figures.get(against)
        # A memory use of 0 gives no ratio.
        if a is None or b is None or not b.median:
            return None
        shared = a.values.keys() & b.values.keys()
        within = statistics.median(a.values[i] / b.values[i] for i in shared)
        return a.median / b.median, within


@dataclass
class Entry:
    """A contender in a run, and the number of its calls in a sample."""

    contender: Contender
    number: int = 1
    warm: bool = False
    slow: bool = False


def _settled(settle: float) -> None:
    """Sleep until no thread of this process has run during the sleep."""
    if settle == 0.0:
        return
    deadline = time.perf_counter() + PATIENCE
    while True:
        used = time.process_time()
        time.sleep(settle)
        if time.process_time() - used <= settle / 10 or time.perf_counter() > deadline:
            return


def _timed(entry: Entry, settle: float, is_checked: bool = False) -> float:
    """Return the seconds of one call, after a pause; an optional check of the last result is not timed."""
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


def _prepared(contender: Contender, settle: float) -> Entry:
    """Check the contender's result, then estimate its time."""
    entry = Entry(contender)
    with contender.setting():
        if contender.before is not None:
            contender.before()
        contender.check(contender.call())
    estimate = _timed(entry, settle)
    if estimate <= SLOW:
        estimate = min(estimate, _timed(entry, settle))
    entry.slow = estimate > SLOW
    if contender.before is None and estimate < SHORT:
        entry.warm = True
        entry.number = max(1, int(SAMPLE / estimate))
    return entry


def _is_due(entry: Entry, repeat: int, repeats: int) -> bool:
    """Return whether a contender runs: a slow one in a few repeats, at equal distances, and in the last."""
    stride = max(1, repeats // SLOW_REPEATS) if entry.slow else 1
    return (repeats - 1 - repeat) % stride == 0


def _built(
    problem: Problem, names: Sequence[str], settle: float, result: Result, begins: Begins
) -> list[Entry]:
    """Build, check and prepare the contenders; if nothing is timed, take their figures."""
    entries: list[Entry] = []
    for name in names:
        begins(name)
        try:
            contender = build(name, problem)
            if problem.case.quantity == "seconds":
                entries.append(_prepared(contender, settle))
                result.figures[name] = Figures()
            else:
                result.figures[name] = Figures({0: float(contender.call())})
        except (UnavailableError, ImportError) as reason:
            result.missing[name] = str(reason)
        except WrongResultError as reason:
            result.wrong[name] = str(reason)
    return entries


def measure(
    problem: Any,
    names: Sequence[str],
    repeats: int,
    settle: float = SETTLE,
    deadline: float = math.inf,
    begins: Begins = lambda name: None,
) -> Result:
    """Build and check the contenders of a row, time them in turn, and check their last results.

    No repeat begins that would end after the deadline (of `time.perf_counter`), except the first. `begins`
    is called with the name of a contender before it is built, and before it is timed.
    """
    result = Result(problem.case, problem.shape)
    entries = _built(problem, names, settle, result, begins)
    longest = 0.0
    for repeat in range(repeats):
        start = time.perf_counter()
        # As long as the longest repeat: this one and another.
        is_last = repeat == repeats - 1 or start + 2.0 * longest > deadline
        first = repeat % len(entries) if entries else 0
        for entry in entries[first:] + entries[:first]:
            if not _is_due(entry, repeat, repeats):
                continue
            name = entry.contender.name
            begins(name)
            try:
                seconds = _timed(entry, settle, is_checked=is_last)
                result.figures[name].values[repeat] = seconds
            except WrongResultError as reason:
                result.wrong[name] = str(reason)
        longest = max(longest, time.perf_counter() - start)
        if is_last:
            break
    for name in result.wrong:
        result.figures.pop(name, None)
    result.notes = problem.notes({name: figures.median for name, figures in result.figures.items()})
    return result
