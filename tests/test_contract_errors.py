"""What every function refuses, over the registry: an error that names the argument, and nothing written.

Each is a TypeError or a ValueError (an IndexError for a class out of range), and leaves `out` as it was, in
place too. What is bad for one function alone is in its row.
"""

import itertools
import re
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import (
    BUFFERS,
    CLASSES,
    DTYPES,
    EITHER,
    INF,
    INPUTS_OF_WRONG_TYPE,
    NAN,
    OUT_OF_RANGE,
    RAGGED,
    ROWS,
    TARGETS,
    Bad,
    Kind,
    Options,
    Shape,
    bad,
    bits,
    dtype_named,
    each,
    every_second,
    full_of_55,
    on_one_isa,
    other_byte_order,
    over_dtypes,
    over_input,
    refused,
)
from registry import Call, Row, call, over
from rows import ROWS as ALL_ROWS

import fastloss

# One row for each function and kind of arguments: types of a loss have their options checked together.
FUNCTIONS = list(
    {(row.name, row.label, row.gradients, row.arrays): row for row in reversed(ALL_ROWS)}.values()
)
over_functions = over(FUNCTIONS)
LOSSES = [row for row in FUNCTIONS if row.gradients and row.returns == "loss"]
WITH_OUT = [row for row in FUNCTIONS if row.gradients]
IN_PLACE = [row for row in WITH_OUT if row.same_bits]
# (The indices of labels, one for each class, are those of test_pairs.py.)
OF_INDICES = [
    row for row in FUNCTIONS if row.integers == ("target",) and row.name != "multilabel_margin_loss"
]
OF_GRADIENT = {"return_grad", "return_hessian", "teacher_grad", "accumulate", "grad_output", "out"}
M = np.ones((ROWS, CLASSES))


def good(row: Row, dtype: str = "float32", options: int = 0) -> Call:
    """A call that nobody refuses; sequences of one token each."""
    reduction = "mean" if "mean" in row.reductions else "none"
    return call(row, (ROWS, CLASSES), dtype, reduction, options)


def refused_and_unwritten(c: Call, error: Kind, name: str, **given: Any) -> str:
    """Assert that a call is refused with any reduction, and nothing written: to a buffer, in place, added."""
    message, row = "", c.row
    reductions = ("none", "mean") if "reduction" not in given and len(row.reductions) > 1 else (c.reduction,)
    for reduction in reductions:
        more = {"reduction": reduction, **given} if row.reductions else dict(given)
        forward = {k: v for k, v in more.items() if k not in OF_GRADIENT}
        if name not in OF_GRADIENT and not OF_GRADIENT & given.keys():
            message = refused(partial(c.value, **forward), error, name)
        if not row.gradients:
            continue
        for in_place, accumulate in itertools.product({False, row.same_bits}, repeat=2):
            mine = {k: np.array(v) if isinstance(v, np.ndarray) else v for k, v in c.arguments.items()}
            fits = all(isinstance(mine[k], np.ndarray) for k in row.gradients)
            if not fits:
                message = refused(partial(c.run, **more), error, name)
                break
            out = [mine[k] if in_place else np.full_like(mine[k], 55.0) for k in row.gradients]
            before = bits(out)
            call_it = {**mine, "out": c.out(*out), **more}
            if accumulate and "accumulate" in row.parameters:
                call_it.setdefault("accumulate", True)
            message = refused(partial(c.run, **call_it), error, name)
            assert bits(out) == before, f"written before the error: {message}"
    return message


def refuse(c: Call, rows: Any) -> None:
    for row in rows:
        refused_and_unwritten(c, row.error, row.argument, **row.given)


# Arrays


def wrong_shapes(right: Shape) -> list[Shape]:
    """Nothing is broadcast but a scalar, and (N,) against (N, 1) is the classic bug."""
    some: list[Shape] = [(4, 5), (5, 6), (6,), (4,), (4, 1), (1, 6), (1, 4, 6), (4, 6, 1), (6, 4), (24,)]
    some += [(0, 6), (1,), (1, 1), (0,), (4, 6)]
    return [shape for shape in some if shape != right]


def takes_scalars(row: Row, name: str) -> bool:
    names = ("target", "var", "dispersion", "scale", "df", "lower", "upper")
    may_be = name in names or (name == "input2" and not row.loss_axes)
    return may_be and not row.integers and row.label in ("", "quantiles")


@over_functions
def test_bad_types_of_arrays(row: Row) -> None:
    c = good(row)
    for name in row.floats:
        wrong = INPUTS_OF_WRONG_TYPE if name == row.first or row.same_bits else INPUTS_OF_WRONG_TYPE[:3]
        if name == "target" and row.label == "probabilities":
            wrong = wrong[:-1]  # a longdouble is converted
        for value in wrong:
            refused_and_unwritten(c.with_(**{name: value}), EITHER if name != row.first else TypeError, name)
        refused_and_unwritten(c.with_(**{name: RAGGED}), EITHER if not row.same_bits else ValueError, name)
    refused(partial(c.run, **{row.first: None}), TypeError, row.first)


@over_functions
def test_bad_shapes_of_arrays(row: Row) -> None:
    """Both shapes are in the message."""
    c = good(row)
    if not row.same_bits or row.name == "preference_rewards":  # see test_linear.py, test_preferences.py
        return
    for name in row.floats[1:]:
        right = np.shape(c[name])
        for shape in wrong_shapes(right):
            if name == "advantages" and shape in ((ROWS,), (ROWS, CLASSES)):
                continue
            if name == "target" and row.label and len(shape) == 1 and shape != (ROWS,):
                continue
            message = refused_and_unwritten(c, ValueError, name, **{name: np.ones(shape, np.float32)})
            assert str(shape) in message, message
        if not takes_scalars(row, name):
            refused_and_unwritten(c, ValueError, name, **{name: 1.0})
    if row.loss_axes or row.returns == "array":
        for scalar in (1.0, np.float32(1.0)):
            refused(partial(c.run, **{row.first: scalar}), ValueError, row.first)


WITHOUT_CLASSES = ("multilabel_soft_margin_loss", "softmax", "log_softmax", "logsumexp", "crps_loss")


@over([row for row in ALL_ROWS if row.loss_axes and row.same_bits and row.name not in WITHOUT_CLASSES])
def test_no_classes(row: Row) -> None:
    c = good(row)
    given = {k: a[..., :0] if a.ndim == 2 else a for k, a in c.arguments.items()}
    for x in (given, {k: a[0] for k, a in given.items()}):
        with pytest.raises(ValueError, match=r"class|logits|vectors"):
            c.run(**x)


# Targets that are indices

WRAPPED = [("uint8", 156, -100), ("int8", -100, 156), ("uint64", 2**64 - 100, -100)]
WRAPPED += [("int64", -100, 2**64 - 100), ("int32", -100, 2**32 - 100)]


@over(OF_INDICES)
def test_bad_target(row: Row) -> None:
    is_optional = row.parameters["target"].default is None
    refuse(good(row), [b for b in TARGETS if b.value is not None or not is_optional])


@on_one_isa
@over(OF_INDICES)
@each("wrong", OUT_OF_RANGE)
def test_target_out_of_range(row: Row, wrong: tuple[list[int], str, int, str]) -> None:
    values, dtype, position, shown = wrong
    target = np.array(values, dtype)
    for given in (target, every_second(target), other_byte_order(target)):
        message = refused_and_unwritten(good(row), IndexError, "target", target=given)
        assert {str(position), shown} <= set(re.findall(r"-?\d+", message)), message


@over(OF_INDICES)
def test_first_target_out_of_range_of_many(row: Row) -> None:
    """Far into the batch, where several threads look at once: still the first, in the shape of the target."""
    if not row.same_bits:  # see test_linear.py
        return
    shape = (30, 25, 20, 70)
    x = np.zeros(shape, np.float32)
    target = np.zeros(shape[:-1], np.int64)
    target[12, 4, 5] = 70
    target[20:] = -1
    c = Call(row, "float32", "sum", {row.first: x, "target": target})
    given = {"out": x} if row.gradients else {}
    for more in ({}, {"weight": np.ones(70)}) if "weight" in row.parameters else ({},):
        for threads in (1, 2):
            message = refused(partial(c.run, num_threads=threads, **given, **more), IndexError, "target")
            assert re.findall(r"\d+", message)[:4] == ["12", "4", "5", "70"], message
    assert not x.any()


@over([row for row in OF_INDICES if "ignore_index" in row.parameters])
def test_only_the_ignored_index_is_ignored(row: Row) -> None:
    """Other numbers outside of the range stay errors, whatever is ignored; none wraps into it."""
    c = good(row)
    for ignore_index, wrong in itertools.product((-100, -1, 2**40, 2**70), (-2, CLASSES, 2**40 + 1)):
        target = np.array([0, 5, wrong, 3])
        refused_and_unwritten(c, IndexError, "target", target=target, ignore_index=ignore_index)
    for dtype, value, ignore_index in WRAPPED:
        target = np.array([0, 1, value, 2], dtype)
        refused_and_unwritten(c, IndexError, "target", target=target, ignore_index=ignore_index)


# Options that several functions have


def bad_weights(c: Call) -> list[Bad]:
    """Of each class, or of each element."""
    row = c.row
    if row.loss_axes:
        shapes: list[Shape] = [(5,), (6, 1), (1, 6), (4, 6), (4,)]
        wrong: list[Any] = [2.0, [], *map(np.ones, shapes)]
        of_wrong_type: list[Any] = ["text", np.ones(6, complex), [None] * 6]
    else:
        right = {(4,)} if row.label == "quantiles" else set()  # the rows
        wrong = [np.ones(shape, np.float32) for shape in wrong_shapes((4, 6)) if shape not in right]
        of_wrong_type = ["text", 1j, [None], np.ones((4, 6), complex)]
    return [*bad("weight", ValueError, *wrong), *bad("weight", TypeError, *of_wrong_type)]


def bad_masks(c: Call) -> list[Bad]:
    m = M if c.counts.ndim == 2 else M[:, 0]
    wrong = [m[:3], m[0], m[np.newaxis], m[..., np.newaxis], np.ones(1, bool), np.ones(24, bool), []]
    wrong += [m.T, m[:, :1], M[:, 0]] if m.ndim == 2 else [M]
    return [
        *bad("mask", ValueError, *(v * m for v in (2, -1, 0.5, NAN, INF, 256, 1e-300)), -m.astype(int)),
        *bad("mask", ValueError, True, 1, *(w for w in wrong if np.shape(w) != m.shape)),
        *bad("mask", EITHER, "text", m.astype(complex), [None] * 4, [[1], [1, 0]]),
    ]


def bad_upstream(c: Call) -> list[Bad]:
    right = c.loss_shape
    found: list[Bad] = []
    for reduction in c.row.reductions:
        if reduction == "none":
            wrong = [*map(np.ones, wrong_shapes(right)), [1.0], [[1.0]]]
        else:
            wrong = [v for v in (np.ones(right), np.ones(1), [1.0], M) if np.shape(v)]
        found += bad("grad_output", ValueError, *wrong, reduction=reduction)
    return [*found, *bad("grad_output", TypeError, "text", True, np.True_, 1j, [None])]


def bad_options(c: Call) -> list[Bad]:
    """Of all options that the function has."""
    wrong = [
        *bad("axis", ValueError, len(c.shape), -len(c.shape) - 1, 100),
        *bad("axis", TypeError, 1.0, None, True, "1", (0,)),
        *bad("sample_weight", ValueError, np.ones((4, 1)), np.ones(1), np.ones(5), np.ones(3), M, []),
        *bad("sample_weight", TypeError, "text", np.ones(4, complex)),
        *bad("ignore_index", TypeError, 1.0, None, "-100", True, np.True_, NAN, [1]),
        *bad("temperature", ValueError, 0.0, 0, -1.0, NAN, INF),
        *bad("temperature", TypeError, True, "1", None, [1.0]),
        *bad("logit_scale", ValueError, 0.0, 0, -1.0, NAN, INF, 5e-324),
        *bad("logit_scale", TypeError, True, "1", None, [1.0]),
        *bad("softcap", ValueError, 0.0, 0, -1.0, NAN, INF),
        *bad("softcap", TypeError, True, "30", [30.0]),
        *bad("z_loss", ValueError, NAN, INF, -INF, -1e-3),
        *bad("z_loss", TypeError, True, "0.1", None, [0.1]),
        *bad("label_smoothing", ValueError, -0.1, 1.1, NAN, INF, -INF, np.float32(2.0)),
        *bad("label_smoothing", TypeError, True, False, "0.1", None, 0.1j, [0.1], np.True_),
        *bad("lengths", ValueError, -1, 5, 2**40, np.uint64(2**63), [2], [4] * 4),
        *bad("lengths", TypeError, 2.0, True, np.bool_(True), 1j),
        *bad("lengths", EITHER, "text", [None], 2.0 * M[:, 0]),
        *bad("check_domain", TypeError, 1, 0, None, "yes"),
        *bad("reduction", ValueError, "avg", "", "Mean", "batch_mean", None, 1, b"mean", ["mean"]),
        *bad("reduction", ValueError, np.array(["mean"]), np.array(["mean", "sum"])),
        *bad("reduction", ValueError, *(() if "batchmean" in c.row.reductions else ("batchmean",))),
        *bad("return_grad", TypeError, 1, 0, None, "yes", [True]),
        *bad("return_hessian", TypeError, 1, 0, None, "yes", [True], 1.0),
        *bad("accumulate", TypeError, 1, None, "yes"),
        *bad("num_threads", TypeError, 1.0, True, "2", NAN, [1]),
        *bad("num_threads", ValueError, 0, -1),
        *(bad_weights(c) if "weight" in c.row.parameters else []),
        *(bad_masks(c) if "mask" in c.row.parameters else []),
        *(bad_upstream(c) if "grad_output" in c.row.parameters else []),
    ]
    return [row for row in wrong if row.argument in c.row.parameters]


@over_functions
def test_bad_options(row: Row) -> None:
    # A sequence has its tokens on an axis of its own.
    wrong = [b for b in bad_options(good(row)) if b.argument != "axis" or row.loss_axes != 2]
    refuse(good(row), wrong)


@over_functions
def test_bad_options_of_its_own(row: Row) -> None:
    wrong = [b for b in row.bad if b.argument != "loss_type" or "loss_type" not in row.fixed]
    refuse(good(row).plain(), wrong)


@over_functions
def test_unknown_argument(row: Row) -> None:
    names = {"smoothing", "axis", "weight", "mask", "temperature", "label_smoothing", "log_target"}
    for name in {*names, "return_hessian"} - set(row.parameters):
        refused_and_unwritten(good(row), TypeError, name, **{name: 0.1})


@over_functions
def test_options_are_given_by_name(row: Row) -> None:
    c = good(row)
    positional = [k for k, p in row.parameters.items() if p.kind is not p.KEYWORD_ONLY]
    arrays = [c.arguments.get(name, 0.5) for name in positional]
    with pytest.raises(TypeError):
        c._call(fastloss, {row.first: arrays[0], "nonsense": 1})
    with pytest.raises(TypeError):
        getattr(fastloss, row.name)(*arrays, 0.1)


# Arguments of gradients


@over(LOSSES)
def test_gradient_arguments_without_gradient(row: Row) -> None:
    c = good(row)
    mine = {k: np.array(a) for k, a in c.arguments.items()}
    before = bits(*mine.values())
    buffers = c.out(*(mine[k] for k in row.gradients))
    upstream = np.ones(c.loss_shape)
    wrong: list[tuple[str, Options]] = [
        ("grad_output", {"grad_output": 2.0}),
        ("grad_output", {"grad_output": np.float32(1)}),
        ("grad_output", {"grad_output": upstream, "reduction": "none"}),
        ("out", {"out": buffers}),
    ]
    if row.hessian:
        wrong.append(("return_hessian", {"return_hessian": True}))
    if len(row.gradients) > 1 and "teacher_grad" in row.fixed:
        wrong.append(("teacher_grad", {"teacher_grad": True}))
    for name, given in wrong:
        for more in ({}, {"return_grad": False}):
            message = refused(partial(c.value, **mine, **given, **more), ValueError, name)
            assert "return_grad" in message, message
    refused(partial(c.value, **mine, accumulate=True), ValueError, "accumulate|out|return_grad")
    assert "out" in refused(partial(c.run, **mine, accumulate=True), ValueError, "accumulate|out")
    assert bits(*mine.values()) == before


# Buffers


def refuse_buffer(
    c: Call, position: int, wrong: Any, room: Any, given: Options, error: Kind = ValueError
) -> None:
    """Assert that one wrong buffer among good ones is refused, and neither these nor its `room` written."""
    fine, before = c.buffers(), memory(room)
    out = c.out(*(wrong if i == position else a for i, a in enumerate(fine)))
    refused(partial(c.run, out=out, **given), error, "out")
    assert memory(room) == before
    assert all((np.asarray(a, np.float64) == 55.0).all() for a in fine)


def memory(room: Any) -> bytes:
    return bytes(room) if isinstance(room, bytearray) else np.asarray(room).tobytes()


@over(IN_PLACE)
@each("name", BUFFERS)
def test_bad_out(row: Row, name: str) -> None:
    error, make = BUFFERS[name]
    c = good(row)
    several: list[Options] = [{}]
    if row.returns == "loss":
        several += [{"reduction": "none"}, {"accumulate": True}]
    for position, given in itertools.product(range(len(row.gradients)), several):
        wrong = make()
        refuse_buffer(c, position, wrong, wrong, given, error)


@over(WITH_OUT)
def test_bad_tuples_of_buffers(row: Row) -> None:
    c = good(row)
    a, b, *rest = (*c.buffers(), *c.buffers())
    if len(row.gradients) == 1:
        for out in ((a,), (a, None), [a], ()):
            refused(partial(c.run, out=out), EITHER, "out")
        return
    n = len(row.gradients)
    some = c.buffers()
    wrong = (a, (a,), (), (*c.out(*some), None), list(some), "out", 1, some[: n - 1], (a.tolist(), *some[1:]))
    for out in wrong:
        refused(partial(c.run, out=out), EITHER, "out")
    # Two gradients want two buffers.
    if np.shape(c[row.gradients[0]]) == np.shape(c[row.gradients[1]]):
        room = full_of_55(shape=(ROWS + 1, CLASSES))
        for out in ((a, a), (a, a[::-1]), (a, a[:, ::-1]), (a[:], a), (room[:-1], room[1:])):
            for accumulate in (False, True):
                given = (*out, *some[2:])
                refused(partial(c.run, out=given, accumulate=accumulate), ValueError, "out")
        # Each in the place of the other.
        mine = {k: np.array(c[k]) for k in row.gradients}
        refused(partial(c.run, **mine, out=tuple(mine.values())[::-1]), ValueError, "out")
        assert bits(*mine.values()) == bits(*(c[k] for k in row.gradients))
        # Neighbours in one array are no overlap.
        wide = np.stack([np.array(c[k]) for k in row.gradients])
        expected = c.run()
        result = c.run(**dict(zip(row.gradients, wide, strict=True)), out=tuple(wide))
        assert bits(result) == bits(expected)
    assert all((x == 55.0).all() for x in (a, b, *rest, *some))


@over(IN_PLACE)
@each("how", over_input(np.zeros((2 * ROWS, CLASSES))))
def test_out_that_overlaps_its_input(row: Row, how: str) -> None:
    """In part: nothing but exactly the same memory will do; nor any part of another argument."""
    c = good(row)
    several: list[Options] = [{}] if row.returns == "array" else [{}, {"accumulate": True}]
    several += [{"reduction": "none"}] if row.reductions else []
    for (position, _), name, given in itertools.product(
        enumerate(row.gradients), (k for k in row.floats if np.shape(c[k]) == c.shape), several
    ):
        room = np.full((2 * ROWS, CLASSES), 0.5, np.float32)
        x, wrong = over_input(room)[how]
        x[...] = c[name]
        refuse_buffer(c, position, wrong, room, {name: x, **given})


@over(IN_PLACE)
def test_out_that_is_the_transposed_input(row: Row) -> None:
    if row.name == "grpo_loss" or row.loss_axes == 2:
        return
    c = call(row, (4, 4), "float32")
    for position, name in enumerate(row.gradients):
        square = np.array(c[name])
        refuse_buffer(c, position, square.T, square, {name: square})


@over(IN_PLACE)
@each("dtype", DTYPES)
def test_out_that_overlaps_another_input(row: Row, dtype: str) -> None:
    """The other input lies in the first bytes of out, in its last ones, or is out."""
    if row.returns == "array":
        return
    c = good(row, dtype)
    kind = dtype_named(dtype)
    others: Options = {k: c[k] for k in row.arrays}
    others["grad_output"] = np.ones(c.loss_shape, kind)
    for name, shape in (
        ("weight", c.shape[-1:] if row.loss_axes else c.shape),
        ("sample_weight", c.shape[:-1]),
    ):
        if name in row.parameters:
            others[name] = np.ones(shape, kind)
    if "mask" in row.parameters:
        others["mask"] = np.ones(c.counts.shape if "target" not in row.arrays else c["target"].shape, np.int8)
    for (name, values), field, last in itertools.product(others.items(), row.gradients, (False, True)):
        if name == field or values.nbytes > c[field].nbytes:
            continue
        room = np.zeros(c[field].shape, kind)
        flat = room.reshape(-1).view(np.uint8)
        some = flat[-values.nbytes :] if last else flat[: values.nbytes]
        other = some.view(values.dtype).reshape(values.shape)
        other[...] = values
        position = row.gradients.index(field)
        plain = {"reduction": "none"} if row.reductions else {}
        wrong = (other, None) if name == "grad_output" and row.returns == "arrays" else other
        refuse_buffer(c, position, room, room, {name: wrong, **plain})
        if name != "grad_output" and row.reductions:
            refuse_buffer(c, position, room, room, {name: other, "reduction": "mean"})


@over(IN_PLACE)
def test_the_same_array_twice(row: Row) -> None:
    """In place where another argument is the same array: right, or refused."""
    c = good(row)
    twins = [k for k in row.floats[1:] if np.shape(c[k]) == c.shape]
    for other in twins:
        if row.checked({}).get(other) or other in ("lower", "upper"):
            continue
        x = np.array(c.first)
        before = x.tobytes()
        expected = c.run(**{row.first: x.copy(), other: x.copy()})
        out = c.out(*(x if k == row.first else a for k, a in zip(row.gradients, c.buffers(), strict=True)))
        try:
            result = c.run(**{row.first: x, other: x}, out=out)
        except ValueError as error:
            assert "out" in str(error)
            assert x.tobytes() == before
        else:
            assert bits(result) == bits(expected)


# Outside of the domain

CHECKED = [row for row in ALL_ROWS if any(map(row.checked, row.sets))]


@on_one_isa
@over_dtypes
@over(CHECKED)
def test_values_outside_of_the_domain(row: Row, dtype: str) -> None:
    """The first of them is in the message, and what it is; unchecked, the others are what they were."""
    for number, options in enumerate(row.sets):
        for name, values in row.checked(options).items():
            for value in values:
                c = good(row, dtype, number)
                wrong = np.array(c[name])
                first, second = (2, 3)[: wrong.ndim], (3, 1)[: wrong.ndim]
                wrong[first] = wrong[second] = wrong.dtype.type(value)
                # (Of the input itself the first is that in memory.)
                layouts = [wrong, every_second(wrong)]
                layouts += [np.asfortranarray(wrong)] if name != row.first else []
                for given in layouts if value == values[0] else layouts[:1]:
                    message = refused_and_unwritten(c, ValueError, name, **{name: given})
                    assert re.search(rf"\b{', '.join(map(str, first))}\b", message), message
                    if name == "target":
                        assert value == 0.0 or str(value).rstrip("0").rstrip(".") in message, message
                if takes_scalars(row, name):
                    refused_and_unwritten(c, ValueError, name, **{name: value})
                unreduced = call(row, (ROWS, CLASSES), dtype, "none", number)
                expected = unreduced.run()
                loss, derivatives = unreduced.run(**{name: wrong}, check_domain=False)
                keep = wrong == c[name]
                rows = keep if keep.shape == c.loss_shape else keep.all(axis=-1)
                assert bits(loss[rows]) == bits(expected[0][rows])
                assert bits([a[keep] for a in derivatives]) == bits([a[keep] for a in expected[1]])


@on_one_isa
@over(CHECKED)
def test_nan_is_inside_of_the_domain(row: Row) -> None:
    for name in row.checked({}) or {"target": ()}:
        wrong = np.array(good(row)[name])
        wrong[...] = NAN
        c = call(row, (ROWS, CLASSES), "float32", "none").with_(**{name: wrong})
        assert np.isnan(c.value()).all()
        loss, derivatives = c.run()
        assert np.isnan(loss).all() and all(np.isnan(a).all() for a in derivatives)


@on_one_isa
@over([row for row in CHECKED if "target" in row.checked({}) and row.info])
def test_first_bad_target_of_many(row: Row) -> None:
    """Far into the array, where several threads look at once: still the first."""
    value = row.checked({})["target"][0]
    x = np.full((300, 500, 3), 0.5, np.float32)
    target = np.full_like(x, row.info.good_target)
    target[123, 45, 2] = value
    target[200:] = value
    others = {name: np.ones_like(x) for name in row.arrays[2:]}
    c = Call(row, "float32", "mean", {row.first: x, "target": target, **others})
    out = (x, *(None for _ in row.gradients[1:])) if row.gradients[1:] else x
    for threads in (1, 2, 5):
        message = refused(partial(c.run, out=out, num_threads=threads), ValueError, "target")
        assert "123, 45, 2" in message
    assert (x == 0.5).all()
