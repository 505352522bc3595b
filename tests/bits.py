"""Whether a change keeps every bit: records the results of many calls, and compares them later.

``python tests/bits.py record FILE`` before the change, ``python tests/bits.py compare FILE`` after it, with
the same compiler, libraries and rows of the registry. Calls are those of all rows in most of their shapes.
They differ in options, dtype, reduction, layout, buffers, instruction set and number of threads. The hash of
all that a call returns is kept.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from helpers import DTYPES, Options
from levels import LEVELS, using
from registry import Call, Row, call, with_all
from rows import ROWS, lists
from rows.survival import COX

from fastloss import _kernels

# Of larger shapes of the registry only the first is taken, which is worth several threads.
MOST_ELEMENTS = 150_000


def calls_of(row: Row, dtype: str) -> Iterator[tuple[Call, Options]]:
    """Calls, and what is given to them besides: buffers by what they hold, and options of the engine."""
    reductions = row.reductions or ("none",)
    for shape in (*row.shapes, *row.sizes, *row.large):
        if math.prod(shape) <= MOST_ELEMENTS or shape in row.large[:1]:
            yield with_all(row, shape, dtype), {}
            yield call(row, shape, dtype, reductions[0]), {}
    for number in range(len(row.sets)):
        yield call(row, row.shapes[number % 2], dtype, reductions[number % len(reductions)], number), {}
    for c in (call(row, row.shapes[0], dtype, reductions[0]), with_all(row, row.shapes[1], dtype)):
        yield c.moved(np.asfortranarray), {}
        yield c.moved(lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a), {}
        if "axis" in row.parameters:
            whole = [name for name in row.arrays if np.shape(c[name]) == c.shape]
            yield c.with_(**{name: np.moveaxis(c[name], -1, 0) for name in whole}), {"axis": 0}
        if "memory_budget" in row.parameters:
            yield c, {"memory_budget": 4000}
        if row.gradients:
            yield c, {"out": "other"}
        if row.gradients and row.same_bits:
            yield c, {"out": "own"}
        if "accumulate" in row.parameters:
            yield c, {"out": "other", "accumulate": True}


def calls() -> Iterator[tuple[str, Call, Options]]:
    for row, dtype in itertools.product((*ROWS, COX, *lists.ROWS), DTYPES):
        for number, (c, more) in enumerate(calls_of(row, dtype)):
            yield f"{number} {c.title}", c, more


def fed(digest: Any, value: Any) -> None:
    if isinstance(value, tuple):
        for one in value:
            fed(digest, one)
    elif value is not None:
        array = np.asarray(value)
        digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())


def result_of(c: Call, more: Options, threads: int) -> str:
    given = dict(more)
    if given.get("out") == "own":
        given |= {name: np.array(c[name]) for name in c.row.gradients}
        given["out"] = c.out(*(given[name] for name in c.row.gradients))
    elif "out" in given:
        given["out"] = c.out(*c.buffers())
    if "num_threads" in c.row.parameters:
        given["num_threads"] = threads
    digest = hashlib.sha256()
    with np.errstate(all="ignore"):
        fed(digest, c.run(**given))
    return digest.hexdigest()[:16]


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] not in ("record", "compare"):
        print(__doc__)
        return 2
    found, uneven = {}, []
    for (name, c, more), level in itertools.product(calls(), LEVELS):
        with using(level):
            key = f"{_kernels.LEVELS[level]} {name}"
            one, many = found[key] = [result_of(c, more, threads) for threads in (1, 3)]
        if one != many and c.row.same_bits:
            uneven.append(key)
    print(f"{len(found)} calls on {len(LEVELS)} instruction sets, with one thread and three")
    for key in uneven:
        print("not the same for any number of threads:", key)
    if sys.argv[1] == "record":
        Path(sys.argv[2]).write_text(json.dumps(found, indent=0))
        return bool(uneven)
    before = json.loads(Path(sys.argv[2]).read_text())
    changed = [key for key in found if before.get(key) != found[key]]
    for key in changed:
        print("changed:" if key in before else "new:", key)
    print(f"{len(changed)} changed, {len(before.keys() - found.keys())} gone")
    return bool(changed or uneven)


if __name__ == "__main__":
    sys.exit(main())
