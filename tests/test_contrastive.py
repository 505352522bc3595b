"""Of the contrastive losses alone: derivatives of numbers, chunks, lengths, confident pairs, buffers."""

import itertools
import math
import tracemalloc
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import EITHER, INF, NAN, Array, assert_within, bits, on_every_isa, over_dtypes, refused
from registry import Call, Row, call, upstreams, with_all
from rows.contrastive import FIELDS, INFO_NCE, OF_TARGETS, ROWS, SIGLIP, SYMMETRIC

import fastloss
from fastloss import reference
from fastloss._engine import workspace

over_rows = pytest.mark.parametrize("row", ROWS, ids=str)


def numbers(c: Call, module: Any = fastloss, **more: Any) -> dict[str, float]:
    """The derivatives that are numbers."""
    _, grads = c._call(module, {**c.row.fixed, **c.options, "return_grad": True, **more})
    found = {name: getattr(grads, name) for name in c.row.numbers}
    assert all(type(value) is float for value in found.values())
    return found


# Derivatives with respect to options


@on_every_isa
@over_dtypes
@over_rows
def test_derivatives_of_numbers(row: Row, dtype: str) -> None:
    """Sums over all pairs: off by as much as their terms."""
    relative = 1e-13 if dtype == "float64" else 3e-6
    for reduction in row.reductions:
        for number in range(len(row.sets)):
            kind = upstreams(row, reduction)[-1]
            c = call(row, row.shapes[1], dtype, reduction, number, (), kind)
            exact = numbers(c, reference)
            for found in (numbers(c), numbers(c, memory_budget=1000)):
                for name in row.numbers:
                    size = max(abs(exact[name]), 0.1 * abs(float(np.sum(np.abs(c.expected[0])))))
                    rate = 1.0 / c.get("temperature", 0.05) if name == "temperature" else 1.0
                    assert abs(found[name] - exact[name]) <= relative * rate * size, (c.title, name)


@over_rows
def test_central_differences_of_numbers(row: Row) -> None:
    for number in range(len(row.sets)):
        c = call(row, (5, 7), "float64", "sum", number)
        for name, found in numbers(c).items():
            value, step = c.get(name, 0.05), 2.0**-13
            near = [c.value(**{name: value + k * step}) for k in (-2, -1, 1, 2)]
            quotient = (near[0] - 8.0 * near[1] + 8.0 * near[2] - near[3]) / (12.0 * step)
            assert found == pytest.approx(quotient, rel=1e-5, abs=1e-8), (c.title, name)


@over_rows
def test_numbers_whatever_else_is_wanted(row: Row) -> None:
    c = with_all(row, row.shapes[1], "float64")
    expected = numbers(c)
    for wanted in ((True, False), (False, True), (False, False)):
        some = [a if is_wanted else None for a, is_wanted in zip(c.buffers(), wanted, strict=True)]
        assert numbers(c, out=c.out(*some)) == pytest.approx(expected, rel=1e-12)


# Chunks


@over_dtypes
@over_rows
def test_memory_budget(row: Row, dtype: str) -> None:
    for shape in ((7, 12), (65, 70)):
        for budget in (1, 3000, 20_000, 2**40):
            with_all(row, shape, dtype).check(memory_budget=budget)
            call(row, shape, dtype).check(memory_budget=budget, num_threads=2)


@over_rows
def test_any_number_of_threads_in_chunks(row: Row) -> None:
    c = with_all(row, (300, 1300))
    one, *others = (c.bits(num_threads=n, memory_budget=2**19) for n in (1, 2, 3))
    assert all(other == one for other in others)


@over_rows
def test_memory_is_that_of_a_chunk(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside inputs and gradients the similarities of a chunk, the keys and little more."""
    monkeypatch.setattr(workspace, "_can_keep", False)  # what is kept is not traced
    c = call(row, (2000, 2000), "float32")
    buffers = c.out(*c.buffers())
    c.run(out=buffers, memory_budget=2**20)
    tracemalloc.start()
    try:
        c.run(out=buffers, memory_budget=2**21)
        assert 0.7 * 2**21 < tracemalloc.get_traced_memory()[1] < 2**21 + 3 * c["key"].nbytes + 2**20
    finally:
        tracemalloc.stop()


# Lengths


def vectors(*lengths: float) -> Array:
    return np.outer(lengths, [0.6, 0.8, 0.0])


@pytest.mark.parametrize("symmetric", [False, True])
def test_lengths_are_those_of_torch(symmetric: bool) -> None:
    """Vectors of length 0, near 1e-12, and huge ones."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    q = vectors(0.0, 1e-13, 1e-11, 1.0, 1e120) + np.pad(rng.standard_normal((1, 3)), ((3, 1), (0, 0)))
    k = rng.standard_normal((5, 3))
    k[1] = 0.0
    loss, grads = fastloss.info_nce_loss(q, k, symmetric=symmetric, temperature=0.5, return_grad=True)
    x, y = (torch.tensor(a, requires_grad=True) for a in (q, k))
    z = torch.nn.functional.normalize(x, dim=1) @ torch.nn.functional.normalize(y, dim=1).T / 0.5
    index = torch.arange(5)
    expected = torch.nn.functional.cross_entropy(z, index)
    if symmetric:
        expected = (expected + torch.nn.functional.cross_entropy(z.T, index)) / 2
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-14)
    for found, leaf in zip(grads[:2], (x, y), strict=True):
        for row, right in zip(found, leaf.grad.numpy(), strict=True):
            assert_within(row, right, 1e-9 * np.abs(right).max(), "row")


def test_any_length_of_float32() -> None:
    """Squares leave the range of float32, products of units do not."""
    c = call(INFO_NCE, (4, 12), "float32")
    expected, (of_query, of_key) = c.run()
    for factor in (1e-10, 1e30):
        x = {name: c[name] * np.float32(factor) for name in FIELDS}
        found, grads = c.run(**x)
        assert found == pytest.approx(expected, rel=1e-6)
        for grad, one in zip(grads, (of_query, of_key), strict=True):
            assert_within(grad * np.float64(factor), one, 1e-5 * np.abs(one).max(), str(factor))


@on_every_isa
@over_dtypes
def test_confident_pairs_keep_their_digits(dtype: str) -> None:
    """Of both directions: a loss is the sum of the other probabilities, not 1 minus something."""
    q = np.eye(4).astype("float32" if dtype == "bfloat16" else dtype)
    for rate in (8.0, 30.0, 60.0):
        for options in ({"symmetric": True}, {}):
            given: Any = {"temperature": 1.0 / rate, "normalize": False, "reduction": "none", **options}
            loss, grads = fastloss.info_nce_loss(q, q, **given, return_grad=True)
            rest = 3.0 * math.exp(-rate)
            exact = math.log1p(rest)
            assert_within(loss, np.full(4, exact), 4e-7 * exact, f"{rate} {options}")
            slope, digits = rate * rest / (1.0 + rest), 1e-6 if dtype == "float32" else 1e-3
            found = -np.diag(np.asarray(grads.query, np.float64))
            assert_within(found, np.full(4, slope), digits * slope + 1e-7 * (dtype == "float16"), "gradient")


def test_one_pair() -> None:
    for options in ({}, {"symmetric": True}):
        loss, grads = fastloss.info_nce_loss([[1.0, 2.0]], [[3.0, 1.0]], return_grad=True, **options)
        assert loss == 0.0 and not grads.query.any() and not grads.key.any() and grads.temperature == 0.0


@pytest.mark.parametrize("temperature", [1e-35, 1e-12, 1e12, 1e35])
@pytest.mark.parametrize("row", [INFO_NCE, OF_TARGETS, SYMMETRIC], ids=str)
def test_extreme_temperatures(row: Row, temperature: float) -> None:
    for dtype in ("float32", "float64"):
        c = call(row, row.shapes[0], dtype, "none").with_(temperature=temperature)
        loss, grads = c.run()
        exact, right = c.expected
        # Tiny temperatures multiply the rounding of similarities.
        relative = 1e-5 if dtype == "float32" else 1e-12
        assert_within(loss, exact, relative * np.maximum(np.abs(exact), max(1.0, 1.0 / temperature)), c.title)
        if temperature > 1.0:
            for found, one in zip(grads, right, strict=True):
                assert_within(found, one, 1e-5 * np.abs(one).max() + 1e-37, c.title)


def test_nan_in_both_directions() -> None:
    c = call(SYMMETRIC, (6, 6), "float32", "none")
    q = np.array(c["query"])
    q[2, 1] = NAN
    loss, grads = c.run(query=q)
    assert np.isnan(loss).all() and np.isnan(grads[0]).all() and np.isnan(grads[1]).all()
    q[2, 1] = INF
    assert np.isnan(c.value(query=q)).all()


# Buffers


@over_rows
def test_buffers_apart(row: Row) -> None:
    """From all arguments and from each other; numbers have none."""
    c = call(row, (4, 4), "float32")
    mine = {name: np.array(c[name]) for name in FIELDS}
    before = bits(*mine.values())
    a, b = c.buffers()
    more = [None] * (len(row.numbers) - 1)
    wrong = [
        *(("out.query", c.out(array, b)) for array in mine.values()),
        ("out.key", c.out(a, mine["key"])),
        ("out.key", c.out(a, a)),
        (f"out.{row.numbers[0]}", (a, b, np.zeros(()), *more)),
        ("out", (a, b)),
    ]
    for (name, out), accumulate in itertools.product(wrong, (False, True)):
        refused(partial(c.run, **mine, out=out, accumulate=accumulate), EITHER, name)
    assert bits(*mine.values()) == before and (a == 55.0).all() and (b == 55.0).all()


@over_dtypes
@over_rows
def test_some_gradients_are_added(row: Row, dtype: str) -> None:
    c = call(row, row.shapes[0], dtype)
    more = (False,) * len(row.numbers)
    for adds in ((True, False), (False, True)):
        buffers = c.buffers(0.25)
        c.run(out=c.out(*buffers), accumulate=(*adds, *more))
        for name, found, added in zip(FIELDS, buffers, adds, strict=True):
            if added:
                c.check_added(name, found, np.full(found.shape, 0.25))
            else:
                c.check_derivative(name, found)


def test_parts_of_a_batch_add_up() -> None:
    """Pairs of siglip do not depend on each other; queries of info_nce share only the keys."""
    c = call(OF_TARGETS, (8, 10), "float64", "sum")
    q, k, y = c.arguments.values()
    loss, (of_query, of_key) = c.run()
    grads, total = (np.empty_like(q), np.zeros_like(k)), 0.0
    for rows in (slice(0, 3), slice(3, 8)):
        part = c.with_(query=q[rows], target=y[rows])
        total += part.run(out=(grads[0][rows], grads[1], None), accumulate=(False, True, False))[0]
    assert total == pytest.approx(loss, rel=1e-14)
    assert_within(grads[0], of_query, 1e-13, "query")
    assert_within(grads[1], of_key, 1e-13, "key")


def test_siglip_by_hand() -> None:
    loss = fastloss.siglip_loss(np.eye(3), 0.5 * np.eye(3), **SIGLIP.fixed, reduction="none")
    exact = math.log1p(math.exp(1.0)) + 2.0 * math.log1p(math.exp(-2.5))
    assert_within(loss, np.full(3, exact), 1e-15, "by hand")


def test_learned_numbers_of_torch() -> None:
    """Numbers in tensors of one element, of any type, which autocast does not cast."""
    torch = pytest.importorskip("torch")
    ft = pytest.importorskip("fastloss.torch")
    torch.manual_seed(0)
    q, k = (torch.nn.functional.normalize(torch.randn(6, 8), dim=1).requires_grad_() for _ in range(2))
    log_scale = torch.zeros(1, requires_grad=True)
    bias = torch.tensor(-2.0, dtype=torch.float64, requires_grad=True)
    ft.siglip_loss(q, k, scale=log_scale.exp(), bias=bias).backward()
    found = [x.grad.double().flatten() for x in (q, k, log_scale, bias)]
    leaves = [x.detach().double().requires_grad_() for x in (q, k, log_scale, bias)]
    x, y, s, b = leaves
    labels = 2.0 * torch.eye(6, dtype=torch.float64) - 1.0
    (-torch.nn.functional.logsigmoid(labels * (s.exp() * x @ y.T + b)).sum() / 6).backward()
    for grad, leaf in zip(found, leaves, strict=True):
        torch.testing.assert_close(grad, leaf.grad.flatten(), rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        temperature = torch.tensor(0.0625, requires_grad=True)
        loss = ft.info_nce_loss(q, k, temperature=temperature)
        plain = ft.info_nce_loss(q.bfloat16(), k.bfloat16(), temperature=0.0625)
    assert loss.dtype == torch.float32 and torch.equal(loss, plain)
    with pytest.raises(TypeError, match="temperature must be a number"):
        ft.info_nce_loss(q, k, temperature=torch.ones(2))
