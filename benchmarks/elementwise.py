"""The elementwise losses beside the memory limit and their peers, taken in turn, as ratios.

    python -m benchmarks.elementwise                          every row, 10 million float32 elements
    python -m benchmarks.elementwise --rows mse huber --size 1000
    python -m benchmarks.elementwise --value                  the loss alone, beside a dot product
    python -m benchmarks.elementwise --dtype bfloat16
    python -m benchmarks.elementwise --with torch.compile     it takes long to compile

Everyone computes the mean and its gradient; fastloss and scikit-learn write into buffers that are kept. The
limit is a subtraction of the two arrays into a third: see `benchmarks.elementwise_contenders`. In float16,
where the gradient of a mean of many elements would vanish, an upstream gradient lifts it, as in
mixed-precision training. How it measures: see `benchmarks.runner`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from benchmarks import runner
from benchmarks.cases import JAX, LIMIT, OURS, SKLEARN, TORCH
from benchmarks.elementwise_cases import DTYPES, ROWS, SIZE, Case, Problem
from benchmarks.elementwise_contenders import build
from benchmarks.problem import dtype_of
from benchmarks.runner import MICROSECONDS, MILLISECONDS, Result, Unit

__all__ = ["main"]

COLUMNS = {LIMIT: LIMIT, OURS: OURS, TORCH: "PyTorch", JAX: "JAX", SKLEARN: "scikit-learn"}
# Seconds from which a time is told in milliseconds.
MILLI = 1e-4


def unit_of(results: Sequence[Result]) -> Unit:
    """One unit for a table: microseconds where its shortest time is less than a tenth of a millisecond."""
    medians = [times.median for result in results for times in result.times.values()]
    return MICROSECONDS if medians and min(medians) < MILLI else MILLISECONDS


def measure(case: Case, options: argparse.Namespace) -> Result:
    """Time the contenders of a row."""
    problem = Problem(case)
    names = runner.contenders_of(case, options)
    return runner.measure(case, case.shape, names, partial(build, problem=problem), options)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = runner.parser("python -m benchmarks.elementwise", __doc__, repeats=11)
    parser.add_argument("--size", type=int, default=SIZE, help="elements")
    parser.add_argument("--dtype", choices=DTYPES, default=DTYPES[0])
    parser.add_argument("--value", action="store_true", help="the loss alone")
    options = parser.parse_args(argv)
    runner.require_rows(parser, options, [row.name for row in ROWS])
    if options.size < 1:
        parser.error("--size must be at least 1")
    try:
        dtype_of(options.dtype)
    except ImportError as error:
        parser.error(f"--dtype {options.dtype}: {error}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; 1 where a result was wrong."""
    options = arguments(argv)
    cases = [Case(row, options.size, options.dtype, options.value) for row in ROWS]
    cases = runner.wanted(cases, options)
    if options.list:
        runner.list_names(cases)
        return 0
    machine = runner.start(options)
    results: list[Result] = []
    for case in cases:
        results.append(measure(case, options))
        runner.print_result(results[-1], unit_of(results[-1:]))
    if options.markdown:
        runner.print_markdown(results, COLUMNS, unit_of(results))
    if options.json:
        runner.write_json(options.json, results, machine)
    return 1 if any(result.wrong for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
