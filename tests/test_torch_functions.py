"""The functions of fastloss.torch: values, gradients, types, shapes and errors."""

import inspect
import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastloss

torch = pytest.importorskip("torch")

import torch_cases as cases  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch_cases import DTYPES, REDUCTIONS, Call, outcome  # noqa: E402

import fastloss.torch as ft  # noqa: E402

Tensor = torch.Tensor
pytestmark = pytest.mark.filterwarnings(cases.ignore_kl_mean)

over_calls = pytest.mark.parametrize("call", cases.CALLS, ids=str)
over_calls_of_torch = pytest.mark.parametrize("call", cases.CALLS_OF_TORCH, ids=str)
over_functions = pytest.mark.parametrize("name", cases.FIRST)
over_dtypes = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
over_halves = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)


def test_tables_have_every_function() -> None:
    assert set(cases.NAMES_OF_TORCH) == set(cases.TORCHS)
    assert set(cases.FIRST) == {*cases.NAMES_OF_TORCH, *cases.NAMES_OF_OWN}
    for name in cases.FIRST:
        assert callable(getattr(ft, name))


# Signatures

EXTRA = {
    "cross_entropy": {
        "sample_weight": None,
        "z_loss": 0.0,
        "softcap": None,
        "temperature": 1.0,
        "inplace": False,
    },
    "nll_loss": {"sample_weight": None},
    "linear_cross_entropy": {
        "sample_weight": None,
        "z_loss": 0.0,
        "softcap": None,
        "temperature": 1.0,
        "memory_budget": None,
    },
}


@pytest.mark.parametrize("name", cases.NAMES_OF_TORCH)
def test_signature_is_that_of_torch(name: str) -> None:
    ours = list(inspect.signature(getattr(ft, name)).parameters.values())
    theirs = list(inspect.signature(cases.TORCHS[name]).parameters.values())
    shared, extra = ours[: len(theirs)], ours[len(theirs) :]
    assert [(p.name, p.kind, p.default) for p in shared] == [(p.name, p.kind, p.default) for p in theirs]
    assert {p.name: p.default for p in extra} == EXTRA.get(name, {})
    assert all(p.kind is p.KEYWORD_ONLY for p in extra)


NOT_FOR_TENSORS = {
    "return_grad", "return_hessian", "grad_output", "out", "accumulate", "num_threads", "check_domain",
    "teacher_grad",
}  # fmt: skip


@pytest.mark.parametrize("name", cases.NAMES_OF_OWN)
def test_signature_is_that_of_numpy(name: str) -> None:
    ours = inspect.signature(getattr(ft, name)).parameters.values()
    theirs = inspect.signature(getattr(fastloss, name)).parameters.values()
    assert [(p.name, p.kind, p.default) for p in ours] == [
        (p.name, p.kind, p.default) for p in theirs if p.name not in NOT_FOR_TENSORS
    ]


# Values and gradients


@over_dtypes
@over_calls
def test_value_and_gradient(call: Call, dtype: torch.dtype) -> None:
    call = call.cast(dtype)
    for reduction in call.loss.reductions:
        expected = call.expected(reduction)
        actual = call.run(reduction=reduction)
        call.check(actual, expected, dtype, title=reduction)
        assert actual.loss.dtype == dtype
        # A call that wants no gradient has the same value, and no graph.
        alone = call.value(reduction=reduction)
        assert alone.grad_fn is None and not alone.requires_grad
        assert torch.equal(alone, actual.loss)


@over_dtypes
@over_calls
def test_incoming_gradient(call: Call, dtype: torch.dtype) -> None:
    call = call.cast(dtype)
    for reduction in call.loss.reductions:
        shape = tuple(call.value(reduction=reduction).shape)
        for upstream in (torch.tensor(-2.5), torch.tensor(0.0)) if shape == () else (
            cases.upstream_for(shape),
            torch.zeros(shape),
        ):  # fmt: skip
            expected = call.expected(reduction, upstream)
            # A half type is rounded once more where the gradient waits for its factor.
            roundings = 1 if reduction == "none" else 2
            call.check(call.run(upstream, reduction=reduction), expected, dtype, roundings, reduction)


@pytest.mark.parametrize("name", [n for n, c in cases.FIRST.items() if len(c.wants) > 1])
def test_gradient_of_some_arguments(name: str) -> None:
    call = cases.FIRST[name]
    names = call.wants
    expected = {r: call.expected(r) for r in call.loss.reductions}
    for chosen in (*((n,) for n in names), names[:2], names[::2]):
        for reduction in call.loss.reductions:
            result = call.run(wanted=chosen, reduction=reduction)
            assert result.gradients.keys() == set(chosen)
            call.check(result, expected[reduction], torch.float64, title=f"{chosen} {reduction}")


@over_functions
def test_default_reduction(name: str) -> None:
    call = cases.FIRST[name]
    default = inspect.signature(getattr(ft, name)).parameters["reduction"].default
    assert torch.equal(call.value(), call.value(reduction=default))
    if name in cases.NAMES_OF_OWN:
        assert default == inspect.signature(getattr(fastloss, name)).parameters["reduction"].default


@pytest.mark.parametrize("name", cases.NAMES_OF_TORCH)
def test_arguments_by_name_and_by_position(name: str) -> None:
    """The same call in both ways, every argument given."""
    call = cases.FIRST[name]
    parameters = inspect.signature(cases.TORCHS[name]).parameters.values()
    given = {**call.arguments, **call.options}
    values = {p.name: given.get(p.name, p.default) for p in parameters}
    expected = cases.TORCHS[name](**values)
    by_position = [values[p.name] for p in parameters if p.kind is not p.KEYWORD_ONLY]
    by_name = {p.name: values[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}
    for actual in (getattr(ft, name)(**values), getattr(ft, name)(*by_position, **by_name)):
        cases.assert_near(actual, expected, 1e-12, title=name)


@pytest.mark.parametrize("name", cases.NAMES_OF_TORCH)
@pytest.mark.parametrize(
    ("size_average", "reduce"), [(True, True), (False, True), (None, False), (False, None)]
)
def test_old_names_of_reductions(name: str, size_average: bool | None, reduce: bool | None) -> None:
    if "size_average" not in inspect.signature(cases.TORCHS[name]).parameters:
        assert name in ("gaussian_nll_loss", "huber_loss", "linear_cross_entropy")
        return
    call = cases.FIRST[name]
    more = {"size_average": size_average, "reduce": reduce}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = call.run(function=cases.TORCHS[name], upstream=None, **more)
        actual = call.run(**more)
    call.check(actual, expected, torch.float64)


# Types, strides and storage


INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
OF_CLASSES = [c for n, c in cases.FIRST.items() if c.arguments.get("target") is not None]
OF_CLASSES = [c for c in OF_CLASSES if not c.arguments["target"].is_floating_point()]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("call", OF_CLASSES, ids=str)
def test_class_indices_of_any_type(call: Call, dtype: torch.dtype) -> None:
    if dtype is torch.uint8 and (call.arguments["target"] < 0).any():
        call = Call(
            call.loss, call.label, {**call.arguments, "target": call.arguments["target"].abs() % 7}, {}
        )
    expected = call.run()
    narrow = {**call.arguments, "target": call.arguments["target"].to(dtype)}
    actual = Call(call.loss, call.label, narrow, call.options).run()
    assert torch.equal(actual.loss, expected.loss)
    assert all(torch.equal(g, expected.gradients[n]) for n, g in actual.gradients.items())


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_no_type_wraps_into_the_ignored_class(name: str) -> None:
    x = torch.zeros(2, 200).log_softmax(1)
    target = torch.tensor([156, 3], dtype=torch.uint8)  # 156 is -100 in eight bits
    loss = getattr(ft, name)(x, target, reduction="none")
    torch.testing.assert_close(loss, torch.full((2,), math.log(200.0)))


def layouts(x: Tensor) -> dict[str, Tensor]:
    """The same values in other places."""
    wide = torch.zeros(*(2 * n for n in x.shape), dtype=x.dtype)
    strided = wide[tuple(slice(1, None, 2) for _ in x.shape)]
    strided.copy_(x)
    last_first = x.movedim(-1, 0).contiguous().movedim(0, -1) if x.ndim > 1 else x.clone()
    off = torch.zeros(x.numel() + 1, dtype=x.dtype)[1:].view(x.shape)
    off.copy_(x)
    return {"strided": strided, "transposed": last_first, "off": off}


@pytest.mark.parametrize("layout", ["strided", "transposed", "off"])
@over_functions
def test_layout_of_arguments(name: str, layout: str) -> None:
    """Views with any strides: of all arguments, and of the gradient that comes in."""
    call = cases.FIRST[name]
    moved = {k: layouts(v)[layout] if isinstance(v, Tensor) else v for k, v in call.arguments.items()}
    view = Call(call.loss, call.label, moved, call.options)
    for reduction in call.loss.reductions:
        shape = tuple(call.value(reduction=reduction).shape)
        upstream = cases.upstream_for(shape)
        expected = call.expected(reduction, upstream)
        leaves = {n: moved[n].detach().requires_grad_() for n in call.wants}
        loss = view.value(leaves, reduction=reduction)
        given = layouts(upstream)[layout] if shape else upstream
        grads = torch.autograd.grad(loss, list(leaves.values()), given.to(loss.dtype))
        result = cases.Result(loss.detach(), dict(zip(leaves, grads, strict=True)))
        view.check(result, expected, torch.float64, title=f"{layout} {reduction}")


@over_functions
def test_expanded_incoming_gradient(name: str) -> None:
    """That of `loss.sum()` is one number with strides of 0."""
    call = cases.FIRST[name]
    leaves = call.leaves()
    (2.0 * call.value(leaves, reduction="none").sum()).backward()
    expected = call.expected("none", torch.full(call.value(reduction="none").shape, 2.0))
    for n, leaf in leaves.items():
        cases.assert_near(leaf.grad, expected.gradients[n], 1e-11, title=n)


def test_expanded_input() -> None:
    row = torch.randn(1, 7, dtype=torch.float64, requires_grad=True)
    target = torch.arange(6)
    ft.cross_entropy(row.expand(6, 7), target).backward()
    expected = row.detach().clone().requires_grad_()
    functional.cross_entropy(expected.expand(6, 7), target).backward()
    cases.assert_near(row.grad, expected.grad, 1e-12)


def test_negated_views() -> None:
    """The imaginary part of a conjugate is a view whose signs are still to be turned."""
    z = torch.view_as_complex(torch.randn(6, 5, 2, dtype=torch.float64))
    x, t = z.conj().imag, torch.randn(6, 5, dtype=torch.float64)
    assert x.is_neg()
    torch.testing.assert_close(ft.mse_loss(x, t), functional.mse_loss(x.clone(), t))
    torch.testing.assert_close(ft.mse_loss(t, x), functional.mse_loss(t, x.clone()))
    leaf = t.clone().requires_grad_()
    loss = ft.mse_loss(leaf, x, reduction="none")
    loss.backward(x)
    torch.testing.assert_close(leaf.grad, 2.0 * (t - x.clone()) * x.clone())


def test_inputs_are_left_alone() -> None:
    for call in cases.FIRST.values():
        before = {k: v.clone() for k, v in call.arguments.items() if isinstance(v, Tensor)}
        for reduction in call.loss.reductions:
            call.run(reduction=reduction)
        assert all(torch.equal(call.arguments[k], v) for k, v in before.items()), call


@over_halves
def test_half_types_without_ml_dtypes(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    for call in cases.FIRST.values():
        assert call.cast(dtype).run().loss.dtype == dtype


@over_functions
def test_result_is_a_tensor_of_its_own(name: str) -> None:
    """Nobody else's storage, on the CPU, and no view."""
    call = cases.FIRST[name]
    for reduction in call.loss.reductions:
        loss = call.value(reduction=reduction)
        assert type(loss) is Tensor and loss.device.type == "cpu" and not loss._is_view()
        others = [v.data_ptr() for v in call.arguments.values() if isinstance(v, Tensor)]
        assert loss.data_ptr() not in others
        loss.add_(1.0)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_bits_do_not_depend_on_threads(count: int) -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((257, 1031)).astype(np.float32))
    target, other = torch.from_numpy(rng.integers(0, 1031, 257)), x.roll(1, 0)
    labels = other.sigmoid()

    def results() -> list[Tensor]:
        found = []
        for f in (
            lambda x: ft.cross_entropy(x, target),
            lambda x: ft.cross_entropy(x, target, reduction="none"),
            lambda x: ft.mse_loss(x, other),
            lambda x: ft.huber_loss(x, other, reduction="none"),
            lambda x: ft.binary_cross_entropy_with_logits(x, labels),
            lambda x: ft.kl_div_with_logits(x, other),
            lambda x: ft.log_cosh_loss(x, other),
        ):
            leaf = x.clone().requires_grad_()
            loss = f(leaf)
            loss.backward(torch.full_like(loss, 1.5))
            found += [loss.detach(), leaf.grad]
        return found

    before = torch.get_num_threads()
    expected = results()
    torch.set_num_threads(count)
    try:
        assert all(torch.equal(a, b) for a, b in zip(results(), expected, strict=True))
        assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)


@over_functions
def test_default_type_is_of_no_account(name: str) -> None:
    call = cases.FIRST[name].cast(torch.float32)
    for reduction in call.loss.reductions:
        expected = call.run(reduction=reduction)
        torch.set_default_dtype(torch.float64)
        try:
            actual = call.run(reduction=reduction)
        finally:
            torch.set_default_dtype(torch.float32)
        assert actual.loss.dtype == torch.float32 and torch.equal(actual.loss, expected.loss)
        assert all(torch.equal(g, expected.gradients[n]) for n, g in actual.gradients.items())


@over_functions
def test_default_device_is_of_no_account(name: str) -> None:
    """Neither for the loss nor for the gradient: both are where the input is."""
    call = cases.FIRST[name]
    for reduction in call.loss.reductions:
        upstream = torch.ones(call.value(reduction=reduction).shape, dtype=torch.float64)
        leaves = call.leaves()
        with torch.device("meta"):
            loss = call.value(leaves, reduction=reduction)
            assert loss.device.type == "cpu"
            loss.backward(upstream)
        result = cases.Result(loss.detach(), {n: x.grad for n, x in leaves.items()})
        call.check(result, call.expected(reduction), torch.float64, title=reduction)


@pytest.mark.parametrize("name", [n for n in cases.NAMES_OF_OWN if not n.startswith("linear")])
def test_first_argument_decides_the_type(name: str) -> None:
    """As in NumPy, others are converted to its type; each gradient has the type of its argument."""
    call = cases.FIRST[name]
    first = next(iter(call.arguments))
    mixed = {**call.arguments, first: call.arguments[first].float()}
    rounded = {
        k: v.float().double() if isinstance(v, Tensor) and v.dtype == torch.float64 else v
        for k, v in mixed.items()
    }
    for reduction in call.loss.reductions:
        result = Call(call.loss, call.label, mixed, call.options).run(reduction=reduction)
        assert result.loss.dtype == torch.float32
        assert {n: g.dtype for n, g in result.gradients.items()} == {n: mixed[n].dtype for n in call.wants}
        expected = Call(call.loss, call.label, rounded, call.options).expected(reduction)
        call.check(result, expected, torch.float32, title=reduction)


# The edges


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", cases.NAMES_OF_TORCH)
def test_empty_batch_is_as_torchs(name: str, reduction: str) -> None:
    call = cases.FIRST[name]
    empty = {
        k: v[:0] if isinstance(v, Tensor) and k in ("input", "target", "var") else v
        for k, v in call.arguments.items()
    }
    none = Call(call.loss, call.label, empty, {})
    if name == "multi_margin_loss" and reduction == "mean":  # torch's is a number that nobody has written
        assert none.value(reduction=reduction).isnan()
        return
    assert_same(
        outcome(lambda: none.run(function=cases.TORCHS[name], reduction=reduction)),
        outcome(lambda: none.run(reduction=reduction)),
        call,
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@over_dtypes
def test_all_ignored(dtype: torch.dtype, smoothing: float, reduction: str) -> None:
    x = torch.randn(6, 7).to(dtype)
    target = torch.full((6,), -100)
    results = []
    for f in (functional.cross_entropy, ft.cross_entropy):
        leaf = x.clone().requires_grad_()
        loss = f(leaf, target, reduction=reduction, label_smoothing=smoothing)
        loss.sum().backward()
        results.append((loss, leaf.grad))
    (theirs, _), (ours, grad) = results
    torch.testing.assert_close(ours, theirs, equal_nan=True, rtol=0.0, atol=0.0)
    # As DESIGN has it: the mean is NaN and its gradient 0.
    assert not grad.any()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_values_at_ignored_rows_are_not_read(reduction: str) -> None:
    x = torch.randn(6, 7)
    x[1] = math.nan
    target = torch.tensor([0, -100, 2, 3, 4, 5])
    leaf = x.clone().requires_grad_()
    loss = ft.cross_entropy(leaf, target, reduction=reduction)
    assert loss.isfinite().all()
    loss.sum().backward()
    assert leaf.grad.isfinite().all() and not leaf.grad[1].any() and leaf.grad[0].any()


def test_masked_classes() -> None:
    x = torch.randn(8, 9, dtype=torch.float64)
    x[:, ::2] = -math.inf
    target = torch.arange(8) % 4 * 2 + 1
    call = Call(cases.OF_TORCH[0], "masked", {"input": x, "target": target}, {})
    for reduction in REDUCTIONS:
        result = call.run(reduction=reduction)
        call.check(result, call.expected(reduction), torch.float64)
        assert not result.gradients["input"][:, ::2].any()


def test_certain_probabilities() -> None:
    """torch holds logarithms above -100, and the gradient's denominator above 1e-12."""
    p = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.5], dtype=torch.float64)
    t = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    for reduction in REDUCTIONS:
        results = []
        for f in (functional.binary_cross_entropy, ft.binary_cross_entropy):
            leaf = p.clone().requires_grad_()
            loss = f(leaf, t, reduction=reduction)
            loss.sum().backward()
            results.append((loss.detach(), leaf.grad))
        torch.testing.assert_close(results[1], results[0], rtol=1e-7, atol=0.0)


ODD_TARGETS = {
    "binary_cross_entropy_with_logits": (-1.0, 1.5, 3.0),
    "binary_cross_entropy": (-1.0, 1.5),
    "soft_margin_loss": (0.0, 0.5, -3.0),
    "multilabel_soft_margin_loss": (-1.0, 1.5),
    "poisson_nll_loss": (-2.0,),
    "kl_div": (-0.5, 1.5, 0.0),
    "mse_loss": (math.inf, math.nan),
    "l1_loss": (math.inf, math.nan),
    "huber_loss": (math.inf, math.nan),
    "smooth_l1_loss": (math.inf, math.nan),
    "gaussian_nll_loss": (math.inf, math.nan),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in ODD_TARGETS.items() for value in values]
)
def test_odd_targets_are_as_torchs(name: str, value: float) -> None:
    """torch does not look at the domain of most targets."""
    call = cases.FIRST[name]
    target = call.arguments["target"].clone()
    target[1, 2] = value
    odd = Call(call.loss, call.label, {**call.arguments, "target": target}, call.options)
    for reduction in REDUCTIONS:
        results = [
            outcome(lambda r=reduction, f=f: odd.run(function=f, reduction=r))
            for f in (cases.TORCHS[name], None)
        ]
        if all(isinstance(result, cases.Result) for result in results) and results[0].loss.isnan().any():
            # A loss of NaN has any gradient (torch's may be the sign of it).
            results = [result.loss for result in results]
        assert_same(*results, odd)


@pytest.mark.parametrize("name", [n for n in cases.NAMES_OF_TORCH if n != "binary_cross_entropy"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
def test_odd_inputs(name: str, value: float) -> None:
    """NaN stays NaN, in its own row alone; infinities are as torch's, or better than NaN."""
    call = cases.FIRST[name]
    x = call.arguments["input"].clone()
    x[1, 2] = value
    odd = Call(call.loss, call.label, {**call.arguments, "input": x}, {})
    ours = odd.value(reduction="none")
    theirs = odd.value(function=cases.TORCHS[name], reduction="none")
    if math.isnan(value):
        expected = torch.zeros_like(ours, dtype=torch.bool)
        if name != "nll_loss":  # which reads nothing but the target's
            expected[(1, 2) if ours.ndim == 2 else 1] = True
        assert torch.equal(ours.isnan(), expected)
    good = ~(theirs.isnan() | ours.isnan()) if math.isnan(value) else ~theirs.isnan()
    torch.testing.assert_close(ours[good], theirs[good], rtol=1e-11, atol=1e-12)


# What is torch's ground


def assert_same(theirs: Any, ours: Any, call: Any = "") -> None:
    """The same result, or an exception of the same type."""
    if isinstance(theirs, Exception) or isinstance(ours, Exception):
        assert type(ours) is type(theirs), f"{call}: {ours!r}, torch: {theirs!r}"
        return
    if isinstance(theirs, cases.Result):
        assert ours.gradients.keys() == theirs.gradients.keys()
        theirs = [theirs.loss, *theirs.gradients.values()]
        ours = [ours.loss, *ours.gradients.values()]
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7, equal_nan=True, check_stride=False)


def with_gradients(f: Callable[..., Tensor], *tensors: Any, **options: Any) -> Callable[[], Any]:
    """Call a function with leaves of its tensors; the loss, and the gradient of each leaf."""

    def run() -> list[Tensor]:
        leaves = [
            t.detach().clone().requires_grad_(t.requires_grad) if isinstance(t, Tensor) else t
            for t in tensors
        ]
        named = {
            k: v.detach().clone().requires_grad_(v.requires_grad) if isinstance(v, Tensor) else v
            for k, v in options.items()
        }
        loss = f(*leaves, **named)
        if loss.requires_grad:
            loss.sum().backward()
        grads = [t.grad for t in (*leaves, *named.values()) if isinstance(t, Tensor)]
        return [loss.detach(), *(g for g in grads if g is not None)]

    return run


SEEDS = itertools.count()


def leaf(*shape: int, dtype: torch.dtype = torch.float32, requires_grad: bool = True) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(next(SEEDS))).to(dtype)
    return x.requires_grad_(requires_grad)


def fixed(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return leaf(*shape, dtype=dtype, requires_grad=False)


CLASSES = torch.tensor([0, 2, 1, 4])
# Calls that torch answers, or refuses, in a way of its own: name, arguments and options.
TORCHS_GROUND: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "broadcast-target": ("mse_loss", (leaf(4, 5), fixed(5)), {}),
    "broadcast-input": ("l1_loss", (leaf(5), fixed(4, 5)), {}),
    "broadcast-column": ("huber_loss", (leaf(4, 1), fixed(4)), {}),
    "broadcast-smooth": ("smooth_l1_loss", (leaf(4, 5), fixed(4, 1)), {"reduction": "none"}),
    "broadcast-kl": ("kl_div", (leaf(4, 5), fixed(5)), {"reduction": "sum", "log_target": True}),
    "broadcast-poisson": ("poisson_nll_loss", (leaf(4, 5), fixed(5).abs()), {}),
    "broadcast-multilabel": ("multilabel_soft_margin_loss", (leaf(4, 5), fixed(5).sigmoid()), {}),
    "broadcast-soft-margin": ("soft_margin_loss", (leaf(4, 5), fixed(5).sign()), {}),
    "broadcast-bce-weight": (
        "binary_cross_entropy",
        (leaf(4, 5).sigmoid().detach().requires_grad_(), fixed(4, 5).sigmoid()),
        {"weight": fixed(5).abs()},
    ),
    "broadcast-logits-weight": (
        "binary_cross_entropy_with_logits",
        (leaf(4, 5), fixed(4, 5).sigmoid()),
        {"weight": fixed(4, 1).abs()},
    ),
    "pos-weight-of-classes": (
        "binary_cross_entropy_with_logits",
        (leaf(4, 5), fixed(4, 5).sigmoid()),
        {"pos_weight": fixed(5).abs()},
    ),
    "one-pos-weight": (
        "binary_cross_entropy_with_logits",
        (leaf(4, 5), fixed(4, 5).sigmoid()),
        {"pos_weight": torch.tensor(2.0)},
    ),
    "bce-other-shape": ("binary_cross_entropy", (fixed(4, 5).sigmoid(), fixed(5).sigmoid()), {}),
    "logits-other-shape": ("binary_cross_entropy_with_logits", (leaf(4, 5), fixed(5)), {}),
    "mse-other-shape": ("mse_loss", (leaf(4, 5), fixed(3)), {}),
    "mse-weight-shape": ("mse_loss", (leaf(4, 5), fixed(4, 5)), {"weight": fixed(5)}),
    "huber-weight-shape": ("huber_loss", (leaf(4, 5), fixed(4, 5)), {"weight": fixed(4, 1)}),
    "same-var": ("gaussian_nll_loss", (leaf(4, 5), fixed(4, 5), leaf(4, 1).abs().detach()), {}),
    "short-var": ("gaussian_nll_loss", (leaf(4, 5), fixed(4, 5), fixed(4).abs().requires_grad_()), {}),
    "bad-var-shape": ("gaussian_nll_loss", (leaf(4, 5), fixed(4, 5), fixed(3).abs()), {}),
    "negative-var": ("gaussian_nll_loss", (leaf(4, 5), fixed(4, 5), -fixed(4, 5).abs() - 1.0), {}),
    "negative-number-var": ("gaussian_nll_loss", (leaf(4, 5), fixed(4, 5), -1.0), {}),
    "gaussian-target-shape": ("gaussian_nll_loss", (leaf(4, 5), fixed(5), fixed(4, 5).abs()), {}),
    "wider-target": ("mse_loss", (leaf(4, 5), fixed(4, 5, dtype=torch.float64)), {}),
    "narrower-target": ("mse_loss", (leaf(4, 5), fixed(4, 5, dtype=torch.bfloat16)), {}),
    "integer-target": ("mse_loss", (leaf(4), CLASSES), {}),
    "integer-l1": ("l1_loss", (torch.arange(4), CLASSES), {}),
    "integer-sum": ("mse_loss", (torch.arange(4), CLASSES), {"reduction": "sum"}),
    "boolean-target": ("binary_cross_entropy_with_logits", (leaf(4, 5), fixed(4, 5) > 0), {}),
    "boolean-bce": ("binary_cross_entropy", (fixed(4, 5).sigmoid(), fixed(4, 5) > 0), {}),
    "integer-logits-target": ("binary_cross_entropy_with_logits", (leaf(4), CLASSES), {}),
    "mixed-huber": ("huber_loss", (leaf(4, 5), fixed(4, 5, dtype=torch.float64)), {}),
    "mixed-smooth": ("smooth_l1_loss", (leaf(4, 5), fixed(4, 5, dtype=torch.float64)), {}),
    "mixed-poisson": ("poisson_nll_loss", (leaf(4, 5), fixed(4, 5, dtype=torch.float64).abs()), {}),
    "integer-poisson": ("poisson_nll_loss", (leaf(4), CLASSES), {}),
    "mixed-kl": ("kl_div", (leaf(4, 5), fixed(4, 5, dtype=torch.float64).sigmoid()), {"reduction": "sum"}),
    "mixed-weight": ("cross_entropy", (leaf(4, 5), CLASSES), {"weight": fixed(5, dtype=torch.float64).abs()}),
    "mixed-probabilities": (
        "cross_entropy",
        (leaf(4, 5), fixed(4, 5, dtype=torch.float64).softmax(1)),
        {},
    ),
    "complex": ("mse_loss", (fixed(4, 5).to(torch.complex64), fixed(4, 5).to(torch.complex64)), {}),
    "complex-l1": ("l1_loss", (leaf(4, 5, dtype=torch.complex64), fixed(4, 5, dtype=torch.complex64)), {}),
    "integer-logits": ("cross_entropy", (torch.zeros(4, 5, dtype=torch.int64), CLASSES), {}),
    "target-wants": ("mse_loss", (leaf(4, 5), leaf(4, 5)), {}),
    "only-target-wants": ("l1_loss", (fixed(4, 5), leaf(4, 5)), {"reduction": "none"}),
    "kl-target-wants": (
        "kl_div",
        (leaf(4, 5), fixed(4, 5).sigmoid().requires_grad_()),
        {"reduction": "batchmean"},
    ),
    "logits-target-wants": (
        "binary_cross_entropy_with_logits",
        (leaf(4, 5), fixed(4, 5).sigmoid().requires_grad_()),
        {},
    ),
    "bce-target-wants": (
        "binary_cross_entropy",
        (fixed(4, 5).sigmoid().requires_grad_(), fixed(4, 5).sigmoid().requires_grad_()),
        {},
    ),
    "probabilities-want": ("cross_entropy", (leaf(4, 5), fixed(4, 5).softmax(1).requires_grad_()), {}),
    "poisson-target-wants": ("poisson_nll_loss", (leaf(4, 5), leaf(4, 5)), {}),
    "gaussian-target-wants": ("gaussian_nll_loss", (leaf(4, 5), leaf(4, 5), 0.5), {}),
    "soft-margin-target-wants": ("soft_margin_loss", (leaf(4, 5), leaf(4, 5)), {}),
    "multilabel-target-wants": ("multilabel_soft_margin_loss", (leaf(4, 5), leaf(4, 5)), {}),
    "smooth-target-wants": ("smooth_l1_loss", (leaf(4, 5), leaf(4, 5)), {}),
    "huber-target-wants": ("huber_loss", (leaf(4, 5), leaf(4, 5)), {}),
    "class-weight-wants": ("cross_entropy", (leaf(4, 5), CLASSES), {"weight": leaf(5)}),
    "class-weight-of-probabilities-wants": (
        "cross_entropy",
        (leaf(4, 5), fixed(4, 5).softmax(1)),
        {"weight": leaf(5)},
    ),
    "nll-weight-wants": ("nll_loss", (leaf(4, 5), CLASSES), {"weight": leaf(5)}),
    "mse-weight-wants": ("mse_loss", (leaf(4, 5), fixed(4, 5)), {"weight": leaf(4, 5)}),
    "huber-weight-wants": ("huber_loss", (leaf(4, 5), fixed(4, 5)), {"weight": leaf(4, 5)}),
    "logits-weight-wants": (
        "binary_cross_entropy_with_logits",
        (leaf(4, 5), fixed(4, 5).sigmoid()),
        {"weight": leaf(4, 5)},
    ),
    "pos-weight-wants": (
        "binary_cross_entropy_with_logits",
        (leaf(4, 5), fixed(4, 5).sigmoid()),
        {"pos_weight": leaf(5)},
    ),
    "multilabel-weight-wants": (
        "multilabel_soft_margin_loss",
        (leaf(4, 5), fixed(4, 5).sigmoid()),
        {"weight": leaf(5)},
    ),
    "too-few-targets": ("cross_entropy", (leaf(4, 5), CLASSES[:3]), {}),
    "column-of-targets": ("cross_entropy", (leaf(4, 5), CLASSES[:, None]), {}),
    "one-hot-integers": ("cross_entropy", (leaf(4, 5), torch.eye(5, dtype=torch.int64)[CLASSES]), {}),
    "float-indices": ("cross_entropy", (leaf(4, 5), CLASSES.float()), {}),
    "scalar-logits": ("cross_entropy", (leaf(), torch.tensor(0)), {}),
    "class-weight-shape": ("cross_entropy", (leaf(4, 5), CLASSES), {"weight": fixed(4).abs()}),
    "smoothing-above": ("cross_entropy", (leaf(4, 5), CLASSES), {"label_smoothing": 1.5}),
    "smoothing-below": ("cross_entropy", (leaf(4, 5), CLASSES), {"label_smoothing": -0.5}),
    "batch-last": ("cross_entropy", (leaf(2, 3, 5), torch.zeros(2, 3, dtype=torch.int64)), {}),
    "nll-too-few-targets": ("nll_loss", (leaf(4, 5), CLASSES[:3]), {}),
    "nll-weight-shape": ("nll_loss", (leaf(4, 5), CLASSES), {"weight": fixed(4).abs()}),
    "nll-scalar": ("nll_loss", (leaf(), torch.tensor(0)), {}),
    "nll-float-indices": ("nll_loss", (leaf(4, 5), CLASSES.float()), {}),
    "linear-widths": ("linear_cross_entropy", (leaf(4, 6), leaf(5, 7), CLASSES), {}),
    "linear-bias-shape": (
        "linear_cross_entropy",
        (leaf(4, 6), leaf(5, 6), CLASSES),
        {"linear_bias": leaf(4)},
    ),
    "linear-3d-input": ("linear_cross_entropy", (leaf(2, 2, 6), leaf(5, 6), CLASSES.view(2, 2)), {}),
    "linear-of-features": (
        "linear_cross_entropy",
        (leaf(4, 6), leaf(5, 3, 6), torch.zeros(4, 3, dtype=torch.int64)),
        {},
    ),
    "linear-ignore-of-probabilities": (
        "linear_cross_entropy",
        (leaf(4, 6), leaf(5, 6), fixed(4, 5).softmax(1)),
        {"ignore_index": 2},
    ),
    "linear-mixed": ("linear_cross_entropy", (leaf(4, 6), leaf(5, 6, dtype=torch.float64), CLASSES), {}),
    "linear-chunked": (
        "linear_cross_entropy",
        (leaf(4, 6), leaf(5, 6), CLASSES),
        {"options": torch.nn.LinearCrossEntropyOptions()},
    ),
    "outside-of-probabilities": (
        "binary_cross_entropy",
        (2.0 + fixed(4, 5).abs(), fixed(4, 5).sigmoid()),
        {},
    ),
    "negative-delta": ("huber_loss", (leaf(4, 5), fixed(4, 5)), {"delta": -1.0}),
    "no-delta": ("huber_loss", (leaf(4, 5), fixed(4, 5)), {"delta": 0.0}),
    "negative-beta": ("smooth_l1_loss", (leaf(4, 5), fixed(4, 5)), {"beta": -1.0}),
    "third-power": ("multi_margin_loss", (leaf(4, 5), CLASSES), {"p": 3}),
    "margin-shape": ("multi_margin_loss", (leaf(4, 5), CLASSES[:3]), {}),
    "margin-3d": ("multi_margin_loss", (leaf(2, 4, 5), CLASSES), {}),
    "margin-weight-shape": ("multi_margin_loss", (leaf(4, 5), CLASSES), {"weight": fixed(4)}),
    "multilabel-scalar": ("multilabel_soft_margin_loss", (leaf(), fixed()), {}),
    "negative-eps": ("poisson_nll_loss", (leaf(4, 5), fixed(4, 5).abs()), {"eps": -1.0, "log_input": False}),
    "a-list": ("mse_loss", ([1.0, 2.0], fixed(2)), {}),
    "an-array": ("mse_loss", (np.ones(2), fixed(2)), {}),
    "none": ("cross_entropy", (leaf(4, 5), None), {}),
    "unknown-option": ("mse_loss", (leaf(4, 5), fixed(4, 5)), {"axis": 1}),
}


@pytest.mark.filterwarnings("ignore:Using a target size:UserWarning")
@pytest.mark.parametrize("label", TORCHS_GROUND)
def test_torchs_ground(label: str) -> None:
    """Same results, same gradients, same exceptions."""
    name, tensors, options = TORCHS_GROUND[label]
    theirs = outcome(with_gradients(cases.TORCHS[name], *tensors, **options))
    ours = outcome(with_gradients(getattr(ft, name), *tensors, **options))
    assert_same(theirs, ours, label)


@pytest.mark.parametrize("name", cases.NAMES_OF_TORCH)
@pytest.mark.parametrize("reduction", ["average", "", "batchmean", None, 1], ids=repr)
def test_unknown_reductions(name: str, reduction: Any) -> None:
    call = cases.FIRST[name]
    assert_same(
        outcome(lambda: call.run(function=cases.TORCHS[name], reduction=reduction)),
        outcome(lambda: call.run(reduction=reduction)),
        name,
    )


def test_warning_of_broadcasting_is_kept() -> None:
    for f in (ft.mse_loss, ft.l1_loss, ft.huber_loss, ft.smooth_l1_loss):
        with pytest.warns(UserWarning, match="Using a target size"):
            f(torch.zeros(4, 1), torch.zeros(4))


class Tagged(Tensor):
    """A subclass that does nothing."""


class Counting(Tensor):
    """A subclass that counts the functions called with it."""

    called: list[Any] = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.called.append(func)
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize("subclass", [Tagged, Counting])
@pytest.mark.parametrize("name", cases.NAMES_OF_TORCH)
def test_subclasses_are_torchs(name: str, subclass: type[Tensor]) -> None:
    call = cases.FIRST[name]
    first = next(iter(call.arguments))
    special = {**call.arguments, first: call.arguments[first].as_subclass(subclass)}
    tagged = Call(call.loss, call.label, special, call.options)
    Counting.called.clear()
    theirs = tagged.value(function=cases.TORCHS[name])
    assert bool(Counting.called) == (subclass is Counting)
    Counting.called.clear()
    ours = tagged.value()
    assert bool(Counting.called) == (subclass is Counting)
    assert type(ours) is type(theirs)
    assert torch.equal(ours.as_subclass(Tensor), theirs.as_subclass(Tensor))


@pytest.mark.parametrize("name", cases.FIRST)
def test_parameters_are_ours(name: str) -> None:
    """nn.Parameter is a subclass, too, but an ordinary tensor in everything."""
    call = cases.FIRST[name]
    parameters = {n: torch.nn.Parameter(call.arguments[n].clone()) for n in call.wants}
    loss = call.value(parameters)
    assert type(loss) is Tensor
    loss.sum().backward()
    default = "none" if loss.ndim else inspect.signature(call.function).parameters["reduction"].default
    expected = call.expected(default)
    for n, p in parameters.items():
        cases.assert_near(p.grad, expected.gradients[n], 1e-11, title=n)


def test_options_that_torch_lacks_with_parameters() -> None:
    """torch has no function for these, so that ours must have been called."""
    layer = torch.nn.Linear(6, 11)
    x, target = torch.randn(8, 6), torch.arange(8)
    loss = ft.linear_cross_entropy(x, layer.weight, target, linear_bias=layer.bias, z_loss=0.01)
    loss.backward()
    assert layer.weight.grad.any() and layer.bias.grad.any()


@pytest.mark.parametrize("name", cases.NAMES_OF_TORCH)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_meta_tensors_are_torchs(name: str, reduction: str) -> None:
    call = cases.FIRST[name].cast(torch.float32)
    meta = {k: v.to("meta") if isinstance(v, Tensor) else v for k, v in call.arguments.items()}
    of_meta = Call(call.loss, call.label, meta, {})

    def run(function: Any) -> Any:
        loss = of_meta.value(function=function, reduction=reduction)
        return loss.device, loss.shape, loss.dtype

    theirs, ours = outcome(lambda: run(cases.TORCHS[name])), outcome(lambda: run(None))
    if isinstance(theirs, Exception):
        assert type(ours) is type(theirs)
    else:
        assert ours == theirs


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "cross_entropy"])
def test_sparse_tensors_are_torchs(name: str) -> None:
    dense = torch.eye(4, 5)
    target = CLASSES if name == "cross_entropy" else torch.ones(4, 5)

    def run(f: Any) -> Any:
        loss = f(dense.to_sparse(), target)
        return loss.to_dense() if loss.is_sparse else loss

    assert_same(outcome(lambda: run(cases.TORCHS[name])), outcome(lambda: run(getattr(ft, name))), name)


NO_FUNCTION = (TypeError, ValueError, RuntimeError)  # NotImplementedError is one of the last


@pytest.mark.parametrize(
    "options",
    [{"z_loss": 0.1}, {"softcap": 0.5}, {"temperature": 2.0}, {"sample_weight": torch.arange(4.0)}],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("ground", ["meta", "subclass", "target-wants", "complex", "func"])
def test_options_that_torch_lacks_outside_of_our_ground(ground: str, options: dict[str, Any]) -> None:
    """An error, or right; never dropped in silence."""
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    call: dict[str, Callable[[], Tensor]] = {
        "meta": lambda: ft.cross_entropy(x.to("meta"), CLASSES.to("meta"), **options),
        "subclass": lambda: ft.cross_entropy(x.as_subclass(Tagged), CLASSES, **options),
        "target-wants": lambda: ft.cross_entropy(x, x.softmax(1).requires_grad_(), **options),
        "complex": lambda: ft.cross_entropy(x.to(torch.complex64), CLASSES, **options),
        "func": lambda: torch.func.grad_and_value(lambda x: ft.cross_entropy(x, CLASSES, **options))(x)[1],
    }
    result = outcome(call[ground])
    if isinstance(result, Exception):
        assert isinstance(result, NO_FUNCTION)
    elif ground == "meta":
        assert result.is_meta and result.shape == ()
    else:
        assert ground in ("subclass", "func")
        torch.testing.assert_close(result.as_subclass(Tensor), ft.cross_entropy(x, CLASSES, **options))


# Errors of ours


@pytest.mark.parametrize("bad", [5, -1, 10**9])
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss", "multi_margin_loss", "linear_cross_entropy"])
def test_class_index_out_of_range(name: str, bad: int) -> None:
    target = torch.tensor([0, 1, bad, 2])
    weights = (torch.randn(5, 5),) if name.startswith("linear") else ()
    for reduction in REDUCTIONS:
        with pytest.raises(IndexError):
            getattr(ft, name)(leaf(4, 5), *weights, target, reduction=reduction)


@pytest.mark.parametrize("bad", [7, -1])
@pytest.mark.parametrize("name", ["token_log_probs", "sequence_log_probs", "linear_token_log_probs"])
def test_token_out_of_range(name: str, bad: int) -> None:
    call = cases.FIRST[name]
    target = call.arguments["target"].clone()
    target[-1] = bad if name != "linear_token_log_probs" else 11
    with pytest.raises(IndexError):
        Call(call.loss, call.label, {**call.arguments, "target": target}, {}).run()


NO_GRADIENT = {
    "sigmoid_focal_loss": ("target",),
    "hinge_loss": ("target",),
    "squared_hinge_loss": ("target",),
    "log_cosh_loss": ("target",),
    "quantile_loss": ("target",),
    "gamma_nll_loss": ("target",),
    "tweedie_nll_loss": ("target",),
    "epsilon_insensitive_loss": ("target",),
    "mean_squared_log_loss": ("target",),
    "dpo_loss": ("ref_chosen_logps", "ref_rejected_logps"),
    "kto_loss": ("ref_logps",),
    "ppo_loss": ("old_logps", "advantages"),
    "value_loss": ("old_values", "returns"),
    "grpo_loss": ("old_logps", "advantages"),
    "kl_penalty": ("ref_logps",),
}


@pytest.mark.parametrize(("name", "argument"), [(n, a) for n, names in NO_GRADIENT.items() for a in names])
def test_gradients_that_do_not_exist(name: str, argument: str) -> None:
    call = cases.FIRST[name]
    leaves = call.leaves((argument,))
    for more in ({}, call.leaves()):
        with pytest.raises(ValueError, match=argument):
            call.value({**leaves, **more})
    # Where no gradient is recorded, none is missing.
    with torch.no_grad():
        assert torch.equal(call.value(leaves), call.value())


@pytest.mark.parametrize("name", NO_GRADIENT)
def test_weight_that_wants_a_gradient(name: str) -> None:
    call = cases.FIRST[name]
    if "weight" in inspect.signature(call.function).parameters:
        weight = torch.ones(cases.SHAPE, dtype=torch.float64, requires_grad=True)
        with pytest.raises(ValueError, match="weight"):
            call.value(weight=weight)


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss", "linear_cross_entropy"])
def test_sample_weight_that_wants_a_gradient(name: str) -> None:
    call = cases.FIRST[name]
    weight = torch.ones(call.arguments["target"].shape, dtype=torch.float64, requires_grad=True)
    with pytest.raises((ValueError, RuntimeError), match="sample_weight"):
        call.run(sample_weight=weight)


BAD_OPTIONS = {
    "log_cosh_loss": {"reduction": "average"},
    "quantile_loss": {"quantile": 1.5},
    "tweedie_nll_loss": {"power": 0.5},
    "hinge_loss": {"margin": math.nan},
    "dpo_loss": {"beta": 0.0},
    "simpo_loss": {"label_smoothing": 2.0},
    "cpo_loss": {"loss_type": "unknown"},
    "ppo_loss": {"clip": -1.0},
    "kl_penalty": {"estimator": "k4"},
    "entropy": {"temperature": 0.0},
    "js_div_with_logits": {"beta": 2.0},
    "l1_penalty": {"strength": -1.0},
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options_are_named(name: str) -> None:
    call, bad = cases.FIRST[name], BAD_OPTIONS[name]
    changed = {k: v for k, v in call.arguments.items() if k not in bad}
    with pytest.raises(ValueError, match=next(iter(bad))):
        Call(call.loss, call.label, changed, {**call.options, **bad}).value()


@pytest.mark.parametrize("name", [n for n in cases.NAMES_OF_OWN if "target" in cases.FIRST[n].arguments])
def test_shapes_of_ours_do_not_broadcast(name: str) -> None:
    call = cases.FIRST[name]
    short = {**call.arguments, "target": call.arguments["target"][..., :1]}
    with pytest.raises(ValueError, match="target"):
        Call(call.loss, call.label, short, {}).value()


@pytest.mark.parametrize(
    "options",
    [
        {"z_loss": -1.0},
        {"z_loss": math.nan},
        {"softcap": 0.0},
        {"softcap": -2.0},
        {"temperature": 0.0},
        {"sample_weight": torch.ones(3)},
        {"sample_weight": torch.ones(4, 1)},
    ],
    ids=str,
)
def test_bad_extra_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        ft.cross_entropy(torch.randn(4, 5), CLASSES, **options)


@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
def test_loss_scaling_keeps_the_digits_of_float16(autocast: bool) -> None:
    """A factor that lifts gradients above the smallest float16 does so before they are rounded."""
    x = torch.randn(512, 1000, generator=torch.Generator().manual_seed(0)).half()
    target, scale = torch.arange(512), torch.tensor(2.0**15)
    call = Call(cases.OF_TORCH[0], "scaled", {"input": x, "target": target}, {})
    leaf = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.float16, enabled=autocast):
        loss = ft.cross_entropy(leaf, target)
    assert loss.dtype == (torch.float32 if autocast else torch.float16)
    loss.backward(scale.to(loss.dtype))
    result = cases.Result(loss.detach(), {"input": leaf.grad})
    call.check(result, call.expected("mean", scale), torch.float16, roundings=2)
