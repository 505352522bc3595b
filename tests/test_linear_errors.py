"""Bad arguments of the losses of a linear layer: an error that names them, and nothing written."""

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import dtype_named
from linear_cases import LOG_PROBS, LOSS, Linear, empty_buffers, linear

import fastloss
from fastloss import reference

over_names = pytest.mark.parametrize("name", [LOSS, LOG_PROBS])

INF, NAN = math.inf, math.nan


def refused(call: Callable[[], Any], error: Any, name: str) -> str:
    with pytest.raises((TypeError, ValueError, IndexError)) as info:
        call()
    assert isinstance(info.value, error), f"{type(info.value).__name__}: {info.value}"
    assert re.search(rf"\b({name})\b", str(info.value)), f"{name} is not in: {info.value}"
    return str(info.value)


def refused_and_unwritten(p: Linear, error: Any, name: str, **more: Any) -> str:
    """With every kind of call, and nothing written to any buffer."""
    if not {"return_grad", "out", "accumulate", "grad_output"} & set(more):
        refused(lambda: p.loss(**more), error, name)
    message = refused(lambda: p.run(**more), error, name)
    if "out" not in more and more.get("return_grad", True) is True:
        for accumulate in (False, True):
            out = tuple(
                None if a is None else np.full(np.shape(a), 55.0, dtype_named(p.dtype))
                for a in (p.input, p.linear_weight, p.linear_bias)
            )
            given = {"out": out, "accumulate": accumulate, **more}
            message = refused(lambda given=given: p.run(**given), error, name)  # type: ignore[misc]
            assert all(a is None or (a == 55.0).all() for a in out), message
    return message


BOTH: list[tuple[str, Any, tuple[Any, ...]]] = [
    ("memory_budget", TypeError, (1.5, True, np.True_, "1", [1])),
    ("memory_budget", ValueError, (0, -1)),
    ("ignore_index", TypeError, (1.0, None, "-100", True)),
    ("softcap", ValueError, (0.0, -1.0, NAN, INF)),
    ("softcap", TypeError, (True, "30", [30.0])),
    ("temperature", ValueError, (0.0, -1.0, NAN, INF)),
    ("temperature", TypeError, (True, "1", None, [1.0])),
    ("reduction", ValueError, ("avg", "", None, 1)),
    ("return_grad", TypeError, (1, None, "yes")),
    ("grad_output", ValueError, (np.ones(4), np.ones(1))),
    ("grad_output", TypeError, ("text", True, 1j)),
    ("num_threads", TypeError, (1.0, True, "2")),
    ("num_threads", ValueError, (0, -1)),
    ("linear_bias", ValueError, (np.ones(5, "f4"), np.ones((6, 1), "f4"), np.float32(1.0))),
    ("linear_bias", TypeError, (np.ones(6), np.ones(6, "f2"), "text", [1.0] * 6)),
]
LOSS_ONLY: list[tuple[str, Any, tuple[Any, ...]]] = [
    ("filter_eps", ValueError, (-1e-6, NAN, INF, -INF)),
    ("filter_eps", TypeError, (True, False, "0", None, [0.0])),
    ("weight", ValueError, (np.ones(5), np.ones((6, 1)), 2.0)),
    ("weight", TypeError, ("text", np.ones(6, complex))),
    ("sample_weight", ValueError, (np.ones(3), np.ones((4, 1)))),
    ("sample_weight", TypeError, ("text", np.ones(4, complex))),
    ("label_smoothing", ValueError, (-0.1, 1.1, NAN)),
    ("label_smoothing", TypeError, (True, "0.1", None)),
    ("z_loss", ValueError, (NAN, INF, -1e-3)),
    ("z_loss", TypeError, (True, None)),
]
BAD_OPTIONS = [(name, *row) for name in (LOSS, LOG_PROBS) for row in BOTH] + [(LOSS, *r) for r in LOSS_ONLY]


def good(name: str = LOSS) -> Linear:
    return linear((name, "indices"), (4,), 3, 6, "float32", "sum")


@pytest.mark.parametrize(("name", "argument", "error", "values"), BAD_OPTIONS)
def test_bad_option(name: str, argument: str, error: Any, values: tuple[Any, ...]) -> None:
    for value in values:
        refused_and_unwritten(good(name), error, argument, **{argument: value})


def test_budget_of_another_integer_type() -> None:
    p = linear((LOSS, "indices"), (40,), 3, 1000)
    assert p.loss(memory_budget=np.int8(100)) == p.loss(memory_budget=100)


def test_what_becomes_an_array_overlaps_too() -> None:
    p = linear((LOSS, "indices"), (4,), 3, 6, "float64", "none")
    room = np.ones((4, 3))
    upstream = memoryview(room.reshape(-1)[:4])
    with pytest.raises(ValueError, match="must not overlap"):
        p.run(out=(room, None, None), grad_output=upstream)


def test_names_of_arguments() -> None:
    common = ["memory_budget", "reduction", "return_grad", "grad_output", "out", "accumulate", "num_threads"]
    options = [
        "linear_bias",
        "weight",
        "ignore_index",
        "label_smoothing",
        "sample_weight",
        "z_loss",
        "softcap",
    ]
    expected = {
        LOSS: [*options, "temperature", "filter_eps", *common],
        LOG_PROBS: ["linear_bias", "ignore_index", "temperature", "softcap", *common],
    }
    for name, keywords in expected.items():
        ours = inspect.signature(getattr(fastloss, name)).parameters
        assert list(ours) == ["input", "linear_weight", "target", *keywords]
        assert all(ours[k].kind is inspect.Parameter.KEYWORD_ONLY for k in keywords)
        theirs = inspect.signature(getattr(reference, name)).parameters
        assert all(ours[k].default == v.default for k, v in theirs.items())


@over_names
def test_bad_types(name: str) -> None:
    p = good(name)
    for other in ("float64", "float16"):
        refused_and_unwritten(
            p.with_(linear_weight=p.linear_weight.astype(other)), TypeError, "linear_weight"
        )
        refused_and_unwritten(p.with_(linear_bias=p.linear_bias.astype(other)), TypeError, "linear_bias")
    for value in ("text", None, p.input.astype(complex), np.array([[None] * 3] * 4)):
        refused(p.with_(input=value).run, TypeError, "input")
    for value in ("text", None, p.linear_weight.astype(complex)):
        refused(p.with_(linear_weight=value).run, TypeError, "linear_weight")
    for value in (np.zeros(4, bool), np.zeros(4, complex), ["0"] * 4):
        refused_and_unwritten(p.with_(target=value), TypeError, "target")
    if name == LOG_PROBS:
        q = np.full((4, 6), 1 / 6, np.float32)
        refused_and_unwritten(p.with_(target=q), (TypeError, ValueError), "target")
        refused_and_unwritten(p.with_(target=np.zeros(4, np.float32)), (TypeError, ValueError), "target")


@over_names
def test_bad_shapes(name: str) -> None:
    p = good(name)
    x, w = p.input, p.linear_weight
    for bad in (x[:, :2], np.ones((4, 4), "f4"), x[..., np.newaxis], np.float32(1.0)):
        refused_and_unwritten(p.with_(input=bad), ValueError, "input|linear_weight|target")
    for bad in (w[:, :2], w[0], w[np.newaxis], w[:0], np.float32(1.0)):
        refused_and_unwritten(p.with_(linear_weight=bad), ValueError, "linear_weight|input|linear_bias")
    for target in (p.target[:3], p.target[:, np.newaxis], 0, np.zeros((4, 3), int), np.zeros((4, 6), int)):
        refused_and_unwritten(p.with_(target=target), ValueError, "target")
    for grad_output in (np.ones((4, 1)), np.ones(3), np.ones((4, 6))):
        more = {"grad_output": grad_output, "reduction": "none"}
        refused_and_unwritten(p, ValueError, "grad_output", **more)
    if name == LOSS:
        for q in (np.ones((4, 5), "f4"), np.ones(6, "f4"), np.ones((6, 4), "f4"), np.ones(4, "f4")):
            refused_and_unwritten(p.with_(target=q), ValueError, "target")
        q = np.full((4, 6), 1 / 6, np.float32)
        refused_and_unwritten(p.with_(target=q), ValueError, "ignore_index", ignore_index=3)


@over_names
def test_bad_class_index(name: str) -> None:
    for rows, where, memory_budget in (
        ((4,), (2,), 2**26),
        ((30, 20), (28, 13), 2**26),
        ((30, 20), (28, 13), 1),
    ):
        p = linear((name, "indices"), rows, 3, 60, "float32", "mean")
        for wrong in (60, -1, -99, 2**40):
            target = p.target.copy()
            target[where] = target[-1] = wrong
            bad = p.with_(target=target)
            message = refused_and_unwritten(bad, IndexError, "target", memory_budget=memory_budget)
            assert re.search(rf"\b{', '.join(map(str, where))}\b", message), message
            assert str(wrong) in message
    # 156 is what -100 would be if it wrapped around.
    refused_and_unwritten(p.with_(target=np.full(p.target.shape, 156, np.uint8)), IndexError, "target")


@over_names
def test_gradient_arguments_without_gradient(name: str) -> None:
    p = good(name)
    for argument, value in (("grad_output", 1.0), ("out", empty_buffers(p))):
        arrays, given = p.arguments({argument: value})
        refused(lambda a=arrays, g=given: getattr(fastloss, name)(*a, **g), ValueError, argument)  # type: ignore[misc]
    refused(lambda: p.run(accumulate=True), ValueError, "out")
    refused(lambda: p.run(accumulate=1, out=empty_buffers(p)), TypeError, "accumulate")


@over_names
def test_bad_out(name: str) -> None:
    p = good(name)
    x, w, b = empty_buffers(p)
    locked = np.full_like(x, 55.0)
    locked.flags.writeable = False
    double = np.full_like(x, 55.0, dtype=np.float64)
    for out in (x, (x,), (x, w), (x, w, b, None), [x, w], "out", 1, (x.tolist(), w, b), (w, x, b)):
        refused(lambda out=out: p.run(out=out), (TypeError, ValueError), "out")  # type: ignore[misc]
    for out in ((x[:3], w, b), (x, w.T, b), (x, w, b[:, np.newaxis]), (locked, w, b)):
        refused(lambda out=out: p.run(out=out), ValueError, "out")  # type: ignore[misc]
    for out in ((double, w, b), (x, w.astype(np.float64), b)):
        refused(lambda out=out: p.run(out=out), TypeError, "out")  # type: ignore[misc]
    # A bias that is not there has no gradient.
    refused(lambda: p.with_(linear_bias=None).run(out=(x, w, b)), (TypeError, ValueError), "out")
    assert all((a == 55.0).all() for a in (x, w, b, double))


@over_names
def test_out_that_overlaps(name: str) -> None:
    """No input, not even exactly, and no other buffer."""
    square = linear((name, "indices"), (6,), 6, 6, "float32", "none", ("array grad_output",))
    x, w, b, upstream = (
        np.array(a, np.float32)
        for a in (square.input, square.linear_weight, square.linear_bias, square.options["grad_output"])
    )
    options: dict[str, Any] = {"grad_output": upstream}
    others = [upstream]
    if name == LOSS:
        options |= {"weight": np.ones(6, np.float32), "sample_weight": np.ones(6, np.float32)}
        others += [options["weight"], options["sample_weight"]]
    p = square.with_(input=x, linear_weight=w, linear_bias=b, options=options)
    before = [a.copy() for a in (x, w, b, *others)]
    free = np.zeros((6, 6), np.float32), np.zeros((6, 6), np.float32), np.zeros(6, np.float32)
    shared = np.zeros((7, 6), np.float32)
    bad = [
        *((a, None, None) for a in (x, w, x[::-1], x.T)),
        *((None, a, None) for a in (x, w, w[:, ::-1])),
        *((None, None, a) for a in (b, b[::-1], x[0], w[:, 0], *others)),
        (free[0], free[0], None),
        (free[0], free[0].T, free[2]),
        (shared[1:], shared[:-1], None),
        (free[0], None, free[0][2]),
    ]
    for out in bad:
        for accumulate in (False, True):
            refused(lambda o=out, a=accumulate: p.run(out=o, accumulate=a), ValueError, "out")  # type: ignore[misc]
    assert all(a.tobytes() == c.tobytes() for a, c in zip((x, w, b, *others), before, strict=True))
    assert not any(a.any() for a in (*free, shared))
    # Neighbours in one array are no overlap.
    around = np.zeros((13, 6), np.float32)
    p.check_gradients(p.run(out=(around[:6], around[6:12], around[12]))[1])
