"""`adaptive_log_softmax_with_loss`, whose weights are pairs, which the registry's rows do not have."""

from typing import Any

import numpy as np
import pytest
from helpers import DTYPES, bits, dtype_named, is_half, over_wide
from levels import LEVELS, using

import fastloss
from fastloss import adaptive_log_softmax_with_loss as loss_of
from fastloss import reference

WIDTH = 6
# Classes of the head, then width and classes of each cluster.
LAYERS: dict[str, tuple[int, list[tuple[int, int]]]] = {
    "two-clusters": (4, [(3, 5), (2, 9)]),
    "one-cluster": (3, [(4, 20)]),
    "one-class-each": (1, [(1, 1), (8, 1), (2, 1)]),
    "no-width": (2, [(0, 3)]),
}
over_layers = pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)


def arguments(
    layers: tuple[int, list[tuple[int, int]]], rows: tuple[int, ...] = (40,), dtype: str = "float64"
) -> dict[str, Any]:
    """Arguments with every class as a target, if there are enough rows, and the bias of the head."""
    rng, kind = np.random.default_rng(7), dtype_named(dtype)
    own, tails = layers
    classes = own + sum(count for _, count in tails)
    entries = own + len(tails)
    return {
        "input": rng.standard_normal((*rows, WIDTH)).astype(kind),
        "target": (np.arange(np.prod(rows, dtype=int)) % classes).reshape(rows),
        "head_weight": rng.standard_normal((entries, WIDTH)).astype(kind),
        "tail_weights": [
            (rng.standard_normal((h, WIDTH)).astype(kind), rng.standard_normal((c, h)).astype(kind))
            for h, c in tails
        ],
        "head_bias": rng.standard_normal(entries).astype(kind),
    }


def flat(gradients: Any) -> list[Any]:
    """The arrays of `AdaptiveGradients`, behind one another."""
    *head, tails = gradients
    return [*head, *(one for pair in tails for one in pair)]


def run(given: dict[str, Any], module: Any = fastloss, **options: Any) -> tuple[Any, list[Any]]:
    loss, gradients = module.adaptive_log_softmax_with_loss(**given, return_grad=True, **options)
    return loss, flat(gradients)


def assert_as_reference(given: dict[str, Any], dtype: str = "float64", **options: Any) -> None:
    half, compute = is_half(dtype), "float64" if dtype == "float64" else "float32"
    bound = 1e-12 if dtype == "float64" else 1e-5
    loss, found = run(given, **options)
    exact, expected = run(given, reference, **{k: v for k, v in options.items() if k != "memory_budget"})
    np.testing.assert_allclose(loss, exact, rtol=bound, atol=bound)
    if options.get("reduction") == "none":
        assert loss.dtype == compute
    for one, other in zip(found, expected, strict=True):
        assert (one is None) is (other is None)
        if one is not None:
            assert one.dtype == dtype_named(dtype)
            # Half types are rounded once.
            most = 2.0**-8 if dtype == "bfloat16" else 2.0**-11 if half else bound
            np.testing.assert_allclose(
                one.astype(np.float64), other, rtol=most, atol=most * np.abs(other).max(initial=1e-3) / 4
            )


# Values


@pytest.mark.parametrize("dtype", DTYPES)
@over_layers
def test_as_the_reference(layers: Any, dtype: str) -> None:
    given = arguments(layers, dtype=dtype)
    slopes = np.linspace(-1, 2, 40)
    for level in LEVELS:
        with using(level):
            assert_as_reference(given, dtype)
            assert_as_reference(given, dtype, reduction="sum", grad_output=-0.5)
            assert_as_reference(given, dtype, reduction="sum_and_count")
            assert_as_reference(given, dtype, reduction="none", grad_output=slopes)
            assert_as_reference(given | {"head_bias": None}, dtype, ignore_index=1)
            assert_as_reference(given, dtype, reduction="none", memory_budget=1)


def test_without_gradients_the_loss_is_the_same() -> None:
    given = arguments(LAYERS["two-clusters"])
    for reduction in ("mean", "sum", "none", "sum_and_count"):
        assert bits(loss_of(**given, reduction=reduction)) == bits(run(given, reduction=reduction)[0])


@pytest.mark.parametrize("rows", [(), (1,), (3, 4), (0,), (2, 0)])
def test_shapes_of_rows(rows: tuple[int, ...]) -> None:
    given = arguments(LAYERS["two-clusters"], rows)
    for reduction in ("sum", "none", "mean"):
        assert_as_reference(given, reduction=reduction)
    assert np.shape(run(given, reduction="none")[0]) == rows


@pytest.mark.parametrize("target", [0, 3, 4, 8, 9, 17])
def test_clusters_without_rows(target: int) -> None:
    """All rows have one class; the other clusters have gradients 0."""
    given = arguments(LAYERS["two-clusters"]) | {"target": np.full(40, target)}
    assert_as_reference(given)
    in_cluster = [target in range(4, 9), target in range(9, 18)]
    _, found = run(given)
    assert [bool(one.any()) for one in found[3:]] == [is_in for is_in in in_cluster for _ in range(2)]


def test_by_hand() -> None:
    """Equal logits: of two entries of the head, and of five classes of the cluster."""
    zeros = np.zeros((1, 3))
    clusters = [(zeros, np.zeros((5, 1)))]
    loss = loss_of(np.ones((2, 3)), [0, 4], np.zeros((2, 3)), clusters, reduction="none")
    np.testing.assert_allclose(loss, [np.log(2), np.log(10)], rtol=1e-15)


@over_layers
def test_the_probabilities_of_all_classes_add_up_to_1(layers: Any) -> None:
    own, tails = layers
    classes = own + sum(count for _, count in tails)
    given = arguments(layers, (classes,)) | {"target": np.arange(classes)}
    given["input"] = np.tile(given["input"][:1], (classes, 1))
    losses = loss_of(**given, reduction="none")
    assert np.exp(-losses).sum() == pytest.approx(1.0, abs=1e-14)


def test_gradients_are_central_differences() -> None:
    given = arguments(LAYERS["two-clusters"], (19,))
    slopes = np.linspace(-1, 2, 19)
    _, found = run(given, reduction="none", grad_output=slopes)
    arrays = flat([given[name] for name in ("input", "head_weight", "head_bias", "tail_weights")])
    for array, gradient in zip(arrays, found, strict=True):
        assert array.shape == gradient.shape
        for place in np.ndindex(array.shape):
            middle, values = array[place], []
            for array[place] in (middle - 1e-4, middle + 1e-4):
                values.append(loss_of(**given, reduction="none") @ slopes)
            array[place] = middle
            assert (values[1] - values[0]) / 2e-4 == pytest.approx(gradient[place], rel=1e-5, abs=1e-6)


@over_wide
@pytest.mark.parametrize("name", [name for name in LAYERS if name != "no-width"])
def test_as_torchs_module(name: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    layers = own, tails = LAYERS[name]
    given = arguments(layers, dtype=dtype)
    edges = own + np.cumsum([0, *(c for _, c in tails)])
    module = torch.nn.AdaptiveLogSoftmaxWithLoss(
        WIDTH, int(edges[-1]), edges[:-1].tolist(), 1.0, head_bias=True, dtype=getattr(torch, dtype)
    )
    for layer, (h, c) in zip(module.tail, tails, strict=True):
        layer[0] = torch.nn.Linear(WIDTH, h, bias=False)
        layer[1] = torch.nn.Linear(h, c, bias=False)
    weights = [module.head.weight, module.head.bias, *(one.weight for pair in module.tail for one in pair)]
    values = flat([given["input"], given["head_weight"], given["head_bias"], given["tail_weights"]])
    for parameter, value in zip(weights, values[1:], strict=True):
        parameter.data = torch.from_numpy(value)
    x = torch.from_numpy(given["input"]).requires_grad_()
    answer = module(x, torch.from_numpy(given["target"]))
    gradients = torch.autograd.grad(answer.loss, [x, *weights])
    bounds = {"rtol": 2e-5, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-13}
    loss, found = run(given)
    np.testing.assert_allclose(loss, answer.loss.item(), **bounds)
    np.testing.assert_allclose(run(given, reduction="none")[0], -answer.output.detach().numpy(), **bounds)
    for one, other in zip(found, gradients, strict=True):
        np.testing.assert_allclose(one, other.numpy(), **bounds)


# Ignored rows


@pytest.mark.parametrize("ignored", [-100, 5, 2**40])
def test_ignored_rows_are_not_read(ignored: int) -> None:
    given = arguments(LAYERS["two-clusters"])
    skipped = np.arange(40) % 3 == 1
    given["target"] = np.where(skipped, ignored, np.where(given["target"] == ignored, 0, given["target"]))
    kept = given | {"input": given["input"][~skipped], "target": given["target"][~skipped]}
    given["input"][skipped] = np.nan
    loss, (of_input, *others) = run(given, ignore_index=ignored)
    exact, (of_kept, *expected) = run(kept, ignore_index=ignored)
    assert loss == pytest.approx(exact, rel=1e-14)
    assert not of_input[skipped].any()
    for one, other in zip((of_input[~skipped], *others), (of_kept, *expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)
    assert run(given, ignore_index=ignored, reduction="sum_and_count")[0][1] == 27.0


def test_all_rows_ignored() -> None:
    given = arguments(LAYERS["two-clusters"]) | {"target": np.full(40, -100)}
    given["input"][:] = np.nan
    for reduction, expected in (("mean", np.nan), ("sum", 0.0), ("none", np.zeros(40))):
        loss, gradients = run(given, reduction=reduction)
        np.testing.assert_array_equal(loss, expected)
        assert not any(one.any() for one in gradients)


# Buffers


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gaps", [False, True])
def test_buffers(dtype: str, gaps: bool) -> None:
    """Written, added to, and left out one by one; ignored rows of a buffer keep what is added to."""
    given = arguments(LAYERS["two-clusters"], dtype=dtype)
    _, plain = run(given, ignore_index=2)

    def fresh() -> list[Any]:
        return [np.ones((*one.shape, 2), one.dtype)[..., 0] if gaps else np.ones_like(one) for one in plain]

    def into(buffers: list[Any], accumulate: Any) -> None:
        out = (*buffers[:3], (tuple(buffers[3:5]), tuple(buffers[5:])))
        _, gradients = run(given, ignore_index=2, out=out, accumulate=accumulate)
        for one, other in zip(gradients, buffers, strict=True):
            assert one is other

    most = {"float64": 1e-14, "float32": 1e-6, "float16": 2e-3, "bfloat16": 2e-2}[dtype]
    for accumulate in (False, True, (True, False, True, False), (False, True, False, True)):
        flags = accumulate if isinstance(accumulate, tuple) else (accumulate,) * 4
        out = fresh()
        into(out, accumulate)
        for one, other, adds in zip(out, plain, (*flags, *flags[3:] * 3), strict=True):
            expected = other.astype(np.float64) + adds
            np.testing.assert_allclose(one.astype(np.float64), expected, rtol=most, atol=most)
    for left_out in range(7):
        places = [None if k == left_out else one for k, one in enumerate(fresh())]
        into(places, False)
        for one, other in zip(places, plain, strict=True):
            assert one is None or bits(one) == bits(other)


def test_no_gradient_of_the_clusters() -> None:
    given = arguments(LAYERS["two-clusters"])
    _, plain = run(given)
    buffer = np.empty_like(given["input"])
    _, gradients = loss_of(**given, return_grad=True, out=(buffer, None, None, None))
    assert gradients.input is buffer and gradients[1:] == (None, None, None)
    assert bits(buffer) == bits(plain[0])


# Threads and chunks


def test_threads_change_no_bit() -> None:
    layers = (300, [(16, 500), (8, 3000)])
    given = arguments(layers, (500,), "float32")
    given["target"] = np.random.default_rng(0).integers(0, 3800, 500)
    one, *others = (bits(*run(given, reduction="none", num_threads=n)) for n in (1, 2, 5))
    assert all(other == one for other in others)


# Errors

WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "target": ({"target": np.full(40, 18)}, IndexError, r"target\[0\] is 18, .* 0 <= index < 18"),
    "negative": ({"target": np.r_[np.zeros(39, int), -1]}, IndexError, r"target\[39\] is -1, which"),
    "floats": ({"target": np.zeros(40)}, TypeError, "target must hold integer class indices, got float64"),
    "short": ({"target": np.zeros(39, int)}, ValueError, r"target must have .* shape \(40,\); got \(39,\)"),
    "width": ({"head_weight": np.zeros((6, 5))}, ValueError, r"head_weight must have a row of 6 features"),
    "dtype": ({"head_weight": np.zeros((6, 6), "f4")}, TypeError, "head_weight must be float64 like input"),
    "entries": ({"head_weight": np.zeros((2, 6)), "head_bias": None}, ValueError,
                "head_weight must have a row for each cluster, 2, .*; got 2 rows"),
    "bias": ({"head_bias": np.zeros(4)}, ValueError, r"head_bias must have shape \(6,\), got \(4,\)"),
    "none": ({"tail_weights": []}, ValueError, "tail_weights must have a pair .* got none"),
    "array": ({"tail_weights": np.zeros((2, 2, 6, 6))}, TypeError, "tail_weights must be a list or tuple"),
    "no-pair": ({"tail_weights": [(np.zeros((3, 6)), np.zeros((5, 3))), np.zeros(2)]}, TypeError,
                r"tail_weights\[1\] must be a pair of a projection and a weight, got ndarray"),
    "one": ({"tail_weights": [(np.zeros((3, 6)),)]}, TypeError, r"tail_weights\[0\] must be a pair .* got 1"),
    "projection": ({"tail_weights": [(np.zeros((3, 5)), np.zeros((5, 3)))]}, ValueError,
                   r"tail_weights\[0\]\[0\] must have shape \(H, 6\), got \(3, 5\)"),
    "axes": ({"tail_weights": [(np.zeros(6), np.zeros((5, 3)))]}, ValueError,
             r"tail_weights\[0\]\[0\] must have shape \(H, 6\), got \(6,\)"),
    "hidden": ({"tail_weights": [(np.zeros((3, 6)), np.zeros((5, 4)))]}, ValueError,
               r"tail_weights\[0\]\[1\] must have a row of 3 features"),
    "classless": ({"tail_weights": [(np.zeros((3, 6)), np.zeros((0, 3)))]}, ValueError,
                  r"tail_weights\[0\]\[1\] .* shape \(C, 3\) with C > 0; got \(0, 3\)"),
    "tail-dtype": ({"tail_weights": [(np.zeros((3, 6)), np.zeros((5, 3), "f4"))]}, TypeError,
                   r"tail_weights\[0\]\[1\] must be float64 like input, got float32"),
    "reduction": ({"reduction": "total"}, ValueError, "reduction must be one of"),
    "budget": ({"memory_budget": 0}, ValueError, "memory_budget must be at least 1, got 0"),
    "unknown": ({"weight": 1}, TypeError, r"_with_loss\(\) got an unexpected .* 'weight'"),
    "threads": ({"num_threads": 0}, ValueError, "num_threads"),
    "upstream": ({"grad_output": np.zeros(3), "reduction": "none"}, ValueError, "grad_output must be"),
    "accumulate": ({"accumulate": (True, False)}, TypeError, "accumulate must be a bool, or a tuple of 4 "),
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG.values(), ids=WRONG)
def test_errors_come_before_anything_is_written(
    wrong: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = arguments(LAYERS["two-clusters"])
    out = flat([given[name] + 1 for name in ("input", "head_weight", "head_bias")] + [()])
    before = bits(*out)
    tails = tuple((np.ones_like(p), np.ones_like(w)) for p, w in given["tail_weights"])
    with pytest.raises(error, match=message):
        loss_of(**(given | {"out": (*out, tails), "return_grad": True} | wrong))
    assert bits(*out) == before and all((one == 1).all() for pair in tails for one in pair)


def test_errors_of_buffers() -> None:
    given = arguments(LAYERS["one-cluster"]) | {"return_grad": True}
    x, ((projection, weight),) = given["input"], given["tail_weights"]
    no, no_pair = (None,) * 3, "out.tail_weights must be None or a tuple of 1 pairs"
    wrongs: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"out": no}, TypeError, "out must be a tuple of 4 buffers"),
        ({"out": (*no, (None, None))}, TypeError, no_pair),
        ({"out": (*no, ((None,),))}, TypeError, no_pair),
        ({"out": (*no, ((None, weight),))}, ValueError, r"out.tail_weights\[0\]\[1\] must not overlap an"),
        ({"out": (x, *no)}, ValueError, "out.input must not overlap an input"),
        ({"out": (*no, ((projection[:1], None),))}, ValueError, r"out.tail_weights\[0\]\[0\] must have"),
        ({"out": (*no[:2], np.zeros(4), None), "head_bias": None}, ValueError, "out.head_bias must be None"),
        ({"accumulate": True}, ValueError, "accumulate=True needs out"),
        ({"out": (np.empty_like(x), *no), "return_grad": False}, ValueError, "out needs return_grad=True"),
    ]
    for wrong, error, message in wrongs:
        with pytest.raises(error, match=message):
            loss_of(**given | wrong)
