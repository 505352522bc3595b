"""linear_cross_entropy beside the bare matrix products and PyTorch, taken in turn, as ratios.

    python -m benchmarks.linear                              every row (several minutes)
    python -m benchmarks.linear --rows gradients 'filter*'   some; memory and agreement are rows, too
    python -m benchmarks.linear --only fastloss,limit        without PyTorch
    python -m benchmarks.linear --small --repeats 2          to try it out

Under each row is how far the gradients are from those in float64. Of `--threads` NumPy's products know
nothing: they have those of its BLAS. How it measures: see `benchmarks.runner`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from benchmarks import memory, runner
from benchmarks.cases import LIMIT, OURS, TORCH
from benchmarks.linear_cases import AGREEMENT, CASES, CHUNKED, GRADIENTS, Case, Problem
from benchmarks.linear_contenders import build
from benchmarks.problem import WrongResultError
from benchmarks.runner import FAIL, PASS, UNKNOWN, Result, Verdict

__all__ = ["main"]

COLUMNS = {LIMIT: "matrix products", OURS: OURS, TORCH: "PyTorch", CHUNKED: "PyTorch, chunked"}
# Few enough that the slow run in each, and as many as the longest row has contenders: each goes first once.
REPEATS = 7


def measure(case: Case, options: argparse.Namespace) -> Result:
    """Time the contenders of a row, at its shape or the small one, and report."""
    problem = Problem(case, options.small)
    names = runner.contenders_of(case, options)
    result = runner.measure(case, problem.shape, names, partial(build, problem=problem), options)
    runner.print_result(result)
    if problem.errors:
        errors = ", ".join(f"{name} {error:.1e}" for name, error in problem.errors.items())
        print(f"  largest error of a gradient, in units of its largest entry: {errors}")
    return result


def memory_verdict(options: argparse.Namespace) -> Verdict:
    shape = memory.SMALL_LINEAR if options.small else memory.LINEAR
    share = memory.share_in_a_process_of_its_own(shape)
    text = f"memory, {shape}: at most {memory.ALLOWED:.0%} of the logits above arrays and BLAS"
    if options.small:
        return Verdict(text, None, None, UNKNOWN)
    return Verdict(text, share, None, PASS if share <= memory.ALLOWED else FAIL)


def agreement_verdict(options: argparse.Namespace) -> Verdict:
    problem = Problem(GRADIENTS, options.small)
    contender = build(OURS, problem)
    with suppress(WrongResultError):
        contender.check(contender.call())
    # Where the loss is wrong nobody has looked at the gradients.
    error = problem.errors.get(OURS)
    text = f"agreement, {problem.shape}: float32 gradients within {AGREEMENT:g} of their largest entry"
    return Verdict(text, error, None, PASS if error is not None and error <= AGREEMENT else FAIL)


VERDICTS = {"memory": memory_verdict, "agreement": agreement_verdict}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    others = f", or {' or '.join(VERDICTS)}"
    parser = runner.parser("python -m benchmarks.linear", __doc__, repeats=REPEATS, others=others)
    parser.add_argument(
        "--small", action="store_true", help="a small shape, to try out the instrument itself"
    )
    options = parser.parse_args(argv)
    runner.require_rows(parser, options, [*(case.name for case in CASES), *VERDICTS])
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; 1 where a result was wrong."""
    options = arguments(argv)
    cases = runner.wanted(CASES, options)
    if options.list:
        runner.list_names(cases)
        return 0
    machine = runner.start(options)
    results = [measure(case, options) for case in cases]
    others = [of(options) for name, of in VERDICTS.items() if runner.is_wanted(name, options.rows)]
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
