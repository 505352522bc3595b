"""The losses of pairs, triples and label sets: what the tests of the registry do not ask."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import INF, NAN, bits, on_every_isa, refused
from levels import streaming_from

import fastloss
from fastloss import reference

# multilabel_margin_loss


@pytest.mark.parametrize(
    ("target", "dtype", "position"),
    [
        ([[3, -1, 9], [0, 1, 2]], "int64", "0, 0"),
        ([[0, -1, 9], [1, 3, -1]], "int32", "1, 1"),
        ([[0, 1, 2], [-2, -1, 0]], "int8", "1, 0"),
        ([[0, 1, 2], [0, 255, 2]], "uint8", "1, 1"),
        ([[2**64 - 1, 0, 0], [0, 1, 2]], "uint64", "0, 0"),
    ],
)
def test_a_bad_label_is_named_before_anything_is_written(target: Any, dtype: str, position: str) -> None:
    x = np.zeros((2, 3), np.float32)
    call = partial(fastloss.multilabel_margin_loss, x, np.array(target, dtype), return_grad=True, out=x)
    assert f"[{position}]" in refused(call, IndexError, "target")
    assert not x.any()


@pytest.mark.parametrize(
    ("target", "error"),
    [
        *((target, TypeError) for target in (np.zeros((2, 3)), np.zeros((2, 3), bool), [["a"] * 3] * 2)),
        *((np.zeros(shape, int), ValueError) for shape in ((2,), (2, 4), (3, 3), (1, 2, 3), ())),
    ],
)
def test_there_is_an_integer_for_each_class(target: Any, error: type[Exception]) -> None:
    refused(partial(fastloss.multilabel_margin_loss, np.zeros((2, 3)), target), error, "target")


@on_every_isa
def test_labels_by_hand() -> None:
    x = np.array([[0.5, 0.25, 2.0], [0.0, 0.0, 0.0], [NAN, 1.0, 2.0], [INF, 0.0, 0.0]])
    target = np.array([[0, 0, -1], [-1, 7, 7], [0, -1, 0], [0, -1, -1]])
    loss, grad = fastloss.multilabel_margin_loss(x, target, reduction="none", return_grad=True)
    # Label 0 counts twice: 1 - 0.5 + 0.25 and 1 - 0.5 + 2.
    assert loss[:2].tolist() == [2 * (0.75 + 2.5) / 3, 0.0] and math.isnan(loss[2]) and loss[3] == 0.0
    assert grad[0].tolist() == [-4 / 3, 2 / 3, 2 / 3]
    assert not grad[1].any() and np.isnan(grad[2]).all() and not grad[3].any()


# Vectors


@on_every_isa
@pytest.mark.parametrize("name", ["cosine_embedding_loss", "triplet_margin_loss", "margin_ranking_loss"])
def test_gradients_past_the_caches_have_the_same_bits(name: str) -> None:
    """For widths that fill no line, of every type, also where only some gradients are wanted."""
    rng = np.random.default_rng(0)
    for width, dtype in ((7, "f4"), (300, "f8"), (37, "f2")):
        vectors = [rng.standard_normal((50, width)).astype(dtype) for _ in range(3)]
        if name == "cosine_embedding_loss":
            vectors[2] = rng.choice([-1.0, 1.0], 50).astype(dtype)
        if name == "margin_ranking_loss":
            vectors[2] = np.where(vectors[2] < 0, -1, 1).astype(dtype)
        run = partial(getattr(fastloss, name), *vectors, return_grad=True)
        _, plain = run()
        with streaming_from(1):
            _, streamed = run()
            _, some = run(out=(None, *(np.empty_like(vectors[0]) for _ in plain[1:])))
        assert bits(streamed) == bits(plain)
        assert bits(some) == bits(plain[1:])


@on_every_isa
@pytest.mark.parametrize("p", [1, 2, 3.0, 1.5, 0.5, INF])
def test_distances_of_0_and_ties_have_torchs_gradients(p: float) -> None:
    torch = pytest.importorskip("torch")
    a, b = np.zeros((3, 4)), np.zeros((3, 4))
    n = np.array([[1.0] * 4, [0.0] * 4, [1.0, -1.0, 0.0, 1.0]])
    for eps, swap in ((0.0, False), (0.0, True), (0.5, True)):
        tensors = [torch.tensor(v, requires_grad=True) for v in (a, b, n)]
        theirs = torch.nn.functional.triplet_margin_loss(*tensors, p=float(p), eps=eps, swap=swap)
        theirs.backward()
        loss, grads = fastloss.triplet_margin_loss(a, b, n, p=p, eps=eps, swap=swap, return_grad=True)
        assert loss == pytest.approx(theirs.item(), rel=1e-13)
        for mine, tensor in zip(grads, tensors, strict=True):
            assert mine == pytest.approx(tensor.grad.numpy(), rel=1e-13, abs=1e-15)


@on_every_isa
def test_cosines_of_no_length_and_of_opposite_vectors() -> None:
    x = np.array([[0.0, 0.0], [3.0, 4.0], [1e-9, 0.0]], np.float32)
    for target, expected in ((1, [1.0, 2.0, 1.0 + 1e-6]), (-1, [0.0, 0.0, 0.0])):
        loss = fastloss.cosine_embedding_loss(x, -x, target, reduction="none")
        assert loss == pytest.approx(expected, rel=1e-6)
    # Where nothing is checked, another target has no loss.
    given: Any = {"reduction": "none", "return_grad": True, "check_domain": False}
    loss, grads = fastloss.cosine_embedding_loss(x, x, [0, 2, NAN], **given)
    assert not loss[:2].any() and math.isnan(loss[2])
    assert not grads.input1[:2].any() and np.isnan(grads.input2[2]).all()


@on_every_isa
def test_far_numbers_of_float32_neither_overflow_nor_vanish() -> None:
    rng = np.random.default_rng(0)
    for scale in (1e-30, 1e30):
        x, y, z = (np.float32(scale) * rng.standard_normal((5, 9), np.float32) for _ in range(3))
        wide = [v.astype(np.float64) for v in (x, y, z)]
        for p in (1, 2, 3, INF):
            loss, grads = fastloss.triplet_margin_loss(x, y, z, p=p, eps=0.0, return_grad=True)
            exact, slopes = reference.triplet_margin_loss(*wide, p=p, eps=0.0, return_grad=True)
            assert loss == pytest.approx(exact, rel=1e-12)
            for mine, right in zip(grads, slopes, strict=True):
                assert mine == pytest.approx(right, rel=1e-6, abs=1e-9)
    t = np.array([1.0, -1.0, 1.0, -1.0, 1.0])
    exact = reference.cosine_embedding_loss(*wide[:2], t)
    assert fastloss.cosine_embedding_loss(x, y, t) == pytest.approx(exact, rel=1e-12)


def test_a_power_that_is_near_a_kind_of_norm_is_near_its_answer() -> None:
    rng = np.random.default_rng(0)
    a, b, n = rng.standard_normal((3, 6, 11))
    for p, near in ((1, 1 + 1e-9), (2, 2 + 1e-9), (INF, 1e9)):
        losses = [fastloss.triplet_margin_loss(a, b, n, p=q, reduction="none") for q in (p, near)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-7)
