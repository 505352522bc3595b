"""Cases for tests/driver.c: jobs of the kernels, each with the least and the largest value of its results.

``python tests/driver_cases.py FILE`` calls public functions with arguments of the registry, and writes the
jobs that the engine hands to the kernels. The bounds are those of the registry, around the float64 reference.
The kernels of this machine have to keep them, too, else the file is not written.
"""

import itertools
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from unittest.mock import patch

import numpy as np
from helpers import DTYPES, INF, NAN, Array, bounds, loss_dtype, rounded
from registry import Call, call, with_all
from rows import (
    classes,
    distributions,
    divergences,
    elementwise,
    lists,
    pairs,
    preferences,
    softmax,
    sparse,
    survival,
)

from fastloss import _kernels, classification, reference, sequence
from fastloss._engine import rows as engine_rows
from fastloss._engine import statistics as engine_statistics

KINDS = 20
FUNCTION, SOFTMAX, NLL, MARGIN, SPARSEMAX, ELEMENTS, DIVERGENCE, PAIRS, LABELS, DISTRIBUTION = range(10)
CTC, LIST_NET, LAMBDA_RANK, ORDER, COX, STATISTICS, COLUMNS, BOTH, NEGATIVE_PAIRS, OBJECTIVE = range(
    10, KINDS
)
ARRAYS, OUTPUTS, INTEGERS, REALS = 7, 4, 12, 8
# As in kernels.h; 8 are rows in the order of their times, 9 is only read, as what it is.
CODES = {
    "float32": 0,
    "float64": 1,
    "float16": 2,
    "bfloat16": 3,
    "uint32": 8,
    "int64": 9,
    "int32": 9,
    "bool": 9,
}


class Job:
    """One call of a kernel: numbers, arrays that it reads, and arrays that it writes (or None)."""

    def __init__(
        self,
        kind: int,
        integers: tuple[int, ...],
        reals: tuple[float, ...],
        arrays: tuple[Array | None, ...],
        outputs: tuple[Array | None, ...],
    ) -> None:
        self.kind, self.integers, self.reals, self.outputs = kind, integers, reals, outputs
        # As they are before the kernel writes.
        self.arrays = tuple(None if a is None else np.array(a, order="C") for a in arrays)
        self.written: list[Array | None] = []
        self.bounds: list[tuple[Array, Array] | None] = [None] * len(outputs)

    def set_bounds(self, output: int, low: Array, high: Array, title: str) -> None:
        """Set what an output must be within, and check that it is."""
        found = self.outputs[output]
        assert found is not None
        actual = found.astype(np.float64).reshape(low.shape)
        good = (actual >= low) & (actual <= high) | np.isnan(actual) & np.isnan(low)
        assert good.all(), f"{title}: output {output} is out of bounds here, too: {actual[~good][:3]}"
        self.bounds[output] = low, high

    def write(self, file: BinaryIO, title: str) -> None:
        def padded(values: tuple[Any, ...], count: int) -> tuple[Any, ...]:
            return (*values, *(0,) * (count - len(values)))

        file.write(struct.pack(f"<{1 + INTEGERS}q", self.kind, *padded(self.integers, INTEGERS)))
        file.write(struct.pack(f"<{REALS}d", *padded(self.reals, REALS)))
        file.write(title.encode()[:119].ljust(120, b"\0"))
        for array in (*self.arrays, *(None,) * (ARRAYS - len(self.arrays))):
            _write_header(file, array)
            if array is not None:
                file.write(array.tobytes())
        for k in range(OUTPUTS):
            output = self.outputs[k] if k < len(self.outputs) else None
            _write_header(file, output)
            if output is not None:
                file.write(struct.pack("<q", self.bounds[k] is not None))
                for bound in self.bounds[k] or ():
                    file.write(np.ascontiguousarray(bound, np.float64).tobytes())


def _write_header(file: BinaryIO, array: Array | None) -> None:
    if array is None:
        file.write(struct.pack("<q", -1))
    else:
        file.write(struct.pack("<3q", CODES[array.dtype.name], array.size, array.itemsize))


# Recording


def _of_rows(kind: int, jobs: list[Job], kernel: Any, *given: Any, **options: Any) -> Any:
    """Record a kernel of rows with targets, and call it."""
    *operation, x, axis = given
    assert axis == x.ndim - 1
    get = options.get
    losses = get("row_loss")
    if kind == SOFTMAX:
        own = (get("z_loss", 0.0), get("softcap", 0.0), get("temperature", 1.0), get("by", 0.0))
    else:
        own = (get("margin", 0.0), get("power", 0.0))
    ignored = get("ignored")
    job = Job(
        kind,
        (
            *(operation or (0,)),
            x.size // x.shape[-1],
            x.shape[-1],
            ignored is not None,
            ignored or 0,
            get("focusing", 0),
        ),
        (get("grad_scale", 1.0), get("label_smoothing", 0.0), *own),
        (x, get("indices"), get("probabilities"), get("weight"), get("sample_weight"), get("grad_output")),
        (losses, get("output"), get("hessian")),
    )
    if not get("mean") and not get("accumulate") and get("elsewhere") is None:
        jobs.append(job)
    return kernel(*given, **options)


def _of_divergence(
    jobs: list[Job], kernel: Any, operation: int, x: Array, t: Array, axis: int, **options: Any
) -> Any:
    get = options.get
    assert axis == x.ndim - 1
    job = Job(
        DIVERGENCE,
        (operation, x.size // x.shape[-1], x.shape[-1]),
        (
            *(get("grad_scale", 1.0), get("beta", 0.0), get("x_softcap", 0.0), get("t_softcap", 0.0)),
            *(get("x_temperature", 1.0), get("t_temperature", 1.0)),
        ),
        (x, t, get("counted"), None, None, get("grad_output")),
        (get("row_loss"), get("x_gradient"), get("t_gradient")),
    )
    if not get("accumulate"):
        jobs.append(job)
    return kernel(operation, x, t, axis, **options)


def _of_elements(
    jobs: list[Job], kernel: Any, loss: int, wide: bool, arrays: Any, domains: Any, *given: Any
) -> Any:
    *read, first, second, losses = arrays
    job = Job(ELEMENTS, (loss, wide), given[:5], tuple(read), (losses, first, second))
    is_mean, accumulate = given[6], given[8]
    if not is_mean and not accumulate:
        jobs.append(job)
    result = kernel(loss, wide, arrays, domains, *given)
    job.written = [None if output is None else output.astype(np.float64) for output in job.outputs]
    return result


def _of_pairs(jobs: list[Job], kernel: Any, vectors: Any, gradients: Any, **options: Any) -> Any:
    get = options.get
    x = vectors[0]
    missing = (None,) * (3 - len(vectors))
    if not get("accumulate"):
        job = Job(
            PAIRS,
            (len(vectors), x.size // x.shape[-1], x.shape[-1], get("swap", False)),
            (get("grad_scale", 1.0), get("margin", 0.0), get("eps", 0.0), get("p", 2.0)),
            (*vectors, *missing, get("target"), get("grad_output")),
            (get("row_loss"), *gradients, *missing),
        )
        jobs.append(job)
    return kernel(vectors, gradients, **options)


def _of_labels(jobs: list[Job], kernel: Any, x: Array, target: Array, **options: Any) -> Any:
    get = options.get
    if not get("accumulate"):
        job = Job(
            LABELS,
            (0, x.size // x.shape[-1], x.shape[-1]),
            (get("grad_scale", 1.0),),
            (x, target, None, None, None, get("grad_output")),
            (get("row_loss"), get("output")),
        )
        jobs.append(job)
    return kernel(x, target, **options)


def _of_distribution(
    jobs: list[Job], kernel: Any, kind: int, arrays: Any, target: float, third: float, fourth: float,
    is_full: bool, grad_scale: float, is_mean: bool, *given: Any,
) -> Any:  # fmt: skip
    *read, first, second, losses, parameter, last = arrays
    *_, accumulate, _ = given
    if not is_mean and not accumulate:
        outputs = (losses, first, second, last)
        job = Job(
            DISTRIBUTION, (kind, is_full), (target, third, fourth, grad_scale), (*read, parameter), outputs
        )
        jobs.append(job)
    return kernel(kind, arrays, target, third, fourth, is_full, grad_scale, is_mean, *given)


def _of_ctc(
    jobs: list[Job], kernel: Any, x: Array, labels: Array, starts: Array, labels_of: Array, steps_of: Array,
    losses: Array, **options: Any,
) -> Any:  # fmt: skip
    names = ("blank", "has_logits", "zero_infinity")
    longest = (labels_of.max(), steps_of.max())
    arrays = (x, labels, starts, labels_of, steps_of, options.get("factor"))
    integers = (*x.shape, *(options[name] for name in names), *longest)
    jobs.append(Job(CTC, integers, (), arrays, (losses, options.get("output"))))
    return kernel(x, labels, starts, labels_of, steps_of, losses, **options)


def _of_lists(
    kind: int, jobs: list[Job], kernel: Any, x: Array, y: Array, bounds: Array, longest: int, **options: Any
) -> Any:
    get = options.get
    gains, sigmoid = get("label_gain"), get("sigmoid", 0.0)
    job = Job(
        kind,
        (len(bounds) - 1, longest, get("normalize", 0), get("truncation_level", 0), np.size(gains)),
        (options["scale"], sigmoid),
        (x, y, bounds, get("upstream"), gains, get("discounts")),
        (get("losses"), get("gradient"), get("hessian")),
    )
    jobs.append(job)
    return kernel(x, y, bounds, longest, **options)


def _of_order(
    jobs: list[Job], kernel: Any, time: Array, items: Array, in_order: Array, order: Array, threads: int
) -> Any:
    """Record the order of times, which must be this one."""
    result = kernel(time, items, in_order, order, threads)
    job = Job(ORDER, (len(time),), (), (time,), (in_order.copy(), order.copy()))
    exact = np.argsort(time, kind="stable")
    job.set_bounds(0, time[exact], time[exact], "times")
    job.set_bounds(1, exact.astype(np.float64), exact.astype(np.float64), "order of times")
    jobs.append(job)
    return result


def _of_cox(
    jobs: list[Job], kernel: Any, x: Array, in_order: Any, event: Array, weight: Array | None,
    upstream: Array | None, scale: float, is_efron: bool, outputs: Any, *given: Any,
) -> Any:  # fmt: skip
    gradient, hessian, losses = outputs
    arrays = (x, *in_order, event, weight, upstream)
    jobs.append(Job(COX, (len(x), is_efron), (scale,), arrays, (losses, gradient, hessian)))
    return kernel(x, in_order, event, weight, upstream, scale, is_efron, outputs, *given)


def _of_statistics(jobs: list[Job], kernel: Any, x: Array, axis: int, found: Array, **options: Any) -> Any:
    get = options.get
    ignored = get("ignored")
    jobs.append(
        Job(
            STATISTICS,
            (0, x.size // x.shape[-1], x.shape[-1], ignored is not None, ignored or 0, get("has_all", True)),
            (*get("grad_scale"), get("softcap", 0.0), get("temperature", 1.0)),
            (x, get("indices"), None, None, None, *get("grad_output")),
            (found, get("output")),
        )
    )
    return kernel(x, axis, found, **options)


def recorded(function: Callable[[], Any]) -> tuple[Any, list[Job]]:
    """Call a function, without the paths of plain calls; return its result and its jobs."""
    jobs: list[Job] = []
    of_softmax = partial(_of_rows, SOFTMAX, jobs, _kernels.softmax)
    replaced = {
        "softmax": of_softmax,
        "nll": partial(_of_rows, NLL, jobs, _kernels.nll),
        "multi_margin": partial(_of_rows, MARGIN, jobs, _kernels.multi_margin),
        "sparsemax": partial(_of_rows, SPARSEMAX, jobs, _kernels.sparsemax),
        "divergence": partial(_of_divergence, jobs, _kernels.divergence),
        "pairs": partial(_of_pairs, jobs, _kernels.pairs),
        "multilabel_margin": partial(_of_labels, jobs, _kernels.multilabel_margin),
        "distribution": partial(_of_distribution, jobs, _kernels.distribution),
        "ctc": partial(_of_ctc, jobs, _kernels.ctc),
        "list_net": partial(_of_lists, LIST_NET, jobs, _kernels.list_net),
        "lambda_rank": partial(_of_lists, LAMBDA_RANK, jobs, _kernels.lambda_rank),
        "order_by_time": partial(_of_order, jobs, _kernels.order_by_time),
        "cox": partial(_of_cox, jobs, _kernels.cox),
        "statistics": partial(_of_statistics, jobs, _kernels.statistics),
        "elementwise": partial(_of_elements, jobs, _kernels.elementwise),
        "plain_cross_entropy": lambda *given: None,
        "plain_elementwise": lambda *given: None,
    }
    of_rows = partial(of_softmax, _kernels.CROSS_ENTROPY)
    with ExitStack() as stack:
        for name, kernel in replaced.items():
            stack.enter_context(patch.object(_kernels, name, kernel))
        for module in (engine_rows, classification, sequence):
            stack.enter_context(patch.object(module, "cross_entropy_rows", of_rows))
        stack.enter_context(
            patch.object(engine_rows, "_focused_rows", partial(of_softmax, _kernels.CROSS_ENTROPY))
        )
        return function(), jobs


# Cases


def interval(expected: Array, tolerance: Array, dtype: str) -> tuple[Array, Array]:
    low, high = bounds(expected, np.broadcast_to(tolerance, expected.shape), dtype)
    exact = np.isinf(expected)
    return np.where(exact, expected, low), np.where(exact, expected, high)


def jobs_of(c: Call) -> Iterator[Job]:
    """The jobs of a call, with the bounds of those outputs that are results of the call."""
    with np.errstate(all="ignore"):
        (loss, derivatives), jobs = recorded(c.run)
        for job in jobs:
            for k, output in enumerate(job.outputs):
                if output is None:
                    continue
                for name, actual in zip(c.row.derivatives, derivatives, strict=True):
                    if actual is None or not np.shares_memory(actual, output):
                        continue
                    expected = np.array(c.expected[1][c.row.derivatives.index(name)], np.float64)
                    found = actual.astype(np.float64)
                    c.row.settle(c, name, found, expected)
                    if (found == actual.astype(np.float64)).all():
                        found_bounds = interval(expected, c.derivative_bound(name), c.dtype)
                        job.set_bounds(k, *found_bounds, c.title)
                if c.row.returns == "arrays" and k == 0:
                    job.set_bounds(k, *statistics_bounds(c, output), c.title)
                # The sign of the loss, where the public function has the other.
                for sign in (1.0, -1.0):
                    if k or c.row.returns in ("array", "arrays") or np.shape(loss) != output.shape:
                        continue
                    if not np.array_equal(sign * output.astype(loss.dtype), loss, equal_nan=True):
                        continue
                    low, high = interval(c.expected[0], c.bound, loss_dtype(c.dtype))
                    job.set_bounds(k, *((low, high) if sign > 0.0 else (-high, -low)), c.title)
                    break
            if any(bound is not None for bound in job.bounds):
                yield job


def statistics_bounds(c: Call, found: Array) -> tuple[Array, Array]:
    """The bounds of the statistics of rows: as they are here, where no result of the call has them alone."""
    fields, error = c.expected[0]._fields, 1e-12 if c.dtype == "float64" else 1e-6
    centre, tolerance = found.copy(), error * np.maximum(np.abs(found), 1.0)
    for name, column in {**engine_statistics._COLUMNS, "is_top1": engine_statistics.IS_TOP}.items():
        centre[:, column] = np.asarray(c.expected[0][fields.index(name)]).reshape(-1)
        tolerance[:, column] = 0.0 if name == "is_top1" else c.bound[fields.index(name)].reshape(-1)
    return interval(centre, tolerance, "float64")


def parts_of(c: Call, lines: set[int]) -> Iterator[Job]:
    """The jobs of these lines of losses.def, whose results the engine combines: as they are here."""
    for job in recorded(c.run)[1]:
        if job.kind != ELEMENTS or job.integers[0] not in lines:
            continue
        for k, (output, written) in enumerate(zip(job.outputs, job.written, strict=True)):
            if output is None or written is None:
                continue
            output[...] = written.astype(output.dtype)  # the engine may have changed it
            error = 1e-12 if output.dtype == np.float64 else 1e-6
            job.set_bounds(k, *interval(written, error * np.abs(written), "float64"), c.title)
        yield job


OF_CLASSES = [
    softmax.CROSS_ENTROPY, softmax.OF_PROBABILITIES, softmax.NLL, softmax.MULTI_MARGIN, softmax.ENTROPY,
    softmax.TOKENS, *softmax.TRANSFORMS,
]  # fmt: skip
# Rows of other modules whose loss is a line of losses.def.
OF_ONE_LINE = [
    row
    for row in (*distributions.ROWS, *pairs.PAIRS, *survival.ROWS)
    if row.name in ("aft_loss", "margin_ranking_loss", "quantile_loss")
]
OF_DISTRIBUTIONS = [row for row in distributions.ROWS if len(row.gradients) > 1]
# Two classes, whole and broken groups of 16 rows and of four classes, the longest short row, one class more,
# and rows of one block and of three.
SHAPES = [(37, 2), (37, 3), (21, 10), (37, 16), (19, 37), (18, 64), (9, 65), (6, 1000), (4, 5000)]


def calls() -> Iterator[Call]:
    for dtype in DTYPES:
        for row in OF_CLASSES:
            for shape in SHAPES:
                yield call(row, shape, dtype, "none")
                yield with_all(row, shape, dtype)
        for options in range(len(softmax.CROSS_ENTROPY.sets)):
            for shape in ((21, 10), (4, 1000)):
                yield call(softmax.CROSS_ENTROPY, shape, dtype, "none", options)
        for row in (*elementwise.ELEMENTWISE, *elementwise.KL_DIVS, *OF_ONE_LINE):
            for options in range(len(row.sets)):
                yield call(row, (7, 83), dtype, "none", options)
            yield with_all(row, (7, 83), dtype)
        for row in (*classes.ROWS, *sparse.ROWS):
            for shape in ((21, 10), (19, 37), (5, 300), (2, 5000)):
                for options in range(len(row.sets)):
                    yield call(row, shape, dtype, "none", options)
                yield with_all(row, shape, dtype)
        for row in divergences.ROWS:
            for shape in ((37, 9), (9, 90), (3, 2100)):
                yield call(row, shape, dtype, "none")
                yield with_all(row, shape, dtype)
        for row in (pairs.COSINE, pairs.TRIPLET):
            for options in range(len(row.sets)):
                yield call(row, (19, 50), dtype, "none", options)
            yield with_all(row, (7, 300), dtype)
        for shape in ((37, 5), (5, 70)):
            yield call(pairs.MULTILABEL, shape, dtype, "none")
            yield with_all(pairs.MULTILABEL, shape, dtype)
        for row in OF_DISTRIBUTIONS:
            yield call(row, (5, 83), dtype, "none")
            yield with_all(row, (5, 83), dtype)
        for row in lists.ROWS:
            for options in range(len(row.sets)):
                yield call(row, (300,), dtype, "none", options)
            yield with_all(row, (41,), dtype)
        for options in range(len(survival.COX.sets)):
            for documents in (12, 300):
                yield call(survival.COX, (documents,), dtype, "none", options)
        yield with_all(survival.COX, (2100,), dtype)
        for shape in ((37, 5), (5, 300), (2, 5000)):
            for options in (0, len(softmax.STATISTICS.sets) - 1):
                yield call(softmax.STATISTICS, shape, dtype, "none", options)
            statistics, factors = with_all(softmax.STATISTICS, shape, dtype), np.linspace(-2.0, 1.0, shape[0])
            yield statistics
            yield statistics.with_(grad_output=(factors, factors[::-1].copy()))
        for width in (10, 1000):
            yield odd_rows(width, dtype)


def odd_rows(classes: int, dtype: str) -> Call:
    """Masked classes, a masked target, NaN, infinity, large values, a maximum that comes late, certainty."""
    base = call(softmax.CROSS_ENTROPY, (9, classes), dtype, "none")
    x, target = np.array(base.first), np.arange(9)
    largest = 3e38 if dtype != "float16" else 6e4
    x[1, 2:5] = -INF
    x[2, 2] = -INF
    x[3, classes - 1] = NAN
    x[4] = -INF
    x[5, 5] = largest
    x[6, 1] = -largest
    x[7, classes - 1] = 90.0
    x[8, 8] = 60.0
    return base.with_(logits=x, target=target)


def ctc_jobs() -> Iterator[tuple[str, Job]]:
    """Alignments: the samples of test_ctc.py, with its bounds."""
    import test_ctc

    for function, dtype in itertools.product(test_ctc.FUNCTIONS, DTYPES):
        for seed, shape, labels in (
            (0, (9, 4, 6), 3),
            (1, (40, 3, 80), 11),
            (2, (1, 1, 2), 1),
            (3, (5, 2, 3), 0),
        ):
            x, *rest = test_ctc.samples(function, shape, labels, 1, seed)
            x = np.asarray(rounded(x, dtype))
            options = {"blank": 1, "zero_infinity": seed % 2 > 0, "reduction": "none"}
            options["grad_output"] = np.linspace(-2.5, 1.0, shape[1])
            loss, gradient = test_ctc.run(function, x, *rest, module=reference, **options)
            job = recorded(partial(test_ctc.run, function, x, *rest, **options))[1][0]
            wide = dtype == "float64"
            tolerance = 1e-13 + 1e-13 * np.abs(loss) if wide else 2e-6 + 3e-7 * np.abs(loss)
            title = f"{function} {shape} {dtype}"
            job.set_bounds(0, *interval(loss.astype(np.float64), tolerance, "float64"), title)
            job.set_bounds(1, *interval(gradient, np.float64(1e-12 if wide else 2e-6), dtype), title)
            yield title, job


def contrast_jobs() -> Iterator[tuple[str, Job]]:
    """The sums and gradients of contrast.h, whose formulas are computed here in float64."""
    rng = np.random.default_rng(0)
    for dtype, error in (("float32", 4e-6), ("float64", 1e-12)):
        z = (4.0 * rng.standard_normal((21, 90))).astype(dtype)
        z[np.arange(21), np.arange(21)] = -INF
        wide, rate = z.astype(np.float64), 0.7
        first = 3.0 * rng.standard_normal(90).astype(dtype).astype(np.float64)
        top, sums = first.copy(), rng.uniform(1.0, 5.0, 90)
        most = np.maximum(first, wide.max(axis=0))
        total = sums * np.exp((first - most) * rate) + np.exp((wide - most) * rate).sum(axis=0)
        job = Job(COLUMNS, z.shape, (rate,), (z, first, sums), (top, sums.copy()))
        _kernels.contrast_columns(z, rate, *job.outputs, 1)
        job.set_bounds(0, most, most, "columns")
        job.set_bounds(1, *interval(total, error * total, "float64"), "columns")
        yield f"contrast columns {dtype}", job

        factor, row_lse = rng.uniform(-1.0, 1.0, 21), wide.max(axis=1) + rng.uniform(0.0, 2.0, 21)
        own, high, low = rng.uniform(-1.0, 1.0, 90), wide.max(axis=0) + 0.5, np.full(90, 1e-9)
        columns = tuple(array.astype(dtype) for array in (own, high, low))
        own, high, low = (array.astype(np.float64) for array in columns)
        by_row = factor[:, np.newaxis] * np.exp((wide - row_lse[:, np.newaxis]) * rate)
        by_column = own * np.exp((wide - high - low) * rate)
        job = Job(BOTH, z.shape, (rate,), (z, factor, row_lse, *columns), (z.copy(),))
        _kernels.contrast_both(job.outputs[0], rate, factor, row_lse, columns, 1)
        size = np.abs(by_row) + np.abs(by_column)
        job.set_bounds(0, *interval(by_row + by_column, error * size, dtype), "both")
        yield f"contrast both {dtype}", job

        scale, bias, found = 1.5, -2.0, np.zeros((3, 21))
        y = scale * wide + bias
        p = np.exp(-np.logaddexp(0.0, -y))
        terms = np.stack([np.logaddexp(0.0, y), p, p * np.where(p > 0.0, wide, 0.0)])
        job = Job(NEGATIVE_PAIRS, z.shape, (scale, bias), (z, factor), (z.copy(), found))
        _kernels.contrast_pairs(job.outputs[0], scale, bias, factor, found, 1)
        gradient = factor[:, np.newaxis] * p
        job.set_bounds(0, *interval(gradient, error * np.abs(gradient), dtype), "pairs")
        tolerance = error * np.abs(terms).sum(axis=2)
        job.set_bounds(1, *interval(terms.sum(axis=2), tolerance, "float64"), "pairs")
        yield f"contrast pairs {dtype}", job


def objective_jobs() -> Iterator[tuple[str, Job]]:
    """The derivatives by the scores of boosting, as they are here."""
    rng = np.random.default_rng(0)
    kinds = ((_kernels.NEGATIVE_BINOMIAL, 2), (_kernels.STUDENT_T, 3), (_kernels.NORMAL, 2))
    for (kind, count), dtype in itertools.product(kinds, ("float32", "float64")):
        scores = rng.uniform(-2.0, 2.0, (700, count)).astype(dtype)
        label = rng.poisson(3.0, 700).astype(dtype)
        weight = rng.uniform(0.5, 2.0, 700).astype(dtype)
        found = (np.empty_like(scores), np.empty_like(scores))
        _kernels.objective(kind, scores, label, weight, *found, 1)
        job = Job(OBJECTIVE, (kind, 700, count), (), (scores, label, weight), found)
        for k, array in enumerate(found):
            centre = array.astype(np.float64)
            error = (1e-12 if dtype == "float64" else 1e-6) * np.maximum(np.abs(centre), 1.0)
            job.set_bounds(k, *interval(centre, error, "float64"), "objective")
        yield f"objective {kind} {dtype}", job


def function_jobs() -> Iterator[tuple[str, Job]]:
    """The elementary functions: those of test_vecmath.py, with the bounds that have a fused multiply-add."""
    import test_vecmath as v

    rng = np.random.default_rng(0)
    relative = {"exp_f32": v.EXP_F32[0], "power_near_0_f32": v.POWER_F32["avx2"]}
    ulps: list[Any] = [
        *v.GENERAL,
        ("exp_f64", np.exp, (v.LOWEST_F64, 0.0), v.EXP_F64["avx2"]),
        ("log1p_f64", np.log1p, (0.0, 1e6), v.LOG1P_F64),
        *((name, np.tanh, (-22.0, 22.0), u) for name, u in v.TANH_F64.items()),
        *((n, lambda x: 1.0 / np.cosh(x) ** 2, (-17.0, 17.0), u) for n, u in v.SECH_SQUARED_F64.items()),
        ("log1p_near_f32", np.log1p, (-0.29, 0.41), v.LOG1P_NEAR_F32["avx2"]),
    ]
    cases = [(name, f, span, 0.0, 0.0, units) for name, f, span, units in ulps]
    cases += [(name, f, span, part, rest, 0.0) for name, f, span, part, rest in v.NEAR]
    cases += [(name, np.exp, (-86.6, 0.0), bound, 0.0, 0.0) for name, bound in relative.items()]
    for name, function, span, part, rest, units in cases:
        kind = np.float32 if name.endswith("f32") else np.float64
        x, out = rng.uniform(*span, 20_000).astype(kind), np.empty(20_000, kind)
        wide = function(x.astype(np.longdouble))
        unit = np.spacing(np.abs(wide.astype(kind))).astype(np.longdouble)
        tolerance = (units + 0.002) * unit if units else part * np.abs(wide) + rest
        _kernels.vecmath(name, x, out)
        job = Job(FUNCTION, (), (), (x,), (out,))
        job.set_bounds(0, (wide - tolerance).astype(float), (wide + tolerance).astype(float), name)
        yield f"{name} {span}", job


def gamma_jobs() -> Iterator[tuple[str, Job]]:
    """The functions of gamma.h, with the arguments and bounds of test_distributions.py."""
    import test_distributions as d

    for name, function, x, ulps, least in d.FUNCTIONS:
        out = np.empty_like(x)
        _kernels.vecmath(name, x, out)
        with d.mp.workdps(80):
            exact = np.array([float(function(d.mp.mpf(one))) for one in x.tolist()])
        # A half more for the rounding of `exact`.
        tolerance = (ulps + 0.5) * 2.0**-52 * np.maximum(np.abs(exact), least)
        job = Job(FUNCTION, (), (), (x,), (out,))
        job.set_bounds(0, exact - tolerance, exact + tolerance, name)
        yield f"{name} of gamma.h", job


def write(path: Path) -> tuple[int, set[str], set[int]]:
    """Write the file; return the number of jobs, and which losses of losses.def and kinds are among them."""
    names = {line: name for name, (line, _) in _kernels.ELEMENTWISE.items()}
    count, lines, kinds = 0, set(), set()

    def jobs() -> Iterator[tuple[str, Job]]:
        yield from function_jobs()
        yield from gamma_jobs()
        yield from ctc_jobs()
        yield from contrast_jobs()
        yield from objective_jobs()
        for c in calls():
            yield from ((c.title, job) for job in jobs_of(c))
        rest = set(names) - lines
        for row in (*preferences.PREFERENCES, *preferences.POLICIES, *elementwise.PENALTIES):
            for options in range(len(row.sets)):
                c = call(
                    row, row.shapes[0], "float32", "none" if "none" in row.reductions else "sum", options
                )
                yield from ((c.title, job) for job in parts_of(c, rest))

    with path.open("wb") as file:
        for title, job in jobs():
            job.write(file, title)
            count += 1
            kinds.add(job.kind)
            if job.kind == ELEMENTS:
                lines.add(job.integers[0])
    return count, {names[line] for line in lines}, kinds


if __name__ == "__main__":
    jobs_written, losses_written, _ = write(Path(sys.argv[1]))
    print(f"{jobs_written} jobs; without {sorted(set(_kernels.ELEMENTWISE) - losses_written)}")
