"""Times of fastloss, the memory limit and the peers, taken in turn in one process, as ratios.

    python -m benchmarks.compare                                  every row (about ten minutes)
    python -m benchmarks.compare --rows 32k one-call              some (patterns too: '32k*'; --list)
    python -m benchmarks.compare --only fastloss,limit            without peers, for work on kernels
    python -m benchmarks.compare --markdown --json figures.json   for the README, and for later

How it measures: see `benchmarks.runner`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

if not __package__:  # run as a file
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from benchmarks import memory, runner
from benchmarks.cases import CASES, LIMIT, OURS, PEERS, Case
from benchmarks.contenders import build
from benchmarks.problem import Problem
from benchmarks.runner import FAIL, PASS, UNKNOWN, Result, Verdict

__all__ = ["main"]

TITLES = dict(zip(PEERS, ("NumPy", "PyTorch", "JAX", "scikit-learn"), strict=True))
COLUMNS = {LIMIT: "memory limit", OURS: OURS, **TITLES}


def measure(case: Case, options: argparse.Namespace) -> Result:
    """Time the contenders of a row, at its shape or the small one."""
    problem = Problem(case, options.small)
    names = runner.contenders_of(case, options)
    return runner.measure(case, problem.shape, names, partial(build, problem=problem), options)


def memory_verdict(options: argparse.Namespace) -> Verdict:
    shape = memory.SMALL if options.small else memory.SHAPE
    share = memory.share_in_a_process_of_its_own(shape)
    text = f"memory in place, {shape}: under {memory.ALLOWED:.0%} above the array"
    if options.small:
        return Verdict(text, None, None, UNKNOWN)
    return Verdict(text, share, None, PASS if share < memory.ALLOWED else FAIL)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = runner.parser("python -m benchmarks.compare", __doc__, repeats=20, others=", or memory")
    parser.add_argument("--small", action="store_true", help="small shapes, to try out the instrument itself")
    options = parser.parse_args(argv)
    runner.require_rows(parser, options, [*(case.name for case in CASES), "memory"])
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; 1 where a result was wrong."""
    options = arguments(argv)
    cases = runner.wanted(CASES, options)
    if options.list:
        runner.list_names(cases)
        return 0
    machine = runner.start(options)
    results = []
    for case in cases:
        results.append(measure(case, options))
        runner.print_result(results[-1])
    others = [memory_verdict(options)] if runner.is_wanted("memory", options.rows) else []
    if others:
        print()
        runner.print_verdicts(others)
    if options.markdown:
        runner.print_markdown(results, COLUMNS)
    if options.json:
        runner.write_json(options.json, results, machine, others)
    return 1 if any(result.wrong for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
