"""Calls of fastloss.torch, and what they should answer.

A `Loss` is a row of one of three tables. `OF_TORCH` has the functions that torch has, and torch's own (as
they were before anything was installed) answer in float64; `EXTRAS` has options that torch lacks, `OWN` the
functions that it lacks, and `fastloss.reference` answers. A `Call` is a row with one set of its options.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import fastloss.torch as ft
from fastloss import reference

Tensor = torch.Tensor
Rng = np.random.Generator
Make = Callable[[Rng], dict[str, Any]]
Options = Callable[[Rng, dict[str, Any]], dict[str, Any]]

NAMES_OF_TORCH = (
    "cross_entropy", "nll_loss", "linear_cross_entropy", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div",
    "poisson_nll_loss", "gaussian_nll_loss", "soft_margin_loss", "multi_margin_loss",
    "multilabel_soft_margin_loss",
)  # fmt: skip
NAMES_OF_OWN = (
    "sigmoid_focal_loss", "hinge_loss", "squared_hinge_loss", "log_cosh_loss", "quantile_loss",
    "gamma_nll_loss", "tweedie_nll_loss", "epsilon_insensitive_loss", "mean_squared_log_loss",
    "kl_div_with_logits", "js_div_with_logits", "tv_distance_with_logits", "token_log_probs",
    "sequence_log_probs", "entropy", "linear_token_log_probs", "dpo_loss", "cpo_loss", "simpo_loss",
    "orpo_loss", "kto_loss", "reward_model_loss", "ppo_loss", "value_loss", "grpo_loss", "kl_penalty",
    "l1_penalty", "l2_penalty", "elastic_net_penalty",
)  # fmt: skip
TORCHS = {name: getattr(functional, name) for name in NAMES_OF_TORCH if hasattr(functional, name)}
assert all(f.__module__ == "torch.nn.functional" for f in TORCHS.values())

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
REDUCTIONS = ("mean", "sum", "none")
# Relative to the row's largest. A linear layer adds the rounding of its sums; gradients of divergences
# are differences of terms that are larger.
RELATIVE = {torch.float64: 1e-12, torch.float32: 1e-6, torch.float16: 1e-6, torch.bfloat16: 1e-6}
LESS = {torch.float64: 1e-11, torch.float32: 5e-6, torch.float16: 5e-6, torch.bfloat16: 5e-6}

# What torch warns of itself: that kl_div's "mean" will change.
ignore_kl_mean = "ignore:reduction. 'mean' divides the total loss:UserWarning"


@dataclass(frozen=True)
class Loss:
    """A function.

    Attributes
    ----------
    make : callable
        Its arguments by name, in order: tensors (float64 or integers), numbers or None.
    wants : tuple of str
        Those that have gradients.
    options : dict
        Sets of options by a label; the first is none.
    by_name : tuple of str
        Arguments to be given by name.
    rows : bool
        Whether the last axis of a gradient is one of classes, so that a row's largest is of that axis.
    classes_second : bool
        Whether the classes are in dimension 1 (or 0).
    reference_options : dict
        What the reference needs to mean the same; its answer counts for torch's functions, too, if given.
    """

    name: str
    make: Make
    wants: tuple[str, ...] = ("input",)
    options: dict[str, Options] = field(default_factory=dict)
    by_name: tuple[str, ...] = ()
    reductions: tuple[str, ...] = REDUCTIONS
    rows: bool = False
    classes_second: bool = False
    reference_options: dict[str, Any] | None = None
    label: str = ""

    @property
    def is_torchs(self) -> bool:
        """Whether torch's own function can answer."""
        return self.name in TORCHS and self.reference_options is None

    def calls(self) -> list["Call"]:
        return [self.call(label) for label in ("plain", *self.options)]

    def call(self, label: str = "plain", seed: int = 0) -> "Call":
        rng = np.random.default_rng(seed)
        arguments = self.make(rng)
        more = {} if label == "plain" else self.options[label](rng, arguments)
        return Call(self, label, arguments, more)


@dataclass(frozen=True, eq=False)
class Result:
    """A loss, and the gradients of what wants one."""

    loss: Tensor
    gradients: dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Call:
    """A function with arguments (in float64) and options."""

    loss: Loss
    label: str
    arguments: dict[str, Any]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return self.loss.name

    @cached_property
    def function(self) -> Callable[..., Tensor]:
        return getattr(ft, self.name)

    @property
    def wants(self) -> tuple[str, ...]:
        return tuple(name for name in self.loss.wants if isinstance(self.arguments[name], Tensor))

    @property
    def tolerance(self) -> dict[torch.dtype, float]:
        return LESS if self.name.startswith("linear") or self.name.endswith("_with_logits") else RELATIVE

    def __str__(self) -> str:
        return "-".join(part for part in (self.name, self.loss.label, self.label) if part)

    def cast(self, dtype: torch.dtype) -> "Call":
        """The same call with other floats."""
        return Call(self.loss, self.label, _cast(self.arguments, dtype), _cast(self.options, dtype))

    def given(self, leaves: dict[str, Tensor] | None = None) -> tuple[list[Any], dict[str, Any]]:
        """Positional arguments, and those by name."""
        arguments = {**self.arguments, **(leaves or {})}
        named = {name: arguments.pop(name) for name in self.loss.by_name}
        return list(arguments.values()), {**named, **self.options}

    def leaves(self, wanted: tuple[str, ...] | None = None) -> dict[str, Tensor]:
        """Fresh tensors that require gradients."""
        names = self.wants if wanted is None else wanted
        return {name: self.arguments[name].detach().clone().requires_grad_() for name in names}

    def value(
        self,
        leaves: dict[str, Tensor] | None = None,
        function: Callable[..., Tensor] | None = None,
        **more: Any,
    ) -> Tensor:
        """The loss."""
        arguments, named = self.given(leaves)
        return (function or self.function)(*arguments, **named, **more)

    def run(
        self,
        upstream: Tensor | None = None,
        function: Callable[..., Tensor] | None = None,
        wanted: tuple[str, ...] | None = None,
        **more: Any,
    ) -> Result:
        """The loss, and gradients by `backward`."""
        leaves = self.leaves(wanted)
        loss = self.value(leaves, function, **more)
        loss.backward(torch.ones_like(loss) if upstream is None else upstream.to(loss.dtype))
        gradients = {}
        for name, leaf in leaves.items():
            assert leaf.grad is not None, name
            assert leaf.grad.shape == leaf.shape and leaf.grad.dtype == leaf.dtype, name
            gradients[name] = leaf.grad
        return Result(loss.detach(), gradients)

    def expected(self, reduction: str, upstream: Tensor | None = None) -> Result:
        """What it should be, in float64."""
        wide = self.cast(torch.float64)
        if self.loss.is_torchs:
            return wide.run(upstream, TORCHS[self.name], reduction=reduction)
        arguments, named = wide.given()
        options = {**_numpy(named), **(self.loss.reference_options or {}), "reduction": reduction}
        if upstream is not None:
            options["grad_output"] = upstream.double().numpy()
        function = getattr(reference, self.name)
        loss, grad = function(*map(_array, arguments), **options, return_grad=True)
        grads = grad if isinstance(grad, tuple) else (grad,)
        pairs = zip(self.loss.wants, grads, strict=True)
        return Result(
            torch.as_tensor(np.asarray(loss)),
            {name: torch.from_numpy(np.array(g)) for name, g in pairs if name in self.wants},
        )

    def check(
        self, actual: Result, expected: Result, dtype: torch.dtype, roundings: int = 1, title: str = ""
    ) -> None:
        """Assert that a result is near enough; half types may be rounded once, or that many times."""
        title = f"{self} {dtype} {title}"
        assert_near(actual.loss, expected.loss, self.tolerance[dtype], 1, title, by_row=None)
        assert actual.gradients.keys() <= expected.gradients.keys()
        dim = None if not self.loss.rows else (1 if self.loss.classes_second else -1)
        for name, grad in actual.gradients.items():
            exact = expected.gradients[name]
            by_row = dim if dim is None or exact.ndim > 1 else 0
            rel = self.tolerance[dtype]
            assert_near(grad, exact, rel, roundings, f"{title} {name}", by_row=by_row)


def _cast(values: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    def cast(value: Any) -> Any:
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    return {name: cast(value) for name, value in values.items()}


def _array(value: Any) -> Any:
    return value.numpy() if isinstance(value, Tensor) else value


def _numpy(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _array(value) for name, value in values.items()}


def assert_near(
    actual: Tensor,
    expected: Tensor,
    relative: float,
    roundings: int = 1,
    title: str = "",
    by_row: int | None = None,
) -> None:
    """Within `relative` of the largest (of the row), and half types rounded beside it."""
    assert actual.shape == expected.shape, f"{title}: {actual.shape}, not {expected.shape}"
    if actual.numel() == 0:
        return
    wide, exact = actual.detach().double(), expected.double()
    size = exact.abs().nan_to_num(0.0, 0.0, 0.0)
    largest = size.amax() if by_row is None else size.amax(by_row, keepdim=True)
    bound = relative * largest + torch.finfo(torch.float32).tiny * (actual.dtype != torch.float64)
    if actual.dtype.itemsize == 2:
        info = torch.finfo(actual.dtype)
        half = 0.5 * info.eps * (size + bound).clamp(min=info.smallest_normal)
        bound = bound + roundings * half * (1.0 + 1e-6)
    good = ((wide - exact).abs() <= bound) | (wide == exact) | (wide.isnan() & exact.isnan())
    if not good.all():
        at = tuple(torch.nonzero(~good)[0].tolist())
        limit = bound.expand(good.shape)[at].item()
        raise AssertionError(
            f"{title}: {int((~good).sum())} of {good.numel()} out of bounds, first at {at}: "
            f"{wide[at].item()!r}, expected {exact[at].item()!r} within {limit:.3g}"
        )


def outcome(f: Callable[[], Any]) -> Any:
    """What a call answers, or the exception that it raises (warnings are another matter)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return f()
        except Exception as error:
            return error


def upstream_for(shape: tuple[int, ...], seed: int = 5) -> Tensor:
    """An incoming gradient, exact in all types: for each element, zeros and negative ones among them."""
    rng = np.random.default_rng(seed)
    return torch.as_tensor(np.asarray(rng.choice([0.0, 0.25, -1.5, 1.0, 2.0, -0.5], shape)))


# Arguments


def normal(rng: Rng, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.as_tensor(np.asarray(scale * rng.standard_normal(shape)))


def uniform(rng: Rng, low: float, high: float, *shape: int) -> Tensor:
    return torch.from_numpy(np.asarray(rng.uniform(low, high, shape)))


def indices(rng: Rng, classes: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.asarray(rng.integers(0, classes, shape)))


def distributions(rng: Rng, shape: tuple[int, ...], dim: int) -> Tensor:
    return torch.from_numpy(rng.exponential(size=shape)).softmax(dim)


def signs(rng: Rng, *shape: int) -> Tensor:
    return torch.from_numpy(rng.choice([-1.0, 1.0], shape))


def dim_of_classes(shape: tuple[int, ...]) -> int:
    return 1 if len(shape) > 1 else 0


def rows_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    dim = dim_of_classes(shape)
    return shape[:dim] + shape[dim + 1 :]


def logits_and_indices(*shape: int) -> Make:
    def make(rng: Rng) -> dict[str, Any]:
        logits = normal(rng, *shape, scale=2.0)
        return {"input": logits, "target": indices(rng, shape[dim_of_classes(shape)], *rows_of(shape))}

    return make


def logits_and_probabilities(*shape: int) -> Make:
    def make(rng: Rng) -> dict[str, Any]:
        logits = normal(rng, *shape, scale=2.0)
        return {"input": logits, "target": distributions(rng, shape, dim_of_classes(shape))}

    return make


def log_probs_and_indices(*shape: int) -> Make:
    def make(rng: Rng) -> dict[str, Any]:
        given = logits_and_indices(*shape)(rng)
        given["input"] = given["input"].log_softmax(dim_of_classes(shape))
        return given

    return make


def pair(input: Callable[..., Tensor], target: Callable[..., Tensor], *shape: int) -> Make:
    return lambda rng: {"input": input(rng, *shape), "target": target(rng, *shape)}


def near_residuals(rng: Rng, *shape: int) -> Tensor:
    return normal(rng, *shape, scale=1.5)


def labels(rng: Rng, *shape: int) -> Tensor:
    """0, 1 and what is between."""
    soft = rng.random(shape)
    return torch.from_numpy(np.where(rng.random(shape) < 0.6, np.round(soft), soft))


def inner(rng: Rng, *shape: int) -> Tensor:
    return uniform(rng, 0.03, 0.97, *shape)


def counts(rng: Rng, *shape: int) -> Tensor:
    return torch.from_numpy(rng.poisson(3.0, shape).astype(np.float64))


def positive(rng: Rng, *shape: int) -> Tensor:
    return uniform(rng, 0.1, 3.0, *shape)


def class_weight(rng: Rng, given: dict[str, Any]) -> dict[str, Any]:
    shape = given["input"].shape
    return {"weight": uniform(rng, 0.2, 2.0, shape[dim_of_classes(tuple(shape))])}


def element_weight(rng: Rng, given: dict[str, Any]) -> dict[str, Any]:
    return {"weight": uniform(rng, 0.2, 2.0, *next(iter(given.values())).shape)}


def ignoring(index: int) -> Options:
    def options(rng: Rng, given: dict[str, Any]) -> dict[str, Any]:
        if given["target"].ndim:
            given["target"].view(-1)[::3] = index
        return {"ignore_index": index}

    return options


def constant(**options: Any) -> Options:
    return lambda rng, given: options


def together(*parts: Options) -> Options:
    def options(rng: Rng, given: dict[str, Any]) -> dict[str, Any]:
        return {k: v for part in parts for k, v in part(rng, given).items()}

    return options


def sample_weight(rng: Rng, given: dict[str, Any]) -> dict[str, Any]:
    return {"sample_weight": uniform(rng, 0.2, 2.0, *rows_of(tuple(given["input"].shape)))}


OF_INDICES: dict[str, Options] = {
    "weight": class_weight,
    "ignoring": ignoring(-100),
    "ignoring-a-class": together(class_weight, ignoring(2)),
}
SMOOTHED: dict[str, Options] = {
    "smoothed": constant(label_smoothing=0.2),
    "smoothed-away": constant(label_smoothing=1.0),
}
EVERYTHING: dict[str, Options] = {
    "everything": together(class_weight, ignoring(-100), constant(label_smoothing=0.1))
}


def linear(rows: tuple[int, ...], bias: bool, width: int = 6, vocabulary: int = 11) -> Make:
    def make(rng: Rng) -> dict[str, Any]:
        return {
            "input": normal(rng, *rows, width),
            "linear_weight": normal(rng, vocabulary, width, scale=0.6),
            "target": indices(rng, vocabulary, *rows),
            "linear_bias": normal(rng, vocabulary, scale=0.3) if bias else None,
        }

    return make


def vocabulary_weight(rng: Rng, given: dict[str, Any]) -> dict[str, Any]:
    return {"weight": uniform(rng, 0.2, 2.0, given["linear_weight"].shape[0])}


def rows_weight(rng: Rng, given: dict[str, Any]) -> dict[str, Any]:
    return {"sample_weight": uniform(rng, 0.2, 2.0, *given["target"].shape)}


def linear_probabilities(rng: Rng) -> dict[str, Any]:
    given = linear((8,), True)(rng)
    return {**given, "target": distributions(rng, (8, 11), -1)}


OF_LINEAR = ("input", "linear_weight", "linear_bias")
SHAPE = (5, 6)

OF_TORCH = [
    *(
        Loss(
            "cross_entropy",
            logits_and_indices(*shape),
            options={**OF_INDICES, **SMOOTHED, **EVERYTHING},
            rows=True,
            classes_second=True,
            label=label,
        )
        for label, shape in {
            "2d": (9, 7),
            "1d": (7,),
            "wide": (3, 300),
            "3d": (3, 7, 5),
            "4d": (2, 7, 3, 4),
        }.items()
    ),
    *(
        Loss(
            "cross_entropy",
            logits_and_probabilities(*shape),
            options={"weight": class_weight, **SMOOTHED},
            rows=True,
            classes_second=True,
            label=label,
        )
        for label, shape in {
            "probabilities": (9, 7),
            "1d-probabilities": (7,),
            "3d-probabilities": (3, 7, 5),
        }.items()
    ),
    *(
        Loss(
            "nll_loss",
            log_probs_and_indices(*shape),
            options=OF_INDICES,
            rows=True,
            classes_second=True,
            label=label,
        )
        for label, shape in {"2d": (9, 7), "1d": (7,), "3d": (3, 7, 5), "4d": (2, 7, 3, 4)}.items()
    ),
    *(
        Loss(
            "linear_cross_entropy",
            linear(rows, bias),
            wants=OF_LINEAR,
            by_name=("linear_bias",),
            options={
                "weight": vocabulary_weight,
                "ignoring": ignoring(3),
                **SMOOTHED,
                "everything": together(vocabulary_weight, ignoring(-100), constant(label_smoothing=0.1)),
            },
            label=label,
        )
        for label, rows, bias in (("2d", (8,), False), ("bias", (8,), True), ("1d", (), True))
    ),
    Loss(
        "linear_cross_entropy",
        linear_probabilities,
        wants=OF_LINEAR,
        by_name=("linear_bias",),
        options={"weight": vocabulary_weight, **SMOOTHED},
        label="probabilities",
    ),
    Loss("binary_cross_entropy", pair(inner, labels, *SHAPE), options={"weight": element_weight}),
    Loss(
        "binary_cross_entropy_with_logits",
        pair(near_residuals, labels, *SHAPE),
        options={
            "weight": element_weight,
            "pos_weight": lambda rng, given: {"pos_weight": positive(rng, *SHAPE)},
            "everything": lambda rng, given: {
                **element_weight(rng, given),
                "pos_weight": positive(rng, *SHAPE),
            },
        },
    ),
    *(
        Loss(name, pair(near_residuals, normal, *SHAPE), options=options)
        for name, options in {
            "mse_loss": {"weight": element_weight},
            "l1_loss": {"weight": element_weight},
            "smooth_l1_loss": {"beta": constant(beta=0.3), "no-beta": constant(beta=0.0)},
            "huber_loss": {
                "delta": constant(delta=0.4),
                "weight": element_weight,
                "everything": together(element_weight, constant(delta=0.4)),
            },
        }.items()
    ),
    Loss("mse_loss", pair(near_residuals, normal), label="0d"),
    Loss("l1_loss", pair(near_residuals, normal, 2, 3, 4, 2), label="4d"),
    Loss(
        "kl_div",
        lambda rng: {
            "input": normal(rng, *SHAPE).log_softmax(-1),
            "target": distributions(rng, SHAPE, -1),
        },
        reductions=(*REDUCTIONS, "batchmean"),
    ),
    Loss(
        "kl_div",
        lambda rng: {
            "input": normal(rng, *SHAPE).log_softmax(-1),
            "target": normal(rng, *SHAPE).log_softmax(-1),
            "log_target": True,
        },
        by_name=("log_target",),
        reductions=(*REDUCTIONS, "batchmean"),
        label="log",
    ),
    Loss("poisson_nll_loss", pair(normal, counts, *SHAPE), options={"full": constant(full=True)}),
    Loss(
        "poisson_nll_loss",
        lambda rng: {**pair(positive, counts, *SHAPE)(rng), "log_input": False},
        options={"full": constant(full=True), "eps": constant(eps=0.1)},
        label="rates",
    ),
    Loss(
        "gaussian_nll_loss",
        lambda rng: {**pair(near_residuals, normal, *SHAPE)(rng), "var": positive(rng, *SHAPE)},
        wants=("input", "var"),
        options={"full": constant(full=True), "eps": constant(eps=0.5)},
    ),
    Loss(
        "gaussian_nll_loss",
        lambda rng: {**pair(near_residuals, normal, *SHAPE)(rng), "var": 0.7},
        label="one-var",
    ),
    Loss("soft_margin_loss", pair(near_residuals, signs, *SHAPE)),
    *(
        Loss(
            "multi_margin_loss",
            logits_and_indices(*shape),
            options={
                "square": constant(p=2),
                "margin": constant(margin=0.4),
                "everything": together(class_weight, constant(p=2, margin=1.7)),
            },
            rows=True,
            label=label,
        )
        for label, shape in {"2d": (9, 7), "1d": (7,)}.items()
    ),
    *(
        Loss(
            "multilabel_soft_margin_loss",
            pair(near_residuals, labels, *shape),
            options={"weight": lambda rng, given: {"weight": positive(rng, given["input"].shape[-1])}},
            rows=True,
            label=label,
        )
        for label, shape in {"2d": (9, 7), "3d": (2, 3, 7)}.items()
    ),
]

# Options that torch lacks: answers are the reference's.
SOFTMAX: dict[str, Options] = {
    "z_loss": constant(z_loss=0.05),
    "softcap": constant(softcap=3.0),
    "temperature": constant(temperature=1.7),
    "sample_weight": sample_weight,
    "all-extras": together(
        class_weight, sample_weight, constant(z_loss=0.05, softcap=3.0, temperature=0.6, label_smoothing=0.1)
    ),
}
EXTRAS = [
    *(
        Loss(
            "cross_entropy",
            make,
            options=SOFTMAX,
            rows=True,
            classes_second=True,
            reference_options={"axis": axis},
            label=f"extras-{label}",
        )
        for label, make, axis in (
            ("2d", logits_and_indices(9, 7), 1),
            ("1d", logits_and_indices(7), 0),
            ("3d", logits_and_indices(3, 7, 5), 1),
            ("probabilities", logits_and_probabilities(3, 7, 5), 1),
        )
    ),
    Loss(
        "nll_loss",
        log_probs_and_indices(3, 7, 5),
        options={
            "sample_weight": sample_weight,
            "everything": together(class_weight, sample_weight, ignoring(-100)),
        },
        rows=True,
        classes_second=True,
        reference_options={"axis": 1},
        label="extras",
    ),
    Loss(
        "linear_cross_entropy",
        linear((8,), True),
        wants=OF_LINEAR,
        by_name=("linear_bias",),
        options={
            **{k: v for k, v in SOFTMAX.items() if k in ("z_loss", "softcap", "temperature")},
            "sample_weight": rows_weight,
            "all-extras": together(
                vocabulary_weight,
                rows_weight,
                ignoring(-100),
                constant(z_loss=0.05, softcap=3.0, temperature=0.6, label_smoothing=0.1),
            ),
        },
        reference_options={},
        label="extras",
    ),
]


def log_probs(rng: Rng, *shape: int) -> Tensor:
    return uniform(rng, -3.0, -0.1, *shape)


def pairs(references: bool) -> Make:
    def make(rng: Rng) -> dict[str, Any]:
        names = ["policy_chosen_logps", "policy_rejected_logps"]
        names += ["ref_chosen_logps", "ref_rejected_logps"] if references else []
        return {name: log_probs(rng, 9) for name in names}

    return make


def mask(rng: Rng, given: dict[str, Any]) -> dict[str, Any]:
    """All shapes of masks here are (B, T) = (4, 5)."""
    counted = rng.random((4, 5)) < 0.6
    counted[0] = False
    return {"mask": torch.from_numpy(counted)}


def tokens(*names: str) -> Make:
    return lambda rng: {name: log_probs(rng, 4, 5) for name in names}


def policy(per_token: bool) -> Make:
    def make(rng: Rng) -> dict[str, Any]:
        shape = (4, 5) if per_token else (4,)
        given = tokens("logps", "old_logps")(rng)
        given["old_logps"] = given["logps"] + 0.4 * normal(rng, 4, 5)
        return {**given, "advantages": normal(rng, *shape)}

    return make


def two_logits(rng: Rng) -> dict[str, Any]:
    return {"student_logits": normal(rng, 4, 5, 7), "teacher_logits": normal(rng, 4, 5, 7)}


def two_logits_axis_1(rng: Rng) -> dict[str, Any]:
    return {"student_logits": normal(rng, 4, 7, 5), "teacher_logits": normal(rng, 4, 7, 5)}


def logits_and_tokens(rng: Rng) -> dict[str, Any]:
    return {"logits": normal(rng, 4, 5, 7, scale=2.0), "target": indices(rng, 7, 4, 5)}


PAIR = ("policy_chosen_logps", "policy_rejected_logps")
STUDENT_AND_TEACHER = ("student_logits", "teacher_logits")
DIVERGENCE: dict[str, Options] = {
    "temperature": constant(temperature=1.7),
    "mask": mask,
    "everything": together(mask, constant(temperature=0.6)),
}


def elementwise(name: str, make: Make, first: str = "input", **options: Options) -> Loss:
    return Loss(name, make, wants=(first,), options={"weight": element_weight, **options})


def of_binary(first: str, values: Callable[..., Tensor], targets: Callable[..., Tensor]) -> Make:
    return lambda rng: {first: values(rng, *SHAPE), "target": targets(rng, *SHAPE)}


OWN = [
    elementwise(
        "sigmoid_focal_loss",
        of_binary("logits", near_residuals, labels),
        "logits",
        options=constant(alpha=0.4, gamma=1.5),
        no_alpha=constant(alpha=None),
    ),
    elementwise(
        "hinge_loss", of_binary("scores", near_residuals, signs), "scores", margin=constant(margin=0.6)
    ),
    elementwise(
        "squared_hinge_loss",
        of_binary("scores", near_residuals, signs),
        "scores",
        margin=constant(margin=0.6),
    ),
    elementwise("log_cosh_loss", pair(near_residuals, normal, *SHAPE)),
    elementwise("quantile_loss", pair(near_residuals, normal, *SHAPE), quantile=constant(quantile=0.9)),
    elementwise("gamma_nll_loss", pair(normal, positive, *SHAPE)),
    elementwise(
        "tweedie_nll_loss",
        pair(normal, positive, *SHAPE),
        power=constant(power=1.2),
        normal=constant(power=0.0),
    ),
    elementwise(
        "epsilon_insensitive_loss", pair(near_residuals, normal, *SHAPE), epsilon=constant(epsilon=0.7)
    ),
    elementwise("mean_squared_log_loss", pair(positive, positive, *SHAPE)),
    Loss(
        "kl_div_with_logits",
        two_logits,
        STUDENT_AND_TEACHER,
        DIVERGENCE,
        rows=True,
        reference_options={"teacher_grad": True},
    ),
    Loss(
        "js_div_with_logits",
        two_logits,
        STUDENT_AND_TEACHER,
        {**DIVERGENCE, **{f"beta-{b}": constant(beta=b) for b in (0.0, 0.2, 1.0)}},
        rows=True,
        reference_options={"teacher_grad": True},
    ),
    Loss(
        "tv_distance_with_logits",
        two_logits,
        STUDENT_AND_TEACHER,
        DIVERGENCE,
        rows=True,
        reference_options={"teacher_grad": True},
    ),
    *(
        Loss(
            name,
            lambda rng: {**two_logits_axis_1(rng), "axis": 1},
            STUDENT_AND_TEACHER,
            {"mask": mask},
            by_name=("axis",),
            reference_options={"teacher_grad": True},
            label="axis",
        )
        for name in ("kl_div_with_logits", "js_div_with_logits", "tv_distance_with_logits")
    ),
    Loss(
        "token_log_probs",
        logits_and_tokens,
        ("logits",),
        {"ignoring": ignoring(-100), "temperature": constant(temperature=1.7)},
        rows=True,
    ),
    Loss(
        "token_log_probs",
        lambda rng: {"logits": normal(rng, 4, 7, 5), "target": indices(rng, 7, 4, 5), "axis": 1},
        ("logits",),
        by_name=("axis",),
        label="axis",
    ),
    Loss(
        "sequence_log_probs",
        logits_and_tokens,
        ("logits",),
        {
            "mask": mask,
            "lengths": constant(lengths=torch.tensor([0, 2, 5, 3])),
            "average": together(mask, constant(average=True, temperature=1.7)),
        },
        rows=True,
    ),
    Loss(
        "entropy",
        lambda rng: {"logits": normal(rng, 4, 5, 7, scale=2.0)},
        ("logits",),
        {"temperature": constant(temperature=1.7)},
        rows=True,
    ),
    Loss(
        "entropy",
        lambda rng: {"logits": normal(rng, 4, 7, 5), "axis": 1},
        ("logits",),
        by_name=("axis",),
        label="axis",
    ),
    *(
        Loss(
            "linear_token_log_probs",
            linear(rows, bias),
            OF_LINEAR,
            {"ignoring": ignoring(-100), "options": constant(temperature=1.7, softcap=3.0)},
            by_name=("linear_bias",),
            label=label,
        )
        for label, rows, bias in (("2d", (8,), False), ("3d-bias", (2, 4), True))
    ),
    Loss(
        "dpo_loss",
        pairs(True),
        PAIR,
        {
            "options": constant(beta=0.4, label_smoothing=0.2),
            "reference_free": constant(reference_free=True),
            "js": constant(f_divergence_type="js_divergence"),
            "robust": constant(loss_type="robust", label_smoothing=0.1),
            "exo_pair": constant(loss_type="exo_pair", label_smoothing=0.1),
            **{
                t: constant(loss_type=t)
                for t in (
                    "hinge",
                    "ipo",
                    "nca_pair",
                    "bco_pair",
                    "sppo_hard",
                    "aot",
                    "aot_unpaired",
                    "apo_zero",
                    "apo_down",
                    "discopop",
                )
            },
        },
    ),
    Loss(
        "dpo_loss",
        lambda rng: {**pairs(False)(rng), "reference_free": True},
        PAIR,
        by_name=("reference_free",),
        label="without-references",
    ),
    Loss(
        "cpo_loss",
        pairs(False),
        PAIR,
        {
            "options": constant(beta=0.4, label_smoothing=0.2),
            "hinge": constant(loss_type="hinge"),
            "ipo": constant(loss_type="ipo"),
        },
    ),
    Loss(
        "simpo_loss",
        pairs(False),
        PAIR,
        {"options": constant(beta=1.5, gamma=0.4, label_smoothing=0.2)},
    ),
    Loss("orpo_loss", pairs(False), PAIR, {"beta": constant(beta=0.4)}),
    Loss(
        "kto_loss",
        lambda rng: {
            "policy_logps": log_probs(rng, 9),
            "ref_logps": log_probs(rng, 9),
            "labels": torch.from_numpy(rng.random(9) < 0.5),
        },
        ("policy_logps",),
        {
            "options": constant(kl=0.3, beta=0.4, desirable_weight=0.7, undesirable_weight=1.3),
            "apo": constant(loss_type="apo_zero_unpaired"),
        },
    ),
    Loss(
        "reward_model_loss",
        lambda rng: {"chosen_rewards": normal(rng, 9), "rejected_rewards": normal(rng, 9)},
        ("chosen_rewards", "rejected_rewards"),
        {
            "margin": constant(margin=0.4),
            "margins": lambda rng, given: {"margin": positive(rng, 9)},
            "centered": constant(center_coefficient=0.05),
        },
    ),
    Loss(
        "ppo_loss",
        policy(True),
        ("logps",),
        {"clip": constant(clip=0.1), "mask": mask},
    ),
    Loss(
        "value_loss",
        tokens("values", "old_values", "returns"),
        ("values",),
        {"clip": constant(clip=0.1), "unclipped": constant(clip=None), "mask": mask},
    ),
    Loss(
        "value_loss",
        lambda rng: {"values": normal(rng, 6), "old_values": None, "returns": normal(rng, 6), "clip": None},
        ("values",),
        by_name=("clip",),
        label="no-old-values",
    ),
    Loss(
        "grpo_loss",
        policy(False),
        ("logps",),
        {
            "mask": mask,
            **{t: together(mask, constant(loss_type=t)) for t in ("bnpo", "luspo", "cispo", "sapo")},
            "dapo": together(mask, constant(loss_type="dapo", num_items=17)),
            "dr_grpo": together(mask, constant(loss_type="dr_grpo", max_completion_length=8)),
            "sequence": together(mask, constant(importance_sampling_level="sequence")),
            "bounds": constant(epsilon_low=0.1, epsilon_high=0.3, delta=1.5),
            "penalty": lambda rng, given: {"beta": 0.1, "ref_logps": log_probs(rng, 4, 5)},
        },
    ),
    Loss("grpo_loss", policy(True), ("logps",), {"mask": mask}, label="per-token"),
    Loss(
        "kl_penalty",
        tokens("logps", "ref_logps"),
        ("logps",),
        {"mask": mask, "k1": constant(estimator="k1"), "k2": constant(estimator="k2")},
    ),
    Loss("l1_penalty", lambda rng: {"params": normal(rng, *SHAPE), "strength": 0.3}, ("params",)),
    Loss("l2_penalty", lambda rng: {"params": normal(rng, *SHAPE), "strength": 0.3}, ("params",)),
    Loss(
        "elastic_net_penalty",
        lambda rng: {"params": normal(rng, *SHAPE), "l1": 0.3, "l2": 0.2},
        ("params",),
    ),
]

LOSSES = [*OF_TORCH, *EXTRAS, *OWN]
CALLS = [call for loss in LOSSES for call in loss.calls()]
CALLS_OF_TORCH = [call for call in CALLS if call.loss.is_torchs]
CALLS_OF_OWN = [call for call in CALLS if not call.loss.is_torchs]
# A call of each function, with as much as it can have at once.
FIRST: dict[str, Call] = {}
for _call in CALLS:
    if not _call.loss.is_torchs and _call.name in TORCHS:
        continue
    if _call.name not in FIRST or (FIRST[_call.name].loss is _call.loss and _call.label == "everything"):
        FIRST[_call.name] = _call
