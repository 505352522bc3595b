"""Of the divergences of two linear layers alone: chunks, entropies, hard targets, masked classes, types."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from helpers import DTYPES, INF, NAN, Array, assert_within, bits, dtype_named, on_every_isa, over_dtypes
from registry import Call, Row, call, over, with_all
from rows.linear_divergences import JS, KL, OF_LOGITS, ROWS, TV

import fastloss
from fastloss import reference
from fastloss._engine import workspace

over_rows = over(ROWS)
over_names = over([KL, JS, TV])


def logits(c: Call, side: str) -> Array:
    x, w, b = (np.asarray(c[f"{side}_{name}"], np.float64) for name in ("input", "weight", "bias"))
    return np.asarray(x @ w.T + b)


@on_every_isa
@over_names
def test_as_the_functions_of_logits(row: Row) -> None:
    c = call(row, (3, 4, 90), "float64", "mean", 1)
    x, t = logits(c, "student"), logits(c, "teacher")
    of_logits = getattr(fastloss, OF_LOGITS[row.name])
    loss, grad = of_logits(x, t, return_grad=True, **c.options)
    found, gradients = c.run()
    assert found == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(gradients[0], grad @ c["student_weight"], rtol=0, atol=1e-14)
    np.testing.assert_allclose(gradients[2], grad.sum(axis=(0, 1)), rtol=0, atol=1e-14)


@pytest.mark.parametrize("memory_budget", [1, 4000, 200_000, 2**40])
@over_dtypes
@over_rows
def test_memory_budget(row: Row, dtype: str, memory_budget: int) -> None:
    for c in (call(row, (30, 700), dtype), with_all(row, (30, 700), dtype)):
        c.check(memory_budget=memory_budget)


def test_memory_is_that_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside inputs and gradients, the logits of both models and little more."""
    monkeypatch.setattr(workspace, "_can_keep", False)  # what is kept is not traced
    x, w = np.ones((2000, 4), np.float32), np.ones((20_000, 4), np.float32)
    out = np.empty_like(x), np.empty_like(w), None
    for budget in (2**22, 2**25):
        tracemalloc.start()
        fastloss.linear_kl_div(x, w, x, w, return_grad=True, out=out, memory_budget=budget)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert 0.7 * budget < most < 1.1 * budget + 2**20


@on_every_isa
@over_rows
def test_entropy(row: Row) -> None:
    """That of the student at the same temperature, with its softcap and scale; 0 outside the mask."""
    for dtype in DTYPES:
        for c in (call(row, (4, 3, 12), dtype), with_all(row, (2, 3, 70), dtype)):
            without_upstream = {name: value for name, value in c.options.items() if name != "grad_output"}
            given = {**row.fixed, **without_upstream, "return_entropy": True}
            *_, found = c._call(fastloss, dict(given))
            with np.errstate(all="ignore"):
                *_, exact = c._call(reference, dict(given))
            kind, near = ("float64", 1e-13) if dtype == "float64" else ("float32", 4e-6)
            assert (found.shape, found.dtype) == (c.loss_shape, kind)
            assert_within(found, exact, near, c.title)
            loss, gradients, again = c._call(fastloss, {**given, **c.options, "return_grad": True})
            assert bits(again) == bits(found) and bits(gradients) == bits(c.run()[1])
            assert bits(loss) == bits(c.run()[0])


@on_every_isa
@over_names
def test_masked_classes_and_nan(row: Row) -> None:
    """A bias of -inf takes a class out of a vocabulary, with a softcap, too; a NaN is that of its token."""
    for vocabulary, number in ((6, 0), (70, 0), (70, 4)):
        c = call(row, (5, vocabulary), "float64", "none", number)
        biases = {name: np.array(c[name]) for name in ("student_bias", "teacher_bias")}
        for bias in biases.values():
            bias[[1, 3]] = -INF
        masked = c.with_(**biases)
        masked.check()
        assert not masked.run()[1][2][[1, 3]].any()
        biases["teacher_bias"][1] = 0.5  # only the student excludes it
        loss = c.with_(**biases).value()
        assert (np.isinf(loss) if row is KL else np.isfinite(loss)).all()
        for name in ("student_input", "teacher_input"):
            x = np.array(c[name])
            x[2, 1] = NAN
            loss, gradients = c.with_(**{name: x}).run()
            assert np.isnan(loss).tolist() == [False, False, True, False, False]
            assert np.isnan(gradients[0]).all(axis=1).tolist() == np.isnan(loss).tolist()


def test_a_teacher_of_another_type() -> None:
    """Its three arrays have one type, and are converted to that of the computation."""
    c = call(KL, (4, 3, 12), "float32", "none")
    teacher = ("teacher_input", "teacher_weight", "teacher_bias")
    for student in DTYPES:
        mine = {name: np.asarray(c[name]).astype(dtype_named(student)) for name in KL.gradients}
        for dtype in DTYPES:
            other = {name: np.asarray(c[name]).astype(dtype_named(dtype)) for name in teacher}
            loss, gradients = fastloss.linear_kl_div(**mine, **other, reduction="none", return_grad=True)
            wide = {k: np.asarray(a, np.float64) for k, a in {**mine, **other}.items()}
            exact = reference.linear_kl_div(**wide, reduction="none")
            kind, near = ("float64", 1e-13) if student == "float64" else ("float32", 2e-6)
            assert (loss.dtype, gradients[1].dtype) == (kind, dtype_named(student))
            assert_within(loss, exact, near, f"{student} {dtype}")
    for side in ("teacher", "student"):
        wide = {f"{side}_input": np.asarray(c[f"{side}_input"], np.float64)}
        with pytest.raises(TypeError, match=f"{side}_weight must be float64 like {side}_input, got float32"):
            fastloss.linear_kl_div(**{**c.arguments, **wide})
    less: Any = {"teacher_weight": np.ones((11, 5), "f4"), "teacher_bias": None}
    says = "teacher_weight must have a row for each class of student_weight, 12"
    with pytest.raises(ValueError, match=says):
        fastloss.linear_kl_div(**{**c.arguments, **less})


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_hard_targets(share: float) -> None:
    """(1 - share) divergence + share cross-entropy, each with a mean of its own."""
    c = call(JS, (4, 3, 12), "float64", "mean", 4)
    target = np.arange(12).reshape(4, 3)
    target[1] = -100
    mask = np.ones((4, 3), bool)
    mask[0, 0] = mask[1, 2] = False
    of_hard = {name: c.options[f"student_{name}"] for name in ("softcap", "logit_scale")}
    for reduction in ("mean", "sum"):
        one = c.with_(reduction=reduction, mask=mask)
        hard, of_student = fastloss.linear_cross_entropy(
            c["student_input"], c["student_weight"], np.where(mask, target, -100), return_grad=True,
            linear_bias=c["student_bias"], reduction=reduction, **of_hard,
        )  # fmt: skip
        divergence, gradients = one.run()
        loss, found = one.run(hard_target=target, hard_share=share)
        assert loss == pytest.approx((1 - share) * divergence + share * hard, rel=1e-13)
        for a, b, both in zip(gradients, of_student, found, strict=True):
            np.testing.assert_allclose(both, (1 - share) * a + share * b, rtol=1e-12, atol=1e-15)


def test_hard_targets_of_which_none_counts() -> None:
    """Without a mask the mean of the cross-entropy is NaN, as everywhere; under a mask it is 0."""
    c = call(KL, (4, 3, 12), "float64")
    given: dict[str, Any] = {"hard_target": np.full((4, 3), -100), "hard_share": 0.25}
    loss, gradients = c.run(**given)
    assert math.isnan(loss)
    for mine, plain in zip(gradients, c.run()[1], strict=True):
        np.testing.assert_allclose(mine, 0.75 * plain, rtol=1e-13, atol=1e-16)
    masked = c.with_(mask=np.ones((4, 3)))
    assert masked.value(**given) == pytest.approx(0.75 * masked.value(), rel=1e-14)
    assert masked.value(module=reference, **given) == pytest.approx(0.75 * masked.value(), rel=1e-12)
    nothing = c.with_(mask=np.zeros((4, 3)))
    assert nothing.value(**given) == 0.0 and not any(g.any() for g in nothing.run(**given)[1])


def test_an_infinite_divergence_without_a_share_does_not_count() -> None:
    bias = np.array([0.0, -INF, 0.0])
    x, w = np.ones((1, 2)), np.ones((3, 2))
    given: dict[str, Any] = {"student_bias": bias, "hard_target": [0]}
    assert fastloss.linear_kl_div(x, w, x, w, hard_share=1.0, **given) == pytest.approx(math.log(2.0))
    assert fastloss.linear_kl_div(x, w, x, w, hard_share=0.5, **given) == INF


@over_rows
def test_any_number_of_threads(row: Row) -> None:
    for shape in ((40, 3000), (2, 70_000)):
        c = with_all(row, shape)
        one, three = (bits(c.run(num_threads=n)) for n in (1, 3))
        assert one == three, c.title
