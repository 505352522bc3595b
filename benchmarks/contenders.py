"""The registry of contenders by name, the memory limits, and the variants of fastloss.

A contender is a function without arguments that does the whole work of its row once. Peers get what helps
them: inputs in their own type of array, compilation beforehand, and a reused output if they accept one.
PyTorch drops the gradient of the previous call within the timed call, as a training loop does.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import timeit
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import fastloss
from fastloss import _kernels

from .case import COMPILED, JAX, LIGER, LIMIT, OURS, SKLEARN, TORCH, TRL, Case
from .problem import Array, Problem

__all__ = [
    "LIMITS",
    "LINE",
    "Contender",
    "UnavailableError",
    "build",
    "contender",
    "imported",
    "is_installed",
    "moved_by",
    "moving",
    "one_thread",
    "ours",
    "passes",
    "require_equal",
    "team",
]

# The limits are checked at one of this many elements.
SAMPLE = slice(None, None, 509)
SOURCE = Path(__file__).resolve().parent / "limits.c"
LINE = 64  # bytes of a line of the cache
TRIALS = 4  # calls of each way to move memory, to choose one
# Width of the layer whose product makes the logits of "fastloss after matmul".
HIDDEN = 256


class UnavailableError(Exception):
    """The contender is not installed, or not for this row or machine."""


@dataclass(frozen=True)
class Contender:
    """`call` is timed; `before` runs before each call, untimed; `setting` is the context of all calls.

    `check` takes the result of `call` and raises `WrongResultError` if it is wrong. If the row does not
    measure time, `call` returns the figure and checks the result itself.
    """

    name: str
    call: Callable[[], Any]
    check: Callable[[Any], None] = lambda result: None
    before: Callable[[], None] | None = None
    setting: Callable[[], AbstractContextManager[object]] = nullcontext


# --- the registry ---

Builder = Callable[[Any, str], Contender]
SomeBuilder = TypeVar("SomeBuilder", bound=Callable[..., Contender])

# By suite ("" for suites without their own contender) and name.
_BUILDERS: dict[tuple[str, str], Builder] = {}
_PACKAGES = {
    TORCH: "torch", COMPILED: "torch", JAX: "jax", SKLEARN: "sklearn", TRL: "trl", LIGER: "liger_kernel",
}  # fmt: skip


def contender(*names: str, suite: str = "") -> Callable[[SomeBuilder], SomeBuilder]:
    """Register a function of problem and name, which builds the contenders of these names."""

    def register(builder: SomeBuilder) -> SomeBuilder:
        _BUILDERS.update({(suite, name): builder for name in names})
        return builder

    return register


def is_installed(name: str) -> bool:
    """Return whether a contender's package is installed, without importing it."""
    return name not in _PACKAGES or importlib.util.find_spec(_PACKAGES[name]) is not None


def build(name: str, problem: Problem) -> Contender:
    """Return the contender of that name, ready to run, or raise `UnavailableError` with the reason."""
    if not is_installed(name):
        raise UnavailableError("not installed")
    builder = _BUILDERS.get((problem.case.suite, name)) or _BUILDERS.get(("", name))
    if builder is None:
        raise UnavailableError("not for this row")
    return builder(problem, name)


def imported(name: str) -> Any:
    """Return a peer's module, without its warnings at import."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise UnavailableError(str(error)) from error


# --- the limits ---


class Team:
    """As many Python threads as fastloss uses, the caller among them.

    They run in parallel because NumPy releases the interpreter lock.
    """

    def __init__(self, threads: int) -> None:
        self._inboxes = [queue.SimpleQueue[Callable[[], Any]]() for _ in range(threads - 1)]
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for inbox in self._inboxes:
            threading.Thread(target=self._serve, args=(inbox,), daemon=True).start()

    def _serve(self, inbox: queue.SimpleQueue[Callable[[], Any]]) -> None:
        while True:
            self._done.put(inbox.get()())

    def run(self, parts: list[Callable[[], Any]]) -> list[Any]:
        """Run one part in each thread; return their results, unordered."""
        for inbox, part in zip(self._inboxes, parts[1:], strict=True):
            inbox.put(part)
        first = parts[0]()
        return [first, *(self._done.get() for _ in self._inboxes)]


team = lru_cache(Team)


def _flat(array: Array) -> Array:
    """Return half types as integers: NumPy moves them as fast, but unknown types more slowly."""
    flat = array.reshape(-1)
    return flat.view(np.uint16) if flat.itemsize == 2 else flat


def _shared(threads: int, function: Callable[..., Any], *arrays: Array) -> Callable[[], list[Any]]:
    """Return the function over equal parts of the arrays, each in its own thread."""
    pieces = zip(*(np.array_split(_flat(array), threads) for array in arrays), strict=True)
    return partial(team(threads).run, [partial(function, *piece) for piece in pieces])


def require_equal(got: object, expected: object) -> None:
    if not np.array_equal(got, expected):  # type: ignore[arg-type]
        raise AssertionError("the limit did not do its work")


def _require_written(array: Array, expected: Array) -> Callable[[Any], None]:
    """Return a check that the array has the values of a sample."""
    return lambda _: require_equal(_flat(array)[SAMPLE], expected)


@contender("memcpy")
def _copy(problem: Problem, name: str) -> Contender:
    source, out = problem.arguments[0], problem.out
    call = _shared(problem.threads, np.copyto, out, source)
    return Contender(name, call, _require_written(out, _flat(source)[SAMPLE]))


def _scale(problem: Problem, name: str) -> Contender:
    source, work = problem.arguments[0], problem.arguments[0].copy()
    one = work.dtype.type(1)
    call = _shared(problem.threads, lambda part: np.multiply(part, one, out=part), work)
    check = _require_written(work, _flat(source)[SAMPLE])
    return Contender(name, call, check, before=partial(np.copyto, work, source))


def _read(problem: Problem, name: str) -> Contender:
    """Take the largest element: NumPy's fastest way to read all elements."""
    array = problem.arguments[0]
    call = _shared(problem.threads, np.maximum.reduce, array)
    return Contender(name, call, lambda result: require_equal(max(result), _flat(array).max()))


def _into_third(problem: Problem, name: str, function: Any) -> Contender:
    """Apply the function to the two arrays into a third."""
    x, y, out = *problem.arguments, problem.out
    call = _shared(problem.threads, function, x, y, out)
    return Contender(name, call, _require_written(out, function(_flat(x)[SAMPLE], _flat(y)[SAMPLE])))


def _dot(problem: Problem, name: str) -> Contender:
    x, t = problem.arguments
    if x.itemsize == 2:  # the same bytes: NumPy has no fast products of half types
        x, t = (np.ones(x.nbytes // 4, dtype=np.float32) for _ in range(2))
    products = x * t
    expected, tolerance = products.sum(dtype=np.float64), 1e-3 * np.abs(products).sum(dtype=np.float64)

    def check(result: Any) -> None:
        require_equal(abs(float(result) - expected) <= tolerance, True)

    return Contender(name, partial(np.dot, x, t), check)


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    """Return limits.c, compiled for this machine; None without a compiler that can."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder, suppress(OSError, subprocess.CalledProcessError):
        path = Path(folder, "limits.so")
        flags = ["-std=c11", "-O3", "-march=native", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, "-o", str(path), str(SOURCE)], check=True, capture_output=True)
        return ctypes.CDLL(str(path))
    return None


def moved_by() -> str:
    """Return what measures the limit of memory."""
    return "NumPy, as there is no C compiler" if _library() is None else "limits.c"


def _lines(size: int) -> Array:
    """Return so many bytes, aligned to a line of the cache."""
    room = np.ones(size + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    return room[start : start + size]


def passes(reads: Sequence[int], writes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Return passes over memory: bytes of an array, how many are read, and whether another is written.

    Arrays of one size are moved together. A pass writes one array at most.
    """
    for size in sorted({*reads, *writes}):
        count, written = reads.count(size), writes.count(size)
        for k in range(max(written, 1)):
            yield size, len(range(k, count, max(written, 1))), int(written > 0)


def _compiled_move(
    move: Any, is_past: bool, sources: Sequence[Array], to: Array | None
) -> Callable[[], None]:
    """Return a call of the function of limits.c, which reads the sources and writes the other array."""
    starts = (ctypes.c_void_p * len(sources))(*(array.ctypes.data for array in sources))
    end = ctypes.c_void_p(None if to is None else to.ctypes.data)
    size = ctypes.c_int64(sources[0].nbytes if to is None else to.nbytes)
    kept = sources, to  # as long as the call, which has only their addresses

    def call() -> None:
        move(starts, len(kept[0]), end, size, is_past)

    return call


def _numpy_move(sources: Sequence[Array], to: Array | None) -> None:
    """Read and write as much with NumPy, in as few passes as it can."""
    others = sources if to is None else sources[2:]
    if to is not None and len(sources) >= 2:
        np.add(sources[0], sources[1], out=to)
    elif to is not None and sources:
        np.copyto(to, sources[0])
    elif to is not None:
        to.fill(1)
    for array in others:
        np.maximum.reduce(array)


def moving(reads: Sequence[int], writes: Sequence[int], threads: int) -> Callable[[], list[Any]]:
    """Return the function that reads arrays of so many bytes, and writes others.

    Past the caches that takes less time, unless the caches have room for all of them: what is faster here.
    """
    library = _library()
    if library is None:
        return _moving(partial(partial, _numpy_move), reads, writes, threads)
    library.move.restype = ctypes.c_uint64
    ways = [
        _moving(partial(_compiled_move, library.move, is_past), reads, writes, threads)
        for is_past in ((True, False) if writes else (True,))
    ]
    return min(ways, key=lambda way: min(timeit.repeat(way, number=1, repeat=TRIALS)))


def _moving(
    move: Callable[..., Callable[[], None]], reads: Sequence[int], writes: Sequence[int], threads: int
) -> Callable[[], list[Any]]:
    parts: list[list[Callable[[], Any]]] = [[] for _ in range(threads)]
    for given, count, written in passes(reads, writes):
        part = max(given // (LINE * threads), 1) * LINE
        arrays = [_lines(part * threads).view(np.float32) for _ in range(count + written)]
        shares = zip(*(np.split(array, threads) for array in arrays), strict=True)
        for pieces, moves in zip(shares, parts, strict=True):
            moves.append(move(pieces[:count], pieces[-1] if written else None))

    def in_turn(moves: list[Callable[[], Any]]) -> None:
        for one in moves:
            one()

    return partial(team(threads).run, [partial(in_turn, moves) for moves in parts])


def _move(problem: Problem, name: str) -> Contender:
    """Read every argument, and write as much as the result."""
    return Contender(name, moving(*problem.traffic, problem.threads))


LIMITS: dict[str, Builder] = {
    "copy": _copy,
    "scale": _scale,
    "read": _read,
    "add": partial(_into_third, function=np.add),
    "subtract": partial(_into_third, function=np.subtract),
    "dot": _dot,
    "move": _move,
}


@contender(LIMIT)
def _limit(problem: Problem, name: str) -> Contender:
    if problem.case.limit is None:
        raise UnavailableError("memory is no limit to this row")
    return LIMITS[problem.case.limit](problem, name)


# --- fastloss ---


def _parts(case: Case, result: Any) -> tuple[Any, Any]:
    """Return the loss and the values of a result of fastloss; None for parts that the mode lacks."""
    if case.mode == "values":
        return None, result
    return (result, None) if case.mode == "value" else result


@contender(OURS)
def ours(problem: Problem, name: str, **more: Any) -> Contender:
    """Build fastloss, through the public function, with only the options of the row."""
    case, arguments = problem.case, problem.arguments
    options: dict[str, Any] = {**case.options, **problem.our_options, **more}
    if case.axis != -1:
        options["axis"] = case.axis
    if case.has_gradient:
        options["return_grad"] = True
        if problem.upstream is not None:
            options["grad_output"] = problem.upstream
    before = None
    if case.mode == "in place":
        options["out"] = work = arguments[0].copy()
        before = partial(np.copyto, work, arguments[0])
        arguments = (work, *arguments[1:])
    elif case.has_values and case.reused:
        options["out"] = problem.out
    call = partial(getattr(fastloss, case.function), *arguments, **options)

    return Contender(name, call, lambda result: problem.check(name, *_parts(case, result)), before)


def _changed(changes: Mapping[str, Any], problem: Problem, name: str) -> Contender:
    """Build fastloss for the same row with some attributes changed."""
    return ours(type(problem)(replace(problem.case, **changes), problem.is_small), name)


# Without `out`: a new array for the gradient at each call, with its page faults.
contender("fastloss new array")(partial(_changed, {"reused": False}))
contender("fastloss float32")(partial(_changed, {"dtype": "float32"}))
contender("fastloss cross_entropy")(
    partial(_changed, {"function": "cross_entropy", "options": {}, "details": {}})
)


@contender("fastloss unchecked")
def _unchecked(problem: Problem, name: str) -> Contender:
    """Build fastloss without the check of the targets against the domain of the loss."""
    return ours(problem, name, check_domain=False)


@contender("fastloss after matmul")
def _after_matmul(problem: Problem, name: str) -> Contender:
    """Build fastloss after a product as large as the logits, whose threads may still spin."""
    rows, classes = problem.shape
    hidden, weight = (np.ones(shape, dtype=np.float32) for shape in ((rows, HIDDEN), (HIDDEN, classes)))
    product = np.empty(problem.shape, dtype=np.float32)

    def layer() -> None:
        np.matmul(hidden, weight, out=product)

    return replace(ours(problem, name), before=layer)


@contender("fastloss 1 thread")
def one_thread(problem: Problem, name: str) -> Contender:
    if fastloss.get_num_threads() == 1:
        raise UnavailableError("one thread is all there is")
    return replace(ours(problem, name), setting=partial(fastloss.num_threads, 1))


@contextmanager
def _level(level: int) -> Iterator[None]:
    before = _kernels.use_level(level)
    try:
        yield
    finally:
        _kernels.use_level(before)


@contender("fastloss baseline", "fastloss avx2", "fastloss avx512")
def _instruction_set(problem: Problem, name: str) -> Contender:
    level = _kernels.LEVELS.index(name.removeprefix("fastloss "))
    if level not in _kernels.BUILT_LEVELS or level > _kernels.MACHINE_LEVEL:
        raise UnavailableError("not built, or not supported by this machine")
    return replace(ours(problem, name), setting=partial(_level, level))
