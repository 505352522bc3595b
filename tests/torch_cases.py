"""The registry of `fastloss.torch`: a row for each loss function and each module, and calls of the functions.

A `Loss` is a row of one of four tables. `OF_TORCH` has the functions that torch has, and torch's own (as
they were before anything was installed) answer in float64; `EXTRAS` has options that torch lacks, `OWN` the
functions that it lacks, `SLICED` those of a vocabulary in slices, and `fastloss.reference` answers. A `Call`
is a row with one set of its options. `MODULES` has the function of each module.
"""

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch_tools import REDUCTIONS, Result, assert_near, assert_same, outcome

import fastloss.torch as ft
from fastloss import reference
from fastloss.torch import _derived

Tensor = torch.Tensor
Rng = np.random.Generator
# A value, or how it is made of the values before it.
Values = dict[str, Any]
Maker = Callable[[Rng, Values], Any]

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
    make : dict
        Its arguments by name, in order.
    wants : tuple of str
        Those that have gradients.
    options : dict
        Sets of options by a label.
    dim : int, optional
        The dimension of the classes of a gradient (0 if there is one alone), whose row has a largest.
    reference_options : dict, optional
        What the reference needs to mean the same; its answer counts for torch's functions, too, if given.
    of_reference : str
        The name of the reference, if it has another.
    """

    name: str
    make: Values
    wants: tuple[str, ...] = ("input",)
    options: dict[str, Values] = field(default_factory=dict)
    reductions: tuple[str, ...] = REDUCTIONS
    dim: int | None = None
    reference_options: Values | None = None
    label: str = ""
    of_reference: str = ""

    @property
    def is_torchs(self) -> bool:
        """Whether torch's own function can answer."""
        return self.name in TORCHS and self.reference_options is None

    def calls(self) -> list["Call"]:
        return [self.call(label) for label in ("plain", *self.options)]

    def call(self, label: str = "plain", seed: int = 0) -> "Call":
        rng = np.random.default_rng(seed)
        arguments = made(self.make, rng, {})
        more = {} if label == "plain" else made(self.options[label], rng, arguments)
        return Call(self, label, arguments, more)


def made(values: Values, rng: Rng, given: Values) -> Values:
    found: Values = {}
    for name, value in values.items():
        found[name] = value(rng, {**given, **found}) if callable(value) else value
    return found


@dataclass(frozen=True, eq=False)
class Call:
    """A function with arguments (in float64) and options."""

    loss: Loss
    label: str
    arguments: Values
    options: Values

    @property
    def name(self) -> str:
        return self.loss.name

    @cached_property
    def function(self) -> Callable[..., Tensor]:
        return getattr(ft, self.name)

    @cached_property
    def parameters(self) -> dict[str, inspect.Parameter]:
        return dict(inspect.signature(self.function).parameters)

    @property
    def wants(self) -> tuple[str, ...]:
        return tuple(name for name in self.loss.wants if isinstance(self.arguments[name], Tensor))

    @property
    def first(self) -> str:
        return next(iter(self.arguments))

    @property
    def tensors(self) -> dict[str, Tensor]:
        both = {**self.arguments, **self.options}
        return {name: value for name, value in both.items() if isinstance(value, Tensor)}

    @property
    def has_products(self) -> bool:
        """Whether it consists of matrix products: of tensors of one type, which autocast casts."""
        return "linear" in self.name or self.name in ("info_nce_loss", "siglip_loss")

    @property
    def tolerance(self) -> dict[torch.dtype, float]:
        is_less = self.has_products or self.name.endswith("_with_logits")
        return LESS if is_less else RELATIVE

    def __str__(self) -> str:
        return "-".join(part for part in (self.name, self.loss.label, self.label) if part)

    def changed(self, **values: Any) -> "Call":
        """The same call with other arguments and options."""
        arguments = {name: values.pop(name, value) for name, value in self.arguments.items()}
        return replace(self, arguments=arguments, options={**self.options, **values})

    def mapped(self, f: Callable[[Tensor], Tensor]) -> "Call":
        return self.changed(**{name: f(x) for name, x in self.tensors.items()})

    def bare(self) -> "Call":
        """Without the options."""
        return replace(self, options={})

    def cast(self, dtype: torch.dtype) -> "Call":
        """The same call with other floats."""
        return self.mapped(lambda x: x.to(dtype) if x.is_floating_point() else x)

    def given(self, leaves: dict[str, Tensor] | None = None) -> tuple[list[Any], Values]:
        """Positional arguments (as many as the signature begins with), and those by name."""
        arguments = {**self.arguments, **(leaves or {})}
        count = 0
        for name, parameter in zip(arguments, self.parameters.values(), strict=False):
            if parameter.name != name or parameter.kind is parameter.KEYWORD_ONLY:
                break
            count += 1
        items = list(arguments.items())
        return [value for _, value in items[:count]], {**dict(items[count:]), **self.options}

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
        return (function or self.function)(*arguments, **{**named, **more})

    def of_leaves(
        self, reduction: str, function: Callable[..., Tensor] | None = None
    ) -> tuple[Callable[..., Tensor], list[Tensor]]:
        """A function of the tensors that have gradients, and these as leaves."""
        leaves = self.leaves()

        def f(*tensors: Tensor) -> Tensor:
            return self.value(dict(zip(leaves, tensors, strict=True)), function, reduction=reduction)

        return f, list(leaves.values())

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
        options = {name: _array(value) for name, value in named.items()}
        options |= {**(self.loss.reference_options or {}), "reduction": reduction}
        if upstream is not None:
            options["grad_output"] = upstream.double().numpy()
        function = getattr(reference, self.loss.of_reference or self.name)
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
        assert_near(actual.loss, expected.loss, self.tolerance[dtype], 1, title)
        assert actual.gradients.keys() <= expected.gradients.keys()
        dim = self.loss.dim
        for name, grad in actual.gradients.items():
            exact = expected.gradients[name]
            by_row = dim if dim is None or exact.ndim > 1 else 0
            assert_near(grad, exact, self.tolerance[dtype], roundings, f"{title} {name}", by_row=by_row)


def _array(value: Any) -> Any:
    return value.numpy() if isinstance(value, Tensor) else value


# How values are made


def tensor(array: Any) -> Tensor:
    return torch.as_tensor(np.asarray(array))


def drawn(f: Callable[..., Any]) -> Callable[..., Maker]:
    """The maker of a tensor of some shape that is drawn so."""
    return lambda *shape, **more: lambda rng, given: tensor(f(rng, shape, **more))


def uniform(low: float, high: float) -> Callable[..., Maker]:
    return drawn(lambda rng, shape: rng.uniform(low, high, shape))


def halves_and_wholes(rng: Rng, shape: tuple[int, ...]) -> Any:
    """0, 1 and what is between."""
    soft = rng.random(shape)
    return np.where(rng.random(shape) < 0.6, np.round(soft), soft)


def indices(classes: int, *shape: int) -> Maker:
    return lambda rng, given: tensor(rng.integers(0, classes, shape))


normal = drawn(lambda rng, shape, scale=1.0: scale * rng.standard_normal(shape))
log_softmax = drawn(lambda rng, shape, dim=-1: tensor(rng.standard_normal(shape)).log_softmax(dim))
distributions = drawn(lambda rng, shape, dim=-1: tensor(rng.exponential(size=shape)).softmax(dim))
labels = drawn(halves_and_wholes)
signs = drawn(lambda rng, shape: rng.choice([-1.0, 1.0], shape))
counts = drawn(lambda rng, shape: rng.poisson(3.0, shape).astype(np.float64))
inner, positive, log_probs = uniform(0.03, 0.97), uniform(0.1, 3.0), uniform(-3.0, -0.1)


def pair(input: Maker, target: Maker) -> Values:
    return {"input": input, "target": target}


def without_dim_1(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:1] + shape[2:] if len(shape) > 1 else ()


def of_indices(*shape: int) -> Values:
    classes = shape[min(1, len(shape) - 1)]
    return pair(normal(*shape, scale=2.0), indices(classes, *without_dim_1(shape)))


def of_labels(*shape: int) -> Values:
    """Up to as many labels as classes, ended by -1."""

    def labels(rng: Rng, given: Values) -> Tensor:
        number = rng.integers(0, shape[-1] + 1, shape[:-1])[..., np.newaxis]
        return tensor(np.where(np.arange(shape[-1]) < number, rng.integers(0, shape[-1], shape), -1))

    return pair(normal(*shape, scale=1.5), labels)


def of_log_probs(*shape: int) -> Values:
    return {**of_indices(*shape), "input": log_softmax(*shape, dim=min(1, len(shape) - 1))}


def of_probabilities(*shape: int) -> Values:
    return pair(normal(*shape, scale=2.0), distributions(*shape, dim=min(1, len(shape) - 1)))


def linear(*rows: int, bias: bool = True, width: int = 6, vocabulary: int = 11) -> Values:
    return {
        "input": normal(*rows, width),
        "linear_weight": normal(vocabulary, width, scale=0.6),
        "target": indices(vocabulary, *rows),
        "linear_bias": normal(vocabulary, scale=0.3) if bias else None,
    }


def two_layers(*rows: int, bias: bool = True, vocabulary: int = 11) -> Values:
    found: Values = {}
    for side, width in (("student", 6), ("teacher", 4)):
        found[f"{side}_input"] = normal(*rows, width)
        found[f"{side}_weight"] = normal(vocabulary, width, scale=0.6)
    biases = {f"{side}_bias": normal(vocabulary, scale=0.3) for side in ("student", "teacher") if bias}
    return {**found, **(biases or {"student_bias": None})}


def class_weight(rng: Rng, given: Values) -> Tensor:
    """Of all classes: of a linear layer, of the last dimension of slices, or of dimension 1."""
    shape = given["input"].shape
    classes = shape[-1] if given["target"].shape == shape[:-1] else shape[min(1, len(shape) - 1)]
    classes = given["linear_weight"].shape[0] if "linear_weight" in given else classes
    return tensor(rng.uniform(0.2, 2.0, classes))


def element_weight(rng: Rng, given: Values) -> Tensor:
    return tensor(rng.uniform(0.2, 2.0, next(iter(given.values())).shape))


def sample_weight(rng: Rng, given: Values) -> Tensor:
    shape = given["target"].shape
    is_probabilities = given["target"].is_floating_point()
    return tensor(rng.uniform(0.2, 2.0, without_dim_1(tuple(shape)) if is_probabilities else shape))


def ignoring(index: int) -> Maker:
    """An index that every third target has."""

    def make(rng: Rng, given: Values) -> int:
        if given["target"].ndim:
            given["target"].view(-1)[::3] = index
        return index

    return make


def mask(rng: Rng, given: Values) -> Tensor:
    """All shapes of masks here are (B, T) = (4, 5)."""
    counted = rng.random((4, 5)) < 0.6
    counted[0] = False
    return tensor(counted)


def rows(name: str, makes: dict[str, Values], **fields: Any) -> list[Loss]:
    """A row for each label."""
    return [Loss(name, make, label=label, **fields) for label, make in makes.items()]


SHAPE = (5, 6)
RESIDUALS = pair(normal(*SHAPE, scale=1.5), normal(*SHAPE))
POSITIVE = pair(normal(*SHAPE), positive(*SHAPE))
OF_LINEAR = ("input", "linear_weight", "linear_bias")
OF_STUDENT = ("student_input", "student_weight", "student_bias")
PAIR = ("policy_chosen_logps", "policy_rejected_logps")
TRIPLE = ("anchor", "positive", "negative")
STUDENT_AND_TEACHER = ("student_logits", "teacher_logits")
WEIGHT: dict[str, Values] = {"weight": {"weight": element_weight}}
CLASS_WEIGHT: dict[str, Values] = {"weight": {"weight": class_weight}}
IGNORING: dict[str, Values] = {"ignoring": {"ignore_index": ignoring(-100)}}
TEMPERATURE: dict[str, Values] = {"temperature": {"temperature": 1.7}}
OF_INDICES: dict[str, Values] = {
    **CLASS_WEIGHT, **IGNORING, "ignoring-a-class": {"weight": class_weight, "ignore_index": ignoring(2)}
}  # fmt: skip
SMOOTHED: dict[str, Values] = {
    "smoothed": {"label_smoothing": 0.2},
    "smoothed-away": {"label_smoothing": 1.0},
}
EVERYTHING: dict[str, Values] = {
    "everything": {"weight": class_weight, "ignore_index": ignoring(-100), "label_smoothing": 0.1}
}
SOFTMAX: dict[str, Values] = {
    "z_loss": {"z_loss": 0.05},
    "softcap": {"softcap": 3.0},
    **TEMPERATURE,
    "logit_scale": {"logit_scale": 0.6, "softcap": 3.0},
    "sample_weight": {"sample_weight": sample_weight},
}
ALL_EXTRAS: Values = {
    "weight": class_weight, "sample_weight": sample_weight,
    "z_loss": 0.05, "softcap": 3.0, "temperature": 0.6, "label_smoothing": 0.1,
}  # fmt: skip
MASK: dict[str, Values] = {"mask": {"mask": mask}}
DIVERGENCE = {**MASK, **TEMPERATURE, "everything": {"mask": mask, "temperature": 0.6}}
OF_TWO_LAYERS: dict[str, Values] = {
    **MASK,
    "maps": {"temperature": 1.7, "student_softcap": 3.0, "teacher_softcap": 2.0, "teacher_logit_scale": 0.6},
    "hard": {"hard_target": indices(11, 4, 5), "hard_share": 0.3, "ignore_index": 2},
}
BINARY_TARGETS: Values = {"target": labels(*SHAPE)}
SIGNS: Values = {"scores": normal(*SHAPE, scale=1.5), "target": signs(*SHAPE)}
TOKENS: Values = {"logits": normal(4, 5, 7, scale=2.0), "target": indices(7, 4, 5)}
TWO_LOGITS: Values = {"student_logits": normal(4, 5, 7), "teacher_logits": normal(4, 5, 7)}
POLICIES: Values = {name: log_probs(9) for name in PAIR}
REFERENCES: Values = {"ref_chosen_logps": log_probs(9), "ref_rejected_logps": log_probs(9)}
RATIOS: Values = {
    "logps": log_probs(4, 5),
    "old_logps": lambda rng, given: given["logps"] + normal(4, 5, scale=0.4)(rng, {}),
}

# Of ctc_loss; the blank is no label.
LABELS, STEPS = torch.tensor([[1, 1, 2], [3, 2, 1], [2, 3, 3]]), torch.tensor([9, 7, 5])
COUNTS = torch.tensor([3, 2, 1])
# fmt: off
OF_TORCH = [
    *rows("cross_entropy", {
        "2d": of_indices(9, 7), "1d": of_indices(7), "wide": of_indices(3, 300),
        "3d": of_indices(3, 7, 5), "4d": of_indices(2, 7, 3, 4),
    }, options={**OF_INDICES, **SMOOTHED, **EVERYTHING}, dim=1),
    *rows("cross_entropy", {
        "probabilities": of_probabilities(9, 7), "1d-probabilities": of_probabilities(7),
        "3d-probabilities": of_probabilities(3, 7, 5),
    }, options={**CLASS_WEIGHT, **SMOOTHED}, dim=1),
    *rows("nll_loss", {
        "2d": of_log_probs(9, 7), "1d": of_log_probs(7), "3d": of_log_probs(3, 7, 5),
        "4d": of_log_probs(2, 7, 3, 4),
    }, options=OF_INDICES, dim=1),
    *rows("linear_cross_entropy", {"2d": linear(8, bias=False), "bias": linear(8), "1d": linear()},
          wants=OF_LINEAR,
          options={**CLASS_WEIGHT, "ignoring": {"ignore_index": ignoring(3)}, **SMOOTHED, **EVERYTHING}),
    *rows("linear_cross_entropy", {"probabilities": {**linear(8), "target": distributions(8, 11)}},
          wants=OF_LINEAR, options={**CLASS_WEIGHT, **SMOOTHED}),
    Loss("binary_cross_entropy", pair(inner(*SHAPE), labels(*SHAPE)), options=WEIGHT),
    Loss("binary_cross_entropy_with_logits", {"input": normal(*SHAPE, scale=1.5), **BINARY_TARGETS}, options={
        **WEIGHT, "pos_weight": {"pos_weight": positive(*SHAPE)},
        "everything": {"weight": element_weight, "pos_weight": positive(*SHAPE)},
    }),
    Loss("mse_loss", RESIDUALS, options=WEIGHT),
    Loss("l1_loss", RESIDUALS, options=WEIGHT),
    Loss("smooth_l1_loss", RESIDUALS, options={"beta": {"beta": 0.3}, "no-beta": {"beta": 0.0}}),
    Loss("huber_loss", RESIDUALS, options={
        **WEIGHT, "delta": {"delta": 0.4}, "everything": {"weight": element_weight, "delta": 0.4},
    }),
    Loss("mse_loss", pair(normal(), normal()), label="0d"),
    Loss("l1_loss", pair(normal(2, 3, 4, 2), normal(2, 3, 4, 2)), label="4d"),
    *rows("kl_div", {
        "": pair(log_softmax(*SHAPE), distributions(*SHAPE)),
        "log": {**pair(log_softmax(*SHAPE), log_softmax(*SHAPE)), "log_target": True},
    }, reductions=(*REDUCTIONS, "batchmean")),
    Loss("poisson_nll_loss", pair(normal(*SHAPE), counts(*SHAPE)), options={"full": {"full": True}}),
    Loss("poisson_nll_loss", {**pair(positive(*SHAPE), counts(*SHAPE)), "log_input": False},
         options={"full": {"full": True}, "eps": {"eps": 0.1}}, label="rates"),
    Loss("gaussian_nll_loss", {**RESIDUALS, "var": positive(*SHAPE)}, ("input", "var"),
         {"full": {"full": True}, "eps": {"eps": 0.5}}),
    Loss("gaussian_nll_loss", {**RESIDUALS, "var": 0.7}, label="one-var"),
    Loss("soft_margin_loss", pair(normal(*SHAPE, scale=1.5), signs(*SHAPE))),
    *rows("multi_margin_loss", {"2d": of_indices(9, 7), "1d": of_indices(7)}, dim=-1, options={
        "square": {"p": 2}, "margin": {"margin": 0.4},
        "everything": {"weight": class_weight, "p": 2, "margin": 1.7},
    }),
    *rows("multilabel_margin_loss", {"2d": of_labels(9, 7), "1d": of_labels(7)}, dim=-1),
    Loss("margin_ranking_loss", {
        "input1": normal(*SHAPE), "input2": normal(*SHAPE), "target": signs(*SHAPE)
    }, ("input1", "input2"), {"margin": {"margin": 0.4}}),
    *(Loss("cosine_embedding_loss", {
        "input1": normal(*shape), "input2": normal(*shape), "target": signs(*shape[:-1])
    }, ("input1", "input2"), {"margin": {"margin": 0.1}}, label=label)
      for label, shape in (("2d", (9, 7)), ("1d", (7,)))),
    *(Loss("triplet_margin_loss", {name: normal(*shape) for name in TRIPLE}, TRIPLE, {
        "everything": {"margin": 0.4, "p": 3.0, "eps": 0.1, "swap": True},
        **{f"p-{p}": {"p": p, "swap": True} for p in (1, 1.5, float("inf"))},
    }, label=label) for label, shape in (("2d", (9, 7)), ("3d", (2, 3, 7)), ("1d", (7,)))),
    Loss("triplet_margin_with_distance_loss", {name: normal(9, 7) for name in TRIPLE}, TRIPLE, {
        "everything": {
            "margin": 0.4, "swap": True,
            "distance_function": lambda rng, given: torch.nn.PairwiseDistance(3.0, 0.1),
        },
    }),
    *rows("multilabel_soft_margin_loss", {
        "2d": pair(normal(9, 7, scale=1.5), labels(9, 7)),
        "3d": pair(normal(2, 3, 7, scale=1.5), labels(2, 3, 7)),
    }, dim=-1, options={"weight": {"weight": positive(7)}}),
]
# Options that torch lacks: answers are the reference's.
EXTRAS = [
    *(Loss("cross_entropy", make, options={**SOFTMAX, "all-extras": ALL_EXTRAS}, dim=1,
           reference_options={"axis": axis}, label=f"extras-{label}")
      for label, make, axis in (
          ("2d", of_indices(9, 7), 1), ("1d", of_indices(7), 0), ("3d", of_indices(3, 7, 5), 1),
          ("probabilities", of_probabilities(3, 7, 5), 1),
      )),
    Loss("nll_loss", of_log_probs(3, 7, 5), dim=1, reference_options={"axis": 1}, label="extras", options={
        "sample_weight": {"sample_weight": sample_weight},
        "everything": {
            "weight": class_weight, "sample_weight": sample_weight, "ignore_index": ignoring(-100),
        },
    }),
    Loss("linear_cross_entropy", linear(8), OF_LINEAR, reference_options={}, label="extras", options={
        **SOFTMAX, "all-extras": {**ALL_EXTRAS, "ignore_index": ignoring(-100)},
    }),
    Loss("linear_cross_entropy", {**linear(8), "target": distributions(8, 11)}, OF_LINEAR,
         options={**SOFTMAX, "all-extras": ALL_EXTRAS}, reference_options={}, label="extras-probabilities"),
]
OWN = [
    Loss("sigmoid_focal_loss", {"logits": normal(*SHAPE, scale=1.5), **BINARY_TARGETS}, ("logits",), {
        **WEIGHT, "options": {"alpha": 0.4, "gamma": 1.5}, "no_alpha": {"alpha": None},
    }),
    Loss("hinge_loss", SIGNS, ("scores",), {**WEIGHT, "margin": {"margin": 0.6}}),
    Loss("squared_hinge_loss", SIGNS, ("scores",), {**WEIGHT, "margin": {"margin": 0.6}}),
    Loss("log_cosh_loss", RESIDUALS, options=WEIGHT),
    Loss("quantile_loss", RESIDUALS, options={**WEIGHT, "quantile": {"quantile": 0.9}}),
    Loss("quantile_loss", {"input": normal(9, 3), "target": normal(9), "quantile": [0.1, 0.5, 0.9]},
         options={"weight": {"weight": positive(9)}}, label="several"),
    Loss("crps_loss", {"input": normal(9, 3), "target": normal(9), "quantile": [0.1, 0.5, 0.9]},
         options={
             "weight": {"sample_weight": positive(9)}, "quantile_weight": {"quantile_weight": positive(3)},
         }),
    Loss("gamma_nll_loss", POSITIVE, options=WEIGHT),
    Loss("negative_binomial_nll_loss",
         {**pair(normal(*SHAPE), counts(*SHAPE)), "dispersion": positive(*SHAPE)},
         ("input", "dispersion"), {**WEIGHT, "full": {"full": True}}),
    Loss("student_t_nll_loss", {**RESIDUALS, "scale": positive(*SHAPE), "df": positive(*SHAPE)},
         ("input", "scale", "df"), {**WEIGHT, "full": {"full": True}}),
    Loss("tweedie_nll_loss", POSITIVE, options={**WEIGHT, "power": {"power": 1.2}, "normal": {"power": 0.0}}),
    Loss("epsilon_insensitive_loss", RESIDUALS, options={**WEIGHT, "epsilon": {"epsilon": 0.7}}),
    Loss("mean_squared_log_loss", pair(positive(*SHAPE), positive(*SHAPE)), options=WEIGHT),
    *(Loss(name, TWO_LOGITS, STUDENT_AND_TEACHER, {**DIVERGENCE, **more}, dim=-1,
           reference_options={"teacher_grad": True})
      for name, more in {
          "kl_div_with_logits": {}, "tv_distance_with_logits": {},
          "js_div_with_logits": {f"beta-{b}": {"beta": b} for b in (0.0, 0.2, 1.0)},
      }.items()),
    *(Loss(name, {**{k: normal(4, 7, 5) for k in STUDENT_AND_TEACHER}, "axis": 1}, STUDENT_AND_TEACHER, MASK,
           reference_options={"teacher_grad": True}, label="axis")
      for name in ("kl_div_with_logits", "js_div_with_logits", "tv_distance_with_logits")),
    Loss("token_log_probs", TOKENS, ("logits",), {**IGNORING, **TEMPERATURE}, dim=-1),
    Loss("token_log_probs", {"logits": normal(4, 7, 5), "target": indices(7, 4, 5), "axis": 1}, ("logits",),
         label="axis"),
    *(Loss(name, TOKENS, ("logits",), {**IGNORING, **more}, dim=-1) for name, more in {
        "softmax_focal_loss": {"gamma": {"gamma": 0.5, "alpha": 0.3}, "alpha": {"alpha": positive(7)}},
        "poly_loss": {"weight": {"epsilon": -1.0, "weight": positive(7)}},
        "generalized_cross_entropy": {"weight": {"q": 0.2, "weight": positive(7)}},
    }.items()),
    *rows("sparsemax_loss", {"3d": TOKENS, "1d": {"logits": normal(7), "target": indices(7)}},
          wants=("logits",), dim=-1, options=IGNORING),
    Loss("sequence_log_probs", TOKENS, ("logits",), {
        **MASK, "lengths": {"lengths": torch.tensor([0, 2, 5, 3])},
        "average": {"mask": mask, "average": True, "temperature": 1.7},
    }, dim=-1),
    Loss("entropy", {"logits": TOKENS["logits"]}, ("logits",), TEMPERATURE, dim=-1),
    Loss("entropy", {"logits": normal(4, 7, 5), "axis": 1}, ("logits",), label="axis"),
    *rows("linear_token_log_probs", {"2d": linear(8, bias=False), "3d-bias": linear(2, 4)}, wants=OF_LINEAR,
          options={**IGNORING, "options": {"temperature": 1.7, "softcap": 3.0}}),
    Loss("ctc_loss_with_logits", {
        "logits": normal(9, 3, 5), "targets": LABELS, "input_lengths": STEPS, "target_lengths": COUNTS,
    }, ("logits",), {"options": {"blank": 4, "zero_infinity": True}}),
    *(Loss("info_nce_loss", {
        "query": normal(7, 6), "key": normal(*keys), "temperature": uniform(0.4, 0.6)(), **more
    }, ("query", "key", "temperature"), options, label=label)
      for label, keys, more, options in (
          ("", (9, 6), {}, {"plain-products": {"normalize": False}}),
          ("target", (4, 6), {"target": indices(4, 7)}, {}),
          ("symmetric", (7, 6), {"symmetric": True}, {}),
      )),
    Loss("siglip_loss", {
        "query": normal(5, 6, scale=0.4), "key": normal(7, 6, scale=0.4), "scale": uniform(2.0, 3.0)(),
        "bias": uniform(-3.0, -2.0)(),
    }, ("query", "key", "scale", "bias")),
    *(Loss(name, two_layers(4, 5), OF_STUDENT, {**OF_TWO_LAYERS, **more})
      for name, more in {
          "linear_kl_div": {}, "linear_tv_distance": {}, "linear_js_div": {"beta": {"beta": 0.2}},
      }.items()),
    Loss("linear_kl_div", two_layers(8, bias=False), OF_STUDENT, label="no-bias"),
    *(Loss(name, {
        "scores": normal(15), "relevance": indices(4, 15), "group_sizes": torch.tensor([4, 0, 1, 10]),
    }, ("scores",), options) for name, options in {
        "list_net_loss": {},
        "lambda_rank_loss": {
            "options": {"sigmoid": 2.0, "truncation_level": 3},
            "gains": {"normalize": False, "label_gain": torch.tensor([0.0, 1.0, 1.0, 5.0])},
        },
    }.items()),
    Loss("aft_loss", {
        # Exact in every type: a bound that is rounded alone may pass the other.
        "input": normal(15), "lower": lambda rng, given: tensor(rng.integers(16, 65, 15) / 32.0),
        "upper": lambda rng, given: given["lower"] + tensor(rng.choice([0.0, 1.5, np.inf], 15)),
    }, ("input",), {
        "logistic": {"distribution": "logistic"},
        "everything": {"distribution": "extreme", "scale": 1.3, "weight": uniform(0.5, 2.0)(15)},
    }),
    Loss("cox_ph_loss", {
        "log_hazard": normal(15), "time": indices(9, 15),
        "event": lambda rng, given: tensor(rng.random(15) < 0.6),
    }, ("log_hazard",), {
        "efron": {"ties": "efron"},
        "everything": {"ties": "efron", "weight": uniform(0.5, 2.0)(15), "strata": indices(3, 15)},
    }),
    Loss("dpo_loss", {**POLICIES, **REFERENCES}, PAIR, {
        "options": {"beta": 0.4, "label_smoothing": 0.2}, "reference_free": {"reference_free": True},
        "js": {"f_divergence_type": "js_divergence"},
        **{t: {"loss_type": t, "label_smoothing": 0.1} for t in ("robust", "exo_pair")},
        **{t: {"loss_type": t} for t in (
            "hinge", "ipo", "nca_pair", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero",
            "apo_down", "discopop",
        )},
    }),
    Loss("dpo_loss", {**POLICIES, "reference_free": True}, PAIR, label="without-references"),
    Loss("cpo_loss", POLICIES, PAIR, {
        "options": {"beta": 0.4, "label_smoothing": 0.2},
        "hinge": {"loss_type": "hinge"}, "ipo": {"loss_type": "ipo"},
    }),
    Loss("simpo_loss", POLICIES, PAIR, {"options": {"beta": 1.5, "gamma": 0.4, "label_smoothing": 0.2}}),
    Loss("orpo_loss", POLICIES, PAIR, {"beta": {"beta": 0.4}}),
    Loss("kto_loss", {
        "policy_logps": log_probs(9), "ref_logps": log_probs(9),
        "labels": lambda rng, given: tensor(rng.random(9) < 0.5),
    }, ("policy_logps",), {
        "options": {"kl": 0.3, "beta": 0.4, "desirable_weight": 0.7, "undesirable_weight": 1.3},
        "apo": {"loss_type": "apo_zero_unpaired"},
    }),
    Loss("reward_model_loss", {"chosen_rewards": normal(9), "rejected_rewards": normal(9)},
         ("chosen_rewards", "rejected_rewards"), {
             "margin": {"margin": 0.4}, "margins": {"margin": positive(9)},
             "centered": {"center_coefficient": 0.05},
         }),
    Loss("ppo_loss", {**RATIOS, "advantages": normal(4, 5)}, ("logps",), {**MASK, "clip": {"clip": 0.1}}),
    Loss("value_loss", {name: log_probs(4, 5) for name in ("values", "old_values", "returns")}, ("values",),
         {**MASK, "clip": {"clip": 0.1}, "unclipped": {"clip": None}}),
    Loss("value_loss", {"values": normal(6), "old_values": None, "returns": normal(6), "clip": None},
         ("values",), label="no-old-values"),
    Loss("grpo_loss", {**RATIOS, "advantages": normal(4)}, ("logps",), {
        **MASK,
        **{t: {"mask": mask, "loss_type": t} for t in ("bnpo", "luspo", "cispo", "sapo")},
        "dapo": {"mask": mask, "loss_type": "dapo", "num_items": 17},
        "dr_grpo": {"mask": mask, "loss_type": "dr_grpo", "max_completion_length": 8},
        "sequence": {"mask": mask, "importance_sampling_level": "sequence"},
        "bounds": {"epsilon_low": 0.1, "epsilon_high": 0.3, "delta": 1.5},
        "penalty": {"beta": 0.1, "ref_logps": log_probs(4, 5)},
    }),
    Loss("grpo_loss", {**RATIOS, "advantages": normal(4, 5)}, ("logps",), MASK, label="per-token"),
    Loss("kl_penalty", {"logps": log_probs(4, 5), "ref_logps": log_probs(4, 5)}, ("logps",),
         {**MASK, "k1": {"estimator": "k1"}, "k2": {"estimator": "k2"}}),
    Loss("l1_penalty", {"params": normal(*SHAPE), "strength": 0.3}, ("params",)),
    Loss("l2_penalty", {"params": normal(*SHAPE), "strength": 0.3}, ("params",)),
    Loss("elastic_net_penalty", {"params": normal(*SHAPE), "l1": 0.3, "l2": 0.2}, ("params",)),
]
# fmt: on


def shifted(rng: Rng, given: Values) -> Tensor:
    """The largest of each row is in another slice, far above the others."""
    logits = normal(13, 11, scale=2.0)(rng, given) + 1e4
    logits[torch.arange(13), torch.arange(13) % 11] += 500.0
    return logits


def in_turn(*rows: int) -> Tensor:
    """A target in each slice of the 11 classes."""
    return torch.arange(int(np.prod(rows))).view(rows) % 11


# fmt: off
OF_SLICES: dict[str, Values] = {
    **{f"ignoring-{i}": {"ignore_index": ignoring(i)} for i in (-100, 4, 9)}, **SMOOTHED, **CLASS_WEIGHT,
    "weight-and-smoothing": {"weight": class_weight, "label_smoothing": 0.2},
    **{name: SOFTMAX[name] for name in ("z_loss", "softcap", "temperature", "logit_scale")},
    "everything": {
        "weight": class_weight, "ignore_index": ignoring(-100), "label_smoothing": 0.1, "z_loss": 0.05,
        "softcap": 4.0, "temperature": 0.7, "logit_scale": 0.6,
    },
}
OF_SLICES_OF_PROBABILITIES: dict[str, Values] = {
    "everything": {k: v for k, v in OF_SLICES["everything"].items() if k != "ignore_index"}
}
SLICED = [
    *rows("vocab_parallel_cross_entropy", {
        str(rows): pair(normal(*rows, 11, scale=2.0), lambda rng, given, rows=rows: in_turn(*rows))
        for rows in ((13,), (2, 3), (2, 2, 2), (), (1,))
    }, options=OF_SLICES, dim=-1, of_reference="cross_entropy"),
    *rows("vocab_parallel_cross_entropy", {
        "shifted": pair(shifted, in_turn(13)), "shifted-elsewhere": pair(shifted, (in_turn(13) + 5) % 11),
    }, dim=-1, of_reference="cross_entropy"),
    *rows("vocab_parallel_cross_entropy", {"probabilities": pair(normal(13, 11), distributions(13, 11))},
          options=OF_SLICES_OF_PROBABILITIES, dim=-1, of_reference="cross_entropy"),
    *rows("vocab_parallel_linear_cross_entropy", {
        "bias": {**linear(13), "target": lambda rng, given: in_turn(13)},
        "3d": {**linear(2, 5, bias=False), "target": lambda rng, given: in_turn(2, 5)},
    }, wants=OF_LINEAR, options=OF_SLICES, of_reference="linear_cross_entropy"),
    *rows("vocab_parallel_linear_cross_entropy", {
        "probabilities": {**linear(13), "target": distributions(13, 11)},
    }, wants=OF_LINEAR, options=OF_SLICES_OF_PROBABILITIES, of_reference="linear_cross_entropy"),
]
# Every other function of `LOSSES` has a module.
WITHOUT_MODULE = (
    "token_log_probs", "sequence_log_probs", "entropy", "linear_token_log_probs", "info_nce_loss",
    "siglip_loss", "linear_kl_div", "linear_tv_distance", "linear_js_div", "ppo_loss", "value_loss",
    "grpo_loss", "kl_penalty", "l1_penalty", "l2_penalty", "elastic_net_penalty",
)
# fmt: on
# Elementwise losses that have no row above, as `fastloss.torch` derives them: of numbers and signs.
_DERIVED = {name for name in _derived.__all__ if inspect.isfunction(getattr(ft, name))}
_ROWLESS = sorted(_DERIVED - {loss.name for loss in (*OF_TORCH, *EXTRAS, *OWN)})
OF_TORCH += [Loss(name, pair(normal(*SHAPE, scale=1.5), signs(*SHAPE))) for name in _ROWLESS]
# Names that are no losses, or have tests of their own: test_torch_statistics.py, test_adaptive.py, and
# test_ctc.py (torch's ctc_loss, whose gradient is ours only through a log-softmax).
PROGRAM = (
    "AdaptiveLogSoftmaxWithLoss", "CTCLoss", "Calls", "Installed", "all_reduce", "calls", "ctc_loss",
    "install", "installed", "linear_token_statistics", "token_statistics", "uninstall", "without_logits",
)  # fmt: skip

LOSSES = [*OF_TORCH, *EXTRAS, *OWN]


def letters(name: str) -> str:
    """What the names of a function and of its module share.

    "BCELoss" and "binary_cross_entropy" are both "binarycrossentropy".
    """
    return name.lower().replace("_", "").replace("loss", "").replace("bce", "binarycrossentropy")


_CLASSES = {letters(name): name for name in ft.__all__ if name[0].isupper()}
MODULES = {_CLASSES[letters(loss.name)]: loss.name for loss in LOSSES if loss.name not in WITHOUT_MODULE}
NAMES_OF_TORCH = tuple(dict.fromkeys(loss.name for loss in OF_TORCH))
NAMES_OF_OWN = tuple(dict.fromkeys(loss.name for loss in OWN))
TORCHS = {name: getattr(functional, name) for name in NAMES_OF_TORCH}
assert all(f.__module__ == "torch.nn.functional" for f in TORCHS.values())

CALLS = [call for loss in LOSSES for call in loss.calls()]
# A call of each function, with as much as it can have at once.
FIRST: dict[str, Call] = {}
for _call in CALLS:
    if not _call.loss.is_torchs and _call.name in TORCHS:
        continue
    if _call.name not in FIRST or (FIRST[_call.name].loss is _call.loss and _call.label == "everything"):
        FIRST[_call.name] = _call


def row_of(name: str, table: list[Loss] = LOSSES) -> Loss:
    """The first row of a function."""
    return next(loss for loss in table if loss.name == name)


# Calls with as many options as they can have, of which torch's functions lack some.
WITH_EXTRAS = [row_of(n, EXTRAS).calls()[-1] for n in ("cross_entropy", "nll_loss", "linear_cross_entropy")]
# Calls that torch has no function for.
BEYOND = [*(FIRST[name] for name in NAMES_OF_OWN), *WITH_EXTRAS]


def over(names: Collection[str]) -> pytest.MarkDecorator:
    """The first calls of some functions."""
    return pytest.mark.parametrize("call", [FIRST[name] for name in names], ids=names)


over_calls, over_beyond = (pytest.mark.parametrize("call", calls, ids=str) for calls in (CALLS, BEYOND))
over_functions, over_torchs, over_own = over(FIRST), over(NAMES_OF_TORCH), over(NAMES_OF_OWN)


def without_row(losses: list[Loss], modules: dict[str, str]) -> set[str]:
    """The losses and modules of `fastloss.torch` that have no row; and rows of what it does not have."""
    return {loss.name for loss in losses}.union(modules) ^ set(ft.__all__).difference(PROGRAM)


def assert_as_torch(
    name: str, answer: Callable[[Callable[..., Tensor]], Any], title: Any = "", **bounds: float
) -> Any:
    """What ours answers, which is what torch's own function answers, or its exception."""
    theirs, ours = (outcome(lambda f=f: answer(f)) for f in (TORCHS[name], getattr(ft, name)))
    assert_same(theirs, ours, title or name, **bounds)
    return ours
