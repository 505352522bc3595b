"""Times of fastloss, the memory limit and the peers, taken in turn in one process, as ratios.

    python -m benchmarks.compare                                  every row (about ten minutes)
    python -m benchmarks.compare --rows 32k one-call              some (patterns too: '32k*'; --list)
    python -m benchmarks.compare --only fastloss,limit            without peers, for work on kernels
    python -m benchmarks.compare --markdown --json figures.json   for the README, and for later

How it measures. In each repeat every contender of a row runs once, in an order that moves on by
one place from repeat to repeat, so that a slow minute of the machine hits all alike and nobody
always follows the same neighbour. Slow contenders run in a few of the repeats, spread over all of
them. Before each timed call, the same for everyone, the process sleeps for `--settle`
milliseconds: the worker threads of PyTorch, JAX and NumPy's OpenBLAS go on spinning after their
work (OpenBLAS for up to 120 ms), and would take a core from whoever comes next; so it sleeps again
until the process has used no processor while it slept. A call shorter than 20 ms is then made once
untimed, so that its own threads are awake, and repeated until 2 ms have passed; not so where
something has to be done just before each call (logits restored, a matrix
product), which is never part of the time. Freeing the last result is not timed either. PyTorch is
set to the number of threads that fastloss uses; XLA's thread pool cannot be set, and takes every
core.

Every contender's first and last results are checked against the float64 reference. One that is
wrong has no time.

A target is held against two ratios: of the medians, and the median of the ratios within one
repeat. Both must meet it to pass; where they disagree the machine was too restless to tell.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

if not __package__:  # run as a file
    sys.path.append(str(Path(__file__).resolve().parent.parent))

import fastloss
from benchmarks import memory
from benchmarks.cases import BEST_PEER, CASES, LIMIT, OURS, PEERS, Case, Target
from benchmarks.contenders import Contender, UnavailableError, build
from benchmarks.problem import Problem, WrongResultError
from fastloss import _kernels

__all__ = ["SETTLE", "main"]

# Seconds: of quiet before each timed call, to wait for it at most, that a sample takes at least, up to which
# a call is made once before, and from which it is slow.
SETTLE = 0.04
PATIENCE = 0.5
SAMPLE = 0.002
SHORT = 0.02
SLOW = 0.1
SLOW_REPEATS = 5

PASS, FAIL, RESTLESS, UNKNOWN = "pass", "FAIL", "restless", "not measured"


# --- measuring ---


@dataclass
class Entry:
    """A contender at work: how often its call fits into a sample, and its times by repeat."""

    contender: Contender
    number: int = 1
    warm: bool = False
    slow: bool = False
    seconds: dict[int, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds.values())


@dataclass
class Result:
    """A row after its run: the times, and what has none, with the reason."""

    case: Case
    shape: tuple[int, ...]
    entries: dict[str, Entry] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)

    def fastest_peer(self) -> str | None:
        peers = [name for name in (*PEERS, "torch.compile") if name in self.entries]
        return min(peers, key=lambda name: self.entries[name].median, default=None)

    def ratios(self, of: str, against: str) -> tuple[float, float] | None:
        """Time of one over the other's: ratio of the medians, median of the ratios in one repeat."""
        a, b = self.entries.get(of), self.entries.get(against)
        if a is None or b is None:
            return None
        shared = a.seconds.keys() & b.seconds.keys()
        within = statistics.median(a.seconds[i] / b.seconds[i] for i in shared)
        return a.median / b.median, within


def settled(settle: float) -> None:
    """Sleep until no thread of this process has worked while it slept."""
    deadline = time.perf_counter() + PATIENCE
    while True:
        used = time.process_time()
        time.sleep(settle)
        if time.process_time() - used <= settle / 10 or time.perf_counter() > deadline:
            return


def timed(entry: Entry, settle: float, is_checked: bool = False) -> float:
    """Seconds for one call, after a quiet; the last result may be checked, outside of the time."""
    contender, number = entry.contender, entry.number
    with contender.setting():
        settled(settle)
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


def prepared(contender: Contender) -> Entry:
    """Check the contender's result, then find out how long it takes."""
    entry = Entry(contender)
    with contender.setting():
        if contender.before is not None:
            contender.before()
        contender.check(contender.call())
    estimate = min(timed(entry, 0.0) for _ in range(2))
    entry.slow = estimate > SLOW
    if contender.before is None and estimate < SHORT:
        entry.warm = True
        entry.number = max(1, int(SAMPLE / estimate))
    return entry


def is_due(entry: Entry, repeat: int, repeats: int) -> bool:
    """Everyone in every repeat, the slow ones in a few of them, at equal distances, the last included."""
    stride = max(1, repeats // SLOW_REPEATS) if entry.slow else 1
    return (repeats - 1 - repeat) % stride == 0


def measure(case: Case, names: Iterable[str], options: argparse.Namespace) -> Result:
    """Build and check the contenders of a row, time them in turn, and check their last results."""
    problem = Problem(case, options.small)
    result = Result(case, problem.shape)
    for name in names:
        try:
            result.entries[name] = prepared(build(name, problem))
        except (UnavailableError, ImportError) as reason:
            result.missing[name] = str(reason)
        except WrongResultError as reason:
            result.wrong[name] = str(reason)
    entries = list(result.entries.values())
    for repeat in range(options.repeats):
        is_last = repeat == options.repeats - 1
        first = repeat % len(entries) if entries else 0
        for entry in entries[first:] + entries[:first]:
            if not is_due(entry, repeat, options.repeats):
                continue
            try:
                entry.seconds[repeat] = timed(entry, options.settle / 1000, is_checked=is_last)
            except WrongResultError as reason:
                result.wrong[entry.contender.name] = str(reason)
    for name in result.wrong:
        result.entries.pop(name, None)
    return result


# --- targets ---


@dataclass(frozen=True)
class Verdict:
    """A target as measured: by the medians, and within the repeats (None: not measured)."""

    target: str
    medians: float | None
    within: float | None
    verdict: str


def verdict_of(result: Result, target: Target) -> Verdict:
    against: str | None = target.against
    text = str(target)
    if against == BEST_PEER:
        against = result.fastest_peer()
        text = f"{target} ({against})"
    ratios = None if against is None else result.ratios(target.of, against)
    if ratios is None:
        return Verdict(text, None, None, UNKNOWN)
    # The ratio that the target is about may be the other way round.
    medians, within = (target.ratio(ratio, 1.0) for ratio in ratios)
    met = [target.is_met(ratio) for ratio in (medians, within)]
    return Verdict(text, medians, within, PASS if all(met) else RESTLESS if any(met) else FAIL)


def verdicts_of(result: Result) -> list[Verdict]:
    found = [verdict_of(result, target) for target in result.case.targets]
    ceiling = result.case.ceiling
    if ceiling is not None and OURS in result.entries:
        seconds = result.entries[OURS].median
        verdict = PASS if seconds < ceiling else FAIL
        found.append(Verdict(f"{OURS}: under {ceiling * 1e6:g} us (in us)", seconds * 1e6, None, verdict))
    return found


def memory_verdict(options: argparse.Namespace) -> Verdict:
    shape = memory.SMALL if options.small else memory.SHAPE
    share = memory.share_in_a_process_of_its_own(shape)
    text = f"memory in place, {shape}: under {memory.ALLOWED:.0%} above the array"
    if options.small:
        return Verdict(text, None, None, UNKNOWN)
    return Verdict(text, share, None, PASS if share < memory.ALLOWED else FAIL)


# --- the machine ---


def processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def instruction_set() -> str:
    """The kernels in use: asked for by setting others, and back."""
    level = _kernels.use_level(_kernels.BUILT_LEVELS[0])
    _kernels.use_level(level)
    return str(_kernels.LEVELS[level])


def environment() -> dict[str, str]:
    """What a figure depends on besides the code."""
    found = {
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "system": platform.platform(),
        "python": platform.python_version(),
        "fastloss": f"{fastloss.__version__}, {instruction_set()}, {_kernels.COMPILER}",
        "threads": str(fastloss.get_num_threads()),
    }
    for package in ("numpy", "torch", "jax", "scikit-learn"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    with suppress(OSError):
        pages = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
        found["huge pages"] = pages.split("[")[1].split("]")[0]
    with suppress(OSError, AttributeError):
        found["load before"] = " ".join(f"{load:.2f}" for load in os.getloadavg())
    return found


# --- reporting ---


def in_ms(seconds: float) -> str:
    """Milliseconds, to three digits and never in exponents."""
    value = seconds * 1e3
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3 if value >= 0.1 else 4
    return f"{value:.{digits}f}"


def ratio_text(ratios: tuple[float, float] | None) -> str:
    return "" if ratios is None else f"{ratios[0]:.3g} ({ratios[1]:.3g})"


def print_verdicts(verdicts: Iterable[Verdict]) -> None:
    for v in verdicts:
        figures = "" if v.medians is None else f"{v.medians:.3g}"
        if v.within is not None:
            figures += f" ({v.within:.3g})"
        print(f"  {v.verdict:12}  {v.target}: {figures}")


def print_result(result: Result) -> None:
    print(f"\n{result.case.name}: {result.case.title}")
    if result.shape != result.case.shape:
        print(f"  at the small shape {result.shape}: its times and verdicts mean nothing")
    print(f"  {'milliseconds':24}{'median':>9}{'least':>9}{'runs':>6}   over limit       over ours")
    for name, entry in result.entries.items():
        over_limit = ratio_text(result.ratios(name, LIMIT))
        over_ours = ratio_text(result.ratios(name, OURS))
        print(
            f"  {name:24}{in_ms(entry.median):>9}{in_ms(min(entry.seconds.values())):>9}"
            f"{len(entry.seconds):>6}   {over_limit:16} {over_ours}"
        )
    for name, reason in result.missing.items():
        print(f"  {name:24}{'-':>9}  {reason}")
    for name, reason in result.wrong.items():
        print(f"  {name:24}{'WRONG':>9}  {reason}")
    print_verdicts(verdicts_of(result))
    sys.stdout.flush()


def print_markdown(results: Sequence[Result]) -> None:
    """One table of times in milliseconds for the README; variants of ours under it."""
    columns = (LIMIT, OURS, *PEERS)
    titles = ("memory limit", OURS, "NumPy", "PyTorch", "JAX", "scikit-learn")
    print("\n| milliseconds | " + " | ".join(titles) + " |")
    print("|---" * (len(columns) + 1) + "|")
    variants = []
    for result in results:
        times = {name: in_ms(entry.median) for name, entry in result.entries.items()}
        cells = [times.get(name, "") for name in columns]
        if OURS in times:
            cells[1] = f"**{times[OURS]}**"
            print(f"| {result.case.title} | " + " | ".join(cells) + " |")
        variants += [
            f"| {result.case.title} | {name} | {times[name]} |" for name in times if name not in columns
        ]
    if variants:
        print("\n| | | milliseconds |\n|---|---|---|")
        print("\n".join(variants))


def as_json(results: Iterable[Result], machine: dict[str, str], others: Iterable[Verdict]) -> dict[str, Any]:
    rows = [
        {
            "name": result.case.name,
            "title": result.case.title,
            "shape": result.shape,
            "seconds": {name: list(e.seconds.values()) for name, e in result.entries.items()},
            "median": {name: e.median for name, e in result.entries.items()},
            "missing": result.missing,
            "wrong": result.wrong,
            "targets": [vars(verdict) for verdict in verdicts_of(result)],
        }
        for result in results
    ]
    return {"machine": machine, "rows": rows, "others": [vars(verdict) for verdict in others]}


# --- the command ---


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--rows", nargs="+", default=["*"], metavar="NAME", help="rows by name or pattern (--list), or memory"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the rows, and stop")
    parser.add_argument(
        "--only", default="", metavar="A,B", help="these contenders; fastloss stands for its variants too"
    )
    parser.add_argument(
        "--with", dest="extra", default="", metavar="A,B", help="further ones beside the peers: torch.compile"
    )
    parser.add_argument("--repeats", type=int, default=20, help=f"{SLOW_REPEATS} of them for slow contenders")
    parser.add_argument(
        "--settle", type=float, default=1000 * SETTLE, help="milliseconds of quiet before a call"
    )
    parser.add_argument("--threads", type=int, help="instead of the setting of fastloss")
    parser.add_argument("--small", action="store_true", help="small shapes, to try out the instrument itself")
    parser.add_argument("--json", metavar="FILE", help="write every time and verdict to a file")
    parser.add_argument("--markdown", action="store_true", help="end with the table for the README")
    options = parser.parse_args(argv)
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    names = [*(case.name for case in CASES), "memory"]
    for pattern in options.rows:
        if not any(fnmatch(name, pattern) for name in names):
            parser.error(f"no row is named {pattern!r}; there are {', '.join(names)}")
    return options


def is_wanted(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def contenders_of(case: Case, options: argparse.Namespace) -> list[str]:
    """Those of the row, further ones asked for, and of these the wanted."""
    only = [name for name in options.only.split(",") if name]
    extra = [name for name in options.extra.split(",") if name]
    names = [*case.contenders, *(extra if PEERS[0] in case.contenders else [])]
    # "fastloss" also means "fastloss 1 thread" and so on.
    patterns = [*only, *(f"{name} *" for name in only)]
    return [name for name in names if not only or is_wanted(name, patterns)]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; 1 where a result was wrong."""
    options = arguments(argv)
    cases = [case for case in CASES if is_wanted(case.name, options.rows)]
    if options.list:
        for case in cases:
            print(f"{case.name:18} {case.title}")
        return 0
    if options.threads is not None:
        fastloss.set_num_threads(options.threads)
    machine = environment()
    for what, value in machine.items():
        print(f"{what:14} {value}")
    results = []
    for case in cases:
        results.append(measure(case, contenders_of(case, options), options))
        print_result(results[-1])
    others = [memory_verdict(options)] if is_wanted("memory", options.rows) else []
    if others:
        print()
        print_verdicts(others)
    if options.markdown:
        print_markdown(results)
    if options.json:
        Path(options.json).write_text(json.dumps(as_json(results, machine, others), indent=1))
    return 1 if any(result.wrong for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
