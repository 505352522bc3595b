"""``python -m fastloss bench``: fastloss, the limit of memory and the installed peers on this machine.

It measures some rows of the suites, each with its own arrays, reference and checks, in so many seconds. Its
limit is the memory that a row has to read and write, moved without any arithmetic. For rows that are larger
than the caches it also measures their arithmetic alone, as the suite "bounds" does. Results have the form
of those in `benchmarks/results`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fastloss

from . import report
from .case import COLUMNS, LIMIT, OURS, PEERS, Case
from .contenders import LIMITS, is_installed
from .runner import SETTLE, Begins, Result, measure
from .suites import SUITES, bounds, problem_of

__all__ = ["NAME", "main", "selected"]

NAME = "bench"
SECONDS = 45.0
# Of each contender: few enough that slow ones take part in all of them.
REPEATS = 9
# Suites whose rows are those of others, measured in other ways.
OF_OTHERS = ("bounds", "growth")
ROWS = (
    "softmax/512-rows",
    "softmax/1000-classes",
    "softmax/10-classes",
    "elementwise/mse",
    "elementwise/logits",
    "elementwise/poisson",
)
EXAMPLES = """
python -m fastloss bench                                    the rows that matter most
python -m fastloss bench 'softmax/32k*' --seconds 200         others, by name or pattern
python -m fastloss bench --json me.json --picture me.svg    also to files
"""


def _parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m fastloss bench",
        description="Measure fastloss on this machine beside the limit of memory, NumPy and, where they are "
        "installed, PyTorch, JAX and scikit-learn: in turn, with every result checked.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = found.add_argument
    add("rows", nargs="*", default=list(ROWS), metavar="ROW", help="SUITE/NAME or a pattern (see --list)")
    add("--list", action="store_true", help="print the names of all rows, and stop; * marks the default ones")
    add("--seconds", type=float, default=SECONDS, help="about how long to measure (default: %(default)g)")
    add("--threads", type=int, help="instead of the setting of fastloss")
    add("--json", type=Path, metavar="FILE", help="write all figures, in the form of benchmarks/results")
    add("--picture", type=Path, metavar="FILE", help="draw bars and a roofline (PNG, SVG; needs matplotlib)")
    return found


def _all_cases() -> Iterator[Case]:
    """Return the rows of all suites that have fastloss and measure time."""
    for suite in SUITES.values():
        for case in suite.cases:
            if OURS in case.contenders and case.quantity == "seconds" and case.suite not in OF_OTHERS:
                yield case


def _name(case: Case) -> str:
    return f"{case.suite}/{case.name}"


def selected(patterns: Sequence[str]) -> list[Case]:
    """Return the rows of these names or patterns, each as it is measured here."""
    return [_measured(case) for case in _all_cases() if any(fnmatch(_name(case), p) for p in patterns)]


def _measured(case: Case) -> Case:
    """Return the row with the limit of memory, what bounds it, and the peers only."""
    contenders = [name for name in (LIMIT, OURS, *PEERS) if name in case.contenders]
    if case.limit not in LIMITS or case.mode not in ("gradient", "value"):
        return replace(case, contenders=tuple(contenders), targets=())
    if case.suite in bounds.OF and case.axis == -1:
        contenders += [bounds.COMPUTE, bounds.CALLS]
    return replace(case, contenders=tuple(contenders), targets=(), limit="move")


# --- the run ---


@contextmanager
def _progress(cases: Sequence[Case]) -> Iterator[Callable[[Case], Begins]]:
    """Show how far the run is: as a bar, or as a line for each row.

    The value is called at the beginning of a row, and returns what is called at each step of it.
    """
    if not sys.stderr.isatty() or find_spec("tqdm") is None:
        if sys.stderr.isatty():
            print("(With tqdm there is a progress bar: pip install 'fastloss[bench]')", file=sys.stderr)
        yield _line
        return
    from tqdm import tqdm

    # A step of a row is its arrays, a contender that is prepared, or one that is timed.
    steps = [1 + len(case.contenders) * (1 + REPEATS) for case in cases]
    ends = {_name(case): sum(steps[: k + 1]) for k, case in enumerate(cases)}
    with tqdm(total=sum(steps), bar_format="{l_bar}{bar}| {elapsed} {desc}", leave=False) as bar:

        def begins_row(case: Case) -> Begins:
            # A row whose time was over had fewer steps.
            bar.update(ends[_name(case)] - steps[cases.index(case)] - bar.n)

            def begins(contender: str) -> None:
                bar.set_description_str(f"{_name(case)}: {contender}", refresh=False)
                bar.update()

            begins("arrays and reference")
            return begins

        yield begins_row


def _line(case: Case) -> Begins:
    print(f"{_name(case)}: {case.title}", file=sys.stderr, flush=True)
    return lambda contender: None


def _run(cases: Sequence[Case], seconds: float) -> list[Result]:
    """Measure the rows, small ones first: what they leave of their time, large ones can use."""
    end = time.perf_counter() + seconds
    ordered = sorted(cases, key=_elements)
    found: dict[str, Result] = {}
    with _progress(ordered) as begins_row:
        for k, case in enumerate(ordered):
            now = time.perf_counter()
            if now > end and found:
                break
            begins = begins_row(case)
            problem = problem_of(case, False)
            names = [name for name in case.contenders if is_installed(name)]
            deadline = now + (end - now) / (len(ordered) - k)
            result = measure(problem, names, REPEATS, SETTLE, deadline, begins)
            if case.limit == "move" and LIMIT in result.figures:
                result.moved = sum(map(sum, problem.traffic))
            found[_name(case)] = result
    return [found[_name(case)] for case in cases if _name(case) in found]


def _elements(case: Case) -> float:
    size = 1.0
    for length in case.shape:
        size *= length
    return size


# --- the table ---


def _cell(row: Mapping[str, Any], name: str) -> str:
    if name in row["wrong"]:
        return "wrong"
    return f"{1e3 * row['contenders'][name]['median']:.3g}" if name in row["contenders"] else "-"


def _ratio(row: Mapping[str, Any], of: Sequence[str], against: str) -> str:
    """Return the smallest time of some contenders over that of another."""
    times = [row["contenders"][name]["median"] for name in of if name in row["contenders"]]
    if not times or against not in row["contenders"]:
        return "-"
    return f"{min(times) / row['contenders'][against]['median']:.2f}"


def _print_table(run: Mapping[str, Any]) -> None:
    """Print a line for each row, and below what the numbers are."""
    rows = run["rows"]
    columns = [name for name in COLUMNS if any(name in (*row["contenders"], *row["wrong"]) for row in rows)]
    titles = ["milliseconds", *(COLUMNS[name] for name in columns), "over limit", "peer / fastloss"]
    lines = [
        [
            f"{row['suite']}/{row['name']}",
            *(_cell(row, name) for name in columns),
            _ratio(row, [OURS], LIMIT),
            _ratio(row, PEERS, OURS),
        ]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(titles, *lines, strict=True)]
    print()
    for first, *others in (titles, *lines):
        cells = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join([f"{first:<{widths[0]}}", *cells]))
    print()
    for row in rows:
        print(f"{row['suite']}/{row['name']}: {row['title']}")
        for name, reason in row["wrong"].items():
            print(f"  {name} is WRONG: {reason}")
        if not row["contenders"] and not row["wrong"]:
            print(f"  not measured: {', '.join(sorted({*row['missing'].values()}))}")
    print(f"\nlimit: to read and write as much without arithmetic, with {run['machine']['memory_moved_by']}")
    print(f"peer: the fastest of {', '.join(name for name in PEERS if is_installed(name))}")


def _print_summary(run: Mapping[str, Any], asked: Sequence[Case], seconds: float) -> None:
    on = run["machine"]
    _print_table(run)
    missing = [COLUMNS[name] for name in PEERS if not is_installed(name)]
    if missing:
        print(f"not installed: {', '.join(missing)}")
    left = len(asked) - len(run["rows"])
    if left:
        print(f"{left} of {len(asked)} rows had no time; --seconds {2 * seconds:g} gives them more")
    print(
        f"on: {on['processor']}, {on['cores']} cores, {on['instruction_set']}, {on['threads']} threads; "
        + ", ".join(f"{name} {version}" for name, version in on["versions"].items())
    )


# --- the command ---


def _checked(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[Case]:
    """Return the rows to measure; exit with an error if there are none, or an option is wrong."""
    if not options.seconds > 0:
        parser.error("--seconds must be greater than 0")
    if options.threads is not None and options.threads < 1:
        parser.error("--threads must be at least 1")
    for pattern in options.rows:
        if not selected([pattern]):
            parser.error(f"no row is named {pattern!r}; --list prints their names")
    for path in (options.json, options.picture):
        if path is not None and not path.parent.is_dir():
            parser.error(f"there is no folder {path.parent}")
    if options.picture is not None and find_spec("matplotlib") is None:
        parser.error("--picture needs matplotlib: pip install 'fastloss[bench]'")
    return selected(options.rows)


def _print_names() -> None:
    for case in _all_cases():
        print(f"{'*' if _name(case) in ROWS else ' '} {_name(case):40} {case.title}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a result was wrong."""
    parser = _parser()
    options = parser.parse_args(argv)
    cases = _checked(parser, options)
    if options.list:
        _print_names()
        return 0
    if options.threads is not None:
        fastloss.set_num_threads(options.threads)
    machine = report.machine()
    results = _run(cases, options.seconds)
    settings = {"seconds": options.seconds, "repeats": REPEATS, "settle": 1e3 * SETTLE}
    run = report.as_json(NAME, results, machine, settings)
    _print_summary(run, cases, options.seconds)
    if options.json is not None:
        options.json.write_text(report.text_of(run))
        print(f"written to {options.json}")
    if options.picture is not None:
        from .pictures import draw_bench

        draw_bench(run, options.picture)
        print(f"drawn to {options.picture}")
    return 1 if any(result.wrong for result in results) else 0
