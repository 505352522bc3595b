"""The functions of fastloss.torch: values, gradients, types, shapes and errors."""

import inspect
import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import Bad, bad, case, full_if, refused
from rows import ROWS

import fastloss

torch = pytest.importorskip("torch")

import torch_cases as cases  # noqa: E402
import torch_tools as tools  # noqa: E402
from torch.nn import LinearCrossEntropyOptions, functional  # noqa: E402
from torch_cases import Call, assert_as_torch, over  # noqa: E402
from torch_tools import DTYPES, HALVES, Counting, Result, assert_near, copied, equal, gradients_of, outcome  # noqa: E402

import fastloss.torch as ft  # noqa: E402

Tensor = torch.Tensor
pytestmark = pytest.mark.filterwarnings(cases.ignore_kl_mean)

# Over all calls the default run has two types.
over_some_dtypes = pytest.mark.parametrize(
    "dtype", [full_if(n in ("float64", "float16"), t) for n, t in DTYPES.items()], ids=DTYPES
)


# The registry


def test_every_name_has_a_row() -> None:
    losses = [*cases.LOSSES, *cases.SLICED]
    assert not cases.without_row(losses, cases.MODULES)
    assert set(cases.FIRST) == {*cases.NAMES_OF_TORCH, *cases.NAMES_OF_OWN}
    assert set(cases.PROGRAM) <= set(ft.__all__) and all(callable(getattr(ft, name)) for name in ft.__all__)
    assert {n for n in cases.NAMES_OF_OWN if hasattr(functional, n)} == set()


@pytest.mark.parametrize("name", [n for n in ft.__all__ if n not in cases.PROGRAM])
def test_a_missing_row_is_found(name: str) -> None:
    losses = [loss for loss in (*cases.LOSSES, *cases.SLICED) if loss.name != name]
    modules = {module: function for module, function in cases.MODULES.items() if module != name}
    assert cases.without_row(losses, modules) == {name}


# Signatures

OF_SOFTMAX = {
    "sample_weight": None, "z_loss": 0.0, "softcap": None, "temperature": 1.0, "logit_scale": 1.0,
}  # fmt: skip
EXTRA = {
    "cross_entropy": {**OF_SOFTMAX, "inplace": False},
    "nll_loss": {"sample_weight": None},
    "linear_cross_entropy": {**OF_SOFTMAX, "memory_budget": None},
}
NOT_FOR_TENSORS = {
    "return_grad", "return_hessian", "grad_output", "out", "accumulate", "num_threads", "check_domain",
    "return_entropy", "teacher_grad",
}  # fmt: skip


def described(function: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@cases.over_torchs
def test_signature_is_that_of_torch(call: Call) -> None:
    ours, theirs = described(call.function), described(cases.TORCHS[call.name])
    extra = [(n, inspect.Parameter.KEYWORD_ONLY, default) for n, default in EXTRA.get(call.name, {}).items()]
    assert ours == [*theirs, *extra]


@cases.over_own
def test_signature_is_that_of_numpy(call: Call) -> None:
    theirs = [p for p in described(getattr(fastloss, call.name)) if p[0] not in NOT_FOR_TENSORS]
    assert described(call.function) == theirs


# Values and gradients


@over_some_dtypes
@cases.over_calls
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


@tools.over_dtypes
@pytest.mark.parametrize("call", [full_if(c not in cases.FIRST.values(), c) for c in cases.CALLS], ids=str)
def test_incoming_gradient(call: Call, dtype: torch.dtype) -> None:
    """One for each element, zeros, and that of `loss.sum()`: one number with strides of 0."""
    call = call.cast(dtype)
    for reduction in call.loss.reductions:
        shape = tuple(call.value(reduction=reduction).shape)
        one = torch.tensor(-2.5) if shape == () else tools.upstream_for(shape)
        for upstream in (one, torch.zeros(shape), torch.tensor(2.0, dtype=dtype).expand(shape)):
            expected = call.expected(reduction, upstream)
            # A half type is rounded once more where the gradient waits for its factor.
            roundings = 1 if reduction == "none" else 2
            call.check(call.run(upstream, reduction=reduction), expected, dtype, roundings, reduction)


@over([n for n, c in cases.FIRST.items() if len(c.wants) > 1])
def test_gradient_of_some_arguments(call: Call) -> None:
    names = call.wants
    expected = {r: call.expected(r) for r in call.loss.reductions}
    for chosen in (*((n,) for n in names), names[:2], names[::2]):
        for reduction in call.loss.reductions:
            result = call.run(wanted=chosen, reduction=reduction)
            call.check(result, expected[reduction], torch.float64, title=f"{chosen} {reduction}")


@cases.over_torchs
def test_arguments_by_name_and_by_position(call: Call) -> None:
    parameters = inspect.signature(cases.TORCHS[call.name]).parameters.values()
    given = {**call.arguments, **call.options}
    values = {p.name: given.get(p.name, p.default) for p in parameters}
    expected = cases.TORCHS[call.name](**values)
    by_position = [values[p.name] for p in parameters if p.kind is not p.KEYWORD_ONLY]
    by_name = {p.name: values[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}
    for actual in (call.function(**values), call.function(*by_position, **by_name)):
        assert_near(actual, expected, 1e-12, title=call.name)


@pytest.mark.filterwarnings("ignore:size_average and reduce")
@pytest.mark.parametrize(
    ("size_average", "reduce"), [(True, True), (False, True), (None, False), (False, None)]
)
@over([n for n, f in cases.TORCHS.items() if "size_average" in inspect.signature(f).parameters])
def test_old_names_of_reductions(call: Call, size_average: bool | None, reduce: bool | None) -> None:
    old = {"size_average": size_average, "reduce": reduce}
    call.check(call.run(**old), call.run(function=cases.TORCHS[call.name], **old), torch.float64)


# Types, strides and storage

INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
WITH_TARGET = [c for c in cases.FIRST.values() if "target" in c.arguments]
OF_CLASSES = [c for c in WITH_TARGET if not c.arguments["target"].is_floating_point()]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("call", OF_CLASSES, ids=str)
def test_class_indices_of_any_type(call: Call, dtype: torch.dtype) -> None:
    target = call.arguments["target"]
    if dtype is torch.uint8 and (target < 0).any():
        call = call.bare().changed(target=target.abs() % 7)
    expected = call.run()
    actual = call.changed(target=call.arguments["target"].to(dtype)).run()
    assert equal(actual.list(), expected.list())


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_no_type_wraps_into_the_ignored_class(name: str) -> None:
    x = torch.zeros(2, 200).log_softmax(1)
    target = torch.tensor([156, 3], dtype=torch.uint8)  # 156 is -100 in eight bits
    loss = getattr(ft, name)(x, target, reduction="none")
    torch.testing.assert_close(loss, torch.full((2,), math.log(200.0)))


@pytest.mark.parametrize("layout", ["strided", "transposed", "off"])
@cases.over_functions
def test_layout_of_arguments(call: Call, layout: str) -> None:
    """Views with any strides: of all arguments, and of the gradient that comes in."""
    moved = {k: tools.layouts(v)[layout] for k, v in call.arguments.items() if isinstance(v, Tensor)}
    view = call.changed(**moved)
    for reduction in call.loss.reductions:
        shape = tuple(call.value(reduction=reduction).shape)
        upstream = tools.upstream_for(shape)
        expected = call.expected(reduction, upstream)
        leaves = {n: moved[n].detach().requires_grad_() for n in call.wants}
        loss = view.value(leaves, reduction=reduction)
        given = tools.layouts(upstream)[layout] if shape else upstream
        grads = torch.autograd.grad(loss, list(leaves.values()), given.to(loss.dtype))
        result = Result(loss.detach(), dict(zip(leaves, grads, strict=True)))
        view.check(result, expected, torch.float64, title=f"{layout} {reduction}")


def test_expanded_input() -> None:
    row, target = torch.randn(1, 7, dtype=torch.float64, requires_grad=True), torch.arange(6)
    assert_as_torch("cross_entropy", lambda f: gradients_of(f(row.expand(6, 7), target), row), rtol=1e-12)


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


@tools.over_halves
def test_half_types_without_ml_dtypes(half: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    for call in cases.FIRST.values():
        assert call.cast(half).run().loss.dtype == half


@cases.over_functions
def test_result_is_a_tensor_of_its_own_and_inputs_are_left_alone(call: Call) -> None:
    """Nobody else's storage, on the CPU, and no view."""
    before = call.mapped(Tensor.clone)
    for reduction in call.loss.reductions:
        leaves = call.leaves()
        call.value(leaves, reduction=reduction).sum().backward()
        assert equal(leaves.values(), [before.arguments[n] for n in leaves])
        loss = call.value(reduction=reduction)
        assert type(loss) is Tensor and loss.device.type == "cpu" and not loss._is_view()
        assert loss.data_ptr() not in [v.data_ptr() for v in call.tensors.values()]
        loss.add_(1.0)
    assert equal(call.tensors.values(), before.tensors.values())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_bits_do_not_depend_on_threads(count: int) -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((257, 1031)).astype(np.float32))
    target, other = torch.from_numpy(rng.integers(0, 1031, 257)), x.roll(1, 0)
    labels = other.sigmoid()
    losses: list[Callable[[Tensor], Tensor]] = [
        lambda x: ft.cross_entropy(x, target),
        lambda x: ft.cross_entropy(x, target, reduction="none"),
        lambda x: ft.mse_loss(x, other),
        lambda x: ft.huber_loss(x, other, reduction="none"),
        lambda x: ft.binary_cross_entropy_with_logits(x, labels),
        lambda x: ft.kl_div_with_logits(x, other),
        lambda x: ft.log_cosh_loss(x, other),
    ]

    before = torch.get_num_threads()
    expected = [tools.run(f, [x], 1.5) for f in losses]
    torch.set_num_threads(count)
    try:
        assert all(equal(tools.run(f, [x], 1.5), one) for f, one in zip(losses, expected, strict=True))
        assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)


@cases.over_functions
def test_default_type_is_of_no_account(call: Call) -> None:
    call = call.cast(torch.float32)
    for reduction in call.loss.reductions:
        expected = call.run(reduction=reduction)
        torch.set_default_dtype(torch.float64)
        try:
            actual = call.run(reduction=reduction)
        finally:
            torch.set_default_dtype(torch.float32)
        assert actual.loss.dtype == torch.float32 and equal(actual.list(), expected.list())


@cases.over_functions
def test_default_device_is_of_no_account(call: Call) -> None:
    """Neither for the loss nor for the gradient: both are where the input is."""
    for reduction in call.loss.reductions:
        upstream = torch.ones(call.value(reduction=reduction).shape, dtype=torch.float64)
        leaves = call.leaves()
        with torch.device("meta"):
            loss = call.value(leaves, reduction=reduction)
            assert loss.device.type == "cpu"
            loss.backward(upstream)
        call.check(Result.of(loss, leaves), call.expected(reduction), torch.float64, title=reduction)


# Tensors of several types at once: each is read as what it is


def floats_beside(call: Call) -> list[str]:
    """The tensors other than the first that may be floats of another type."""
    beside = {n for n, x in call.tensors.items() if x.is_floating_point() or n in ("mask", "labels")}
    of_products = {*call.wants, "teacher_input", "teacher_weight", "teacher_bias"}
    return sorted(beside - (of_products if call.has_products else {call.first}))


# All of them at once; in the full matrix each alone, of all calls but those that torch answers.
BESIDE = [pytest.param(call, floats_beside(call), id=str(call)) for call in cases.BEYOND]
BESIDE += [
    pytest.param(call, [name], id=f"{call}-{name}", marks=pytest.mark.full)
    for loss in (*cases.OWN, *cases.EXTRAS)
    for call in loss.calls()
    for name in floats_beside(call)
    if loss in cases.OWN or call.label != "plain"
]


@tools.over_dtypes
@pytest.mark.parametrize("first", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize(("call", "others"), BESIDE)
def test_first_argument_decides_the_type(
    call: Call, others: list[str], first: torch.dtype, dtype: torch.dtype
) -> None:
    """As in NumPy, others are rounded to its type; each gradient has the type of its argument."""
    call = call.cast(first)
    mixed = call.changed(**{n: call.tensors[n].to(dtype) for n in others})
    rounded = mixed.changed(**{n: mixed.tensors[n].to(first) for n in others})
    types = (first, dtype) if others else (first,)
    relative = max(max(call.tolerance[t], 4 * torch.finfo(t).eps * (t in HALVES)) for t in types)
    for reduction in tools.REDUCTIONS:
        result = mixed.run(reduction=reduction)
        assert result.loss.dtype == first
        for ours, exact in zip(result.list(), rounded.expected(reduction).list(), strict=True):
            assert_near(ours.double(), exact, relative, title=f"{call} {reduction}")


@pytest.mark.parametrize("integers", [torch.bool, torch.int64, torch.uint8], ids=str)
@pytest.mark.parametrize("first", DTYPES.values(), ids=DTYPES)
def test_labels_of_integers(first: torch.dtype, integers: torch.dtype) -> None:
    x, t = torch.randn(6, 5, dtype=torch.float64).to(first), torch.randn(6, 5) > 0
    found = ft.sigmoid_focal_loss(x, t.to(integers)).item()
    assert found == pytest.approx(ft.sigmoid_focal_loss(x.double(), t.double()).item(), rel=0.01)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
@cases.over_beyond
def test_integers_are_no_inputs(call: Call, dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match="must be float16, bfloat16, float32 or float64"):
        call.changed(**{call.first: call.arguments[call.first].to(dtype)}).value()


def test_a_number_may_be_a_tensor() -> None:
    a, b, labels = torch.randn(4), torch.randn(4), torch.tensor([True, False, True, True])
    assert torch.equal(ft.kto_loss(a, b, labels, kl=torch.tensor(0.25)), ft.kto_loss(a, b, labels, kl=0.25))
    assert torch.equal(
        ft.HingeLoss(margin=torch.tensor(2.0))(a, b.sign()), ft.hinge_loss(a, b.sign(), margin=2.0)
    )
    with pytest.raises(ValueError, match="kl must not require a gradient"):
        ft.kto_loss(a, b, labels, kl=torch.tensor(0.25, requires_grad=True))


def test_memory_that_is_gone_is_an_error() -> None:
    x = torch.randn(4, 5)
    x.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError):
        ft.cross_entropy(x, CLASSES)


# The edges


@tools.over_reductions
@cases.over_torchs
def test_empty_batch_is_as_torchs(call: Call, reduction: str) -> None:
    of_batch = ("input", "target", "var", "input1", "input2", *cases.TRIPLE)
    none = call.bare().changed(**{k: v[:0] for k, v in call.bare().tensors.items() if k in of_batch})
    # Torch's is a number that nobody has written.
    if call.name in ("multi_margin_loss", "multilabel_margin_loss") and reduction == "mean":
        assert none.value(reduction=reduction).isnan()
        return
    assert_as_torch(call.name, lambda f: none.run(function=f, reduction=reduction))


@tools.over_reductions
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@tools.over_dtypes
def test_all_ignored(dtype: torch.dtype, smoothing: float, reduction: str) -> None:
    x, target = torch.randn(6, 7).to(dtype), torch.full((6,), -100)
    options: dict[str, Any] = {"reduction": reduction, "label_smoothing": smoothing}
    assert_as_torch("cross_entropy", lambda f: f(x, target, **options), rtol=0.0, atol=0.0)
    # As DESIGN has it: the mean is NaN and its gradient 0.
    leaf = x.clone().requires_grad_()
    ft.cross_entropy(leaf, target, **options).sum().backward()
    assert not leaf.grad.any()


@tools.over_reductions
def test_values_at_ignored_rows_are_not_read(reduction: str) -> None:
    leaf = torch.randn(6, 7).index_fill(0, torch.tensor(1), math.nan).requires_grad_()
    loss = ft.cross_entropy(leaf, torch.tensor([0, -100, 2, 3, 4, 5]), reduction=reduction)
    assert loss.isfinite().all()
    loss.sum().backward()
    assert leaf.grad.isfinite().all() and not leaf.grad[1].any() and leaf.grad[0].any()


@tools.over_reductions
def test_masked_classes(reduction: str) -> None:
    x = torch.randn(8, 9, dtype=torch.float64)
    x[:, ::2] = -math.inf
    call = cases.OF_TORCH[0].call().changed(input=x, target=torch.arange(8) % 4 * 2 + 1)
    result = call.run(reduction=reduction)
    call.check(result, call.expected(reduction), torch.float64)
    assert not result.gradients["input"][:, ::2].any()


@tools.over_reductions
def test_certain_probabilities(reduction: str) -> None:
    """torch holds logarithms above -100, and the gradient's denominator above 1e-12."""
    p = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.5], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    assert_as_torch(
        "binary_cross_entropy", lambda f: copied(f, p, t, reduction=reduction)(), rtol=1e-7, atol=0.0
    )


ODD_TARGETS = {
    "binary_cross_entropy_with_logits": (-1.0, 1.5, 3.0),
    "binary_cross_entropy": (-1.0, 1.5),
    "soft_margin_loss": (0.0, 0.5, -3.0),
    "multilabel_soft_margin_loss": (-1.0, 1.5),
    "poisson_nll_loss": (-2.0,),
    "kl_div": (-0.5, 1.5, 0.0),
    **{f"{n}_loss": (math.inf, math.nan) for n in ("mse", "l1", "huber", "smooth_l1", "gaussian_nll")},
}  # fmt: skip


@tools.over_reductions
@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in ODD_TARGETS.items() for value in values]
)
def test_odd_targets_are_as_torchs(name: str, value: float, reduction: str) -> None:
    """torch does not look at the domain of most targets."""
    call = cases.FIRST[name]
    target = call.arguments["target"].clone()
    target[1, 2] = value

    def answer(f: Callable[..., Tensor]) -> Any:
        result = call.changed(target=target).run(function=f, reduction=reduction)
        # A loss of NaN has any gradient (torch's may be the sign of it).
        return result.loss if result.loss.isnan().any() else result

    assert_as_torch(name, answer)


@pytest.mark.parametrize(("name", "option"), [("huber_loss", "delta"), ("smooth_l1_loss", "beta")])
def test_infinite_options_are_torchs(name: str, option: str) -> None:
    x, t = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    found, expected = (getattr(module, name)(x, t, **{option: math.inf}) for module in (ft, functional))
    torch.testing.assert_close(found, expected, equal_nan=True)


@over([n for n in cases.NAMES_OF_TORCH if n != "binary_cross_entropy"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
def test_odd_inputs(call: Call, value: float) -> None:
    """NaN stays NaN, in its own row alone; infinities are as torch's, or better than NaN."""
    call = call.bare()
    x = call.arguments[call.first].clone()
    x[1, 2] = value
    odd = call.changed(**{call.first: x})
    ours = odd.value(reduction="none")
    theirs = odd.value(function=cases.TORCHS[call.name], reduction="none")
    if math.isnan(value):
        expected = torch.zeros_like(ours, dtype=torch.bool)
        if call.name != "nll_loss":  # which reads nothing but the target's
            expected[(1, 2) if ours.ndim == 2 else 1] = True
        assert torch.equal(ours.isnan(), expected)
    good = ~(theirs.isnan() | ours.isnan()) if math.isnan(value) else ~theirs.isnan()
    torch.testing.assert_close(ours[good], theirs[good], rtol=1e-11, atol=1e-12)


# What is torch's ground

# Indices that torch refuses with another exception: an IndexError is ours for all losses of classes.
OUT_OF_RANGE = [
    (name, "target", change)
    for name in ("multi_margin_loss", "multilabel_margin_loss")
    for change in ("integers", "negative")
]
# What torch does not have on the processor.
NOT_IN_TORCH = [("multilabel_margin_loss", "input", "bfloat16")]
# Each tensor of a call, changed in each of these ways.
CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "a gradient": lambda x: x.detach().clone().requires_grad_() if x.is_floating_point() else x,
    "its first row": lambda x: x[0],
    "a column": lambda x: x[..., :1],
    "too short": lambda x: x[:-1],
    "too narrow": lambda x: x[..., :-1],
    "a dimension more": lambda x: x[..., None],
    "one number": lambda x: x.flatten()[0],
    "float64": lambda x: x.double(),
    "bfloat16": lambda x: x.bfloat16(),
    "integers": lambda x: x.long() + 1,
    "booleans": lambda x: x > 0,
    "complex": lambda x: x.to(torch.complex64),
    "negative": lambda x: -x.abs() - 1,
    "negative number": lambda x: -1.0,
    "a list": lambda x: x.tolist(),
    "an array": lambda x: x.numpy(),
    "none": lambda x: None,
    "sparse": lambda x: x.to_sparse(),
}


def with_all_options(loss: cases.Loss) -> Call:
    """A call in float32 with every option that is a tensor."""
    label = next((label for label in ("everything", "weight") if label in loss.options), "plain")
    return loss.call(label).cast(torch.float32)


VARIED = [
    with_all_options(loss) for loss in cases.OF_TORCH if loss.label in ("", "2d", "bias", "probabilities")
]
VARIANTS = [
    pytest.param(call, argument, change, id=f"{call}-{argument}-{change}")
    for call in VARIED
    for argument in call.tensors
    for change in CHANGES
    if (call.name, argument, change) not in (*OUT_OF_RANGE, *NOT_IN_TORCH)
]


@pytest.mark.filterwarnings("ignore:Using a target size:UserWarning")
@pytest.mark.parametrize(("call", "argument", "change"), VARIANTS)
def test_changed_arguments_are_as_torchs(call: Call, argument: str, change: str) -> None:
    """The same results, the same gradients, the same exceptions."""
    call = call.changed(**{argument: CHANGES[change](call.tensors[argument])})
    for is_wanted in (False, True):
        x = call.arguments[call.first]
        if is_wanted and isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex()):
            call = call.changed(**{call.first: x.detach().clone().requires_grad_()})
        arguments, named = call.given()
        assert_as_torch(call.name, lambda f, a=arguments, n=named: copied(f, *a, **n)())


def leaf(*shape: int, dtype: torch.dtype = torch.float32, requires_grad: bool = True) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(next(SEEDS))).to(dtype)
    return x.requires_grad_(requires_grad)


def fixed(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return leaf(*shape, dtype=dtype, requires_grad=False)


SEEDS = itertools.count()
CLASSES = torch.tensor([0, 2, 1, 4])
A, B = leaf(4, 5), fixed(4, 5)
SHARE = B.sigmoid()
# Other calls that torch answers, or refuses, in a way of its own.
TORCHS_GROUND: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("l1_loss", (leaf(5), B), {}),
    ("kl_div", (A, fixed(5)), {"reduction": "sum", "log_target": True}),
    ("binary_cross_entropy_with_logits", (A, SHARE), {"weight": fixed(4, 1).abs()}),
    ("binary_cross_entropy_with_logits", (A, SHARE), {"pos_weight": fixed(5).abs()}),
    ("binary_cross_entropy_with_logits", (A, SHARE), {"pos_weight": leaf(5)}),
    ("binary_cross_entropy_with_logits", (leaf(4), CLASSES), {}),
    ("mse_loss", (torch.arange(4), CLASSES), {"reduction": "sum"}),
    ("l1_loss", (torch.arange(4), CLASSES), {}),
    ("poisson_nll_loss", (leaf(4), CLASSES), {}),
    ("gaussian_nll_loss", (A, B, leaf(4, 1).abs().detach()), {}),
    ("gaussian_nll_loss", (A, B, fixed(4).abs().requires_grad_()), {}),
    ("gaussian_nll_loss", (A, leaf(4, 5), 0.5), {}),
    ("mse_loss", (B.to(torch.complex64), B.to(torch.complex64)), {}),
    ("l1_loss", (leaf(4, 5, dtype=torch.complex64), fixed(4, 5, dtype=torch.complex64)), {}),
    ("l1_loss", (B, leaf(4, 5)), {"reduction": "none"}),
    ("kl_div", (A, fixed(4, 5).sigmoid().requires_grad_()), {"reduction": "batchmean"}),
    ("cross_entropy", (A, torch.eye(5, dtype=torch.int64)[CLASSES]), {}),
    ("cross_entropy", (leaf(), torch.tensor(0)), {}),
    ("cross_entropy", (A, CLASSES), {"label_smoothing": 1.5}),
    ("cross_entropy", (A, CLASSES), {"label_smoothing": -0.5}),
    ("cross_entropy", (leaf(2, 3, 5), torch.zeros(2, 3, dtype=torch.int64)), {}),
    ("nll_loss", (leaf(), torch.tensor(0)), {}),
    ("linear_cross_entropy", (leaf(2, 2, 6), leaf(5, 6), CLASSES.view(2, 2)), {}),
    ("linear_cross_entropy", (leaf(4, 6), leaf(5, 3, 6), torch.zeros(4, 3, dtype=torch.int64)), {}),
    ("linear_cross_entropy", (leaf(4, 6), leaf(5, 6), B.softmax(1)), {"ignore_index": 2}),
    ("linear_cross_entropy", (leaf(4, 6), leaf(5, 6), CLASSES), {"options": LinearCrossEntropyOptions()}),
    ("binary_cross_entropy", (2.0 + B.abs(), SHARE), {}),
    ("huber_loss", (A, B), {"delta": -1.0}),
    ("huber_loss", (A, B), {"delta": 0.0}),
    ("smooth_l1_loss", (A, B), {"beta": -1.0}),
    ("multi_margin_loss", (A, CLASSES), {"p": 3}),
    ("multi_margin_loss", (leaf(2, 4, 5), CLASSES), {}),
    ("multilabel_soft_margin_loss", (leaf(), fixed()), {}),
    ("poisson_nll_loss", (A, B.abs()), {"eps": -1.0, "log_input": False}),
    ("mse_loss", (A, B), {"axis": 1}),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using a target size:UserWarning")
@pytest.mark.parametrize(("name", "tensors", "options"), TORCHS_GROUND)
def test_torchs_ground(name: str, tensors: tuple[Any, ...], options: dict[str, Any]) -> None:
    assert_as_torch(name, lambda f: copied(f, *tensors, **options)())


@cases.over_torchs
@pytest.mark.parametrize("reduction", ["average", "", "batchmean", None, 1], ids=repr)
def test_unknown_reductions(call: Call, reduction: Any) -> None:
    assert_as_torch(call.name, lambda f: call.run(function=f, reduction=reduction))


def test_warning_of_broadcasting_is_kept() -> None:
    for f in (ft.mse_loss, ft.l1_loss, ft.huber_loss, ft.smooth_l1_loss):
        with pytest.warns(UserWarning, match="Using a target size"):
            f(torch.zeros(4, 1), torch.zeros(4))


@pytest.mark.parametrize("subclass", [tools.Tagged, Counting])
@cases.over_torchs
def test_subclasses_are_torchs(call: Call, subclass: type[Tensor]) -> None:
    special = call.changed(**{call.first: call.arguments[call.first].as_subclass(subclass)})
    found = []
    for function in (cases.TORCHS[call.name], None):
        Counting.called.clear()
        found.append(special.value(function=function))
        assert bool(Counting.called) == (subclass is Counting)
    theirs, ours = found
    assert type(ours) is type(theirs)
    assert torch.equal(ours.as_subclass(Tensor), theirs.as_subclass(Tensor))


@pytest.mark.parametrize("call", [*cases.FIRST.values(), *cases.WITH_EXTRAS], ids=str)
def test_parameters_are_ours_and_have_the_default_reduction(call: Call) -> None:
    """nn.Parameter is a subclass, but an ordinary tensor in everything, also for options that torch lacks."""
    parameters = {n: torch.nn.Parameter(call.arguments[n].clone()) for n in call.wants}
    loss = call.value(parameters)
    assert type(loss) is Tensor
    loss.sum().backward()
    result = Result.of(loss, parameters)
    call.check(result, call.expected(call.parameters["reduction"].default), torch.float64)


@cases.over_torchs
@tools.over_reductions
def test_meta_tensors_are_torchs(call: Call, reduction: str) -> None:
    meta = call.cast(torch.float32).bare().mapped(lambda x: x.to("meta"))

    def run(function: Any) -> Any:
        loss = meta.value(function=function, reduction=reduction)
        return loss.device, loss.shape, loss.dtype

    theirs, ours = outcome(lambda: run(cases.TORCHS[call.name])), outcome(lambda: run(None))
    assert ours == theirs or (isinstance(theirs, Exception) and type(ours) is type(theirs))


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
        "subclass": lambda: ft.cross_entropy(x.as_subclass(tools.Tagged), CLASSES, **options),
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


@pytest.mark.parametrize("index", [0, -1, 10**9])
@pytest.mark.parametrize("call", [c for c in OF_CLASSES if c.name != "multilabel_margin_loss"], ids=str)
def test_class_index_out_of_range(call: Call, index: int) -> None:
    logits = call.arguments[call.first]
    target = call.arguments["target"].clone()
    target[-1] = index or len(call.arguments.get("linear_weight", logits.movedim(-1, 0)))
    for reduction in tools.REDUCTIONS:
        with pytest.raises(IndexError):
            call.bare().changed(target=target).run(reduction=reduction)


CONSTANT = {
    "target", "weight", "sample_weight", "ref_chosen_logps", "ref_rejected_logps", "ref_logps", "old_logps",
    "advantages", "old_values", "returns",
}  # fmt: skip
NO_GRADIENT = [
    (call, name)
    for call in (*cases.BEYOND, *(loss.call("weight") for loss in cases.OWN if "weight" in loss.options))
    for name, x in call.tensors.items()
    if name in CONSTANT and x.is_floating_point()
]


@pytest.mark.parametrize(("call", "argument"), NO_GRADIENT, ids=str)
def test_gradients_that_do_not_exist(call: Call, argument: str) -> None:
    wanting = call.changed(**{argument: call.tensors[argument].detach().clone().requires_grad_()})
    for leaves in ({}, call.leaves()):
        with pytest.raises(ValueError, match=argument):
            wanting.value(leaves)
    # Where no gradient is recorded, none is missing.
    with torch.no_grad():
        assert torch.equal(wanting.value(), call.value())


# Beside those that the rows of arrays have.
BAD_OPTIONS = [
    *bad("reduction", ValueError, "average"),
    *bad("z_loss", ValueError, -1.0, math.nan),
    *bad("softcap", ValueError, 0.0, -2.0),
    *bad("temperature", ValueError, 0.0),
]


def bad_options(call: Call) -> list[Bad]:
    """What a call must refuse where no tensor stands."""
    every = [*BAD_OPTIONS, *(one for row in ROWS if row.name == call.name for one in row.bad)]
    numbers = call.parameters.keys() - call.tensors.keys() - {*call.loss.wants}
    return [b for b in every if numbers >= b.given.keys() and not isinstance(b.value, np.ndarray)]


@cases.over_beyond
def test_bad_options_are_named(call: Call) -> None:
    for one in bad_options(call):
        with case(one):
            refused(call.changed(**one.given).value, one.error, one.argument)


@over([n for n in cases.NAMES_OF_OWN if "target" in cases.FIRST[n].arguments])
def test_shapes_of_ours_do_not_broadcast(call: Call) -> None:
    with pytest.raises(ValueError, match="target"):
        call.bare().changed(target=call.arguments["target"][..., :1]).value()


@pytest.mark.parametrize("shape", [(3,), (4, 1)], ids=str)
def test_shape_of_sample_weight(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="sample_weight"):
        ft.cross_entropy(torch.randn(4, 5), CLASSES, sample_weight=torch.ones(shape))


@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
def test_loss_scaling_keeps_the_digits_of_float16(autocast: bool) -> None:
    """A factor that lifts gradients above the smallest float16 does so before they are rounded."""
    x = torch.randn(512, 1000, generator=torch.Generator().manual_seed(0)).half()
    target, scale = torch.arange(512), torch.tensor(2.0**15)
    call = cases.OF_TORCH[0].call().changed(input=x, target=target)
    leaf = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.float16, enabled=autocast):
        loss = ft.cross_entropy(leaf, target)
    assert loss.dtype == (torch.float32 if autocast else torch.float16)
    loss.backward(scale.to(loss.dtype))
    result = Result.of(loss, {"input": leaf})
    call.check(result, call.expected("mean", scale), torch.float16, roundings=2)
