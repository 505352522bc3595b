"""Cases for tests/driver.c: jobs of the kernels, each with the least and the largest value of its results.

``python tests/driver_cases.py FILE`` calls public functions with arguments of the registry, and writes the
jobs that the engine hands to the kernels. The bounds are those of the registry, around the float64 reference.
The kernels of this machine have to keep them, too, else the file is not written.
"""

import inspect
import itertools
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from unittest.mock import patch

import numpy as np
from helpers import DTYPES, INF, NAN, Array, Options, Shape, bounds, loss_dtype, rounded
from registry import Call, Row, call, with_all
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
    **{name: code for code, name in enumerate(("float32", "float64", "float16", "bfloat16"))},
    "uint32": 8,
    **dict.fromkeys(("int64", "int32", "bool"), 9),
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


def _shape_of(x: Array, axis: int | None = None) -> tuple[int, int]:
    """The number of rows, and of classes, which are last."""
    assert axis in (None, x.ndim - 1)
    return x.size // x.shape[-1], x.shape[-1]


def _named(g: Options, names: str) -> tuple[Any, ...]:
    """Arguments by their names; kernels of one kind of job do not have all of them."""
    return tuple(g.get(name) for name in names.split())


# The job of each kernel, from its arguments by name.


def _job_of_rows(kind: int, own: str, g: Options) -> Job:
    """Of rows with targets, with options of its own."""
    x, ignored = g["input"], g.get("ignored")
    integers = (g.get("operation", 0), *_shape_of(x, g["axis"]), ignored is not None, ignored or 0)
    return Job(
        kind,
        (*integers, g.get("focusing", 0)),
        (g["grad_scale"], g.get("label_smoothing", 0.0), *_named(g, own)),
        (x, *_named(g, "indices probabilities weight sample_weight grad_output")),
        _named(g, "row_loss output hessian"),
    )


def _job_of_divergence(g: Options) -> Job:
    return Job(
        DIVERGENCE,
        (g["operation"], *_shape_of(g["x"], g["axis"])),
        _named(g, "grad_scale beta x_softcap t_softcap x_temperature t_temperature"),
        (*_named(g, "x t counted"), None, None, g["grad_output"]),
        _named(g, "row_loss x_gradient t_gradient"),
    )


def _job_of_elements(g: Options) -> Job:
    *read, first, second, losses = g["arrays"]
    reals = _named(g, "target_value third_value a b grad_scale")
    return Job(ELEMENTS, _named(g, "loss wide"), reals, tuple(read), (losses, first, second))


def _job_of_pairs(g: Options) -> Job:
    vectors = g["vectors"]
    missing = (None,) * (3 - len(vectors))
    return Job(
        PAIRS,
        (len(vectors), *_shape_of(vectors[0]), g["swap"]),
        _named(g, "grad_scale margin eps p"),
        (*vectors, *missing, *_named(g, "target grad_output")),
        (g["row_loss"], *g["gradients"], *missing),
    )


def _job_of_labels(g: Options) -> Job:
    integers = (0, *_shape_of(g["input"]))
    arrays = (*_named(g, "input target"), None, None, None, g["grad_output"])
    return Job(LABELS, integers, (g["grad_scale"],), arrays, _named(g, "row_loss output"))


def _job_of_distribution(g: Options) -> Job:
    *read, first, second, losses, parameter, last = g["arrays"]
    reals = _named(g, "target_value third_value fourth_value grad_scale")
    outputs = (losses, first, second, last)
    return Job(DISTRIBUTION, _named(g, "kind is_full"), reals, (*read, parameter), outputs)


def _job_of_alignments(g: Options) -> Job:
    longest = (g["labels_of"].max(), g["steps_of"].max())
    integers = (*g["input"].shape, *_named(g, "blank has_logits zero_infinity"), *longest)
    arrays = _named(g, "input labels starts labels_of steps_of factor")
    return Job(CTC, integers, (), arrays, _named(g, "losses output"))


def _job_of_lists(kind: int, names: str, g: Options) -> Job:
    gains = g.get("label_gain")
    integers = (len(g["bounds"]) - 1, g["longest"], g.get("normalize", 0), g.get("truncation_level", 0))
    return Job(
        kind,
        (*integers, np.size(gains)),
        (g["scale"], g.get("sigmoid", 0.0)),
        (*_named(g, names), *_named(g, "bounds upstream"), gains, g.get("discounts")),
        _named(g, "losses gradient hessian"),
    )


def _job_of_cox(g: Options) -> Job:
    x, (gradient, hessian, losses) = g["log_hazard"], g["outputs"]
    arrays = (x, *g["sorted_by_time"], *_named(g, "event weight upstream"))
    return Job(COX, (len(x), g["is_efron"]), (g["scale"],), arrays, (losses, gradient, hessian))


def _job_of_statistics(g: Options) -> Job:
    x, ignored = g["input"], g["ignored"]
    return Job(
        STATISTICS,
        (0, *_shape_of(x, g["axis"]), ignored is not None, ignored or 0, g["has_all"]),
        (*g["grad_scale"], *_named(g, "softcap temperature")),
        (x, g["indices"], None, None, None, *g["grad_output"]),
        _named(g, "found output"),
    )


JOBS: dict[str, Callable[[Options], Job]] = {
    "softmax": partial(_job_of_rows, SOFTMAX, "z_loss softcap temperature by"),
    "nll": partial(_job_of_rows, NLL, ""),
    "multi_margin": partial(_job_of_rows, MARGIN, "margin power"),
    "sparsemax": partial(_job_of_rows, SPARSEMAX, ""),
    "divergence": _job_of_divergence,
    "pairs": _job_of_pairs,
    "multilabel_margin": _job_of_labels,
    "distribution": _job_of_distribution,
    "ctc": _job_of_alignments,
    "list_net": partial(_job_of_lists, LIST_NET, "scores relevance"),
    "lambda_rank": partial(_job_of_lists, LAMBDA_RANK, "scores labels"),
    "cox": _job_of_cox,
    "statistics": _job_of_statistics,
    "elementwise": _job_of_elements,
}


def _recorder(name: str, jobs: list[Job]) -> Callable[..., Any]:
    """A kernel that records its job, unless the result depends on what was there."""
    kernel = getattr(_kernels, name)
    signature = inspect.signature(kernel)

    def record(*given: Any, **options: Any) -> Any:
        bound = signature.bind(*given, **options)
        bound.apply_defaults()
        g = bound.arguments
        job = JOBS[name](g)
        if not g.get("mean") and not g.get("accumulate") and g.get("elsewhere") is None:
            jobs.append(job)
        result = kernel(*given, **options)
        job.written = [None if output is None else output.astype(np.float64) for output in job.outputs]
        return result

    return record


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


def recorded(function: Callable[[], Any]) -> tuple[Any, list[Job]]:
    """Call a function, without the paths of plain calls; return its result and its jobs."""
    jobs: list[Job] = []
    replaced = {name: _recorder(name, jobs) for name in JOBS}
    replaced["order_by_time"] = partial(_of_order, jobs, _kernels.order_by_time)
    replaced |= dict.fromkeys(("plain_cross_entropy", "plain_elementwise"), lambda *given: None)
    of_rows = partial(replaced["softmax"], _kernels.CROSS_ENTROPY)
    with ExitStack() as stack:
        for name, kernel in replaced.items():
            stack.enter_context(patch.object(_kernels, name, kernel))
        for module in (engine_rows, classification, sequence):
            stack.enter_context(patch.object(module, "cross_entropy_rows", of_rows))
        stack.enter_context(patch.object(engine_rows, "_focused_rows", of_rows))
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


def of_rows(
    rows: Sequence[Row],
    shapes: Sequence[Shape],
    dtype: str,
    every: bool = False,
    together: Sequence[Shape] | None = None,
) -> Iterator[Call]:
    """Calls without options or with every set of them; with all at once too, `together` in other shapes."""
    for row in rows:
        for shape in shapes:
            for options in range(len(row.sets) if every else 1):
                yield call(row, shape, dtype, "none", options)
        for shape in shapes if together is None else together:
            yield with_all(row, shape, dtype)


def calls() -> Iterator[Call]:
    of_one_line = (*elementwise.ELEMENTWISE, *elementwise.KL_DIVS, *OF_ONE_LINE)
    of_classes = (*classes.ROWS, *sparse.ROWS)
    for dtype in DTYPES:
        yield from of_rows(OF_CLASSES, SHAPES, dtype)
        yield from of_rows([softmax.CROSS_ENTROPY], [(21, 10), (4, 1000)], dtype, every=True, together=[])
        yield from of_rows(of_one_line, [(7, 83)], dtype, every=True)
        yield from of_rows(of_classes, [(21, 10), (19, 37), (5, 300), (2, 5000)], dtype, every=True)
        yield from of_rows(divergences.ROWS, [(37, 9), (9, 90), (3, 2100)], dtype)
        yield from of_rows([pairs.COSINE, pairs.TRIPLET], [(19, 50)], dtype, every=True, together=[(7, 300)])
        yield from of_rows([pairs.MULTILABEL], [(37, 5), (5, 70)], dtype)
        yield from of_rows(OF_DISTRIBUTIONS, [(5, 83)], dtype)
        yield from of_rows(lists.ROWS, [(300,)], dtype, every=True, together=[(41,)])
        yield from of_rows([survival.COX], [(12,), (300,)], dtype, every=True, together=[(2100,)])
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

    for function, dtype in itertools.product(test_ctc.NAMES, DTYPES):
        sizes = (((9, 4, 6), 3), ((40, 3, 80), 11), ((1, 1, 2), 1), ((5, 2, 3), 0))
        for seed, (shape, labels) in enumerate(sizes):
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
    relative = {"exp_f32": v.EXP_F32, "power_near_0_f32": v.POWER_F32["avx2"]}
    ulps: list[Any] = [
        *((name, f, span, units) for name, f, units, spans in v.GENERAL for span in spans),
        ("exp_f64", np.exp, (v.LOWEST_F64, 0.0), v.EXP_F64["avx2"]),
        ("log1p_f64", np.log1p, (0.0, 1e6), v.LOG1P_F64),
        *((name, np.tanh, (-22.0, 22.0), u) for name, u in v.TANH_F64.items()),
        *((n, lambda x: 1.0 / np.cosh(x) ** 2, (-17.0, 17.0), u) for n, u in v.SECH_SQUARED_F64.items()),
        ("log1p_near_f32", np.log1p, (-0.29, 0.41), v.LOG1P_NEAR_F32),
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
                reduction = "none" if "none" in row.reductions else "sum"
                c = call(row, row.shapes[0], "float32", reduction, options)
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
