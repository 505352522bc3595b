"""The elementary functions over all floats: the largest error of each on each instruction set.

``python tests/functions.py`` tries all 2^32 floats, in half an hour of one processor, and prints a table.
``--write`` also stores it, with the worst numbers, in functions.json, and writes the table of
docs/numerics.md. test_functions.py tries the worst numbers again: no change may make them worse.

The reference is NumPy's function of the same numbers in double, whose own error is a hundred-millionth of a
unit in the last place of a float. Results that are not normal numbers count by another rule: they are within
1.2e-38, an infinity or NaN where the exact result is.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from helpers import Array
from levels import LEVELS, using

import fastloss
from fastloss import _kernels

STORED = Path(__file__).with_name("functions.json")
PAGE = Path(__file__).parents[1] / "docs" / "numerics.md"
BEGIN, END = "<!-- functions -->\n", "<!-- end of functions -->\n"
ALL, CHUNK, AT_ONCE, WORST = 2**32, 2**22, 2**12, 8
# Exponentials are cut off a little above the smallest normal number, 1.1755e-38.
NORMAL, LARGEST = 1.2e-38, float(np.finfo(np.float32).max)
# Below this an exponential in float is 0, or close to it: it leaves the normal range.
LEAST = float(np.float32(-87.33))


def _kernel(name: str, kind: type) -> Callable[[Array], Array]:
    def apply(x: Array) -> Array:
        x = x.astype(kind)
        out = np.empty_like(x)
        _kernels.vecmath(name, x, out)
        return out

    return apply


def _logistic(part: int) -> Callable[[Array], Array]:
    def apply(x: Array) -> Array:
        found = fastloss.binary_cross_entropy_with_logits(
            x, 0.0, reduction="none", return_grad=True, num_threads=1
        )
        return np.asarray(found[part])

    return apply


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0.0, e, 1.0) / (1.0 + e))


def _softplus(x: Array) -> Array:
    return np.asarray(np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))))


@dataclass(frozen=True)
class Function:
    """A function, on floats from `low` to `high` (and NaN, if these are infinite)."""

    title: str
    apply: Callable[[Array], Array]
    exact: Callable[[Array], Array]
    low: float = -np.inf
    high: float = np.inf


FUNCTIONS = (
    Function("exp", _kernel("exp_any_f32", np.float32), np.exp),
    Function("exp of a row's differences", _kernel("exp_f32", np.float32), np.exp, high=0.0),
    Function("exp down from 1", _kernel("exp_down_f32", np.float32), np.exp, LEAST, 0.0),
    Function("expm1, x <= 0", _kernel("expm1_f32", np.float32), np.expm1, high=0.0),
    Function("log", _kernel("log_f32", np.float32), np.log),
    Function("log1p", _kernel("log1p_f32", np.float32), np.log1p),
    Function("log1p, 0 <= x <= 1", _kernel("log1p_unit_f32", np.float32), np.log1p, 0.0, 1.0),
    Function("tanh (a softcap's, in double)", _kernel("tanh_f64", np.float64), np.tanh),
    Function("sigmoid (a gradient)", _logistic(1), _sigmoid),
    Function("softplus (a loss)", _logistic(0), _softplus),
)


@dataclass(frozen=True)
class Exact:
    """Exact results, and where they are normal numbers, with one over the unit of their last place."""

    values: Array
    normal: Array
    rest: Array
    over_unit: Array

    @classmethod
    def of(cls, values: Array) -> Exact:
        size = np.abs(values)
        counts = (size >= NORMAL) & (size <= LARGEST)
        exponent = np.abs(values[counts]).view(np.int64) >> 52
        over_unit = ((2 * 1023 + 23 - exponent) << 52).view(np.float64)
        return cls(values, np.flatnonzero(counts), np.flatnonzero(~counts), over_unit)

    def errors(self, found: Array) -> Array:
        """Errors in units of the last place, 0 for results that are not normal; infinite if wrong in kind."""
        if not self.rest.size:
            return np.asarray(np.abs(found - self.values) * self.over_unit)
        error = np.zeros(found.shape)
        normal, others = self.values[self.normal], self.values[self.rest]
        error[self.normal] = np.abs(found[self.normal] - normal) * self.over_unit
        found = found[self.rest]
        good = (found == others) | (np.isnan(found) & np.isnan(others)) | (np.abs(found - others) <= NORMAL)
        good |= (np.abs(others) > LARGEST) & (found == np.copysign(np.inf, others))
        error[self.rest] = np.where(good, 0.0, np.inf)
        error[np.isnan(error)] = np.inf
        return error


def within(function: Function, x: Array) -> Array:
    """The floats that are in the function's range."""
    if function.low == -np.inf and function.high == np.inf:
        return x
    return np.asarray(x[(x >= function.low) & (x <= function.high)])


Found = dict[tuple[str, int], list[tuple[float, int]]]


def keep(worst: Found, key: tuple[str, int], error: Array, x: Array) -> None:
    """Keep the worst numbers."""
    known = worst.setdefault(key, [])
    if len(known) == WORST and error.max() <= known[-1][0]:
        return
    places = np.argpartition(error, -min(WORST, x.size))[-WORST:]
    some = zip(error[places].tolist(), x[places].view(np.uint32).tolist(), strict=True)
    worst[key] = sorted([*known, *some], reverse=True)[:WORST]


def measure(bits: Array, worst: Found) -> None:
    """Find the worst errors on floats with these bits, and the bits, by function and instruction set."""
    for function in FUNCTIONS:
        x = within(function, bits.view(np.float32))
        if not x.size:
            continue
        exact = Exact.of(function.exact(x.astype(np.float64)))
        for level in LEVELS:
            with using(level):
                found = function.apply(x).astype(np.float32).astype(np.float64)
            keep(worst, (function.title, level), exact.errors(found), x)


def of_chunk(chunk: tuple[int, int, int]) -> Found:
    start, stop, step = chunk
    worst: Found = {}
    with np.errstate(all="ignore"):
        for first in range(start, stop, AT_ONCE * step):
            last = min(first + AT_ONCE * step, stop)
            measure(np.arange(first, last, step, dtype=np.uint64).astype(np.uint32), worst)
    return worst


def chunks(step: int) -> Iterator[tuple[int, int, int]]:
    for start in range(0, ALL, CHUNK * step):
        yield start, min(start + CHUNK * step, ALL), step


def sweep(step: int, processes: int) -> dict[str, Any]:
    """The largest error of each function on each instruction set, and its worst numbers."""
    worst: Found = {}
    count, begin = -(-ALL // (CHUNK * step)), time.monotonic()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for done, found in enumerate(pool.imap_unordered(of_chunk, chunks(step)), 1):
            for key, some in found.items():
                worst[key] = sorted([*worst.get(key, []), *some], reverse=True)[:WORST]
            if done % 64 == 0:
                took = time.monotonic() - begin
                print(f"{done / count:.0%} in {took:.0f} s", file=sys.stderr, flush=True)
    return summary(worst, -(-ALL // step))


def summary(worst: Found, floats: int) -> dict[str, Any]:
    """What is stored: of how many floats these are the worst, and for each function and instruction set."""
    by_title: dict[str, dict[str, Any]] = {function.title: {} for function in FUNCTIONS}
    for (title, level), some in sorted(worst.items()):
        by_title[title][_kernels.LEVELS[level]] = {
            "error": round(some[0][0], 4), "worst": [f"{bits:08x}" for _, bits in some],
        }  # fmt: skip
    return {"floats": floats, "functions": by_title}


def table(stored: dict[str, Any]) -> str:
    """The text of the documentation, with its table."""
    # A machine may lack some of them.
    names = [n for n in _kernels.LEVELS if all(n in by_level for by_level in stored["functions"].values())]
    tried = "all 2^32 floats" if stored["floats"] == ALL else f"{stored['floats']:,} of the 2^32 floats"
    rows = [["function", *names], ["---"] * (1 + len(names))]
    for title, by_level in stored["functions"].items():
        rows.append([title, *(f"{by_level[name]['error']:.2f}" for name in names)])
    text = f"The largest errors in float32, in units in the last place, among {tried}:\n\n"
    return text + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def with_table(page: str, stored: dict[str, Any]) -> str:
    """The page with its table as it should be."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{table(stored)}\n{END}{after}"


def load() -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8"))
    return stored


def main() -> None:
    parser = argparse.ArgumentParser(description="Errors of the elementary functions, over all floats.")
    parser.add_argument("--step", type=int, default=1, help="try every so many floats")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--write", action="store_true", help="store the errors, and write their table")
    arguments = parser.parse_args()
    if arguments.write and arguments.step != 1:
        parser.error("only all floats are stored")
    stored = sweep(arguments.step, arguments.processes)
    print(table(stored), end="")
    if arguments.write:
        STORED.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), stored), encoding="utf-8")


if __name__ == "__main__":
    main()
