"""Bad arguments: an error that names them, and nothing written.

Each is a TypeError or a ValueError (an IndexError for a class out of range) that names the argument
and leaves `out` as it was, in place too.
"""

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from cases import CASE_IDS, CASES, TRANSFORM_IDS, TRANSFORMS, Array, Case, dtype_named
from levels import LEVELS

import fastloss
from fastloss import _kernels

ROWS, CLASSES = 4, 6
NAN, INF = math.nan, math.inf

Kind = type[Exception] | tuple[type[Exception], ...]

over_losses = pytest.mark.parametrize("case", CASES, ids=CASE_IDS)


def logits(dtype: str = "float32") -> Array:
    return np.random.default_rng(0).normal(size=(ROWS, CLASSES)).astype(dtype_named(dtype))


def indices() -> Array:
    return np.array([0, 5, 2, 3])


def probabilities() -> Array:
    return np.full((ROWS, CLASSES), 1 / CLASSES, np.float32)


def read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


# Bad arguments by name, for every loss. A value may be a function that makes it.


@dataclass(frozen=True)
class Bad:
    """An argument that must be refused, and how."""

    argument: str
    value: Any
    error: Kind
    with_options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        shown = self.value
        if isinstance(shown, np.ndarray):
            shown = f"{shown.dtype}{list(shown.shape)}"
        return f"{self.argument or 'input'}={str(shown)[:40]}"


def bad(argument: str, error: Kind, *values: Any, **options: Any) -> list[Bad]:
    return [Bad(argument, value, error, tuple(options.items())) for value in values]


INPUTS = [
    *bad("", TypeError, None, "text", logits().astype(complex), np.array([[None, 1.0]] * ROWS)),
    *bad("", TypeError, np.zeros((ROWS, CLASSES), "M8[s]"), np.zeros((ROWS, CLASSES), np.longdouble)),
    *bad("", TypeError, len),
    *bad("", ValueError, 1.0, np.float32(1.0)),
    # Ragged.
    *bad("", ValueError, [[1.0, 2.0], [3.0]]),
]

TARGETS = [
    *bad("target", TypeError, np.zeros(ROWS, bool), np.zeros(ROWS, complex)),
    *bad("target", TypeError, np.array([None] * ROWS), np.array(["0"] * ROWS)),
    # Wrong in type and in shape: either error will do.
    *bad("target", (TypeError, ValueError), None, "text", len),
    *bad("target", ValueError, np.zeros((ROWS, 1), int), np.zeros(ROWS + 1, int), np.zeros((), int)),
    *bad("target", ValueError, 0, np.zeros((1, ROWS), int), np.zeros((ROWS, CLASSES), int)),
    *bad("target", ValueError, [[0, 1], [2]]),
]

# Values, the type that holds them, and where the first bad one stands.
OUT_OF_RANGE = [
    ([0, 6, 2, 9], "int64", 1, "6"),
    ([0, 1, 2, 6], "uint8", 3, "6"),
    ([-1, 0, 0, 0], "int32", 0, "-1"),
    ([0, 0, -99, -101], "int8", 2, "-99"),
    ([0, 0, -101, 0], "int16", 2, "-101"),
    # 156 is what -100 would be if it wrapped around; neither it nor its wider sisters are ignored.
    ([0, 156, 0, 0], "uint8", 1, "156"),
    ([0, 0, 2**16 - 100, 0], "uint16", 2, str(2**16 - 100)),
    ([0, 0, 0, 2**32 - 100], "uint32", 3, str(2**32 - 100)),
    ([0, 0, 2**64 - 100, 0], "uint64", 2, str(2**64 - 100)),
    ([0, 2**63, 0, 0], "uint64", 1, str(2**63)),
    ([-(2**63), 0, 0, 0], "int64", 0, str(-(2**63))),
    ([0, 2**63 - 1, 0, 0], "int64", 1, str(2**63 - 1)),
    ([0, 0, 0, 2**32 + 1], "int64", 3, str(2**32 + 1)),
]

SHARED = [
    *bad("axis", ValueError, 2, -3, 100),
    *bad("axis", TypeError, 1.0, None, True, "1", (0,)),
    *bad("weight", ValueError, np.ones(CLASSES - 1), np.ones((CLASSES, 1)), 2.0, np.ones((1, CLASSES))),
    *bad("weight", ValueError, np.ones((ROWS, CLASSES)), []),
    *bad("weight", TypeError, "text", np.ones(CLASSES, complex), [None] * CLASSES),
    *bad("sample_weight", ValueError, np.ones((ROWS, 1)), np.ones(1), np.ones(ROWS + 1)),
    *bad("sample_weight", ValueError, np.ones((ROWS, CLASSES)), []),
    *bad("sample_weight", TypeError, "text", np.ones(ROWS, complex)),
    *bad("ignore_index", TypeError, 1.0, None, "-100", True, np.True_, NAN, [1]),
    *bad("reduction", ValueError, "avg", "", "Mean", "batchmean", None, 1, b"mean", ["mean"]),
    *bad("return_grad", TypeError, 1, 0, None, "yes", [True]),
    *bad("accumulate", TypeError, 1, None, "yes"),
    *bad("grad_output", ValueError, np.ones(ROWS), np.ones(1), [[1.0]]),
    *bad("grad_output", TypeError, "text", True, np.True_, 1j, [None]),
    *bad("grad_output", ValueError, np.ones((ROWS, 1)), np.ones(ROWS + 1), reduction="none"),
    *bad("grad_output", ValueError, np.ones((ROWS, CLASSES)), np.ones(1), reduction="none"),
    *bad("num_threads", TypeError, 1.0, True, "2", NAN, [1]),
    *bad("num_threads", ValueError, 0, -1),
]

CROSS_ENTROPY = [
    *bad("label_smoothing", ValueError, -0.1, 1.1, NAN, INF, -INF, np.float32(2.0)),
    *bad("label_smoothing", TypeError, True, False, "0.1", None, 0.1j, [0.1], np.True_),
    *bad("z_loss", ValueError, NAN, INF, -INF, -1e-3),
    *bad("z_loss", TypeError, True, "0.1", None, [0.1]),
    *bad("softcap", ValueError, 0.0, 0, -1.0, NAN, INF),
    *bad("softcap", TypeError, True, "30", [30.0]),
    *bad("temperature", ValueError, 0.0, 0, -1.0, NAN, INF),
    *bad("temperature", TypeError, True, "1", None, [1.0]),
]


def call_of(case: Case, **arguments: Any) -> Callable[[], Any]:
    """A call with gradient: good but for what is given."""
    given = {case.input_name: logits(), "target": indices(), "return_grad": True, **arguments}
    first, target = given.pop(case.input_name), given.pop("target")
    return lambda: getattr(fastloss, case.name)(first, target, **given)


def refused(call: Callable[[], Any], error: Kind, name: str) -> str:
    """Assert that a call is refused with an error of this very kind that names the argument."""
    with pytest.raises((TypeError, ValueError, IndexError)) as info:
        call()
    message = str(info.value)
    assert isinstance(info.value, error), f"{type(info.value).__name__}: {message}"
    assert re.search(rf"\b{name}\b", message), f"{name} is not in: {message}"
    return message


def refused_and_unwritten(case: Case, error: Kind, name: str, **arguments: Any) -> str:
    """The same, and that nothing was written: to a buffer, or in place."""
    for reduction in ("mean", "none") if "reduction" not in arguments else (None,):
        given = dict(arguments) if reduction is None else {"reduction": reduction, **arguments}
        for in_place in (False, True):
            x = logits()
            out = x if in_place else np.full_like(x, 55.0)
            before = out.tobytes()
            message = refused(call_of(case, **{case.input_name: x, "out": out, **given}), error, name)
            assert out.tobytes() == before, f"written before the error: {message}"
    return message


@pytest.mark.parametrize("row", INPUTS, ids=str)
@over_losses
def test_bad_input(case: Case, row: Bad) -> None:
    refused(call_of(case, **{case.input_name: row.value}), row.error, case.input_name)


@over_losses
def test_no_classes(case: Case) -> None:
    for shape, target in (((ROWS, 0), indices()), ((0,), 0)):
        x = np.empty(shape, np.float32)
        with pytest.raises(ValueError, match="class"):
            call_of(case, **{case.input_name: x, "target": target})()


@pytest.mark.parametrize("row", TARGETS, ids=str)
@over_losses
def test_bad_target(case: Case, row: Bad) -> None:
    refused_and_unwritten(case, row.error, "target", target=row.value)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(("values", "dtype", "position", "shown"), OUT_OF_RANGE)
@over_losses
def test_target_out_of_range(case: Case, values: list[int], dtype: str, position: int, shown: str) -> None:
    target = np.array(values, dtype)
    for given in (target, target.repeat(2)[::2], target.astype(target.dtype.newbyteorder())):
        message = refused_and_unwritten(case, IndexError, "target", target=given)
        assert str(position) in re.findall(r"\d+", message)
        assert shown in re.findall(r"-?\d+", message)
        refused(call_of(case, target=given, return_grad=False), IndexError, "target")


@pytest.mark.parametrize("options", [{}, {"weight": np.ones(70)}], ids=["plain", "weighted"])
@over_losses
def test_first_target_out_of_range_of_many(case: Case, options: dict[str, Any]) -> None:
    # Far into the batch, where several threads look at once: still the first, and its place in the
    # shape of the target.
    x = np.zeros((300, 500, 70), np.float32)
    target = np.zeros((300, 500), np.int64)
    target[123, 45] = 70
    target[200:] = -1
    for threads in (1, 2):
        message = refused(
            call_of(case, **{case.input_name: x, "target": target, "out": x}, num_threads=threads, **options),
            IndexError,
            "target",
        )
        assert re.findall(r"\d+", message)[:3] == ["123", "45", "70"]
    assert not x.any()


@pytest.mark.parametrize("ignore_index", [-100, -1, 2**40, 2**70])
@over_losses
def test_only_the_ignored_index_is_ignored(case: Case, ignore_index: int) -> None:
    # Other numbers outside of the range stay errors, whatever is ignored.
    for wrong in (-2, CLASSES, 2**40 + 1):
        target = indices()
        target[2] = wrong
        refused_and_unwritten(case, IndexError, "target", target=target, ignore_index=ignore_index)


@over_losses
def test_wrapped_ignore_index_is_not_ignored(case: Case) -> None:
    # -100 and 156 are one byte, 2**64 - 100 and -100 are one word.
    for dtype, value, ignore_index in (
        ("uint8", 156, -100),
        ("int8", -100, 156),
        ("uint64", 2**64 - 100, -100),
        ("int64", -100, 2**64 - 100),
        ("int32", -100, 2**32 - 100),
    ):
        target = np.array([0, 1, value, 2], dtype)
        refused_and_unwritten(case, IndexError, "target", target=target, ignore_index=ignore_index)


@pytest.mark.parametrize("row", SHARED, ids=str)
@over_losses
def test_bad_argument(case: Case, row: Bad) -> None:
    given = {row.argument: row.value, **dict(row.with_options)}
    if row.argument == "grad_output" and not row.with_options:
        given["reduction"] = "sum"
    refused_and_unwritten(case, row.error, row.argument, **given)


@pytest.mark.parametrize("row", CROSS_ENTROPY, ids=str)
@pytest.mark.parametrize("target", [indices, probabilities])
def test_bad_option_of_cross_entropy(row: Bad, target: Callable[[], Array]) -> None:
    given = {row.argument: row.value, "target": target()}
    refused_and_unwritten(CASES[0], row.error, row.argument, **given)


@over_losses
def test_unknown_argument(case: Case) -> None:
    refused_and_unwritten(case, TypeError, "smoothing", smoothing=0.1)


# Arguments that are wrong together


@over_losses
def test_gradient_arguments_without_gradient(case: Case) -> None:
    x = logits()
    before = x.tobytes()
    for name, value in (("grad_output", 2.0), ("grad_output", np.float32(1)), ("out", x)):
        given = {case.input_name: x, "return_grad": False, name: value}
        message = refused(call_of(case, **given), ValueError, name)
        assert "return_grad" in message
    assert x.tobytes() == before


@over_losses
def test_accumulate_without_out(case: Case) -> None:
    assert "out" in refused(call_of(case, accumulate=True), ValueError, "accumulate")
    refused(call_of(case, accumulate=True, return_grad=False), ValueError, "accumulate")


@pytest.mark.parametrize(
    "target",
    [
        np.full((ROWS, CLASSES - 1), 0.2),
        np.full((CLASSES, ROWS), 0.2),
        np.full((ROWS, 1), 1.0),
        np.full(ROWS, 1.0),
        np.full((ROWS, CLASSES, 1), 0.2),
        np.float64(0.5),
    ],
    ids=lambda target: str(target.shape),
)
def test_probabilities_of_another_shape(target: Array) -> None:
    refused_and_unwritten(CASES[0], ValueError, "target", target=target)


@pytest.mark.parametrize("ignore_index", [0, 3, 100])
def test_probabilities_have_no_ignored_index(ignore_index: int) -> None:
    refused_and_unwritten(
        CASES[0], ValueError, "ignore_index", target=probabilities(), ignore_index=ignore_index
    )


def test_probabilities_for_nll_loss() -> None:
    case = next(case for case in CASES if case.name == "nll_loss")
    with pytest.raises((TypeError, ValueError), match="target"):
        call_of(case, target=probabilities())()
    refused_and_unwritten(case, TypeError, "target", target=np.zeros(ROWS, np.float32))


# Buffers

BUFFERS: dict[str, tuple[type[Exception], Callable[[], Any]]] = {
    "a list": (TypeError, lambda: logits().tolist()),
    "bytes": (TypeError, lambda: bytearray(96)),
    "True": (TypeError, lambda: True),
    "float64": (TypeError, lambda: logits("float64")),
    "float16": (TypeError, lambda: logits("float16")),
    "int32": (TypeError, lambda: np.zeros((ROWS, CLASSES), np.int32)),
    "one class less": (ValueError, lambda: np.zeros((ROWS, CLASSES - 1), np.float32)),
    "transposed": (ValueError, lambda: np.zeros((CLASSES, ROWS), np.float32)),
    "flat": (ValueError, lambda: np.zeros(ROWS * CLASSES, np.float32)),
    "one axis more": (ValueError, lambda: np.zeros((1, ROWS, CLASSES), np.float32)),
    "read-only": (ValueError, lambda: read_only(logits())),
    "rows on each other": (
        ValueError,
        lambda: np.lib.stride_tricks.as_strided(np.zeros(99, np.float32), (ROWS, CLASSES), (4, 4)),
    ),
    "one row many times": (
        ValueError,
        lambda: np.lib.stride_tricks.as_strided(np.zeros(6, np.float32), (ROWS, CLASSES), (0, 4)),
    ),
}


@pytest.mark.parametrize("name", BUFFERS)
@over_losses
def test_bad_out(case: Case, name: str) -> None:
    error, make = BUFFERS[name]
    out = make()
    before = bytes(out) if isinstance(out, bytearray) else np.asarray(out).tobytes()
    for options in ({}, {"weight": np.ones(CLASSES)}, {"accumulate": True}):
        refused(call_of(case, out=out, **options), error, "out")
    assert (bytes(out) if isinstance(out, bytearray) else np.asarray(out).tobytes()) == before


@pytest.mark.parametrize("swapped", [True, False], ids=["byte order", "unaligned"])
@over_losses
def test_out_that_kernels_cannot_write(case: Case, swapped: bool) -> None:
    out = logits().astype(">f4" if sys.byteorder == "little" else "<f4")
    if not swapped:
        buffer = np.zeros(out.nbytes + 8, np.uint8)
        start = 1 + -buffer.ctypes.data % 4
        out = buffer[start : start + out.nbytes].view(np.float32).reshape(out.shape)
    before = out.tobytes()
    with pytest.raises((TypeError, ValueError), match=r"\bout\b"):
        call_of(case, out=out)()
    assert out.tobytes() == before


def over_input(x: Array) -> dict[str, tuple[Array, Array]]:
    """Inputs and buffers that share some memory of `x`, each in a way of its own."""
    wide, flat = x.reshape(2 * ROWS, CLASSES), x.reshape(-1)
    size = ROWS * CLASSES
    return {
        "one row on": (wide[:ROWS], wide[1 : ROWS + 1]),
        "one row back": (wide[1 : ROWS + 1], wide[:ROWS]),
        "one element on": (
            flat[:size].reshape(ROWS, CLASSES),
            flat[1 : size + 1].reshape(ROWS, CLASSES),
        ),
        "reversed rows": (wide[:ROWS], wide[:ROWS][::-1]),
        "reversed classes": (wide[:ROWS], wide[:ROWS, ::-1]),
        "every second row": (wide[:ROWS], wide[::2]),
    }


@pytest.mark.parametrize("name", list(over_input(np.zeros((2 * ROWS, CLASSES)))))
@over_losses
def test_out_that_overlaps_the_input(case: Case, name: str) -> None:
    for options in ({}, {"sample_weight": 2.0}, {"accumulate": True}):
        both = np.random.default_rng(0).normal(size=(2 * ROWS, CLASSES)).astype(np.float32)
        before = both.tobytes()
        x, out = over_input(both)[name]
        refused(call_of(case, **{case.input_name: x, "out": out}, **options), ValueError, "out")
        assert both.tobytes() == before


@over_losses
def test_out_that_is_the_transposed_input(case: Case) -> None:
    x = np.arange(16.0, dtype=np.float32).reshape(4, 4)
    before = x.tobytes()
    given = {case.input_name: x, "out": x.T, "target": np.zeros(4, np.int64)}
    refused(call_of(case, **given), ValueError, "out")
    assert x.tobytes() == before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["target", "weight", "sample_weight", "grad_output"])
@over_losses
def test_out_that_overlaps_another_input(case: Case, name: str, dtype: str) -> None:
    # The other input lies in the first bytes of out, or in its last ones.
    values = {
        "target": np.zeros(ROWS, np.int64),
        "weight": np.ones(CLASSES, dtype),
        "sample_weight": np.ones(ROWS, dtype),
        "grad_output": np.ones(ROWS, dtype),
    }[name]
    for last in (False, True):
        out = np.zeros((ROWS, CLASSES), dtype)
        flat = out.reshape(-1).view(values.dtype)
        other = flat[-values.size :] if last else flat[: values.size]
        other[...] = values
        before = out.tobytes()
        given = {case.input_name: logits(dtype), name: other, "out": out, "reduction": "none"}
        refused(call_of(case, **given), ValueError, "out")
        assert out.tobytes() == before
        if name == "target":
            given["reduction"] = "mean"
            refused(call_of(case, **given), ValueError, "out")
            assert out.tobytes() == before


def test_out_that_is_the_probabilities() -> None:
    # The same memory as the target, or some of it: only the input may be written over.
    both = np.full((2 * ROWS, CLASSES), 1 / CLASSES, np.float32)
    before = both.tobytes()
    for out in (both[:ROWS], both[1 : ROWS + 1]):
        refused(call_of(CASES[0], target=both[:ROWS], out=out), ValueError, "out")
    assert both.tobytes() == before


def test_in_place_where_the_target_is_the_input() -> None:
    x = probabilities()
    before = x.tobytes()
    refused(call_of(CASES[0], logits=x, target=x, out=x), ValueError, "out")
    assert x.tobytes() == before


# Transforms and perplexity

over_transforms = pytest.mark.parametrize("transform", TRANSFORM_IDS)
with_out = pytest.mark.parametrize("transform", [t.name for t in TRANSFORMS if t.keeps_classes])


@pytest.mark.parametrize("row", INPUTS, ids=str)
@over_transforms
def test_bad_input_of_a_transform(transform: str, row: Bad) -> None:
    refused(lambda: getattr(fastloss, transform)(row.value), row.error, "x")


@pytest.mark.parametrize("row", [row for row in SHARED if row.argument in ("axis", "num_threads")], ids=str)
@over_transforms
def test_bad_argument_of_a_transform(transform: str, row: Bad) -> None:
    given = {row.argument: row.value}
    refused(lambda: getattr(fastloss, transform)(logits(), **given), row.error, row.argument)


@pytest.mark.parametrize("name", BUFFERS)
@with_out
def test_bad_out_of_a_transform(transform: str, name: str) -> None:
    error, make = BUFFERS[name]
    refused(lambda: getattr(fastloss, transform)(logits(), out=make()), error, "out")


@pytest.mark.parametrize("name", list(over_input(np.zeros((2 * ROWS, CLASSES)))))
@with_out
def test_out_that_overlaps_the_input_of_a_transform(transform: str, name: str) -> None:
    both = np.random.default_rng(0).normal(size=(2 * ROWS, CLASSES)).astype(np.float32)
    before = both.tobytes()
    x, out = over_input(both)[name]
    refused(lambda: getattr(fastloss, transform)(x, out=out), ValueError, "out")
    assert both.tobytes() == before


@pytest.mark.parametrize("row", INPUTS, ids=str)
def test_bad_logits_of_perplexity(row: Bad) -> None:
    refused(lambda: fastloss.perplexity(row.value, indices()), row.error, "logits")


@pytest.mark.parametrize("row", TARGETS, ids=str)
def test_bad_target_of_perplexity(row: Bad) -> None:
    counter = fastloss.Perplexity().update(logits(), indices())
    before = (counter.tokens, counter.mean_loss)
    refused(lambda: fastloss.perplexity(logits(), row.value), row.error, "target")
    refused(lambda: counter.update(logits(), row.value), row.error, "target")
    assert (counter.tokens, counter.mean_loss) == before


@pytest.mark.parametrize(("values", "dtype", "position", "shown"), OUT_OF_RANGE)
def test_target_out_of_range_of_perplexity(values: list[int], dtype: str, position: int, shown: str) -> None:
    target = np.array(values, dtype)
    counter = fastloss.Perplexity().update(logits(), indices())
    before = (counter.tokens, counter.mean_loss)
    for call in (fastloss.perplexity, counter.update):
        message = refused(lambda call=call: call(logits(), target), IndexError, "target")
        assert str(position) in re.findall(r"\d+", message)
        assert shown in re.findall(r"-?\d+", message)
    assert (counter.tokens, counter.mean_loss) == before


@pytest.mark.parametrize(
    "row", [row for row in SHARED if row.argument in ("ignore_index", "num_threads")], ids=str
)
def test_bad_argument_of_perplexity(row: Bad) -> None:
    given = {row.argument: row.value}
    refused(lambda: fastloss.perplexity(logits(), indices(), **given), row.error, row.argument)
    if row.argument == "ignore_index":
        refused(lambda: fastloss.Perplexity(**given), row.error, row.argument)
    else:
        counter = fastloss.Perplexity()
        refused(lambda: counter.update(logits(), indices(), **given), row.error, row.argument)
        assert counter.tokens == 0


def test_merging_what_cannot_be_merged() -> None:
    counter = fastloss.Perplexity().update(logits(), indices())
    before = (counter.tokens, counter.mean_loss)
    refused(lambda: counter.merge(7), TypeError, "other")
    refused(lambda: counter.merge(fastloss.Perplexity(ignore_index=0)), ValueError, "ignore_index")
    assert (counter.tokens, counter.mean_loss) == before


# Settings


@pytest.mark.parametrize("value", [0, -1])
def test_threads_out_of_range(value: int) -> None:
    before = fastloss.get_num_threads()
    refused(lambda: fastloss.set_num_threads(value), ValueError, "num_threads")
    refused(fastloss.num_threads(value).__enter__, ValueError, "num_threads")
    assert fastloss.get_num_threads() == before


@pytest.mark.parametrize("value", [1.0, None, True, "2", [1]])
def test_threads_of_another_type(value: Any) -> None:
    before = fastloss.get_num_threads()
    refused(lambda: fastloss.set_num_threads(value), TypeError, "num_threads")
    refused(fastloss.num_threads(value).__enter__, TypeError, "num_threads")
    assert fastloss.get_num_threads() == before


def import_with(code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Import fastloss in a process with this environment, and run a line."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("FASTLOSS_")}
    return subprocess.run(
        [sys.executable, "-c", f"import fastloss\n{code}"],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("value", ["sse9", "AVX2 ", "2", "avx"])
def test_unknown_instruction_set(value: str) -> None:
    process = import_with(FASTLOSS_ISA=value)
    assert process.returncode != 0
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: FASTLOSS_ISA")
    assert value in last
    assert "baseline, avx2, avx512" in last


def test_instruction_set_that_is_not_there() -> None:
    absent = [name for i, name in enumerate(_kernels.LEVELS) if i not in LEVELS]
    if not absent:
        pytest.skip("this machine has all of them")
    for name in absent:
        process = import_with(FASTLOSS_ISA=name)
        assert process.returncode != 0
        assert "FASTLOSS_ISA" in process.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "1,2", "0x2"])
def test_bad_number_of_threads_in_the_environment(value: str) -> None:
    process = import_with(FASTLOSS_NUM_THREADS=value)
    assert process.returncode != 0
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: FASTLOSS_NUM_THREADS")
    assert value in last


def test_good_environment() -> None:
    # Ours comes before OpenMP's, whose own forms (a list, an empty value) are no error.
    show = "fastloss.show_config(); print('number', fastloss.get_num_threads())"
    for level in LEVELS:
        name = _kernels.LEVELS[level]
        process = import_with(show, FASTLOSS_ISA=name, FASTLOSS_NUM_THREADS="3", OMP_NUM_THREADS="2")
        assert process.returncode == 0, process.stderr
        assert re.search(rf"in use +{name}\n", process.stdout)
        assert process.stdout.endswith("number 3\n")
    for omp, expected in (("2", "2"), ("5,3", "5")):
        process = import_with(show, OMP_NUM_THREADS=omp, FASTLOSS_ISA="", FASTLOSS_NUM_THREADS="")
        assert process.stdout.endswith(f"number {expected}\n"), process.stderr
    assert import_with(OMP_NUM_THREADS="nonsense").returncode == 0


def test_reductions_that_are_no_strings():
    """The short way of plain calls refuses them, too."""
    x = np.zeros((2, 3))
    for reduction in (np.array(["mean"]), np.array(["mean", "sum"]), ["mean"], None, 1):
        with pytest.raises(ValueError, match="reduction must be"):
            fastloss.cross_entropy(x, np.array([0, 1]), reduction=reduction)
        with pytest.raises(ValueError, match="reduction must be"):
            fastloss.mse_loss(x, x, reduction=reduction)
