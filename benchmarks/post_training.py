"""The post-training losses beside the memory limit and PyTorch, taken in turn, as ratios.

    python -m benchmarks.post_training                        every row (several minutes)
    python -m benchmarks.post_training --rows dpo 'kl*'       some
    python -m benchmarks.post_training --only fastloss,limit  without PyTorch
    python -m benchmarks.post_training --small --repeats 2    to try it out

The limit is to read the logits, or to subtract the two arrays into a third: see
`benchmarks.post_training_contenders`. How it measures: see `benchmarks.runner`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from benchmarks import runner
from benchmarks.cases import LIMIT, OURS, TORCH
from benchmarks.elementwise import unit_of
from benchmarks.post_training_cases import CASES, Case, Problem
from benchmarks.post_training_contenders import build
from benchmarks.runner import Result

__all__ = ["main"]

COLUMNS = {LIMIT: "memory limit", OURS: OURS, TORCH: "PyTorch"}


def measure(case: Case, options: argparse.Namespace) -> Result:
    """Time the contenders of a row, at its shape or the small one."""
    problem = Problem(case, options.small)
    names = runner.contenders_of(case, options)
    return runner.measure(case, problem.shape, names, partial(build, problem=problem), options)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = runner.parser("python -m benchmarks.post_training", __doc__, repeats=11)
    parser.add_argument("--small", action="store_true", help="small shapes, to try out the instrument itself")
    options = parser.parse_args(argv)
    runner.require_rows(parser, options, [case.name for case in CASES])
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; 1 where a result was wrong."""
    options = arguments(argv)
    cases = runner.wanted(CASES, options)
    if options.list:
        runner.list_names(cases)
        return 0
    machine = runner.start(options)
    results: list[Result] = []
    for case in cases:
        results.append(measure(case, options))
        runner.print_result(results[-1], unit_of(results[-1:]))
    if options.markdown:
        runner.print_markdown(results, COLUMNS)
    if options.json:
        runner.write_json(options.json, results, machine)
    return 1 if any(result.wrong for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
