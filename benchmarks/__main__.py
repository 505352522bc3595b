"""The command line: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

import fastloss

from . import report, tables
from .case import PEERS, Case, Suite
from .problem import dtype_of
from .runner import SETTLE, SLOW_REPEATS, Result, measure
from .suites import SUITES, problem_of
from .suites.elementwise import DTYPES

__all__ = ["main"]

ALL, TABLES, PICTURES = "all", "tables", "pictures"
EXAMPLES = """
python -m benchmarks softmax                        every row of a suite
python -m benchmarks softmax --rows 32k 'one-*'     some rows (--list prints their names)
python -m benchmarks all --only fastloss,limit      without peers, for work on kernels
python -m benchmarks elementwise --size 1000 --dtype bfloat16
python -m benchmarks all --small --repeats 2        try it out
python -m benchmarks tables                         rewrite the tables from benchmarks/results
python -m benchmarks pictures                       draw the pictures from benchmarks/results
"""


def _suite_lines() -> str:
    """Return the names of the suites, one on each line."""
    titles = {suite.name: suite.title for suite in SUITES.values()}
    titles |= {ALL: "all of them", TABLES: "rewrite the tables of docs/benchmarks.md and README.md"}
    titles |= {PICTURES: "draw the pictures of docs/benchmarks.md again"}
    return "\n".join(f"  {name:15} {title}" for name, title in titles.items())


def _parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure fastloss beside memory and its peers, in turn, with results checked.\n\n"
        f"suites:\n{_suite_lines()}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = found.add_argument
    add("suites", nargs="*", metavar="SUITE", help="what to run; without any, their names are printed")
    add("--rows", nargs="+", default=["*"], metavar="NAME", help="rows by name or pattern, or SUITE/NAME")
    add("--list", action="store_true", help="print the names of the rows, and stop")
    add("--only", default="", metavar="A,B", help="these contenders; fastloss stands for its variants too")
    add("--with", dest="extra", default="", metavar="A,B", help="further ones beside peers: torch.compile")
    add("--repeats", type=int, help=f"runs of each contender, by default the suite's; {SLOW_REPEATS} if slow")
    add("--settle", type=float, default=1000 * SETTLE, help="milliseconds of quiet before a call")
    add("--threads", type=int, help="instead of the setting of fastloss")
    add("--small", action="store_true", help="small shapes, to try out the instrument itself")
    add("--size", type=int, help="number of elements (elementwise)")
    add("--dtype", choices=DTYPES, help="type of the elements (elementwise)")
    add(
        "--json",
        type=Path,
        metavar="FOLDER",
        help="where to write the results; by default benchmarks/results, if suites run as they are declared",
    )
    return found


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Exit with an error if there is nothing to run, or an option would be ignored."""
    names = [*SUITES, ALL, TABLES, PICTURES]
    for name in options.suites:
        if name not in names:
            parser.error(f"no suite is named {name!r}; there are {', '.join(names)}")
    for name in (TABLES, PICTURES):
        if name in options.suites:
            if options != parser.parse_args([name]):
                parser.error(f"{name} stands alone, without options")
            return
    if options.repeats is not None and options.repeats < 1:
        parser.error("--repeats must be at least 1")
    if options.settle < 0:
        parser.error("--settle must be at least 0")
    if options.size is not None and options.size < 1:
        parser.error("--size must be at least 1")
    if options.size is not None or options.dtype is not None:
        fixed = [suite.name for suite in _suites(options) if suite.variant is None]
        if fixed:
            parser.error(f"--size and --dtype are for elementwise, not for {', '.join(fixed)}")
    if options.dtype is not None:
        try:
            dtype_of(options.dtype)
        except ImportError as error:
            parser.error(f"--dtype {options.dtype}: {error}")
    cases = [case for suite in _suites(options) for case in _cases(suite, options)]
    for pattern in options.rows:
        if not any(_is_row(case, [pattern]) for case in cases):
            parser.error(f"no row is named {pattern!r}; there are {', '.join(case.name for case in cases)}")


def _suites(options: argparse.Namespace) -> list[Suite]:
    return [suite for name, suite in SUITES.items() if name in options.suites or ALL in options.suites]


def _cases(suite: Suite, options: argparse.Namespace) -> tuple[Case, ...]:
    if suite.variant is None or (options.size is None and options.dtype is None):
        return suite.cases
    return suite.variant(options.size, options.dtype or DTYPES[0])


def _is_row(case: Case, patterns: Iterable[str]) -> bool:
    names = case.name, f"{case.suite}/{case.name}"
    return any(fnmatch(name, pattern) for name in names for pattern in patterns)


def _contenders(case: Case, options: argparse.Namespace) -> list[str]:
    """Return the contenders of the row and those of `--with`, filtered by `--only`."""
    only = [name for name in options.only.split(",") if name]
    extra = [name for name in options.extra.split(",") if name]
    has_peers = any(name in PEERS for name in case.contenders)
    names = dict.fromkeys([*case.contenders, *(extra if has_peers else [])])
    # "fastloss" also means "fastloss 1 thread" and so on.
    patterns = [*only, *(f"{name} *" for name in only)]
    return [name for name in names if not only or any(fnmatch(name, pattern) for pattern in patterns)]


def _run(suite: Suite, cases: Iterable[Case], options: argparse.Namespace) -> Iterator[Result]:
    """Measure and print the rows of a suite one by one."""
    for case in cases:
        problem = problem_of(case, options.small)
        repeats = options.repeats or suite.repeats
        result = measure(problem, _contenders(case, options), repeats, options.settle / 1000)
        report.print_result(result)
        yield result


def _is_whole(options: argparse.Namespace) -> bool:
    """Return whether every row and contender runs as declared."""
    is_filtered = options.only or options.rows != ["*"] or options.small
    changes = options.repeats, options.size, options.dtype
    return not is_filtered and all(change is None for change in changes)


def _run_suites(options: argparse.Namespace) -> int:
    """Measure, report and write; return 1 if a result was wrong."""
    folder = options.json or (report.RESULTS if _is_whole(options) else None)
    if options.threads is not None:
        fastloss.set_num_threads(options.threads)
    is_wrong = False
    for suite in _suites(options):
        cases = [case for case in _cases(suite, options) if _is_row(case, options.rows)]
        if not cases:
            continue
        machine = report.machine()
        print(f"\n=== {suite.name}: {suite.title}")
        report.print_machine(machine)
        results = list(_run(suite, cases, options))
        is_wrong |= any(result.wrong for result in results)
        if folder is not None:
            settings = {"repeats": options.repeats or suite.repeats, "settle": options.settle}
            path = report.write_json(report.as_json(suite.name, results, machine, settings), folder)
            print(f"\nwritten to {path}")
    return 1 if is_wrong else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a result was wrong."""
    parser = _parser()
    options = parser.parse_args(argv)
    if not options.suites:
        if options != parser.parse_args([]):
            parser.error("give a suite; without options, their names are printed")
        print(_suite_lines() + "\n\nOptions: --help")
        return 0
    _check(parser, options)
    if TABLES in options.suites:
        for path in tables.rewrite():
            print(f"rewritten: {path}")
        return 0
    if PICTURES in options.suites:
        # Matplotlib takes time to import.
        from .pictures import draw_all

        for path in draw_all():
            print(f"drawn: {path}")
        return 0
    if options.list:
        for suite in _suites(options):
            for case in _cases(suite, options):
                if _is_row(case, options.rows):
                    print(f"{f'{suite.name}/{case.name}':40} {case.title}")
        return 0
    return _run_suites(options)


if __name__ == "__main__":
    sys.exit(main())
