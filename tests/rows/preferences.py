"""Rows of the losses of preferences and of policies, a row for each type of loss."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from helpers import (
    EITHER,
    INF,
    INPUTS_OF_WRONG_TYPE,
    NAN,
    Array,
    Bad,
    Options,
    Shape,
    bad,
    bad_numbers,
    largest,
    loss_dtype,
    rounded,
    ulp,
)
from registry import Call, Option, Row

from .divergences import divisor, masks
from .elementwise import numbers

POLICY = ("policy_chosen_logps", "policy_rejected_logps")
FOUR = (*POLICY, "ref_chosen_logps", "ref_rejected_logps")
REWARDS = ("chosen_rewards", "rejected_rewards")
LOGPS = ("logps", "old_logps", "advantages")
WRONG_SHAPES: list[Shape] = [
    (4, 5), (5, 6), (6,), (4,), (4, 1), (1, 6), (1, 4, 6), (4, 6, 1), (6, 4), (24,), (0, 6),
]  # fmt: skip
Arrays = Callable[[np.random.Generator, Shape], tuple[Array, ...]]


# Arguments


def four_logps(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    """Log-probabilities of two answers, and near them those of another model."""
    policy = -40.0 * rng.exponential(size=(2, *shape))
    ref = np.minimum(policy + rng.normal(scale=3.0, size=policy.shape), 0.0)
    return policy[0], policy[1], ref[0], ref[1]


def two_averages(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    """Log-probabilities averaged over the tokens: near 0."""
    chosen, rejected = -0.01 - 1.5 * rng.exponential(size=(2, *shape))
    return chosen, rejected


def two_rewards(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    chosen, rejected = 2.0 * rng.standard_normal((2, *shape))
    return chosen, rejected


def labelled(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    policy, _, ref, _ = four_logps(rng, shape)
    return policy, ref, rng.random(shape) < 0.5


def near_logps(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    """Log-probabilities of tokens, those of an older policy near them, advantages (0 among them)."""
    x = -3.0 * rng.exponential(size=shape)
    old = np.minimum(x + rng.normal(scale=0.4, size=shape), 0.0)
    return x, old, np.where(rng.random(shape) < 0.1, 0.0, rng.standard_normal(shape))


def two_logps(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    return near_logps(rng, shape)[:2]


def three_values(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    """Values, old ones at about the distance of the clip, returns."""
    v = rng.standard_normal(shape)
    old = v + rng.normal(scale=0.3, size=shape)
    return v, old, v + rng.normal(scale=0.6, size=shape)


def of_sequences(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    x, old, _ = near_logps(rng, shape)
    return x, old, rng.standard_normal(shape[0])


# How near they have to be


def rounding(values: Array, scale: float, dtype: str) -> Array:
    """How far numbers, computed in float64 and rounded once, may be off.

    2 units in the last place of float32. In float64 and for small differences there is what the rounding
    errors of terms as large as `scale` come to.
    """
    size = np.abs(np.where(np.isfinite(values), values, 0.0))
    if dtype == "float64":
        return np.asarray(1e-13 * (size + scale))
    return np.asarray(2.0 * ulp(size, "float32") + 1e-14 * scale)


# Differences, or squares of differences, whose terms have sizes of 1 to 10.
DIFFERENCES = ("exo_pair", "ipo", "robust", "sppo_hard")


def bound(c: Call) -> Array:
    """Nothing is rounded to the type of the input on the way to a sum."""
    losses = c.expected_losses
    if c.reduction == "none":
        return rounding(losses, largest(losses), loss_dtype(c.dtype))
    found = 1e-12 * np.abs(losses[np.isfinite(losses)]).sum()
    if c.row.fixed.get("loss_type") in DIFFERENCES:
        found += 4e-15 * losses.size
    if c.reduction == "mean" and "max_completion_length" not in c.row.fixed:
        found = 2.0 * found / max(c.shape[0] if c.row.name == "grpo_loss" else 0, 1)
    return np.asarray(found)


def derivative_bound(c: Call, name: str) -> Array:
    """Two terms of the size of beta may cancel."""
    exact = c.expected[1][c.row.derivatives.index(name)]
    terms = 4e-16 * c.get("beta", 1.0) * float(np.max(c.upstream, initial=0.0))
    return np.asarray(rounding(exact, largest(exact), c.dtype) + terms)


def of_arrays(name: str, names: tuple[str, ...], gradients: int, arrays: Arrays, **more: Any) -> Row:
    def make(rng: np.random.Generator, shape: Shape, options: Options) -> dict[str, Array]:
        return dict(zip(names, map(np.asarray, arrays(rng, shape)), strict=True))

    given: dict[str, Any] = {"bound": bound, "derivative_bound": derivative_bound, "large": ((200_000,),)}
    given |= {"sizes": ((), (1,), (7,), (1000,), (2049,), (3, 4)), "empty": ((0,), (0, 5), (3, 0))}
    given["shapes"] = ((6, 7, 3), (2, 3, 90))
    return Row(name, make, gradients=names[:gradients], **{**given, **more})


# Preferences


def margins(rng: np.random.Generator, a: dict[str, Array]) -> Array:
    x = a["chosen_rewards"]
    return rounded(0.5 * rng.standard_normal(x.shape), x.dtype.name)


SMOOTHED = {"sigmoid": 0.1, "exo_pair": 0.2, "robust": 0.3, "aot": 0.1, "aot_unpaired": 0.4}
OF_DIFFERENCE = ("sigmoid", "hinge", "ipo", "exo_pair", "robust", "discopop")
OF_LOG_RATIOS = ("nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down")
SORTED = ("aot", "aot_unpaired")
DPO_TYPES = (*OF_DIFFERENCE, *OF_LOG_RATIOS, *SORTED)
F_DIVERGENCES = ("forward_kl", "js_divergence", "alpha_divergence")
UNKNOWN = ("", "Sigmoid", "sft", 1, ["sigmoid"], b"sigmoid")


def bad_with(loss_types: Iterable[str], argument: str, *values: Any) -> list[Bad]:
    """Values that these types of loss must refuse."""
    return [one for name in loss_types for one in bad(argument, ValueError, *values, loss_type=name)]


def bad_smoothing(loss_types: Iterable[str] = ()) -> list[Bad]:
    unsmoothed = bad_with(loss_types, "label_smoothing", 0.1, 1, 1e-300)
    return numbers("label_smoothing", -0.1, 1.1, np.float32(2.0)) + unsmoothed


ABOVE_0 = [np.full((4, 6), v, "f4") for v in (1e-30, 0.5, INF)]
BAD: dict[str, list[Bad]] = {
    "dpo_loss": [
        *numbers("beta", 0.0, 0, -0.1),
        *bad_smoothing([name for name in DPO_TYPES if name not in SMOOTHED]),
        *bad("label_smoothing", ValueError, 0.0, 0, 1.0, 1, loss_type="exo_pair"),
        *bad("label_smoothing", ValueError, 0.5, 0.7, 1, loss_type="robust"),
        *bad("loss_type", EITHER, *UNKNOWN, None, "cdpo", "kto_pair"),
        *bad("reference_free", TypeError, 1, 0, None, "yes", [True]),
        *bad("f_divergence_type", EITHER, "", "kl", "Reverse_KL", None, 1, "jsd", ["reverse_kl"]),
        *bad_with((*OF_LOG_RATIOS, *SORTED), "f_divergence_type", *F_DIVERGENCES),
        *bad_numbers("f_alpha_divergence_coef", f_divergence_type="alpha_divergence"),
        *bad_numbers("discopop_tau", 0.0, -1, loss_type="discopop"),
    ],
    "reward_model_loss": [
        *bad_numbers("center_coefficient", -1e-3, -1),
        *bad("margin", ValueError, NAN, INF, *(np.zeros(s) for s in WRONG_SHAPES)),
        *bad("margin", EITHER, "text", True, 1j, np.zeros((4, 6), complex)),
    ],
    "kto_loss": [
        *bad_numbers("beta", 0.0, -0.1),
        *bad_numbers("kl"),
        *bad("kl", EITHER, np.zeros(4), np.zeros((4, 6)), None),
        *bad("kl", ValueError, 0.5, -0.5, 1, loss_type="apo_zero_unpaired"),
        *bad_numbers("desirable_weight", -0.1, -1),
        *bad_numbers("undesirable_weight", -0.1, -1),
        *bad("loss_type", EITHER, *UNKNOWN, None, "bco", "apo_zero"),
        *bad("labels", ValueError, *(v * np.ones((4, 6), int) for v in (2, -1, 256))),
        *bad("labels", EITHER, *(v * np.ones((4, 6)) for v in (0.5, NAN, INF))),
        *bad("labels", ValueError, True, *(np.zeros(s, bool) for s in WRONG_SHAPES)),
        *bad("labels", EITHER, "text", None, np.zeros((4, 6), complex), [[True], [True, False]]),
    ],
    "orpo_loss": [
        *bad_numbers("beta", 0.0, -0.1),
        *bad("policy_chosen_logps", ValueError, *ABOVE_0),
        *bad("policy_rejected_logps", ValueError, *ABOVE_0),
    ],
    "simpo_loss": [*bad_numbers("beta", 0.0, -0.1), *bad_numbers("gamma"), *bad_smoothing()],
    "cpo_loss": [
        *bad_numbers("beta", 0.0, -0.1),
        *bad_smoothing(("hinge", "ipo")),
        *bad("loss_type", EITHER, *UNKNOWN, None, "simpo", "exo_pair"),
    ],
}


def preference_in_torch(
    row: Row, torch: Any, tensors: dict[str, Any], options: Options, reduction: str
) -> Any:
    if reduction != "none":
        return None
    given = {**row.fixed, **options}
    if row.name == "dpo_loss":  # sorted rows are those of all axes
        flat = [x.reshape(-1) for x in tensors.values()]
        return torch_dpo(torch, flat, given).reshape(tensors[row.first].shape)
    return torch_other(torch, row.name, list(tensors.values()), given)


def preference(name: str, names: tuple[str, ...], gradients: int, arrays: Arrays, **more: Any) -> Row:
    return of_arrays(name, names, gradients, arrays, bad=tuple(BAD[name]), **more)


def fixed(row: Row, *sets: Options, **options: Any) -> Row:
    """With fixed options, and sets of others."""
    return replace(row.with_(**options), sets=({}, *sets))


DPO = preference("dpo_loss", FOUR, 2, four_logps)
REWARD = preference(
    "reward_model_loss", REWARDS, 2, two_rewards, extras=(Option("margin", margins),),
    sets=tuple({"margin": m, "center_coefficient": c} for m in (None, 0.5, -1) for c in (0.0, 0.01, 1)),
)  # fmt: skip
KTO = preference(
    "kto_loss", ("policy_logps", "ref_logps", "labels"), 1, labelled, integers=("labels",),
)  # fmt: skip
ORPO = preference(
    "orpo_loss",
    POLICY,
    2,
    two_averages,
    sets=({}, {"beta": 1}),
    room=lambda c, name: np.minimum(1.0, -c[name]),
)
SIMPO = preference(
    "simpo_loss", POLICY, 2, two_averages,
    sets=({}, {"gamma": 0.0, "beta": 10.0}, {"gamma": 0.3, "label_smoothing": 0.25}),
)  # fmt: skip
CPO = preference("cpo_loss", POLICY, 2, two_averages)


def dpo(loss_type: str, **options: Any) -> Row:
    """With smoothing where there must be some."""
    if loss_type == "exo_pair":
        options = {"label_smoothing": SMOOTHED[loss_type], **options}
    return fixed(DPO, loss_type=loss_type, **options)


def room_between_sorted_rows(c: Call, name: str) -> Array:
    """0 where a step would change the order."""
    chosen, rejected, *ref = (np.asarray(a, np.float64) for a in c.arguments.values())
    if c.get("reference_free", False):
        ref = [np.zeros(chosen.shape)] * 2
    values = chosen - rejected
    if c.row.fixed["loss_type"] == "aot_unpaired":
        values = chosen - ref[0] if name == FOUR[0] else rejected - ref[1]
    gaps = np.abs(values.reshape(-1, 1) - values.reshape(1, -1)) + np.diag(np.full(values.size, INF))
    return (gaps.min(axis=1, initial=INF) > 0.02).reshape(values.shape).astype(float)


def dpo_sets(loss_type: str) -> list[Options]:
    """Options to go with a type."""
    found: list[Options] = [{"beta": 0.5}, {"reference_free": True, "beta": 0.02}]
    if loss_type in SMOOTHED:
        found += [{"label_smoothing": SMOOTHED[loss_type]}]
    if loss_type == "sigmoid":
        found += [{"label_smoothing": e} for e in (0.5, 1.0)]
        found += [
            {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": a, "beta": 0.5}
            for a in (-0.5, 0, 0.9, 1.0, 1.0 + 5e-7, 1.1, 2.0)
        ]
        found += [{"f_divergence_type": "js_divergence", "label_smoothing": 0.2, "beta": 2}]
    if loss_type == "discopop":
        found += [{"discopop_tau": tau, "beta": 0.2} for tau in (0.5, 1.0, 1.5)]
    if loss_type in OF_DIFFERENCE:
        found += [{"f_divergence_type": f} for f in F_DIVERGENCES]
    return found


OF_DPO = [fixed(dpo(name), *dpo_sets(name)) for name in DPO_TYPES if name not in SORTED]
OF_SORTED = [
    replace(fixed(dpo(name), *dpo_sets(name)), local=False, room=room_between_sorted_rows) for name in SORTED
]
PREFERENCES = [
    *OF_DPO,
    *OF_SORTED,
    REWARD,
    fixed(
        KTO,
        *({"kl": kl, "desirable_weight": 1.5, "undesirable_weight": 0.5} for kl in (-1.0, 0.75, 2)),
        {"beta": 0.5, "desirable_weight": 0.0},
    ),
    fixed(KTO, {"kl": 0.0, "undesirable_weight": 0, "beta": 1}, loss_type="apo_zero_unpaired"),
    ORPO,
    SIMPO,
    fixed(CPO, {"beta": 0.7}, {"label_smoothing": 0.3}),
    *(fixed(CPO, {"beta": 0.7}, loss_type=name) for name in ("hinge", "ipo")),
]
PREFERENCES = [replace(row, torch=partial(preference_in_torch, row)) for row in PREFERENCES]


def rewards_bound(c: Call) -> list[Array]:
    """Of three arrays, and of the accuracy, which is exact."""
    kind = loss_dtype(c.dtype)
    return [*(rounding(a, largest(a), kind) for a in c.expected[0][:3]), np.zeros(())]


PREFERENCE_REWARDS = of_arrays(
    "preference_rewards", FOUR, 0, four_logps, sets=({}, {"beta": 2}), reductions=(), returns="arrays",
    bound=rewards_bound, large=(), bad=tuple(numbers("beta", 0.0, -1.0)),
)  # fmt: skip
ONE_OF_EACH = (DPO, REWARD, KTO, ORPO, SIMPO, CPO)


# Policies

CLIPPED = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
TYPES = (*CLIPPED, "cispo", "sapo")
LENGTH = {"dr_grpo": {"max_completion_length": 9}}


def mask(rng: np.random.Generator, a: dict[str, Array], kind: str) -> Array:
    """Elements under a mask of 0 hold NaN and infinities."""
    x, *_ = a.values()
    counts = np.asarray(rng.random(x.shape) < 0.6)
    if counts.ndim == 0:
        return np.ones((), kind)
    counts[:1], counts.reshape(-1)[-1:] = False, True  # a sequence without tokens
    for (name, array), value in zip(a.items(), (NAN, INF, -INF, NAN), strict=False):
        if array.shape == x.shape:
            a[name] = np.where(counts, array, array.dtype.type(value))
    return counts.astype(kind)


MASKS = masks(mask)


def bad_lengths() -> list[Bad]:
    """Of completions and of items, where there are such and where there are none."""
    bad_counts = (0, -1, NAN, INF, "9", True, [9])
    found = bad("max_completion_length", EITHER, None, *bad_counts, loss_type="dr_grpo")
    found += bad_with([name for name in TYPES if name != "dr_grpo"], "max_completion_length", 9)
    for name in TYPES:
        if name in ("dapo", "cispo"):
            found += bad("num_items", EITHER, *bad_counts, loss_type=name)
        else:
            found += bad("num_items", ValueError, 9, loss_type=name, **LENGTH.get(name, {}))
    return found


BETA_AND_REF = {"ref_logps": np.zeros((4, 6), np.float32)}
BAD_OF_POLICIES: dict[str, list[Bad]] = {
    "ppo_loss": numbers("clip", -0.1, -1),
    "value_loss": bad_numbers("clip", -0.1, -1),
    "kl_penalty": bad("estimator", EITHER, "", "k4", "K3", "abs", None, 3, ["k3"]),
    "grpo_loss": [
        *bad("loss_type", EITHER, "", "GRPO", "gspo", "vespo", None, 1, ["grpo"]),
        *bad("importance_sampling_level", EITHER, "", "tokens", "sequence_token", None, 1),
        *numbers("epsilon_low", -0.1, -1),
        *bad_numbers("epsilon_high", -0.1, -1),
        *bad_numbers("delta", 0.0, -0.1),
        *bad_with(("cispo", "sapo"), "delta", 2.0),
        *bad_numbers("beta", **BETA_AND_REF),
        *bad("ref_logps", EITHER, None, beta=0.1),
        *bad("ref_logps", TypeError, *INPUTS_OF_WRONG_TYPE, beta=0.1),
        *bad("ref_logps", ValueError, 1.0, *(np.zeros(s) for s in WRONG_SHAPES), beta=0.1),
        *bad_lengths(),
        *bad_numbers("sapo_temperature_pos", 0.0, -1, loss_type="sapo"),
        *bad_numbers("sapo_temperature_neg", 0.0, -1, loss_type="sapo"),
    ],
}


def policy_in_torch(row: Row, torch: Any, tensors: dict[str, Any], options: Options, reduction: str) -> Any:
    if reduction == "sum":
        return None
    given, arrays = {**row.fixed, **options, "reduction": reduction}, list(tensors.values())
    counts = given.get("mask", torch.ones(arrays[0].shape)).double()
    if row.name == "grpo_loss":
        return torch_grpo(torch, arrays[:3], counts, tensors.get("ref_logps"), given)
    losses = torch_elementwise(torch, row.name, arrays, given)
    return losses * counts if reduction == "none" else (losses * counts).sum() / counts.sum()


def policy(name: str, names: tuple[str, ...], arrays: Arrays, *sets: Options, **more: Any) -> Row:
    given = {"divisor": divisor, "room": policy_room, "extras": MASKS, "sets": ({}, *sets)}
    return of_arrays(name, names, 1, arrays, bad=tuple(BAD_OF_POLICIES[name]), **{**given, **more})


def policy_room(c: Call, name: str) -> Array:
    """0 where a ratio or a value is near an end of a clip."""
    x, old, third = (np.asarray(a, np.float64) for a in (*c.arguments.values(), 0.0, 0.0)[:3])
    x, old = np.where(c.counts, x, 0.0), np.where(c.counts, old, 0.0)
    third = np.where(c.counts, third, 1.0) if third.shape == x.shape else third
    if c.row.name == "value_loss":
        if c.get("clip", 0.2) is None:
            return np.ones(x.shape)
        off, clip = np.abs(x - old), c.get("clip", 0.2)
        other = np.where(off > clip, np.abs(old + np.clip(x - old, -clip, clip) - third), INF)
        clear = (np.abs(off - clip) > 0.01) & (np.abs(np.abs(x - third) - other) > 0.01)
        return clear.astype(float)
    if c.row.name == "kl_penalty":
        return np.ones(x.shape)
    ratio = x - old
    if c.get("importance_sampling_level", "token") == "sequence":
        n = np.maximum(c.counts.sum(axis=1, keepdims=True), 1)
        ratio = np.broadcast_to(ratio.sum(axis=1, keepdims=True) / n, x.shape)
    low, high = c.get("epsilon_low", c.get("clip", 0.2)), c.get("epsilon_high", None)
    ends = (1 - low, 1 + (low if high is None else high), c.get("delta", 9.0))
    return np.all([np.abs(np.exp(ratio) - end) > 0.01 for end in ends], axis=0).astype(float)


PPO = policy("ppo_loss", LOGPS, near_logps, *({"clip": c} for c in (0.0, 0.5, 1, 2.5)))
VALUE = policy(
    "value_loss", ("values", "old_values", "returns"), three_values, *({"clip": c} for c in (0.0, 1, 0.1))
)
KL = policy("kl_penalty", ("logps", "ref_logps"), two_logps)


def grpo_sets(loss_type: str) -> list[Options]:
    """Options to go with a type."""
    found: list[Options] = [
        {"importance_sampling_level": "sequence"},
        {"importance_sampling_level": "sequence", "epsilon_high": 0.5},
        {"epsilon_low": 0.0, "epsilon_high": 0},
    ]
    if loss_type in CLIPPED:
        found += [{"epsilon_low": 0.1, "epsilon_high": 0.4, "delta": 1.3}, {"delta": 1.1}, {"delta": 2}]
        found += [{"delta": 0.6, "importance_sampling_level": "sequence"}]
    if loss_type in ("dapo", "cispo"):
        found += [{"num_items": 17}]
    if loss_type == "cispo":
        found += [{"epsilon_high": 1.1}]
    if loss_type == "sapo":
        found += [{"sapo_temperature_pos": 2, "sapo_temperature_neg": 0.5}]
        found += [{"sapo_temperature_neg": 3.0, "importance_sampling_level": "sequence"}]
    return found


GRPO = policy(
    "grpo_loss",
    LOGPS, of_sequences, divisor=None, shapes=((6, 7), (3, 200)), large=((400, 500), (2, 100_000)),
    sizes=((1, 1), (3, 4), (7, 5), (5, 200), (1, 300)), empty=((0, 4),),
)  # fmt: skip


def by_token(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    """An advantage for each token, and the log-probabilities of another model."""
    x, old, a = near_logps(rng, shape)
    return x, old, a, x + rng.normal(scale=0.5, size=shape)


BY_TOKEN = policy(
    "grpo_loss", (*LOGPS, "ref_logps"), by_token,
    **{k: getattr(GRPO, k) for k in ("divisor", "shapes", "large", "sizes", "empty")},
)  # fmt: skip


def grpo(loss_type: str, row: Row = GRPO, **options: Any) -> Row:
    return row.with_(loss_type=loss_type, **LENGTH.get(loss_type, {}), **options)


def all_grpo(row: Row, **options: Any) -> list[Row]:
    return [fixed(grpo(name, row, **options), *grpo_sets(name)) for name in TYPES]


OF_SEQUENCES = all_grpo(GRPO)
# One ratio for all tokens of a sequence: what is in one is in the losses of all.
OF_WHOLE_SEQUENCES = [
    replace(grpo(name, GRPO, importance_sampling_level="sequence"), local=False)
    for name in ("grpo", "cispo", "sapo")
]
ELEMENTS = [PPO, VALUE, fixed(VALUE, clip=None), *(fixed(KL, estimator=name) for name in ("k1", "k2", "k3"))]
POLICIES = [*ELEMENTS, *OF_SEQUENCES, *all_grpo(BY_TOKEN, beta=0.5), *OF_WHOLE_SEQUENCES]
POLICIES = [replace(row, torch=partial(policy_in_torch, row)) for row in POLICIES]


# In torch, with the formulas of TRL


def torch_dpo(torch: Any, arrays: list[Any], options: Options) -> Any:
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
    x, m = b * d, s(b * d / options.get("discopop_tau", 0.05))
    losses: dict[str, Callable[[], Any]] = {
        "hinge": lambda: relu(1 - x),
        "ipo": lambda: (d - 1 / (2 * b)) ** 2,
        "exo_pair": lambda: (
            s(x) * (log_sigmoid(x) - math.log(1 - e)) + s(-x) * (log_sigmoid(-x) - math.log(e))
        ),
        "nca_pair": lambda: -log_sigmoid(b * rc) - 0.5 * log_sigmoid(-b * rc) - 0.5 * log_sigmoid(-b * rr),
        "robust": lambda: (-log_sigmoid(x) * (1 - e) + log_sigmoid(-x) * e) / (1 - 2 * e),
        "bco_pair": lambda: -log_sigmoid(b * rc) - log_sigmoid(-b * rr),
        "sppo_hard": lambda: (rc - 0.5 / b) ** 2 + (rr + 0.5 / b) ** 2,
        "apo_zero": lambda: (1 - s(b * rc)) + s(b * rr),
        "apo_down": lambda: s(b * rc) + (1 - s(b * (rc - rr))),
        "discopop": lambda: -log_sigmoid(x) * (1 - m) + torch.exp(-x) * m,
        **dict.fromkeys(("sigmoid", *SORTED), lambda: -log_sigmoid(x) * (1 - e) - log_sigmoid(-x) * e),
    }
    return losses[loss_type]()


def torch_other(torch: Any, name: str, arrays: list[Any], options: Options) -> Any:
    log_sigmoid, s = torch.nn.functional.logsigmoid, torch.sigmoid
    if name == "reward_model_loss":
        c, r = arrays
        margin = options.get("margin")
        margin = torch.zeros_like(c) if margin is None else torch.as_tensor(margin, dtype=torch.float64)
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


def torch_grpo(torch: Any, arrays: list[Any], mask: Any, ref: Any, given: Options) -> Any:
    """The loss as TRL's trainer writes it; as one number, or of the tokens."""
    x, old, a = arrays
    a = a[:, None] if a.ndim == 1 else a
    loss_type, low = given.get("loss_type", "grpo"), given.get("epsilon_low", 0.2)
    high = low if given.get("epsilon_high") is None else given["epsilon_high"]
    n = mask.sum(-1, keepdim=True).clamp(min=1.0)
    log_ratio = x - old
    if given.get("importance_sampling_level") == "sequence":
        log_ratio = (log_ratio * mask).sum(-1, keepdim=True) / n
    r = torch.exp(log_ratio)
    if loss_type == "cispo":
        loss = -torch.clamp(r, max=high).detach() * a * x
    elif loss_type == "sapo":
        positive, negative = given.get("sapo_temperature_pos", 1.0), given.get("sapo_temperature_neg", 1.05)
        t = torch.where(a > 0, torch.full_like(a, positive), torch.full_like(a, negative))
        loss = -torch.sigmoid(t * (r - 1)) * 4 / t * a
    else:
        first, second = r, torch.clamp(r, 1 - low, 1 + high)
        if given.get("delta") is not None:
            first = torch.clamp(first, max=given["delta"])
        loss = -torch.min(first * a, second * a)
    loss = loss + torch.zeros_like(x)
    if ref is not None:
        loss = loss + given["beta"] * (torch.exp(ref - x) - (ref - x) - 1)
    if given["reduction"] == "none":
        return loss * mask
    if loss_type in ("grpo", "sapo"):
        return ((loss * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)).mean()
    if loss_type == "luspo":
        return (loss * mask).sum(-1).mean()
    total = (loss * mask).sum()
    if loss_type == "bnpo":
        return total / mask.sum().clamp(min=1.0)
    if loss_type == "dr_grpo":
        return total / (len(loss) * given["max_completion_length"])
    return total / (given.get("num_items") or mask.sum())


def torch_elementwise(torch: Any, name: str, arrays: list[Any], given: Options) -> Any:
    if name == "ppo_loss":
        x, old, a = arrays
        r, clip = torch.exp(x - old), given.get("clip", 0.2)
        return torch.max(-a * r, -a * torch.clamp(r, 1.0 - clip, 1.0 + clip))
    if name == "value_loss":
        v, old, returns = arrays
        clip = given.get("clip", 0.2)
        if clip is None:
            return 0.5 * (v - returns) ** 2
        near = old + torch.clamp(v - old, -clip, clip)
        return 0.5 * torch.max((v - returns) ** 2, (near - returns) ** 2)
    ratio = arrays[1] - arrays[0]  # TRL's is the other way round
    estimator = given.get("estimator", "k3")
    if estimator == "k1":
        return -ratio
    return 0.5 * ratio**2 if estimator == "k2" else torch.exp(ratio) - 1 - ratio
