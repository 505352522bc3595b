"""Losses of preferences: against the reference, and without it."""

import itertools
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import cases
import numpy as np
import pytest
import test_errors as errors
from cases import REDUCTIONS, Array, Shape, assert_within, dtype_named, is_half, loss_dtype, ulp

import fastloss
from fastloss import reference

over_isa = pytest.mark.usefixtures("isa")
over_dtypes = pytest.mark.parametrize("dtype", cases.DTYPES)
over_modules = pytest.mark.parametrize("module", [reference, fastloss], ids=["reference", "fastloss"])

INF, NAN = math.inf, math.nan
SHAPES: tuple[Shape, ...] = ((), (1,), (7,), (1000,), (3, 4), (0,))


# Losses, with their options


@dataclass(frozen=True)
class Loss:
    """A function with options.

    `arrays` names its positional arguments, of which the first `gradients` have gradients; `make` makes
    them (float64) for a shape.
    """

    name: str
    arrays: tuple[str, ...]
    gradients: int
    make: Callable[[np.random.Generator, Shape], tuple[Array, ...]]
    options: tuple[tuple[str, Any], ...] = ()
    takes_mask: bool = False

    def __str__(self) -> str:
        return "-".join([self.name, *(str(value) for _, value in self.options)])

    def with_(self, **options: Any) -> "Loss":
        return replace(self, options=tuple({**dict(self.options), **options}.items()))

    @property
    def fields(self) -> tuple[str, ...]:
        return self.arrays[: self.gradients]


def over(*losses: Loss) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("loss", losses, ids=str)


POLICY = ("policy_chosen_logps", "policy_rejected_logps")
FOUR = (*POLICY, "ref_chosen_logps", "ref_rejected_logps")
REWARDS = ("chosen_rewards", "rejected_rewards")


def four_logps(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    """Log-probabilities of two answers, and near them those of another model."""
    policy = -40.0 * rng.exponential(size=(2, *shape))
    ref = np.minimum(policy + rng.normal(scale=3.0, size=policy.shape), 0.0)
    return policy[0], policy[1], ref[0], ref[1]


def two_logps(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    """Log-probabilities averaged over the tokens: near 0."""
    chosen, rejected = -0.01 - 1.5 * rng.exponential(size=(2, *shape))
    return np.asarray(chosen), np.asarray(rejected)


def two_rewards(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    chosen, rejected = 2.0 * rng.standard_normal((2, *shape))
    return np.asarray(chosen), np.asarray(rejected)


def labelled(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    policy, _, ref, _ = four_logps(rng, shape)
    return policy, ref, np.asarray(rng.random(shape) < 0.5)


DPO = Loss("dpo_loss", FOUR, 2, four_logps)
REWARD = Loss("reward_model_loss", REWARDS, 2, two_rewards)
KTO = Loss("kto_loss", ("policy_logps", "ref_logps", "labels"), 1, labelled)
ORPO = Loss("orpo_loss", POLICY, 2, two_logps)
SIMPO = Loss("simpo_loss", POLICY, 2, two_logps)
CPO = Loss("cpo_loss", POLICY, 2, two_logps)

SMOOTHED = {"sigmoid": 0.1, "exo_pair": 0.2, "robust": 0.3, "aot": 0.1, "aot_unpaired": 0.4}
OF_DIFFERENCE = ("sigmoid", "hinge", "ipo", "exo_pair", "robust", "discopop")
OF_LOG_RATIOS = ("nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down")
SORTED = ("aot", "aot_unpaired")
DPO_TYPES = (*OF_DIFFERENCE, *OF_LOG_RATIOS, *SORTED)
F_DIVERGENCES = ("forward_kl", "js_divergence", "alpha_divergence")


def dpo(loss_type: str, **options: Any) -> Loss:
    """With smoothing where there must be some."""
    if loss_type == "exo_pair":
        options = {"label_smoothing": SMOOTHED[loss_type], **options}
    return DPO.with_(loss_type=loss_type, **options)


PLAIN = (
    DPO,
    *(dpo(name) for name in DPO_TYPES if name != "sigmoid"),
    REWARD,
    KTO,
    KTO.with_(loss_type="apo_zero_unpaired"),
    ORPO,
    SIMPO,
    *(CPO.with_(loss_type=name) for name in ("sigmoid", "hinge", "ipo")),
)
WITH_OPTIONS = (
    *(dpo(name, beta=0.5) for name in DPO_TYPES),
    *(dpo(name, label_smoothing=e) for name, e in SMOOTHED.items()),
    *(DPO.with_(label_smoothing=e) for e in (0.5, 1.0)),
    *(dpo(name, reference_free=True, beta=0.02) for name in DPO_TYPES),
    *(dpo(name, f_divergence_type=f) for name in OF_DIFFERENCE for f in F_DIVERGENCES),
    *(
        DPO.with_(f_divergence_type="alpha_divergence", f_alpha_divergence_coef=a, beta=0.5)
        for a in (-0.5, 0, 0.9, 1.0, 1.0 + 5e-7, 1.1, 2.0)
    ),
    DPO.with_(f_divergence_type="js_divergence", label_smoothing=0.2, beta=2),
    *(dpo("discopop", discopop_tau=tau, beta=0.2) for tau in (0.5, 1.0, 1.5)),
    *(REWARD.with_(margin=m, center_coefficient=c) for m in (None, 0.5, -1) for c in (0.0, 0.01, 1)),
    *(KTO.with_(kl=kl, desirable_weight=1.5, undesirable_weight=0.5) for kl in (-1.0, 0.75, 2)),
    KTO.with_(beta=0.5, desirable_weight=0.0),
    KTO.with_(loss_type="apo_zero_unpaired", kl=0.0, undesirable_weight=0, beta=1),
    ORPO.with_(beta=1),
    SIMPO.with_(gamma=0.0, beta=10.0),
    SIMPO.with_(gamma=0.3, label_smoothing=0.25),
    *(CPO.with_(loss_type=name, beta=0.7) for name in ("sigmoid", "hinge", "ipo")),
    CPO.with_(label_smoothing=0.3),
)


# Calls, and how near they have to be


def rounded(dtype: str, *arrays: Any) -> list[Array]:
    """In a type (but for labels), and nobody can write to them."""
    found = [np.array(a, a.dtype if a.dtype.kind in "biu" else dtype_named(dtype)) for a in arrays]
    for a in found:
        a.flags.writeable = False
    return found


def bits(value: Any) -> list[bytes]:
    """Of a loss, or of whatever a call returns."""
    flat = value if isinstance(value, tuple | list) else (value,)
    return [b for one in flat for b in (bits(one) if isinstance(one, tuple) else [np.asarray(one).tobytes()])]


def largest(values: Array) -> float:
    size = np.abs(values)
    return float(size[np.isfinite(size)].max(initial=0.0))


def stored(values: Any, dtype: str) -> Array:
    """Float64 values, those that a type cannot hold as infinities."""
    with np.errstate(over="ignore"):
        beyond = np.isinf(np.asarray(values).astype(dtype_named(dtype)).astype(np.float64))
    return np.asarray(np.where(beyond, np.copysign(INF, values), values))


def tolerance(values: Array, scale: float, dtype: str) -> Array:
    """How far numbers, computed in float64 and rounded once, may be off.

    2 units in the last place of float32; half types are rounded once more. In float64 and for small
    differences there is what the rounding errors of terms as large as `scale` come to.
    """
    size = np.abs(np.where(np.isfinite(values), values, 0.0))
    if dtype == "float64":
        return np.asarray(1e-13 * (size + scale))
    found = 2.0 * ulp(size, "float32") + 1e-14 * scale
    return np.asarray(found + 0.5 * ulp(size + found, dtype) if is_half(dtype) else found)


@dataclass(frozen=True, eq=False)
class Call:
    """A call, and what it should answer."""

    loss: Loss
    dtype: str
    reduction: str
    arrays: tuple[Any, ...]
    options: dict[str, Any]

    def _call(self, module: Any, given: dict[str, Any]) -> Any:
        pairs = zip(self.loss.arrays, self.arrays, strict=True)
        arrays = [given.pop(name, array) for name, array in pairs]
        return getattr(module, self.loss.name)(*arrays, **given)

    def value(self, *, module: Any = fastloss, **more: Any) -> Any:
        """Run a call without gradient."""
        given = {"reduction": self.reduction, **dict(self.loss.options), **self.options, **more}
        given.pop("grad_output", None)
        return self._call(module, given)

    def run(self, *, module: Any = fastloss, **more: Any) -> tuple[Any, tuple[Any, ...]]:
        """Run a call with gradients: a tuple of one where the loss has one."""
        given = {"reduction": self.reduction, "return_grad": True, **dict(self.loss.options), **self.options}
        value, grads = self._call(module, {**given, **more})
        if self.loss.gradients > 1:
            assert isinstance(grads, tuple) and getattr(grads, "_fields", ()) == self.loss.fields
        return value, grads if self.loss.gradients > 1 else (grads,)

    @cached_property
    def expected(self) -> tuple[Any, tuple[Array, ...]]:
        return self.run(module=reference)

    @cached_property
    def expected_elements(self) -> Array:
        return np.asarray(self.value(module=reference, reduction="none"))

    @property
    def shape(self) -> Shape:
        return np.shape(self.arrays[0])

    @cached_property
    def counts(self) -> Array:
        """Which elements are under the mask."""
        return np.asarray(self.options.get("mask", np.ones(self.shape))).astype(bool)

    def check_value(self, value: Any) -> None:
        """Assert that a loss is of the right type and near enough."""
        elements, title = self.expected_elements, f"{self.title} value"
        if self.reduction == "none":
            assert isinstance(value, np.ndarray), title
            dtype = loss_dtype(self.dtype)
            assert value.dtype == dtype, title
            allowed = tolerance(elements, largest(elements), dtype)
            assert_within(value, stored(elements, dtype), allowed, title)
            assert not value[~self.counts].any(), f"{title} under the mask"
        else:
            # Nothing is rounded to the type of the input on the way to a sum.
            assert type(value) is float, title
            allowed = 1e-12 * np.abs(elements[np.isfinite(elements)]).sum()
            if self.reduction == "mean" and "max_completion_length" not in dict(self.loss.options):
                allowed = 2.0 * allowed / max(self.shape[0] if self.loss.name == "grpo_loss" else 0, 1)
            assert_within(value, self.expected[0], allowed, title)

    def check_gradient(self, field: int, grad: Any) -> None:
        """Assert that a gradient is of the right type and near enough."""
        title, exact = f"{self.title} gradient of {self.loss.fields[field]}", self.expected[1][field]
        assert isinstance(grad, np.ndarray), title
        assert grad.dtype == dtype_named(self.dtype), title
        allowed = tolerance(exact, largest(exact), self.dtype)
        assert_within(grad, stored(exact, self.dtype), allowed, title)
        assert not grad.astype(np.float64)[~self.counts].any(), f"{title} under the mask"

    def check(self, **more: Any) -> None:
        """Check a call with gradient and one without, which is the same to the bit."""
        value, grads = self.run(**more)
        self.check_value(value)
        for field, grad in enumerate(grads):
            self.check_gradient(field, grad)
        assert bits(value) == bits(self.value(**more)), self.title

    def bits(self, **more: Any) -> list[bytes]:
        return bits(self.run(**more))

    @property
    def title(self) -> str:
        given = {k: v if np.ndim(v) == 0 else "array" for k, v in self.options.items()}
        return f"{self.loss} {self.dtype} {self.shape} {self.reduction} {given}:"


def signed(rng: np.random.Generator, shape: Shape) -> Array:
    """Upstream gradients."""
    return np.asarray(rng.uniform(0.5, 2.0, shape) * rng.choice([-1.0, 1.0], shape))


MASKS = {"bool": "?", "int": "int8", "float": "float32"}


@lru_cache(maxsize=8192)
def call(
    loss: Loss,
    shape: Shape,
    dtype: str = "float64",
    reduction: str = "mean",
    grad_output: str | None = None,
    mask: str | None = None,
    seed: int = 0,
) -> Call:
    """Make a call; the same arguments give the same object, so its answer is kept.

    Elements under a mask of 0 hold NaN and infinities, and NaN is their upstream gradient.
    """
    rng = np.random.default_rng(seed)
    arrays = list(loss.make(rng, shape))
    options: dict[str, Any] = {}
    counts = np.ones(shape, bool)
    if mask is not None:
        counts = np.asarray(rng.random(shape) < 0.6)
        counts[:1], counts.reshape(-1)[-1:] = False, True  # a sequence without tokens
        for i, bad in enumerate((NAN, INF, -INF, NAN)[: len(arrays)]):
            if arrays[i].shape == shape:
                arrays[i] = np.where(counts, arrays[i], bad)
        options["mask"] = counts.astype(MASKS[mask])
    if grad_output == "scalar":
        options["grad_output"] = -2.5
    elif grad_output == "array":
        options["grad_output"] = np.where(counts, signed(rng, shape), NAN)
    if loss.name == "reward_model_loss" and "margin" not in dict(loss.options) and shape and seed % 2:
        options["margin"] = rounded(dtype, 0.5 * rng.standard_normal(shape))[0]
    return Call(loss, dtype, reduction, tuple(rounded(dtype, *arrays)), options)


def of_values(loss: Loss, *arrays: Any, dtype: str = "float64", **options: Any) -> Call:
    """A call with these values, unreduced."""
    return Call(loss, dtype, "none", tuple(rounded(dtype, *map(np.asarray, arrays))), options)


def upstreams(reduction: str) -> tuple[str | None, ...]:
    return (None, "scalar", "array") if reduction == "none" else (None, "scalar")


# Against the reference


@over_isa
@over_dtypes
@over(*PLAIN)
def test_shapes(loss: Loss, dtype: str) -> None:
    for shape, reduction in itertools.product(SHAPES, REDUCTIONS):
        call(loss, shape, dtype, reduction, None, None, 1).check()
        if shape in ((), (7,), (3, 4)):
            for grad_output in upstreams(reduction)[1:]:
                call(loss, shape, dtype, reduction, grad_output).check()


@over_dtypes
@over(*WITH_OPTIONS)
def test_options(loss: Loss, dtype: str) -> None:
    for reduction in REDUCTIONS:
        for grad_output in upstreams(reduction):
            call(loss, (41,), dtype, reduction, grad_output).check()


@over(*PLAIN, *WITH_OPTIONS)
def test_every_kind_of_float32_number_is_rounded_once(loss: Loss) -> None:
    """Within 2 units in the last place of the float64 answer, whatever stands beside it."""
    p = call(loss, (2000,), "float32", "none", "array", None, 5)
    value, grads = p.run()
    for found, exact in zip((value, *grads), (p.expected[0], *p.expected[1]), strict=True):
        assert np.unique(found).size > 3, p.title
        small = np.abs(exact) < 1e-6 * largest(exact)
        off = np.abs(found.astype(np.float64) - exact)
        assert (off <= 2.0 * ulp(exact, "float32") + np.where(small, 1e-14 * largest(exact), 0.0)).all(), (
            p.title
        )


# Without the reference


def sigmoid(x: float) -> float:
    small = math.exp(-abs(x))
    return (1.0 if x >= 0.0 else small) / (1.0 + small)


def ls(x: float) -> float:
    return min(x, 0.0) - math.log1p(math.exp(-abs(x)))


def by_hand(loss_type: str, rc: float, rr: float, b: float, e: float, tau: float, d: float) -> float:
    """The formulas of TRL, in plain Python, d the difference of the scores."""
    x = b * d
    m = sigmoid(x / tau)
    return {
        "sigmoid": lambda: -(1 - e) * ls(x) - e * ls(-x),
        "hinge": lambda: max(0.0, 1 - x),
        "ipo": lambda: (d - 1 / (2 * b)) ** 2,
        "exo_pair": lambda: sigmoid(x) * (ls(x) - math.log(1 - e)) + sigmoid(-x) * (ls(-x) - math.log(e)),
        "nca_pair": lambda: -ls(b * rc) - 0.5 * ls(-b * rc) - 0.5 * ls(-b * rr),
        "robust": lambda: (-(1 - e) * ls(x) + e * ls(-x)) / (1 - 2 * e),
        "bco_pair": lambda: -ls(b * rc) - ls(-b * rr),
        "sppo_hard": lambda: (rc - 0.5 / b) ** 2 + (rr + 0.5 / b) ** 2,
        "aot": lambda: -(1 - e) * ls(x) - e * ls(-x),
        "aot_unpaired": lambda: -(1 - e) * ls(x) - e * ls(-x),
        "apo_zero": lambda: 1 - sigmoid(b * rc) + sigmoid(b * rr),
        "apo_down": lambda: sigmoid(b * rc) + 1 - sigmoid(b * (rc - rr)),
        "discopop": lambda: -(1 - m) * ls(x) + math.exp(ls(x / tau) - x),
    }[loss_type]()


SCORES: dict[str, Callable[[float], float]] = {
    "reverse_kl": lambda r: r,
    "forward_kl": lambda r: 1 - math.exp(-r),
    "js_divergence": lambda r: math.log(2) + ls(r),
    "alpha_divergence": lambda r: (math.exp(-0.5 * r) - 1) / -0.5,
}
POINTS = (
    (-3.0, -5.0, -4.5, -4.75),
    (-8.0, -2.5, -6.0, -5.0),
    (-1.0, -1.0, -1.0, -1.0),
    (-2.0, -9.0, 0.0, -1.0),
)


@over_modules
@pytest.mark.parametrize("loss_type", DPO_TYPES)
def test_dpo_by_hand(module: Any, loss_type: str) -> None:
    for c, r, c0, r0 in POINTS:
        for b, e, f in itertools.product((0.1, 0.5), (0.0, 0.2), SCORES):
            if (e and loss_type not in SMOOTHED) or (not e and loss_type == "exo_pair"):
                continue
            if f != "reverse_kl" and loss_type not in OF_DIFFERENCE:
                continue
            given = {"beta": b, "label_smoothing": e, "loss_type": loss_type, "f_divergence_type": f}
            score, tau = SCORES[f], 0.5 if loss_type == "discopop" else 0.05
            for free in (False, True):
                rc, rr = (c, r) if free else (c - c0, r - r0)
                exact = by_hand(loss_type, rc, rr, b, e, tau, score(rc) - score(rr))
                options = {**given, "discopop_tau": tau, "reference_free": free}
                value = module.dpo_loss(c, r, c0, r0, **options)
                assert value == pytest.approx(exact, rel=1e-12, abs=1e-13), (options, c, r)
                if free:
                    assert module.dpo_loss(c, r, **options) == value
                    assert module.dpo_loss(c, r, NAN, None, **options) == value


@over_modules
def test_defaults_of_dpo(module: Any) -> None:
    value = module.dpo_loss([-3.0], [-5.0], [-4.5], [-4.75])
    assert value == pytest.approx(-ls(0.1 * 1.75), rel=1e-14)
    # The default of discopop's temperature is 0.05.
    value = module.dpo_loss([-3.0], [-5.0], [-4.5], [-4.75], loss_type="discopop")
    m = sigmoid(0.1 * 1.75 / 0.05)
    assert value == pytest.approx(-(1 - m) * ls(0.175) + m * math.exp(-0.175), rel=1e-13)


@over_modules
def test_gradients_by_hand(module: Any) -> None:
    _, grads = module.dpo_loss([-3.0, -8.0], [-5.0, -2.5], [-4.5, -6.0], [-4.75, -5.0], return_grad=True)
    # D = 1.75 and -4.5, and the mean of two.
    exact = np.array([-0.05 * sigmoid(-0.175), -0.05 * sigmoid(0.45)])
    np.testing.assert_allclose(grads.policy_chosen_logps, exact, rtol=1e-13)
    np.testing.assert_allclose(grads.policy_rejected_logps, -exact, rtol=1e-13)
    given = {"reduction": "none", "return_grad": True, "grad_output": [2.0, -1.0]}
    _, grad = module.kto_loss([-3.0, -8.0], [-4.0, -6.0], [True, False], kl=0.5, beta=0.5, **given)
    x = np.array([0.25, -1.25])
    s = np.array([sigmoid(v) * sigmoid(-v) for v in x])
    np.testing.assert_allclose(grad, [2.0 * -0.5 * s[0], -1.0 * 0.5 * s[1]], rtol=1e-13)
    _, grads = module.reward_model_loss([1.0], [0.5], margin=0.25, center_coefficient=0.5, return_grad=True)
    np.testing.assert_allclose(grads.chosen_rewards, 1.5 - sigmoid(-0.25), rtol=1e-13)
    np.testing.assert_allclose(grads.rejected_rewards, 1.5 + sigmoid(-0.25), rtol=1e-13)


@over_modules
def test_others_by_hand(module: Any) -> None:
    c, r = [1.5, -0.5, 0.25], [0.5, 0.75, -1.0]
    for margin in (None, 0.25, [0.5, 0.0, -1.0]):
        m = np.broadcast_to(0.0 if margin is None else margin, 3)
        exact = [-ls(c[i] - r[i] - m[i]) + 0.5 * (c[i] + r[i]) ** 2 for i in range(3)]
        given = {"margin": margin, "center_coefficient": 0.5}
        np.testing.assert_allclose(
            module.reward_model_loss(c, r, reduction="none", **given), exact, rtol=1e-13
        )
        assert module.reward_model_loss(c, r, **given) == pytest.approx(math.fsum(exact) / 3, rel=1e-13)
    policy, ref, labels = [-3.0, -8.0, -2.0], [-4.5, -6.0, -2.0], [1, 0, 0]
    ratios = [1.5, -2.0, 0.0]
    for kl, b, wd, wu in ((0.0, 0.1, 1.0, 1.0), (0.75, 0.5, 1.5, 0.25), (-3.0, 0.5, 2.0, 3.0)):
        k = max(kl, 0.0)
        exact = [
            wd * (1 - sigmoid(b * (x - k))) if y else wu * (1 - sigmoid(b * (k - x)))
            for x, y in zip(ratios, labels, strict=True)
        ]
        given = {"kl": kl, "beta": b, "desirable_weight": wd, "undesirable_weight": wu}
        value = module.kto_loss(policy, ref, labels, **given)
        assert value == pytest.approx(math.fsum(exact) / 3, rel=1e-13)
        exact = [
            wd * (1 - sigmoid(b * x)) if y else wu * sigmoid(b * x)
            for x, y in zip(ratios, labels, strict=True)
        ]
        unpaired = partial(module.kto_loss, loss_type="apo_zero_unpaired", reduction="none")
        value = unpaired(policy, ref, labels, **{**given, "kl": 0.0})
        np.testing.assert_allclose(value, exact, rtol=1e-13)
    lc, lr = -0.5, -1.25
    odds = (math.exp(lc) / (1 - math.exp(lc))) / (math.exp(lr) / (1 - math.exp(lr)))
    assert module.orpo_loss([lc], [lr]) == pytest.approx(0.1 * math.log1p(1 / odds), rel=1e-13)
    assert module.orpo_loss(lc, lr, beta=2) == pytest.approx(2 * math.log1p(1 / odds), rel=1e-13)
    assert module.simpo_loss([lc], [lr]) == pytest.approx(-ls(0.5), rel=1e-13)
    value = module.simpo_loss(lc, lr, beta=3.0, gamma=0.5, label_smoothing=0.2)
    assert value == pytest.approx(-0.8 * ls(1.75) - 0.2 * ls(-1.75), rel=1e-13)
    assert module.cpo_loss([lc], [lr]) == pytest.approx(-ls(0.075), rel=1e-13)
    for name in ("sigmoid", "hinge", "ipo"):
        value = module.cpo_loss(lc, lr, beta=0.5, loss_type=name)
        assert value == pytest.approx(by_hand(name, lc, lr, 0.5, 0.0, 1.0, 0.75), rel=1e-13)
    value = module.cpo_loss(lc, lr, label_smoothing=0.25)
    assert value == pytest.approx(-0.75 * ls(0.075) - 0.25 * ls(-0.075), rel=1e-13)


@over_modules
def test_kinks(module: Any) -> None:
    """At the end of a hinge the gradient is 0, as that of hinge_loss."""
    for f in (partial(module.dpo_loss, reference_free=True), module.cpo_loss):
        value, grads = f([-1.0], [-3.0], beta=0.5, loss_type="hinge", return_grad=True)
        assert value == 0.0 and not grads[0].any() and not grads[1].any()


@over_modules
def test_preference_rewards(module: Any) -> None:
    arrays = (
        [-3.0, -8.0, -1.0, -2.0],
        [-5.0, -2.5, -1.0, -9.0],
        [-4.5, -6.0, -1.0, 0.0],
        [-4.75, -5.0, -1.0, -1.0],
    )
    found = module.preference_rewards(*arrays, beta=0.5)
    assert found._fields == ("chosen", "rejected", "margins", "accuracy")
    np.testing.assert_allclose(found.chosen, [0.75, -1.0, 0.0, -1.0], rtol=1e-15)
    np.testing.assert_allclose(found.rejected, [-0.125, 1.25, 0.0, -4.0], rtol=1e-15)
    np.testing.assert_allclose(found.margins, [0.875, -2.25, 0.0, 3.0], rtol=1e-15)
    assert type(found.accuracy) is float and found.accuracy == 0.5  # a tie is no win
    free = module.preference_rewards(*arrays[:2])
    np.testing.assert_allclose(free.chosen, 0.1 * np.array(arrays[0]), rtol=1e-15)
    np.testing.assert_allclose(free.rejected, 0.1 * np.array(arrays[1]), rtol=1e-15)
    assert free.accuracy == 0.5
    nothing = module.preference_rewards([], [])
    assert nothing.chosen.shape == (0,) and math.isnan(nothing.accuracy)


@over_dtypes
def test_preference_rewards_of_any_type_and_shape(dtype: str) -> None:
    for shape, free, beta in itertools.product(SHAPES, (False, True), (0.1, 2)):
        arrays = rounded(dtype, *four_logps(np.random.default_rng(3), shape))
        arrays = arrays[:2] if free else arrays
        found = fastloss.preference_rewards(*arrays, beta=beta)
        exact = reference.preference_rewards(*arrays, beta=beta)
        for mine, theirs in zip(found[:3], exact[:3], strict=True):
            assert isinstance(mine, np.ndarray) and mine.dtype == loss_dtype(dtype)
            assert_within(mine, theirs, tolerance(theirs, largest(theirs), loss_dtype(dtype)), dtype)
        assert type(found.accuracy) is float
        assert found.accuracy == exact.accuracy or (math.isnan(exact.accuracy) and math.isnan(found.accuracy))
        # Not contiguous, and of another type beside the first.
        if not is_half(dtype):
            views = [np.flip(np.flip(a).copy()) for a in arrays]
            assert bits(fastloss.preference_rewards(*views, beta=beta)) == bits(found)
            wide = [arrays[0], *(a.astype(np.float64) for a in arrays[1:])]
            assert bits(fastloss.preference_rewards(*wide, beta=beta)) == bits(found)


def test_preference_rewards_refuses() -> None:
    x = np.zeros((4, 6))
    f = fastloss.preference_rewards
    for value in (0.0, -1.0, NAN, INF):
        errors.refused(partial(f, x, x, beta=value), ValueError, "beta")
    for wrong in (True, "1", None):
        errors.refused(partial(f, x, x, beta=wrong), TypeError, "beta")
    errors.refused(partial(f, x, x, x), ValueError, FOUR[3])
    errors.refused(partial(f, x, x, None, x), ValueError, FOUR[2])
    for i, name in enumerate(FOUR):
        arrays: list[Any] = [x] * 4
        for bad in (x[:, :1], x[0], 1.0, x.T):
            arrays[i] = bad
            if i:
                errors.refused(partial(f, *arrays), ValueError, name)
        arrays[i] = "text"
        errors.refused(partial(f, *arrays), TypeError, name)


# Central differences


def check_central_differences(p: Call, module: Any, step: float = 2.0**-9) -> None:
    _, grads = p.run(module=module)
    upstream = p.options.get("grad_output", 1.0)
    for field, name in enumerate(p.loss.fields):
        x = p.arrays[field]
        for index in np.ndindex(x.shape):
            if not p.counts[index]:
                continue
            v, moved = [], x.copy()
            for steps in (-2, -1, 1, 2):
                moved[index] = x[index] + steps * step
                values = np.asarray(p.value(module=module, **{name: moved}))
                weights = np.broadcast_to(upstream, values.shape)
                v.append(math.fsum((values * np.where(values == 0.0, 0.0, weights)).reshape(-1)))
            quotient = (v[0] - 8.0 * v[1] + 8.0 * v[2] - v[3]) / (12.0 * step)
            size = max(np.abs(v).max(), 1e-3)
            exact = pytest.approx(quotient, rel=1e-7, abs=1e-12 * size / step)
            assert grads[field][index] == exact, f"{p.title} {name} {index}"


@over(*PLAIN, *WITH_OPTIONS)
def test_central_differences(loss: Loss) -> None:
    for reduction, module in (("none", reference), ("mean", fastloss), ("sum", fastloss), ("none", fastloss)):
        grad_output = "array" if reduction == "none" else "scalar"
        p = call(loss, (5,), "float64", reduction, grad_output, None, 3)
        # Small ratios, so that no exponential is large.
        if len(p.arrays) == 4:
            near = [
                p.arrays[0],
                p.arrays[1],
                *(p.arrays[i] + 0.3 * (p.arrays[2 + i] - p.arrays[i]) for i in (0, 1)),
            ]
            p = replace(p, arrays=tuple(near))
        check_central_differences(p, module)


# As torch, with the formulas of TRL


def torch_dpo(torch: Any, arrays: list[Any], options: dict[str, Any]) -> Any:
    """The losses of pairs, as TRL's trainer writes them."""
    log_sigmoid, s, relu = torch.nn.functional.logsigmoid, torch.sigmoid, torch.relu
    b, e = options.get("beta", 0.1), options.get("label_smoothing", 0.0)
    loss_type = options.get("loss_type", "sigmoid")
    chosen, rejected = arrays[:2]
    zero = torch.zeros_like(chosen)
    ref_chosen, ref_rejected = (zero, zero) if options.get("reference_free") else arrays[2:]
    rc, rr = chosen - ref_chosen, rejected - ref_rejected
    f, a = options.get("f_divergence_type", "reverse_kl"), options.get("f_alpha_divergence_coef", 0.5)

    def score(r: Any) -> Any:
        if f == "forward_kl":
            return 1 - torch.exp(-r)
        if f == "js_divergence":
            return math.log(2.0) + log_sigmoid(r)
        if f == "alpha_divergence" and abs(a - 1.0) >= 1e-6:
            return (torch.exp((a - 1.0) * r) - 1.0) / (a - 1.0)
        return r

    d = score(rc) - score(rr)
    if loss_type == "aot":
        d = torch.sort(chosen - rejected)[0] - torch.sort(ref_chosen - ref_rejected)[0]
    elif loss_type == "aot_unpaired":
        d = torch.sort(rc)[0] - torch.sort(rr)[0]
    if loss_type in ("sigmoid", *SORTED):
        return -log_sigmoid(b * d) * (1 - e) - log_sigmoid(-b * d) * e
    if loss_type == "hinge":
        return relu(1 - b * d)
    if loss_type == "ipo":
        return (d - 1 / (2 * b)) ** 2
    if loss_type == "exo_pair":
        p, q = s(b * d), s(-b * d)
        return p * (log_sigmoid(b * d) - math.log(1 - e)) + q * (log_sigmoid(-b * d) - math.log(e))
    if loss_type == "nca_pair":
        return -log_sigmoid(b * rc) - 0.5 * log_sigmoid(-b * rc) - 0.5 * log_sigmoid(-b * rr)
    if loss_type == "robust":
        return (-log_sigmoid(b * d) * (1 - e) + log_sigmoid(-b * d) * e) / (1 - 2 * e)
    if loss_type == "bco_pair":
        return -log_sigmoid(b * rc) - log_sigmoid(-b * rr)
    if loss_type == "sppo_hard":
        return (rc - 0.5 / b) ** 2 + (rr + 0.5 / b) ** 2
    if loss_type == "apo_zero":
        return (1 - s(b * rc)) + s(b * rr)
    if loss_type == "apo_down":
        return s(b * rc) + (1 - s(b * (rc - rr)))
    assert loss_type == "discopop"
    x = b * d
    m = s(x / options.get("discopop_tau", 0.05))
    return -log_sigmoid(x) * (1 - m) + torch.exp(-x) * m


def torch_other(torch: Any, name: str, arrays: list[Any], options: dict[str, Any]) -> Any:
    log_sigmoid, s = torch.nn.functional.logsigmoid, torch.sigmoid
    if name == "reward_model_loss":
        c, r = arrays
        margin = options.get("margin")
        margin = torch.zeros_like(c) if margin is None else torch.tensor(margin, dtype=torch.float64)
        return -log_sigmoid(c - r - margin) + options.get("center_coefficient", 0.0) * (c + r) ** 2
    b, e = options.get("beta", 2.0 if name == "simpo_loss" else 0.1), options.get("label_smoothing", 0.0)
    if name == "kto_loss":
        policy, ref, labels = arrays
        ratio, kl = policy - ref, max(options.get("kl", 0.0), 0.0)
        chosen = options.get("desirable_weight", 1.0) * (1 - s(b * (ratio - kl)))
        rejected = options.get("undesirable_weight", 1.0) * (1 - s(b * (kl - ratio)))
        return torch.where(labels, chosen, rejected)
    lc, lr = arrays
    if name == "orpo_loss":
        log_odds = (lc - lr) - (torch.log1p(-torch.exp(lc)) - torch.log1p(-torch.exp(lr)))
        return -b * log_sigmoid(log_odds)
    if name == "cpo_loss":
        return torch_dpo(torch, [lc, lr], {**options, "reference_free": True})
    logits = b * (lc - lr - options.get("gamma", 1.0) / b)
    return -log_sigmoid(logits) * (1 - e) - log_sigmoid(-logits) * e


@over(*PLAIN, *WITH_OPTIONS)
def test_as_torch(loss: Loss) -> None:
    torch = pytest.importorskip("torch")
    for seed, shape in ((6, (9,)), (7, (200,))):
        p = call(loss, shape, "float64", "none", "array", None, seed)
        tensors = [torch.tensor(np.array(a)) for a in p.arrays]
        for tensor in tensors[: loss.gradients]:
            tensor.requires_grad_(True)
        options = {**dict(loss.options), **p.options}
        if loss.name == "dpo_loss":
            theirs = torch_dpo(torch, tensors, options)
        else:
            theirs = torch_other(torch, loss.name, tensors, options)
        (theirs * torch.tensor(p.options["grad_output"])).sum().backward()
        for module in (reference, fastloss):
            value, grads = p.run(module=module)
            exact = theirs.detach().numpy()
            np.testing.assert_allclose(value, exact, rtol=1e-10, atol=1e-12 * largest(exact))
            for grad, tensor in zip(grads, tensors, strict=False):
                exact = tensor.grad.numpy()
                np.testing.assert_allclose(grad, exact, rtol=1e-9, atol=1e-12 * largest(exact))


# Far out

LOW = -1e4
# Chosen, rejected, and the same under the reference model: the differences are 0, 1e4 and -1e4, and each
# log-ratio is one of these.
FAR = np.array(
    [
        [LOW, LOW, LOW, LOW],
        [0.0, LOW, 0.0, 0.0],
        [LOW, 0.0, 0.0, 0.0],
        [0.0, 0.0, LOW, 0.0],
        [0.0, 0.0, 0.0, LOW],
        [LOW, 0.0, LOW, 0.0],
        [LOW, LOW, LOW + 1.0, LOW - 1.0],
        [LOW, LOW, LOW - 8.0, LOW + 8.0],
        [LOW, LOW, 0.0, 0.0],
        [0.0, 0.0, LOW, LOW],
    ]
).T


@over_dtypes
@over(*(loss for loss in (*PLAIN, *WITH_OPTIONS) if loss.name == "dpo_loss"))
def test_dpo_far_out(loss: Loss, dtype: str) -> None:
    p = of_values(loss, *FAR, dtype=dtype)
    p.check()
    # Exponentials are held at exp(80), and their squares are finite in float64.
    steep = dict(loss.options).get("discopop_tau", 0.05) > 1.0
    if dtype == "float64" and not steep:
        for module in (reference, fastloss):
            value, grads = p.run(module=module)
            assert np.isfinite([value, *grads]).all(), p.title


# Losses with beta 0.1 (x = 0.1 * D = 1000, -1000) and their derivatives by the two policies, by hand.
FAR_BY_HAND: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "sigmoid": ((0.0, 0.0, 0.0), (1000.0, -0.1, 0.1)),
    "hinge": ((0.0, 0.0, 0.0), (1001.0, -0.1, 0.1)),
    "ipo": ((9995.0**2, 19990.0, -19990.0), (10005.0**2, -20010.0, 20010.0)),
    "exo_pair": ((-math.log(0.8), 0.0, 0.0), (-math.log(0.2), 0.0, 0.0)),
    "robust": ((0.0, 0.0, 0.0), (1000.0, -0.1, 0.1)),
    "discopop": ((0.0, 0.0, 0.0), (1000.0, -0.1, 0.1)),
    "aot": ((0.0, 0.0, 0.0), (1000.0, -0.1, 0.1)),
    "aot_unpaired": ((0.0, 0.0, 0.0), (1000.0, -0.1, 0.1)),
    # rc = 0, rr = -1e4, and rc = -1e4, rr = 0.
    "nca_pair": ((1.5 * math.log(2), -0.025, 0.0), (1000.0 + 0.5 * math.log(2), -0.1, 0.025)),
    "bco_pair": ((math.log(2), -0.05, 0.0), (1000.0 + math.log(2), -0.1, 0.05)),
    "sppo_hard": ((25.0 + 9995.0**2, -10.0, -19990.0), (10005.0**2 + 25.0, -20010.0, 10.0)),
    "apo_zero": ((0.5, -0.025, 0.0), (1.5, 0.0, 0.025)),
    "apo_down": ((0.5, 0.025, 0.0), (1.0, 0.0, 0.0)),
}


@over_modules
@pytest.mark.parametrize("loss_type", DPO_TYPES)
def test_dpo_far_out_by_hand(module: Any, loss_type: str) -> None:
    for exact, pair in zip(FAR_BY_HAND[loss_type], ((0.0, LOW), (LOW, 0.0)), strict=True):
        p = of_values(dpo(loss_type), *([v] for v in (*pair, 0.0, 0.0)))
        value, grads = p.run(module=module)
        assert value[0] == pytest.approx(exact[0], rel=1e-13, abs=1e-300), pair
        for grad, slope in zip(grads, exact[1:], strict=True):
            assert grad[0] == pytest.approx(slope, rel=1e-13, abs=1e-300), pair


@over_modules
def test_smoothing_far_out_by_hand(module: Any) -> None:
    chosen, rejected = [0.0, LOW], [LOW, 0.0]
    for name, e, value, slopes in (
        ("sigmoid", 0.1, [100.0, 900.0], [0.01, -0.09]),
        ("sigmoid", 1.0, [1000.0, 0.0], [0.1, 0.0]),
        ("robust", 0.25, [-500.0, 1500.0], [-0.05, -0.15]),
    ):
        p = of_values(dpo(name, label_smoothing=e), chosen, rejected, [0.0, 0.0], [0.0, 0.0])
        found, grads = p.run(module=module)
        np.testing.assert_allclose(found, value, rtol=1e-13)
        np.testing.assert_allclose(grads[0], slopes, rtol=1e-13)
        np.testing.assert_allclose(grads[1], np.negative(slopes), rtol=1e-13)


@over_modules
def test_exponents_of_scores_are_held(module: Any) -> None:
    """exp(80) instead of what would overflow, and no gradient there."""
    top = math.exp(80.0)
    # The chosen ratio is far below: its score is -exp(80), that of the other is -1.
    for name, value, slope in (
        ("sigmoid", 0.1 * (top - 1.0), -0.1),
        ("hinge", 1.0 + 0.1 * (top - 1.0), -0.1),
        ("ipo", (top + 4.0) ** 2, -2.0 * (top + 4.0)),
    ):
        for ratio, held in ((LOW, True), (-81.0, True), (-79.0, False)):
            f = dpo(name, f_divergence_type="forward_kl")
            found, grads = of_values(f, [ratio], [0.0], [0.0], [0.0]).run(module=module)
            size = top if held else math.exp(79.0)
            if held:
                assert found[0] == pytest.approx(value, rel=1e-12)
                assert grads[0][0] == 0.0
            else:
                outer = slope if name != "ipo" else -2.0 * size
                assert grads[0][0] == pytest.approx(outer * size, rel=1e-12)
            outer = slope if name != "ipo" else -2.0 * size
            assert grads[1][0] == pytest.approx(-outer, rel=1e-12)
    for a, ratio in ((0.5, LOW), (3.0, 1e4)):
        f = DPO.with_(f_divergence_type="alpha_divergence", f_alpha_divergence_coef=a)
        found, grads = of_values(f, [0.0], [ratio], [0.0], [0.0]).run(module=module)
        # D = (1 - exp(80)) / (a - 1).
        x = 0.1 * (1.0 - top) / (a - 1.0)
        assert found[0] == (0.0 if x > 0.0 else pytest.approx(-x, rel=1e-12))
        assert grads[1][0] == 0.0
        assert grads[0][0] == (0.0 if x > 0.0 else pytest.approx(-0.1, rel=1e-12))


TAILS = np.array([0.0, 2.0**-30, 0.5, 1.0, 20.0, 40.0, 100.0, 300.0, 650.0])
TAILS = np.concatenate([-TAILS[::-1], TAILS]) / 0.5


@over_modules
def test_tails_keep_their_digits(module: Any) -> None:
    """1 - sigmoid(x) is sigmoid(-x), and so on: relative to each value, however small it is."""
    zero, given = np.zeros(TAILS.shape), {"reduction": "none", "return_grad": True}
    x = 0.5 * TAILS
    with np.errstate(over="ignore"):
        below = np.where(x > -30.0, np.log1p(np.exp(-np.abs(x))) + np.maximum(-x, 0.0), -x)
        s, of_minus = 1.0 / (1.0 + np.exp(-x)), 1.0 / (1.0 + np.exp(x))
    close = partial(np.testing.assert_allclose, rtol=1e-13, atol=0.0)
    value, grads = module.dpo_loss(TAILS, zero, zero, zero, beta=0.5, **given)
    close(value, below)
    close(grads[0], -0.5 * of_minus)
    close(grads[1], 0.5 * of_minus)
    value, grads = module.simpo_loss(TAILS, zero, beta=0.5, gamma=0.0, **given)
    close(value, below)
    close(grads[0], -0.5 * of_minus)
    close(module.cpo_loss(TAILS, zero, beta=0.5, **given)[1][1], 0.5 * of_minus)
    value, grads = module.reward_model_loss(x, zero, **given)
    close(value, below)
    close(grads[1], of_minus)
    for label, exact in ((1, of_minus), (0, s)):
        value, grad = module.kto_loss(TAILS, zero, np.full(len(x), label), beta=0.5, **given)
        close(value, exact)
        close(grad, (0.5 - label) * s * of_minus)
    options = {"beta": 0.5, "loss_type": "apo_zero", **given}
    value, grads = module.dpo_loss(TAILS, -TAILS, zero, zero, **options)
    close(value, 2.0 * of_minus)
    close(grads[0], -0.5 * s * of_minus)
    close(grads[1], 0.5 * s * of_minus)
    value, grads = module.dpo_loss(TAILS, -TAILS, zero, zero, **{**options, "loss_type": "bco_pair"})
    close(value, 2.0 * below)
    close(grads[0], -0.5 * of_minus)
    far = np.full(len(x), -1e4)
    value, grads = module.dpo_loss(far, far - TAILS, zero, zero, **{**options, "loss_type": "apo_down"})
    close(value, of_minus)
    close(grads[1], 0.5 * s * of_minus)
    for tau in (0.05, 0.5):
        value, _ = module.dpo_loss(
            TAILS, zero, zero, zero, **{**options, "loss_type": "discopop"}, discopop_tau=tau
        )
        with np.errstate(over="ignore"):
            m, rest = 1.0 / (1.0 + np.exp(-x / tau)), 1.0 / (1.0 + np.exp(x / tau))
            last = np.where(x > 0.0, m * np.exp(-x), np.exp((1.0 / tau - 1.0) * np.minimum(x, 0.0)) * rest)
        np.testing.assert_allclose(value, rest * below + last, rtol=1e-12, atol=1e-300)


# The odds ratio

CERTAIN = np.array([0.0, -1e-300, -1e-12, -1e-5, -0.25, -math.log(2.0), -0.7, -3.0, -40.0, -700.0, -1e4])
GRID = np.array(list(itertools.product(CERTAIN, CERTAIN)))[1:].T  # (0, 0) has its own test


@over_dtypes
def test_orpo_from_certain_to_impossible(dtype: str) -> None:
    p = of_values(ORPO, *GRID, dtype=dtype)
    arrays = [a.astype(np.float64) for a in p.arrays]
    is_both = (arrays[0] == 0.0) & (arrays[1] == 0.0)
    p = replace(p, arrays=tuple(rounded(dtype, *(np.where(is_both, -1.0, a) for a in arrays))))
    lc, lr = (a.astype(np.float64) for a in p.arrays)
    value, grads = p.run()
    assert bits(value) == bits(p.value())
    assert not np.isnan(value).any() and not any(np.isnan(g.astype(np.float64)).any() for g in grads)
    assert (value[lc == 0.0] == 0.0).all() and (value[(lr == 0.0) & (lc < 0.0)] == INF).all()
    relative = 1e-11 if dtype == "float64" else 3e-7
    loss_type = loss_dtype(dtype)
    subnormal = np.finfo(np.float64).tiny  # exponentials under it are 0
    allowed = relative * np.abs(p.expected[0]) + ulp(0.0, loss_type) + subnormal
    assert_within(value, stored(p.expected[0], loss_type), allowed, p.title)
    for grad, exact in zip(grads, p.expected[1], strict=True):
        allowed = relative * np.abs(exact) + ulp(0.0, dtype) + subnormal
        if is_half(dtype):
            allowed = allowed + 0.5 * ulp(np.abs(exact), dtype)
        assert_within(grad, stored(exact, dtype), allowed, p.title)


@over_modules
def test_orpo_by_hand_at_the_ends(module: Any) -> None:
    given = {"reduction": "none", "return_grad": True, "beta": 1.0}
    odds = math.exp(-2.0) / (1.0 - math.exp(-2.0))
    value, grads = module.orpo_loss([0.0, -0.0], [-2.0, -1e4], **given)
    assert value.tolist() == [0.0, 0.0] and grads[1].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(grads[0], [-odds, 0.0], rtol=1e-14)
    value, grads = module.orpo_loss([-2.0], [0.0], **given)
    assert value[0] == INF and grads[1][0] == INF
    np.testing.assert_allclose(grads[0], [-1.0 / (1.0 - math.exp(-2.0))], rtol=1e-14)
    assert module.orpo_loss([0.0], [0.0]) == 0.0
    # Odds of all but impossible answers are their probabilities.
    value, grads = module.orpo_loss([-1e4, -9999.0, -1e4], [-9999.0, -1e4, 0.0 - 1e4], **given)
    np.testing.assert_allclose(value, [-ls(-1.0), -ls(1.0), math.log(2)], rtol=1e-13)
    s = np.array([sigmoid(1.0), sigmoid(-1.0), 0.5])
    np.testing.assert_allclose(grads[0], -s, rtol=1e-13)
    np.testing.assert_allclose(grads[1], s, rtol=1e-13)
    # And of all but certain ones 1 over what is missing.
    value, grads = module.orpo_loss([-1e-12], [-2e-12], **given)
    np.testing.assert_allclose(value, math.log1p(0.5), rtol=1e-11)
    np.testing.assert_allclose(grads[0], -1e12 / 3, rtol=1e-11)
    np.testing.assert_allclose(grads[1], 0.5e12 / 3, rtol=1e-11)


# Sorting


def sorted_calls(dtype: str) -> Iterator[Call]:
    rng = np.random.default_rng(4)
    for loss_type, shape, whole in itertools.product(SORTED, ((7,), (3, 4), (50,)), (False, True)):
        arrays = four_logps(rng, shape)
        if whole:  # ties, many
            arrays = tuple(np.rint(a / 20.0) for a in arrays)
        p = of_values(dpo(loss_type, beta=0.5, label_smoothing=0.1), *arrays, dtype=dtype)
        yield replace(p, options={"grad_output": signed(rng, shape)})


@over_dtypes
def test_sorting(dtype: str) -> None:
    """Losses of sorted rows, gradients where the log-probabilities stand; ties in the order they stand in."""
    for p in sorted_calls(dtype):
        p.check()
        for reduction in ("mean", "sum"):
            replace(p, reduction=reduction, options={"grad_output": 2.0}).check()
        # Step by step, with the pairs as Python sorts them.
        c, r, c0, r0 = (a.astype(np.float64).reshape(-1).tolist() for a in p.arrays)
        n = range(len(c))
        is_paired = dict(p.loss.options)["loss_type"] == "aot"
        if is_paired:
            up, down = [c[i] - r[i] for i in n], [c0[i] - r0[i] for i in n]
        else:
            up, down = [c[i] - c0[i] for i in n], [r[i] - r0[i] for i in n]
        first, second = sorted(n, key=up.__getitem__), sorted(n, key=down.__getitem__)
        values, of_c, of_r = [0.0] * len(c), [0.0] * len(c), [0.0] * len(c)
        for k in n:
            x = 0.5 * (up[first[k]] - down[second[k]])
            values[k] = -0.9 * ls(x) - 0.1 * ls(-x)
            slope = 0.5 * (-0.9 * sigmoid(-x) + 0.1 * sigmoid(x)) * p.options["grad_output"].reshape(-1)[k]
            of_c[first[k]] = slope
            of_r[first[k] if is_paired else second[k]] = -slope
        value, grads = p.run()
        rough = 0.01 if is_half(dtype) else 1e-6
        np.testing.assert_allclose(value.reshape(-1), values, rtol=1e-6)
        for grad, exact in zip(grads, (of_c, of_r), strict=True):
            np.testing.assert_allclose(
                grad.astype(np.float64).reshape(-1), exact, rtol=rough, atol=rough * 0.1
            )


def test_sorting_is_of_all_elements() -> None:
    for loss_type in SORTED:
        p = call(dpo(loss_type), (12,), "float64", "none", "array")
        shaped = replace(
            p,
            arrays=tuple(a.reshape(3, 4) for a in p.arrays),
            options={"grad_output": p.options["grad_output"].reshape(3, 4)},
        )
        value, grads = shaped.run()
        assert value.shape == grads[0].shape == (3, 4)
        assert bits((value, *grads)) == p.bits()
        # A permutation of the pairs permutes the gradients.
        turn = np.random.default_rng(0).permutation(12)
        turned = replace(p, arrays=tuple(a[turn] for a in p.arrays), options={})
        value, grads = replace(p, options={}).run()
        other, moved = turned.run()
        assert bits(value) == bits(other)
        assert bits([g[turn] for g in grads]) == bits(moved)


# NaN, nothing


@over_dtypes
@over(*(loss for loss in PLAIN if not set(SORTED) & set(dict(loss.options).values())))
def test_nan_stays_where_it_is(loss: Loss, dtype: str) -> None:
    for shape in ((9,), (3, 4)):
        p = call(loss, shape, dtype, "none", "array")
        value, grads = p.run()
        floats = [name for name in loss.arrays if name != "labels"]
        for field, name in enumerate(floats):
            bad = np.array(p.arrays[field])
            where = np.zeros(shape, bool)
            where.reshape(-1)[5] = True
            bad[where] = NAN
            found, moved = p.run(**{name: bad})
            assert np.array_equal(np.isnan(found), where), p.title
            assert bits(found[~where]) == bits(value[~where]), p.title
            assert bits(p.value(**{name: bad})) == bits(found)
            # The gradient of another argument may be a number where it does not depend on this one.
            for i, (old, new) in enumerate(zip(grads, moved, strict=True)):
                is_nan = np.isnan(new.astype(np.float64))
                own = loss.fields[i] == name or (len(loss.arrays) == 4 and field % 2 == i)
                assert np.array_equal(is_nan, where) or (not own and not is_nan.any()), p.title
                assert bits(new[~where]) == bits(old[~where]), p.title
            for reduction in ("mean", "sum"):
                total = replace(p, reduction=reduction, options={}).run(**{name: bad})
                assert math.isnan(total[0])
                assert np.isnan(total[1][0].astype(np.float64)).sum() <= 1


@pytest.mark.parametrize("loss_type", SORTED)
def test_nan_among_sorted_rows(loss_type: str) -> None:
    """It is the last of them, and its gradient stands where it does."""
    p = call(dpo(loss_type), (9,), "float64", "none")
    for field, name in enumerate(POLICY):
        bad = np.array(p.arrays[field])
        bad[3] = NAN
        value, grads = p.run(**{name: bad})
        assert np.isnan(value).tolist() == [False] * 8 + [True]
        assert np.flatnonzero(np.isnan(grads[field])).tolist() == [3]
        assert all(np.isnan(g).sum() == 1 for g in grads)


@over_dtypes
@over(*PLAIN, *WITH_OPTIONS)
def test_nothing(loss: Loss, dtype: str) -> None:
    for shape, reduction in itertools.product(((0,), (0, 5), (3, 0)), REDUCTIONS):
        p = call(loss, shape, dtype, reduction)
        value, grads = p.run()
        for v in (value, p.value(), p.expected[0]):
            assert np.shape(v) == (shape if reduction == "none" else ())
            if reduction == "mean":
                assert math.isnan(v)
            elif reduction == "sum":
                assert v == 0.0
        for grad in grads:
            assert grad.shape == shape and grad.dtype == dtype_named(dtype)


# In memory


def spread(a: Array) -> Array:
    """The same values, not next to each other."""
    wide = np.full((*a.shape[:-1], 3 * a.shape[-1]), 77, a.dtype)
    wide[..., ::3] = a
    return wide[..., ::3]


VIEWS: dict[str, Callable[[Array], Array]] = {
    "every third": spread,
    "every second row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed": lambda a: np.flip(np.flip(a).copy()),
    "Fortran order": np.asfortranarray,
    "unaligned": lambda a: np.frombuffer(b"0" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()) if a.dtype.kind in "fi" else a,
}


def check_views(loss: Loss, dtype: str, view: Callable[[Array], Array], mask: str | None = None) -> None:
    shapes: list[Shape] = [(6, 7), (3, 200)] if loss.name == "grpo_loss" else [(6, 7), (600,), (2, 3, 5)]
    for shape in shapes:
        p = call(loss, shape, dtype, "none", "array", mask, 1)
        want = p.bits()
        lying = {name: view(a) for name, a in zip(loss.arrays, p.arrays, strict=True)}
        options = {k: view(v) for k, v in p.options.items() if np.ndim(v)}
        assert p.bits(**lying, **options) == want, p.title
        for name, a in lying.items():  # one of them alone
            assert p.bits(**{name: a}) == want, p.title
        out = tuple(view(np.zeros_like(a)) for a in p.arrays[: loss.gradients])
        if all(a.flags.writeable and a.flags.aligned and a.dtype.isnative for a in out):
            _, grads = p.run(**lying, **options, out=out if loss.gradients > 1 else out[0])
            assert all(g is a for g, a in zip(grads, out, strict=True))
            assert bits(grads) == want[1:], p.title


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@over(*PLAIN)
def test_strides(loss: Loss, view: Callable[[Array], Array]) -> None:
    for dtype in ("float32", "float64", "float16"):
        check_views(loss, dtype, view)


def check_kinds_of_arrays(loss: Loss, whole: Callable[[Array], Array]) -> None:
    p = call(loss, (6, 7), "float64", "none", "array", None, 1)
    want = p.bits()
    lists = {name: a.tolist() for name, a in zip(loss.arrays, p.arrays, strict=True)}
    assert p.bits(**lists) == want
    assert p.bits(**lists, **{k: v.tolist() for k, v in p.options.items()}) == want
    # The first argument decides the type.
    for dtype in cases.DTYPES:
        first = np.array(p.arrays[0], dtype_named(dtype))
        others = [a if a.dtype == bool else np.array(a, dtype_named(dtype)) for a in p.arrays[1:]]
        narrow = dict(zip(loss.arrays, [first, *others], strict=True))
        wide = {loss.arrays[0]: first, **dict(zip(loss.arrays[1:], p.arrays[1:], strict=True))}
        value, grads = p.run(**wide)
        assert value.dtype == loss_dtype(dtype) and all(g.dtype == first.dtype for g in grads)
        assert bits((value, *grads)) == p.bits(**narrow), dtype
    # Integers are float64.
    integers = [a if a.dtype == bool else whole(a).astype(int) for a in p.arrays]
    q = replace(p, arrays=tuple(a if a.dtype == bool else a.astype(float) for a in integers))
    for kind in (int, np.int16, ">i4"):
        given = [a if a.dtype == bool else a.astype(kind) for a in integers]
        assert q.bits(**dict(zip(loss.arrays, given, strict=True))) == q.bits()
        assert q.run(**dict(zip(loss.arrays, given, strict=True)))[1][0].dtype == np.float64


@over(*PLAIN)
def test_kinds_of_arrays(loss: Loss) -> None:
    check_kinds_of_arrays(loss, np.floor)


def test_kinds_of_labels_and_margins() -> None:
    for dtype in cases.DTYPES:
        p = call(KTO, (6, 7), dtype, "none")
        for kind in ("int8", "uint8", "int64", "uint64", ">i4"):
            assert p.bits(labels=p.arrays[2].astype(kind)) == p.bits()
        assert p.bits(labels=p.arrays[2].tolist()) == p.bits()
        assert p.bits(labels=p.arrays[2].astype(int).tolist()) == p.bits()
        p = call(REWARD, (6, 7), dtype, "none")
        for same in (0.5, np.float32(0.5), np.full((6, 7), 0.5), np.full((6, 7), 0.5).tolist()):
            assert p.bits(margin=same) == p.bits(margin=np.full((6, 7), 0.5, dtype_named(dtype)))
        assert p.bits(margin=2) == p.bits(margin=2.0)
        assert p.bits(margin=0.0) == p.bits()


def buffers_of(loss: Loss, arrays: tuple[Any, ...]) -> Any:
    """`out` for these buffers."""
    return arrays if loss.gradients > 1 else arrays[0]


def check_out(loss: Loss, dtype: str, mask: str | None = None) -> None:
    for shape, reduction in (((6, 7), "none"), ((3, 400), "mean")):
        p = call(loss, shape, dtype, reduction, "array" if reduction == "none" else None, mask, 1)
        result = p.run()
        want, fields = bits(result), loss.fields
        choices = list(itertools.product((True, False), repeat=loss.gradients))
        for wanted in choices if loss.gradients > 1 else [(True,)]:
            # Buffers, then each in the memory of its own argument, then views.
            for kind in ("fresh", "in place", "view"):
                arrays = {name: np.array(a) for name, a in zip(fields, p.arrays, strict=False)}
                if kind == "view":
                    buffers = tuple(spread(np.full_like(a, 77.0)) for a in arrays.values())
                elif kind == "fresh":
                    buffers = tuple(np.full_like(a, 77.0) for a in arrays.values())
                else:
                    buffers = tuple(arrays.values())
                given = tuple(b if want else None for b, want in zip(buffers, wanted, strict=True))
                value, grads = p.run(**arrays, out=buffers_of(loss, given))
                assert bits(value) == want[:1], p.title
                for i, (grad, buffer) in enumerate(zip(grads, given, strict=True)):
                    assert grad is buffer
                    if buffer is not None:
                        assert bits(buffer) == want[1 + i : 2 + i], f"{p.title} {kind}"
                    elif kind == "in place":
                        assert bits(buffers[i]) == bits(np.array(p.arrays[i])), p.title
                if kind == "fresh" and all(wanted):
                    # What was returned can be passed back.
                    assert bits(p.run(out=buffers_of(loss, grads))) == want
        check_accumulate(p)


def check_accumulate(p: Call) -> None:
    loss, rng = p.loss, np.random.default_rng(2)
    start = [rng.standard_normal(p.shape).astype(dtype_named(p.dtype)) for _ in loss.fields]
    for wanted in itertools.product((True, False), repeat=loss.gradients):
        if loss.gradients == 1 and not all(wanted):
            continue
        out = tuple(a.copy() if want else None for a, want in zip(start, wanted, strict=True))
        value, grads = p.run(out=buffers_of(loss, out), accumulate=True)
        p.check_value(value)
        for i, grad in enumerate(grads):
            assert grad is out[i]
            if grad is not None:
                check_sum(p, i, grad, start[i])
    # In place: the argument and its gradient added up.
    arrays = [np.array(a) for a in p.arrays[: loss.gradients]]
    given = dict(zip(loss.fields, arrays, strict=True))
    p.run(**given, out=buffers_of(loss, tuple(arrays)), accumulate=True)
    for i, grad in enumerate(arrays):
        check_sum(p, i, grad, p.arrays[i])


def check_sum(p: Call, field: int, grad: Array, start: Array) -> None:
    exact, before = p.expected[1][field], start.astype(np.float64)
    total = np.where(p.counts, before + exact, before)
    rounding = np.abs(total) * (2.0**-52 if p.dtype == "float64" else 2.0**-23)
    allowed = tolerance(exact, largest(exact), p.dtype) + rounding
    if is_half(p.dtype):
        allowed = allowed + 0.5 * ulp(np.where(np.isfinite(total), total, 0.0), p.dtype)
    assert_within(grad, stored(total, p.dtype), np.where(p.counts, allowed, 0.0), f"{p.title} accumulated")
    assert grad[~p.counts].tobytes() == start[~p.counts].tobytes(), p.title


@over_dtypes
@over(*PLAIN)
def test_out(loss: Loss, dtype: str) -> None:
    check_out(loss, dtype)


def test_names_of_gradients() -> None:
    for loss in PLAIN:
        _, grads = call(loss, (7,)).run()
        if loss.gradients == 2:
            assert type(grads).__name__ == ("RewardGradients" if loss is REWARD else "PairGradients")


# The same bits


def check_threads(loss: Loss, shape: Shape, mask: str | None = None, *, brief: bool = False) -> None:
    kinds = (("float32", "mean", mask), ("float64", "none", None), ("float16", "sum", mask))
    for dtype, reduction, of_mask in kinds[:1] if brief else kinds:
        p = call(loss, shape, dtype, reduction, None, of_mask)
        one, *more = (p.bits(num_threads=n) for n in (1, 2, 3))
        assert all(other == one for other in more), p.title
        assert all(bits(p.value(num_threads=n)) == one[:1] for n in (1, 2)), p.title
    call.cache_clear()


@over(*PLAIN)
def test_any_number_of_threads(loss: Loss) -> None:
    check_threads(loss, (200_000,))


@over(*(loss for loss in PLAIN if not set(SORTED) & set(dict(loss.options).values())))
def test_any_batch(loss: Loss) -> None:
    """An element has the same bits wherever it stands."""
    for dtype in ("float32", "float64"):
        p = call(loss, (75,), dtype, "none")
        value, grads = p.run()
        for some in (
            slice(0, 16),
            slice(1, 17),
            slice(5, 70),
            slice(None, None, -1),
            slice(0, 75, 7),
            slice(8, 9),
        ):
            given = {name: a[some] for name, a in zip(loss.arrays, p.arrays, strict=True)}
            assert p.bits(**given) == bits((value[some], *(g[some] for g in grads))), p.title


# Errors

ROWS, CLASSES = errors.ROWS, errors.CLASSES
WRONG_SHAPES: list[Shape] = [
    (4, 5),
    (5, 6),
    (6,),
    (4,),
    (4, 1),
    (1, 6),
    (1, 4, 6),
    (4, 6, 1),
    (6, 4),
    (24,),
    (0, 6),
]
Bad = errors.Bad
ARRAYS_OF_WRONG_TYPE = (
    "text",
    np.zeros((4, 6), complex),
    np.array([[None, 1.0]] * 4),
    np.zeros((4, 6), "M8[s]"),
    np.zeros((4, 6), np.longdouble),
    len,
)


def bad_arrays(names: tuple[str, ...]) -> list[Bad]:
    """The first decides the shape, so that another one is wrong where the first is of another shape."""
    rows = [
        row
        for name in names
        for row in (
            *errors.bad(name, TypeError, *ARRAYS_OF_WRONG_TYPE),
            *errors.bad(name, (TypeError, ValueError), [[1.0, 2.0], [3.0]], None),
        )
    ]
    return rows + [
        row
        for name in names[1:]
        for row in errors.bad(name, ValueError, 1.0, *(np.zeros(s, np.float32) for s in WRONG_SHAPES))
    ]


def bad_numbers(name: str, *values: Any, **options: Any) -> list[Bad]:
    """Out of range, not finite, no numbers."""
    return [
        *errors.bad(name, ValueError, *values, NAN, INF, -INF, **options),
        *errors.bad(name, TypeError, True, np.True_, "0.1", 0.1j, [0.1], **options),
    ]


COMMON = [
    *(
        row
        for row in errors.SHARED
        if row.argument in ("reduction", "return_grad", "accumulate", "num_threads")
    ),
    *errors.bad("grad_output", ValueError, np.ones((4, 6)), np.ones(4), [1.0], reduction="mean"),
    *errors.bad("grad_output", ValueError, np.ones((4, 6)), np.ones(1), reduction="sum"),
    *errors.bad(
        "grad_output", ValueError, np.ones(4), np.ones((4, 1)), np.ones((6, 4)), [1.0], reduction="none"
    ),
    *errors.bad("grad_output", TypeError, "text", True, np.True_, 1j, [None]),
]
UNKNOWN = ("", "Sigmoid", "sft", 1, ["sigmoid"], b"sigmoid")


def bad_smoothing(loss_types: tuple[str, ...] = ()) -> list[Bad]:
    rows = bad_numbers("label_smoothing", -0.1, 1.1, np.float32(2.0))
    rows += errors.bad("label_smoothing", TypeError, None)
    for name in loss_types:
        rows += errors.bad("label_smoothing", ValueError, 0.1, 1, 1e-300, loss_type=name)
    return rows


OF_TYPES = {
    "loss_type": ("hinge", "ipo", "nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down", "discopop")
}
EITHER = (TypeError, ValueError)
OWN: dict[str, list[Bad]] = {
    "dpo_loss": [
        *bad_numbers("beta", 0.0, 0, -0.1),
        *errors.bad("beta", TypeError, None),
        *bad_smoothing(OF_TYPES["loss_type"]),
        *errors.bad("label_smoothing", ValueError, 0.0, 0, 1.0, 1, loss_type="exo_pair"),
        *errors.bad("label_smoothing", ValueError, 0.5, 0.7, 1, loss_type="robust"),
        *errors.bad("loss_type", EITHER, *UNKNOWN, None, "cdpo", "kto_pair"),
        *errors.bad("reference_free", TypeError, 1, 0, None, "yes", [True]),
        *errors.bad("f_divergence_type", EITHER, "", "kl", "Reverse_KL", None, 1, "jsd", ["reverse_kl"]),
        *(
            Bad("f_divergence_type", f, ValueError, (("loss_type", name),))
            for f in F_DIVERGENCES
            for name in (*OF_LOG_RATIOS, *SORTED)
        ),
        *bad_numbers("f_alpha_divergence_coef", f_divergence_type="alpha_divergence"),
        *bad_numbers("discopop_tau", 0.0, -1, loss_type="discopop"),
    ],
    "reward_model_loss": [
        *bad_numbers("center_coefficient", -1e-3, -1),
        *errors.bad("margin", ValueError, NAN, INF, *(np.zeros(s) for s in WRONG_SHAPES)),
        *errors.bad("margin", EITHER, "text", True, 1j, np.zeros((4, 6), complex)),
    ],
    "kto_loss": [
        *bad_numbers("beta", 0.0, -0.1),
        *bad_numbers("kl"),
        *errors.bad("kl", EITHER, np.zeros(4), np.zeros((4, 6)), None),
        *errors.bad("kl", ValueError, 0.5, -0.5, 1, loss_type="apo_zero_unpaired"),
        *bad_numbers("desirable_weight", -0.1, -1),
        *bad_numbers("undesirable_weight", -0.1, -1),
        *errors.bad("loss_type", EITHER, *UNKNOWN, None, "bco", "apo_zero"),
        *errors.bad("labels", ValueError, *(v * np.ones((4, 6), int) for v in (2, -1, 256))),
        *errors.bad("labels", EITHER, *(v * np.ones((4, 6)) for v in (0.5, NAN, INF))),
        *errors.bad("labels", ValueError, True, *(np.zeros(s, bool) for s in WRONG_SHAPES)),
        *errors.bad("labels", EITHER, "text", None, np.zeros((4, 6), complex), [[True], [True, False]]),
    ],
    "orpo_loss": [
        *bad_numbers("beta", 0.0, -0.1),
        *errors.bad(
            "policy_chosen_logps", ValueError, *(np.full((4, 6), v, "f4") for v in (1e-30, 0.5, INF))
        ),
        *errors.bad(
            "policy_rejected_logps", ValueError, *(np.full((4, 6), v, "f4") for v in (1e-30, 0.5, INF))
        ),
    ],
    "simpo_loss": [*bad_numbers("beta", 0.0, -0.1), *bad_numbers("gamma"), *bad_smoothing()],
    "cpo_loss": [
        *bad_numbers("beta", 0.0, -0.1),
        *bad_smoothing(("hinge", "ipo")),
        *errors.bad("loss_type", EITHER, *UNKNOWN, None, "simpo", "exo_pair"),
    ],
}


def good(loss: Loss) -> dict[str, Array]:
    """Arguments in float32, to write to."""
    arrays = call(loss, (ROWS, CLASSES), "float32").arrays
    return {name: np.array(a) for name, a in zip(loss.arrays, arrays, strict=True)}


def refused(loss: Loss, error: Any, name: str, **given: Any) -> str:
    """Assert that an error names the argument, and that nothing is written, in place or to a buffer."""
    f, message = getattr(fastloss, loss.name), ""
    for in_place, accumulate in itertools.product((False, True), repeat=2):
        arrays = good(loss)
        buffers = [arrays[k] if in_place else np.full_like(arrays[k], 55.0) for k in loss.fields]
        before = bits(buffers)
        options: dict[str, Any] = {"return_grad": True, "accumulate": accumulate, **dict(loss.options)}
        options["out"] = buffers_of(loss, tuple(buffers))
        options |= given
        positional = [options.pop(k, a) for k, a in arrays.items()]
        message = errors.refused(partial(f, *positional, **options), error, name)
        assert bits(buffers) == before, f"written before the error: {message}"
    if not {"return_grad", "accumulate", "grad_output", "out"} & {name, *given}:
        alone = {k: v for k, v in given.items() if k not in arrays}
        errors.refused(partial(f, *positional, **{**dict(loss.options), **alone}), error, name)
    return message


ONE_OF_EACH = (DPO, REWARD, KTO, ORPO, SIMPO, CPO)


@over(*ONE_OF_EACH)
def test_bad_arguments(loss: Loss) -> None:
    names = tuple(name for name in loss.arrays if name != "labels")
    for row in (*bad_arrays(names), *COMMON, *OWN[loss.name]):
        refused(loss, row.error, row.argument, **{**dict(row.with_options), row.argument: row.value})
    for unknown in ("axis", "weight", "mask", "temperature"):
        refused(loss, TypeError, unknown, **{unknown: 1.0})


def test_bad_arguments_together() -> None:
    message = refused(DPO, ValueError, "label_smoothing", loss_type="exo_pair")
    assert "exo_pair" in message
    for missing in ("ref_chosen_logps", "ref_rejected_logps"):
        refused(DPO, EITHER, missing, **{missing: None})
    for value in (0.0, 1.0):
        f = partial(fastloss.dpo_loss, [-1.0], [-2.0], [-1.0], [-2.0], loss_type="exo_pair")
        errors.refused(partial(f, label_smoothing=value), ValueError, "label_smoothing")
    errors.refused(partial(fastloss.dpo_loss, [-1.0], [-2.0]), EITHER, "ref_chosen_logps")
    # Everything after the arrays is given by name.
    for loss in ONE_OF_EACH:
        with pytest.raises(TypeError):
            getattr(fastloss, loss.name)(*good(loss).values(), 0.1)


def test_a_bad_log_probability_is_shown() -> None:
    lc = -np.ones((3, 4))
    lr = lc.copy()
    lr[1, 2] = 0.25
    message = errors.refused(partial(fastloss.orpo_loss, lc, lr), ValueError, POLICY[1])
    assert "0.25" in message
    # NaN is no error, and is let through beside others.
    lr[1, 2] = NAN
    assert math.isnan(fastloss.orpo_loss(lc, lr))


@over(*PLAIN)
def test_gradient_arguments_without_gradient(loss: Loss) -> None:
    arrays = good(loss)
    before = bits(list(arrays.values()))
    buffers = buffers_of(loss, tuple(arrays[k] for k in loss.fields))
    wrong: tuple[tuple[str, dict[str, Any]], ...] = (
        ("return_grad|grad_output", {"grad_output": 2.0}),
        ("return_grad|grad_output", {"grad_output": np.ones((4, 6)), "reduction": "none"}),
        ("return_grad|out", {"out": buffers}),
        ("out|accumulate|return_grad", {"accumulate": True}),
        ("out|accumulate", {"accumulate": True, "return_grad": True}),
    )
    for name, given in wrong:
        call_of = partial(getattr(fastloss, loss.name), *arrays.values(), **dict(loss.options), **given)
        errors.refused(call_of, ValueError, name)
    assert bits(list(arrays.values())) == before


def check_bad_out(loss: Loss) -> None:
    f = partial(getattr(fastloss, loss.name), return_grad=True, **dict(loss.options))
    for field, (error, make) in itertools.product(range(loss.gradients), errors.BUFFERS.values()):
        for accumulate in (False, True):
            arrays = good(loss)
            out = [np.full((4, 6), 55.0, np.float32) for _ in loss.fields]
            before, bad = bits(out), make()
            given = buffers_of(loss, tuple(bad if i == field else a for i, a in enumerate(out)))
            errors.refused(partial(f, *arrays.values(), out=given, accumulate=accumulate), error, "out")
            assert bits(out) == before
    # Over an input, but not exactly it; over another input; over the upstream gradient.
    for field, name in enumerate(loss.fields):
        for how in errors.over_input(np.zeros((8, 6))):
            room = np.full((8, 6), -1.5, np.float32)
            x, out_of_field = errors.over_input(room)[how]
            out = [np.full((4, 6), 55.0, np.float32) for _ in loss.fields]
            given = buffers_of(loss, tuple(out_of_field if i == field else a for i, a in enumerate(out)))
            arrays = good(loss) | {name: x}
            errors.refused(partial(f, *arrays.values(), out=given), ValueError, "out")
            assert (room == -1.5).all() and all((a == 55.0).all() for a in out)
        arrays = good(loss)
        upstream = np.ones((4, 6), np.float32)
        others = [
            a for other, a in arrays.items() if other != name and a.dtype == np.float32 and a.shape == (4, 6)
        ]
        for other in (*others, upstream):
            before = bits([*arrays.values(), upstream])
            given = buffers_of(
                loss, tuple(other if i == field else np.zeros((4, 6), "f4") for i in range(loss.gradients))
            )
            more = {"grad_output": upstream, "reduction": "none"}
            errors.refused(partial(f, *arrays.values(), out=given, **more), ValueError, "out")
            assert bits([*arrays.values(), upstream]) == before


@over(*ONE_OF_EACH)
def test_bad_out(loss: Loss) -> None:
    check_bad_out(loss)


@over(*(loss for loss in ONE_OF_EACH if loss.gradients == 2))
def test_bad_tuples_of_buffers(loss: Loss) -> None:
    a, b, room = np.zeros((4, 6), "f4"), np.zeros((4, 6), "f4"), np.zeros((5, 6), "f4")
    for error, out in (
        (EITHER, a),
        (EITHER, [a, b]),
        (EITHER, (a,)),
        (EITHER, (a, b, a)),
        (EITHER, ()),
        (EITHER, "ab"),
        (TypeError, (a, "text")),
        (TypeError, (a.tolist(), b)),
        (ValueError, (a, a)),
        (ValueError, (room[:4], room[1:])),
        (ValueError, (a, a[::-1])),
    ):
        for accumulate in (False, True):
            f = partial(
                getattr(fastloss, loss.name), *good(loss).values(), return_grad=True, **dict(loss.options)
            )
            errors.refused(partial(f, out=out, accumulate=accumulate), error, "out")
    assert not a.any() and not b.any() and not room.any()
    # Each in the place of the other.
    arrays = good(loss)
    before = bits(list(arrays.values()))
    swapped = tuple(arrays[k] for k in loss.fields[::-1])
    f = partial(getattr(fastloss, loss.name), *arrays.values(), return_grad=True)
    errors.refused(partial(f, out=swapped), ValueError, "out")
    assert bits(list(arrays.values())) == before


# Plain calls, which take a way of their own


@over_isa
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@over(
    *(DPO.with_(loss_type=t) for t in ("sigmoid", "hinge", "ipo", "robust", "discopop")),
    DPO.with_(loss_type="exo_pair", label_smoothing=0.2),
    DPO.with_(label_smoothing=0.3, reference_free=True),
    SIMPO.with_(gamma=0.7),
    CPO.with_(loss_type="ipo"),
)
def test_plain_calls_give_the_bits_of_others(loss: Loss, dtype: str) -> None:
    function = getattr(fastloss, loss.name)
    for size in (1, 15, 1000, 2048, 2049):
        arrays = call(loss, (size,), dtype).arrays
        for reduction in ("mean", "sum"):
            options: dict[str, Any] = {**dict(loss.options), "reduction": reduction}
            plain, gradients = function(*arrays, **options, return_grad=True)
            other, others = function(*arrays, **options, return_grad=True, grad_output=1.0, num_threads=1)
            assert type(plain) is float and plain == other == function(*arrays, **options)
            assert bits(gradients) == bits(others)
            assert gradients[0].dtype == dtype_named(dtype) and gradients[0].shape == (size,)


def test_options_are_checked_in_every_call() -> None:
    """Also where those of the same value, but of another kind, have been seen before."""
    arrays = call(DPO, (5,), "float32").arrays
    fastloss.dpo_loss(*arrays, beta=1.0, label_smoothing=0.0)
    for bad in ({"beta": True}, {"beta": [0.1]}, {"label_smoothing": False}, {"beta": np.ones(2)}):
        with pytest.raises(TypeError, match=next(iter(bad))):
            fastloss.dpo_loss(*arrays, **bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="loss_type"):
        fastloss.dpo_loss(*arrays, loss_type=["sigmoid"])  # type: ignore[arg-type]


@pytest.mark.parametrize("shapes", [((), (2,)), ((2,), ()), ((2, 1), (2,)), ((2,), (2, 1)), ((2,), (3,))])
def test_plain_calls_refuse_other_shapes(shapes: tuple[Shape, Shape]) -> None:
    first, second = (np.full(shape, -1.0) for shape in shapes)
    for function in (fastloss.simpo_loss, fastloss.cpo_loss):
        with pytest.raises(ValueError, match="policy_rejected_logps must have the shape"):
            function(first, second)
    for place in range(1, 4):
        arrays = [first] * 4
        arrays[place] = second
        with pytest.raises(ValueError, match="must have the shape"):
            fastloss.dpo_loss(*arrays)


def test_plain_calls_need_a_small_stack_only() -> None:
    """Threads may have 128 KiB, as those of musl do."""
    arrays = call(DPO, (2000,), "float32").arrays
    before = threading.stack_size(128 * 1024)
    try:
        thread = threading.Thread(target=fastloss.dpo_loss, args=arrays, kwargs={"return_grad": True})
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)


def test_orpo_of_two_certain_answers_has_no_gradient() -> None:
    loss, grad = fastloss.orpo_loss([0.0], [0.0], reduction="none", return_grad=True)
    assert loss[0] == 0.0 and grad.policy_chosen_logps[0] == 0.0 and grad.policy_rejected_logps[0] == 0.0
