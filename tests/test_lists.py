"""Of the losses of lists alone: groups, orders, ties, and LightGBM's own lambdarank."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import test_contract as contract
import test_contract_errors as errors
import test_contract_memory as memory
from helpers import INF, NAN, Array, bits, on_every_isa, on_one_isa, over_dtypes, refused
from registry import Row, call, over, upstreams, with_all
from rows.lists import ROWS, sizes_of

import fastloss
from fastloss import reference

over_rows = over(ROWS)


def lambda_rank(*arguments: Any, module: Any = fastloss, **options: Any) -> Any:
    """Losses, gradient and second derivative."""
    given = {"reduction": "none", "return_grad": True, "return_hessian": True, **options}
    return module.lambda_rank_loss(*arguments, **given)


@over_dtypes
@over_rows
def test_as_the_reference(row: Row, dtype: str) -> None:
    for reduction in row.reductions:
        for shape in row.shapes[:2]:
            for options in range(len(row.sets)):
                c = call(row, shape, dtype, reduction, options, (), upstreams(row, reduction)[-1])
                c.check_on_every_isa()
    for shape in ((1,), (2,), row.shapes[2]):
        call(row, shape, dtype).check_on_every_isa()
        with_all(row, shape, dtype).check_on_every_isa()


@on_every_isa
def test_any_length_of_a_list() -> None:
    """Orders of one run and of several, with ties: the reference has its own sort."""
    rng = np.random.default_rng(0)
    for documents in (*range(1, 20), 127, 128, 129, 256, 257, 400):
        for spread in (0.5, 50.0):
            x, y = np.round(spread * rng.standard_normal(documents)), rng.integers(0, 5, documents)
            found, exact = (
                lambda_rank(x, y, truncation_level=2, module=module) for module in (fastloss, reference)
            )
            for one, other in zip(found, exact, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)


def test_by_hand() -> None:
    """Two documents in the wrong order; list_net of two classes."""
    x, y = np.array([1.0, 3.0]), [1, 0]
    w = (1 - 1 / math.log2(3)) / (0.01 + 2.0)
    q = 1 / (1 + math.exp(-2.0))
    factor = math.log2(1 + 2 * w * q) / (2 * w * q)
    loss, grad, hessian = lambda_rank(x, y)
    assert loss[0] == pytest.approx(factor * w * math.log1p(math.exp(2.0)), rel=1e-13)
    np.testing.assert_allclose(grad, [-factor * w * q, factor * w * q], rtol=1e-13)
    np.testing.assert_allclose(hessian, factor * w * q * (1 - q), rtol=1e-13)
    loss = fastloss.list_net_loss(x, y)
    t = 1 / (1 + math.exp(-1.0))
    assert loss == pytest.approx(math.log1p(math.exp(-2.0)) + 2.0 * t, rel=1e-14)


@over_rows
def test_groups_do_not_see_each_other(row: Row) -> None:
    c = with_all(row, (300,), "float64")
    options = {k: v for k, v in c.options.items() if k != "grad_output"}
    losses, derivatives = c.with_(grad_output=None).run()
    start = 0
    for group, size in enumerate(sizes_of(300)):
        documents = slice(start, start + size)
        start += size
        if size:
            given = {"reduction": "none", "return_grad": True, **options}
            given |= {"return_hessian": True} if row.hessian else {}
            x, y = c["scores"][documents], c["relevance"][documents]
            loss, *found = getattr(fastloss, row.name)(x, y, **given)
            assert bits(loss) == bits(losses[group : group + 1])
            assert bits(found) == bits([a[documents] for a in derivatives])
        else:
            assert losses[group] == 0.0


def test_difference_quotients() -> None:
    """Of list_net; those of lambda_rank hold the weights, which a single pair not normalised does."""
    rng = np.random.default_rng(0)
    x, y, h = rng.standard_normal(9), rng.integers(0, 4, 9), 1e-6
    _, grad = fastloss.list_net_loss(x, y, [4, 5], return_grad=True)
    for i, step in enumerate(h * np.eye(9)):
        up, down = (fastloss.list_net_loss(x + s, y, [4, 5]) for s in (step, -step))
        assert (up - down) / (2 * h) == pytest.approx(grad[i], abs=1e-9)
    x, y = np.array([0.3, 0.1, 0.7, 0.2]), [2, 0, 0, 3]
    _, grad, hessian = lambda_rank(x, y, [2, 2], normalize=False, sigmoid=1.5, reduction="sum")
    for i, step in enumerate(h * np.eye(4)):
        up, down = (lambda_rank(x + s, y, [2, 2], normalize=False, sigmoid=1.5) for s in (step, -step))
        assert (up[0].sum() - down[0].sum()) / (2 * h) == pytest.approx(grad[i], abs=1e-9)
        assert (up[1] - down[1])[i] / (2 * h) == pytest.approx(hessian[i], abs=1e-9)


@over_rows
def test_reductions(row: Row) -> None:
    function = getattr(fastloss, row.name)
    x, y, sizes = np.array([1.0, 2.0, 0.0]), [1, 0, 1], [0, 2, 0, 1]
    losses = function(x, y, sizes, reduction="none")
    assert losses.shape == (4,) and losses[[0, 2]].tolist() == [0.0, 0.0]
    assert function(x, y, sizes) == pytest.approx(losses.sum() / 4)
    assert function(x, y, sizes, reduction="sum_and_count") == (pytest.approx(losses.sum()), 4.0)
    assert function(x, y, reduction="none").shape == (1,)
    for sizes in ([], None, np.zeros(0, np.int32)):
        assert math.isnan(function([], [], sizes))
        assert function([], [], sizes, reduction="sum_and_count") == (0.0, 0.0)
    assert function([], [], [0, 0]) == 0.0


@on_every_isa
def test_values_that_are_none() -> None:
    sizes = [3, 3]
    for row in ROWS:
        function = partial(getattr(fastloss, row.name), reduction="none", return_grad=True)
        losses, grad = function(np.array([1.0, NAN, 2.0, 3.0, 2.0, 0.0]), [0, 1, 2, 1, 0, 2], sizes)
        assert np.isnan(losses).tolist() == [True, False]
        assert np.isnan(grad).tolist() == [True] * 3 + [False] * 3
    # Masked documents.
    x, y = np.array([1.0, -INF, 2.0, 0.0]), np.array([1.0, 0.0, 0.0, 2.0])
    rest = [0, 2, 3]
    _, grad, hessian = lambda_rank(x, y)
    assert grad[1] == hessian[1] == 0.0 and grad[rest].all()
    loss, grad = fastloss.list_net_loss(x, y, return_grad=True)
    assert loss == INF and grad[1] == 0.0 and np.isfinite(grad).all()
    y[1] = -INF
    assert fastloss.list_net_loss(x, y) == fastloss.list_net_loss(x[rest], y[rest])
    for scores in ([-INF, -INF], [INF, 0.0], [NAN, NAN]):
        loss, grad = fastloss.list_net_loss(scores, [0, 1], return_grad=True)
        assert math.isnan(loss) and np.isnan(grad).all()
    # An infinite distance has no weight, and nobody takes part at -inf.
    for scores in ([INF, 0.0], [INF, INF], [-INF, -INF], [0.0, -INF]):
        found = lambda_rank(np.array(scores), [0, 1])
        assert all(np.isfinite(a).all() for a in found)
    assert not any(a.any() for a in lambda_rank([1.0, 2.0], [0, 0]))


def test_confident_lists_keep_their_digits() -> None:
    loss = fastloss.list_net_loss([40.0, 0.0, 1.0], [0.0, -INF, -INF])
    assert loss == pytest.approx(math.exp(-40.0) + math.exp(-39.0), rel=1e-14, abs=0.0)


# Memory, types, threads


# What the registry's tests ask of all losses.
PROMISES = (
    errors.test_gradient_arguments_without_gradient,
    memory.test_strides,
    memory.test_buffers,
    memory.test_accumulate,
)


@on_one_isa
@over_rows
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_promises_of_all_losses(promise: Any, row: Row) -> None:
    promise(row=row)


@on_one_isa
@over_dtypes
@over_rows
def test_any_number_of_threads(row: Row, dtype: str) -> None:
    contract.test_any_number_of_threads_of_every_type(row=row, dtype=dtype)


@over_rows
def test_types(row: Row) -> None:
    """Of labels and sizes every type with the same numbers."""
    c = call(row, (41,), "float64")
    x, y, sizes = (c[name] for name in row.arrays)
    function = partial(getattr(fastloss, row.name), return_grad=True)
    expected = bits(function(x, y, sizes))
    for kind in ("i1", "u2", ">i4", "i8", "u8", "f2", "f4", ">f8"):
        assert bits(function(x, y.astype(kind), sizes)) == expected
    for kind in ("i1", "u2", ">i4", "u8"):
        assert bits(function(x.tolist(), y.tolist(), sizes.astype(kind))) == expected


# LightGBM


def of_lightgbm(x: Array, y: Array, sizes: list[int], k: int, **parameters: Any) -> tuple[float, float]:
    """The derivatives of document k: a tree of two leaves, one of which has it alone, not regularised."""
    lightgbm = pytest.importorskip("lightgbm")
    given = {
        "objective": "lambdarank", "num_leaves": 2, "min_data_in_leaf": 1, "min_sum_hessian_in_leaf": 0.0,
        "min_data_in_bin": 1, "learning_rate": 1.0, "verbose": -1, "num_threads": 1, **parameters,
    }  # fmt: skip
    only = (np.arange(len(x)) == k).astype(float)[:, np.newaxis]
    data = lightgbm.Dataset(only, y, group=sizes, init_score=x, params=given)
    tree = lightgbm.train(given, data, 1).dump_model()["tree_info"][0]["tree_structure"]
    leaf = tree.get("right_child", {"leaf_value": NAN, "leaf_weight": NAN})
    return -leaf["leaf_value"] * leaf["leaf_weight"], leaf["leaf_weight"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"normalize": False}, {"lambdarank_norm": False}),
        ({"sigmoid": 2.0, "truncation_level": 3}, {"sigmoid": 2.0, "lambdarank_truncation_level": 3}),
        ({"label_gain": [0, 1, 2, 5, 9]}, {"label_gain": [0, 1, 2, 5, 9]}),
    ],
)
def test_as_lightgbm(ours: Any, theirs: Any) -> None:
    """Its table of the sigmoid has errors of 1.2e-5. A document whose gain is not positive has no leaf."""
    rng = np.random.default_rng(1)
    sizes = [12, 1, 7]
    x, y = rng.standard_normal(20).round(1), rng.integers(0, 5, 20)
    _, grad, hessian = lambda_rank(x, y, sizes, **ours)
    found = np.array([of_lightgbm(x, y, sizes, k, **theirs) for k in range(20)])
    has_leaf = ~np.isnan(found[:, 0])
    assert has_leaf.sum() > 8
    for mine, right in ((grad, found[:, 0]), (hessian, found[:, 1])):
        np.testing.assert_allclose(mine[has_leaf], right[has_leaf], rtol=0, atol=4e-5 * np.abs(mine).max())


# Errors


@pytest.mark.parametrize(
    ("row", "bad"),
    [(row, bad) for row in ROWS for bad in row.bad],
    ids=lambda one: getattr(one, "argument", str(one)),
)
def test_bad_arguments(row: Row, bad: Any) -> None:
    errors.refused_and_unwritten(call(row, (6,), "float32"), bad.error, bad.argument, **bad.given)


def test_messages() -> None:
    x, y = np.zeros(6, np.float32), np.array([0, 1, 2, 3, 4, 31])
    for function in (fastloss.list_net_loss, fastloss.lambda_rank_loss):
        message = refused(partial(function, x, np.zeros(6), [2, 3]), ValueError, "group_sizes")
        assert "6" in message and "5" in message
        message = refused(partial(function, x, np.zeros(6), [2, -3, 7]), ValueError, "group_sizes")
        assert "group_sizes[1] is -3" in message
    message = refused(partial(fastloss.lambda_rank_loss, x, y), ValueError, "relevance")
    assert "relevance[5] is 31" in message and "31, the number of gains" in message
    y[3] = -2
    assert "relevance[3] is -2" in refused(partial(fastloss.lambda_rank_loss, x, y), ValueError, "relevance")
    message = refused(partial(lambda_rank, x, x, label_gain=[0, 3, 2]), ValueError, "label_gain")
    assert "label_gain[2] is 2" in message
