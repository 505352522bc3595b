"""Random calls of every public function: the reference's result, or the documented error.

A case draws a row of the registry, and shape, type, options, data, reduction, upstream gradient, instruction
set and number of threads. Its arrays then lie in other ways: with other strides, or between pages of memory
that nobody may touch, so that a read or a write outside of them ends the process. Gradients go to new arrays,
over the inputs, or are added. A case with a bad value must raise before anything is written. Public names
without a row have cases of their own, in fuzz_objects.py.

``python tests/fuzz.py --cases 1000000`` runs that many, and prints each case that fails, made smaller;
test_fuzz.py runs some thousand.
"""

from __future__ import annotations

import argparse
import faulthandler
import math
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from fuzz_objects import ObjectCase, object_cases
from helpers import DTYPES, Shape, bits, refused
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from levels import LEVELS, using
from pages import PLACES, placed
from registry import Call, Row, call, upstreams
from rows import ROWS as MOST_ROWS
from rows import lists
from rows.survival import COX

from fastloss import _kernels

ROWS = [*MOST_ROWS, COX, *lists.ROWS]
# Larger shapes take their time in the reference, which compares all pairs of times and of documents; the
# registry has some of its own.
MOST_ELEMENTS, MOST_PAIRED = 6000, 300
# One case in so many is of a name without a row.
OBJECTS = 12


@dataclass(frozen=True)
class Case:
    """What a case is made from."""

    row: Row
    shape: Shape
    dtype: str
    reduction: str
    options: int
    company: tuple[str, ...]
    upstream: str | None
    seed: int
    level: int
    threads: int
    place: str
    use: str

    def __repr__(self) -> str:
        """The row by its name: its fields would take pages."""
        fields = {**vars(self), "row": str(self.row), "level": _kernels.LEVELS[self.level]}
        return ", ".join(f"{name}={value}" for name, value in fields.items())

    @property
    def name(self) -> str:
        return self.row.name

    def check(self) -> None:
        with using(self.level), np.errstate(all="ignore"):
            (check_bad if self.use == "bad" else check_good)(self, self.call())

    def call(self) -> Call:
        """The call, which no cache keeps."""
        made: Call = call.__wrapped__(
            self.row, self.shape, self.dtype, self.reduction, self.options, self.company, self.upstream,
            self.seed,
        )  # fmt: skip
        return made

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """For the report of a failure."""
        printer.text(repr(self))


@st.composite
def cases(draw: st.DrawFn) -> Case | ObjectCase:
    if draw(st.integers(1, OBJECTS)) == OBJECTS:
        return draw(object_cases())
    row = draw(st.sampled_from(ROWS))
    most = MOST_ELEMENTS if row in MOST_ROWS else MOST_PAIRED
    like = draw(st.sampled_from([s for s in (*row.shapes, *row.sizes) if math.prod(s) <= most]))
    shape = tuple(draw(st.integers(1, 2 * length + 1)) for length in like)
    reduction = draw(st.sampled_from(row.reductions or ("none",)))
    uses = ["new"]
    if row.gradients:
        uses += ["out", *(["in place"] if row.same_bits else [])]
        uses += ["added"] if "accumulate" in row.parameters else []
    uses += ["bad"] if bad_arguments(row, 0) else []
    return Case(
        row=row,
        shape=shape,
        dtype=draw(st.sampled_from(DTYPES)),
        reduction=reduction,
        options=draw(st.integers(0, len(row.sets) - 1)),
        company=draw(st.sampled_from(row.companies())),
        upstream=draw(st.sampled_from(upstreams(row, reduction))),
        seed=draw(st.integers(0, 2**32 - 1)),
        level=draw(st.sampled_from(LEVELS)),
        threads=draw(st.sampled_from((1, 2, 3))),
        place=draw(st.sampled_from(PLACES)),
        use=draw(st.sampled_from(uses)),
    )


# Bad values


def bad_arguments(row: Row, options: int) -> dict[str, tuple[float, ...]]:
    """Values outside of the domain, by argument; also class indices that no class has."""
    found = dict(row.checked(row.sets[options]))
    is_masked = {"mask", "lengths"} & row.parameters.keys()
    if row.integers == ("target",) and row.loss_axes and "ignore_index" in row.parameters and not is_masked:
        found["target"] = (10**6, -7)
    return {name: values for name, values in found.items() if values}


def check_bad(case: Case, c: Call) -> None:
    """One bad value anywhere: an error that names the argument, and nothing written."""
    rng = np.random.default_rng(case.seed)
    choices = bad_arguments(case.row, case.options)
    if not choices or case.company:
        return
    name = sorted(choices)[rng.integers(len(choices))]
    wrong = np.array(c[name])
    if not wrong.size:
        return
    wrong.flat[rng.integers(wrong.size)] = choices[name][rng.integers(len(choices[name]))]
    out = tuple(placed(a, case.place, True) for a in c.buffers()) if case.row.gradients else ()
    before = bits(out)
    given: dict[str, Any] = {name: placed(wrong, case.place, True)}
    if out:
        given["out"] = c.out(*out)
    refused(lambda: c.run(**given), (ValueError, IndexError), name)
    assert bits(out) == before, f"{c.title} written before the error"


# Good values


def assert_same(c: Call, result: Any, expected: Any) -> None:
    """Assert the same bits, but where weights are added up in the order of memory for a mean."""
    if c.reduction == "mean" and c.options:
        c.check_result(result)
    else:
        c.assert_same(result, expected)


def check_good(case: Case, c: Call) -> None:
    threads = {"num_threads": case.threads} if "num_threads" in case.row.parameters else {}
    expected = c.check(**threads)
    at_end = bool(case.seed % 2)
    moved = c.moved(lambda a: placed(a, case.place, at_end))
    if case.use == "new":
        assert_same(c, moved.run(**threads), expected)
        return
    starts = c.buffers()
    given: dict[str, Any] = dict(threads)
    if case.use == "in place":
        starts = tuple(np.array(c[name]) for name in case.row.gradients)
    elif case.use == "added":
        rng = np.random.default_rng(case.seed)
        starts = tuple(rng.standard_normal(a.shape).astype(a.dtype) for a in starts)
        given["accumulate"] = True
    out = tuple(placed(a, case.place, at_end) for a in starts)
    if case.use == "in place":
        given |= dict(zip(case.row.gradients, out, strict=True))
    result = moved.run(out=c.out(*out), **given)
    assert all(a is b for a, b in zip(result[1], out, strict=False)), c.title
    if case.use != "added":
        assert_same(c, result, expected)
        return
    c.check_loss(result[0])
    for name, after, before in zip(case.row.gradients, out, starts, strict=True):
        c.check_added(name, after, before)


# Running


def run(number: int, start: int, seen: Counter[str]) -> None:
    """Run cases that depend on `start` alone; raise for a failure, made smaller."""

    @seed(start)
    @settings(
        max_examples=number, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip
    @given(cases())
    def all_of_them(case: Case | ObjectCase) -> None:
        seen[case.name] += 1
        case.check()

    all_of_them()


def main() -> int:
    faulthandler.enable()
    parser = argparse.ArgumentParser(description="Run random calls of every function.")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    seen: Counter[str] = Counter()
    begin, failures, batch = time.monotonic(), 0, 2000
    for start in range(0, arguments.cases, batch):
        try:
            run(min(batch, arguments.cases - start), arguments.seed + start, seen)
        except (Exception, pytest.fail.Exception) as error:
            failures += 1
            print(f"FAILED: {error!r}"[:2000], *getattr(error, "__notes__", ()), sep="\n", flush=True)
    took = time.monotonic() - begin
    print(f"{seen.total():,} calls of {len(seen)} functions in {took:.0f} s, {failures} failures")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
