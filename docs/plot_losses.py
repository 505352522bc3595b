"""Draw the pictures of which-loss.md: each loss and its gradient, computed by the library itself.

    python docs/plot_losses.py [--out FOLDER]

Every picture shows the loss on the left and its gradient on the right, with a line for each choice of
arguments. It is a row of _PICTURES or, for an elementwise loss without a row, the default picture. Where a
gradient jumps, a dot shows the value returned at the jump. Drawing a picture again gives the same bytes. It
needs matplotlib.
"""

from __future__ import annotations

import argparse
import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

import fastloss
from fastloss._engine.documentation import DECLARED
from fastloss._engine.fragments import BINARY, ELEMENTWISE

Floats = npt.NDArray[np.float64]
Arguments = dict[str, Any]

STEP = 0.01  # between the points of a line; a jump must be at a point to be visible
# Colours that the colour-blind can distinguish (Okabe and Ito), and dashes.
STYLES = (("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", ":"))
SETTINGS: Arguments = {
    "svg.hashsalt": "fastloss",  # fixed names in the file
    "svg.fonttype": "none",  # text as text: half the bytes of outlines
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.grid": True,
    "grid.color": "#E0E0E0",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def of_elements(loss: str, x: Floats, arguments: Arguments, *, name: str = "input") -> tuple[Floats, Floats]:
    """Return value and gradient of a loss that takes x element by element."""
    value, grad = getattr(fastloss, loss)(x, **arguments, reduction="none", return_grad=True)
    return value, getattr(grad, name, grad)


def of_variances(loss: str, x: Floats, arguments: Arguments) -> tuple[Floats, Floats]:
    """Return value and gradient of a loss that takes x as the variance of a prediction of 0."""
    options = {"input": np.zeros_like(x), "var": x, **arguments}
    value, grads = getattr(fastloss, loss)(**options, reduction="none", return_grad=True)
    return value, grads.var


def of_rows(loss: str, x: Floats, arguments: Arguments) -> tuple[Floats, Floats]:
    """Return value and gradient of a loss of rows of three classes: x for the first, 0 for the others."""
    rows = np.zeros((x.size, 3))
    rows[:, 0] = x
    target = np.asarray(arguments["target"])
    options = {**arguments, "target": np.broadcast_to(target, x.shape + target.shape)}
    value, grad = getattr(fastloss, loss)(rows, **options, reduction="none", return_grad=True)
    return value, grad[:, 0]


def of_clusters(loss: str, x: Floats, arguments: Arguments) -> tuple[Floats, Floats]:
    """Return value and gradient of a head of two classes and a cluster of equal ones, whose entry is x."""
    head = np.array([[0.0], [0.0], [1.0]])
    tails = [(np.zeros((1, 1)), np.zeros((arguments["classes in the cluster"], 1)))]
    target = np.full(x.size, {"head": 0, "cluster": 2}[arguments["target"]])
    value, grads = getattr(fastloss, loss)(
        x[:, np.newaxis], target, head, tails, reduction="none", return_grad=True
    )
    return value, grads.input[:, 0]


def of_labels(loss: str, x: Floats, arguments: Arguments) -> tuple[Floats, Floats]:
    """Return value and gradient of samples of equal steps, x being the label's value at the first of them."""
    inputs = np.full((arguments["steps"], x.size, 2), np.log(0.5))
    inputs[0, :, 1] = x
    lengths = np.full((2, x.size), [[arguments["steps"]], [1]])
    value, grad = getattr(fastloss, loss)(
        inputs, np.ones((x.size, 1), np.int64), *lengths, reduction="none", return_grad=True
    )
    return value, grad[0, :, 1]


def of_answers(loss: str, x: Floats, arguments: Arguments) -> tuple[Floats, Floats]:
    """Return value and gradient of a loss of log-probabilities, rewards or values: x is its first argument.

    The other arrays are constant, by default 0.
    """
    parameters = list(inspect.signature(getattr(fastloss, loss)).parameters.values())[1:]
    names = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    arrays = [np.full_like(x, arguments.get(name, 0.0)) for name in names]
    options = {name: value for name, value in arguments.items() if name not in names}
    if loss == "grpo_loss":  # sequences of one token
        x, arrays[0] = x[:, np.newaxis], arrays[0][:, np.newaxis]
    value, grad = getattr(fastloss, loss)(x, *arrays, **options, reduction="none", return_grad=True)
    return value.reshape(-1), (grad[0] if isinstance(grad, tuple) else grad).reshape(-1)


def of_ratios(loss: str, x: Floats, arguments: Arguments) -> tuple[Floats, Floats]:
    """Return value and gradient of a loss of log-probabilities, as functions of the probability ratio x."""
    value, grad = of_answers(loss, np.log(x), arguments)
    return value, grad / x


def of_students(loss: str, x: Floats, arguments: Arguments) -> tuple[Floats, Floats]:
    """Return value and gradient of a divergence, or of the named one, for three classes.

    The student has x for the first and 0 for the others; the teacher has the same logits in each row.
    """
    rows = np.zeros((x.size, 3))
    rows[:, 0] = x
    options = {name: value for name, value in arguments.items() if name not in ("loss", "teacher")}
    teacher = np.broadcast_to(np.asarray(arguments["teacher"], dtype=np.float64), rows.shape)
    divergence = getattr(fastloss, arguments.get("loss", loss))
    value, grad = divergence(rows, teacher, **options, reduction="none", return_grad=True)
    return value, grad[:, 0]


def of_forecasts(loss: str, x: Floats, arguments: Arguments) -> tuple[Floats, Floats]:
    """Return value and gradient of a score of quantiles around x, with the target 0."""
    levels = np.arange(1, 100) / 100
    around = arguments["spread"] * np.array([NormalDist().inv_cdf(level) for level in levels])
    value, grad = getattr(fastloss, loss)(
        x[:, np.newaxis] + around, 0.0, quantile=levels, reduction="none", return_grad=True
    )
    return value, grad.sum(axis=1)


def of_queries(loss: str, x: Floats, arguments: Arguments) -> tuple[Floats, Floats]:
    """Return value and gradient of a contrastive loss of the number x as the query, and numbers as keys."""
    options = {name: value for name, value in arguments.items() if name != "keys"}
    keys = np.asarray(arguments["keys"], dtype=np.float64)[:, np.newaxis]
    found = [getattr(fastloss, loss)([[one]], keys, **options, return_grad=True) for one in x]
    return np.array([value for value, _ in found]), np.array([grads.query[0, 0] for _, grads in found])


def of_documents(loss: str, x: Floats, arguments: Arguments) -> tuple[Floats, Floats]:
    """Return value and gradient of a loss of a list with scores x, 1 and 0."""
    scores = np.stack([x, np.ones_like(x), np.zeros_like(x)], axis=1).reshape(-1)
    relevance = np.tile(arguments["relevance"], x.size)
    value, grad = getattr(fastloss, loss)(
        scores, relevance, np.full(x.size, 3), reduction="none", return_grad=True
    )
    return value, grad[::3]


def of_first_hazards(loss: str, x: Floats, arguments: Arguments) -> tuple[Floats, Floats]:
    """Return value and gradient of Cox's loss of five log hazards, four of them 0: x is that of the third."""
    rows, event = np.zeros(5), np.ones(5, bool)
    event[2] = arguments["event"]
    values, slopes = np.empty_like(x), np.empty_like(x)
    for i, rows[2] in enumerate(x):
        values[i], grad = getattr(fastloss, loss)(
            rows, np.arange(5), event, reduction="sum", return_grad=True
        )
        slopes[i] = grad[2]
    return values, slopes


def of_vectors(
    loss: str, x: Floats, arguments: Arguments, *, moved: str, **vectors: tuple[float, ...]
) -> tuple[Floats, Floats]:
    """Return value and gradient of a loss of pairs or triples, as functions of a vector's first number."""
    rows = {name: np.tile(np.asarray(vector, np.float64), (x.size, 1)) for name, vector in vectors.items()}
    rows[moved][:, 0] = x
    value, grads = getattr(fastloss, loss)(**rows, **arguments, reduction="none", return_grad=True)
    return value, getattr(grads, moved)[:, 0]


@dataclass(frozen=True)
class Picture:
    """A loss over a range of one of its arguments."""

    loss: str
    over: str
    limits: tuple[float, float]
    fixed: Arguments = field(default_factory=dict)  # the arguments of all lines
    lines: tuple[Arguments, ...] = ({},)  # those of each
    of: Callable[[str, Floats, Arguments], tuple[Floats, Floats]] = of_elements
    suffix: str = ""
    room: float = 0.05  # above the lines of the loss, as a part of their height: for a legend

    @property
    def file(self) -> str:
        """The name of the file."""
        return f"{self.loss}{self.suffix}.svg"


def each(name: str, *values: Any, **others: Any) -> tuple[Arguments, ...]:
    """Return the arguments of a line for each value of one of them."""
    return tuple({name: value, **others} for value in values)


ERROR = ("input \N{MINUS SIGN} target", (-4, 4), {"target": 0})
SCORE = ("score", (-3, 3))
LOGIT = ("logit", (-6, 6))
PAIR_OR_NOT = each("keys", (1, 0), (0, 1))
PARAMETER = ("parameter", (-2, 2))
COUNTS = each("target", 0, 1, 5)
POS_WEIGHT = (*each("target", 0, 1), {"target": 1, "pos_weight": 3})
GAMMA = (*each("gamma", 0, 2, 5, target=1), {"gamma": 2, "target": 0})
L1_L2 = ({"l1": 1, "l2": 0}, {"l1": 0.5, "l2": 0.5}, {"l1": 0, "l2": 1})
OTHERS = "{} of the target, the others at 0"
DOCUMENT = "score, two others at 1 and 0"
RELEVANCE = ([2, 1, 0], [0, 1, 2])
PRESENT = ([1, 0, 0], [0, 0, 0])
MARGIN = ("chosen less rejected", (-6, 6))
NEAR = ("chosen less rejected", (-2, 3))
RATIO = ("ratio", (0.3, 2))
DPO_TYPES = ("sigmoid", "hinge", "ipo", "apo_zero")
RIVALS = each("policy_rejected_logps", -0.5, -2)
REWARDS = (*each("margin", 0, 1), {"center_coefficient": 0.1})
BOUNDS = (*each("delta", None, 1.5), {"loss_type": "sapo"})
DIVERGENCES = (
    {"loss": "kl_div_with_logits"},
    {"loss": "js_div_with_logits", "beta": 1},
    {"loss": "js_div_with_logits", "beta": 0.5},
    {"loss": "tv_distance_with_logits"},
)
_PICTURES = (
    Picture("huber_loss", *ERROR, each("delta", 0.5, 1, 2)),
    Picture("smooth_l1_loss", *ERROR, each("beta", 0, 1, 2)),
    Picture("quantile_loss", *ERROR, each("quantile", 0.1, 0.5, 0.9)),
    Picture("crps_loss", "centre of a normal forecast", (-4, 4), {}, each("spread", 0, 1, 3), of_forecasts),
    Picture("epsilon_insensitive_loss", *ERROR, each("epsilon", 0.1, 1)),
    Picture("mean_squared_log_loss", "input", (0, 10), {}, each("target", 0, 2, 8)),
    Picture("poisson_nll_loss", "input, log of the rate", (-3, 2.5), {}, COUNTS),
    Picture("poisson_nll_loss", "input, the rate", (0.5, 8), {"log_input": False}, COUNTS, suffix="_rate"),
    Picture("gamma_nll_loss", "input, log of the mean", (-1, 4), {}, each("target", 0.5, 1, 4)),
    Picture(
        "tweedie_nll_loss", "input, log of the mean", (-2, 3), {"target": 2}, each("power", 1.3, 1.5, 1.7)
    ),
    Picture("gaussian_nll_loss", *ERROR, each("var", 0.5, 1, 4)),
    Picture(
        "gaussian_nll_loss", "var, at input 0", (0.5, 4), {}, each("target", 0, 1, 2), of_variances, "_var"
    ),
    Picture(
        "negative_binomial_nll_loss",
        "input, log of the mean",
        (-1, 3),
        {"target": 4},
        each("dispersion", 0.01, 0.3, 2),
    ),
    Picture("student_t_nll_loss", *ERROR, each("df", 1, 4, 100, scale=1)),
    Picture("binary_cross_entropy", "probability", (0.05, 0.95), {}, each("target", 0, 0.5, 1)),
    Picture("binary_cross_entropy_with_logits", *LOGIT, {}, POS_WEIGHT),
    Picture("sigmoid_focal_loss", *LOGIT, {"alpha": None}, GAMMA),
    Picture("hinge_loss", *SCORE, {"target": 1}, each("margin", 0, 1)),
    Picture("squared_hinge_loss", *SCORE, {"target": 1}, each("margin", 0, 1)),
    Picture("soft_margin_loss", *SCORE, {}, each("target", 1, -1)),
    Picture(
        "sparsemax_loss", "logit of class 0, the others at 0", (-2, 2), {}, each("target", 0, 1), of_rows
    ),
    Picture("multi_margin_loss", OTHERS.format("score"), (-2, 3), {"target": 0}, each("p", 1, 2), of_rows),
    Picture(
        "multilabel_margin_loss",
        "score of class 0, the others at 0",
        (-2, 3),
        {},
        each("target", [0, -1, -1], [1, -1, -1], [0, 1, -1]),
        of_rows,
    ),
    Picture(
        "multilabel_soft_margin_loss",
        "logit of class 0, the others at 0",
        (-6, 6),
        {},
        each("target", *PRESENT),
        of_rows,
    ),
    Picture(
        "cross_entropy",
        OTHERS.format("logit"),
        (-4, 8),
        {"target": 0},
        each("label_smoothing", 0, 0.1, 0.3),
        of_rows,
    ),
    Picture(
        "softmax_focal_loss", OTHERS.format("logit"), (-4, 8), {"target": 0}, each("gamma", 0, 2, 5), of_rows
    ),
    Picture("poly_loss", OTHERS.format("logit"), (-4, 8), {"target": 0}, each("epsilon", -1, 0, 2), of_rows),
    Picture(
        "generalized_cross_entropy",
        OTHERS.format("logit"),
        (-4, 8),
        {"target": 0},
        each("q", 0, 0.3, 0.7),
        of_rows,
    ),
    Picture(
        "adaptive_log_softmax_with_loss",
        "logit of the cluster, two classes of the head at 0",
        (-4, 4),
        {"classes in the cluster": 10},
        each("target", "head", "cluster"),
        of_clusters,
    ),
    Picture("nll_loss", "log-probability of the target", (-5, 0), {"target": 0}, of=of_rows),
    Picture(
        "kl_div_with_logits",
        "student's logits: this, 0, 0",
        (-2, 11),
        {"teacher": [1, 0, 0]},
        DIVERGENCES,
        of_students,
    ),
    Picture(
        "ctc_loss",
        "log p of the label at step 1, all others at log 0.5",
        (-5, -0.7),  # from log 0.5 on, the probabilities of a step would exceed 1
        {},
        each("steps", 1, 2, 3),
        of_labels,
    ),
    Picture(
        "info_nce_loss",
        "similarity of the right key, those of two others 0",
        (-1, 1),
        {"keys": (1, 0, 0), "normalize": False},
        each("temperature", 0.1, 0.3, 1),
        of_queries,
    ),
    Picture("siglip_loss", "similarity", (-1, 2), {"scale": 5, "bias": -2.5}, PAIR_OR_NOT, of_queries),
    Picture("list_net_loss", DOCUMENT, (-4, 6), {}, each("relevance", *RELEVANCE), of_documents),
    Picture("lambda_rank_loss", DOCUMENT, (-2, 3), {}, each("relevance", *RELEVANCE), of_documents, room=0.5),
    Picture(
        "aft_loss",
        "log time",
        (-3, 5),
        {},
        tuple({"lower": a, "upper": b} for a, b in ((2, 2), (2, math.inf), (0, 2), (1, 4))),
    ),
    Picture(
        "cox_ph_loss",
        "log hazard of the third of five rows",
        (-5, 5),
        {},
        each("event", True, False),
        of_first_hazards,
    ),
    Picture(
        "margin_ranking_loss",
        "first score, the second at 0",
        (-3, 3),
        {"input2": 0},
        ({"target": 1}, {"target": 1, "margin": 1}, {"target": -1, "margin": 1}),
        partial(of_elements, name="input1"),
    ),
    Picture(
        "cosine_embedding_loss",
        "first number of a vector (x, 1), the other is (1, 0)",
        (-4, 4),
        {},
        ({"target": 1}, *each("margin", 0, 0.6, target=-1)),
        partial(of_vectors, moved="input1", input1=(0, 1), input2=(1, 0)),
        room=0.45,
    ),
    Picture(
        "triplet_margin_loss",
        "positive, with the anchor at 0, the negative at 1.5",
        (-3, 2.75),
        {"eps": 0},
        ({"margin": 0.5}, {"margin": 1}, {"margin": 1, "swap": True}),
        partial(of_vectors, moved="positive", anchor=(0,), positive=(0,), negative=(1.5,)),
        room=0.6,
    ),
    Picture("dpo_loss", *NEAR, {"beta": 1}, each("loss_type", *DPO_TYPES), of_answers),
    Picture("cpo_loss", *NEAR, {"beta": 1}, each("loss_type", "sigmoid", "hinge", "ipo"), of_answers),
    Picture("simpo_loss", *MARGIN, {"beta": 1}, each("gamma", 0, 1, 2), of_answers),
    Picture("orpo_loss", "log-probability of the chosen", (-4, -0.05), {"beta": 1}, RIVALS, of_answers),
    Picture("kto_loss", "log-ratio", (-6, 6), {"beta": 1}, each("labels", 1, 0), of_answers),
    Picture("reward_model_loss", "chosen reward, the other at 0", (-4, 4), {}, REWARDS, of_answers),
    Picture("ppo_loss", *RATIO, {}, each("advantages", 1, -1), of_ratios),
    Picture("grpo_loss", *RATIO, {"advantages": -1}, BOUNDS, of_ratios),
    Picture(
        "value_loss",
        "value, the old one at 0",
        (-1.5, 2.5),
        {"returns": 1},
        each("clip", 0.5, None),
        of_answers,
    ),
    Picture("kl_penalty", "log-ratio", (-2, 3), {}, each("estimator", "k1", "k2", "k3"), of_answers),
    Picture("l1_penalty", *PARAMETER, {}, each("strength", 0.5, 1)),
    Picture("l2_penalty", *PARAMETER, {}, each("strength", 0.5, 1)),
    Picture("elastic_net_penalty", *PARAMETER, {}, L1_L2),
)


def losses() -> list[str]:
    """Return the names of the losses that must have a picture."""
    return [
        n for n in fastloss.__all__ if re.search("_loss$|_penalty$|^(binary_|generalized_)?cross_entropy", n)
    ]


def _default(loss: str) -> Picture | None:
    """Return the picture of an elementwise loss that has no row of its own."""
    family = DECLARED[getattr(fastloss, loss)].family if hasattr(fastloss, loss) else None
    if family is ELEMENTWISE:
        return Picture(loss, *ERROR)
    if family is BINARY:
        return Picture(loss, "input", (-3, 3), {}, each("target", 1, -1))
    return None


_ROWLESS = sorted(set(losses()) - {picture.loss for picture in _PICTURES})
PICTURES = (*_PICTURES, *filter(None, map(_default, _ROWLESS)))


def undrawn() -> list[str]:
    """Return the losses that have no row in PICTURES."""
    return sorted(set(losses()) - {picture.loss for picture in PICTURES})


def _text(arguments: Arguments) -> str:
    return ", ".join(f"{name}={value}" for name, value in arguments.items())


def draw(picture: Picture, folder: Path) -> Path:
    """Draw a picture into a folder and return its path."""
    from matplotlib import style
    from matplotlib.figure import Figure

    low, high = picture.limits
    x = np.round(np.linspace(low, high, round((high - low) / STEP) + 1), 6)
    path = folder / picture.file
    with style.context(["default", SETTINGS]):  # independent of the user's settings
        figure = Figure(figsize=(7.2, 2.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        for arguments, (colour, dashes) in zip(picture.lines, STYLES[: len(picture.lines)], strict=True):
            given = {**picture.fixed, **arguments}
            value, grad = picture.of(picture.loss, x, given)
            before, after = (picture.of(picture.loss, x + side, given)[1] for side in (-1e-9, 1e-9))
            jump = np.abs(after - before) > 1e-3
            left.plot(x, value, color=colour, linestyle=dashes, label=_text(arguments))
            right.plot(x, np.where(jump, np.nan, grad), color=colour, linestyle=dashes)
            right.plot(x[jump], grad[jump], "o", color=colour, markersize=4, zorder=3)
        bottom, top = left.dataLim.intervaly
        left.set_ylim(top=top + picture.room * (top - bottom))
        right.axhline(0, color="black", linewidth=0.6, zorder=1)
        for axes, title in ((left, "loss"), (right, "gradient")):
            axes.set_title(title, fontsize=9)
            axes.set_xlabel(picture.over)
            axes.margins(x=0.0)
            axes.locator_params(nbins=6, steps=[1, 2, 5, 10])
        if picture.lines != ({},):
            left.legend()
        figure.suptitle(", ".join(filter(None, (picture.loss, _text(picture.fixed)))))
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    return path


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = Path(__file__).parent / "images"
    parser.add_argument("--out", type=Path, default=default, metavar="FOLDER", help="default: docs/images")
    out: Path = parser.parse_args().out
    if missing := undrawn():
        raise SystemExit(f"{', '.join(missing)}: no row in PICTURES of {__file__}")
    out.mkdir(parents=True, exist_ok=True)
    for picture in PICTURES:
        path = draw(picture, out)
        print(f"{path.stat().st_size:6d}  {path}")


if __name__ == "__main__":
    main()
