"""How rows are timed, held against their targets and printed: what the commands of this package share.

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import fastloss
from benchmarks.cases import BEST_PEER, LIMIT, OURS, PEERS, Target
from benchmarks.contenders import Contender, UnavailableError
from benchmarks.problem import WrongResultError
from fastloss import _kernels

__all__ = [
    "FAIL",
    "MICROSECONDS",
    "MILLISECONDS",
    "PASS",
    "SETTLE",
    "UNKNOWN",
    "AnyCase",
    "Result",
    "Unit",
    "Verdict",
    "contenders_of",
    "is_wanted",
    "list_names",
    "measure",
    "parser",
    "print_markdown",
    "print_result",
    "print_verdicts",
    "require_rows",
    "start",
    "wanted",
    "write_json",
]

# Seconds: of quiet before each timed call, to wait for it at most, that a sample takes at least, up to which
# a call is made once before, and from which it is slow.
SETTLE = 0.04
PATIENCE = 0.5
SAMPLE = 0.002
SHORT = 0.02
SLOW = 0.1
SLOW_REPEATS = 5

PASS, FAIL, RESTLESS, UNKNOWN = "pass", "FAIL", "restless", "not measured"


class AnyCase(Protocol):
    """What a row has to tell: its names, its shape, who takes part, and how fast ours has to be."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def contenders(self) -> tuple[str, ...]: ...

    @property
    def targets(self) -> tuple[Target, ...]: ...

    @property
    def ceiling(self) -> float | None: ...


SomeCase = TypeVar("SomeCase", bound=AnyCase)


# --- measuring ---


@dataclass
class Times:
    """Seconds by repeat."""

    seconds: dict[int, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds.values())

    @property
    def least(self) -> float:
        return min(self.seconds.values())


@dataclass
class Entry:
    """A contender at work, and how often its call fits into a sample."""

    contender: Contender
    number: int = 1
    warm: bool = False
    slow: bool = False


@dataclass
class Result:
    """A row after its run: the times, and what has none, with the reason. It holds no arrays."""

    case: AnyCase
    shape: tuple[int, ...]
    times: dict[str, Times] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)

    def fastest_peer(self) -> str | None:
        peers = [name for name in (*PEERS, "torch.compile") if name in self.times]
        return min(peers, key=lambda name: self.times[name].median, default=None)

    def ratios(self, of: str, against: str) -> tuple[float, float] | None:
        """Time of one over the other's: ratio of the medians, median of the ratios in one repeat."""
        a, b = self.times.get(of), self.times.get(against)
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


def measure(
    case: AnyCase,
    shape: tuple[int, ...],
    names: Iterable[str],
    build: Callable[[str], Contender],
    options: argparse.Namespace,
) -> Result:
    """Build and check the contenders of a row, time them in turn, and check their last results."""
    result = Result(case, shape)
    entries: list[Entry] = []
    for name in names:
        try:
            entries.append(prepared(build(name)))
            result.times[name] = Times()
        except (UnavailableError, ImportError) as reason:
            result.missing[name] = str(reason)
        except WrongResultError as reason:
            result.wrong[name] = str(reason)
    for repeat in range(options.repeats):
        is_last = repeat == options.repeats - 1
        first = repeat % len(entries) if entries else 0
        for entry in entries[first:] + entries[:first]:
            if not is_due(entry, repeat, options.repeats):
                continue
            name = entry.contender.name
            try:
                seconds = timed(entry, options.settle / 1000, is_checked=is_last)
                result.times[name].seconds[repeat] = seconds
            except WrongResultError as reason:
                result.wrong[name] = str(reason)
    for name in result.wrong:
        result.times.pop(name, None)
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
    if ceiling is not None and OURS in result.times:
        seconds = result.times[OURS].median
        verdict = PASS if seconds < ceiling else FAIL
        found.append(Verdict(f"{OURS}: under {ceiling * 1e6:g} us (in us)", seconds * 1e6, None, verdict))
    return found


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


class Unit(NamedTuple):
    """What times are printed in."""

    name: str
    per_second: float

    def text(self, seconds: float) -> str:
        """A time to three digits and never in exponents."""
        value = seconds * self.per_second
        digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3 if value >= 0.1 else 4
        return f"{value:.{digits}f}"


MILLISECONDS = Unit("milliseconds", 1e3)
MICROSECONDS = Unit("microseconds", 1e6)


def ratio_text(ratios: tuple[float, float] | None) -> str:
    return "" if ratios is None else f"{ratios[0]:.3g} ({ratios[1]:.3g})"


def print_verdicts(verdicts: Iterable[Verdict]) -> None:
    for v in verdicts:
        figures = "" if v.medians is None else f"{v.medians:.3g}"
        if v.within is not None:
            figures += f" ({v.within:.3g})"
        print(f"  {v.verdict:12}  {v.target}: {figures}")


def print_result(result: Result, unit: Unit = MILLISECONDS) -> None:
    print(f"\n{result.case.name}: {result.case.title}")
    if result.shape != result.case.shape:
        print(f"  at the small shape {result.shape}: its times and verdicts mean nothing")
    print(f"  {unit.name:24}{'median':>9}{'least':>9}{'runs':>6}   over limit       over ours")
    for name, times in result.times.items():
        over_limit = ratio_text(result.ratios(name, LIMIT))
        over_ours = ratio_text(result.ratios(name, OURS))
        print(
            f"  {name:24}{unit.text(times.median):>9}{unit.text(times.least):>9}"
            f"{len(times.seconds):>6}   {over_limit:16} {over_ours}"
        )
    for name, reason in result.missing.items():
        print(f"  {name:24}{'-':>9}  {reason}")
    for name, reason in result.wrong.items():
        print(f"  {name:24}{'WRONG':>9}  {reason}")
    print_verdicts(verdicts_of(result))
    sys.stdout.flush()


def print_markdown(results: Sequence[Result], columns: Mapping[str, str], unit: Unit = MILLISECONDS) -> None:
    """One table of times for the README, a column for each contender by its title; the others under it."""
    print(f"\n| {unit.name} | " + " | ".join(columns.values()) + " |")
    print("|---" * (len(columns) + 1) + "|")
    variants = []
    for result in results:
        title = result.case.title
        texts = {name: unit.text(times.median) for name, times in result.times.items()}
        if OURS in texts:
            shown = texts | {OURS: f"**{texts[OURS]}**"}
            print(f"| {title} | " + " | ".join(shown.get(name, "") for name in columns) + " |")
        variants += [f"| {title} | {name} | {texts[name]} |" for name in texts if name not in columns]
    if variants:
        print(f"\n| | | {unit.name} |\n|---|---|---|")
        print("\n".join(variants))


def as_json(results: Iterable[Result], machine: dict[str, str], others: Iterable[Verdict]) -> dict[str, Any]:
    rows = [
        {
            "name": result.case.name,
            "title": result.case.title,
            "shape": result.shape,
            "seconds": {name: list(times.seconds.values()) for name, times in result.times.items()},
            "median": {name: times.median for name, times in result.times.items()},
            "missing": result.missing,
            "wrong": result.wrong,
            "targets": [vars(verdict) for verdict in verdicts_of(result)],
        }
        for result in results
    ]
    return {"machine": machine, "rows": rows, "others": [vars(verdict) for verdict in others]}


def write_json(
    path: str, results: Iterable[Result], machine: dict[str, str], others: Iterable[Verdict] = ()
) -> None:
    Path(path).write_text(json.dumps(as_json(results, machine, others), indent=1))


# --- the command line ---


def parser(prog: str, description: str | None, *, repeats: int, others: str = "") -> argparse.ArgumentParser:
    """The options of every command; `others` says what `--rows` takes besides rows."""
    found = argparse.ArgumentParser(prog=prog, description=(description or "").partition("\n")[0])
    found.add_argument(
        "--rows", nargs="+", default=["*"], metavar="NAME", help=f"rows by name or pattern (--list){others}"
    )
    found.add_argument("--list", action="store_true", help="print the names of the rows, and stop")
    found.add_argument(
        "--only", default="", metavar="A,B", help="these contenders; fastloss stands for its variants too"
    )
    found.add_argument(
        "--with", dest="extra", default="", metavar="A,B", help="further ones beside the peers: torch.compile"
    )
    found.add_argument(
        "--repeats", type=int, default=repeats, help=f"{SLOW_REPEATS} of them for slow contenders"
    )
    found.add_argument(
        "--settle", type=float, default=1000 * SETTLE, help="milliseconds of quiet before a call"
    )
    found.add_argument("--threads", type=int, help="instead of the setting of fastloss")
    found.add_argument("--json", metavar="FILE", help="write every time and verdict to a file")
    found.add_argument("--markdown", action="store_true", help="end with the table for the README")
    return found


def require_rows(found: argparse.ArgumentParser, options: argparse.Namespace, names: Sequence[str]) -> None:
    """Stop where there is nothing to run."""
    if options.repeats < 1:
        found.error("--repeats must be at least 1")
    for pattern in options.rows:
        if not any(fnmatch(name, pattern) for name in names):
            found.error(f"no row is named {pattern!r}; there are {', '.join(names)}")


def is_wanted(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def wanted(cases: Iterable[SomeCase], options: argparse.Namespace) -> list[SomeCase]:
    return [case for case in cases if is_wanted(case.name, options.rows)]


def contenders_of(case: AnyCase, options: argparse.Namespace) -> list[str]:
    """Those of the row, further ones asked for, and of these the wanted."""
    only = [name for name in options.only.split(",") if name]
    extra = [name for name in options.extra.split(",") if name]
    has_peers = any(name in PEERS for name in case.contenders)
    names = [*case.contenders, *(extra if has_peers else [])]
    # "fastloss" also means "fastloss 1 thread" and so on.
    patterns = [*only, *(f"{name} *" for name in only)]
    return [name for name in names if not only or is_wanted(name, patterns)]


def list_names(cases: Iterable[AnyCase]) -> None:
    for case in cases:
        print(f"{case.name:18} {case.title}")


def start(options: argparse.Namespace) -> dict[str, str]:
    """Set the threads, and say on what machine this is."""
    if options.threads is not None:
        fastloss.set_num_threads(options.threads)
    machine = environment()
    for what, value in machine.items():
        print(f"{what:14} {value}")
    return machine
