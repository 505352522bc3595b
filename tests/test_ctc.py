"""Connectionist temporal classification: lengths are of samples, which the registry's rows do not have."""

import itertools
from typing import Any

import numpy as np
import pytest
from helpers import LAYOUTS, Array, Bad, bad, bits, dtype_named, over_dtypes, over_reductions, rounded
from levels import LEVELS, using

import fastloss
from fastloss import reference

NAMES = {"ctc_loss": "log_probs", "ctc_loss_with_logits": "logits"}
over_functions = pytest.mark.parametrize("function", NAMES)


def log_softmax(x: Array) -> Array:
    return x - np.logaddexp.reduce(x, axis=-1, keepdims=True)


def samples(
    function: str, shape: tuple[int, int, int] = (9, 4, 6), labels: int = 3, blank: int = 0, seed: int = 0
) -> tuple[Any, ...]:
    """Inputs with NaN behind the lengths, targets with nonsense; some have no labels, or too many."""
    rng = np.random.default_rng(seed)
    steps, count, classes = shape
    x = rng.standard_normal(shape) * 2
    x = x if function == "ctc_loss_with_logits" else log_softmax(x)
    targets = (blank + rng.integers(1, classes, (count, labels))) % classes
    targets[0] = targets[0, :1]
    of_input = rng.integers(steps // 2, steps + 1, count)
    of_target = rng.integers(0, labels + 1, count)
    of_input[-1], of_target[-1], of_target[0] = min(steps, 1), labels, labels
    of_target[1:2] = 0
    targets[np.arange(labels) >= of_target[:, np.newaxis]] = -7
    x[np.arange(steps)[:, np.newaxis] >= of_input] = np.nan
    return x, targets, of_input, of_target


def run(function: str, *arguments: Any, module: Any = fastloss, **options: Any) -> tuple[Any, Array]:
    with np.errstate(all="ignore"):
        return getattr(module, function)(*arguments, return_grad=True, **options)  # type: ignore[no-any-return]


@over_dtypes
@over_functions
def test_reference(function: str, dtype: str) -> None:
    for seed, shape, labels in (
        (0, (9, 4, 6), 3),
        (1, (40, 3, 80), 11),
        (2, (1, 1, 2), 1),
        (3, (5, 2, 3), 0),
    ):
        for blank, zero, reduction in ((0, False, "none"), (1, True, "mean"), (1, True, "sum")):
            x, *rest = samples(function, shape, labels, blank, seed)
            x = np.asarray(rounded(x, dtype))
            options = {"blank": blank, "zero_infinity": zero, "reduction": reduction}
            loss, grad = run(function, x, *rest, module=reference, **options, grad_output=-2.5)
            for level in LEVELS:
                with using(level):
                    mine, found = run(function, x, *rest, **options, grad_output=-2.5)
                    value = getattr(fastloss, function)(x, *rest, **options)
                assert bits(value) == bits(mine)
                rtol, atol = (1e-13, 1e-13) if dtype == "float64" else (3e-7, 2e-6)
                np.testing.assert_allclose(mine, loss, rtol=rtol, atol=atol)
                assert found.dtype == dtype_named(dtype) and found.shape == x.shape
                bound = {"float64": 1e-12, "float32": 2e-6}.get(dtype, 2e-2)
                np.testing.assert_allclose(found.astype(float), grad, rtol=0, atol=bound)
                behind = np.arange(len(x))[:, np.newaxis] >= rest[1]
                assert not found[behind].any()


def test_every_alignment() -> None:
    """Of all sequences of classes those that say the labels are added up."""
    rng = np.random.default_rng(0)
    log_p = log_softmax(rng.standard_normal((5, 3)))
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(3), repeat=5):
        said = tuple(c for c, _ in itertools.groupby(path) if c != 2)
        p = float(np.exp(sum(log_p[t, c] for t, c in enumerate(path))))
        found[said] = found.get(said, 0.0) + p
    for said, p in found.items():
        labels = np.array(said, np.int64)
        loss = fastloss.ctc_loss(log_p, labels, 5, len(said), blank=2, reduction="sum")
        assert abs(loss + np.log(p)) < 1e-13
    assert fastloss.ctc_loss(log_p, [0, 0, 0, 1], 5, 4, blank=2) == np.inf


@over_functions
def test_difference_quotients(function: str) -> None:
    x, *rest = samples(function, blank=5)
    rest[1][-1] = len(x)
    x, value = np.where(np.isnan(x), 0.0, x), getattr(fastloss, function)
    _, grad = run(function, x, *rest, blank=5, zero_infinity=True)
    for index in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[index] = 1e-5
        high, low = (value(x + s, *rest, blank=5, zero_infinity=True) for s in (step, -step))
        assert abs((high - low) / 2e-5 - grad[index]) < 1e-9


@over_dtypes
@over_functions
def test_buffers(function: str, dtype: str) -> None:
    """In place, added, in any layout, and with any number of threads."""
    x, *rest = samples(function, (30, 4, 50))
    x = np.array(rounded(x, dtype))
    options = {"zero_infinity": True, "reduction": "none", "grad_output": np.arange(4.0) - 1.5}
    expected = run(function, x, *rest, **options)
    for layout in LAYOUTS.values():
        assert bits(*run(function, layout.place(x)[1], *rest, **options)) == bits(*expected)
    assert bits(*run(function, x, *rest, num_threads=1, **options)) == bits(*expected)
    copy = x.copy()
    loss, grad = run(function, copy, *rest, out=copy, **options)
    assert grad is copy and bits(loss, grad) == bits(*expected)
    buffer = np.full(x.shape, 0.5).astype(x.dtype)
    run(function, x, *rest, out=buffer, accumulate=True, **options)
    bound = {"float64": 1e-14, "float32": 5e-7}.get(dtype, 2e-2)
    np.testing.assert_allclose(buffer.astype(float) - 0.5, expected[1].astype(float), rtol=0, atol=bound)
    assert (buffer[np.arange(30)[:, np.newaxis] >= rest[1]] == 0.5).all()


@over_functions
def test_forms_of_targets(function: str) -> None:
    """Joined targets, lists, one sample, and the pair."""
    x, targets, steps, counts = samples(function)
    each, grad = run(function, x, targets, steps, counts, reduction="none")
    joined = np.concatenate([row[:n] for row, n in zip(targets, counts, strict=True)])
    for some in (joined, joined.astype(np.int8)):
        assert bits(*run(function, x, some, list(steps), tuple(counts), reduction="none")) == bits(each, grad)
    for n, count in enumerate(counts):
        loss, of_one = run(function, x[:, n], targets[n, :count], steps[n], int(count), reduction="none")
        assert loss.shape == () and bits(loss) == bits(each[n]) and bits(of_one) == bits(grad[:, n])
    total, number = getattr(fastloss, function)(x, targets, steps, counts, reduction="sum_and_count")
    assert number == 4.0 and total == np.sum(each / np.maximum(counts, 1))
    empty = x[:, :0], targets[:0], steps[:0], counts[:0]
    assert np.isnan(run(function, *empty)[0]) and run(function, *empty, reduction="sum")[0] == 0.0


@over_functions
def test_extremes(function: str) -> None:
    """Very unlikely alignments keep their posteriors; masked classes, NaN and no alignment are local."""
    x = np.full((60, 3, 4), -2e4, np.float32)
    x[:, :, 0] = 0.0
    targets, steps, counts = np.tile([1, 2], (3, 1)), [60] * 3, [2] * 3
    loss, grad = run(function, x, targets, steps, counts, reduction="none")
    # Of 60 steps two are the labels, at equally likely places.
    np.testing.assert_allclose(loss, 4e4 - np.log(60 * 59 / 2), rtol=1e-7)
    np.testing.assert_allclose(grad[:, :, 1].sum(axis=0), -1.0, atol=1e-5)
    x[:, 1] = -np.inf
    x[5, 2, 1] = np.nan
    loss, grad = run(function, x, targets, steps, counts, reduction="none")
    assert np.isfinite(loss[0]) and np.isfinite(grad[:, 0]).all()
    assert np.isnan(grad[:, 1:]).all() and np.isnan(loss[2])
    assert loss[1] == np.inf or function == "ctc_loss_with_logits"
    x = np.zeros((4, 1, 3), np.float32)
    x[:, :, 1] = -np.inf
    loss, grad = run(function, x, [[2]], [4], [1])
    assert np.isfinite(loss) and (grad[:, :, 1] == 0).all()


ONES = [[1, 1, 1]] * 3
BAD = [
    *bad("targets", IndexError, [[1, 2, 6], *ONES], [[1, 2, -1], *ONES]),
    *bad("targets", TypeError, np.ones((4, 3))),
    *bad("targets", ValueError, np.ones((3, 3), int), np.ones((4, 3, 1), int)),
    *bad("target_lengths", ValueError, [3, 4, 3, 3], [3, -1, 3, 3], [3, 3, 3], 3),
    *bad("target_lengths", TypeError, [3.0] * 4),
    *bad("input_lengths", ValueError, [9, 10, 9, 9], [9, -1, 9, 9], [[9, 9, 9, 9]]),
    *bad("input_lengths", TypeError, [True] * 4),
    *bad("blank", IndexError, 6, -1),
    *bad("blank", TypeError, 1.0),
    *bad("zero_infinity", TypeError, 1),
]


@pytest.mark.parametrize("wrong", BAD, ids=lambda wrong: f"{wrong.argument}={wrong.value}")
@over_functions
def test_errors(function: str, wrong: Bad) -> None:
    """An error names the argument (and the place), and nothing is written."""
    x, buffer = np.zeros((9, 4, 6)), np.full((9, 4, 6), 55.0)
    given = {"targets": np.ones((4, 3), int), "input_lengths": [9] * 4, "target_lengths": [3] * 4}
    with pytest.raises(wrong.error, match=wrong.argument):
        run(function, x, out=buffer, **{**given, **wrong.given})
    assert (buffer == 55.0).all()


@over_functions
def test_joined_targets_must_add_up(function: str) -> None:
    with pytest.raises(ValueError, match=r"target_lengths.* 8 "):
        run(function, np.zeros((9, 4, 6)), np.ones(8, int), [9] * 4, [3] * 4)
    with pytest.raises(ValueError, match=NAMES[function]):
        run(function, np.zeros(9), np.ones(1, int), [1], [1])


@over_reductions
def test_torch(reduction: str) -> None:
    """Through a log-softmax the loss and the gradient are torch's, with any option."""
    torch = pytest.importorskip("torch")
    import fastloss.torch as ft

    for blank, zero in itertools.product((0, 3), (False, True)):
        x, *rest = samples("ctc_loss_with_logits", (12, 5, 6), 4, blank)
        x = np.where(np.isnan(x), 0.0, x)
        rest[0][rest[0] < 0] = blank
        given = [torch.tensor(array) for array in rest]
        joined = torch.cat([row[:n] for row, n in zip(given[0], given[2], strict=True)])
        found = []
        for function, some in (
            (torch.nn.functional.ctc_loss, given),
            (ft.ctc_loss, given),
            (ft.ctc_loss, [joined, *(tuple(lengths.tolist()) for lengths in given[1:])]),
            (ft.CTCLoss(blank, reduction, zero), given),
            (ft.CTCWithLogitsLoss(blank=blank, reduction=reduction, zero_infinity=zero), given),
        ):
            leaf = torch.tensor(x, requires_grad=True)
            z = leaf if isinstance(function, ft.CTCWithLogitsLoss) else leaf.log_softmax(2)
            options = () if isinstance(function, torch.nn.Module) else (blank, reduction, zero)
            loss = function(z, *some, *options)
            loss.backward(torch.arange(1.0, 6.0, dtype=loss.dtype) if reduction == "none" else None)
            found.append((loss.detach().numpy(), leaf.grad.numpy()))
        for loss, grad in found[1:]:
            np.testing.assert_allclose(loss, found[0][0], rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(grad, found[0][1], rtol=0, atol=1e-12)


def test_torchs_ground() -> None:
    """What is not ours is torch's, autocast and `install` included; a second derivative is an error."""
    torch = pytest.importorskip("torch")
    import fastloss.torch as ft

    own = torch.nn.functional.ctc_loss
    x, targets = torch.randn(6, 2, 4).log_softmax(2), torch.tensor([[1, 2], [3, 3]])
    for lengths, blank in (((6, 7), 0), ((6.0, 6.0), 0), ((6, 6, 6), 0), ((6, -1), 0), ((6, 6), 4)):
        messages = []
        for function in (own, ft.ctc_loss):
            with pytest.raises((RuntimeError, TypeError)) as error:
                function(x, targets, lengths, (2, 2), blank)
            messages.append((error.type, str(error.value)))
        assert messages[0] == messages[1]
    with pytest.raises(IndexError, match=r"targets\[1, 0\] is 4"):
        ft.ctc_loss(x, targets + torch.tensor([[0], [1]]), (6, 6), (2, 2))
    with ft.install():
        expected = own(x, targets, (6, 5), (2, 2))
        torch.testing.assert_close(torch.nn.CTCLoss()(x, targets, (6, 5), (2, 2)), expected)
        assert ft.calls()["ctc_loss"].fastloss == 1
    with torch.autocast("cpu"):
        assert ft.ctc_loss(x.bfloat16(), targets, (6, 6), (2, 2)).dtype is torch.float32
    leaf = x.clone().requires_grad_()
    loss = ft.ctc_loss(leaf.log_softmax(2), targets, (6, 6), (2, 2))
    with pytest.raises(RuntimeError, match="not implemented"):
        torch.autograd.grad(torch.autograd.grad(loss, leaf, create_graph=True)[0].sum(), leaf)
