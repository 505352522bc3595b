"""Gradient boosting with the losses of fastloss: models of LightGBM and XGBoost, each trained twice.

One model is trained with the library's own objective and one with that of fastloss, on data sets of
scikit-learn. Both start at the same constant score, that of least loss:

    objective = lightgbm_objective("huber_loss", delta=0.5)
    start = objective.init_score(labels)
    data = lightgbm.Dataset(features, labels, init_score=numpy.full(len(labels), start))
    model = lightgbm.train({"objective": objective}, data)
    predictions = objective.transform(start + model.predict(features))

    objective = xgboost_objective("mse_loss")
    start = objective.init_score(labels)
    params = {"objective": "reg:squarederror", "base_score": objective.transform(start)}
    model = xgboost.train(params, data, obj=objective)

For each model the example prints the loss on held-out rows, and the seconds of training. The two losses are
equal, because the models are equal. The quantile is an exception: the built-in objective renews its leaves
when a tree is complete, which a custom objective cannot do in LightGBM. Some losses are in neither library.

Run it with ``python examples/boosting.py``; ``--help`` lists the options. It needs scikit-learn, and
LightGBM or XGBoost or both.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import fastloss
from fastloss.boosting import lightgbm_objective, xgboost_objective

Floats = npt.NDArray[Any]

LIBRARIES = {"lightgbm": "LightGBM", "xgboost": "XGBoost"}
# The values of --quick.
QUICK = {"rounds": 15}


@dataclass(frozen=True)
class Task:
    """A loss on a data set, and the libraries' names of it (None: no such loss)."""

    data: str
    loss: str
    options: dict[str, Any]
    lightgbm: dict[str, Any] | None = None
    xgboost: dict[str, Any] | None = None


TASKS = (
    Task("digits", "cross_entropy", {}, {"objective": "multiclass"}, {"objective": "multi:softprob"}),
    Task("digits", "softmax_focal_loss", {"gamma": 1.0}),
    Task(
        "breast cancer",
        "binary_cross_entropy_with_logits",
        {},
        {"objective": "binary"},
        {"objective": "binary:logistic"},
    ),
    Task("breast cancer", "sigmoid_focal_loss", {"gamma": 1.0}),
    Task("diabetes", "mse_loss", {}, {"objective": "regression"}, {"objective": "reg:squarederror"}),
    Task("diabetes", "huber_loss", {"delta": 0.5}, {"objective": "huber", "alpha": 0.5}),
    Task(
        "diabetes",
        "quantile_loss",
        {"quantile": 0.8},
        {"objective": "quantile", "alpha": 0.8},
        {"objective": "reg:quantileerror", "quantile_alpha": 0.8},
    ),
    Task("diabetes", "log_cosh_loss", {}),
)


@dataclass
class Split:
    """Features (N, D) and labels (N,), some of them held out."""

    features: Floats
    labels: Floats
    held_features: Floats
    held_labels: Floats
    classes: int


def load(name: str, seed: int) -> Split:
    """Load a data set and hold out a quarter of it."""
    from sklearn import datasets

    loaders = {
        "digits": datasets.load_digits,
        "breast cancer": datasets.load_breast_cancer,
        "diabetes": datasets.load_diabetes,
    }
    features, labels = loaders[name](return_X_y=True)
    labels = labels.astype(np.float64)
    if name == "diabetes":
        # The losses bend at about 1.
        labels = (labels - labels.mean()) / labels.std()
    order = np.random.default_rng(seed).permutation(len(labels))
    held, kept = np.split(order, [len(order) // 4])
    classes = int(labels.max()) + 1 if name == "digits" else 1
    return Split(features[kept], labels[kept], features[held], labels[held], classes)


# ------------------------------------------------------------------------------------- training


def lightgbm_scores(
    task: Task, split: Split, is_ours: bool, options: argparse.Namespace
) -> tuple[Floats, float]:
    """Return raw scores of the held-out rows, and the seconds of training."""
    import lightgbm

    params: dict[str, Any] = {
        "num_leaves": options.leaves,
        "learning_rate": options.rate,
        "num_threads": options.threads,
        "verbose": -1,
    }
    if split.classes > 1:
        params["num_class"] = split.classes
    objective = lightgbm_objective(task.loss, **task.options)
    first = np.asarray(objective.init_score(split.labels))
    params |= {"objective": objective} if is_ours else task.lightgbm or {}
    data = lightgbm.Dataset(
        split.features,
        split.labels,
        init_score=np.full((len(split.labels), *first.shape), first),
        params={"verbose": -1},
    ).construct()
    start = time.perf_counter()
    model = lightgbm.train(params, data, options.rounds)
    seconds = time.perf_counter() - start
    return first + np.asarray(model.predict(split.held_features, raw_score=True)), seconds


def xgboost_scores(
    task: Task, split: Split, is_ours: bool, options: argparse.Namespace
) -> tuple[Floats, float]:
    """Return the same as `lightgbm_scores`."""
    import xgboost

    params: dict[str, Any] = {
        "grow_policy": "lossguide",
        "max_leaves": options.leaves,
        "eta": options.rate,
        "nthread": options.threads,
        # The link of the model, for built-in and custom derivatives.
        **(task.xgboost or {"objective": "multi:softprob" if split.classes > 1 else "reg:squarederror"}),
    }
    if split.classes > 1:
        params["num_class"] = split.classes
    objective = xgboost_objective(task.loss, **task.options)
    start_score = objective.init_score(split.labels)
    # A score for each class; else the prediction, from which XGBoost computes the score.
    params["base_score"] = np.asarray(
        start_score if split.classes > 1 else objective.transform(start_score)
    ).tolist()
    data = xgboost.DMatrix(split.features, split.labels)
    start = time.perf_counter()
    model = xgboost.train(params, data, options.rounds, obj=objective if is_ours else None)
    seconds = time.perf_counter() - start
    return model.predict(xgboost.DMatrix(split.held_features), output_margin=True), seconds


def held_out_loss(task: Task, split: Split, scores: Floats) -> float:
    """Return the mean loss of the held-out rows."""
    labels = split.held_labels.astype(np.int64) if split.classes > 1 else split.held_labels
    loss: float = getattr(fastloss, task.loss)(scores.astype(np.float64), labels, **task.options)
    return loss


def report(library: str, options: argparse.Namespace) -> None:
    """Train every task with one library, and print a line for each."""
    version = importlib.import_module(library).__version__
    train = lightgbm_scores if library == "lightgbm" else xgboost_scores
    print(f"\n{LIBRARIES[library]} {version}, {options.rounds} rounds")
    print(f"{'':49}  held-out loss             seconds")
    print(f"{'':49}  built in      ours  built in    ours")
    for task in TASKS:
        split = load(task.data, options.seed)
        has_own = (task.lightgbm if library == "lightgbm" else task.xgboost) is not None
        losses, times = [], []
        for is_ours in (False, True):
            if not is_ours and not has_own:
                losses.append(f"{'-':>8}")
                times.append(f"{'-':>6}")
                continue
            scores, seconds = train(task, split, is_ours, options)
            losses.append(f"{held_out_loss(task, split, scores):8.5f}")
            times.append(f"{seconds:6.2f}")
        print(f"{task.data:13}  {task.loss:32}    {'  '.join(losses)}    {'  '.join(times)}", flush=True)


# ---------------------------------------------------------------------------- the command line


def positive(text: str) -> int:
    """Parse a whole number of at least one."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Train LightGBM and XGBoost with their own objectives and with those of fastloss.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a few seconds: few rounds")
    add("--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES), help="what to train with")
    add("--rounds", type=positive, default=100, help="trees of a model (for each class)")
    add("--leaves", type=positive, default=15, help="leaves of a tree")
    add("--rate", type=float, default=0.1, help="learning rate")
    add("--threads", type=positive, default=fastloss.get_num_threads(), help="threads of the libraries")
    add("--seed", type=int, default=0, help="seed of what is held out")
    return parser


def is_installed(library: str) -> bool:
    """Return whether a library can be imported, and say so if not."""
    try:
        importlib.import_module(library)
    except ImportError as error:
        print(f"{LIBRARIES[library]} is left out: {error}")
        return False
    return True


def main(argv: list[str] | None = None) -> int:
    """Run the example."""
    parser = make_parser()
    options = parser.parse_args(argv)
    if options.quick:
        parser.set_defaults(**QUICK)
        options = parser.parse_args(argv)
    try:
        importlib.import_module("sklearn")
    except ImportError:
        parser.error("this example needs scikit-learn, for its data")
    found = [library for library in options.libraries if is_installed(library)]
    if not found:
        parser.error("this example needs LightGBM or XGBoost")
    for library in found:
        report(library, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
